//! The fast TLB: what translated code looks up before every load and store.
//!
//! A copy of what the processor's soft TLB knows of data pages, in the form
//! that translated code wants: for a linear address `a` whose page has the entry
//! `e`, `a - e.read` below 4096 says that it may be loaded, at host address
//! `a - e.read + e.host`. An entry goes when the processor's soft TLB drops the
//! page ([`cpu::Dropped`]).

use cpu::{ByPage, Cpu, Dropped, Marks, Space};
use x86::{Linear, PAGE_BYTES, Physical};

use crate::frame::Region;

/// Entries of a space; a power of two. As many as the soft TLB has.
pub(crate) const ENTRIES: usize = 1 << 17;
/// Supervisor, user, supervisor with user pages open: [`Space::UserAc`] has no
/// translated code.
const SPACES: usize = 3;
/// All entries.
pub(crate) const COUNT: usize = ENTRIES * SPACES;
/// Length in bytes of all entries.
pub(crate) const BYTES: usize = COUNT * size_of::<Entry>();

/// One page's entry. All zeros: empty, but for the first of a space.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The linear page, if it may be loaded from.
    pub(crate) read: u64,
    /// The linear page, if it may be stored to.
    pub(crate) write: u64,
    /// Host address of the page.
    pub(crate) host: u64,
    reserved: u64,
}
const _: () = assert!(size_of::<Entry>() == 32);

/// A page that has another entry than `index`, so that no address finds it
/// there.
const fn no_page(index: usize) -> u64 {
    if index == 0 { PAGE_BYTES } else { 0 }
}

fn empty(index: usize) -> Entry {
    Entry {
        read: no_page(index),
        write: no_page(index),
        host: 0,
        reserved: 0,
    }
}

/// The entry of `at`'s page within its space.
fn index(at: Linear) -> usize {
    // The conversion keeps the low bits, which are all that is used.
    (at.0 / PAGE_BYTES) as usize % ENTRIES
}

/// Which entries are filled, so that emptying costs what filling did.
#[derive(Debug)]
pub(crate) struct Filled {
    /// By pages of the lower half of all linear addresses, and of the upper. Some
    /// were taken by others since.
    halves: [Marks; 2],
    /// Those that may be stored to.
    writable: ByPage,
}

impl Filled {
    /// The entries of a new region, which are zeros.
    pub(crate) fn new(region: &mut Region) -> Filled {
        let entries = region.tlb();
        for space in 0..SPACES {
            entries[space * ENTRIES] = empty(0);
        }
        Filled {
            halves: [(); 2].map(|()| Marks::new(COUNT)),
            writable: ByPage::default(),
        }
    }

    /// Empties everything.
    pub(crate) fn reset(&mut self, region: &mut Region) {
        let entries = region.tlb();
        self.halves
            .iter_mut()
            .for_each(|half| empty_all(half, entries));
        self.writable.clear();
    }

    /// Copies what the processor knows of `at`'s page for accesses of `space`.
    pub(crate) fn fill(&mut self, region: &mut Region, cpu: &Cpu, space: Space, at: Linear) {
        if space as usize >= SPACES {
            return;
        }
        let Some(known) = cpu.tlb.known(space, at) else {
            return;
        };
        let page = at.page();
        let n = index(page);
        // lint: what translated code adds to an offset; the guest never sees it
        let base = cpu.ram.host_base().as_ptr().addr() as u64;
        let host = base.wrapping_add(known.page.0);
        let entries = region.tlb();
        let place = space as usize * ENTRIES + n;
        let before = entries[place];
        self.halves[page.half()].mark(place);
        let tag = |granted: bool| if granted { page.0 } else { no_page(n) };
        entries[place] = Entry {
            read: tag(known.read),
            write: tag(known.write),
            host,
            reserved: 0,
        };
        if known.write && (before.write != page.0 || before.host != host) {
            let number = u32::try_from(place).expect("COUNT is far below");
            self.writable.add(known.page, number, |number| {
                let (number, entry) = (number as usize, entries[number as usize]);
                let is_writable = entry.write != no_page(number % ENTRIES);
                is_writable.then(|| Physical(entry.host.wrapping_sub(base)))
            });
        }
    }

    /// Drops what `dropped` covers.
    pub(crate) fn drop(&mut self, region: &mut Region, cpu: &Cpu, dropped: &Dropped) {
        let entries = region.tlb();
        let [low, high] = &mut self.halves;
        if dropped.covers_low() {
            empty_all(low, entries);
        }
        if dropped.all {
            empty_all(high, entries);
        }
        for &(start, bytes) in &dropped.ranges {
            self.drop_range(entries, start, bytes);
        }
        // lint: as in `fill`
        let base = cpu.ram.host_base().as_ptr().addr() as u64;
        if dropped.writes {
            for half in &mut self.halves {
                half.retain(0..COUNT, |n| {
                    let entry = &mut entries[n];
                    if !cpu::is_storable(&cpu.ram, Physical(entry.host.wrapping_sub(base))) {
                        entry.write = no_page(n % ENTRIES);
                    }
                    true
                });
            }
        }
        for physical in &dropped.writes_to {
            let host = base.wrapping_add(physical.0);
            for &number in self.writable.of(*physical) {
                let entry = &mut entries[number as usize];
                if entry.host == host {
                    entry.write = no_page(number as usize % ENTRIES);
                }
            }
        }
    }

    /// Drops the pages in `start..start + bytes`.
    fn drop_range(&mut self, entries: &mut [Entry; COUNT], start: Linear, bytes: u64) {
        let first = index(start);
        let count = usize::try_from(bytes / PAGE_BYTES).unwrap_or(ENTRIES);
        let inside = |page: u64| page.wrapping_sub(start.0) < bytes;
        self.halves[start.half()].retain_in_each(ENTRIES, first, count, |n| {
            let entry = &mut entries[n];
            let goes = inside(entry.read) || inside(entry.write);
            if goes {
                *entry = empty(n % ENTRIES);
            }
            !goes
        });
    }
}

/// Empties the entries of a half.
fn empty_all(half: &mut Marks, entries: &mut [Entry; COUNT]) {
    half.retain(0..COUNT, |n| {
        entries[n] = empty(n % ENTRIES);
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_finds_an_empty_entry() {
        for at in [0, 0xfff, 0x1000, 0x1001, 1 << 63, u64::MAX] {
            let entry = empty(index(Linear(at)));
            assert!(at.wrapping_sub(entry.read) >= PAGE_BYTES, "{at:#x}");
            assert!(at.wrapping_sub(entry.write) >= PAGE_BYTES, "{at:#x}");
        }
    }
}
