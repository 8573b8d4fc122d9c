//! Virtio (virtio 1.1, OASIS, 2019): a transport, split virtqueues, and what
//! stands behind them.
//!
//! A [`Function`] is what a device is for: a disk, a network card. It stands
//! behind a [`Transport`], which keeps the registers that all have in common,
//! and gets its work from [`Queue`]s in guest memory. All work is done inside
//! the register write that asks for it, or inside [`Transport::stir`] when
//! something comes from outside: nothing is ever in flight, so a saved device
//! is its registers.
//!
//! The law here: the guest is hostile. Each number in guest memory is read
//! once and then believed only as far as it was checked; every loop has a
//! bound that does not come from the guest. A driver that breaks the rules
//! finds its device in need of a reset (`DEVICE_NEEDS_RESET`), and the host
//! never notices.

mod block;
mod chain;
mod function;
mod net;
mod queue;
mod registers;
mod rng;
mod transport;

#[cfg(test)]
pub(crate) mod rig;

pub use block::{Block, SERIAL_BYTES};
pub use chain::Chain;
pub use function::{Broken, Function};
pub use net::{FRAME_BYTES_MAX, Net, Reception};
pub use queue::{Queue, Queues};
pub use rng::{ENTROPY_BYTES_MAX, Rng};
pub use transport::Transport;

pub mod state {
    //! What the parts of a virtio device are saved as.
    pub use super::block::BlockState;
    pub use super::net::NetState;
    pub use super::queue::QueueState;
    pub use super::rng::RngState;
    pub use super::transport::TransportState;
}

/// Feature bits that belong to the transport and its queues (virtio 1.1,
/// chapter 6).
pub mod feature {
    /// A descriptor may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Driver and device tell each other at which index to notify.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device is one of version 1, not a legacy one.
    pub const VERSION_1: u64 = 1 << 32;
    /// What every device here offers.
    pub const TRANSPORT: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}
