//! A disk (virtio 1.1, 5.2).
//!
//! A request is done, and given back, inside the register write that announces
//! it. So no request is ever in flight, the moment of its completion follows
//! from the guest's own course, and a host whose disk is slow makes the guest
//! wait without the guest's knowing: what it reads follows from the contents
//! at the start and from what it wrote since, and is not logged.
//!
//! A host that fails to read or write does not fail the request, because a
//! replay on a host with a good disk would go another way: the request stays
//! undone, and the board stops the machine ([`Block::failure`]).

use memory::Ram;
use minicbor::{Decode, Encode};
use seal::{Digest, Digester};

use super::{Broken, Chain, Function, Queues};
use crate::backing::{Backing, Failed, SECTOR_BYTES};
use crate::device::Damaged;

/// Feature bits (virtio 1.1, 5.2.3).
mod bit {
    pub(super) const SIZE_MAX: u64 = 1 << 1;
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const BLK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const TOPOLOGY: u64 = 1 << 10;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
}

const QUEUE_SIZE: u16 = 128;
/// A request has at most so many buffers of data...
const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// ...of at most so many bytes.
const SEGMENT_BYTES_MAX: u32 = 128 << 10;
/// So a guest can ask for no more than this at a time.
const DATA_BYTES_MAX: u64 = SEGMENTS_MAX as u64 * SEGMENT_BYTES_MAX as u64;
/// Data is moved in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;
/// A discard, and a write of zeros, covers at most 1 GiB in so many ranges.
const ZERO_SECTORS_MAX: u32 = 1 << 21;
const ZERO_RANGES_MAX: u32 = 16;
/// Physical blocks are of 4096 bytes, 2 to the 3rd sectors: what lies on such
/// boundaries costs no reading before writing.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

const HEADER_BYTES: u64 = 16;
const RANGE_BYTES: u64 = 16;
/// Bytes of a serial number.
pub const SERIAL_BYTES: usize = 20;

/// What a request can be (virtio 1.1, 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Read,
    Write,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    Unknown,
}

impl Request {
    fn of(number: u32) -> Request {
        match number {
            0 => Request::Read,
            1 => Request::Write,
            4 => Request::Flush,
            8 => Request::GetId,
            11 => Request::Discard,
            13 => Request::WriteZeroes,
            _ => Request::Unknown,
        }
    }
}

/// The last byte of a request's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok = 0,
    Error = 1,
    Unsupported = 2,
}

/// Why a request was not done.
enum Refusal {
    /// The driver broke the rules.
    Broken(Broken),
    /// The host failed.
    Failed(Failed),
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Refusal {
        Refusal::Broken(broken)
    }
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Refusal {
        Refusal::Failed(failed)
    }
}

/// What a request comes to: its status, and the bytes given to the driver
/// before it.
type Answer = (Status, u64);

const REFUSED: Answer = (Status::Error, 0);
const UNSUPPORTED: Answer = (Status::Unsupported, 0);
const DONE: Answer = (Status::Ok, 0);

/// A disk.
#[derive(Debug)]
pub struct Block {
    backing: Box<dyn Backing>,
    sectors: u64,
    is_read_only: bool,
    serial: [u8; SERIAL_BYTES],
    /// Stands for everything that was written, in order.
    written: Digest,
    failure: Option<Failed>,
    /// Empty between two requests.
    piece: Vec<u8>,
}

/// A [`Block`], saved. Its contents are its backing's business.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the disk's")]
pub struct BlockState {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub written: [u8; 32],
}

impl Block {
    /// A disk with the contents of `backing`. Of `serial`, the first
    /// [`SERIAL_BYTES`] bytes count.
    pub fn new(backing: Box<dyn Backing>, is_read_only: bool, serial: &str) -> Block {
        let mut padded = [0; SERIAL_BYTES];
        padded
            .iter_mut()
            .zip(serial.bytes())
            .for_each(|(to, from)| *to = from);
        Block {
            sectors: backing.sectors(),
            backing,
            is_read_only,
            serial: padded,
            written: Digest::default(),
            failure: None,
            piece: Vec::new(),
        }
    }

    /// Puts `backing`, of the same length, in place of the contents: at the
    /// start, or with a state that was restored. What the guest knows of the
    /// disk, and the digest of what it wrote, stay.
    pub fn insert(&mut self, backing: Box<dyn Backing>) {
        assert_eq!(backing.sectors(), self.sectors, "another disk");
        self.backing = backing;
    }

