//! The soft TLB: recent translations, looked up before every access to memory.
//!
//! The law: it is architecturally invisible. Whatever it holds, an access
//! gives what a walk of the page tables would give now. Pages that a walk read
//! are watched (`memory::flag::TABLE`), and a store to one drops what was
//! derived from it. So engines may differ in what they keep here, and a replay
//! cannot tell.

use x86::{Linear, PAGE_BYTES, Physical};
use zerocopy::FromZeros;

use crate::by_page::ByPage;
use crate::marks::Marks;

/// Whose rights an access has; each has its own part of the TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// By their numbers.
    const ALL: [Space; SPACES] = [
        Space::Supervisor,
        Space::User,
        Space::SupervisorAc,
        Space::UserAc,
    ];

    /// Whether accesses are made with the rights of privilege level 3.
    pub const fn is_user(self) -> bool {
        matches!(self, Space::User | Space::UserAc)
    }
}

const SPACES: usize = 4;
/// Entries of a space, a power of two: with pages of 4 KiB, 512 MiB. The host
/// gives memory only for those that are used.
const ENTRIES: usize = 1 << 17;

/// One translation. A tag is [`tag`] of the linear page, or [`NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
struct Entry {
    read: u64,
    write: u64,
    fetch: u64,
    /// Physical minus linear, modulo 2^64.
    delta: u64,
}

/// No page's tag.
const NONE: u64 = 0;
/// Zeros, which a new table is made of.
const EMPTY: Entry = Entry {
    read: NONE,
    write: NONE,
    fetch: NONE,
    delta: 0,
};

/// The tag of `at`'s page.
#[inline(always)]
fn tag(at: Linear) -> u64 {
    at.page().0 | 1
}

impl Entry {
    /// Where the page lies that may be stored to.
    fn written(&self) -> Option<Physical> {
        (self.write != NONE).then(|| Physical(self.write.wrapping_add(self.delta)).page())
    }

    /// The linear page; of an empty entry page 0.
    fn linear(&self) -> Linear {
        Linear(self.read | self.write | self.fetch).page()
    }
}

/// What was known of the lower half of an address space when it was left.
#[derive(Debug, Default)]
pub(crate) struct LowHalf(Vec<Kept>);

/// An entry out of the table.
#[derive(Clone, Copy, Debug)]
struct Kept {
    index: u32,
    /// How often the address space was entered since a walk found this.
    visits: u8,
    entry: Entry,
}

/// Nobody sees whether an entry is used. So that those that aren't don't go in and
/// out for ever, an entry is kept for so many visits, and then found again by a walk.
const VISITS_MAX: u8 = 16;
/// Of more entries none is kept.
const KEPT_MAX: usize = 1 << 11;

