//! The real-time clock and its battery-backed memory (Motorola MC146818A):
//! ports 0x70 and 0x71.
//!
//! The date is the machine's starting date plus guest time; writing it changes
//! an offset. Flags are worked out from the time since they were last looked
//! at, so a clock whose interrupts are off costs nothing.

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device, check};

const NS_PER_S: u64 = 1_000_000_000;
const DAY_S: i64 = 86_400;
/// Update-in-progress is up for this long before each second.
const UPDATE_NS: u64 = 244_141;
/// Frequency of the periodic interrupt's divider chain.
const DIVIDER_HZ: u64 = 32_768;
/// 1 January 0000 and 31 December 9999: what four digits of year can say.
const FIRST_S: i64 = -62_167_219_200;
const LAST_S: i64 = 253_402_300_799;

/// Where the century is kept: the FADT says so.
const CENTURY: usize = 0x32;

/// Register A.
mod a {
    pub(super) const UPDATE: u8 = 1 << 7;
    pub(super) const RATE: u8 = 0x0f;
}
/// Register B, and the flags of C at the same places.
mod b {
    pub(super) const SET: u8 = 1 << 7;
    pub(super) const PERIODIC: u8 = 1 << 6;
    pub(super) const ALARM: u8 = 1 << 5;
    pub(super) const UPDATE: u8 = 1 << 4;
    pub(super) const BINARY: u8 = 1 << 2;
    pub(super) const HOURS_24: u8 = 1 << 1;
    /// C: any enabled flag is up.
    pub(super) const REQUEST: u8 = 1 << 7;
}

/// The registers by index. Those from 14 are memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Second,
    SecondAlarm,
    Minute,
    MinuteAlarm,
    Hour,
    HourAlarm,
    DayOfWeek,
    Day,
    Month,
    Year,
    A,
    B,
    C,
    D,
    Century,
    Memory(usize),
}

impl Register {
    fn at(index: u8) -> Register {
        match index & 0x7f {
            0 => Register::Second,
            1 => Register::SecondAlarm,
            2 => Register::Minute,
            3 => Register::MinuteAlarm,
            4 => Register::Hour,
            5 => Register::HourAlarm,
            6 => Register::DayOfWeek,
            7 => Register::Day,
            8 => Register::Month,
            9 => Register::Year,
            10 => Register::A,
            11 => Register::B,
            12 => Register::C,
            13 => Register::D,
            index if usize::from(index) == CENTURY => Register::Century,
            index => Register::Memory(index.into()),
        }
    }
}

/// A date and time of day (UTC, Gregorian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

/// The real-time clock.
#[derive(Clone, Debug)]
pub struct Rtc {
    /// The date at guest time 0, in seconds since 1970.
    start_s: i64,
    /// While B.SET is up the date stands still, and is this.
    frozen: Option<Date>,
    index: u8,
    a: u8,
    b: u8,
    /// Flags of C, without the request bit.
    flags: u8,
    /// The alarm registers as written: second, minute, hour.
    alarm: [u8; 3],
    /// Flags tell of everything up to here.
    settled_ns: u64,
    /// Memory; the first 14 bytes are not used.
    memory: [u8; 128],
}

/// An [`Rtc`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct RtcState {
    #[n(0)]
    pub start_s: i64,
    /// Year, month, day, hour, minute, second.
    #[n(1)]
    pub frozen: Option<(i64, u8, u8, u8, u8, u8)>,
    #[n(2)]
    pub index: u8,
    #[n(3)]
    pub a: u8,
    #[n(4)]
    pub b: u8,
    #[n(5)]
    pub flags: u8,
    #[n(6)]
    pub alarm: [u8; 3],
    #[n(7)]
    pub settled_ns: u64,
    #[cbor(n(8), with = "minicbor::bytes")]
    pub memory: [u8; 128],
}

