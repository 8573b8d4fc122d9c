//! Segment registers with their hidden parts (SDM volume 3A, 3.4.3).

use x86::Linear;

/// A segment register: the selector and what was loaded with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// Linear address of offset 0.
    pub base: u64,
    /// Last valid offset (first invalid minus one), in bytes.
    pub limit: u32,
    /// Access rights in the layout of a descriptor's bytes 5 and 6 (SDM volume
    /// 3C, table 25-2): type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15.
    pub rights: u16,
}

/// Bits of [`Segment::rights`].
pub mod rights {
    #![expect(missing_docs, reason = "the names are the manual's")]
    pub const ACCESSED: u16 = 1 << 0;
    /// Data: writable. Code: readable.
    pub const RW: u16 = 1 << 1;
    /// Data: expand-down. Code: conforming.
    pub const DC: u16 = 1 << 2;
    pub const CODE: u16 = 1 << 3;
    pub const S: u16 = 1 << 4;
    pub const DPL: u16 = 3 << 5;
    pub const P: u16 = 1 << 7;
    pub const AVL: u16 = 1 << 12;
    pub const L: u16 = 1 << 13;
    pub const DB: u16 = 1 << 14;
    pub const G: u16 = 1 << 15;
}

impl Segment {
    /// Whether all of `bits` of the rights are set.
    pub const fn has(&self, bits: u16) -> bool {
        self.rights & bits == bits
    }

    /// The descriptor's privilege level, 0 to 3.
    pub const fn dpl(&self) -> u8 {
        (self.rights >> 5 & 3) as u8
    }

    /// The base's and limit's part in the descriptor tables GDTR and IDTR.
    pub const fn table(base: u64, limit: u32) -> Segment {
        Segment {
            selector: 0,
            base,
            limit,
            rights: 0,
        }
    }

    /// Whether the segment spans all 4 GiB and any access of its kind is
    /// within: no limit need be looked at.
    pub const fn is_whole(&self) -> bool {
        self.limit == u32::MAX && (self.has(rights::CODE) || !self.has(rights::S | rights::DC))
    }

    /// The linear address of `bytes` at `offset`, with the checks of everything
    /// outside of 64-bit mode (SDM volume 3A, 5.3 and 5.5); `None` where the
    /// segment is unusable, of the wrong kind for the access, or ends.
    pub(crate) fn linear(&self, offset: u64, bytes: u64, write: bool) -> Option<Linear> {
        let is_code = self.has(rights::CODE);
        let allowed = if write {
            !is_code && self.has(rights::RW)
        } else {
            !is_code || self.has(rights::RW)
        };
        if !self.has(rights::S | rights::P) || !allowed {
            return None;
        }
        let last = offset + (bytes - 1);
        let within = if self.is_whole() {
            // Even the widest segment ends at 4 GiB: accesses don't wrap.
            last <= 0xffff_ffff
        } else if !is_code && self.has(rights::DC) {
            let top = if self.has(rights::DB) {
                0xffff_ffff
            } else {
                0xffff
            };
            offset > u64::from(self.limit) && last <= top
        } else {
            last <= u64::from(self.limit)
        };
        within.then(|| Linear(self.base.wrapping_add(offset) & 0xffff_ffff))
    }
}
