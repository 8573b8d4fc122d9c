//! Runs a program of the host and turns its failure into words.

use crate::Error;
use std::io::ErrorKind;
use std::process::Command;

/// How much of a failed program's output is shown.
const MESSAGE_LEN_MAX: usize = 2000;

/// `command` as one would type it, without the environment that we gave it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Runs `command` to its end and gives what it printed on standard output.
///
/// # Errors
/// [`Error::ToolMissing`] names `package`, the Debian package to install; [`Error::ToolFailed`] carries what it said.
pub(crate) fn run(
    command: &mut Command,
    program: &'static str,
    package: &'static str,
) -> Result<Vec<u8>, Error> {
    let output = command
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::ToolMissing { program, package },
            _ => Error::File {
                action: "run",
                path: program.into(),
                source,
            },
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut start = text.len().saturating_sub(MESSAGE_LEN_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    Err(Error::ToolFailed {
        command: shown(command),
        status: output.status.to_string(),
        message: text[start..].trim_end().to_owned(),
    })
}
