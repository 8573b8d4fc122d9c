//! The I/O APIC (Intel 82093AA): 24 pins, each with an entry that says which
//! message it sends to the local APICs.

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device};

/// Pins.
const PINS: usize = 24;
/// Version 0x11, and the number of the last pin.
const VERSION: u32 = 0x0017_0011;

/// Bits of a redirection entry (82093AA, 3.2.4).
mod entry {
    pub(super) const LOGICAL: u64 = 1 << 11;
    pub(super) const REMOTE_REQUEST: u64 = 1 << 14;
    pub(super) const LEVEL: u64 = 1 << 15;
    pub(super) const MASKED: u64 = 1 << 16;
    /// Delivery status is never seen: messages leave at once.
    pub(super) const WRITABLE: u64 = 0xff00_0000_0001_afff;
}

/// What a pin sends over the interrupt bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The vector.
    pub vector: u8,
    /// The delivery mode, 0 to 7, as in a local vector table.
    pub mode: u8,
    /// Which local APIC.
    pub destination: u8,
    /// `destination` is a logical one.
    pub is_logical: bool,
    /// The pin is level-triggered: the end of the interrupt is wanted.
    pub is_level: bool,
}

/// An I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    id: u8,
    select: u8,
    entries: [u64; PINS],
    /// Levels of the pins, by bit.
    lines: u32,
    /// Edges seen and not sent yet, by bit.
    edges: u32,
}

/// An [`IoApic`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct IoApicState {
    #[n(0)]
    pub id: u8,
    #[n(1)]
    pub select: u8,
    #[n(2)]
    pub entries: [u64; PINS],
    #[n(3)]
    pub lines: u32,
    #[n(4)]
    pub edges: u32,
}

impl IoApic {
    /// Where its registers are.
    pub const ADDRESS: u64 = 0xfec0_0000;
    /// Bytes of registers.
    pub const BYTES: u64 = 4096;

    /// After reset: every pin masked.
    pub fn new(id: u8) -> IoApic {
        IoApic {
            id,
            select: 0,
            entries: [entry::MASKED; PINS],
            lines: 0,
            edges: 0,
        }
    }

    /// Reads the 32 bits at `offset` bytes into its page.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => self.select.into(),
            0x10 => self.selected(),
            _ => 0,
        }
    }

    /// Writes the 32 bits at `offset` bytes into its page. Messages that leave
    /// by that are given to `send`.
    pub fn write(&mut self, offset: u64, value: u32, send: &mut impl FnMut(Message)) {
        match offset {
            0x00 => self.select = value as u8,
            0x10 => self.write_selected(value, send),
            _ => {}
        }
    }

    /// Sets the level of `pin` (0 to 23; others don't exist). `true` is
    /// asserted, whatever the entry says of polarity.
    pub fn set_line(&mut self, pin: u8, level: bool, send: &mut impl FnMut(Message)) {
        let Some(redirection) = self.entries.get(usize::from(pin)) else {
            return;
        };
        let bit = 1 << pin;
        let rises = level && self.lines & bit == 0;
        self.lines = if level {
            self.lines | bit
        } else {
            self.lines & !bit
        };
        // A masked pin forgets edges (82093AA, 3.4.2).
        if rises && redirection & (entry::LEVEL | entry::MASKED) == 0 {
            self.edges |= bit;
        }
        self.serve(usize::from(pin), send);
    }

    /// A level-triggered interrupt of `vector` has ended: pins that are still
    /// up send again.
    pub fn end_of_interrupt(&mut self, vector: u8, send: &mut impl FnMut(Message)) {
        for pin in 0..PINS {
            let redirection = &mut self.entries[pin];
            if *redirection as u8 == vector && *redirection & entry::LEVEL != 0 {
                *redirection &= !entry::REMOTE_REQUEST;
                self.serve(pin, send);
            }
        }
    }

    fn serve(&mut self, pin: usize, send: &mut impl FnMut(Message)) {
        let bit = 1 << pin;
        let redirection = &mut self.entries[pin];
        if *redirection & entry::MASKED != 0 {
            return;
        }
        let is_level = *redirection & entry::LEVEL != 0;
        if is_level {
            if self.lines & bit == 0 || *redirection & entry::REMOTE_REQUEST != 0 {
                return;
            }
            *redirection |= entry::REMOTE_REQUEST;
        } else {
            if self.edges & bit == 0 {
                return;
            }
            self.edges &= !bit;
        }
        send(Message {
            vector: *redirection as u8,
            mode: (*redirection >> 8) as u8 & 7,
            destination: (*redirection >> 56) as u8,
            is_logical: *redirection & entry::LOGICAL != 0,
            is_level,
        });
    }

    fn selected(&self) -> u32 {
        match self.select {
            0 | 2 => u32::from(self.id) << 24,
            1 => VERSION,
            0x10..=0x3f => {
                let redirection = self.entries[usize::from(self.select - 0x10) / 2];
                if self.select & 1 == 0 {
                    redirection as u32
                } else {
                    (redirection >> 32) as u32
                }
            }
            _ => 0,
        }
    }

    fn write_selected(&mut self, value: u32, send: &mut impl FnMut(Message)) {
        match self.select {
            0 => self.id = (value >> 24) as u8 & 0xf,
            0x10..=0x3f => {
                let pin = usize::from(self.select - 0x10) / 2;
                let redirection = &mut self.entries[pin];
                let keeps = *redirection & entry::REMOTE_REQUEST;
                let written = if self.select & 1 == 0 {
                    *redirection & !0xffff_ffff | u64::from(value)
                } else {
                    *redirection & 0xffff_ffff | u64::from(value) << 32
                };
                *redirection = written & entry::WRITABLE;
                // Edge-triggered entries have no remote request: Linux clears a
                // stuck one by making the entry so for a moment.
                if *redirection & entry::LEVEL != 0 {
                    *redirection |= keeps;
                    self.edges &= !(1 << pin);
                }
                self.serve(pin, send);
            }
            _ => {}
        }
    }
}