/// [`Linear::half`] of the lower half.
const LOW: usize = 0;

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
    /// The same, as another address space is current ([`crate::Cpu::address_space`]).
    /// Ranges in the lower half are the new one's then. What was kept of it is known
    /// again: see [`Tlb::returned`].
    pub left: bool,
    /// Every leave to store to pages that may not be stored to without another look
    /// ([`crate::is_storable`]).
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
    /// Whether it covers the whole lower half, for whichever reason.
    pub fn covers_low(&self) -> bool {
        self.all || self.low || self.left
    }

    fn add_range(&mut self, start: Linear, bytes: u64) {
        let covered = self.all || self.low && start.is_low();
        if covered {
            return;
        }
        if self.ranges.len() < DROPPED_MAX {
            self.ranges.push((start.page(), bytes));
            return;
        }
        self.low = true;
        self.all |= !start.is_low() || self.ranges.iter().any(|(start, _)| !start.is_low());
        self.ranges.clear();
    }

    /// Whether anything in the lower half was dropped and its address space isn't
    /// left.
    fn has_low(&self) -> bool {
        self.low || self.ranges.iter().any(|(start, _)| start.is_low())
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
    /// The entries that pages of the lower half were entered in, and those of
    /// the upper. Some hold others by now.
    filled: [Marks; 2],
    /// The entries that may be stored through.
    writable: ByPage,
    /// What was known already when the current address space was entered last.
    returned: Vec<Kept>,
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
        let entries = Entry::new_vec_zeroed(SPACES * ENTRIES).expect("there is memory");
        let entries = entries.into_boxed_slice();
        Tlb {
            entries: entries.try_into().expect("the length is the type's"),
            filled: [(); 2].map(|()| Marks::new(SPACES * ENTRIES)),
            writable: ByPage::default(),
            returned: Vec::new(),
            dropped: Dropped::default(),
            has_dropped: false,
        }
    }

    /// What is known of `at`'s page, where that is more than instruction
    /// fetches.
    pub fn known(&self, space: Space, at: Linear) -> Option<Known> {
        let entry = &self.entries[Self::index(space, at)];
        let (read, write) = (entry.read == tag(at), entry.write == tag(at));
        (read || write).then(|| Known {
            page: Physical(at.page().0.wrapping_add(entry.delta)),
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
        tag_of: impl Fn(&Entry) -> u64,
    ) -> Option<Physical> {
        let entry = &self.entries[Self::index(space, at)];
        // The page of the last byte: an access that leaves its page never hits,
        // because the entry's index is that of the first byte.
        let last = tag(at.plus(bytes - 1));
        (tag_of(entry) == last).then(|| Physical(at.0.wrapping_add(entry.delta)))
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
        let page = tag(linear);
        let delta = physical.page().0.wrapping_sub(linear.page().0);
        let index = Self::index(space, linear);
        let entry = &mut self.entries[index];
        let same = entry.delta == delta && [entry.read, entry.write, entry.fetch].contains(&page);
        if !same {
            self.filled[linear.half()].mark(index);
        }
        let is_new = leave.write && !(same && entry.write == page);
        let kept = if same {
            *entry
        } else {
            Entry { delta, ..EMPTY }
        };
        let either = |granted: bool, before: u64| if granted { page } else { before };
        *entry = Entry {
            read: either(leave.read, kept.read),
            write: either(leave.write, kept.write),
            fetch: either(leave.fetch, kept.fetch),
            delta,
        };
        if is_new {
            let entries = &self.entries;
            self.writable.add(physical, index as u32, |number| {
                entries[number as usize].written()
            });
        }
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.note(|dropped| dropped.all = true);
        for filled in &mut self.filled {
            filled.retain(0..SPACES * ENTRIES, |n| {
                self.entries[n] = EMPTY;
                false
            });
        }
        self.writable.clear();
        self.returned.clear();
    }

    /// Drops what is known of the lower half of all linear addresses; returns what
    /// of it had better be kept. `None`: nothing is to be kept of the address space,
    /// since something was dropped of it that nobody has taken.
    pub(crate) fn take_low(&mut self) -> Option<LowHalf> {
        let untold = self.dropped.has_low();
        self.note(|dropped| dropped.left = true);
        let mut returned = std::mem::take(&mut self.returned).into_iter().peekable();
        let mut low = Vec::new();
        self.filled[LOW].retain(0..SPACES * ENTRIES, |n| {
            let entry = &mut self.entries[n];
            // An empty entry's page is low too.
            if *entry == EMPTY || !entry.linear().is_low() {
                return false;
            }
            let index = n as u32;
            while returned.next_if(|kept| kept.index < index).is_some() {}
            let same = returned.next_if(|kept| kept.index == index && kept.entry == *entry);
            let visits = same.map_or(0, |kept| kept.visits + 1);
            let entry = std::mem::replace(entry, EMPTY);
            if visits < VISITS_MAX && low.len() <= KEPT_MAX {
                low.push(Kept {
                    index,
                    visits,
                    entry,
                });
            }
            false
        });
        if low.len() > KEPT_MAX {
            low.clear();
        }
        (!untold).then_some(LowHalf(low))
    }

    /// Enters what was known of the address space that is current now, after
    /// [`Tlb::take_low`]. `storable`: whether a page of RAM may be stored to without
    /// another look.
    pub(crate) fn put_low(&mut self, low: LowHalf, storable: impl Fn(Physical) -> bool) {
        self.returned = low.0;
        for kept in &mut self.returned {
            let entry = &mut kept.entry;
            if let Some(page) = entry.written() {
                if storable(page) {
                    let entries = &self.entries;
                    self.writable
                        .add(page, kept.index, |n| entries[n as usize].written());
                } else {
                    entry.write = NONE;
                }
            }
            self.entries[kept.index as usize] = *entry;
            self.filled[LOW].mark(kept.index as usize);
        }
    }

    /// The pages of which something was known already when the current address space
    /// was entered last.
    pub fn returned(&self) -> impl Iterator<Item = (Space, Linear)> {
        self.returned.iter().map(|kept| {
            let space = Space::ALL[kept.index as usize / ENTRIES];
            (space, kept.entry.linear())
        })
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
        let first = Self::index(Space::Supervisor, start);
        let count = usize::try_from(bytes / PAGE_BYTES).unwrap_or(ENTRIES);
        self.filled[start.half()].retain_in_each(ENTRIES, first, count, |n| {
            let entry = &mut self.entries[n];
            let goes = inside(entry.read) || inside(entry.write) || inside(entry.fetch);
            if goes {
                *entry = EMPTY;
            }
            !goes
        });
    }

    /// Takes back every leave to store to a page that isn't `storable` now, so that
    /// the next store to each is seen again.
    pub fn flush_writes(&mut self, storable: impl Fn(Physical) -> bool) {
        self.note(|dropped| dropped.writes = true);
        for filled in &mut self.filled {
            filled.retain(0..SPACES * ENTRIES, |n| {
                let entry = &mut self.entries[n];
                if entry.written().is_some_and(|page| !storable(page)) {
                    entry.write = NONE;
                }
                true
            });
        }
    }

    /// Takes back every leave to store to `physical`'s page.
    pub fn flush_writes_to(&mut self, physical: Physical) {
        self.note(|dropped| dropped.add_writes_to(physical.page()));
        for &index in self.writable.of(physical) {
            let entry = &mut self.entries[index as usize];
            if entry.written() == Some(physical.page()) {
                entry.write = NONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Leave = Leave {
        read: true,
        write: true,
        fetch: false,
    };

    /// More pages than any list holds, all stored to through one physical page
    /// after the other, over and over.
    #[test]
    fn every_leave_to_store_to_a_page_is_taken_back() {
        let mut tlb = Tlb::new();
        let page = |n: u64| Linear(n * PAGE_BYTES);
        let physical = |n: u64| Physical(n % 3 * 4096 * PAGE_BYTES);
        for _ in 0..4 {
            for n in 0..100 {
                tlb.enter(Space::User, page(n), physical(n), ALL);
            }
            tlb.flush_writes_to(physical(1));
            for n in 0..100 {
                let granted = tlb.write(Space::User, page(n), 8).is_some();
                assert_eq!(granted, n % 3 != 1, "{n}");
                assert!(tlb.read(Space::User, page(n), 8).is_some());
            }
        }
    }

    #[test]
    fn the_lower_half_goes_and_the_upper_stays_however_many_there_are() {
        for count in [3, ENTRIES as u64 + 3] {
            let mut tlb = Tlb::new();
            let high = Linear(0xffff_8000_0000_0000 + (ENTRIES as u64 - 1) * PAGE_BYTES);
            tlb.enter(Space::Supervisor, high, Physical(0), ALL);
            for n in 0..count {
                tlb.enter(Space::User, Linear(n * PAGE_BYTES), Physical(0), ALL);
            }
            tlb.take_low();
            assert!(tlb.read(Space::Supervisor, high, 1).is_some());
            let left =
                (0..count).filter(|n| tlb.read(Space::User, Linear(n * PAGE_BYTES), 1).is_some());
            assert_eq!(left.count(), 0);
        }
    }

    #[test]
    fn a_range_goes_alone() {
        for low in [0, 0xffff_8000_0000_0000] {
            let mut tlb = Tlb::new();
            for n in 0..1024 {
                tlb.enter(Space::User, Linear(low + n * PAGE_BYTES), Physical(0), ALL);
            }
            tlb.flush_range(Linear(low + 100 * PAGE_BYTES), 512 * PAGE_BYTES);
            for n in 0..1024 {
                let known = tlb.read(Space::User, Linear(low + n * PAGE_BYTES), 1);
                assert_eq!(known.is_none(), (100..612).contains(&n), "{n}");
            }
        }
    }
}