impl Rtc {
    /// A clock that shows `start_unix_s` (seconds since 1970, UTC) at guest
    /// time 0, in a machine with `low_bytes` of memory below 4 GiB and
    /// `high_bytes` above, which firmware would have noted in its memory.
    pub fn new(start_unix_s: u64, low_bytes: u64, high_bytes: u64) -> Rtc {
        let mut memory = [0; 128];
        let mut note =
            |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        let saturate = |value: u64| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        note(0x15, &640u16.to_le_bytes());
        let extended_kib = saturate(low_bytes.saturating_sub(1 << 20) >> 10);
        note(0x17, &extended_kib);
        note(0x30, &extended_kib);
        note(0x34, &saturate(low_bytes.saturating_sub(16 << 20) >> 16));
        let high_64_kib = (high_bytes >> 16).min(0xff_ffff).to_le_bytes();
        note(0x5b, &high_64_kib[..3]);
        Rtc {
            start_s: i64::try_from(start_unix_s).unwrap_or(LAST_S).min(LAST_S),
            frozen: None,
            index: 0,
            a: 0x26,
            b: b::HOURS_24,
            flags: 0,
            alarm: [0; 3],
            settled_ns: 0,
            memory,
        }
    }

    /// The machine is reset: interrupts are disabled and flags cleared. Date
    /// and memory have a battery (MC146818A, "RESET").
    pub fn reset(&mut self, now_ns: u64) {
        self.alarm(now_ns);
        self.b &= !(b::PERIODIC | b::ALARM | b::UPDATE);
        self.flags = 0;
    }

    /// Writes port 0x70: which register port 0x71 is. Bit 7 would hold off
    /// non-maskable interrupts, which nothing here raises through it.
    pub fn select(&mut self, index: u8) {
        self.index = index & 0x7f;
    }

    /// Reads port 0x71.
    pub fn read(&mut self, now_ns: u64) -> u8 {
        let date = self.date(now_ns);
        match Register::at(self.index) {
            Register::Second => self.encode(date.second),
            Register::Minute => self.encode(date.minute),
            Register::Hour => self.encode_hour(date.hour),
            Register::DayOfWeek => self.encode(day_of_week(&date)),
            Register::Day => self.encode(date.day),
            Register::Month => self.encode(date.month),
            Register::Year => self.encode((date.year % 100) as u8),
            Register::Century => self.encode((date.year / 100 % 100) as u8),
            Register::SecondAlarm => self.alarm[0],
            Register::MinuteAlarm => self.alarm[1],
            Register::HourAlarm => self.alarm[2],
            Register::A => {
                self.a
                    | if self.is_updating(now_ns) {
                        a::UPDATE
                    } else {
                        0
                    }
            }
            Register::B => self.b,
            Register::C => {
                self.alarm(now_ns);
                let flags = self.flags | if self.irq() { b::REQUEST } else { 0 };
                self.flags = 0;
                flags
            }
            // Time and memory are valid: the battery is good.
            Register::D => 0x80,
            Register::Memory(at) => self.memory[at],
        }
    }

    /// Writes port 0x71.
    pub fn write(&mut self, now_ns: u64, value: u8) {
        // What happened until now, happened under the old settings.
        self.alarm(now_ns);
        match Register::at(self.index) {
            Register::A => self.a = value & !a::UPDATE,
            Register::B => self.write_b(now_ns, value),
            Register::C | Register::D => {}
            Register::SecondAlarm => self.alarm[0] = value,
            Register::MinuteAlarm => self.alarm[1] = value,
            Register::HourAlarm => self.alarm[2] = value,
            Register::Memory(at) => self.memory[at] = value,
            field => {
                let mut date = self.date(now_ns);
                let number = self.decode(value);
                match field {
                    Register::Second => date.second = number,
                    Register::Minute => date.minute = number,
                    Register::Hour => date.hour = self.decode_hour(value),
                    Register::Day => date.day = number,
                    Register::Month => date.month = number,
                    Register::Year => date.year = date.year / 100 * 100 + i64::from(number),
                    Register::Century => date.year = date.year % 100 + i64::from(number) * 100,
                    // The day of the week follows from the date.
                    _ => {}
                }
                self.set_date(now_ns, date);
            }
        }
    }

    /// Whether interrupt line 8 is up.
    pub fn irq(&self) -> bool {
        self.flags & self.b & (b::PERIODIC | b::ALARM | b::UPDATE) != 0
    }

    fn write_b(&mut self, now_ns: u64, value: u8) {
        let date = self.date(now_ns);
        // Setting SET ends update interrupts (MC146818A, register B).
        self.b = if value & b::SET != 0 {
            value & !b::UPDATE
        } else {
            value
        };
        if self.b & b::SET != 0 {
            self.frozen = Some(date);
        } else if self.frozen.take().is_some() {
            self.set_date(now_ns, date);
        }
    }

