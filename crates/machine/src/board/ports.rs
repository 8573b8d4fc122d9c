//! The bytes of the I/O ports.

use super::{Board, irq, place};

/// What stands behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Pics,
    Pit,
    KeyboardData,
    KeyboardCommand,
    KeyboardFast,
    RtcIndex,
    RtcData,
    Uart(u8),
    Uart2(u8),
    Power(u16),
    Reset,
    Debug,
    /// PCI configuration, until there is PCI, and everything else.
    Nothing,
}

impl Port {
    fn at(port: u16) -> Port {
        match port {
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => Port::Pics,
            0x40..=0x43 | 0x61 => Port::Pit,
            0x60 => Port::KeyboardData,
            0x64 => Port::KeyboardCommand,
            0x92 => Port::KeyboardFast,
            0x70 => Port::RtcIndex,
            0x71 => Port::RtcData,
            0x3f8..=0x3ff => Port::Uart((port - place::UART) as u8),
            0x2f8..=0x2ff => Port::Uart2((port - place::UART2) as u8),
            0x600..=0x60b => Port::Power(port - place::POWER),
            place::RESET => Port::Reset,
            place::DEBUG => Port::Debug,
            _ => Port::Nothing,
        }
    }
}

impl Board {
    /// Reads the byte at port `number`.
    pub(super) fn byte_in(&mut self, now_ns: u64, number: u16) -> u8 {
        match Port::at(number) {
            Port::Pics => self.pics.read(number),
            Port::Pit => self.pit.read(now_ns, number),
            Port::KeyboardData => {
                let byte = self.keyboard.read_data();
                // The line drops between two bytes.
                self.set_line(irq::KEYBOARD, false);
                self.settle_keyboard();
                byte
            }
            Port::KeyboardCommand => self.keyboard.read_status(),
            Port::KeyboardFast => self.keyboard.read_fast(),
            Port::RtcIndex | Port::Nothing => 0xff,
            Port::RtcData => {
                let byte = self.rtc.read(now_ns);
                self.settle_rtc();
                self.rearm();
                byte
            }
            Port::Uart(offset) => {
                let byte = self.uart.read(offset);
                self.settle_uart();
                byte
            }
            Port::Uart2(offset) => self.uart2_in(offset),
            Port::Power(offset) => {
                let byte = self.power.read(now_ns, offset);
                self.settle_power();
                byte
            }
            Port::Reset => self.power.read_reset(),
            // What Bochs and QEMU answer to "is there a debug port?".
            Port::Debug => place::DEBUG as u8,
        }
    }

    /// Writes the byte at port `number`.
    pub(super) fn byte_out(&mut self, now_ns: u64, number: u16, value: u8) {
        match Port::at(number) {
            Port::Pics => self.pics.write(number, value),
            Port::Pit => {
                self.pit.write(now_ns, number, value);
                self.settle_pit(now_ns);
                self.rearm();
            }
            Port::KeyboardData => {
                let resets = self.keyboard.write_data(value);
                self.settle_keyboard();
                self.end_if_reset(resets);
            }
            Port::KeyboardCommand => {
                let resets = self.keyboard.write_command(value);
                self.settle_keyboard();
                self.end_if_reset(resets);
            }
            Port::KeyboardFast => {
                let resets = self.keyboard.write_fast(value);
                self.end_if_reset(resets);
            }
            Port::RtcIndex => self.rtc.select(value),
            Port::RtcData => {
                self.rtc.write(now_ns, value);
                self.settle_rtc();
                self.rearm();
            }
            Port::Uart(offset) => {
                if let Some(byte) = self.uart.write(offset, value) {
                    self.outputs.print(byte);
                }
                self.settle_uart();
            }
            Port::Uart2(offset) => self.uart2_out(offset, value),
            Port::Power(offset) => {
                let switch = self.power.write(now_ns, offset, value);
                self.settle_power();
                self.rearm();
                self.switch(switch);
            }
            Port::Reset => {
                let switch = self.power.write_reset(value);
                self.switch(switch);
            }
            Port::Debug => self.outputs.debug(value),
            Port::Nothing => {}
        }
    }

    /// Reads the second serial port; as nothing does where there is none.
    fn uart2_in(&mut self, offset: u8) -> u8 {
        let Some(uart) = &mut self.uart2 else {
            return 0xff;
        };
        let byte = uart.read(offset);
        let irq = uart.irq();
        self.set_line(irq::UART2, irq);
        byte
    }

    fn uart2_out(&mut self, offset: u8, value: u8) {
        let Some(uart) = &mut self.uart2 else { return };
        if let Some(byte) = uart.write(offset, value) {
            self.outputs.print2(byte);
        }
        let irq = uart.irq();
        self.set_line(irq::UART2, irq);
    }
}
