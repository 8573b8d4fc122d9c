//! What the command's exit code says.

use std::process::ExitCode;

/// The answer of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: yes, done.
    Yes,
    /// 1: no. The replay diverged, the recording is altered or not whole, the
    /// guest crashed.
    No,
    /// 2: could not tell. Bad usage, an unreadable file, a failure of the
    /// host.
    Unknown,
}

impl Exit {
    /// The code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::Unknown => 2,
        }
    }

    /// The code that `error` deserves.
    pub(crate) fn of(error: &anyhow::Error) -> Exit {
        let is_altered = error
            .downcast_ref::<session::Error>()
            .is_some_and(session::Error::is_alteration);
        let is_another = matches!(
            error.downcast_ref::<host::disk::Error>(),
            Some(host::disk::Error::Other { .. })
        );
        if is_altered || is_another {
            Exit::No
        } else {
            Exit::Unknown
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        exit.code().into()
    }
}
