//! The board: which port, address and interrupt line leads to which device.
//!
//! The interrupt line to the processor changes only in here: by an access of
//! the guest's, at a timer's branch count ([`Board::fire`]), or by an input.
//! All three come at moments that a replay reproduces.

#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, reason = "public for the fuzzer only")]
pub(crate) mod hostile;
mod ports;
mod virtio;

use cpu::{Bus, Refused};
use devices::virtio::{Block, Net, Rng, Transport};
use devices::{
    Delivery, Device, IoApic, Keyboard, LocalApic, Message, Pics, Pit, Power, Rtc, Switch, Uart,
};
use memory::Ram;
use x86::{Physical, msr};

use crate::output::Outputs;
use crate::slot::{self, Slot};
use crate::{Clock, MachineConfig, Stop};

/// Where things are, for the tables that tell the guest.
pub(crate) mod place {
    /// COM1.
    pub(crate) const UART: u16 = 0x3f8;
    /// COM2.
    pub(crate) const UART2: u16 = 0x2f8;
    /// The power-management block.
    pub(crate) const POWER: u16 = 0x600;
    /// The reset control register.
    pub(crate) const RESET: u16 = 0xcf9;
    /// Prints a byte.
    pub(crate) const DEBUG: u16 = 0xe9;
    /// isa-debug-exit.
    pub(crate) const DEBUG_EXIT: u16 = 0xf4;
}

/// Interrupt lines of the PC; those of the PICs and, but for the timer's, of
/// the I/O APIC.
pub(crate) mod irq {
    pub(crate) const TIMER: u8 = 0;
    pub(crate) const KEYBOARD: u8 = 1;
    pub(crate) const UART2: u8 = 3;
    pub(crate) const UART: u8 = 4;
    pub(crate) const RTC: u8 = 8;
    /// The system control interrupt: level-triggered.
    pub(crate) const POWER: u8 = 9;
    /// The I/O APIC's pin of the timer.
    pub(crate) const TIMER_PIN: u8 = 2;
}

/// All devices and the wires between them.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) clock: Clock,
    pub(crate) tsc_hz: u64,
    pub(crate) local: LocalApic,
    pub(crate) ioapic: IoApic,
    pub(crate) pics: Pics,
    pub(crate) pit: Pit,
    pub(crate) rtc: Rtc,
    pub(crate) uart: Uart,
    /// Nothing comes in there, and what goes out need not be looked at.
    pub(crate) uart2: Option<Uart>,
    pub(crate) keyboard: Keyboard,
    pub(crate) power: Power,
    pub(crate) disks: Vec<Transport<Block>>,
    pub(crate) nics: Vec<Transport<Net>>,
    pub(crate) rng: Option<Transport<Rng>>,
    /// Which virtio device stands where.
    slots: Vec<Slot>,
    pub(crate) outputs: Outputs,
    /// How often the guest has reset the machine.
    pub(crate) resets: u64,
    has_debug_exit: bool,
    /// Why the machine runs no further.
    pub(crate) ended: Option<Stop>,
    /// The deadline that the run loop knows of; `u64::MAX`: none. Derived.
    armed_ns: u64,
    /// The run loop must look again before the next instruction. Derived.
    needs_attention: bool,
}

impl Board {
    /// A board as firmware leaves it, for a machine of `config` whose memory is
    /// `ram`.
    pub(crate) fn new(config: &MachineConfig, ram: &Ram) -> Board {
        let [low, high] = [0, memory::HOLE_END].map(|start| {
            let mut ranges = ram.ranges().filter(|range| range.0.0 == start);
            ranges.next().map_or(0, |range| range.1)
        });
        Board {
            clock: Clock::new(),
            tsc_hz: config.tsc_hz,
            local: LocalApic::new(0, config.tsc_hz, config.tsc_hz).in_virtual_wire_mode(),
            ioapic: IoApic::new(0),
            pics: Pics::new(),
            pit: Pit::new(),
            rtc: Rtc::new(config.start_unix_s, low, high),
            uart: Uart::new(),
            uart2: config.has_serial2.then(Uart::new),
            keyboard: Keyboard::new(),
            power: Power::new(),
            disks: virtio::empty_drives(config),
            nics: virtio::nics(config),
            rng: virtio::rng(config),
            slots: slot::slots(config),
            outputs: Outputs::default(),
            resets: 0,
            has_debug_exit: config.debug_exit,
            ended: None,
            armed_ns: u64::MAX,
            needs_attention: false,
        }
    }