    /// What the host failed to do, if it did: the machine can't go on.
    pub fn failure(&self) -> Option<&Failed> {
        self.failure.as_ref()
    }

    /// Serves the request in `chain`.
    fn serve(&mut self, chain: &Chain, features: u64, ram: &Ram) -> Result<u32, Refusal> {
        let mut header = [0; HEADER_BYTES as usize];
        let header_bytes = chain.read_at(ram, 0, &mut header)?;
        let room = chain.writable_bytes().checked_sub(1);
        let Some(room) = room.filter(|_| header_bytes == header.len()) else {
            return Err(Broken::RequestLayout.into());
        };
        let [number, _, low, high] = [0, 4, 8, 12].map(|at| word(&header, at));
        let sector = u64::from(high) << 32 | u64::from(low);
        let (status, given) = match Request::of(number) {
            Request::Read => self.read(chain, sector, room, ram)?,
            Request::Write => self.write(chain, sector, ram)?,
            Request::Flush => DONE,
            Request::GetId => (Status::Ok, chain.write_at(ram, 0, self.id(room))? as u64),
            Request::Discard if features & bit::DISCARD != 0 => self.zero(chain, 0, ram)?,
            // Bit 0 of the flags says that room may be given up.
            Request::WriteZeroes if features & bit::WRITE_ZEROES != 0 => {
                self.zero(chain, 1, ram)?
            }
            Request::Discard | Request::WriteZeroes | Request::Unknown => UNSUPPORTED,
        };
        chain.write_at(ram, room, &[status as u8])?;
        Ok((given + 1) as u32)
    }

    /// The serial number, as far as `room` bytes hold it.
    fn id(&self, room: u64) -> &[u8] {
        &self.serial[..room.min(SERIAL_BYTES as u64) as usize]
    }

    /// Where `bytes` bytes from `sector` on begin, in bytes; `None` if they
    /// don't lie on the disk, or are no whole sectors.
    fn place(&self, sector: u64, bytes: u64) -> Option<u64> {
        let end = sector.checked_add(bytes / SECTOR_BYTES)?;
        let lies_inside = end <= self.sectors && bytes.is_multiple_of(SECTOR_BYTES);
        lies_inside.then(|| sector * SECTOR_BYTES)
    }

    fn read(
        &mut self,
        chain: &Chain,
        sector: u64,
        bytes: u64,
        ram: &Ram,
    ) -> Result<Answer, Refusal> {
        let place = self.place(sector, bytes);
        let Some(at) = place.filter(|_| bytes <= DATA_BYTES_MAX) else {
            return Ok(REFUSED);
        };
        let mut piece = std::mem::take(&mut self.piece);
        for (offset, length) in pieces(bytes) {
            piece.resize(length, 0);
            self.backing.read(at + offset, &mut piece)?;
            chain.write_at(ram, offset, &piece)?;
        }
        self.piece = piece;
        Ok((Status::Ok, bytes))
    }

    fn write(&mut self, chain: &Chain, sector: u64, ram: &Ram) -> Result<Answer, Refusal> {
        let bytes = chain.readable_bytes() - HEADER_BYTES;
        let place = self.place(sector, bytes);
        let may = bytes <= DATA_BYTES_MAX && !self.is_read_only;
        let Some(at) = place.filter(|_| may) else {
            return Ok(REFUSED);
        };
        let mut piece = std::mem::take(&mut self.piece);
        for (offset, length) in pieces(bytes) {
            piece.resize(length, 0);
            chain.read_at(ram, HEADER_BYTES + offset, &mut piece)?;
            self.backing.write(at + offset, &piece)?;
            self.note(at + offset, &piece);
        }
        self.piece = piece;
        Ok(DONE)
    }

