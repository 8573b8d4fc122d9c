//! Where a case's memory lies: a handful of pages at fixed linear addresses.
//!
//! Every subject (the silicon's cell, the interpreter's page tables) shows the code under test the
//! same pages with the same rights at the same addresses, all below 4 GiB so that 32-bit code
//! reaches them, and nothing at all elsewhere. Gaps are "not present". What the pages hold before
//! a case's patches is a function of the address, so that no one has to copy it around.

/// Bytes in a page.
pub const PAGE_BYTES: u64 = 4096;

/// First byte of the code pages: user, readable, executable, not writable.
pub const CODE: u64 = 0x1000_0000;
/// First byte of the data pages: user, readable, writable, not executable.
pub const DATA: u64 = 0x2000_0000;
/// First byte of the page that may only be read.
pub const READ_ONLY: u64 = 0x2000_6000;
/// First byte of the stack pages: user, readable, writable, not executable.
pub const STACK: u64 = 0x3000_0000;
/// First byte of the page that may be written and executed, for code that patches itself.
pub const PATCHABLE: u64 = 0x4000_0000;

/// What user code may do with a region. Everything present can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Stores are allowed.
    pub write: bool,
    /// Instruction fetches are allowed.
    pub execute: bool,
}

/// A run of present pages with the same rights; before and after it nothing is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name in `.ins` files.
    pub name: &'static str,
    /// Linear address of its first byte, page-aligned.
    pub start: u64,
    /// How many pages.
    pub pages: u64,
    /// What user code may do.
    pub rights: Rights,
}

impl Region {
    /// Length in bytes.
    pub const fn len_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES
    }

    /// The address after its last byte.
    pub const fn end(&self) -> u64 {
        self.start + self.len_bytes()
    }
}

const fn region(name: &'static str, start: u64, pages: u64, write: bool, execute: bool) -> Region {
    Region {
        name,
        start,
        pages,
        rights: Rights { write, execute },
    }
}

/// All that is present, by rising address.
pub const REGIONS: [Region; 5] = [
    region("code", CODE, 2, false, true),
    region("data", DATA, 4, true, false),
    region("readonly", READ_ONLY, 1, false, false),
    region("stack", STACK, 2, true, false),
    region("patchable", PATCHABLE, 1, true, true),
];

/// Pages in all regions together.
pub const PAGES_TOTAL: u64 = {
    let mut total = 0;
    let mut i = 0;
    while i < REGIONS.len() {
        total += REGIONS[i].pages;
        i += 1;
    }
    total
};

/// Where a stack pointer starts unless a case says otherwise: the middle of the stack pages.
pub const STACK_POINTER: u64 = STACK + PAGE_BYTES;
/// Where code is placed unless a case says otherwise.
pub const CODE_START: u64 = CODE + 0x100;

/// The selectors that the code under test runs with; a subject's descriptor table holds flat
/// user segments at these (they are Linux's).
pub mod selector {
    /// CS of 64-bit code.
    pub const CODE_64: u16 = 0x33;
    /// CS of 32-bit code.
    pub const CODE_32: u16 = 0x23;
    /// SS, DS and ES in both modes.
    pub const FLAT_DATA: u16 = 0x2b;
}

/// The eight bytes that lie at `address` (a multiple of eight) before any patch.
///
/// Code regions hold `int3`, so that running on past a case's code is a breakpoint; the others a
/// mixed-up function of the address, so that a load from a wrong address is noticed.
pub const fn baseline(address: u64) -> u64 {
    if address >= CODE && address < CODE + 2 * PAGE_BYTES || address >= PATCHABLE {
        return 0xcccc_cccc_cccc_cccc;
    }
    crate::random::mix(address)
}

/// Whether every byte of `address..address + len` is present.
pub fn is_present(address: u64, len: u64) -> bool {
    REGIONS
        .iter()
        .any(|r| address >= r.start && address < r.end() && len <= r.end() - address)
}
