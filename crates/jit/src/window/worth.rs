//! Whether windows are worth what they cost: a page that is missed and then shown
//! takes some microseconds, as long as hundreds of lookups in the fast TLB.

use crate::cache::BlockId;
use crate::site::SiteId;

/// A miss is worth it after so many branches.
const MISS_BRANCHES: u64 = 1 << 14;
/// A site that has missed so often, where misses haven't been worth it, reaches
/// for ever new pages.
const MISSED_MAX: u8 = 16;

/// Who has missed, and for how long the address space has been the same.
#[derive(Debug)]
pub(super) struct Worth {
    /// An address space is worth windows when so many branches have retired in it.
    age: u64,
    /// Since this branch count the address space is the same.
    since: u64,
    /// Misses in it.
    missed: u64,
    /// How often each site has missed.
    by_site: Vec<u8>,
    /// Blocks that had better have no windows.
    roaming: Vec<BlockId>,
}

impl Worth {
    /// In an address space that begins at branch count 0.
    pub(super) fn new(age: u64) -> Worth {
        Worth {
            age,
            since: 0,
            missed: 0,
            by_site: Vec::new(),
            roaming: Vec::new(),
        }
    }

    /// An address space begins at this branch count.
    pub(super) fn begin(&mut self, branches: u64) {
        self.since = branches;
        self.missed = 0;
    }

    /// How many branches have retired in it.
    fn age(&self, branches: u64) -> u64 {
        branches.wrapping_sub(self.since)
    }

    /// Whether the address space is worth windows.
    pub(super) fn are_on(&self, branches: u64) -> bool {
        self.age(branches) >= self.age
    }

    /// Counts that `site` of block `id` has missed.
    pub(super) fn miss(&mut self, site: SiteId, id: BlockId, branches: u64) {
        let site = site as usize;
        if self.by_site.len() <= site {
            self.by_site.resize(site + 1, 0);
        }
        let by_site = &mut self.by_site[site];
        *by_site = by_site.saturating_add(1);
        self.missed += 1;
        if *by_site >= MISSED_MAX && self.missed > self.age(branches) / MISS_BRANCHES {
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
        for n in 1..=often {
            worth.miss(7, 3, n * MISS_BRANCHES);
        }
        assert!(worth.take_roaming().is_empty());
        worth.miss(7, 3, often * MISS_BRANCHES);
        assert_eq!(worth.take_roaming(), [3]);
        worth.miss(8, 4, often * MISS_BRANCHES);
        assert!(worth.take_roaming().is_empty());
    }
}
