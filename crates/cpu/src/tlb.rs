//! The soft TLB: recent translations, looked up before every access to memory.
//!
//! The law: it is architecturally invisible. Whatever it holds, an access
//! gives what a walk of the page tables would give now. Pages that a walk read
//! are watched (`memory::flag::TABLE`), and a store to one drops what was
//! derived from it. So engines may differ in what they keep here, and a replay
//! cannot tell.

use x86::{Linear, PAGE_BYTES, PAGE_MASK, Physical};

/// Whose rights an access has; each has its own part of the TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Privilege level 0 to 2, user pages closed by SMAP (where it is on).
    Supervisor = 0,
    /// Privilege level 3.
    User = 1,
    /// Privilege level 0 to 2 while EFLAGS.AC opens user pages.
    SupervisorAc = 2,
    /// Privilege level 3 while EFLAGS.AC and CR0.AM ask for alignment checks:
    /// data is never entered here, so that every access is checked.
    UserAc = 3,
}

impl Space {
    /// Whether accesses are made with the rights of privilege level 3.
    pub const fn is_user(self) -> bool {
        matches!(self, Space::User | Space::UserAc)
    }
}

const SPACES: usize = 4;
const ENTRIES: usize = 1 << 10;

/// One translation. A tag is the linear page's address, or [`NONE`].
#[derive(Clone, Copy, Debug)]
struct Entry {
    read: u64,
    write: u64,
    fetch: u64,
    /// Physical minus linear, modulo 2^64.
    delta: u64,
}

/// Equal to no page's address.
const NONE: u64 = 1;
const EMPTY: Entry = Entry {
    read: NONE,
    write: NONE,
    fetch: NONE,
    delta: 0,
};

/// Whether a page lies in the lower half of all linear addresses.
const fn is_low(page: u64) -> bool {
    page >> 63 == 0
}

/// What a translation may be used for without another look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// Loads.
    pub read: bool,
    /// Stores: the page is writable, dirty in every sense, and not watched.
    pub write: bool,
    /// Instruction fetches.
    pub fetch: bool,
}

/// What the soft TLB knows of a page: see [`Tlb::known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where the page lies.
    pub page: Physical,
    /// Loads need no other look.
    pub read: bool,
    /// Stores need no other look.
    pub write: bool,
}

/// What was dropped from the soft TLB, for an engine that keeps copies of its
/// entries: a copy that this covers is no longer good. It may cover more than
/// was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Everything.
    pub all: bool,
    /// What is known of the lower half of all linear addresses.
    pub low: bool,
    /// Every leave to store.
    pub writes: bool,
    /// What is known of the pages in these ranges: the first page, and the
    /// length in bytes.
    pub ranges: Vec<(Linear, u64)>,
    /// Every leave to store to these pages.
    pub writes_to: Vec<Physical>,
}

/// Ranges and pages told one by one at most; more are told as a half, or as
/// everything.
const DROPPED_MAX: usize = 64;

impl Dropped {
    fn add_range(&mut self, start: Linear, bytes: u64) {
        let covered = self.all || self.low && is_low(start.0);
        if covered {
            return;
        }
        if self.ranges.len() < DROPPED_MAX {
            self.ranges.push((start.page(), bytes));
            return;
        }
        self.low = true;
        self.all |= !is_low(start.0) || self.ranges.iter().any(|(start, _)| !is_low(start.0));
        self.ranges.clear();
    }

    fn add_writes_to(&mut self, page: Physical) {
        if self.writes_to.len() >= DROPPED_MAX {
            self.writes = true;
            self.writes_to.clear();
        } else if !self.writes {
            self.writes_to.push(page);
        }
    }
}

/// The soft TLB. Only RAM is ever entered.
#[derive(Debug)]
pub struct Tlb {
    entries: Box<[Entry; SPACES * ENTRIES]>,
    /// Whether a space's part may hold pages of the lower half.
    has_low: [bool; SPACES],
    /// Since [`Tlb::take_dropped`] was last called; bounded, for an engine that
    /// never does.
    dropped: Dropped,
    has_dropped: bool,
}

impl Default for Tlb {
    fn default() -> Self {
        Self::new()
    }
}

impl Tlb {
    /// Nothing known.
    pub fn new() -> Tlb {
        let entries = vec![EMPTY; SPACES * ENTRIES].into_boxed_slice();
        Tlb {
            entries: entries.try_into().expect("the length is the type's"),
            has_low: [false; SPACES],
            dropped: Dropped::default(),
            has_dropped: false,
        }
    }

    /// What is known of `at`'s page, where that is more than instruction
    /// fetches.
    pub fn known(&self, space: Space, at: Linear) -> Option<Known> {
        let entry = &self.entries[Self::index(space, at)];
        let page = at.page().0;
        let (read, write) = (entry.read == page, entry.write == page);
        (read || write).then(|| Known {
            page: Physical(page.wrapping_add(entry.delta)),
            read,
            write,
        })
    }

