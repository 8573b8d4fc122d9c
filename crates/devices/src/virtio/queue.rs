//! A split virtqueue (virtio 1.1, 2.6): three tables in guest memory, through
//! which driver and device hand each other buffers.

use memory::Ram;
use minicbor::{Decode, Encode};
use x86::Physical;

use super::chain::DESCRIPTOR_BYTES;
use super::{Broken, Chain, feature};

/// The driver wants no interrupts (flag of the available ring).
const NO_INTERRUPT: u16 = 1;

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The most descriptors it may have.
    size_max: u16,
    pub(super) size: u16,
    is_ready: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    /// The next entry of the available ring that we take.
    next_available: u16,
    /// The next entry of the used ring that we fill.
    next_used: u16,
    /// `next_used` when we last decided whether to interrupt.
    signalled: u16,
    /// Negotiated.
    has_indirect: bool,
    has_event_index: bool,
}

/// A [`Queue`], saved.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the queue's")]
pub struct QueueState {
    #[n(0)]
    pub size: u16,
    #[n(1)]
    pub is_ready: bool,
    #[n(2)]
    pub descriptors: u64,
    #[n(3)]
    pub available: u64,
    #[n(4)]
    pub used: u64,
    #[n(5)]
    pub next_available: u16,
    #[n(6)]
    pub next_used: u16,
    #[n(7)]
    pub signalled: u16,
    #[n(8)]
    pub has_indirect: bool,
    #[n(9)]
    pub has_event_index: bool,
}

impl Queue {
    pub(super) fn new(size_max: u16) -> Queue {
        assert!(
            size_max.is_power_of_two() && size_max <= 1 << 15,
            "a queue's size is a power of two"
        );
        Queue {
            size_max,
            size: size_max,
            is_ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
            next_available: 0,
            next_used: 0,
            signalled: 0,
            has_indirect: false,
            has_event_index: false,
        }
    }

    /// The most descriptors it may have.
    pub(super) fn size_max(&self) -> u16 {
        self.size_max
    }

    /// How many descriptors it has.
    pub(super) fn size(&self) -> u16 {
        self.size
    }

    /// Whether the driver has set it up.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The driver says that it has set the queue up: from here on its place
    /// does not change, and all of it is RAM.
    pub(super) fn enable(&mut self, ram: &Ram, features: u64) -> Result<(), Broken> {
        let size = u64::from(self.size);
        let [descriptors, available, used] = [self.descriptors, self.available, self.used];
        let is_good = self.size.is_power_of_two()
            && self.size <= self.size_max
            && descriptors.is_multiple_of(16)
            && available.is_multiple_of(2)
            && used.is_multiple_of(4)
            && ram.holds(Physical(descriptors), DESCRIPTOR_BYTES * size)
            && ram.holds(Physical(available), 6 + 2 * size)
            && ram.holds(Physical(used), 6 + 8 * size);
        if !is_good {
            return Err(Broken::QueueLayout);
        }
        self.is_ready = true;
        self.next_available = 0;
        self.next_used = 0;
        self.signalled = 0;
        self.has_indirect = features & feature::INDIRECT_DESC != 0;
        self.has_event_index = features & feature::EVENT_IDX != 0;
        Ok(())
    }

    pub(super) fn disable(&mut self) {
        self.is_ready = false;
    }

    /// How many chains wait: at most as many as the queue has descriptors.
    /// Look once and take so many: a device's own writes may change the number.
    pub fn waiting(&self, ram: &Ram) -> Result<u16, Broken> {
        if !self.is_ready {
            return Ok(0);
        }
        let index = half_word(ram, self.available + 2)?;
        let count = index.wrapping_sub(self.next_available);
        if count > self.size {
            return Err(Broken::AvailableIndex);
        }
        Ok(count)
    }

