//! A chain of descriptors: the buffers of one request (virtio 1.1, 2.6.5).
//!
//! Taken from guest memory once, and checked: every buffer in it is RAM. What
//! stands in the buffers is read when it is asked for.

use memory::Ram;
use x86::Physical;

use super::Broken;

/// More descriptors than any driver puts into one chain; those of an indirect
/// table count.
const DESCRIPTORS_MAX: usize = 1024;
/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_BYTES: u64 = 16;

/// Flags of a descriptor.
mod flag {
    pub(super) const NEXT: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const INDIRECT: u16 = 4;
}

/// A buffer of the guest's, in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffer {
    at: Physical,
    bytes: u64,
}

/// The buffers of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub(super) head: u16,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
}

/// A table of descriptors in guest memory.
#[derive(Clone, Copy, Debug)]
struct Table {
    at: Physical,
    count: u64,
}

/// A descriptor, copied.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    at: Physical,
    bytes: u32,
    flags: u16,
    next: u16,
}

impl Table {
    fn descriptor(self, ram: &Ram, index: u16) -> Result<Descriptor, Broken> {
        if u64::from(index) >= self.count {
            return Err(Broken::DescriptorIndex);
        }
        let mut bytes = [0; 16];
        let offset = DESCRIPTOR_BYTES * u64::from(index);
        ram.read(Physical(self.at.0 + offset), &mut bytes)?;
        let whole = u128::from_le_bytes(bytes);
        Ok(Descriptor {
            at: Physical(whole as u64),
            bytes: (whole >> 64) as u32,
            flags: (whole >> 96) as u16,
            next: (whole >> 112) as u16,
        })
    }
}