impl Device for IoApic {
    type State = IoApicState;

    fn save(&self) -> IoApicState {
        let IoApic {
            id,
            select,
            entries,
            lines,
            edges,
        } = *self;
        IoApicState {
            id,
            select,
            entries,
            lines,
            edges,
        }
    }

    fn restore(&mut self, state: IoApicState) -> Result<(), Damaged> {
        let IoApicState {
            id,
            select,
            entries,
            lines,
            edges,
        } = state;
        let entries = entries.map(|value| value & (entry::WRITABLE | entry::REMOTE_REQUEST));
        *self = IoApic {
            id,
            select,
            entries,
            lines,
            edges,
        };
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    fn alarm(&mut self, _now_ns: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::assert_comes_back;

    fn ignore(_: Message) {}

    fn with_entry(pin: u8, low: u32) -> IoApic {
        let mut ioapic = IoApic::new(0);
        ioapic.write(0x00, u32::from(0x10 + 2 * pin), &mut ignore);
        ioapic.write(0x10, low, &mut ignore);
        ioapic
    }

    fn messages(ioapic: &mut IoApic, pin: u8, levels: &[bool]) -> usize {
        let mut count = 0;
        for level in levels {
            ioapic.set_line(pin, *level, &mut |_| count += 1);
        }
        count
    }

    #[test]
    fn an_edge_sends_once() {
        let mut ioapic = with_entry(4, 0x31);
        assert_eq!(messages(&mut ioapic, 4, &[true, true, false, true]), 2);
    }

    #[test]
    fn a_masked_edge_is_forgotten() {
        let mut ioapic = with_entry(4, 0x1_0031);
        assert_eq!(messages(&mut ioapic, 4, &[true]), 0);
        let mut count = 0;
        ioapic.write(0x10, 0x31, &mut |_| count += 1);
        assert_eq!(count, 0);
    }

    #[test]
    fn a_level_sends_again_after_its_end_while_it_is_up() {
        let mut ioapic = with_entry(9, 0x8031);
        assert_eq!(messages(&mut ioapic, 9, &[true, false, true]), 1);
        let mut sent = Vec::new();
        ioapic.end_of_interrupt(0x31, &mut |message| sent.push(message.is_level));
        assert_eq!(sent, [true]);
        ioapic.set_line(9, false, &mut ignore);
        ioapic.end_of_interrupt(0x31, &mut |message| sent.push(message.is_level));
        assert_eq!(sent, [true]);
    }

    #[test]
    fn the_version_tells_of_24_pins() {
        let mut ioapic = IoApic::new(0);
        ioapic.write(0x00, 1, &mut ignore);
        assert_eq!(ioapic.read(0x10) >> 16, 23);
    }

    #[test]
    fn a_saved_ioapic_comes_back() {
        let mut ioapic = with_entry(9, 0x8031);
        messages(&mut ioapic, 9, &[true]);
        assert_comes_back(&ioapic, IoApic::new(3));
    }
}
