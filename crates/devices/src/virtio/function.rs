//! What stands behind a transport.

use memory::Ram;
use minicbor::{Decode, Encode};

use super::Queues;
use crate::device::Damaged;

/// A driver that broke the rules: what it did. Its device needs a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A queue with a size, an alignment or a place that no queue may have.
    #[error("a queue's size, alignment or address is not one that a queue may have")]
    QueueLayout,
    /// More buffers made available than the queue has room for.
    #[error("more buffers are available than the queue has room for")]
    AvailableIndex,
    /// The index of a descriptor beyond its table.
    #[error("a descriptor's index lies beyond its table")]
    DescriptorIndex,
    /// A chain that is longer than any may be: probably it is a ring.
    #[error("a chain of descriptors is too long, or a ring")]
    ChainLength,
    /// A buffer that is not in RAM.
    #[error("a buffer is not in RAM")]
    BufferAddress,
    /// A writable buffer before a readable one.
    #[error("a buffer for the driver stands behind one for the device")]
    BufferOrder,
    /// An indirect table where none may be, or of an impossible length.
    #[error("an indirect table is where none may be, or has an impossible length")]
    IndirectTable,
    /// A request without the parts that every request has.
    #[error("a request lacks a part that each must have")]
    RequestLayout,
}

impl From<memory::Error> for Broken {
    fn from(_: memory::Error) -> Broken {
        Broken::BufferAddress
    }
}

/// What a virtio device is for. The registers, the queues' places and the
/// interrupt are its [`super::Transport`]'s.
pub trait Function {
    /// What it is saved as: numbered fields, so that later versions may add.
    type State: Encode<()> + for<'b> Decode<'b, ()>;

    /// Its kind (virtio 1.1, chapter 5): 1 network card, 2 disk, and so on.
    const DEVICE_ID: u32;

    /// The most descriptors that each of its queues may have: powers of two.
    const QUEUE_SIZES: &'static [u16];

    /// The features that it offers besides the transport's own.
    fn features(&self) -> u64;

    /// The bytes of its configuration space. What lies behind them reads as
    /// zero.
    fn config(&self) -> Vec<u8>;

    /// The driver writes the byte at `offset` of the configuration space.
    fn write_config(&mut self, offset: u64, value: u8);

    /// The driver has put buffers into queue `number`, which is ready. All
    /// that can be done is done now. Interrupts that this causes are the
    /// transport's business.
    fn notified(&mut self, number: usize, queues: &mut Queues, ram: &Ram) -> Result<(), Broken>;

    /// The driver resets the device: what it negotiated is forgotten. What
    /// came from outside and waits may stay.
    fn reset(&mut self);

    /// Its whole state. Saving changes nothing.
    fn save(&self) -> Self::State;

    /// Takes on a state that [`Function::save`] gave.
    fn restore(&mut self, state: Self::State) -> Result<(), Damaged>;
}