impl Chain {
    /// The chain that begins with descriptor `head` of the table of `count`
    /// descriptors at `table`.
    pub(super) fn read(
        ram: &Ram,
        table: Physical,
        count: u16,
        head: u16,
        has_indirect: bool,
    ) -> Result<Chain, Broken> {
        let mut chain = Chain {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut table = Table {
            at: table,
            count: count.into(),
        };
        let mut is_direct = true;
        let mut index = head;
        for _ in 0..DESCRIPTORS_MAX {
            let descriptor = table.descriptor(ram, index)?;
            if descriptor.flags & flag::INDIRECT != 0 {
                // One level, and the end of the chain (2.6.5.3.1).
                if !has_indirect || !is_direct || descriptor.flags & flag::NEXT != 0 {
                    return Err(Broken::IndirectTable);
                }
                table = indirect(ram, descriptor)?;
                is_direct = false;
                index = 0;
                continue;
            }
            chain.add(ram, descriptor)?;
            if descriptor.flags & flag::NEXT == 0 {
                return chain.bounded();
            }
            index = descriptor.next;
        }
        Err(Broken::ChainLength)
    }

    fn add(&mut self, ram: &Ram, descriptor: Descriptor) -> Result<(), Broken> {
        let buffer = Buffer {
            at: descriptor.at,
            bytes: descriptor.bytes.into(),
        };
        if !ram.holds(buffer.at, buffer.bytes) {
            return Err(Broken::BufferAddress);
        }
        if descriptor.flags & flag::WRITE != 0 {
            self.writable.push(buffer);
        } else if self.writable.is_empty() {
            self.readable.push(buffer);
        } else {
            return Err(Broken::BufferOrder);
        }
        Ok(())
    }

    /// No more than 4 GiB in all (2.6.5.2).
    fn bounded(self) -> Result<Chain, Broken> {
        let bytes = self.readable_bytes() + self.writable_bytes();
        if bytes > u32::MAX.into() {
            return Err(Broken::ChainLength);
        }
        Ok(self)
    }

    /// How many bytes the driver gives the device.
    pub fn readable_bytes(&self) -> u64 {
        self.readable.iter().map(|buffer| buffer.bytes).sum()
    }

    /// How many bytes the device may give the driver.
    pub fn writable_bytes(&self) -> u64 {
        self.writable.iter().map(|buffer| buffer.bytes).sum()
    }

    /// Copies what the driver gives, from byte `offset` on, into `into`.
    /// Returns how many bytes there were.
    pub fn read_at(&self, ram: &Ram, offset: u64, into: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for piece in pieces(&self.readable, offset, into.len() as u64) {
            let end = done + piece.bytes as usize;
            ram.read(piece.at, &mut into[done..end])?;
            done = end;
        }
        Ok(done)
    }

    /// Copies `bytes` to the driver's buffers, from byte `offset` of them on.
    /// Returns how many bytes there was room for.
    pub fn write_at(&self, ram: &Ram, offset: u64, bytes: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for piece in pieces(&self.writable, offset, bytes.len() as u64) {
            let end = done + piece.bytes as usize;
            ram.write(piece.at, &bytes[done..end])?;
            done = end;
        }
        Ok(done)
    }
}

/// The table that an indirect descriptor points to.
fn indirect(ram: &Ram, descriptor: Descriptor) -> Result<Table, Broken> {
    let bytes = u64::from(descriptor.bytes);
    let is_possible = bytes > 0
        && bytes.is_multiple_of(DESCRIPTOR_BYTES)
        && bytes <= DESCRIPTOR_BYTES * DESCRIPTORS_MAX as u64
        && ram.holds(descriptor.at, bytes);
    if !is_possible {
        return Err(Broken::IndirectTable);
    }
    Ok(Table {
        at: descriptor.at,
        count: bytes / DESCRIPTOR_BYTES,
    })
}

/// The parts of `buffers` that make up the `bytes` from `offset` on, as far as
/// they reach.
fn pieces(buffers: &[Buffer], offset: u64, bytes: u64) -> impl Iterator<Item = Buffer> + '_ {
    let end = offset.saturating_add(bytes);
    let mut start = 0;
    buffers.iter().filter_map(move |buffer| {
        let (first, last) = (start, start + buffer.bytes);
        start = last;
        let (from, to) = (first.max(offset), last.min(end));
        (from < to).then(|| Buffer {
            at: Physical(buffer.at.0 + (from - first)),
            bytes: to - from,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Link, Rig};
    use super::*;

    fn chain(links: &[Link]) -> (Rig, Result<Chain, Broken>) {
        let rig = Rig::new();
        rig.put_chain(0, links);
        let chain = Chain::read(&rig.ram, Rig::DESCRIPTORS, Rig::SIZE, 0, true);
        (rig, chain)
    }

    #[test]
    fn buffers_are_read_and_written_as_one() {
        let links = [
            Link::readable(0x8000, 3),
            Link::readable(0x9000, 5),
            Link::writable(0xa000, 2),
            Link::writable(0xb000, 0),
            Link::writable(0xc000, 4),
        ];
        let (rig, chain) = chain(&links);
        let chain = chain.expect("a good chain");
        rig.put(0x8000, b"abc");
        rig.put(0x9000, b"defgh");
        let mut bytes = [0; 10];
        assert_eq!(chain.read_at(&rig.ram, 2, &mut bytes), Ok(6));
        assert_eq!(&bytes[..6], b"cdefgh");
        assert_eq!(chain.write_at(&rig.ram, 1, b"vwxyz!!"), Ok(5));
        assert_eq!(rig.get(0xa000, 2), b"\0v");
        assert_eq!(rig.get(0xc000, 5), b"wxyz\0");
        assert_eq!(chain.writable_bytes(), 6);
    }

    #[test]
    fn a_ring_of_descriptors_is_broken() {
        let rig = Rig::new();
        rig.put_descriptor(0, Link::readable(0x8000, 1), Some(1));
        rig.put_descriptor(1, Link::readable(0x8000, 1), Some(0));
        let chain = Chain::read(&rig.ram, Rig::DESCRIPTORS, Rig::SIZE, 0, true);
        assert_eq!(chain, Err(Broken::ChainLength));
    }

    #[test]
    fn a_buffer_outside_of_ram_is_broken() {
        for (at, bytes) in [(u64::MAX, 1), ((1 << 20) - 1, 2), (3 << 30, 0x1000)] {
            assert_eq!(
                chain(&[Link::readable(at, bytes)]).1,
                Err(Broken::BufferAddress)
            );
        }
    }

    #[test]
    fn what_the_driver_gives_comes_first() {
        let links = [Link::writable(0x8000, 1), Link::readable(0x9000, 1)];
        assert_eq!(chain(&links).1, Err(Broken::BufferOrder));
    }

    #[test]
    fn an_indirect_table_is_followed_and_has_no_tables_in_it() {
        let rig = Rig::new();
        rig.put_indirect(0, 0x9000, &[Link::readable(0x8000, 7)]);
        let read = |has| Chain::read(&rig.ram, Rig::DESCRIPTORS, Rig::SIZE, 0, has);
        assert_eq!(read(true).map(|chain| chain.readable_bytes()), Ok(7));
        assert_eq!(read(false), Err(Broken::IndirectTable));
        rig.put_indirect_at(0x9000, 0x9100, 16);
        assert_eq!(read(true), Err(Broken::IndirectTable));
    }

    #[test]
    fn an_index_beyond_the_table_is_broken() {
        let rig = Rig::new();
        rig.put_descriptor(0, Link::readable(0x8000, 1), Some(Rig::SIZE));
        let chain = Chain::read(&rig.ram, Rig::DESCRIPTORS, Rig::SIZE, 0, true);
        assert_eq!(chain, Err(Broken::DescriptorIndex));
    }
}
