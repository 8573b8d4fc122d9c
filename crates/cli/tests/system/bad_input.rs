//! Whatever the user gives, the command says what is wrong and what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::revirt::{bare_kernel, guests, record_console, revirt, scratch};

/// Fails unless the command ends with code 2 and says all of `words`.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let ran = revirt(arguments).expect(2);
    for word in words {
        assert!(ran.stderr.contains(word), "no `{word}` in: {}", ran.stderr);
    }
    assert!(ran.stdout.is_empty(), "{}", ran.text());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn a_kernel_that_is_none() {
    let (folder, dir) = scratch();
    let file = folder.path().join("kernel");
    for content in [
        &b""[..],
        b"#!/bin/sh\n",
        &[0; 100_000],
        &[0xff; 4096],
        b"\x7fELF",
        &[0x7f; 511],
    ] {
        fs::write(&file, content).expect("there is room");
        refused(
            &["record", "--kernel", text(&file), "-o", text(&dir)],
            &["kernel"],
        );
        assert!(!dir.exists(), "nothing is left behind");
    }
    refused(
        &["run", "--kernel", "/nonexistent"],
        &["/nonexistent", "--kernel", "No such file"],
    );
    refused(&["run", "--kernel", text(folder.path())], &["directory"]);
}

#[test]
fn a_kernel_that_is_cut_off() {
    let (folder, _) = scratch();
    let file = folder.path().join("kernel");
    let whole = fs::read(bare_kernel("console")).expect("it was built");
    for eighths in 1..8 {
        fs::write(&file, &whole[..whole.len() * eighths / 8]).expect("there is room");
        // The last part of the file is only a table of symbols.
        let ran = revirt(&[
            "run",
            "--debug-exit",
            "--memory",
            "16M",
            "--kernel",
            text(&file),
        ]);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        assert!(ran.code.is_some_and(|code| code <= 2), "{}", ran.stderr);
    }
}

#[test]
fn an_initrd_that_is_missing_or_cut_off() {
    let (folder, _) = scratch();
    let kernel = bare_kernel("console");
    refused(
        &["run", "--kernel", text(&kernel), "--initrd", "/nonexistent"],
        &["/nonexistent", "--initrd"],
    );
    let file = folder.path().join("initrd.gz");
    fs::write(&file, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1]).expect("there is room");
    refused(
        &["run", "--kernel", text(&kernel), "--initrd", text(&file)],
        &["is cut off"],
    );
    refused(&["run", "--initrd", text(&file)], &["--kernel"]);
}

/// Packed by `xz`, `zstd` and `lz4 -l`.
#[test]
fn an_initrd_of_any_compression_that_is_cut_off() {
    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hello.");
    let (folder, _) = scratch();
    let kernel = bare_kernel("console");
    let file = folder.path().join("initrd");
    let archive = [
        "0707010000000", // A cpio archive in its first header.
        &"0".repeat(80),
    ]
    .concat();
    let mut cut = vec![archive.into_bytes()];
    for format in ["xz", "zst", "lz4"] {
        let mut whole = fs::read(format!("{DATA}{format}")).expect("it lies in the tree");
        whole.truncate(whole.len() - 5);
        // The usual place of the main archive: behind another.
        let behind = [
            &fs::read(guests().initrd().expect("gcc builds it")).expect("it is there")[..],
            &whole,
        ]
        .concat();
        cut.extend([whole, behind]);
    }
    for bytes in cut {
        fs::write(&file, bytes).expect("there is room");
        refused(
            &["run", "--kernel", text(&kernel), "--initrd", text(&file)],
            &["is cut off", "build the initial RAM disk again"],
        );
    }
}

#[test]
fn memory_that_is_too_small_for_what_is_loaded() {
    let (folder, dir) = scratch();
    let kernel = guests()
        .kernel(guests::Kernel::Cloud)
        .expect("apt fetches it");
    let arguments = [
        "record",
        "--kernel",
        text(&kernel),
        "-o",
        text(&dir),
        "--memory",
    ];
    refused(
        &[&arguments[..], &["16M"]].concat(),
        &["give the machine more memory"],
    );
    let initrd = folder.path().join("initrd");
    fs::write(&initrd, vec![b'z'; 100 << 20]).expect("there is room");
    let with_initrd = [&arguments[..], &["128M", "--initrd", text(&initrd)]].concat();
    refused(&with_initrd, &["initrd", "give the machine more memory"]);
    assert!(!dir.exists(), "nothing is left behind");
}

#[test]
fn memory_that_is_absurd() {
    let kernel = bare_kernel("console");
    for size in [
        "0",
        "1K",
        "1000001",
        "2000T",
        "99999999999999999999",
        "lots",
        "-5M",
        "",
    ] {
        let option = format!("--memory={size}");
        refused(&["run", "--kernel", text(&kernel), &option], &[]);
    }
}

#[test]
fn files_that_must_be_short() {
    let kernel = bare_kernel("hello");
    let limited = |engine: &str| {
        let revirt = env!("CARGO_BIN_EXE_revirt");
        let command = r#"ulimit -f 1000; exec "$0" run --kernel "$1" --engine "$2""#;
        Command::new("sh")
            .args(["-c", command, revirt, text(&kernel), engine])
            .stdin(Stdio::null())
            .output()
            .expect("there is a shell")
    };
    // It would need a file for translated code.
    let ran = limited("jit");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(
        told.contains("ulimit -f") && told.contains("--engine interp"),
        "{told}"
    );
    assert!(limited("interp").stdout.ends_with(b"passed\n"));
}

#[test]
fn an_output_that_exists() {
    let (folder, dir) = scratch();
    let kernel = bare_kernel("console");
    fs::create_dir(&dir).expect("there is room");
    refused(
        &["record", "--kernel", text(&kernel), "-o", text(&dir)],
        &["exists already", "name a new directory"],
    );
    let below = folder.path().join("no/such");
    refused(
        &["record", "--kernel", text(&kernel), "-o", text(&below)],
        &["can't be written"],
    );
}

#[test]
fn a_recording_that_is_none() {
    let (folder, _) = scratch();
    for verb in ["replay", "verify", "info", "log"] {
        refused(&[verb, "/nonexistent"], &["/nonexistent", "can't be read"]);
        refused(&[verb, text(folder.path())], &["holds no recording"]);
    }
}

#[test]
fn usage_that_makes_no_sense() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"q").expect(0);
    refused(&[], &["Usage"]);
    refused(&["fly"], &["fly"]);
    refused(&["record"], &["--output"]);
    refused(
        &["replay", text(&dir), "--until", "soon"],
        &["soon", "12.5s"],
    );
    refused(
        &["replay", text(&dir), "--inject-flip", "everything"],
        &["ADDRESS:BIT@BRANCHES"],
    );
    refused(
        &[
            "replay",
            text(&dir),
            "--inject-flip",
            "0xfffffffffffff000:0@1",
        ],
        &["no byte of guest memory"],
    );
    refused(&["replay", text(&dir), "--engine", "kvm"], &["interp"]);
    refused(&["log", text(&dir), "--kind", "party"], &["clock, input"]);
}
