//! The bare-metal kernels print here what they print under QEMU, and so does a replay of each.

use std::ffi::{OsStr, OsString};

use crate::revirt::{guests, replay, revirt, scratch, with};

#[test]
fn every_bare_kernel_prints_what_is_expected_and_replays() {
    for kernel in guests().bare_kernels().expect("gcc builds the kernels") {
        let (_folder, dir) = scratch();
        let verb = [
            OsStr::new("record"),
            OsStr::new("--json"),
            OsStr::new("-o"),
            dir.as_os_str(),
        ];
        let mut options: Vec<OsString> = ["--memory", "64M", "--debug-exit", "--kernel"]
            .map(OsString::from)
            .into();
        options.push(kernel.path.clone().into());
        let recorded = revirt(&with(&verb, options));
        assert_eq!(
            recorded.text(),
            kernel.expected,
            "{}",
            kernel.path.display()
        );
        let recorded = recorded.expect(0);
        assert_eq!(recorded.json()["debug_exit"], guests::BARE_SUCCESS);
        assert_eq!(replay(&dir, &[]).expect(0).text(), kernel.expected);
    }
}
