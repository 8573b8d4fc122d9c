//! Guest time as a function of the branch count.
//!
//! Between two samples guest time is a straight line over branches: so a
//! timer's branch count can be computed, and nothing about time is logged but
//! the samples. A sample sets the line's slope from how many branches the
//! last stretch took, and bends it so that guest time follows the host's: it
//! slews a small difference away and jumps over a large one. Time never runs
//! backwards and never stops. All arithmetic is on integers, so that every
//! host computes the same.

use minicbor::{Decode, Encode};

/// Fraction bits of a rate in nanoseconds a branch.
const FRACTION: u32 = 32;
/// Before the first sample: 4 ns a branch. Rather too little: a guest that is
/// behind jumps forward, one that is ahead must wait.
const RATE_AT_START: u64 = 4 << FRACTION;
/// 1/256 ns a branch: no engine is as quick.
const RATE_MIN: u64 = 1 << (FRACTION - 8);
/// About 1 ms a branch.
const RATE_MAX: u64 = 1 << (FRACTION + 20);
/// A difference is slewed away in about this time.
const SLEW_NS: u64 = 250_000_000;
/// A guest behind by more than this jumps forward.
const JUMP_NS: u64 = 50_000_000;
/// The end of time, in 146 years: so that no sum overflows.
const END_NS: u64 = 1 << 62;
/// A stretch of fewer branches says nothing about the rate.
const STRETCH_BRANCHES_MIN: u64 = 1000;

/// A [`Clock`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct ClockState {
    #[n(0)]
    base_branches: u64,
    #[n(1)]
    base_ns: u64,
    #[n(2)]
    rate: u64,
    #[n(3)]
    measured_rate: u64,
    #[n(4)]
    sample_branches: u64,
    #[n(5)]
    sample_host_ns: u64,
    #[n(6)]
    skipped_ns: u64,
}

