//! What time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The host's monotonic clock, counted from when this value was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    #[expect(
        clippy::new_without_default,
        reason = "a default value would hide that a clock is read"
    )]
    pub fn new() -> Clock {
        Clock(Instant::now())
    }

    /// Nanoseconds since [`Clock::new`]; never runs backwards.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The time of day: nanoseconds since 1970-01-01 00:00 UTC, 0 before.
pub fn wall_clock_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
