//! A source of entropy (virtio 1.2, 5.4).
//!
//! The driver offers a buffer and waits. Random bytes are an input: whoever
//! runs the machine sees that they are [wanted](Transport::wants_entropy), and
//! brings some in, at a moment of its own. Each buffer gets what is brought at
//! once, at most [`ENTROPY_BYTES_MAX`], however long it is (5.4.6.1 asks for one
//! byte at least): so nobody can ask the host for more.

use memory::Ram;
use minicbor::{Decode, Encode};

use super::{Broken, Function, Queues, Transport};
use crate::device::Damaged;

/// So many bytes are brought at a time, at most: Linux asks for as many.
pub const ENTROPY_BYTES_MAX: usize = 64;

const REQUESTS: usize = 0;
const QUEUE_SIZE: u16 = 16;

/// A source of entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rng {
    /// A buffer waits. It stays in its queue until there is something to put
    /// into it.
    is_asked: bool,
}

impl Transport<Rng> {
    /// Whether the driver waits for random bytes.
    pub fn wants_entropy(&self) -> bool {
        self.is_live() && self.function.is_asked
    }

    /// Random bytes come in. Returns whether anyone wanted them; of more than
    /// [`ENTROPY_BYTES_MAX`] the rest is left.
    pub fn bring_entropy(&mut self, ram: &Ram, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(ENTROPY_BYTES_MAX)];
        self.wants_entropy()
            && !bytes.is_empty()
            && self
                .stir(ram, |rng, queues| rng.answer(bytes, queues, ram))
                .is_some()
    }
}

impl Rng {
    fn answer(&mut self, bytes: &[u8], queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        let queue = queues.queue(REQUESTS);
        if let Some(chain) = queue.pop(ram)? {
            let written = chain.write_at(ram, 0, bytes)?;
            queue.push(ram, &chain, written as u32)?;
        }
        self.look(queues, ram)
    }

    /// Sees whether a buffer waits.
    fn look(&mut self, queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        self.is_asked = queues.queue(REQUESTS).waiting(ram)? > 0;
        Ok(())
    }
}

/// An [`Rng`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the device's")]
pub struct RngState {
    #[n(0)]
    pub is_asked: bool,
}

impl Function for Rng {
    type State = RngState;

    const DEVICE_ID: u32 = 4;
    const QUEUE_SIZES: &'static [u16] = &[QUEUE_SIZE];

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn write_config(&mut self, _: u64, _: u8) {}

    fn notified(&mut self, _: usize, queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        self.look(queues, ram)
    }

    fn reset(&mut self) {
        self.is_asked = false;
    }

    fn save(&self) -> RngState {
        let Rng { is_asked } = *self;
        RngState { is_asked }
    }

    fn restore(&mut self, state: RngState) -> Result<(), Damaged> {
        let RngState { is_asked } = state;
        self.is_asked = is_asked;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Link, Rig};
    use super::*;

    #[test]
    fn a_buffer_waits_until_bytes_are_brought_and_gets_them() {
        let mut rig = Rig::new();
        let mut rng = Transport::new(Rng::default());
        assert!(!rng.bring_entropy(&rig.ram, &[1]), "nobody is there");
        rig.set_up(&mut rng, 0);
        assert!(!rng.wants_entropy());
        rig.offer(&[Link::writable(0x8000, 16), Link::writable(0x9000, 200)]);
        rng.write(&rig.ram, 0x50, 4, 0);
        assert!(rng.wants_entropy());
        assert_eq!(rig.take_used(), None);
        assert!(rng.bring_entropy(&rig.ram, &[7; 1000]));
        assert_eq!(rig.take_used(), Some(ENTROPY_BYTES_MAX as u32));
        assert_eq!(rig.get(0x8000, 17), [&[7; 16][..], &[0]].concat());
        assert_eq!(rig.get(0x9000, 49), [&[7; 48][..], &[0]].concat());
        assert!(rng.irq() && !rng.wants_entropy());
    }

    #[test]
    fn a_buffer_that_can_t_be_written_breaks_the_device_and_no_more() {
        let mut rig = Rig::new();
        let mut rng = Transport::new(Rng::default());
        rig.set_up(&mut rng, 0);
        rig.offer(&[Link::writable(1 << 40, 16)]);
        rng.write(&rig.ram, 0x50, 4, 0);
        assert!(!rng.bring_entropy(&rig.ram, &[7; 16]));
        assert!(!rng.is_live() && !rng.wants_entropy());
    }

    #[test]
    fn a_buffer_without_room_comes_back_empty() {
        let mut rig = Rig::new();
        let mut rng = Transport::new(Rng::default());
        rig.set_up(&mut rng, 0);
        rig.offer(&[Link::readable(0x8000, 16)]);
        rng.write(&rig.ram, 0x50, 4, 0);
        assert!(rng.bring_entropy(&rig.ram, &[7; 16]));
        assert_eq!(rig.take_used(), Some(0));
    }
}
