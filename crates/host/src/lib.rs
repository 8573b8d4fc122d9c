//! The only window to the world: console, clock, entropy, signals, disks,
//! networks.
//!
//! Everything below this crate is a function of its inputs. Whatever is not
//! (what time it is, what was typed, what is random, that someone wants us to
//! end) is read here, and becomes an input to the machine before the machine
//! sees it.

mod arrival;
mod clock;
mod console;
pub mod disk;
mod entropy;
mod escape;
pub mod net;
mod signals;
mod terminal;

pub use arrival::{Arrival, Arrivals, WIRES_MAX, Wanted};
pub use clock::{Clock, wall_clock_ns};
pub use console::{Console, Screen};
pub use entropy::entropy;
pub use escape::{ESCAPE_NAME, HELP};
pub use terminal::notice;

/// What the host refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terminal's modes can't be read or set.
    #[error(
        "the terminal can't be put into raw mode ({0}): redirect standard input from a file or /dev/null"
    )]
    Terminal(#[source] std::io::Error),
    /// No handler for SIGINT, SIGTERM and SIGHUP.
    #[error("signals can't be caught ({0}): check the limits on this process")]
    Signals(#[source] std::io::Error),
    /// No thread to read standard input with.
    #[error("no thread can be started ({0}): check the limits on this process")]
    Thread(#[source] std::io::Error),
    /// Standard input can't be opened.
    #[error("standard input can't be read ({0}): redirect it from a file or /dev/null")]
    Input(#[source] std::io::Error),
    /// The kernel gave no random bytes.
    #[error("the host gave no random bytes ({0}): try again when it has started up")]
    Entropy(#[source] std::io::Error),
}

/// What this host is, for information in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The kernel's release, as `uname -r` says.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
}

impl Description {
    /// Of the host we run on; empty strings where it doesn't tell.
    pub fn read() -> Description {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu_info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("", |(_, name)| name);
        Description {
            kernel: kernel.trim().to_owned(),
            cpu: cpu.trim().to_owned(),
        }
    }
}
