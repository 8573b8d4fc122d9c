//! What the figures were measured on; kept with them, since a figure without its machine says nothing.

use crate::process::root;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The machine, its load, and the versions of what was compared.
pub(super) fn description() -> Value {
    json!({
        "host": first_line("uname", &["-n"]),
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": first_line("uname", &["-sr"]),
        "load_average_before": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "rustc": first_line("rustc", &["--version"]),
        "qemu": first_line("qemu-system-x86_64", &["--version"]),
        "commit": first_line("git", &["-C", &root().display().to_string(), "describe", "--always", "--dirty"]),
        "date": date(),
    })
}

/// The day, as in `2026-11-24`.
pub(super) fn date() -> String {
    first_line("date", &["--utc", "+%F"])
}

/// The host's name.
pub(super) fn name() -> String {
    first_line("uname", &["-n"])
}

/// The first line that a program prints; empty if it can't be run.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The value of the first `name : value` in `file`.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}
