//! 16550A serial port (National Semiconductor PC16550D).
//!
//! The line is infinitely quick outwards: a byte written has left. Inwards,
//! bytes wait on the line until the guest raises RTS, as with a terminal that
//! honours the hardware handshake: so what is typed before the guest's driver
//! is ready is not lost when the driver empties the FIFO.

use std::collections::VecDeque;

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device, check};

/// Bytes in the receive FIFO.
const FIFO: usize = 16;
/// Bytes that may wait on the line.
const LINE: usize = 4096;

/// Registers by their offset from the port's base. Offsets 0 and 1 are the
/// divisor latch while LCR bit 7 is set.
#[derive(Clone, Copy)]
enum Register {
    Data,
    InterruptEnable,
    /// Read: IIR. Write: FCR.
    InterruptIdentification,
    LineControl,
    ModemControl,
    LineStatus,
    ModemStatus,
    Scratch,
}

impl Register {
    fn at(offset: u8) -> Register {
        match offset & 7 {
            0 => Register::Data,
            1 => Register::InterruptEnable,
            2 => Register::InterruptIdentification,
            3 => Register::LineControl,
            4 => Register::ModemControl,
            5 => Register::LineStatus,
            6 => Register::ModemStatus,
            _ => Register::Scratch,
        }
    }
}

mod ier {
    pub(super) const RECEIVED: u8 = 1 << 0;
    pub(super) const TRANSMITTER_EMPTY: u8 = 1 << 1;
    pub(super) const LINE_STATUS: u8 = 1 << 2;
    pub(super) const MODEM_STATUS: u8 = 1 << 3;
    pub(super) const ALL: u8 = 0x0f;
}
mod iir {
    pub(super) const NONE: u8 = 0x01;
    pub(super) const MODEM_STATUS: u8 = 0x00;
    pub(super) const TRANSMITTER_EMPTY: u8 = 0x02;
    pub(super) const RECEIVED: u8 = 0x04;
    pub(super) const LINE_STATUS: u8 = 0x06;
    pub(super) const FIFO_ENABLED: u8 = 0xc0;
}
mod fcr {
    pub(super) const ENABLE: u8 = 1 << 0;
    pub(super) const CLEAR_RECEIVER: u8 = 1 << 1;
}
mod lcr {
    pub(super) const DIVISOR_LATCH: u8 = 1 << 7;
}
mod mcr {
    pub(super) const DTR: u8 = 1 << 0;
    pub(super) const RTS: u8 = 1 << 1;
    pub(super) const OUT1: u8 = 1 << 2;
    pub(super) const OUT2: u8 = 1 << 3;
    pub(super) const LOOP: u8 = 1 << 4;
    pub(super) const ALL: u8 = 0x1f;
}
mod lsr {
    pub(super) const DATA_READY: u8 = 1 << 0;
    pub(super) const OVERRUN: u8 = 1 << 1;
    pub(super) const TRANSMITTER_EMPTY: u8 = 1 << 5 | 1 << 6;
}
mod msr {
    pub(super) const CTS: u8 = 1 << 4;
    pub(super) const DSR: u8 = 1 << 5;
    pub(super) const RI: u8 = 1 << 6;
    pub(super) const DCD: u8 = 1 << 7;
    /// What a terminal that is there and ready shows.
    pub(super) const TERMINAL: u8 = CTS | DSR | DCD;
}

/// A serial port.
#[derive(Clone, Debug)]
pub struct Uart {
    divisor: u16,
    ier: u8,
    fifo_enabled: bool,
    lcr: u8,
    mcr: u8,
    overrun: bool,
    /// Delta bits 0 to 3 of MSR, cleared by a read.
    modem_deltas: u8,
    scratch: u8,
    /// The transmitter-empty interrupt waits.
    transmitter_event: bool,
    received: VecDeque<u8>,
    line: VecDeque<u8>,
}

/// A [`Uart`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct UartState {
    #[n(0)]
    pub divisor: u16,
    #[n(1)]
    pub ier: u8,
    #[n(2)]
    pub fifo_enabled: bool,
    #[n(3)]
    pub lcr: u8,
    #[n(4)]
    pub mcr: u8,
    #[n(5)]
    pub overrun: bool,
    #[n(6)]
    pub modem_deltas: u8,
    #[n(7)]
    pub scratch: u8,
    #[n(8)]
    pub transmitter_event: bool,
    #[cbor(n(9), with = "minicbor::bytes")]
    pub received: Vec<u8>,
    #[cbor(n(10), with = "minicbor::bytes")]
    pub line: Vec<u8>,
}

impl Default for Uart {
    fn default() -> Self {
        Uart::new()
    }
}

impl Uart {
    /// A port after reset: 9600 baud, no FIFO, no interrupts.
    pub fn new() -> Uart {
        Uart {
            divisor: 12,
            ier: 0,
            fifo_enabled: false,
            lcr: 0,
            mcr: 0,
            overrun: false,
            modem_deltas: 0,
            scratch: 0,
            transmitter_event: false,
            received: VecDeque::new(),
            line: VecDeque::new(),
        }
    }