    /// The board after a reset at `branches`: as firmware leaves it again, but
    /// time goes on, the battery-backed clock keeps its date, disks stay in
    /// their drives and wires in their cards, and what went out went out.
    pub(crate) fn reset(&mut self, config: &MachineConfig, ram: &Ram, branches: u64) {
        let before = std::mem::replace(self, Board::new(config, ram));
        self.clock = before.clock;
        self.outputs = before.outputs;
        self.resets = before.resets + 1;
        let now_ns = self.clock.at(branches);
        self.rtc = before.rtc;
        self.rtc.reset(now_ns);
        self.disks = before.disks;
        self.disks.iter_mut().for_each(Transport::reset);
        self.nics = before.nics;
        self.nics.iter_mut().for_each(Transport::reset);
        self.power.reset(now_ns);
    }

    /// When the next timer is due, in ns of guest time.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        let Board {
            local,
            pit,
            rtc,
            power,
            ..
        } = self;
        let deadlines = [
            local.deadline_ns(),
            pit.deadline_ns(),
            rtc.deadline_ns(),
            power.deadline_ns(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Fires what is due at `branches`, and returns the branch count at which
    /// the next timer is due.
    pub(crate) fn fire(&mut self, branches: u64) -> u64 {
        let now_ns = self.clock.at(branches);
        if self.deadline_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.local.alarm(now_ns);
            self.settle_pit(now_ns);
            self.rtc.alarm(now_ns);
            self.power.alarm(now_ns);
            self.settle_rtc();
            self.settle_power();
        }
        let deadline_ns = self.deadline_ns();
        self.armed_ns = deadline_ns.unwrap_or(u64::MAX);
        self.needs_attention = false;
        // A device whose deadline did not move past now would stop time.
        assert!(
            self.armed_ns > now_ns,
            "bug: a timer is due again at once, at {now_ns} ns, branch {branches}"
        );
        deadline_ns.map_or(u64::MAX, |due_ns| self.clock.branches_at(due_ns))
    }

    /// Bytes are typed at the serial console; all are taken, or none.
    pub(crate) fn type_bytes(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.uart.room() {
            return false;
        }
        self.uart.receive(bytes);
        self.settle_uart();
        true
    }

    /// The power button is pressed.
    pub(crate) fn press_power_button(&mut self) {
        self.power.press_button();
        self.settle_power();
    }

    /// A timer register was written: the run loop looks again if its deadline
    /// is now earlier than the one it runs towards.
    fn rearm(&mut self) {
        let deadline_ns = self.deadline_ns().unwrap_or(u64::MAX);
        self.needs_attention |= deadline_ns < self.armed_ns;
    }

    fn end(&mut self, stop: Stop) {
        self.ended.get_or_insert(stop);
        self.needs_attention = true;
    }

    fn end_if_reset(&mut self, resets: bool) {
        if resets {
            self.end(Stop::Reset);
        }
    }

    fn switch(&mut self, switch: Option<Switch>) {
        match switch {
            Some(Switch::Off) => self.end(Stop::PoweredOff),
            Some(Switch::Reset) => self.end(Stop::Reset),
            None => {}
        }
    }

    fn set_line(&mut self, line: u8, up: bool) {
        self.pics.set_line(line, up);
        let pin = if line == irq::TIMER {
            irq::TIMER_PIN
        } else {
            line
        };
        let local = &mut self.local;
        self.ioapic
            .set_line(pin, up, &mut |message| deliver(local, message));
    }

    fn settle_pit(&mut self, now_ns: u64) {
        if self.pit.take_rise(now_ns) {
            self.set_line(irq::TIMER, false);
            self.set_line(irq::TIMER, true);
        }
        self.set_line(irq::TIMER, self.pit.irq(now_ns));
    }

    fn settle_rtc(&mut self) {
        self.set_line(irq::RTC, self.rtc.irq());
    }

    fn settle_uart(&mut self) {
        self.set_line(irq::UART, self.uart.irq());
    }

    fn settle_keyboard(&mut self) {
        self.set_line(irq::KEYBOARD, self.keyboard.irq());
    }

    fn settle_power(&mut self) {
        self.set_line(irq::POWER, self.power.irq());
    }

    fn local_delivery(&mut self, delivery: Delivery) {
        match delivery {
            // Commands to other processors: there are none.
            Delivery::None | Delivery::Command(_) => {}
            Delivery::EndOfInterrupt(vector) => {
                let local = &mut self.local;
                self.ioapic
                    .end_of_interrupt(vector, &mut |message| deliver(local, message));
            }
        }
    }

    /// Reads 32 bits of a device's registers at `at`.
    fn register_in(&mut self, now_ns: u64, at: u64) -> Option<u32> {
        if let Some(offset) = offset_in(at, self.local.address(), LocalApic::BYTES) {
            return Some(self.local.read(now_ns, offset));
        }
        offset_in(at, Some(IoApic::ADDRESS), IoApic::BYTES).map(|offset| self.ioapic.read(offset))
    }

    fn register_out(&mut self, now_ns: u64, at: u64, value: u32) {
        if let Some(offset) = offset_in(at, self.local.address(), LocalApic::BYTES) {
            let delivery = self.local.write(now_ns, offset, value);
            self.local_delivery(delivery);
            self.rearm();
        } else if let Some(offset) = offset_in(at, Some(IoApic::ADDRESS), IoApic::BYTES) {
            let local = &mut self.local;
            self.ioapic
                .write(offset, value, &mut |message| deliver(local, message));
        }
    }
}

