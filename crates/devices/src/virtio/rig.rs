//! A driver for tests: lays queues out in memory, and hands out buffers.

use memory::Ram;
use x86::Physical;

use super::{Function, Transport};

/// A buffer to be put into a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    at: u64,
    bytes: u32,
    flags: u16,
}

impl Link {
    pub(crate) fn readable(at: u64, bytes: u32) -> Link {
        Link {
            at,
            bytes,
            flags: 0,
        }
    }

    pub(crate) fn writable(at: u64, bytes: u32) -> Link {
        Link {
            at,
            bytes,
            flags: 2,
        }
    }
}

/// 1 MiB of memory with one queue in it.
pub(crate) struct Rig {
    pub(crate) ram: Ram,
    offered: u16,
    taken: u16,
}

impl Rig {
    pub(crate) const SIZE: u16 = 16;
    pub(crate) const DESCRIPTORS: Physical = Physical(0x1000);
    pub(crate) const AVAILABLE: Physical = Physical(0x2000);
    pub(crate) const USED: Physical = Physical(0x3000);

    pub(crate) fn new() -> Rig {
        Rig {
            ram: Ram::new(1 << 20).expect("a small mapping"),
            offered: 0,
            taken: 0,
        }
    }

    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.ram.write(Physical(at), bytes).expect("it is RAM");
    }

    pub(crate) fn get(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        self.ram.read(Physical(at), &mut found).expect("it is RAM");
        found
    }

    pub(crate) fn put_descriptor(&self, index: u16, link: Link, next: Option<u16>) {
        self.put_descriptor_at(Self::DESCRIPTORS.0 + 16 * u64::from(index), link, next);
    }

    fn put_descriptor_at(&self, at: u64, link: Link, next: Option<u16>) {
        let flags = link.flags | u16::from(next.is_some());
        self.put(at, &link.at.to_le_bytes());
        self.put(at + 8, &link.bytes.to_le_bytes());
        self.put(at + 12, &flags.to_le_bytes());
        self.put(at + 14, &next.unwrap_or(0).to_le_bytes());
    }

    /// Puts a chain into the table, from descriptor `first` on.
    pub(crate) fn put_chain(&self, first: u16, links: &[Link]) {
        for (index, link) in (first..).zip(links) {
            let is_last = usize::from(index - first) + 1 == links.len();
            self.put_descriptor(index, *link, (!is_last).then_some(index + 1));
        }
    }

    /// Puts a chain into an indirect table at `table`, and descriptor `index`
    /// that points there.
    pub(crate) fn put_indirect(&self, index: u16, table: u64, links: &[Link]) {
        for (n, link) in (0u16..).zip(links) {
            let is_last = usize::from(n) + 1 == links.len();
            let at = table + 16 * u64::from(n);
            self.put_descriptor_at(at, *link, (!is_last).then_some(n + 1));
        }
        let at = Self::DESCRIPTORS.0 + 16 * u64::from(index);
        self.put_indirect_at(at, table, 16 * links.len() as u32);
    }

    /// Puts a descriptor at `at` that points to an indirect table.
    pub(crate) fn put_indirect_at(&self, at: u64, table: u64, bytes: u32) {
        let link = Link {
            at: table,
            bytes,
            flags: 4,
        };
        self.put_descriptor_at(at, link, None);
    }

    /// Makes a chain of `links` available, always from descriptor 0 on.
    pub(crate) fn offer(&mut self, links: &[Link]) {
        self.offer_chain(0, links);
    }

    /// Makes a chain of `links` available, from descriptor `first` on.
    pub(crate) fn offer_chain(&mut self, first: u16, links: &[Link]) {
        self.put_chain(first, links);
        let place = u64::from(self.offered % Self::SIZE);
        self.put(Self::AVAILABLE.0 + 4 + 2 * place, &first.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        self.put(Self::AVAILABLE.0 + 2, &self.offered.to_le_bytes());
    }

    /// The bytes written into the next chain that came back.
    pub(crate) fn take_used(&mut self) -> Option<u32> {
        if self.get(Self::USED.0 + 2, 2) == self.taken.to_le_bytes() {
            return None;
        }
        let place = u64::from(self.taken % Self::SIZE);
        self.taken = self.taken.wrapping_add(1);
        let element = self.get(Self::USED.0 + 4 + 8 * place, 8);
        Some(u32::from_le_bytes([
            element[4], element[5], element[6], element[7],
        ]))
    }

    /// Sets up `transport` with `features` and the queue as its queue 0.
    pub(crate) fn set_up<F: Function>(&self, transport: &mut Transport<F>, features: u64) {
        self.set_up_queue(transport, features, 0);
    }

    /// Sets up `transport` with `features` and the queue as its queue `number`.
    pub(crate) fn set_up_queue<F: Function>(
        &self,
        transport: &mut Transport<F>,
        features: u64,
        number: u64,
    ) {
        let writes = [
            (0x70, 3),
            (0x24, 0),
            (0x20, features & 0xffff_ffff),
            (0x24, 1),
            (0x20, features >> 32 | 1),
            (0x70, 0xb),
            (0x30, number),
            (0x38, u64::from(Self::SIZE)),
            (0x80, Self::DESCRIPTORS.0),
            (0x90, Self::AVAILABLE.0),
            (0xa0, Self::USED.0),
            (0x44, 1),
            (0x70, 0xf),
        ];
        for (offset, value) in writes {
            transport.write(&self.ram, offset, 4, value);
        }
    }
}
