//! Address spaces, told apart by their top tables: the current one, and some that
//! were current before, of which is kept what the soft TLB knew of their lower half.
//!
//! What is kept of one is good as long as nothing that it was derived from has
//! changed: [`crate::tables`] sees that, and gives it up.

use x86::Physical;

use crate::tlb::LowHalf;

/// Kept at most: a server's processes, or those of a build.
const KEPT_MAX: usize = 16;

/// An address space's number. There is never another with the same.
pub(crate) type SpaceId = u64;

/// One that isn't current.
#[derive(Debug)]
struct Kept {
    id: SpaceId,
    top: Physical,
    low: LowHalf,
}

/// All that anything is known of.
#[derive(Debug)]
pub(crate) struct Spaces {
    current: SpaceId,
    /// The last number given.
    last: SpaceId,
    /// The one that was current last is the last.
    kept: Vec<Kept>,
}

impl Default for Spaces {
    fn default() -> Self {
        Spaces {
            current: 1,
            last: 1,
            kept: Vec::new(),
        }
    }
}

impl Spaces {
    pub(crate) fn current(&self) -> SpaceId {
        self.current
    }

    /// Whether anything may be known of `id`.
    pub(crate) fn has(&self, id: SpaceId) -> bool {
        id == self.current || self.kept.iter().any(|kept| kept.id == id)
    }

    /// Forgets all. The current one is another from now on.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
        self.begin();
    }

    fn begin(&mut self) {
        self.last += 1;
        self.current = self.last;
    }

    /// Gives up what is kept of `id`.
    pub(crate) fn give_up(&mut self, id: SpaceId) {
        self.kept.retain(|kept| kept.id != id);
    }

    /// Goes from the current address space, whose top table is `old`, to that of the
    /// top table `new`. `low`: what is to be kept. Returns what was kept.
    pub(crate) fn change(&mut self, old: Physical, low: Option<LowHalf>, new: Physical) -> LowHalf {
        if let Some(low) = low {
            if self.kept.len() >= KEPT_MAX {
                self.kept.remove(0);
            }
            self.kept.push(Kept {
                id: self.current,
                top: old,
                low,
            });
        }
        if let Some(place) = self.kept.iter().position(|kept| kept.top == new) {
            let kept = self.kept.remove(place);
            self.current = kept.id;
            return kept.low;
        }
        self.begin();
        LowHalf::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86::PAGE_BYTES;

    fn top(n: u64) -> Physical {
        Physical(n * PAGE_BYTES)
    }

    #[test]
    fn who_comes_back_soon_has_the_same_number() {
        let mut spaces = Spaces::default();
        let kept = || Some(LowHalf::default());
        let first = spaces.current();
        spaces.change(top(1), kept(), top(2));
        let second = spaces.current();
        assert!(spaces.has(first) && spaces.has(second) && first != second);
        spaces.change(top(2), kept(), top(1));
        assert_eq!(spaces.current(), first);
        spaces.give_up(second);
        assert!(!spaces.has(second));
        spaces.change(top(1), None, top(2));
        assert!(!spaces.has(first) && spaces.current() > second);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut spaces = Spaces::default();
        let first = spaces.current();
        for n in 1..=KEPT_MAX as u64 + 1 {
            assert!(spaces.has(first));
            spaces.change(top(n), Some(LowHalf::default()), top(n + 1));
        }
        assert!(!spaces.has(first));
        let last = spaces.current();
        spaces.forget();
        assert!(!spaces.has(last) && spaces.kept.is_empty());
    }
}
