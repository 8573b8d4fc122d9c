//! The local APIC's timer (SDM volume 3A, 11.5.4): one-shot and periodic from
//! a counter, or once at a value of the time-stamp counter.
//!
//! Nothing counts here: what the counter shows and when it expires follow from
//! when it was started.

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device, check};
use crate::ticks::{ns_of_ticks, ticks_at};

/// The three modes, as LVT bits 17 and 18 number them; 3 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    OneShot,
    Periodic,
    Deadline,
}

impl Mode {
    pub(crate) fn of_lvt(lvt: u32) -> Mode {
        match lvt >> 17 & 3 {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            // The reserved value stops a real timer; no one relies on it.
            _ => Mode::Deadline,
        }
    }
}

/// The timer.
#[derive(Clone, Debug)]
pub(crate) struct LocalTimer {
    /// Ticks of the counter in a second, before it is divided.
    counter_hz: u64,
    /// Ticks of the time-stamp counter in a second.
    tsc_hz: u64,
    mode: Mode,
    /// The divide configuration register.
    divide: u32,
    initial: u32,
    /// When the counter was last started or changed, and from which count.
    start_ns: u64,
    start_count: u32,
    /// How often it has expired since `start_ns`.
    expired: u64,
    /// The time-stamp counter's value to expire at; 0: disarmed.
    deadline_tsc: u64,
    /// It has expired, and the interrupt is yet to be raised.
    fires: bool,
}

/// A local APIC timer, saved. Its mode stands in the LVT.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct LocalTimerState {
    #[n(0)]
    pub divide: u32,
    #[n(1)]
    pub initial: u32,
    #[n(2)]
    pub start_ns: u64,
    #[n(3)]
    pub start_count: u32,
    #[n(4)]
    pub expired: u64,
    #[n(5)]
    pub deadline_tsc: u64,
    #[n(6)]
    pub mode: u32,
    #[n(7)]
    pub counter_hz: u64,
    #[n(8)]
    pub tsc_hz: u64,
}

impl LocalTimer {
    pub(crate) fn new(counter_hz: u64, tsc_hz: u64) -> LocalTimer {
        LocalTimer {
            counter_hz,
            tsc_hz,
            mode: Mode::OneShot,
            divide: 0,
            initial: 0,
            start_ns: 0,
            start_count: 0,
            expired: 0,
            deadline_tsc: 0,
            fires: false,
        }
    }

    /// Changes the mode. To or from the deadline mode, the timer is disarmed.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        if mode == Mode::Deadline || self.mode == Mode::Deadline {
            self.initial = 0;
            self.start_count = 0;
            self.deadline_tsc = 0;
        }
        self.mode = mode;
    }

    pub(crate) fn initial(&self) -> u32 {
        self.initial
    }

    /// Writes the initial count: starts the counter, or stops it with 0.
    pub(crate) fn set_initial(&mut self, now_ns: u64, count: u32) {
        if self.mode != Mode::Deadline {
            self.initial = count;
            self.start_at(now_ns, count);
        }
    }

    pub(crate) fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes the divide configuration: the counter goes on from where it is.
    pub(crate) fn set_divide(&mut self, now_ns: u64, divide: u32) {
        let count = self.count(now_ns);
        self.divide = divide & 0b1011;
        self.start_at(now_ns, count);
    }

    pub(crate) fn deadline_tsc(&self) -> u64 {
        self.deadline_tsc
    }

    /// Writes IA32_TSC_DEADLINE; ignored outside of its mode.
    pub(crate) fn set_deadline_tsc(&mut self, tsc: u64) {
        if self.mode == Mode::Deadline {
            self.deadline_tsc = tsc;
        }
    }

    /// The current count register.
    pub(crate) fn count(&self, now_ns: u64) -> u32 {
        let elapsed = self.ticks_since_start(now_ns);
        let start = u64::from(self.start_count);
        let count = if elapsed < start {
            start - elapsed
        } else if self.mode == Mode::Periodic && self.initial != 0 {
            let initial = u64::from(self.initial);
            initial - (elapsed - start) % initial
        } else {
            0
        };
        u32::try_from(count).expect("no more than the 32-bit count it started from")
    }

    /// Whether it has expired since the last call.
    pub(crate) fn take_fires(&mut self) -> bool {
        std::mem::take(&mut self.fires)
    }

    fn start_at(&mut self, now_ns: u64, count: u32) {
        self.start_ns = now_ns;
        self.start_count = count;
        self.expired = 0;
    }

    /// 11.5.4, figure 11-10: bits 0, 1 and 3 are the exponent less one, and
    /// 0b111 divides by 1.
    fn divisor_log2(&self) -> u32 {
        ((self.divide & 3 | self.divide >> 1 & 4) + 1) & 7
    }

    fn ticks_since_start(&self, now_ns: u64) -> u64 {
        ticks_at(now_ns.saturating_sub(self.start_ns), self.counter_hz) >> self.divisor_log2()
    }

    /// How often the counter has expired since its start.
    fn expiries(&self, now_ns: u64) -> u64 {
        let elapsed = self.ticks_since_start(now_ns);
        let start = u64::from(self.start_count);
        if self.start_count == 0 || elapsed < start {
            0
        } else if self.mode == Mode::Periodic && self.initial != 0 {
            1 + (elapsed - start) / u64::from(self.initial)
        } else {
            1
        }
    }
}