    /// Reads the register at `offset` (its low three bits count).
    pub fn read(&mut self, offset: u8) -> u8 {
        let latch = self.lcr & lcr::DIVISOR_LATCH != 0;
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match Register::at(offset) {
            Register::Data if latch => divisor_low,
            Register::InterruptEnable if latch => divisor_high,
            Register::Data => {
                let byte = self.received.pop_front().unwrap_or(0);
                self.fetch();
                byte
            }
            Register::InterruptEnable => self.ier,
            Register::InterruptIdentification => {
                let identification = self.identification();
                if identification == iir::TRANSMITTER_EMPTY {
                    self.transmitter_event = false;
                }
                let fifo = if self.fifo_enabled {
                    iir::FIFO_ENABLED
                } else {
                    0
                };
                identification | fifo
            }
            Register::LineControl => self.lcr,
            Register::ModemControl => self.mcr,
            Register::LineStatus => {
                let status = self.line_status();
                self.overrun = false;
                status
            }
            Register::ModemStatus => {
                let status = self.modem_status() | self.modem_deltas;
                self.modem_deltas = 0;
                status
            }
            Register::Scratch => self.scratch,
        }
    }

    /// Writes the register at `offset` (its low three bits count). Returns the
    /// byte that leaves on the line, if one does.
    pub fn write(&mut self, offset: u8, value: u8) -> Option<u8> {
        let latch = self.lcr & lcr::DIVISOR_LATCH != 0;
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match Register::at(offset) {
            Register::Data if latch => self.divisor = u16::from_le_bytes([value, divisor_high]),
            Register::InterruptEnable if latch => {
                self.divisor = u16::from_le_bytes([divisor_low, value]);
            }
            Register::Data => return self.send(value),
            Register::InterruptEnable => {
                let was = self.ier;
                self.ier = value & ier::ALL;
                // Enabled while the transmitter is empty, which it always is.
                if self.ier & !was & ier::TRANSMITTER_EMPTY != 0 {
                    self.transmitter_event = true;
                }
            }
            Register::InterruptIdentification => {
                let enabled = value & fcr::ENABLE != 0;
                // A change of mode empties the FIFO too.
                if enabled != self.fifo_enabled || value & fcr::CLEAR_RECEIVER != 0 {
                    self.received.clear();
                }
                self.fifo_enabled = enabled;
                self.fetch();
            }
            Register::LineControl => self.lcr = value,
            Register::ModemControl => {
                let before = self.modem_status();
                self.mcr = value & mcr::ALL;
                let changed = before ^ self.modem_status();
                // RI tells of its trailing edge only.
                let deltas = changed & !(self.modem_status() & msr::RI);
                self.modem_deltas |= deltas >> 4;
                self.fetch();
            }
            Register::LineStatus | Register::ModemStatus => {}
            Register::Scratch => self.scratch = value,
        }
        None
    }

    /// Whether the interrupt line is up. OUT2 gates it, as on every PC.
    pub fn irq(&self) -> bool {
        let gate = self.mcr & mcr::OUT2 != 0 && !self.loops();
        gate && self.identification() != iir::NONE
    }

    /// How many more bytes the line takes.
    pub fn room(&self) -> usize {
        LINE - self.line.len()
    }

    /// Bytes arrive. Returns how many were taken: never more than
    /// [`Uart::room`].
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.line.extend(&bytes[..taken]);
        self.fetch();
        taken
    }

    fn loops(&self) -> bool {
        self.mcr & mcr::LOOP != 0
    }

    fn capacity(&self) -> usize {
        if self.fifo_enabled { FIFO } else { 1 }
    }

    /// Moves bytes from the line into the FIFO while the guest is ready.
    fn fetch(&mut self) {
        while self.mcr & mcr::RTS != 0 && !self.loops() && self.received.len() < self.capacity() {
            let Some(byte) = self.line.pop_front() else {
                break;
            };
            self.received.push_back(byte);
        }
    }

    fn send(&mut self, byte: u8) -> Option<u8> {
        self.transmitter_event = true;
        if !self.loops() {
            return Some(byte);
        }
        if self.received.len() < self.capacity() {
            self.received.push_back(byte);
        } else {
            self.overrun = true;
        }
        None
    }

    fn line_status(&self) -> u8 {
        let mut status = lsr::TRANSMITTER_EMPTY;
        if !self.received.is_empty() {
            status |= lsr::DATA_READY;
        }
        if self.overrun {
            status |= lsr::OVERRUN;
        }
        status
    }

    /// Bits 4 to 7 of MSR. In loop mode they follow MCR.
    fn modem_status(&self) -> u8 {
        if !self.loops() {
            return msr::TERMINAL;
        }
        [
            (mcr::RTS, msr::CTS),
            (mcr::DTR, msr::DSR),
            (mcr::OUT1, msr::RI),
            (mcr::OUT2, msr::DCD),
        ]
        .into_iter()
        .filter(|(out, _)| self.mcr & out != 0)
        .fold(0, |status, (_, input)| status | input)
    }

    /// IIR bits 0 to 3: the interrupt of highest priority that waits.
    fn identification(&self) -> u8 {
        let wants = |enable: u8, event: bool| self.ier & enable != 0 && event;
        if wants(ier::LINE_STATUS, self.overrun) {
            iir::LINE_STATUS
        } else if wants(ier::RECEIVED, !self.received.is_empty()) {
            // Below the trigger level a 16550 waits four characters' time; on a
            // line without a speed that is at once.
            iir::RECEIVED
        } else if wants(ier::TRANSMITTER_EMPTY, self.transmitter_event) {
            iir::TRANSMITTER_EMPTY
        } else if wants(ier::MODEM_STATUS, self.modem_deltas != 0) {
            iir::MODEM_STATUS
        } else {
            iir::NONE
        }
    }
}

