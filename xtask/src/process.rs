//! Runs other programs: cargo above all.

use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Runs a step of `cargo` in the tree, telling what runs and how long it took.
pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(root());
    step(&format!("cargo {}", arguments.join(" ")), || {
        succeed(&mut command)
    })
}

/// Runs `work` under the name `name`, telling how long it took.
pub(crate) fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    eprintln!("==> {name}");
    let start = Instant::now();
    work().with_context(|| format!("`{name}` failed"))?;
    eprintln!("    {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs `command` to its end, which must be a good one.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The root of the tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
}

/// Builds the `revirt` command in release and gives its path.
pub(crate) fn revirt() -> anyhow::Result<PathBuf> {
    cargo(&["build", "--release", "--package", "cli"])?;
    Ok(target_folder().join("release/revirt"))
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or else `target`.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
