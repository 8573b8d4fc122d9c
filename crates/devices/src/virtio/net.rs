//! A network card (virtio 1.1, 5.1).
//!
//! A frame that comes in goes into the driver's buffers at once, if there are
//! enough of them. If not, it waits in the card, as in a real one's memory: it
//! holds [`WAITING_BYTES_MAX`], and what comes when it is full must wait
//! outside. So what becomes of a frame follows from the machine's state alone.
//! A card whose driver has not set it up, or whose link is down, hears nothing.
//!
//! A frame that goes out does so inside the register write that announces it,
//! with its checksum filled in if the driver left that to the card. Frames
//! that no wire would carry (too long, too short, with segments to be cut that
//! were never offered) are dropped, as a real card drops them.

mod checksum;

use std::collections::VecDeque;

use memory::Ram;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Broken, Chain, Function, Queue, Queues, Transport};
use crate::device::{Damaged, check};

/// Feature bits (virtio 1.1, 5.1.3).
mod bit {
    /// The driver may leave a checksum to the card.
    pub(super) const CSUM: u64 = 1 << 0;
    /// The driver believes the card that a checksum is right.
    pub(super) const GUEST_CSUM: u64 = 1 << 1;
    pub(super) const MTU: u64 = 1 << 3;
    pub(super) const MAC: u64 = 1 << 5;
    /// A received frame may lie in several buffers.
    pub(super) const MRG_RXBUF: u64 = 1 << 15;
    /// The link can go up and down.
    pub(super) const STATUS: u64 = 1 << 16;
}

/// The numbers of the queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUE_SIZE: u16 = 256;

/// Bytes of `struct virtio_net_hdr` ahead of each frame.
const HEADER_BYTES: usize = 12;
/// Flags of the header: a checksum is to be filled in; it was found right.
const NEEDS_CHECKSUM: u8 = 1;
const CHECKSUM_IS_VALID: u8 = 2;

/// An Ethernet header, with and without a VLAN tag.
const ETHERNET_BYTES: usize = 14;
const ETHERNET_BYTES_MAX: usize = 18;
/// The longest frame of any card.
pub const FRAME_BYTES_MAX: usize = u16::MAX as usize + ETHERNET_BYTES_MAX;
/// Frames that found no buffers wait in the card, up to so many bytes.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// What becomes of a frame that comes in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// The card gets it.
    Ready,
    /// It must wait outside: the card is full.
    Full,
    /// Nobody hears it.
    Deaf,
}

/// A network card.
#[derive(Clone, Debug)]
pub struct Net {
    mac: [u8; 6],
    mtu: u16,
    is_up: bool,
    /// Received, and no buffers for them yet.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// On their way out; empty between two accesses.
    sent: Vec<Vec<u8>>,
}

impl Transport<Net> {
    /// What would become of a frame that came in now.
    pub fn reception(&self) -> Reception {
        if !self.is_live() || !self.function.is_up {
            Reception::Deaf
        } else if self.function.has_room() {
            Reception::Ready
        } else {
            Reception::Full
        }
    }

    /// `frame` comes in. Returns whether there was anyone to hear it, and room.
    pub fn receive(&mut self, ram: &Ram, frame: &[u8]) -> bool {
        self.reception() == Reception::Ready
            && self
                .stir(ram, |net, queues| net.receive(frame, queues, ram))
                .is_some()
    }

    /// The wire is put in, or pulled out. The driver is told.
    pub fn set_link(&mut self, is_up: bool) {
        if self.function.is_up != is_up {
            self.function.is_up = is_up;
            self.config_changed();
        }
    }
}

/// A [`Net`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the card's")]
pub struct NetState {
    #[n(0)]
    pub is_up: bool,
    #[n(1)]
    pub waiting: Vec<ByteVec>,
}

impl Net {
    /// A card with this address, on a wire that carries packets of `mtu` bytes.
    /// Its link is down.
    pub fn new(mac: [u8; 6], mtu: u16) -> Net {
        Net {
            mac,
            mtu,
            is_up: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: Vec::new(),
        }
    }

    /// Whether there is room for any frame.
    fn has_room(&self) -> bool {
        self.waiting_bytes + FRAME_BYTES_MAX <= WAITING_BYTES_MAX
    }

    /// `frame` comes in, inside [`Transport::stir`]. One that this wire can't
    /// carry is dropped.
    fn receive(&mut self, frame: &[u8], queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        if !self.carries(frame.len()) {
            return Ok(());
        }
        let features = queues.features();
        let queue = queues.queue(RECEIVE);
        if !self.waiting.is_empty() || !deliver(frame, features, queue, ram)? {
            self.waiting_bytes += frame.len();
            self.waiting.push_back(frame.to_vec());
        }
        Ok(())
    }

