//! What the command says: in words, or as one JSON object.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::exit::Exit;

/// How to say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    command: &'static str,
    owns_stdout: bool,
    json: bool,
}

impl Report {
    /// For `command`, whose standard output is ours (`owns_stdout`) or the
    /// guest's.
    pub(crate) fn new(command: &'static str, owns_stdout: bool, json: bool) -> Report {
        Report {
            command,
            owns_stdout,
            json,
        }
    }

    /// Whether a machine listens.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says something on the way, to people only.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            host::notice(&format!("revirt: {text}"));
        }
    }

    /// Who tells people what takes long.
    pub(crate) fn narrator(&self) -> fn(&str) {
        if self.json { |_| () } else { host::notice }
    }

    /// Says the outcome: `text` to people, `fields` (an object) to machines.
    pub(crate) fn finish(&self, exit: Exit, text: &str, fields: Value) -> Exit {
        let text = text.trim_end();
        if self.json {
            self.object(exit, fields);
        } else if self.owns_stdout {
            self.say(&format!("{text}\n"));
        } else {
            host::notice(&format!("revirt: {text}"));
        }
        exit
    }

    /// Says why there is no outcome.
    pub(crate) fn failure(&self, error: &anyhow::Error) -> Exit {
        let exit = Exit::of(error);
        if self.json {
            self.object(exit, json!({ "error": error.to_string() }));
        } else {
            host::notice(&format!("revirt: {error}"));
        }
        exit
    }

    fn object(&self, exit: Exit, fields: Value) {
        let mut object = json!({ "command": self.command, "exit": exit.code() });
        if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
            object.extend(fields);
        }
        if self.owns_stdout {
            self.say(&format!("{object}\n"))
        } else {
            host::notice(&object.to_string())
        }
    }

    /// Prints on standard output. Whoever closed it has heard enough.
    fn say(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
    }
}
