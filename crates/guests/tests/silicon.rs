//! The checks on the host's own processor: what is expected of a guest is what silicon does.

use std::process::Command;

#[test]
fn the_checks_print_what_is_expected_on_this_processor() {
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    let programs = guests.programs().expect("gcc builds the programs");
    let folder = programs.parent().expect("it lies in a folder");
    // The script finds its programs by name, as in the guest.
    let bin = tempfile::tempdir().expect("a scratch directory");
    for name in ["code", "floats", "vectors", "faults"]
        .into_iter()
        .chain(WORKLOADS)
    {
        std::os::unix::fs::symlink(&programs, bin.path().join(name)).expect("a link");
    }
    std::os::unix::fs::symlink(folder.join("ia32"), bin.path().join("ia32")).expect("a link");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../guests/initramfs/bin/checks"
    );
    let output = Command::new("/bin/sh")
        .arg(script)
        .env("PATH", bin.path())
        .output()
        .expect("the script runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        guests::CHECKS_EXPECTED
    );
}

/// The names that `checks` runs, which the shell would else look for on the host.
const WORKLOADS: [&str; 19] = [
    "sorting",
    "hashing",
    "list",
    "crc",
    "matrix",
    "libm",
    "x87",
    "indirect",
    "recursion",
    "copy",
    "string",
    "branches",
    "busy",
    "syscalls",
    "pipes",
    "forks",
    "execs",
    "touches",
    "signals",
];