    /// What the driver has sent since the last call.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    fn carries(&self, bytes: usize) -> bool {
        (ETHERNET_BYTES..=usize::from(self.mtu) + ETHERNET_BYTES_MAX).contains(&bytes)
    }

    /// Delivers frames that wait, as far as there are buffers now.
    fn deliver_waiting(&mut self, queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        let features = queues.features();
        while let Some(frame) = self.waiting.front() {
            if !deliver(frame, features, queues.queue(RECEIVE), ram)? {
                break;
            }
            self.waiting_bytes -= frame.len();
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn send(&mut self, queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        let features = queues.features();
        let queue = queues.queue(TRANSMIT);
        for _ in 0..queue.waiting(ram)? {
            let Some(chain) = queue.pop(ram)? else { break };
            if let Some(frame) = self.frame_in(&chain, features, ram)?
                && self.is_up
            {
                self.sent.push(frame);
            }
            queue.push(ram, &chain, 0)?;
        }
        Ok(())
    }

    /// The frame in `chain` as it goes out; `None` if no wire would carry it.
    fn frame_in(&self, chain: &Chain, features: u64, ram: &Ram) -> Result<Option<Vec<u8>>, Broken> {
        let mut header = [0; HEADER_BYTES];
        if chain.read_at(ram, 0, &mut header)? < HEADER_BYTES {
            return Err(Broken::RequestLayout);
        }
        let bytes = chain.readable_bytes() - HEADER_BYTES as u64;
        let bytes = usize::try_from(bytes).ok().filter(|n| self.carries(*n));
        let [
            flags,
            segmentation,
            _,
            _,
            _,
            _,
            start,
            start_high,
            offset,
            offset_high,
            ..,
        ] = header;
        let Some(bytes) = bytes.filter(|_| segmentation == 0) else {
            return Ok(None);
        };
        let mut frame = vec![0; bytes];
        chain.read_at(ram, HEADER_BYTES as u64, &mut frame)?;
        if flags & NEEDS_CHECKSUM != 0 && features & bit::CSUM != 0 {
            let start = u16::from_le_bytes([start, start_high]).into();
            let offset = u16::from_le_bytes([offset, offset_high]).into();
            if !checksum::fill_in(&mut frame, start, offset) {
                return Ok(None);
            }
        }
        Ok(Some(frame))
    }
}

/// Puts `frame` into the driver's buffers. Returns whether it is done with:
/// not if there are too few buffers, and then they stay where they are. Where
/// all that a driver can offer is too little, the frame is dropped.
fn deliver(frame: &[u8], features: u64, queue: &mut Queue, ram: &Ram) -> Result<bool, Broken> {
    let needed = HEADER_BYTES as u64 + frame.len() as u64;
    let count_max = if features & bit::MRG_RXBUF != 0 {
        queue.size()
    } else {
        1
    };
    let mut chains = Vec::new();
    let mut room = 0;
    while room < needed {
        let count = chains.len() as u16;
        if count == count_max {
            queue.put_back(count);
            return Ok(true);
        }
        let Some(chain) = queue.pop(ram)? else {
            queue.put_back(count);
            return Ok(false);
        };
        room += chain.writable_bytes();
        chains.push(chain);
    }
    let is_valid = features & bit::GUEST_CSUM != 0 && checksum::is_right(frame);
    let mut header = [0; HEADER_BYTES];
    header[0] = if is_valid { CHECKSUM_IS_VALID } else { 0 };
    header[10..].copy_from_slice(&(chains.len() as u16).to_le_bytes());
    let mut rest = frame;
    for (number, chain) in chains.iter().enumerate() {
        let mut written = 0;
        if number == 0 {
            written = chain.write_at(ram, 0, &header)?;
            if written < HEADER_BYTES {
                return Err(Broken::RequestLayout);
            }
        }
        let count = chain.write_at(ram, written as u64, rest)?;
        rest = &rest[count..];
        queue.push(ram, chain, (written + count) as u32)?;
    }
    Ok(true)
}

impl Function for Net {
    type State = NetState;

    const DEVICE_ID: u32 = 1;
    const QUEUE_SIZES: &'static [u16] = &[QUEUE_SIZE, QUEUE_SIZE];

    fn features(&self) -> u64 {
        bit::CSUM | bit::GUEST_CSUM | bit::MTU | bit::MAC | bit::MRG_RXBUF | bit::STATUS
    }

    /// `struct virtio_net_config` (virtio 1.1, 5.1.4).
    fn config(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12);
        bytes.extend(self.mac);
        bytes.extend(u16::from(self.is_up).to_le_bytes());
        // Pairs of queues: a feature that is not offered.
        bytes.extend([0, 0]);
        bytes.extend(self.mtu.to_le_bytes());
        bytes
    }

    fn write_config(&mut self, _: u64, _: u8) {}

    fn notified(&mut self, number: usize, queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        if number == RECEIVE {
            self.deliver_waiting(queues, ram)
        } else {
            self.send(queues, ram)
        }
    }

    fn reset(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    fn save(&self) -> NetState {
        let Net {
            mac: _,
            mtu: _,
            is_up,
            waiting,
            waiting_bytes: _,
            sent: _,
        } = self;
        NetState {
            is_up: *is_up,
            waiting: waiting.iter().map(|frame| frame.clone().into()).collect(),
        }
    }

    fn restore(&mut self, state: NetState) -> Result<(), Damaged> {
        let NetState { is_up, waiting } = state;
        let waiting: VecDeque<Vec<u8>> = waiting.into_iter().map(Vec::from).collect();
        let waiting_bytes = waiting.iter().map(Vec::len).sum();
        let is_good = waiting_bytes <= WAITING_BYTES_MAX
            && waiting.iter().all(|frame| self.carries(frame.len()));
        check(is_good, "network card", "the frames that wait")?;
        self.is_up = is_up;
        self.waiting = waiting;
        self.waiting_bytes = waiting_bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