    /// Whether anything was dropped since [`Tlb::take_dropped`] was last called.
    #[inline(always)]
    pub fn has_dropped(&self) -> bool {
        self.has_dropped
    }

    /// What was dropped since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        self.has_dropped = false;
        std::mem::take(&mut self.dropped)
    }

    fn note(&mut self, note: impl FnOnce(&mut Dropped)) {
        self.has_dropped = true;
        note(&mut self.dropped);
    }

    #[inline(always)]
    fn index(space: Space, at: Linear) -> usize {
        // The conversion keeps the low bits, which are all that is used.
        (space as usize * ENTRIES) | ((at.0 >> 12) as usize & (ENTRIES - 1))
    }

    #[inline(always)]
    fn hit(
        &self,
        space: Space,
        at: Linear,
        bytes: u64,
        tag: impl Fn(&Entry) -> u64,
    ) -> Option<Physical> {
        let entry = &self.entries[Self::index(space, at)];
        // The page of the last byte: an access that leaves its page never hits,
        // because the entry's index is that of the first byte.
        let page = at.0.wrapping_add(bytes - 1) & PAGE_MASK;
        (tag(entry) == page).then(|| Physical(at.0.wrapping_add(entry.delta)))
    }

    /// Where `bytes` bytes at `at` may be loaded from.
    #[inline(always)]
    pub fn read(&self, space: Space, at: Linear, bytes: u64) -> Option<Physical> {
        self.hit(space, at, bytes, |entry| entry.read)
    }

    /// Where `bytes` bytes at `at` may be stored to.
    #[inline(always)]
    pub fn write(&self, space: Space, at: Linear, bytes: u64) -> Option<Physical> {
        self.hit(space, at, bytes, |entry| entry.write)
    }

    /// Where the instruction byte at `at` lies.
    #[inline(always)]
    pub fn fetch(&self, space: Space, at: Linear) -> Option<Physical> {
        self.hit(space, at, 1, |entry| entry.fetch)
    }

    /// Enters the translation of `linear`'s page to `physical`'s page of RAM.
    /// Rights that an entry for the same translation has already are kept.
    pub(crate) fn enter(&mut self, space: Space, linear: Linear, physical: Physical, leave: Leave) {
        let page = linear.page().0;
        let delta = physical.page().0.wrapping_sub(page);
        self.has_low[space as usize] |= is_low(page);
        let entry = &mut self.entries[Self::index(space, linear)];
        let same = entry.delta == delta && [entry.read, entry.write, entry.fetch].contains(&page);
        let kept = if same {
            *entry
        } else {
            Entry { delta, ..EMPTY }
        };
        let tag = |granted: bool, before: u64| if granted { page } else { before };
        *entry = Entry {
            read: tag(leave.read, kept.read),
            write: tag(leave.write, kept.write),
            fetch: tag(leave.fetch, kept.fetch),
            delta,
        };
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.note(|dropped| dropped.all = true);
        self.entries.fill(EMPTY);
        self.has_low = [false; SPACES];
    }

    /// Drops what is known of the lower half of all linear addresses.
    pub(crate) fn flush_low(&mut self) {
        self.note(|dropped| dropped.low = true);
        let parts = self.entries.chunks_exact_mut(ENTRIES);
        for (part, has_low) in parts.zip(&mut self.has_low) {
            if std::mem::take(has_low) {
                // An empty entry's tags are low too; it stays empty.
                part.iter_mut()
                    .filter(|entry| is_low(entry.read | entry.write | entry.fetch))
                    .for_each(|entry| *entry = EMPTY);
            }
        }
    }

    /// Drops what is known of `linear`'s page.
    pub fn flush_page(&mut self, linear: Linear) {
        self.note(|dropped| dropped.add_range(linear, PAGE_BYTES));
        for space in 0..SPACES {
            self.entries[(space * ENTRIES) | Self::index(Space::Supervisor, linear)] = EMPTY;
        }
    }

    /// Drops what is known of the pages in `start..start + bytes`.
    pub fn flush_range(&mut self, start: Linear, bytes: u64) {
        self.note(|dropped| dropped.add_range(start, bytes));
        let inside = |tag: u64| tag != NONE && tag.wrapping_sub(start.0) < bytes;
        for entry in self.entries.iter_mut() {
            if inside(entry.read) || inside(entry.write) || inside(entry.fetch) {
                *entry = EMPTY;
            }
        }
    }

    /// Takes back every leave to store, so that the next store to each page
    /// is seen again.
    pub fn flush_writes(&mut self) {
        self.note(|dropped| dropped.writes = true);
        self.entries.iter_mut().for_each(|entry| entry.write = NONE);
    }

    /// Takes back every leave to store to `physical`'s page.
    pub fn flush_writes_to(&mut self, physical: Physical) {
        self.note(|dropped| dropped.add_writes_to(physical.page()));
        let page = physical.page().0;
        for entry in self.entries.iter_mut() {
            if entry.write != NONE && entry.write.wrapping_add(entry.delta) == page {
                entry.write = NONE;
            }
        }
    }
}
