//! Raw mode: every key goes to the guest, and the terminal gets back what it
//! was, however we end.

use std::io::Write;
use std::sync::{Mutex, Once};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::Error;

/// The terminal's modes before ours; `Some` while it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static PANIC_HOOK: Once = Once::new();

/// Standard input is a raw terminal for as long as this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes it raw; `None` if it is no terminal.
    pub(crate) fn enter() -> Result<Option<RawMode>, Error> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let fail = |errno: rustix::io::Errno| Error::Terminal(errno.into());
        let before = tcgetattr(stdin).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Before the change, so that no way out can miss it.
        *lock() = Some(before);
        PANIC_HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                next(info);
            }));
        });
        tcsetattr(stdin, OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Some(RawMode(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Gives the terminal its modes back; harmless if it has them.
pub(crate) fn restore() {
    if let Some(before) = lock().take() {
        // Nothing is left to be done if the terminal is gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}

/// Prints a line for the user on standard error, also while the terminal is
/// raw (where a line needs its carriage return).
pub fn notice(line: &str) {
    let end = if lock().is_some() { "\r\n" } else { "\n" };
    let text = line.replace('\n', end);
    // Whoever closed standard error doesn't want to hear.
    let _ = write!(std::io::stderr(), "{text}{end}");
}
