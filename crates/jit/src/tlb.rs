//! The fast TLB: what translated code looks up before every load and store.
//!
//! A copy of what the processor's soft TLB knows of data pages, in the form
//! that translated code wants: for a linear address `a` whose page has the entry
//! `e`, `a - e.read` below 4096 says that it may be loaded, at host address
//! `a - e.read + e.host`. An entry goes when the processor's soft TLB drops the
//! page ([`cpu::Dropped`]).

use cpu::{Cpu, Dropped, Space};
use x86::{Linear, PAGE_BYTES};

use crate::frame::Region;

/// Entries of a space; a power of two.
pub(crate) const ENTRIES: usize = 1 << 12;
/// Supervisor, user, supervisor with user pages open: [`Space::UserAc`] has no
/// translated code.
const SPACES: usize = 3;
/// All entries.
pub(crate) const COUNT: usize = ENTRIES * SPACES;
/// Pages remembered as filled at most; entries that took another's place count
/// too.
const FILLED_MAX: usize = 4 * COUNT;
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
#[derive(Debug, Default)]
pub(crate) struct Filled {
    entries: Vec<(Space, Linear)>,
}

impl Filled {
    /// Empties everything, filled or not.
    pub(crate) fn reset(&mut self, region: &mut Region) {
        self.entries.clear();
        for (n, entry) in region.tlb().iter_mut().enumerate() {
            *entry = empty(n % ENTRIES);
        }
    }

    /// Copies what the processor knows of `at`'s page.
    pub(crate) fn fill(&mut self, region: &mut Region, cpu: &Cpu, at: Linear) {
        let space = cpu.space;
        if space as usize >= SPACES {
            return;
        }
        let Some(known) = cpu.tlb.known(space, at) else {
            return;
        };
        if self.entries.len() >= FILLED_MAX {
            self.reset(region);
        }
        let n = index(at);
        let page = at.page().0;
        let entry = &mut region.tlb()[space as usize * ENTRIES + n];
        if entry.read != page && entry.write != page {
            self.entries.push((space, Linear(page)));
        }
        let tag = |granted: bool| if granted { page } else { no_page(n) };
        *entry = Entry {
            read: tag(known.read),
            write: tag(known.write),
            // lint: what translated code adds to an offset; the guest never sees it
            host: (cpu.ram.host_base().as_ptr().addr() as u64).wrapping_add(known.page.0),
            reserved: 0,
        };
    }

    /// Drops the pages in `start..start + bytes`.
    fn drop_range(&self, entries: &mut [Entry; COUNT], start: Linear, bytes: u64) {
        let pages = bytes / PAGE_BYTES;
        if pages > ENTRIES as u64 / 8 {
            for &(space, page) in &self.entries {
                if page.0.wrapping_sub(start.0) < bytes {
                    let n = index(page);
                    entries[space as usize * ENTRIES + n] = empty(n);
                }
            }
            return;
        }
        for page in (0..pages).map(|n| start.plus(n * PAGE_BYTES)) {
            let n = index(page);
            for space in 0..SPACES {
                let entry = &mut entries[space * ENTRIES + n];
                if entry.read == page.0 || entry.write == page.0 {
                    *entry = empty(n);
                }
            }
        }
    }

    /// Drops what `dropped` covers.
    pub(crate) fn drop(&mut self, region: &mut Region, cpu: &Cpu, dropped: &Dropped) {
        let entries = region.tlb();
        if dropped.all || dropped.low {
            self.entries.retain(|&(space, page)| {
                let keep = !dropped.all && page.0 >> 63 != 0;
                if !keep {
                    let n = index(page);
                    entries[space as usize * ENTRIES + n] = empty(n);
                }
                keep
            });
        }
        for &(start, bytes) in &dropped.ranges {
            self.drop_range(entries, start, bytes);
        }
        if !dropped.writes && dropped.writes_to.is_empty() {
            return;
        }
        // lint: compared with what `fill` computed; the guest never sees it
        let base = cpu.ram.host_base().as_ptr().addr() as u64;
        for &(space, page) in &self.entries {
            let n = index(page);
            let entry = &mut entries[space as usize * ENTRIES + n];
            let physical = x86::Physical(entry.host.wrapping_sub(base));
            if dropped.writes || dropped.writes_to.contains(&physical) {
                entry.write = no_page(n);
            }
        }
    }
}
