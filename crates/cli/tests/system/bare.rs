//! The bare-metal kernels print here what they print under QEMU, and so does a replay of each, on
//! either engine, whichever recorded it.

use std::ffi::{OsStr, OsString};

use crate::revirt::{guests, replay, revirt, scratch, with};

#[test]
fn every_bare_kernel_prints_what_is_expected_and_replays() {
    let kernels = guests().bare_kernels().expect("gcc builds the kernels");
    for (kernel, engine) in kernels.iter().flat_map(|k| [(k, "jit"), (k, "interp")]) {
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
        options.extend(["--engine", engine].map(OsString::from));
        let recorded = revirt(&with(&verb, options));
        assert_eq!(
            recorded.text(),
            kernel.expected,
            "{}",
            kernel.path.display()
        );
        let recorded = recorded.expect(0);
        assert_eq!(recorded.json()["debug_exit"], guests::BARE_SUCCESS);
        for engine in ["jit", "interp"] {
            let replayed = replay(&dir, &["--engine", engine]).expect(0);
            assert_eq!(replayed.text(), kernel.expected, "{engine}");
        }
    }
}