impl Device for Uart {
    type State = UartState;

    fn save(&self) -> UartState {
        let Uart {
            divisor,
            ier,
            fifo_enabled,
            lcr,
            mcr,
            overrun,
            modem_deltas,
            scratch,
            transmitter_event,
            received,
            line,
        } = self;
        UartState {
            divisor: *divisor,
            ier: *ier,
            fifo_enabled: *fifo_enabled,
            lcr: *lcr,
            mcr: *mcr,
            overrun: *overrun,
            modem_deltas: *modem_deltas,
            scratch: *scratch,
            transmitter_event: *transmitter_event,
            received: received.iter().copied().collect(),
            line: line.iter().copied().collect(),
        }
    }

    fn restore(&mut self, state: UartState) -> Result<(), Damaged> {
        check(
            state.received.len() <= FIFO,
            "serial port",
            "its FIFO is too long",
        )?;
        check(
            state.line.len() <= LINE,
            "serial port",
            "too much waits on its line",
        )?;
        *self = Uart {
            divisor: state.divisor,
            ier: state.ier & ier::ALL,
            fifo_enabled: state.fifo_enabled,
            lcr: state.lcr,
            mcr: state.mcr & mcr::ALL,
            overrun: state.overrun,
            modem_deltas: state.modem_deltas & 0xf,
            scratch: state.scratch,
            transmitter_event: state.transmitter_event,
            received: state.received.into(),
            line: state.line.into(),
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

    /// As Linux opens the port: FIFO on, DTR, RTS and OUT2 up.
    fn open(uart: &mut Uart) {
        uart.write(2, 0x07);
        uart.write(4, 0x0b);
    }

    #[test]
    fn loop_mode_shows_modem_control_in_modem_status() {
        let mut uart = Uart::new();
        // Linux's autoconfig: LOOP | OUT2 | RTS, expects DCD | CTS.
        uart.write(4, 0x1a);
        assert_eq!(uart.read(6) & 0xf0, 0x90);
    }

    #[test]
    fn the_fifo_is_announced_when_enabled() {
        let mut uart = Uart::new();
        uart.write(2, 0x01);
        assert_eq!(uart.read(2) >> 6, 3);
    }

    #[test]
    fn the_transmitter_interrupt_comes_when_enabled_and_goes_when_identified() {
        let mut uart = Uart::new();
        open(&mut uart);
        uart.write(1, 0x02);
        assert!(uart.irq());
        assert_eq!(uart.read(2) & 0xf, 0x02);
        assert!(!uart.irq());
        // Linux's test for a port that forgets: off, on again.
        uart.write(1, 0);
        uart.write(1, 0x02);
        assert_eq!(uart.read(2) & 0xf, 0x02);
    }

    #[test]
    fn bytes_typed_early_wait_until_the_guest_is_ready() {
        let mut uart = Uart::new();
        assert_eq!(uart.receive(b"ls\n"), 3);
        assert_eq!(uart.read(5) & 1, 0);
        open(&mut uart);
        uart.write(1, 0x01);
        assert!(uart.irq());
        let read: Vec<u8> = (0..3).map(|_| uart.read(0)).collect();
        assert_eq!(read, b"ls\n");
        assert!(!uart.irq());
    }

    #[test]
    fn a_full_line_takes_no_more() {
        let mut uart = Uart::new();
        assert_eq!(uart.receive(&[b'x'; LINE + 1]), LINE);
        assert_eq!(uart.receive(b"y"), 0);
    }

    #[test]
    fn what_is_written_is_sent_but_not_the_divisor() {
        let mut uart = Uart::new();
        uart.write(3, 0x83);
        assert_eq!(uart.write(0, 1), None);
        uart.write(3, 0x03);
        assert_eq!(uart.write(0, b'A'), Some(b'A'));
    }

    #[test]
    fn a_saved_port_comes_back() {
        let mut uart = Uart::new();
        open(&mut uart);
        uart.write(1, 0x0f);
        uart.receive(b"twenty bytes and some");
        uart.write(0, b'z');
        assert_comes_back(&uart, Uart::new());
    }
}