/// How far `at` lies in the `bytes` from `start`, if it does.
fn offset_in(at: u64, start: Option<u64>, bytes: u64) -> Option<u64> {
    start
        .and_then(|start| at.checked_sub(start))
        .filter(|offset| *offset < bytes)
}

/// The I/O APIC's message reaches the only local APIC there is, or nobody.
fn deliver(local: &mut LocalApic, message: Message) {
    let destination = u32::from(message.destination);
    // 0xff is everyone, in either mode.
    if destination != 0xff && !local.is_destination(destination, message.is_logical) {
        return;
    }
    match message.mode {
        0 | 1 => local.accept(message.vector, message.is_level),
        4 => local.accept_nmi(),
        // SMI, INIT and ExtINT through a pin: no kernel uses them.
        _ => {}
    }
}

/// Bytes `0..size_bytes` of all ones.
fn ones(size_bytes: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size_bytes.clamp(1, 8)))
}

/// Whether an access is for ports 0xcf8 to 0xcff as a pair of double words, not
/// for the reset register in their midst.
fn is_pci(port: u16, size_bytes: u8) -> bool {
    (0xcf8..0xd00).contains(&port) && size_bytes > 1
}

/// At this rate the time-stamp counter counts nanoseconds.
const NS_HZ: u64 = 1_000_000_000;

impl Bus for Board {
    fn read(&mut self, _: &Ram, now: u64, at: Physical, size_bytes: u8) -> u64 {
        if let Some((number, offset)) = slot::find(at.0, self.slots.len()) {
            return self.slot_in(number, offset, size_bytes) & ones(size_bytes);
        }
        let now_ns = self.clock.at(now);
        let shift = 8 * (at.0 & 3);
        self.register_in(now_ns, at.0 & !3)
            .map_or(ones(size_bytes), |value| {
                u64::from(value) >> shift & ones(size_bytes)
            })
    }

    fn write(&mut self, ram: &Ram, now: u64, at: Physical, size_bytes: u8, value: u64) {
        if let Some((number, offset)) = slot::find(at.0, self.slots.len()) {
            return self.slot_out(ram, number, offset, size_bytes, value);
        }
        let now_ns = self.clock.at(now);
        // The registers take 32 bits at once and nothing less.
        if size_bytes >= 4 && at.0 & 3 == 0 {
            self.register_out(now_ns, at.0, value as u32);
        }
    }

