//! What a session needs of the world, as the layer above provides it.
//!
//! `session` reads no clock and no console itself: whoever starts a session
//! hands it a [`World`], and a test hands it one that is written down.

use std::io;

use machine::ENTROPY_BYTES_MAX;

pub use machine::OutputPort;

/// Something from outside that concerns a running guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes typed at the console.
    Typed(Vec<u8>),
    /// The power button is pressed.
    PowerButton,
    /// A frame for a network card.
    Frame {
        /// The card's number.
        nic: usize,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// The wire of a network card was put in, or pulled out.
    Link {
        /// The card's number.
        nic: usize,
        /// Whether there is a wire now.
        is_up: bool,
    },
}

/// What the machine has room for. What it has none for waits in the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes typed at the console.
    pub typed: bool,
    /// Frames: a bit for each network card, by its number.
    pub frames: u32,
}

/// Where the guest's output is shown.
pub trait Screen {
    /// Shows `bytes`, which went out by `port`: a frame, if that is a network
    /// card.
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()>;
}

/// The world of a guest that runs live.
pub trait World: Screen {
    /// Host time in nanoseconds since the session began; never runs backwards.
    fn now_ns(&self) -> u64;

    /// What has arrived, if anything has that there is `room` for.
    fn take(&mut self, room: Room) -> Option<Arrival>;

    /// Random bytes.
    fn entropy(&mut self) -> io::Result<[u8; ENTROPY_BYTES_MAX]>;

    /// Whether the run is to end now. Once true, it stays so.
    fn is_over(&self) -> bool;

    /// Waits until something arrives that there is `room` for, the run is over,
    /// or [`World::now_ns`] reaches `deadline_ns` (`None`: for as long as it
    /// takes).
    fn wait(&mut self, deadline_ns: Option<u64>, room: Room) -> Option<Arrival>;
}

/// Who watches a replay.
pub trait Watcher: Screen {
    /// `branches` have been replayed, of `of` in all.
    fn progress(&mut self, branches: u64, of: u64);
}
