//! A crate may use only crates in lower rows. The rows are the architecture's picture (ARCHITECTURE.md shows the same one).

use super::Finding;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// The rows, top to bottom.
const ROWS: &[&[&str]] = &[
    &["xtask"],
    &["cli"],
    &["debugger", "introspect", "export"],
    &["timeline", "host", "guests"],
    &["session"],
    &["checkpoint"],
    &["machine"],
    &["jit", "devices"],
    &["cpu"],
    &["memory", "log"],
    &["x86", "moment", "seal", "silicon"],
];

/// Judges in tests, and no part of the product: any crate may have it as a dev-dependency, none as another.
const TEST_ONLY: &str = "oracle";

/// The only ones whose errors are for people and nobody else.
const MAY_USE_ANYHOW: &[&str] = &["cli", "xtask"];

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

/// What a package depends on; `kind` is absent for an ordinary dependency.
#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// Asks cargo for the workspace's packages.
pub(super) fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("the answer of cargo metadata")?;
    Ok(metadata.packages)
}

/// Finds dependencies that point up or sideways, and crates without a row.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let finding = |message: String| Finding {
        path: format!("crates/{}/Cargo.toml", package.name),
        line: 0,
        message,
    };
    let own_row = row(&package.name);
    let test_only = package.name == TEST_ONLY;
    if own_row.is_none() && !test_only {
        return vec![finding(format!(
            "`{}` has no row: give it one in xtask/src/lint/layers.rs and in ARCHITECTURE.md",
            package.name
        ))];
    }
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.name.as_str();
        if name == "anyhow" && !MAY_USE_ANYHOW.contains(&package.name.as_str()) {
            findings.push(finding(
                "`anyhow` is for the command and for xtask; use an enum with thiserror".to_owned(),
            ));
        }
        if dependency.path.is_none() {
            continue;
        }
        if name == TEST_ONLY {
            if dependency.kind.as_deref() != Some("dev") {
                findings.push(finding(format!(
                    "`{TEST_ONLY}` judges in tests: make it a dev-dependency"
                )));
            }
            continue;
        }
        // What serves tests only may look at anything; it never ships.
        if !test_only && row(name) <= own_row {
            findings.push(finding(format!(
                "`{}` may use only crates in lower rows, and `{name}` is not",
                package.name
            )));
        }
    }
    findings
}

/// The row of a crate, from the top.
fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Vec<Package> {
        let dependency = Dependency {
            name: dependency.to_owned(),
            kind: kind.map(str::to_owned),
            path: (dependency != "anyhow").then(String::new),
        };
        vec![Package {
            name: name.to_owned(),
            dependencies: vec![dependency],
        }]
    }

    #[test]
    fn a_lower_row_may_be_used() {
        assert_eq!(check(&package("machine", "cpu", None)), []);
    }

    #[test]
    fn a_higher_row_may_not() {
        assert_eq!(check(&package("cpu", "machine", None)).len(), 1);
        assert_eq!(check(&package("cpu", "jit", None)).len(), 1);
        assert_eq!(check(&package("session", "host", Some("dev"))).len(), 1);
    }

    #[test]
    fn the_same_row_may_not() {
        assert_eq!(check(&package("log", "memory", None)).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert!(
            check(&package("novelty", "cpu", None))[0]
                .message
                .contains("no row")
        );
        assert_eq!(check(&package("cpu", "novelty", None)).len(), 1);
    }

    #[test]
    fn the_oracle_is_for_tests() {
        assert_eq!(check(&package("cpu", "oracle", Some("dev"))), []);
        assert_eq!(check(&package("cpu", "oracle", None)).len(), 1);
    }

    #[test]
    fn anyhow_is_for_the_command() {
        assert_eq!(check(&package("session", "anyhow", None)).len(), 1);
        assert_eq!(check(&package("cli", "anyhow", None)), []);
    }
}