    fn port_in(&mut self, _: &Ram, now: u64, port: u16, size_bytes: u8) -> u32 {
        if is_pci(port, size_bytes) {
            return ones(size_bytes) as u32;
        }
        let now_ns = self.clock.at(now);
        // Wide accesses are split, as the ISA bus splits them.
        (0..size_bytes.min(4)).fold(0, |all, n| {
            all | u32::from(self.byte_in(now_ns, port.wrapping_add(n.into()))) << (8 * n)
        })
    }

    fn port_out(&mut self, _: &Ram, now: u64, port: u16, size_bytes: u8, value: u32) {
        if is_pci(port, size_bytes) {
            return;
        }
        if self.has_debug_exit && port == place::DEBUG_EXIT {
            return self.end(Stop::DebugExit(value & ones(size_bytes) as u32));
        }
        let now_ns = self.clock.at(now);
        for n in 0..size_bytes.min(4) {
            self.byte_out(
                now_ns,
                port.wrapping_add(n.into()),
                (value >> (8 * n)) as u8,
            );
        }
    }

    fn msr_read(&mut self, now: u64, number: u32) -> Result<u64, Refused> {
        match number {
            msr::APIC_BASE => Ok(self.local.base()),
            msr::TSC_DEADLINE => Ok(self.local.deadline_tsc()),
            msr::X2APIC_FIRST..=msr::X2APIC_LAST => self
                .local
                .read_x2apic(self.clock.at(now), number - msr::X2APIC_FIRST)
                .map_err(|_| Refused),
            _ => Err(Refused),
        }
    }

    fn msr_write(&mut self, now: u64, number: u32, value: u64) -> Result<(), Refused> {
        match number {
            msr::APIC_BASE => self.local.set_base(value).map_err(|_| Refused)?,
            msr::TSC_DEADLINE => self.local.set_deadline_tsc(value),
            msr::X2APIC_FIRST..=msr::X2APIC_LAST => {
                let now_ns = self.clock.at(now);
                let delivery = self
                    .local
                    .write_x2apic(now_ns, number - msr::X2APIC_FIRST, value)
                    .map_err(|_| Refused)?;
                self.local_delivery(delivery);
            }
            _ => return Err(Refused),
        }
        self.rearm();
        Ok(())
    }

    fn tsc(&mut self, now: u64) -> u64 {
        let now_ns = self.clock.at(now);
        // The default, and worth no division of 128 bits.
        if self.tsc_hz == NS_HZ {
            now_ns
        } else {
            devices::ticks_at(now_ns, self.tsc_hz)
        }
    }

    fn tsc_line(&self, until: u64) -> Option<cpu::TscLine> {
        if self.tsc_hz != NS_HZ {
            return None;
        }
        self.clock.line(until)
    }

    fn task_priority(&self) -> u8 {
        self.local.task_priority_class()
    }

    fn set_task_priority(&mut self, priority: u8) {
        self.local.set_task_priority_class(priority & 0xf);
    }

    fn interrupt_waits(&self) -> bool {
        self.local.waiting().is_some() || self.local.passes_pic() && self.pics.interrupts()
    }

    fn acknowledge(&mut self, _: u64) -> Option<u8> {
        if let Some(vector) = self.local.acknowledge() {
            return Some(vector);
        }
        (self.local.passes_pic() && self.pics.interrupts()).then(|| self.pics.acknowledge())
    }

    fn take_nmi(&mut self) -> bool {
        self.local.take_nmi()
    }

    fn needs_attention(&self) -> bool {
        self.needs_attention
    }
}

#[cfg(test)]
mod tests {
    use devices::{Backing, InMemory};
    use seal::Digest;

    use super::hostile::rig;
    use super::*;
    use crate::{Output, OutputPort};

