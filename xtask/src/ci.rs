//! What a change must pass. A developer and the CI machine run the same.

use anyhow::Context as _;

use crate::process::{cargo, root, step};
use crate::{build_guests, lint};

/// Form, lints, and every test: the units with debug assertions, the whole command on Linux guests in release.
pub(crate) fn run() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    step("the project's lints", || lint::run(root()))?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    step("the guests", build_guests)?;
    cargo(&["test", "--workspace", "--quiet"])?;
    // These boot Linux, which takes an interpreter built without optimisation too long.
    cargo(&[
        "test",
        "--release",
        "--package",
        "cli",
        "--quiet",
        "--",
        "linux",
    ])?;
    eprintln!("All is well.");
    Ok(())
}

/// Licences, advisories and sources of everything we depend on; apart from [`run`], since it needs the network.
pub(crate) fn deny() -> anyhow::Result<()> {
    if std::process::Command::new("cargo-deny")
        .arg("--version")
        .output()
        .is_err()
    {
        cargo(&["install", "--locked", "cargo-deny"])?;
    }
    // First what needs nothing from outside, so that it is checked where the database of advisories can't be fetched.
    cargo(&["deny", "check", "bans", "licenses", "sources"])?;
    cargo(&["deny", "check", "advisories"])
        .context("if the database of advisories could not be fetched: it lies on github.com")
}
