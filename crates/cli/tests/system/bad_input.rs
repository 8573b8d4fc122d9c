//! Whatever the user gives, the command says what is wrong and what to do.

use std::fs;
use std::path::Path;

use crate::revirt::{bare_kernel, record_console, revirt, scratch};

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
