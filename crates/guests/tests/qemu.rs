//! The bare-metal kernels on a machine that is not ours: what they expect of a processor is what QEMU's does too.

use std::io::ErrorKind;
use std::process::Command;

#[test]
fn every_bare_kernel_prints_what_is_expected_under_qemu() {
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    for kernel in guests.bare_kernels().expect("gcc builds the kernels") {
        let ran = Command::new("qemu-system-x86_64")
            .args([
                "-display",
                "none",
                "-monitor",
                "none",
                "-serial",
                "stdio",
                "-no-reboot",
            ])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"])
            .arg(&kernel.path)
            .output();
        let output = match ran {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("qemu-system-x86_64 is not installed: nothing to compare with");
                return;
            }
            other => other.expect("QEMU starts"),
        };
        let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        assert_eq!(console, kernel.expected, "{}", kernel.path.display());
        let success = i32::from(guests::BARE_SUCCESS) << 1 | 1;
        assert_eq!(
            output.status.code(),
            Some(success),
            "{}",
            kernel.path.display()
        );
    }
}
