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

#[test]
fn the_program_for_x86_64_v3_prints_what_is_expected_on_this_processor() {
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    let programs = guests.programs().expect("gcc builds the programs");
    let output = Command::new(programs)
        .arg(guests::WIDE)
        .output()
        .expect("the program runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let is_v3 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if is_v3 {
        assert_eq!(printed, guests::WIDE_EXPECTED);
    } else {
        assert_eq!(printed, "this is no x86-64-v3 processor\n");
    }
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
