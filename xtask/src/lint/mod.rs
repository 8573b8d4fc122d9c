//! The project's own lints: what the architecture promises as absences, checked.
//!
//! Each lint is a function from text to findings, so that its tests can show it something wrong. They read the source line
//! by line with comments and strings taken out ([`source`]), not as a compiler does: a determined author can get round them,
//! an absent-minded one can't, and that is who they are for.

mod determinism;
mod housekeeping;
mod layers;
mod source;

use anyhow::{Context as _, bail};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, from the tree's root.
    path: String,
    /// Its line, from 1; 0 if the whole file is meant.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Runs every lint over the tree at `root`, and prints what each finds.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut findings = layers::check(&layers::packages(root)?);
    for path in tracked_files(root)? {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else {
            // Not text, or deleted and not yet committed.
            continue;
        };
        let name = path.to_string_lossy();
        findings.extend(housekeeping::check(&name, &text));
        if name.ends_with(".rs") {
            findings.extend(determinism::check(&name, &text));
        }
    }
    findings.sort_by(|one, other| (&one.path, one.line).cmp(&(&other.path, other.line)));
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings of the project's lints, above", findings.len());
    }
    Ok(())
}

/// The files that git knows or would add: what is ignored or generated is nobody's concern.
fn tracked_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git is needed to list the tree's files")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect())
}