    fn date(&self, now_ns: u64) -> Date {
        self.frozen
            .unwrap_or_else(|| Date::of_unix(self.unix_s(now_ns)))
    }

    fn set_date(&mut self, now_ns: u64, date: Date) {
        if self.b & b::SET != 0 {
            self.frozen = Some(date);
        } else {
            let elapsed_s = i64::try_from(now_ns / NS_PER_S).unwrap_or(i64::MAX);
            self.start_s = date.to_unix().saturating_sub(elapsed_s);
        }
    }

    /// The date in seconds since 1970, within what the registers can show.
    fn unix_s(&self, now_ns: u64) -> i64 {
        let elapsed_s = i64::try_from(now_ns / NS_PER_S).unwrap_or(i64::MAX);
        self.start_s
            .saturating_add(elapsed_s)
            .clamp(FIRST_S, LAST_S)
    }

    fn runs(&self) -> bool {
        self.frozen.is_none()
    }

    fn is_updating(&self, now_ns: u64) -> bool {
        self.runs() && now_ns % NS_PER_S >= NS_PER_S - UPDATE_NS
    }

    /// The divider's ticks between periodic interrupts; `None`: off.
    fn period_ticks(&self) -> Option<u64> {
        match self.a & a::RATE {
            0 => None,
            // Rates 1 and 2 are those of 8 and 9.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn periods_at(&self, now_ns: u64) -> u64 {
        let period = self.period_ticks();
        period.map_or(0, |ticks| crate::ticks_at(now_ns, DIVIDER_HZ) / ticks)
    }

    /// The seconds of guest time from `after_s` (exclusive) to the next moment
    /// that matches the alarm registers; `None`: they match none.
    fn alarm_after(&self, after_s: u64) -> Option<u64> {
        let second = self.alarm_field(self.alarm[0], self.decode(self.alarm[0]), 60)?;
        let minute = self.alarm_field(self.alarm[1], self.decode(self.alarm[1]), 60)?;
        let hour = self.alarm_field(self.alarm[2], self.decode_hour(self.alarm[2]), 24)?;
        let matches = |field: Option<u8>, value: i64| field.is_none_or(|f| i64::from(f) == value);
        let elapsed_s = i64::try_from(after_s).ok()?;
        let from = self
            .start_s
            .checked_add(elapsed_s)?
            .checked_add(1)?
            .rem_euclid(DAY_S);
        // A day holds a match of anything that matches at all. Whole minutes
        // and hours that don't match are stepped over.
        let mut ahead = 0;
        while ahead < DAY_S {
            let at = (from + ahead) % DAY_S;
            ahead += if !matches(hour, at / 3600) {
                3600 - at % 3600
            } else if !matches(minute, at / 60 % 60) {
                60 - at % 60
            } else if !matches(second, at % 60) {
                1
            } else {
                return after_s
                    .checked_add(1)?
                    .checked_add(u64::try_from(ahead).ok()?);
            };
        }
        None
    }

    /// `Some(None)`: any value matches (the two top bits are set). `None`: no
    /// value does.
    fn alarm_field(&self, raw: u8, decoded: u8, limit: u8) -> Option<Option<u8>> {
        if raw >= 0xc0 {
            Some(None)
        } else {
            (decoded < limit).then_some(Some(decoded))
        }
    }

    fn encode(&self, value: u8) -> u8 {
        if self.b & b::BINARY != 0 {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.b & b::BINARY != 0 {
            value
        } else {
            (value >> 4) * 10 + (value & 0xf)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.b & b::HOURS_24 != 0 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.b & b::HOURS_24 != 0 {
            return self.decode(value);
        }
        let afternoon = if value & 0x80 != 0 { 12 } else { 0 };
        self.decode(value & 0x7f) % 12 + afternoon
    }
}

impl Date {
    /// Days to and from civil dates: Howard Hinnant, "chrono-Compatible
    /// Low-Level Date Algorithms".
    fn of_unix(unix_s: i64) -> Date {
        let days = unix_s.div_euclid(DAY_S) + 719_468;
        let second_of_day = unix_s.rem_euclid(DAY_S);
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Date {
            year,
            month: month as u8,
            day: day as u8,
            hour: (second_of_day / 3600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
        }
    }

    /// The inverse; of fields out of range, something.
    fn to_unix(self) -> i64 {
        let year = if self.month <= 2 {
            self.year - 1
        } else {
            self.year
        };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        days * DAY_S
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }
}

/// Sunday is 1.
fn day_of_week(date: &Date) -> u8 {
    (date.to_unix().div_euclid(DAY_S) + 4).rem_euclid(7) as u8 + 1
}

impl Device for Rtc {
    type State = RtcState;

    fn save(&self) -> RtcState {
        let Rtc {
            start_s,
            frozen,
            index,
            a,
            b,
            flags,
            alarm,
            settled_ns,
            memory,
        } = self;
        RtcState {
            start_s: *start_s,
            frozen: frozen.map(|date| {
                let Date {
                    year,
                    month,
                    day,
                    hour,
                    minute,
                    second,
                } = date;
                (year, month, day, hour, minute, second)
            }),
            index: *index,
            a: *a,
            b: *b,
            flags: *flags,
            alarm: *alarm,
            settled_ns: *settled_ns,
            memory: *memory,
        }
    }

    fn restore(&mut self, state: RtcState) -> Result<(), Damaged> {
        let year_fits = state
            .frozen
            .is_none_or(|date| (-1..=25_999).contains(&date.0));
        check(year_fits, "real-time clock", "its date is out of range")?;
        *self = Rtc {
            start_s: state.start_s,
            frozen: state
                .frozen
                .map(|(year, month, day, hour, minute, second)| Date {
                    year,
                    month,
                    day,
                    hour,
                    minute,
                    second,
                }),
            index: state.index & 0x7f,
            a: state.a & !a::UPDATE,
            b: state.b,
            flags: state.flags & (b::PERIODIC | b::ALARM | b::UPDATE),
            alarm: state.alarm,
            settled_ns: state.settled_ns,
            memory: state.memory,
        };
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        // A flag that is up already needs no telling again.
        let wanted = self.b & !self.flags;
        let settled_s = self.settled_ns / NS_PER_S;
        let periodic = (wanted & b::PERIODIC != 0).then(|| {
            let ticks = self.period_ticks()?;
            let next = self.periods_at(self.settled_ns).saturating_add(1);
            Some(crate::ns_of_ticks(next.saturating_mul(ticks), DIVIDER_HZ))
        });
        let update = (wanted & b::UPDATE != 0 && self.runs()).then_some(Some(settled_s + 1));
        let alarm = (wanted & b::ALARM != 0 && self.runs()).then(|| self.alarm_after(settled_s));
        let seconds = [update.flatten(), alarm.flatten()].into_iter().flatten();
        let second_ns = seconds.min().map(|second| second.saturating_mul(NS_PER_S));
        periodic.flatten().into_iter().chain(second_ns).min()
    }

    fn alarm(&mut self, now_ns: u64) {
        let from_ns = self.settled_ns;
        if now_ns <= from_ns {
            return;
        }
        if self.periods_at(now_ns) > self.periods_at(from_ns) {
            self.flags |= b::PERIODIC;
        }
        let (from_s, to_s) = (from_ns / NS_PER_S, now_ns / NS_PER_S);
        if self.runs() && to_s > from_s {
            self.flags |= b::UPDATE;
            if self.alarm_after(from_s).is_some_and(|at_s| at_s <= to_s) {
                self.flags |= b::ALARM;
            }
        }
        self.settled_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::device::tests::assert_comes_back;

    /// 2026-11-23 22:26:40 UTC, a Monday.
    const START_S: u64 = 1_795_472_800;

    fn clock() -> Rtc {
        Rtc::new(START_S, 512 << 20, 0)
    }

    fn read(rtc: &mut Rtc, now_ns: u64, index: u8) -> u8 {
        rtc.select(index);
        rtc.read(now_ns)
    }

    fn write(rtc: &mut Rtc, now_ns: u64, index: u8, value: u8) {
        rtc.select(index);
        rtc.write(now_ns, value);
    }

    #[test]
    fn the_date_is_the_start_plus_guest_time() {
        let mut rtc = clock();
        let fields = [0x32, 9, 8, 7, 4, 2, 0, 6].map(|index| read(&mut rtc, 65 * NS_PER_S, index));
        assert_eq!(fields, [0x20, 0x26, 0x11, 0x23, 0x22, 0x27, 0x45, 0x02]);
    }

    #[test]
    fn a_date_that_is_set_goes_on_from_there() {
        let mut rtc = clock();
        write(&mut rtc, 0, 11, b::SET | b::HOURS_24);
        for (index, value) in [
            (9, 0x30),
            (8, 0x02),
            (7, 0x28),
            (4, 0x23),
            (2, 0x59),
            (0, 0x59),
        ] {
            write(&mut rtc, 0, index, value);
        }
        assert_eq!(read(&mut rtc, 5 * NS_PER_S, 0), 0x59, "it stands still");
        write(&mut rtc, 5 * NS_PER_S, 11, b::HOURS_24);
        assert_eq!(read(&mut rtc, 6 * NS_PER_S, 8), 0x03);
        assert_eq!(read(&mut rtc, 6 * NS_PER_S, 7), 0x01);
    }

    #[test]
    fn twelve_hours_are_told_with_an_afternoon() {
        let mut rtc = clock();
        write(&mut rtc, 0, 11, b::BINARY);
        assert_eq!(read(&mut rtc, 0, 4), 0x80 | 10);
        assert_eq!(read(&mut rtc, 2 * 3600 * NS_PER_S, 4), 12);
    }

    #[test]
    fn the_update_interrupt_comes_each_second_once_acknowledged() {
        let mut rtc = clock();
        write(&mut rtc, 0, 11, b::HOURS_24 | b::UPDATE);
        assert_eq!(rtc.deadline_ns(), Some(NS_PER_S));
        rtc.alarm(NS_PER_S);
        assert!(rtc.irq());
        assert_eq!(rtc.deadline_ns(), None);
        assert_eq!(
            read(&mut rtc, NS_PER_S + 5, 12) & 0xf0,
            0x80 | b::UPDATE | b::PERIODIC
        );
        assert!(!rtc.irq());
        assert_eq!(rtc.deadline_ns(), Some(2 * NS_PER_S));
    }

    #[test]
    fn the_periodic_interrupt_comes_1024_times_a_second() {
        let mut rtc = clock();
        write(&mut rtc, 0, 11, b::HOURS_24 | b::PERIODIC);
        assert_eq!(rtc.deadline_ns(), Some(976_563));
        rtc.alarm(976_563);
        assert!(rtc.irq());
    }

    #[test]
    fn the_alarm_comes_at_its_time_of_day() {
        let mut rtc = clock();
        for (index, value) in [
            (1, 0x10),
            (3, 0x27),
            (5, 0xff),
            (11, b::HOURS_24 | b::ALARM),
        ] {
            write(&mut rtc, 0, index, value);
        }
        assert_eq!(rtc.deadline_ns(), Some(30 * NS_PER_S));
        rtc.alarm(30 * NS_PER_S);
        assert!(rtc.irq());
    }

    #[test]
    fn an_impossible_alarm_never_comes() {
        let mut rtc = clock();
        write(&mut rtc, 0, 5, 0x30);
        write(&mut rtc, 0, 11, b::HOURS_24 | b::ALARM);
        assert_eq!(rtc.deadline_ns(), None);
    }

    #[test]
    fn memory_is_noted() {
        let mut rtc = clock();
        let size = u16::from_le_bytes([read(&mut rtc, 0, 0x34), read(&mut rtc, 0, 0x35)]);
        assert_eq!(u64::from(size) << 16, (512 << 20) - (16 << 20));
    }

    #[test]
    fn a_saved_clock_comes_back() {
        let mut rtc = clock();
        write(&mut rtc, 0, 11, b::HOURS_24 | b::UPDATE | b::SET);
        write(&mut rtc, 0, 0x40, 7);
        rtc.alarm(5 * NS_PER_S);
        assert_comes_back(&rtc, Rtc::new(0, 0, 0));
    }

    proptest! {
        #[test]
        fn dates_come_back(unix_s in FIRST_S..=LAST_S) {
            prop_assert_eq!(Date::of_unix(unix_s).to_unix(), unix_s);
        }

        #[test]
        fn no_accesses_break_it(accesses: Vec<(u8, u8, bool, u32)>) {
            let mut rtc = clock();
            let mut now_ns = 0u64;
            for (index, value, writes, later_ns) in accesses {
                now_ns += u64::from(later_ns);
                rtc.select(index);
                if writes { rtc.write(now_ns, value) } else { rtc.read(now_ns); }
                rtc.alarm(now_ns);
                prop_assert!(rtc.deadline_ns().is_none_or(|at_ns| at_ns > now_ns));
            }
        }
    }
}