impl Device for LocalTimer {
    type State = LocalTimerState;

    fn save(&self) -> LocalTimerState {
        let LocalTimer {
            counter_hz,
            tsc_hz,
            mode,
            divide,
            initial,
            start_ns,
            start_count,
            expired,
            deadline_tsc,
            fires,
        } = *self;
        // Taken by the APIC in the same call that raised it.
        assert!(!fires, "bug: a timer was saved between expiring and firing");
        LocalTimerState {
            divide,
            initial,
            start_ns,
            start_count,
            expired,
            deadline_tsc,
            mode: mode as u32,
            counter_hz,
            tsc_hz,
        }
    }

    fn restore(&mut self, state: LocalTimerState) -> Result<(), Damaged> {
        check(state.mode <= 2, "local APIC timer", "it has no such mode")?;
        check(
            state.counter_hz > 0 && state.tsc_hz > 0,
            "local APIC timer",
            "it has no frequency",
        )?;
        *self = LocalTimer {
            counter_hz: state.counter_hz,
            tsc_hz: state.tsc_hz,
            mode: Mode::of_lvt(state.mode << 17),
            divide: state.divide & 0b1011,
            initial: state.initial,
            start_ns: state.start_ns,
            start_count: state.start_count,
            expired: state.expired,
            deadline_tsc: state.deadline_tsc,
            fires: false,
        };
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        if self.mode == Mode::Deadline {
            return (self.deadline_tsc != 0).then(|| ns_of_ticks(self.deadline_tsc, self.tsc_hz));
        }
        let repeats = self.mode == Mode::Periodic && self.initial != 0;
        if self.start_count == 0 || self.expired > 0 && !repeats {
            return None;
        }
        let counts = u64::from(self.start_count)
            .saturating_add(self.expired.saturating_mul(u64::from(self.initial)));
        let ticks = counts.saturating_mul(1 << self.divisor_log2());
        Some(
            self.start_ns
                .saturating_add(ns_of_ticks(ticks, self.counter_hz)),
        )
    }

    fn alarm(&mut self, now_ns: u64) {
        if self.mode == Mode::Deadline {
            if self.deadline_tsc != 0 && ticks_at(now_ns, self.tsc_hz) >= self.deadline_tsc {
                self.deadline_tsc = 0;
                self.fires = true;
            }
            return;
        }
        let expiries = self.expiries(now_ns);
        if expiries > self.expired {
            // However many were missed, one interrupt tells of them.
            self.expired = expiries;
            self.fires = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::assert_comes_back;

    const GHZ: u64 = 1_000_000_000;

    fn started(mode: Mode, count: u32) -> LocalTimer {
        let mut timer = LocalTimer::new(GHZ, GHZ);
        timer.set_divide(0, 0b1011);
        timer.set_mode(mode);
        timer.set_initial(100, count);
        timer
    }

    #[test]
    fn one_shot_fires_once() {
        let mut timer = started(Mode::OneShot, 50);
        assert_eq!(timer.deadline_ns(), Some(150));
        timer.alarm(149);
        assert!(!timer.take_fires());
        assert_eq!(timer.count(149), 1);
        timer.alarm(150);
        assert!(timer.take_fires());
        assert_eq!(timer.deadline_ns(), None);
        assert_eq!(timer.count(200), 0);
    }

    #[test]
    fn periodic_fires_for_missed_periods_once_and_keeps_step() {
        let mut timer = started(Mode::Periodic, 50);
        timer.alarm(330);
        assert!(timer.take_fires());
        assert_eq!(timer.deadline_ns(), Some(350));
        assert_eq!(timer.count(330), 20);
    }

    #[test]
    fn the_divisor_is_two_by_default_and_sixteen_as_linux_sets_it() {
        let mut timer = LocalTimer::new(GHZ, GHZ);
        timer.set_initial(0, 1);
        assert_eq!(timer.deadline_ns(), Some(2));
        timer.set_divide(0, 0b0011);
        timer.set_initial(0, 1);
        assert_eq!(timer.deadline_ns(), Some(16));
    }

    #[test]
    fn a_deadline_fires_at_its_tick_and_disarms() {
        let mut timer = LocalTimer::new(GHZ, 3 * GHZ);
        timer.set_deadline_tsc(100);
        assert_eq!(timer.deadline_ns(), None, "not in its mode");
        timer.set_mode(Mode::Deadline);
        timer.set_deadline_tsc(100);
        assert_eq!(timer.deadline_ns(), Some(34));
        timer.alarm(33);
        assert!(!timer.take_fires());
        timer.alarm(34);
        assert!(timer.take_fires());
        assert_eq!(timer.deadline_tsc(), 0);
    }

    #[test]
    fn a_saved_timer_comes_back() {
        let mut timer = started(Mode::Periodic, 50);
        timer.alarm(330);
        timer.take_fires();
        assert_comes_back(&timer, LocalTimer::new(1, 1));
    }
}
