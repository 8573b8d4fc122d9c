//! ACPI's fixed hardware: power management events, control and timer
//! (ACPI 6.4, 4.8), and the reset control register.
//!
//! The machine is in ACPI mode from the start: there is no SMI command port,
//! and SCI_EN reads as one.

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device};
use crate::ticks::{ns_of_ticks, ticks_at};

/// The power-management timer's frequency (ACPI 6.4, 4.8.3.3).
const TIMER_HZ: u64 = 3_579_545;
/// The timer's most significant bit changes every this many ticks: it is a
/// 32-bit timer.
const CARRY_TICKS: u64 = 1 << 31;

mod pm1 {
    pub(super) const TIMER: u16 = 1 << 0;
    pub(super) const POWER_BUTTON: u16 = 1 << 8;
    /// The events that exist here.
    pub(super) const EVENTS: u16 = TIMER | 1 << 5 | POWER_BUTTON | 1 << 9 | 1 << 10 | 1 << 15;
    pub(super) const SCI_EN: u16 = 1 << 0;
    pub(super) const SLP_EN: u16 = 1 << 13;
}

/// What the guest asks of the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Off: soft-off state S5.
    Off,
    /// Reset.
    Reset,
}

/// The power-management block: 12 bytes of ports.
#[derive(Clone, Debug, Default)]
pub struct Power {
    status: u16,
    enable: u16,
    control: u16,
    /// Carries of the timer that status already tells of.
    carries: u64,
    reset_control: u8,
}

/// A [`Power`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct PowerState {
    #[n(0)]
    pub status: u16,
    #[n(1)]
    pub enable: u16,
    #[n(2)]
    pub control: u16,
    #[n(3)]
    pub carries: u64,
    #[n(4)]
    pub reset_control: u8,
}

impl Power {
    /// SLP_TYP of soft-off, as the DSDT's `\_S5` says it.
    pub const SLEEP_TYPE_OFF: u8 = 5;
    /// The value that resets, written to [`Power::write_reset`].
    pub const RESET_VALUE: u8 = 0x06;
    /// Offset of PM1a_EVT (status, then enable), 4 bytes.
    pub const EVENT_OFFSET: u16 = 0;
    /// Offset of PM1a_CNT, 2 bytes.
    pub const CONTROL_OFFSET: u16 = 4;
    /// Offset of PM_TMR, 4 bytes.
    pub const TIMER_OFFSET: u16 = 8;
    /// Bytes of ports.
    pub const BYTES: u16 = 12;

    /// No event has happened.
    pub fn new() -> Power {
        Power::default()
    }

    /// The machine is reset. Carries of the timer from before are no news.
    pub fn reset(&mut self, now_ns: u64) {
        *self = Power::new();
        self.alarm(now_ns);
        self.status = 0;
    }

    /// Reads the byte at `offset` of the block.
    pub fn read(&mut self, now_ns: u64, offset: u16) -> u8 {
        self.alarm(now_ns);
        let [status_low, status_high] = self.status.to_le_bytes();
        let [enable_low, enable_high] = self.enable.to_le_bytes();
        let [control_low, control_high] = (self.control | pm1::SCI_EN).to_le_bytes();
        let timer = ticks_at(now_ns, TIMER_HZ).to_le_bytes();
        match offset {
            0 => status_low,
            1 => status_high,
            2 => enable_low,
            3 => enable_high,
            4 => control_low,
            5 => control_high,
            8..12 => timer[usize::from(offset - 8)],
            _ => 0xff,
        }
    }

    /// Writes the byte at `offset` of the block.
    pub fn write(&mut self, now_ns: u64, offset: u16, value: u8) -> Option<Switch> {
        self.alarm(now_ns);
        let low = u16::from(value);
        let high = low << 8;
        match offset {
            // Status bits are cleared by writing ones.
            0 => self.status &= !low,
            1 => self.status &= !high,
            2 => self.enable = (self.enable & 0xff00 | low) & pm1::EVENTS,
            3 => self.enable = (self.enable & 0x00ff | high) & pm1::EVENTS,
            4 => self.control = self.control & 0xff00 | low,
            5 => {
                // SLP_EN is write-only.
                self.control = (self.control & 0x00ff | high) & !pm1::SLP_EN;
                let sleep_type = value >> 2 & 7;
                if high & pm1::SLP_EN != 0 && sleep_type == Self::SLEEP_TYPE_OFF {
                    return Some(Switch::Off);
                }
            }
            _ => {}
        }
        None
    }

