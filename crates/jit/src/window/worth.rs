//! Whether windows are worth what they cost: a page that is missed and then shown
//! takes some microseconds, as long as hundreds of lookups in the fast TLB.

use std::collections::BTreeMap;

use crate::cache::BlockId;
use crate::site::SiteId;

/// A site's miss is forgiven after so many branches.
const MISS_BRANCHES: u64 = 1 << 16;
/// A site with so many misses that aren't forgiven reaches for ever new pages.
const MISSED_MAX: u32 = 64;

/// Who has missed, and since when the address space has been the same.
#[derive(Debug)]
pub(super) struct Worth {
    /// An address space is worth windows when so many branches have retired in it.
    age: u64,
    /// Since this branch count the address space is the same.
    since: u64,
    by_site: BTreeMap<SiteId, Misses>,
    /// Blocks that had better have no windows.
    roaming: Vec<BlockId>,
}

/// A site's misses: a bucket that leaks.
#[derive(Clone, Copy, Debug, Default)]
struct Misses {
    /// Not forgiven when it last missed.
    count: u32,
    /// When that was, in branches.
    last: u64,
}

impl Misses {
    fn add(&mut self, branches: u64) {
        let forgiven = branches.wrapping_sub(self.last) / MISS_BRANCHES;
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(forgiven) + 1;
        self.last = branches;
    }
}

impl Worth {
    /// In an address space that begins at branch count 0.
    pub(super) fn new(age: u64) -> Worth {
        Worth {
            age,
            since: 0,
            by_site: BTreeMap::new(),
            roaming: Vec::new(),
        }
    }

    /// An address space begins at this branch count.
    pub(super) fn begin(&mut self, branches: u64) {
        self.since = branches;
    }

    /// Whether the address space is worth windows.
    pub(super) fn are_on(&self, branches: u64) -> bool {
        branches.wrapping_sub(self.since) >= self.age
    }

    /// Counts that `site` of block `id` has missed.
    pub(super) fn miss(&mut self, site: SiteId, id: BlockId, branches: u64) {
        let misses = self.by_site.entry(site).or_default();
        misses.add(branches);
        if misses.count >= MISSED_MAX {
            self.roaming.push(id);
        }
    }

    /// The blocks that reach for ever new pages, since the last call.
    pub(super) fn take_roaming(&mut self) -> Vec<BlockId> {
        std::mem::take(&mut self.roaming)
    }

    /// All sites and blocks are forgotten.
    pub(super) fn forget_sites(&mut self) {
        self.by_site.clear();
        self.roaming.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_space_is_worth_windows_when_it_is_old_enough() {
        let mut worth = Worth::new(100);
        worth.begin(1000);
        assert!(!worth.are_on(1099));
        assert!(worth.are_on(1100));
    }

    #[test]
    fn a_site_roams_that_misses_more_often_than_it_is_worth() {
        let mut worth = Worth::new(0);
        let often = u64::from(MISSED_MAX);
        for n in 1..=2 * often {
            worth.miss(7, 3, n * MISS_BRANCHES);
        }
        assert!(worth.take_roaming().is_empty());
        for n in 1..=2 * often {
            worth.miss(8, 4, n * MISS_BRANCHES / 2);
        }
        assert!(worth.take_roaming().contains(&4));
    }

    /// A program that has just begun touches all of its pages once.
    #[test]
    fn a_burst_of_misses_is_forgiven() {
        let mut worth = Worth::new(0);
        for burst in 0..10 {
            for n in 1..u64::from(MISSED_MAX) {
                worth.miss(7, 3, (burst << 30) + n);
            }
        }
        assert!(worth.take_roaming().is_empty());
    }
}
