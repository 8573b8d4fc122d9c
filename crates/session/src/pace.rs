//! How long the guest runs between two looks at the world.
//!
//! Time is the host's; the guest runs by branches. The pace turns one into the
//! other by what the last slice took, so that the world is looked at every few
//! milliseconds whatever the engine's speed. Nothing here reaches the guest
//! except by an input, which is logged.

/// What a slice should take.
const SLICE_NS: u64 = 2_000_000;
const SLICE_BRANCHES_MIN: u64 = 2_000;
const SLICE_BRANCHES_MAX: u64 = 20_000_000;

/// The length of the next slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    slice_branches: u64,
}

impl Pace {
    /// Begins with slices that are short on any engine.
    pub(crate) fn new() -> Pace {
        Pace {
            slice_branches: 20_000,
        }
    }

    /// Branches in the next slice.
    pub(crate) fn slice_branches(self) -> u64 {
        self.slice_branches
    }

    /// Learns that `branches` took `took_ns` of host time. A slice that ended
    /// early says little and moves the pace little; one change is at most a
    /// doubling, since the host may merely have been elsewhere.
    pub(crate) fn learn(&mut self, branches: u64, took_ns: u64) {
        if branches < self.slice_branches / 2 {
            return;
        }
        let fitting = u128::from(branches) * u128::from(SLICE_NS) / u128::from(took_ns.max(1));
        let fitting = u64::try_from(fitting).unwrap_or(u64::MAX);
        self.slice_branches = fitting
            .clamp(self.slice_branches / 2, self.slice_branches * 2)
            .clamp(SLICE_BRANCHES_MIN, SLICE_BRANCHES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace after `slices` slices on an engine of `branches_per_ms`.
    fn settled(branches_per_ms: u64, slices: usize) -> u64 {
        let mut pace = Pace::new();
        for _ in 0..slices {
            let branches = pace.slice_branches();
            pace.learn(branches, branches * 1_000_000 / branches_per_ms);
        }
        pace.slice_branches()
    }

    #[test]
    fn settles_at_two_milliseconds_at_any_speed() {
        assert_eq!(settled(10_000, 20), 20_000);
        assert_eq!(settled(400_000, 20), 800_000);
    }

    #[test]
    fn stays_in_bounds() {
        assert_eq!(settled(1, 40), SLICE_BRANCHES_MIN);
        assert_eq!(settled(1_000_000_000, 40), SLICE_BRANCHES_MAX);
    }
}
