//! What a session needs of the world, as the layer above provides it.
//!
//! `session` reads no clock and no console itself: whoever starts a session
//! hands it a [`World`], and a test hands it one that is written down.

use std::io;

pub use machine::OutputPort;

/// Something from outside that concerns a running guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes typed at the console.
    Typed(Vec<u8>),
    /// The power button is pressed.
    PowerButton,
}

/// Where the guest's output is shown.
pub trait Screen {
    /// Shows `bytes`, which went out by `port`.
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()>;
}

/// The world of a guest that runs live.
pub trait World: Screen {
    /// Host time in nanoseconds since the session began; never runs backwards.
    fn now_ns(&self) -> u64;

    /// What has arrived, if anything has.
    fn take(&mut self) -> Option<Arrival>;

    /// Whether the run is to end now. Once true, it stays so.
    fn is_over(&self) -> bool;

    /// Waits until something arrives, the run is over, or [`World::now_ns`]
    /// reaches `deadline_ns` (`None`: for as long as it takes).
    fn wait(&mut self, deadline_ns: Option<u64>) -> Option<Arrival>;

    /// As [`World::wait`], but leaves alone what arrives.
    fn sleep(&mut self, deadline_ns: Option<u64>);
}

/// Who watches a replay.
pub trait Watcher: Screen {
    /// `branches` have been replayed, of `of` in all.
    fn progress(&mut self, branches: u64, of: u64);
}
