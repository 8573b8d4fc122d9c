//! The keyboard controller of a PC (Intel 8042) with a keyboard and no mouse:
//! ports 0x60, 0x64 and 0x92.
//!
//! Answers are there at once. The controller drops its line for a moment when
//! a byte is read; the board sees to the edge that follows.

use std::collections::VecDeque;

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device, check};

/// Bytes that may wait to be read.
const QUEUE: usize = 64;

/// Bits of the command byte.
mod command {
    pub(super) const INTERRUPT: u8 = 1 << 0;
    pub(super) const SYSTEM: u8 = 1 << 2;
    pub(super) const KEYBOARD_OFF: u8 = 1 << 4;
    pub(super) const TRANSLATE: u8 = 1 << 6;
}

/// Answers of the keyboard.
mod answer {
    pub(super) const ACKNOWLEDGE: u8 = 0xfa;
    pub(super) const RESEND: u8 = 0xfe;
    pub(super) const SELF_TEST_PASSED: u8 = 0xaa;
}

/// The controller and the keyboard behind it.
#[derive(Clone, Debug)]
pub struct Keyboard {
    command: u8,
    /// The controller's command whose data byte comes next to port 0x60; 0: it
    /// is for the keyboard.
    awaits: u8,
    /// The keyboard's command whose data byte comes next; 0: none.
    keyboard_awaits: u8,
    /// Whether the last write went to port 0x64 (status bit 3).
    last_was_command: bool,
    /// The output port: bit 1 is A20.
    output_port: u8,
    queue: VecDeque<u8>,
    leds: u8,
    scan_set: u8,
    scans: bool,
    /// What port 0x60 gives when nothing waits.
    last_read: u8,
}

/// A [`Keyboard`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct KeyboardState {
    #[n(0)]
    pub command: u8,
    #[n(1)]
    pub awaits: u8,
    #[n(2)]
    pub keyboard_awaits: u8,
    #[n(3)]
    pub last_was_command: bool,
    #[n(4)]
    pub output_port: u8,
    #[cbor(n(5), with = "minicbor::bytes")]
    pub queue: Vec<u8>,
    #[n(6)]
    pub leds: u8,
    #[n(7)]
    pub scan_set: u8,
    #[n(8)]
    pub scans: bool,
    #[n(9)]
    pub last_read: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Keyboard::new()
    }
}

impl Keyboard {
    /// As firmware leaves it: self-test passed, translation on, no interrupts.
    pub fn new() -> Keyboard {
        Keyboard {
            command: command::SYSTEM | command::TRANSLATE,
            awaits: 0,
            keyboard_awaits: 0,
            last_was_command: true,
            output_port: 0xdf,
            queue: VecDeque::new(),
            leds: 0,
            scan_set: 2,
            scans: true,
            last_read: 0,
        }
    }

    /// Reads port 0x60: the byte that waits.
    pub fn read_data(&mut self) -> u8 {
        if let Some(byte) = self.queue.pop_front() {
            self.last_read = byte;
        }
        self.last_read
    }

    /// Reads port 0x64: status. Input is taken at once, so bit 1 is never set.
    pub fn read_status(&self) -> u8 {
        let full = u8::from(!self.queue.is_empty());
        let system = self.command & command::SYSTEM;
        // Bit 4: the keyboard is not locked.
        full | system | u8::from(self.last_was_command) << 3 | 1 << 4
    }

    /// Writes port 0x64. Returns whether the machine is to be reset.
    pub fn write_command(&mut self, value: u8) -> bool {
        self.last_was_command = true;
        self.awaits = 0;
        match value {
            0x20 => self.answer(self.command),
            0x60 | 0xd1 | 0xd2 | 0xd3 | 0xd4 => self.awaits = value,
            // No mouse: the interface test finds its clock line stuck low.
            0xa9 => self.answer(1),
            0xaa => {
                self.command |= command::SYSTEM;
                self.answer(0x55);
            }
            0xab => self.answer(0),
            0xad => self.command |= command::KEYBOARD_OFF,
            0xae => self.command &= !command::KEYBOARD_OFF,
            0xc0 => self.answer(0xa0),
            0xd0 => self.answer(self.output_port),
            // Pulse the bits that are low; bit 0 is the processor's reset.
            0xf0..=0xff => return value & 1 == 0,
            _ => {}
        }
        false
    }

    /// Writes port 0x60: data of a command, or a byte to the keyboard. Returns
    /// whether the machine is to be reset.
    pub fn write_data(&mut self, value: u8) -> bool {
        self.last_was_command = false;
        match std::mem::take(&mut self.awaits) {
            0x60 => self.command = value,
            0xd1 => {
                self.output_port = value;
                return value & 1 == 0;
            }
            // Into the output buffer, as if it came from the keyboard.
            0xd2 => self.answer(value),
            // There is no mouse to answer.
            0xd3 | 0xd4 => {}
            _ => self.tell_keyboard(value),
        }
        false
    }

    /// Reads port 0x92.
    pub fn read_fast(&self) -> u8 {
        self.output_port & 1 << 1
    }

    /// Writes port 0x92: A20, and reset by bit 0. Returns whether the machine
    /// is to be reset.
    pub fn write_fast(&mut self, value: u8) -> bool {
        self.output_port = self.output_port & !(1 << 1) | value & 1 << 1;
        value & 1 != 0
    }

    /// Whether interrupt line 1 is up.
    pub fn irq(&self) -> bool {
        self.command & command::INTERRUPT != 0 && !self.queue.is_empty()
    }