    /// Takes the next chain that waits.
    pub fn pop(&mut self, ram: &Ram) -> Result<Option<Chain>, Broken> {
        if self.waiting(ram)? == 0 {
            return Ok(None);
        }
        let place = u64::from(self.next_available & (self.size - 1));
        let head = half_word(ram, self.available + 4 + 2 * place)?;
        let table = Physical(self.descriptors);
        let chain = Chain::read(ram, table, self.size, head, self.has_indirect)?;
        self.next_available = self.next_available.wrapping_add(1);
        if self.has_event_index {
            // Tell us of the very next one.
            let event = self.used + 4 + 8 * u64::from(self.size);
            ram.write(Physical(event), &self.next_available.to_le_bytes())?;
        }
        Ok(Some(chain))
    }

    /// Lays the last `count` chains that were taken back: they wait again.
    pub(super) fn put_back(&mut self, count: u16) {
        self.next_available = self.next_available.wrapping_sub(count);
    }

    /// Gives `chain` back to the driver, with `written_bytes` of its writable
    /// bytes written.
    pub fn push(&mut self, ram: &Ram, chain: &Chain, written_bytes: u32) -> Result<(), Broken> {
        let place = u64::from(self.next_used & (self.size - 1));
        let mut element = [0; 8];
        element[..4].copy_from_slice(&u32::from(chain.head).to_le_bytes());
        element[4..].copy_from_slice(&written_bytes.to_le_bytes());
        ram.write(Physical(self.used + 4 + 8 * place), &element)?;
        self.next_used = self.next_used.wrapping_add(1);
        ram.write(Physical(self.used + 2), &self.next_used.to_le_bytes())?;
        Ok(())
    }

    /// Whether the driver wants an interrupt for what it was given since the
    /// last call (2.6.7).
    pub(super) fn take_signal(&mut self, ram: &Ram) -> Result<bool, Broken> {
        let given = self.next_used.wrapping_sub(self.signalled);
        if !self.is_ready || given == 0 {
            return Ok(false);
        }
        self.signalled = self.next_used;
        if self.has_event_index {
            let event = half_word(ram, self.available + 4 + 2 * u64::from(self.size))?;
            return Ok(self.next_used.wrapping_sub(event).wrapping_sub(1) < given);
        }
        Ok(half_word(ram, self.available)? & NO_INTERRUPT == 0)
    }

    pub(super) fn save(&self) -> QueueState {
        let Queue {
            size_max: _,
            size,
            is_ready,
            descriptors,
            available,
            used,
            next_available,
            next_used,
            signalled,
            has_indirect,
            has_event_index,
        } = *self;
        QueueState {
            size,
            is_ready,
            descriptors,
            available,
            used,
            next_available,
            next_used,
            signalled,
            has_indirect,
            has_event_index,
        }
    }

    /// The queue of `state`; `None` if it can't be one. That it lies in RAM
    /// is checked at each use.
    pub(super) fn restored(size_max: u16, state: &QueueState) -> Option<Queue> {
        let is_good = !state.is_ready || (state.size.is_power_of_two() && state.size <= size_max);
        is_good.then_some(Queue {
            size_max,
            size: state.size,
            is_ready: state.is_ready,
            descriptors: state.descriptors,
            available: state.available,
            used: state.used,
            next_available: state.next_available,
            next_used: state.next_used,
            signalled: state.signalled,
            has_indirect: state.has_indirect,
            has_event_index: state.has_event_index,
        })
    }
}

