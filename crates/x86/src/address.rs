//! The kinds of addresses. None turns into another without a translation.

use std::fmt;

/// Bytes in the smallest page.
pub const PAGE_BYTES: u64 = 4096;
/// Keeps the page part of an address.
pub const PAGE_MASK: u64 = !(PAGE_BYTES - 1);

/// A guest-physical address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Physical(pub u64);

/// A guest-linear address: after segmentation, before paging.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Linear(pub u64);

impl Physical {
    /// The page's first byte.
    pub const fn page(self) -> Physical {
        Physical(self.0 & PAGE_MASK)
    }
    /// The page's number.
    pub const fn page_number(self) -> u64 {
        self.0 / PAGE_BYTES
    }
    /// The address `bytes` further, wrapping at 2^64.
    pub const fn plus(self, bytes: u64) -> Physical {
        Physical(self.0.wrapping_add(bytes))
    }
}

impl Linear {
    /// The page's first byte.
    pub const fn page(self) -> Linear {
        Linear(self.0 & PAGE_MASK)
    }
    /// The offset in its page, below [`PAGE_BYTES`].
    pub const fn offset(self) -> u64 {
        self.0 & !PAGE_MASK
    }
    /// The address `bytes` further, wrapping at 2^64.
    pub const fn plus(self, bytes: u64) -> Linear {
        Linear(self.0.wrapping_add(bytes))
    }
    /// Whether it is in the lower half of all addresses, which is user space's.
    pub const fn is_low(self) -> bool {
        self.0 >> 63 == 0
    }
    /// Which half that is: 0 or 1.
    pub const fn half(self) -> usize {
        (self.0 >> 63) as usize
    }
    /// Whether bits 63 to 47 are all equal (48-bit linear addresses).
    pub const fn is_canonical(self) -> bool {
        let high = self.0.cast_signed() >> 47;
        high == 0 || high == -1
    }
}

impl fmt::Debug for Physical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phys {:#x}", self.0)
    }
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear {:#x}", self.0)
    }
}