    fn answer(&mut self, byte: u8) {
        if self.queue.len() < QUEUE {
            self.queue.push_back(byte);
        }
    }

    fn tell_keyboard(&mut self, value: u8) {
        // A byte to the keyboard turns its interface on again.
        self.command &= !command::KEYBOARD_OFF;
        match std::mem::take(&mut self.keyboard_awaits) {
            0xed => {
                self.leds = value & 7;
                return self.answer(answer::ACKNOWLEDGE);
            }
            0xf3 => return self.answer(answer::ACKNOWLEDGE),
            0xf0 => {
                self.answer(answer::ACKNOWLEDGE);
                match value {
                    0 => self.answer(self.scan_set),
                    1..=3 => self.scan_set = value,
                    _ => {}
                }
                return;
            }
            _ => {}
        }
        match value {
            0xee => self.answer(0xee),
            0xed | 0xf0 | 0xf3 => {
                self.keyboard_awaits = value;
                self.answer(answer::ACKNOWLEDGE);
            }
            0xf2 => {
                self.answer(answer::ACKNOWLEDGE);
                self.answer(0xab);
                // The second byte comes through the translation.
                let translated = self.command & command::TRANSLATE != 0;
                self.answer(if translated { 0x41 } else { 0x83 });
            }
            0xf4..=0xf6 => {
                self.scans = value != 0xf5;
                self.scan_set = if value == 0xf6 { 2 } else { self.scan_set };
                self.answer(answer::ACKNOWLEDGE);
            }
            0xff => {
                (self.leds, self.scan_set, self.scans) = (0, 2, true);
                self.answer(answer::ACKNOWLEDGE);
                self.answer(answer::SELF_TEST_PASSED);
            }
            _ => self.answer(answer::RESEND),
        }
    }
}

impl Device for Keyboard {
    type State = KeyboardState;

    fn save(&self) -> KeyboardState {
        let Keyboard {
            command,
            awaits,
            keyboard_awaits,
            last_was_command,
            output_port,
            queue,
            leds,
            scan_set,
            scans,
            last_read,
        } = self;
        KeyboardState {
            command: *command,
            awaits: *awaits,
            keyboard_awaits: *keyboard_awaits,
            last_was_command: *last_was_command,
            output_port: *output_port,
            queue: queue.iter().copied().collect(),
            leds: *leds,
            scan_set: *scan_set,
            scans: *scans,
            last_read: *last_read,
        }
    }

    fn restore(&mut self, state: KeyboardState) -> Result<(), Damaged> {
        check(
            state.queue.len() <= QUEUE,
            "keyboard",
            "its queue is too long",
        )?;
        *self = Keyboard {
            command: state.command,
            awaits: state.awaits,
            keyboard_awaits: state.keyboard_awaits,
            last_was_command: state.last_was_command,
            output_port: state.output_port,
            queue: state.queue.into(),
            leds: state.leds,
            scan_set: state.scan_set,
            scans: state.scans,
            last_read: state.last_read,
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

    fn read_all(keyboard: &mut Keyboard) -> Vec<u8> {
        let mut bytes = Vec::new();
        while keyboard.read_status() & 1 != 0 {
            bytes.push(keyboard.read_data());
        }
        bytes
    }

    #[test]
    fn the_self_test_passes() {
        let mut keyboard = Keyboard::new();
        keyboard.write_command(0xaa);
        assert_eq!(read_all(&mut keyboard), [0x55]);
    }

    #[test]
    fn the_command_byte_is_read_back_and_gates_the_interrupt() {
        let mut keyboard = Keyboard::new();
        keyboard.write_command(0x60);
        keyboard.write_data(0x45);
        keyboard.write_command(0x20);
        assert!(keyboard.irq());
        assert_eq!(read_all(&mut keyboard), [0x45]);
        assert!(!keyboard.irq());
    }

    #[test]
    fn the_keyboard_identifies_itself_and_resets() {
        let mut keyboard = Keyboard::new();
        keyboard.write_data(0xf2);
        assert_eq!(read_all(&mut keyboard), [0xfa, 0xab, 0x41]);
        keyboard.write_data(0xff);
        assert_eq!(read_all(&mut keyboard), [0xfa, 0xaa]);
        keyboard.write_data(0xed);
        keyboard.write_data(0x02);
        assert_eq!(read_all(&mut keyboard), [0xfa, 0xfa]);
    }

    #[test]
    fn reset_comes_by_pulse_output_port_and_port_0x92() {
        let mut keyboard = Keyboard::new();
        assert!(keyboard.write_command(0xfe));
        assert!(!keyboard.write_command(0xff));
        keyboard.write_command(0xd1);
        assert!(keyboard.write_data(0xde));
        assert!(!keyboard.write_fast(0x02));
        assert!(keyboard.write_fast(0x01));
    }

    #[test]
    fn endless_commands_do_not_grow_the_queue() {
        let mut keyboard = Keyboard::new();
        (0..1000).for_each(|_| keyboard.write_data(0xff).then_some(()).map_or((), drop));
        assert_eq!(read_all(&mut keyboard).len(), QUEUE);
    }

    #[test]
    fn a_saved_keyboard_comes_back() {
        let mut keyboard = Keyboard::new();
        keyboard.write_data(0xed);
        keyboard.write_command(0xd1);
        assert_comes_back(&keyboard, Keyboard::new());
    }
}