    /// Discards ranges, or writes zeros: what was discarded reads as zeros
    /// here, so that it is the same in every replay.
    fn zero(&mut self, chain: &Chain, flags_known: u32, ram: &Ram) -> Result<Answer, Refusal> {
        let bytes = chain.readable_bytes() - HEADER_BYTES;
        let count = bytes / RANGE_BYTES;
        let is_list =
            bytes.is_multiple_of(RANGE_BYTES) && (1..=u64::from(ZERO_RANGES_MAX)).contains(&count);
        if !is_list || self.is_read_only {
            return Ok(REFUSED);
        }
        for number in 0..count {
            let mut range = [0; RANGE_BYTES as usize];
            chain.read_at(ram, HEADER_BYTES + number * RANGE_BYTES, &mut range)?;
            let [low, high, sectors, flags] = [0, 4, 8, 12].map(|at| word(&range, at));
            if flags & !flags_known != 0 {
                return Ok(UNSUPPORTED);
            }
            let bytes = u64::from(sectors) * SECTOR_BYTES;
            let place = self.place(u64::from(high) << 32 | u64::from(low), bytes);
            let Some(at) = place.filter(|_| sectors <= ZERO_SECTORS_MAX) else {
                return Ok(REFUSED);
            };
            self.backing.zero(at, bytes)?;
            self.note(at, &bytes.to_le_bytes());
        }
        Ok(DONE)
    }

    /// Takes a write into the digest of all.
    fn note(&mut self, at: u64, bytes: &[u8]) {
        let mut digester = Digester::new();
        digester.feed(&self.written.0);
        digester.feed(&at.to_le_bytes());
        digester.feed(bytes);
        self.written = digester.digest();
    }
}

/// `bytes` in pieces, as (offset, length).
fn pieces(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..bytes)
        .step_by(PIECE_BYTES)
        .map(move |offset| (offset, (bytes - offset).min(PIECE_BYTES as u64) as usize))
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    (u128::from_le_bytes(*bytes) >> (8 * at)) as u32
}

impl Function for Block {
    type State = BlockState;

    const DEVICE_ID: u32 = 2;
    const QUEUE_SIZES: &'static [u16] = &[QUEUE_SIZE];

    fn features(&self) -> u64 {
        let always = bit::SIZE_MAX | bit::SEG_MAX | bit::BLK_SIZE | bit::FLUSH | bit::TOPOLOGY;
        if self.is_read_only {
            always | bit::READ_ONLY
        } else {
            always | bit::DISCARD | bit::WRITE_ZEROES
        }
    }

    /// `struct virtio_blk_config` (virtio 1.1, 5.2.4).
    fn config(&self) -> Vec<u8> {
        let sectors_of_block = 1u32 << PHYSICAL_BLOCK_EXPONENT;
        let mut bytes = Vec::with_capacity(60);
        bytes.extend(self.sectors.to_le_bytes());
        bytes.extend(SEGMENT_BYTES_MAX.to_le_bytes());
        bytes.extend(SEGMENTS_MAX.to_le_bytes());
        // No geometry of cylinders.
        bytes.extend([0; 4]);
        bytes.extend((SECTOR_BYTES as u32).to_le_bytes());
        // Topology: exponent, alignment, least and best size of a request.
        bytes.extend([PHYSICAL_BLOCK_EXPONENT, 0]);
        bytes.extend((sectors_of_block as u16).to_le_bytes());
        bytes.extend(sectors_of_block.to_le_bytes());
        // Write-back, unused, number of queues: features that are not offered.
        bytes.extend([0; 4]);
        bytes.extend(ZERO_SECTORS_MAX.to_le_bytes());
        bytes.extend(ZERO_RANGES_MAX.to_le_bytes());
        bytes.extend(sectors_of_block.to_le_bytes());
        bytes.extend(ZERO_SECTORS_MAX.to_le_bytes());
        bytes.extend(ZERO_RANGES_MAX.to_le_bytes());
        // Writing zeros may give up room.
        bytes.extend([1, 0, 0, 0]);
        bytes
    }

    fn write_config(&mut self, _: u64, _: u8) {}

    fn notified(&mut self, number: usize, queues: &mut Queues, ram: &Ram) -> Result<(), Broken> {
        let features = queues.features();
        let queue = queues.queue(number);
        for _ in 0..queue.waiting(ram)? {
            let Some(chain) = queue.pop(ram)? else { break };
            match self.serve(&chain, features, ram) {
                Ok(written) => queue.push(ram, &chain, written)?,
                Err(Refusal::Broken(broken)) => return Err(broken),
                Err(Refusal::Failed(failed)) => {
                    self.failure = Some(failed);
                    break;
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self) {}

    fn save(&self) -> BlockState {
        let Block {
            backing: _,
            sectors: _,
            is_read_only: _,
            serial: _,
            written,
            failure: _,
            piece: _,
        } = self;
        BlockState { written: written.0 }
    }

    fn restore(&mut self, state: BlockState) -> Result<(), Damaged> {
        let BlockState { written } = state;
        self.written = Digest(written);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
