//! Whether windows are worth what they cost: a page that is missed and then shown
//! takes some microseconds, as long as hundreds of lookups in the fast TLB.

use std::collections::BTreeMap;

use crate::cache::BlockId;
use crate::site::SiteId;

/// A site's miss is forgiven after so many branches.
const MISS_BRANCHES: u64 = 1 << 16;
/// A site with so many misses that aren't forgiven reaches for ever new pages.
const MISSED_MAX: u32 = 64;

/// Programs' address spaces, other than the current one, whose lives are known.
const LIVES: usize = 32;

/// No address space has to be older.
const AGE_MAX: u64 = 1 << 40;

/// When windows begin, and what they cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// An address space is worth windows when so many branches have retired in it.
    pub(crate) age: u64,
    /// So many of them pay for a call of the host's: to show pages, or to hide them.
    pub(crate) call: u64,
}

/// How long an address space has been current, less what its windows have cost: it
/// grows old by branches, and younger by calls of the host's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    terms: Terms,
    /// At branch count `at`.
    age: u64,
    at: u64,
    has_windows: bool,
}

impl Life {
    /// Begins at this branch count.
    pub(super) fn new(terms: Terms, branches: u64) -> Life {
        Life {
            terms,
            age: 0,
            at: branches,
            has_windows: false,
        }
    }

    fn age(&self, branches: u64) -> u64 {
        self.age.saturating_add(branches.wrapping_sub(self.at))
    }

    /// Whether the address space, which is current, is worth windows.
    pub(super) fn are_on(&self, branches: u64) -> bool {
        self.has_windows || self.age(branches) >= self.terms.age
    }

    /// Its windows have cost so many calls. With nothing left to pay it is without
    /// them, until it is twice as old as it had to be before.
    pub(super) fn spend(&mut self, calls: u64, branches: u64) {
        if !self.are_on(branches) {
            return;
        }
        let age = self.age(branches).min(2 * self.terms.age);
        let left = age.checked_sub(calls * self.terms.call);
        if left.is_none() {
            self.terms.age = self.terms.age.saturating_mul(2).min(AGE_MAX);
        }
        (self.age, self.at) = (left.unwrap_or(0), branches);
        self.has_windows = left.is_some();
    }
}

/// The lives of programs' address spaces that aren't current, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Lives(Vec<(u64, Life)>);

impl Lives {
    /// At this branch count address space `old` is left, whose life was `life`.
    pub(super) fn leave(&mut self, old: u64, life: Life, branches: u64) {
        if self.0.len() >= LIVES {
            self.0.remove(0);
        }
        let age = life.age(branches);
        self.0.push((old, Life { age, ..life }));
    }

    /// The life of `space`, which is current from this branch count on, if there was
    /// one.
    pub(super) fn enter(&mut self, space: u64, branches: u64) -> Option<Life> {
        let place = self.0.iter().position(|&(other, _)| other == space)?;
        let (_, life) = self.0.remove(place);
        Some(Life {
            at: branches,
            ..life
        })
    }
}

/// Who has missed.
#[derive(Debug, Default)]
pub(super) struct Missing {
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

impl Missing {
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

    const TERMS: Terms = Terms { age: 100, call: 10 };

    #[test]
    fn an_address_space_is_worth_windows_when_it_is_old_enough() {
        let life = Life::new(TERMS, 1000);
        assert!(!life.are_on(1099));
        assert!(life.are_on(1100));
    }

    #[test]
    fn who_comes_back_is_as_old_as_when_it_was_left() {
        let mut lives = Lives::default();
        lives.leave(1, Life::new(TERMS, 0), 60);
        assert!(lives.enter(2, 60).is_none());
        let life = lives.enter(1, 1000).expect("it was left");
        assert!(!life.are_on(1039) && life.are_on(1040));
        for other in 0..=LIVES as u64 {
            lives.leave(1 + other, life, 2000);
        }
        assert!(lives.enter(1, 2000).is_none() && lives.enter(2, 2000).is_some());
    }

    #[test]
    fn who_can_t_pay_for_windows_waits_longer_each_time() {
        let mut life = Life::new(TERMS, 0);
        life.spend(1, 100);
        assert!(life.are_on(100));
        life.spend(9, 100);
        assert!(life.are_on(100));
        life.spend(1, 109);
        assert!(!life.are_on(109) && !life.are_on(308) && life.are_on(309));
        // Nobody saves for more than a while.
        life.spend(41, 1_000_000);
        assert!(!life.are_on(1_000_000) && life.are_on(1_000_400));
    }

    #[test]
    fn a_site_roams_that_misses_more_often_than_it_is_worth() {
        let mut missing = Missing::default();
        let often = u64::from(MISSED_MAX);
        for n in 1..=2 * often {
            missing.miss(7, 3, n * MISS_BRANCHES);
        }
        assert!(missing.take_roaming().is_empty());
        for n in 1..=2 * often {
            missing.miss(8, 4, n * MISS_BRANCHES / 2);
        }
        assert!(missing.take_roaming().contains(&4));
    }

    /// A program that has just begun touches all of its pages once.
    #[test]
    fn a_burst_of_misses_is_forgiven() {
        let mut missing = Missing::default();
        for burst in 0..10 {
            for n in 1..u64::from(MISSED_MAX) {
                missing.miss(7, 3, (burst << 30) + n);
            }
        }
        assert!(missing.take_roaming().is_empty());
    }
}
