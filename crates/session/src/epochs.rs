//! When all of a busy machine is checked.
//!
//! A check costs a look at every page that the guest has written since the last.
//! So it waits until the guest has run a hundred times as long as that takes,
//! within bounds: a guest that writes little needs no check every millisecond,
//! and one that writes much gets one at last.

/// Host time spent running the guest from one check to the next: least and most.
const BOUNDS_NS: [u64; 2] = [1_500_000_000, 15_000_000_000];
/// What a page takes to check on the hosts that we saw: to read and hash 4 KiB is the
/// least of it; the guest is then to be let store there again, which takes the host a
/// fault and a call.
const PAGE_NS: u64 = 4_000;
/// The guest runs so many times as long as the checks take.
const SHARE: u64 = 100;
/// So often it is looked how much there is to check.
const LOOK_NS: u64 = 300_000_000;

/// When the next check is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epochs {
    checked_ns: u64,
    look_ns: u64,
}

impl Epochs {
    pub(crate) fn new() -> Epochs {
        Epochs {
            checked_ns: 0,
            look_ns: BOUNDS_NS[0],
        }
    }

    /// Whether a check is due when the guest has run for `busy_ns` and has
    /// written so many pages since the last. If so, it is taken for done.
    pub(crate) fn is_due(&mut self, busy_ns: u64, written_pages: impl FnOnce() -> u64) -> bool {
        if busy_ns < self.look_ns {
            return false;
        }
        let fitting_ns = written_pages().saturating_mul(SHARE * PAGE_NS);
        let due_ns = self.checked_ns + fitting_ns.clamp(BOUNDS_NS[0], BOUNDS_NS[1]);
        if busy_ns < due_ns {
            self.look_ns = due_ns.max(busy_ns + LOOK_NS);
            return false;
        }
        self.checked_ns = busy_ns;
        self.look_ns = busy_ns + BOUNDS_NS[0];
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE_NS: usize = 2_000_000;

    /// When checks come, in tenths of a second, in a minute of a guest that has
    /// written `pages(ns)` pages `ns` after a check.
    fn checks(pages: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut epochs = Epochs::new();
        let mut last_ns = 0;
        let mut checks = Vec::new();
        for busy_ns in (0..60_000_000_000).step_by(SLICE_NS) {
            if epochs.is_due(busy_ns, || pages(busy_ns - last_ns)) {
                last_ns = busy_ns;
                checks.push(busy_ns / 100_000_000);
            }
        }
        checks
    }

    #[test]
    fn a_guest_that_writes_little_is_checked_often() {
        assert_eq!(checks(|_| 100)[..3], [15, 30, 45]);
    }

    #[test]
    fn a_check_of_much_waits_until_it_is_a_hundredth() {
        assert_eq!(checks(|_| 14_000)[..3], [56, 112, 168]);
    }

    #[test]
    fn a_guest_that_writes_all_the_time_is_checked_at_last() {
        assert_eq!(checks(|ns| ns / 5_000), [150, 300, 450]);
    }
}
