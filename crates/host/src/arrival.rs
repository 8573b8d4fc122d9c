//! What comes from outside, in the order in which it came.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Something from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes typed, never empty.
    Bytes(Vec<u8>),
    /// Someone wants the run to end: by the escape key, or by a signal.
    Quit,
    /// The power button is pressed.
    PowerButton,
    /// Someone wants to know what the escape key can do.
    Help,
}

/// What has arrived and was not yet taken.
#[derive(Debug)]
pub struct Arrivals(pub(crate) Receiver<Arrival>);

impl Arrivals {
    /// The next, if there is one.
    pub fn take(&self) -> Option<Arrival> {
        self.0.try_recv().ok()
    }

    /// The next; waits for it up to `limit`, or for as long as it takes.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Arrival> {
        match limit.map_or_else(
            || self.0.recv().map_err(|_| RecvTimeoutError::Disconnected),
            |limit| self.0.recv_timeout(limit),
        ) {
            Ok(arrival) => Some(arrival),
            Err(RecvTimeoutError::Timeout) => None,
            // The thread that catches signals keeps its sender for ever; were
            // it gone, nobody could end us any more.
            Err(RecvTimeoutError::Disconnected) => Some(Arrival::Quit),
        }
    }
}