    #[test]
    fn nothing_answers_with_all_ones() {
        let (mut board, ram) = rig();
        assert_eq!(board.port_in(&ram, 0, 0x1234, 2), 0xffff);
        assert_eq!(board.port_in(&ram, 0, 0xcfc, 4), u32::MAX);
        assert_eq!(board.read(&ram, 0, Physical(0xfed0_0000), 8), u64::MAX);
        board.port_out(&ram, 0, 0xcf8, 4, 0x8000_0006);
        assert_eq!(
            board.ended, None,
            "the reset register is not a part of PCI's"
        );
    }

    #[test]
    fn a_timer_set_earlier_wants_attention_and_fires_at_its_branch() {
        let (mut board, ram) = rig();
        assert_eq!(board.fire(0), u64::MAX);
        for (offset, value) in [(0xf0, 0x1ff), (0x320, 0x40), (0x3e0, 0xb), (0x380, 1000)] {
            board.write(&ram, 10, Physical(LocalApic::ADDRESS + offset), 4, value);
        }
        assert!(board.needs_attention());
        let due = board.fire(10);
        assert_eq!(board.clock.at(due), board.clock.at(10) + 1000);
        board.fire(due - 1);
        assert!(!board.interrupt_waits());
        board.fire(due);
        assert_eq!(board.acknowledge(due), Some(0x40));
    }

    #[test]
    fn the_pit_interrupts_through_both_controllers() {
        let (mut board, ram) = rig();
        // The PICs at 0x30, all but the timer masked; LINT0 is open at reset.
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 4),
            (0x21, 1),
            (0x21, 0xfe),
        ] {
            board.port_out(&ram, 0, port, 1, value);
        }
        for (port, value) in [(0x43, 0x34), (0x40, 100), (0x40, 0)] {
            board.port_out(&ram, 0, port, 1, value);
        }
        let due = board.fire(0);
        board.fire(due);
        assert_eq!(board.acknowledge(due), Some(0x30));
    }

    #[test]
    fn disks_stand_in_their_slots_and_one_without_contents_is_told() {
        let (mut board, ram) = rig();
        for number in [0, 1] {
            let read = |board: &mut Board, offset| {
                board.read(&ram, 0, Physical(slot::address(number) + offset), 4)
            };
            assert_eq!(read(&mut board, 0), 0x7472_6976);
            assert_eq!(read(&mut board, 0x100), 8 << number);
        }
        assert_eq!(
            board.read(&ram, 0, Physical(slot::address(5)), 4),
            0xffff_ffff
        );
        let config = MachineConfig::new(1 << 20, Digest::default(), 0);
        let disk: Box<dyn Backing> = Box::new(InMemory(vec![0; 512]));
        assert!(matches!(
            board.insert_disks(&config, vec![disk]),
            Err(crate::Error::WrongDisks { .. })
        ));
    }

    #[test]
    fn the_second_serial_port_prints_and_interrupts_where_there_is_one() {
        let (mut board, ram) = rig();
        board.port_out(&ram, 0, place::UART2, 1, b'x'.into());
        let port = OutputPort::Serial2;
        let bytes = b"x".to_vec();
        assert_eq!(board.outputs.take(), [Output { port, bytes }]);
        board.uart2 = None;
        board.port_out(&ram, 0, place::UART2, 1, b'x'.into());
        assert_eq!(board.outputs.take(), []);
        assert_eq!(board.port_in(&ram, 0, place::UART2 + 5, 1), 0xff);
    }

    #[test]
    fn power_off_reset_and_debug_exit_end_the_machine() {
        let (mut board, ram) = rig();
        board.port_out(&ram, 0, place::POWER + 4, 2, 5 << 10 | 1 << 13);
        assert_eq!(board.ended, Some(Stop::PoweredOff));
        let (mut board, ram) = rig();
        board.port_out(&ram, 0, 0x64, 1, 0xfe);
        assert_eq!(board.ended, Some(Stop::Reset));
        let (mut board, ram) = rig();
        board.has_debug_exit = true;
        board.port_out(&ram, 0, 0xf4, 4, 0x10);
        assert_eq!(board.ended, Some(Stop::DebugExit(0x10)));
    }
}
