//! What every file keeps: it says what it is, it is finished, it has a name that means something, and what it silences it
//! gives a reason for.

use super::Finding;
use super::source;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "base", "helper", "helpers", "manager", "misc", "stuff",
];

/// Marks of unfinished work, spelled so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// Finds what is wrong with the file `text` at `path`, whatever its kind.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, message: String| {
        findings.push(Finding {
            path: path.to_owned(),
            line,
            message,
        })
    };
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or(part);
        if EMPTY_NAMES.contains(&stem) {
            find(
                0,
                format!("`{stem}` says nothing about what is inside: find the noun"),
            );
        }
    }
    if is_source(path) {
        for (index, line) in text.lines().enumerate() {
            if let Some(mark) = UNFINISHED
                .iter()
                .find(|mark| source::words(line).any(|word| word == **mark))
            {
                find(
                    index + 1,
                    format!("`{mark}` is not landed: finish it, or file an issue"),
                );
            }
        }
    }
    if path.ends_with(".rs") {
        if !text.starts_with("//!") {
            find(
                1,
                "a file opens with `//!`: what it is, and the law it keeps".to_owned(),
            );
        }
        for line in silenced_without_reason(text) {
            find(line, "say why: `reason = \"...\"`".to_owned());
        }
    }
    if path.starts_with("crates/")
        && path.ends_with("/Cargo.toml")
        && !text.contains("[lints]\nworkspace = true")
        && !text.contains("[lints.rust]")
    {
        find(
            0,
            "a crate takes the workspace's lints: `[lints] workspace = true`".to_owned(),
        );
    }
    findings
}

fn is_source(path: &str) -> bool {
    const KINDS: [&str; 8] = [".rs", ".c", ".h", ".S", ".ld", ".sh", ".toml", ".ins"];
    KINDS.iter().any(|kind| path.ends_with(kind))
}

/// The lines of `#[allow(...)]` and `#[expect(...)]` without a reason; the attribute may span lines.
fn silenced_without_reason(text: &str) -> Vec<usize> {
    let lines = source::lines(text);
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.code.trim_start();
        let is_silencer = ["#[allow(", "#[expect(", "#![allow(", "#![expect("]
            .iter()
            .any(|start| code.starts_with(start));
        if !is_silencer {
            continue;
        }
        let length = lines[index..]
            .iter()
            .position(|line| line.code.contains(")]"))
            .unwrap_or(0);
        let has_reason = lines[index..=index + length]
            .iter()
            .any(|line| line.code.contains("reason ="));
        if !has_reason {
            found.push(line.number);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_is() {
        assert_eq!(check("crates/cpu/src/a.rs", "//! What it is.\n"), []);
        assert_eq!(check("crates/cpu/src/a.rs", "use x;\n").len(), 1);
    }

    #[test]
    fn unfinished_work_is_found_in_comments_and_code() {
        for mark in UNFINISHED {
            let text = format!("//! A.\n// {mark}: later\n");
            assert_eq!(check("crates/cpu/src/a.rs", &text)[0].line, 2);
        }
        assert_eq!(
            check("guests/kernels/a.c", &format!("/* {} */", UNFINISHED[0])).len(),
            1
        );
        assert_eq!(check("crates/cpu/src/a.rs", "//! A method.\n"), []);
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(check("crates/cpu/src/util.rs", "//! A.\n").len(), 1);
        assert_eq!(check("crates/common/src/lib.rs", "//! A.\n").len(), 1);
        assert_eq!(check("crates/cpu/src/database.rs", "//! A.\n"), []);
    }

    #[test]
    fn silence_needs_a_reason() {
        assert_eq!(check("a.rs", "//! A.\n#[allow(dead_code)]\n").len(), 1);
        assert_eq!(
            check("a.rs", "//! A.\n#[allow(dead_code, reason = \"x\")]\n"),
            []
        );
        assert_eq!(
            check(
                "a.rs",
                "//! A.\n#[expect(\n    dead_code,\n    reason = \"x\"\n)]\n"
            ),
            []
        );
        assert_eq!(
            check(
                "a.rs",
                "//! A.\n#[expect(\n    dead_code,\n)]\n// reason = \n"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_crate_takes_the_lints() {
        assert_eq!(check("crates/a/Cargo.toml", "[package]\n").len(), 1);
        assert_eq!(
            check("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"),
            []
        );
    }
}