/// The machine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The line begins here...
    base_branches: u64,
    /// ...at this time, in ns since the start.
    base_ns: u64,
    /// The slope: ns a branch, 32.32 bits.
    rate: u64,
    /// What a branch takes as far as samples tell, 32.32 bits.
    measured_rate: u64,
    /// The last sample.
    sample_branches: u64,
    /// The last sample, in host ns.
    sample_host_ns: u64,
    /// How much was skipped in idle since the last sample, in ns.
    skipped_ns: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// A clock that shows 0 at branch 0.
    pub fn new() -> Clock {
        Clock {
            base_branches: 0,
            base_ns: 0,
            rate: RATE_AT_START,
            measured_rate: RATE_AT_START,
            sample_branches: 0,
            sample_host_ns: 0,
            skipped_ns: 0,
        }
    }

    /// Guest time at `branches`, in ns since the start. `branches` is no less
    /// than at the last sample or skip.
    #[inline]
    pub fn at(&self, branches: u64) -> u64 {
        let along = u128::from(branches.saturating_sub(self.base_branches)) * u128::from(self.rate);
        let along_ns = u64::try_from(along >> FRACTION).unwrap_or(u64::MAX);
        self.base_ns.saturating_add(along_ns).min(END_NS)
    }

    /// The line that [`Clock::at`] follows, up to `until`; `None` if time ends
    /// before.
    pub(crate) fn line(&self, until: u64) -> Option<cpu::TscLine> {
        (self.at(until) < END_NS).then_some(cpu::TscLine {
            base_branches: self.base_branches,
            base: self.base_ns,
            rate: self.rate,
        })
    }

    /// The first branch count at which the clock has reached `ns`; `u64::MAX`
    /// for what lies beyond the end of time.
    pub fn branches_at(&self, ns: u64) -> u64 {
        if ns > END_NS {
            return u64::MAX;
        }
        let ahead = u128::from(ns.saturating_sub(self.base_ns)) << FRACTION;
        let branches = ahead.div_ceil(u128::from(self.rate));
        self.base_branches
            .saturating_add(u64::try_from(branches).unwrap_or(u64::MAX))
    }

    /// Takes a sample: at `branches` the host's clock shows `host_ns` since the
    /// start. `is_idle`: the processor is halted, so the time since it halted
    /// says nothing about its speed.
    pub fn sample(&mut self, branches: u64, host_ns: u64, is_idle: bool) {
        let now_ns = self.at(branches);
        let host_ns = host_ns.min(END_NS);
        if !is_idle {
            self.measure(branches, host_ns);
        }
        self.sample_branches = branches;
        self.sample_host_ns = host_ns;
        self.skipped_ns = 0;

        let behind_ns = host_ns.saturating_sub(now_ns);
        let ahead_ns = now_ns.saturating_sub(host_ns);
        self.base_branches = branches;
        self.base_ns = now_ns;
        self.rate = self.measured_rate;
        if behind_ns > JUMP_NS || (is_idle && behind_ns > 0) {
            self.base_ns = host_ns;
        } else if behind_ns > 0 {
            self.rate = self.rate_over(SLEW_NS + behind_ns);
        } else {
            // At a sixteenth of its speed it is slow enough, and still runs. Also
            // when it was idle: a server that sleeps between any two packets
            // has hardly any other samples, and would run away if its rate is
            // too high, to wait for its next timer until the host has caught up.
            self.rate = self.rate_over(SLEW_NS.saturating_sub(ahead_ns).max(SLEW_NS / 16));
        }
    }

    /// The clock jumps from `branches` to `ns` at the next branch, which is
    /// the jump itself.
    pub fn skip(&mut self, branches: u64, ns: u64) {
        let now_ns = self.at(branches);
        self.base_branches = branches + 1;
        self.base_ns = now_ns.max(ns).min(END_NS);
        self.skipped_ns = self.skipped_ns.saturating_add(self.base_ns - now_ns);
    }

    /// Its whole state.
    pub(crate) fn save(&self) -> ClockState {
        let Clock {
            base_branches,
            base_ns,
            rate,
            measured_rate,
            sample_branches,
            sample_host_ns,
            skipped_ns,
        } = *self;
        ClockState {
            base_branches,
            base_ns,
            rate,
            measured_rate,
            sample_branches,
            sample_host_ns,
            skipped_ns,
        }
    }

    /// Takes on a state that [`Clock::save`] gave.
    pub(crate) fn restore(state: &ClockState) -> Clock {
        Clock {
            base_branches: state.base_branches,
            base_ns: state.base_ns.min(END_NS),
            rate: state.rate.clamp(RATE_MIN, RATE_MAX),
            measured_rate: state.measured_rate.clamp(RATE_MIN, RATE_MAX),
            sample_branches: state.sample_branches,
            sample_host_ns: state.sample_host_ns,
            skipped_ns: state.skipped_ns,
        }
    }

    /// The measured rate, bent so that what takes [`SLEW_NS`] takes `ns`.
    fn rate_over(&self, ns: u64) -> u64 {
        let rate = u128::from(self.measured_rate) * u128::from(ns) / u128::from(SLEW_NS);
        u64::try_from(rate)
            .unwrap_or(RATE_MAX)
            .clamp(RATE_MIN, RATE_MAX)
    }

    /// Learns what a branch takes from the stretch that ends here.
    fn measure(&mut self, branches: u64, host_ns: u64) {
        let stretch = branches.saturating_sub(self.sample_branches);
        let stretch_ns = host_ns
            .saturating_sub(self.sample_host_ns)
            .saturating_sub(self.skipped_ns);
        // How late the host was to end the guest's sleeps is in there too: a
        // stretch that was sleep for the most part would make the guest look
        // slow, and its clock run away when it works again.
        let is_mostly_sleep = self.skipped_ns > stretch_ns;
        if stretch < STRETCH_BRANCHES_MIN || stretch_ns == 0 || is_mostly_sleep {
            return;
        }
        let rate = (u128::from(stretch_ns) << FRACTION) / u128::from(stretch);
        let rate = u64::try_from(rate)
            .unwrap_or(RATE_MAX)
            .clamp(RATE_MIN, RATE_MAX);
        // Halfway: a stretch is long enough to be believed, but work varies.
        self.measured_rate = u64::midpoint(self.measured_rate, rate);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Event {
        Run(u64),
        Sample { later_ns: i64, is_idle: bool },
        Skip(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0u64..1 << 34).prop_map(Event::Run),
            (-(1i64 << 31)..1 << 34, any::<bool>())
                .prop_map(|(later_ns, is_idle)| Event::Sample { later_ns, is_idle }),
            (0u64..1 << 40).prop_map(Event::Skip),
        ]
    }

    /// A clock after `events`, with the branch count they led to; checks on the
    /// way that time never ran backwards.
    fn clock_after(events: &[Event]) -> (Clock, u64) {
        let (mut clock, mut branches, mut host_ns) = (Clock::new(), 0u64, 0u64);
        let mut latest_ns = 0;
        for event in events {
            match event {
                Event::Run(more) => branches += more,
                Event::Sample { later_ns, is_idle } => {
                    host_ns = host_ns.saturating_add_signed(*later_ns);
                    clock.sample(branches, host_ns, *is_idle);
                }
                Event::Skip(ns) => {
                    clock.skip(branches, *ns);
                    branches += 1;
                }
            }
            assert!(clock.at(branches) >= latest_ns);
            latest_ns = clock.at(branches);
        }
        (clock, branches)
    }

    proptest! {
        #[test]
        fn time_never_runs_backwards(events in prop::collection::vec(event(), 0..40)) {
            clock_after(&events);
        }

        #[test]
        fn its_line_tells_the_time(
            events in prop::collection::vec(event(), 0..10),
            ahead in 0u64..1 << 40,
        ) {
            let (clock, branches) = clock_after(&events);
            let until = branches + ahead;
            let line = clock.line(until);
            prop_assert_eq!(line.is_none(), clock.at(until) == END_NS);
            if let Some(line) = line {
                let along = u128::from(until - line.base_branches) * u128::from(line.rate);
                let at = u128::from(line.base) + (along >> 32);
                prop_assert_eq!(at, u128::from(clock.at(until)));
            }
        }

        #[test]
        fn a_deadline_is_reached_at_its_branch_and_not_before(
            events in prop::collection::vec(event(), 0..10),
            ahead_ns in 1u64..1 << 36,
        ) {
            let (clock, branches) = clock_after(&events);
            let deadline_ns = clock.at(branches) + ahead_ns;
            let due = clock.branches_at(deadline_ns);
            prop_assert!(due > branches);
            prop_assert!(clock.at(due) >= deadline_ns);
            prop_assert!(clock.at(due - 1) < deadline_ns);
        }

        #[test]
        fn a_saved_clock_comes_back(events in prop::collection::vec(event(), 0..10)) {
            let (clock, _) = clock_after(&events);
            prop_assert_eq!(Clock::restore(&clock.save()), clock);
        }

        #[test]
        fn guest_time_finds_the_host_s(speed in 256u64..100_000, ahead_ns in 0u64..1_000_000_000) {
            // A host on which a branch takes `speed` / 256 ns, a guest that is
            // ahead at first.
            let (mut clock, mut branches, mut host_ns) = (Clock::new(), 0u64, 0u64);
            clock.skip(0, ahead_ns);
            for _ in 0..80 {
                host_ns += 100_000_000;
                branches += 100_000_000 * 256 / speed;
                clock.sample(branches, host_ns, false);
            }
            prop_assert!(clock.at(branches).abs_diff(host_ns) < 5_000_000);
        }
    }

    #[test]
    fn late_ends_of_sleep_do_not_make_the_guest_look_slow() {
        let mut clock = Clock::new();
        clock.sample(100_000_000, 400_000_000, false);
        let rate = clock.measured_rate;
        // It sleeps 10 s a hundred times, works for 1 ms, and the host ends each sleep 20 ms late.
        let (mut branches, mut host_ns) = (100_000_000, 400_000_000);
        for _ in 0..100 {
            let deadline_ns = clock.at(branches) + 10_000_000_000;
            clock.skip(branches, deadline_ns);
            branches += 1 + 250_000;
            host_ns = deadline_ns + 20_000_000;
        }
        clock.sample(branches, host_ns, false);
        assert_eq!(clock.measured_rate, rate);
    }

    /// A server on a host with other work: a packet wakes it every 5 ms, and for
    /// 2 ms it is busy. What the rate is measured by are stretches in which the
    /// host was elsewhere for a while, so it comes out several times too high.
    #[test]
    fn a_guest_that_is_woken_all_the_time_does_not_run_away() {
        let mut clock = Clock::new();
        let (mut branches, mut host_ns) = (0, 0);
        for packet in 1..=100_000 {
            branches += 50_000;
            host_ns += 5_000_000;
            let is_idle = packet % 100 != 0;
            if !is_idle {
                host_ns += 10_000_000;
            }
            clock.sample(branches, host_ns, is_idle);
            let ahead_ns = clock.at(branches).saturating_sub(host_ns);
            assert!(
                ahead_ns < 1_000_000_000,
                "after {packet} packets: {ahead_ns} ns"
            );
        }
    }

    #[test]
    fn a_guest_far_behind_jumps_forward() {
        let mut clock = Clock::new();
        clock.sample(1_000_000, 10_000_000_000, false);
        assert_eq!(clock.at(1_000_000), 10_000_000_000);
    }
}