    /// Reads the reset control register (port 0xcf9).
    pub fn read_reset(&self) -> u8 {
        self.reset_control
    }

    /// Writes the reset control register: bit 2 going up resets.
    pub fn write_reset(&mut self, value: u8) -> Option<Switch> {
        let rises = value & !self.reset_control & 1 << 2 != 0;
        self.reset_control = value & 0x0e;
        rises.then_some(Switch::Reset)
    }

    /// The power button is pressed and let go.
    pub fn press_button(&mut self) {
        self.status |= pm1::POWER_BUTTON;
    }

    /// Whether the system control interrupt is up. Level.
    pub fn irq(&self) -> bool {
        self.status & self.enable & pm1::EVENTS != 0
    }
}

impl Device for Power {
    type State = PowerState;

    fn save(&self) -> PowerState {
        let Power {
            status,
            enable,
            control,
            carries,
            reset_control,
        } = *self;
        PowerState {
            status,
            enable,
            control,
            carries,
            reset_control,
        }
    }

    fn restore(&mut self, state: PowerState) -> Result<(), Damaged> {
        let PowerState {
            status,
            enable,
            control,
            carries,
            reset_control,
        } = state;
        *self = Power {
            status,
            enable: enable & pm1::EVENTS,
            control,
            carries,
            reset_control,
        };
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        let wanted = self.enable & !self.status & pm1::TIMER != 0;
        let next = self.carries.saturating_add(1).saturating_mul(CARRY_TICKS);
        wanted.then(|| ns_of_ticks(next, TIMER_HZ))
    }

    fn alarm(&mut self, now_ns: u64) {
        let carries = ticks_at(now_ns, TIMER_HZ) / CARRY_TICKS;
        if carries > self.carries {
            self.carries = carries;
            self.status |= pm1::TIMER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::assert_comes_back;

    #[test]
    fn the_sleep_register_switches_off() {
        let mut power = Power::new();
        assert_eq!(power.write(0, 5, 5 << 2), None);
        assert_eq!(power.write(0, 5, 5 << 2 | 1 << 5), Some(Switch::Off));
        assert_eq!(power.read(0, 5), 5 << 2);
    }

    #[test]
    fn the_power_button_raises_the_sci_until_its_status_is_cleared() {
        let mut power = Power::new();
        power.write(0, 3, 1);
        power.press_button();
        assert!(power.irq());
        assert_eq!(power.read(0, 1) & 1, 1);
        power.write(0, 1, 1);
        assert!(!power.irq());
    }

    #[test]
    fn a_second_is_3579545_ticks() {
        let mut power = Power::new();
        let bytes = [8, 9, 10, 11].map(|offset| power.read(1_000_000_000, offset));
        assert_eq!(u32::from_le_bytes(bytes), 3_579_545);
    }

    #[test]
    fn the_reset_register_resets_on_the_rise_of_bit_2() {
        let mut power = Power::new();
        assert_eq!(power.write_reset(0x02), None);
        assert_eq!(power.write_reset(Power::RESET_VALUE), Some(Switch::Reset));
        assert_eq!(power.write_reset(Power::RESET_VALUE), None);
    }

    #[test]
    fn a_reset_clears_all_but_the_time() {
        let mut power = Power::new();
        let hour_ns = 3_600_000_000_000;
        power.write(0, 3, 1);
        power.press_button();
        power.write_reset(Power::RESET_VALUE);
        power.reset(hour_ns);
        let registers: Vec<u8> = (0..4).map(|offset| power.read(hour_ns, offset)).collect();
        assert_eq!(registers, [0; 4]);
        assert_eq!(power.read_reset(), 0);
    }

    #[test]
    fn the_timer_carry_is_an_event_when_enabled() {
        let mut power = Power::new();
        power.write(0, 2, 1);
        let deadline_ns = power.deadline_ns().expect("it is enabled");
        power.alarm(deadline_ns - 1);
        assert!(!power.irq());
        power.alarm(deadline_ns);
        assert!(power.irq());
        assert_eq!(power.deadline_ns(), None);
    }

    #[test]
    fn a_saved_block_comes_back() {
        let mut power = Power::new();
        power.write(0, 2, 1);
        power.press_button();
        power.alarm(10_000_000_000_000);
        assert_comes_back(&power, Power::new());
    }
}