fn half_word(ram: &Ram, at: u64) -> Result<u16, Broken> {
    let mut bytes = [0; 2];
    ram.read(Physical(at), &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

/// All queues of a device, and what was negotiated.
#[derive(Clone, Debug)]
pub struct Queues {
    pub(super) list: Vec<Queue>,
    pub(super) features: u64,
}

impl Queues {
    pub(super) fn new(sizes: &[u16]) -> Queues {
        Queues {
            list: sizes.iter().map(|size| Queue::new(*size)).collect(),
            features: 0,
        }
    }

    /// The features that driver and device have agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Queue `number`.
    ///
    /// # Panics
    /// If the device has no such queue: its numbers are the device's own.
    pub fn queue(&mut self, number: usize) -> &mut Queue {
        &mut self.list[number]
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Link, Rig};
    use super::*;

    fn queue(rig: &Rig, features: u64) -> Queue {
        let mut queue = Queue::new(Rig::SIZE);
        queue.descriptors = Rig::DESCRIPTORS.0;
        queue.available = Rig::AVAILABLE.0;
        queue.used = Rig::USED.0;
        queue.enable(&rig.ram, features).expect("a good layout");
        queue
    }

    #[test]
    fn chains_come_in_order_and_go_back() {
        let mut rig = Rig::new();
        let mut queue = queue(&rig, 0);
        for n in 0..3 * u32::from(Rig::SIZE) {
            let links = [Link::readable(0x8000, n)];
            rig.offer(&links);
            let chain = queue
                .pop(&rig.ram)
                .expect("a good ring")
                .expect("it was offered");
            assert_eq!(chain.readable_bytes(), u64::from(n));
            queue.push(&rig.ram, &chain, n).expect("a good ring");
            assert_eq!(rig.take_used(), Some(n));
            assert_eq!(queue.pop(&rig.ram), Ok(None));
        }
    }

    #[test]
    fn an_available_index_too_far_ahead_is_broken() {
        let rig = Rig::new();
        let mut queue = queue(&rig, 0);
        rig.put(Rig::AVAILABLE.0 + 2, &(Rig::SIZE + 1).to_le_bytes());
        assert_eq!(queue.pop(&rig.ram), Err(Broken::AvailableIndex));
    }

    #[test]
    fn a_layout_that_no_queue_has_is_refused() {
        let rig = Rig::new();
        let good = queue(&rig, 0);
        let bad: [fn(&mut Queue); 6] = [
            |queue| queue.size = 3,
            |queue| queue.size = 0,
            |queue| queue.size = 2 * Rig::SIZE,
            |queue| queue.descriptors += 8,
            |queue| queue.used = u64::MAX - 3,
            |queue| queue.available = (1 << 20) - 2,
        ];
        for spoil in bad {
            let mut queue = good.clone();
            spoil(&mut queue);
            assert_eq!(queue.enable(&rig.ram, 0), Err(Broken::QueueLayout));
        }
    }

    #[test]
    fn an_interrupt_comes_unless_the_driver_wants_none() {
        let mut rig = Rig::new();
        let mut queue = queue(&rig, 0);
        let mut serve = |rig: &mut Rig| {
            rig.offer(&[Link::readable(0x8000, 1)]);
            let chain = queue.pop(&rig.ram).expect("good").expect("offered");
            queue.push(&rig.ram, &chain, 0).expect("good");
            queue.take_signal(&rig.ram)
        };
        assert_eq!(serve(&mut rig), Ok(true));
        rig.put(Rig::AVAILABLE.0, &[1]);
        assert_eq!(serve(&mut rig), Ok(false));
    }

    #[test]
    fn with_event_indices_an_interrupt_comes_where_it_was_asked_for() {
        let mut rig = Rig::new();
        let mut queue = queue(&rig, feature::EVENT_IDX);
        // After the second buffer.
        rig.put(Rig::AVAILABLE.0 + 4 + 2 * u64::from(Rig::SIZE), &[1, 0]);
        let mut serve = |rig: &mut Rig| {
            rig.offer(&[Link::readable(0x8000, 1)]);
            let chain = queue.pop(&rig.ram).expect("good").expect("offered");
            queue.push(&rig.ram, &chain, 0).expect("good");
            queue.take_signal(&rig.ram)
        };
        assert_eq!(serve(&mut rig), Ok(false));
        assert_eq!(serve(&mut rig), Ok(true));
        assert_eq!(serve(&mut rig), Ok(false));
        assert_eq!(
            rig.get(Rig::USED.0 + 4 + 8 * u64::from(Rig::SIZE), 2),
            [3, 0]
        );
    }
}
