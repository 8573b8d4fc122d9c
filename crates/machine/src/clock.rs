//! Guest time as a function of the branch count.
//!
//! Between two samples guest time is a straight line over branches: so a
//! timer's branch count can be computed, and nothing about time is logged but
//! the samples. A sample sets the line's slope from how many branches the
//! last stretch took, and bends it so that guest time follows the host's: it
//! slews a small difference away and jumps over a large one. Time never runs
//! backwards and never stops. All arithmetic is on integers, so that every
//! host computes the same.

/// Fraction bits of a rate in nanoseconds a branch.
const FRACTION: u32 = 32;
/// Before the first sample: 64 ns a branch.
const RATE_AT_START: u64 = 64 << FRACTION;
/// 1/256 ns a branch: no engine is as quick.
const RATE_MIN: u64 = 1 << (FRACTION - 8);
/// About 1 ms a branch.
const RATE_MAX: u64 = 1 << (FRACTION + 20);
/// A difference is slewed away in about this time.
const SLEW_NS: u64 = 250_000_000;
/// A guest behind by more than this jumps forward.
const JUMP_NS: u64 = 50_000_000;
/// A stretch of fewer branches says nothing about the rate.
const STRETCH_BRANCHES_MIN: u64 = 1000;

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
        self.base_ns.saturating_add(along_ns)
    }

    /// The first branch count at which the clock has reached `ns`.
    pub fn branches_at(&self, ns: u64) -> u64 {
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
        if behind_ns > JUMP_NS || is_idle {
            self.base_ns = now_ns.max(host_ns);
        } else if behind_ns > 0 {
            self.rate = self.rate_over(SLEW_NS + behind_ns);
        } else {
            // At a quarter of its speed it is slow enough, and still runs.
            self.rate = self.rate_over(SLEW_NS.saturating_sub(ahead_ns).max(SLEW_NS / 4));
        }
    }

    /// The clock jumps from `branches` to `ns` at the next branch, which is
    /// the jump itself.
    pub fn skip(&mut self, branches: u64, ns: u64) {
        let now_ns = self.at(branches);
        self.base_branches = branches + 1;
        self.base_ns = now_ns.max(ns);
        self.skipped_ns = self.skipped_ns.saturating_add(self.base_ns - now_ns);
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
        if stretch < STRETCH_BRANCHES_MIN || stretch_ns == 0 {
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
