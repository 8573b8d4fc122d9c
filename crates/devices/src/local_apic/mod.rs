//! The local APIC, in xAPIC and x2APIC mode (SDM volume 3A, chapter 11).
//!
//! One for each processor. What happens on the interrupt bus between several
//! of them and the I/O APIC is the board's: this one is handed messages, and
//! hands out what it wants delivered ([`Delivery`]).

mod register;
mod vectors;

use minicbor::{Decode, Encode};

use self::register::{ENABLED, Register, VERSION, base, delivery, error, lvt};
use self::vectors::Vectors;
use crate::device::{Damaged, Device, check};
use crate::local_timer::{LocalTimer, LocalTimerState, Mode};

/// A model-specific register that it doesn't have, or a value it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What a write asks of the interrupt bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing.
    None,
    /// An interrupt that was level-triggered has ended: the I/O APICs are told
    /// its vector.
    EndOfInterrupt(u8),
    /// A message to other processors: the interrupt command register, in its
    /// x2APIC form (destination in the upper half).
    Command(u64),
}

/// A local APIC.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u32,
    base: u64,
    task_priority: u8,
    /// xAPIC only.
    logical_destination: u32,
    /// xAPIC only.
    destination_format: u32,
    spurious: u32,
    in_service: Vectors,
    trigger_mode: Vectors,
    request: Vectors,
    /// What ESR shows, and what it will show after the next write to it.
    error: u32,
    error_next: u32,
    command: u64,
    local: [u32; lvt::COUNT],
    timer: LocalTimer,
    nmi: bool,
    /// Derived: the vector that [`LocalApic::acknowledge`] would give.
    waiting: Option<u8>,
}

/// A [`LocalApic`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct LocalApicState {
    #[n(0)]
    pub id: u32,
    #[n(1)]
    pub base: u64,
    #[n(2)]
    pub task_priority: u8,
    #[n(3)]
    pub logical_destination: u32,
    #[n(4)]
    pub destination_format: u32,
    #[n(5)]
    pub spurious: u32,
    #[n(6)]
    pub in_service: [u32; 8],
    #[n(7)]
    pub trigger_mode: [u32; 8],
    #[n(8)]
    pub request: [u32; 8],
    #[n(9)]
    pub error: u32,
    #[n(10)]
    pub error_next: u32,
    #[n(11)]
    pub command: u64,
    #[n(12)]
    pub local: [u32; 6],
    #[n(13)]
    pub timer: LocalTimerState,
    #[n(14)]
    pub nmi: bool,
}

impl LocalApic {
    /// Where its registers are after reset.
    pub const ADDRESS: u64 = 0xfee0_0000;
    /// Bytes of registers.
    pub const BYTES: u64 = 4096;

    /// The APIC of processor `id` after reset: enabled, in xAPIC mode. Its
    /// counter runs at `counter_hz`, the processor's time-stamp counter at
    /// `tsc_hz`, both at least 1.
    pub fn new(id: u32, counter_hz: u64, tsc_hz: u64) -> LocalApic {
        let bootstrap = if id == 0 { base::BOOTSTRAP } else { 0 };
        LocalApic {
            id,
            base: LocalApic::ADDRESS | base::ENABLE | bootstrap,
            task_priority: 0,
            logical_destination: 0,
            destination_format: u32::MAX,
            spurious: 0xff,
            in_service: Vectors::default(),
            trigger_mode: Vectors::default(),
            request: Vectors::default(),
            error: 0,
            error_next: 0,
            command: 0,
            local: [lvt::MASKED; lvt::COUNT],
            timer: LocalTimer::new(counter_hz, tsc_hz),
            nmi: false,
            waiting: None,
        }
    }

    /// As a PC's firmware leaves that of the boot processor: in virtual wire
    /// mode, where the PICs reach the processor through LINT0 and an NMI
    /// through LINT1 (MP Specification 1.4, section 3.6.2.2).
    pub fn in_virtual_wire_mode(mut self) -> LocalApic {
        self.spurious |= ENABLED;
        self.local[lvt::LINT0] = delivery::EXTERNAL << 8;
        self.local[lvt::LINT0 + 1] = delivery::NMI << 8;
        self
    }

    /// Where its registers answer to memory accesses; `None` while it is
    /// disabled or in x2APIC mode.
    pub fn address(&self) -> Option<u64> {
        let memory_mapped = self.base & (base::ENABLE | base::X2APIC) == base::ENABLE;
        memory_mapped.then_some(self.base & base::ADDRESS)
    }

    fn is_x2apic(&self) -> bool {
        self.base & base::X2APIC != 0
    }

    fn is_on(&self) -> bool {
        self.base & base::ENABLE != 0 && self.spurious & ENABLED != 0
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE: reserved bits and transitions that 11.12.5
    /// forbids are refused.
    pub fn set_base(&mut self, value: u64) -> Result<(), Refused> {
        let known = base::BOOTSTRAP | base::X2APIC | base::ENABLE | base::ADDRESS;
        let modes = base::X2APIC | base::ENABLE;
        let (from, to) = (self.base & modes, value & modes);
        let is_forbidden =
            to == base::X2APIC || from == modes && to == base::ENABLE || from == 0 && to == modes;
        if value & !known != 0 || is_forbidden {
            return Err(Refused);
        }
        if from != 0 && to == 0 {
            // Disabled: all state is as after reset (11.4.7.3).
            let LocalTimerState {
                counter_hz, tsc_hz, ..
            } = self.timer.save();
            *self = LocalApic::new(self.id, counter_hz, tsc_hz);
        }
        self.base = value & !base::BOOTSTRAP | self.base & base::BOOTSTRAP;
        self.settle();
        Ok(())
    }

    /// Reads the 32 bits at `offset` bytes into its page.
    pub fn read(&mut self, now_ns: u64, offset: u64) -> u32 {
        let number = u32::try_from(offset / 16).unwrap_or(u32::MAX);
        match Register::at(number) {
            Some(Register::SelfInterrupt | Register::EndOfInterrupt) => 0,
            Some(Register::CommandHigh) => (self.command >> 32) as u32,
            Some(register) => self.get(now_ns, register) as u32,
            None => {
                self.flag_error(error::ILLEGAL_REGISTER);
                0
            }
        }
    }

    /// Writes the 32 bits at `offset` bytes into its page.
    pub fn write(&mut self, now_ns: u64, offset: u64, value: u32) -> Delivery {
        let number = u32::try_from(offset / 16).unwrap_or(u32::MAX);
        match Register::at(number) {
            Some(Register::Id | Register::SelfInterrupt) => Delivery::None,
            Some(Register::LogicalDestination) => {
                self.logical_destination = value & 0xff00_0000;
                Delivery::None
            }
            Some(Register::DestinationFormat) => {
                self.destination_format = value | 0x0fff_ffff;
                Delivery::None
            }
            Some(Register::CommandHigh) => {
                self.command = self.command & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32;
                Delivery::None
            }
            Some(Register::Command) => {
                self.command = self.command & !0xffff_ffff | u64::from(value);
                // xAPIC destinations are the top eight bits.
                self.send(self.command & 0xffff_ffff | self.command >> 56 << 32)
            }
            Some(register) => self.put(now_ns, register, value),
            None => {
                self.flag_error(error::ILLEGAL_REGISTER);
                Delivery::None
            }
        }
    }

    /// Reads x2APIC register `number` (0 is MSR 0x800).
    pub fn read_x2apic(&mut self, now_ns: u64, number: u32) -> Result<u64, Refused> {
        if !self.is_x2apic() {
            return Err(Refused);
        }
        match Register::at(number).ok_or(Refused)? {
            Register::EndOfInterrupt
            | Register::SelfInterrupt
            | Register::DestinationFormat
            | Register::ArbitrationPriority
            | Register::CommandHigh => Err(Refused),
            register => Ok(self.get(now_ns, register)),
        }
    }

    /// Writes x2APIC register `number` (0 is MSR 0x800).
    pub fn write_x2apic(
        &mut self,
        now_ns: u64,
        number: u32,
        value: u64,
    ) -> Result<Delivery, Refused> {
        if !self.is_x2apic() {
            return Err(Refused);
        }
        let register = Register::at(number).ok_or(Refused)?;
        if register == Register::Command {
            self.command = value;
            return Ok(self.send(value));
        }
        let value = u32::try_from(value).map_err(|_| Refused)?;
        let reserved = match register {
            Register::TaskPriority | Register::SelfInterrupt => !0xff,
            Register::EndOfInterrupt | Register::ErrorStatus => !0,
            Register::SpuriousVector => !0x1ff,
            Register::Local(index) => !(lvt::KEEPS[index] | 1 << 12),
            Register::InitialCount => 0,
            Register::Divide => !0b1011,
            _ => return Err(Refused),
        };
        if value & reserved != 0 {
            return Err(Refused);
        }
        Ok(self.put(now_ns, register, value))
    }

    /// IA32_TSC_DEADLINE.
    pub fn deadline_tsc(&self) -> u64 {
        self.timer.deadline_tsc()
    }

    /// Writes IA32_TSC_DEADLINE.
    pub fn set_deadline_tsc(&mut self, tsc: u64) {
        self.timer.set_deadline_tsc(tsc);
    }

    /// The task priority's class: CR8.
    pub fn task_priority_class(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Writes CR8.
    pub fn set_task_priority_class(&mut self, class: u8) {
        self.task_priority = class << 4;
        self.settle();
    }

    /// Takes an interrupt from the bus or from the processor itself.
    pub fn accept(&mut self, vector: u8, is_level: bool) {
        if vector < 16 {
            self.flag_error(error::RECEIVE_ILLEGAL_VECTOR);
            return;
        }
        // Hardware-disabled, it isn't on the bus.
        if self.base & base::ENABLE == 0 {
            return;
        }
        self.request.set(vector, true);
        self.trigger_mode.set(vector, is_level);
        self.settle();
    }

    /// Takes a non-maskable interrupt from the bus.
    pub fn accept_nmi(&mut self) {
        self.nmi = true;
    }

    /// Whether a message to `destination` is for this one (11.6.2). An I/O
    /// APIC's or xAPIC's destination has eight bits, an x2APIC's 32.
    pub fn is_destination(&self, destination: u32, is_logical: bool) -> bool {
        let broadcast = if self.is_x2apic() { u32::MAX } else { 0xff };
        if destination == broadcast {
            return true;
        }
        if !is_logical {
            return destination == self.id;
        }
        if self.is_x2apic() {
            let own = self.logical_id();
            return own >> 16 == destination >> 16 && own & destination & 0xffff != 0;
        }
        let own = self.logical_destination >> 24;
        if self.destination_format >> 28 == 0xf {
            own & destination != 0
        } else {
            own >> 4 == destination >> 4 && own & destination & 0xf != 0
        }
    }

    /// The vector that waits with enough priority to interrupt; the INTR line.
    #[inline]
    pub fn waiting(&self) -> Option<u8> {
        self.waiting
    }

    /// The processor takes the interrupt that waits.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.waiting?;
        self.request.set(vector, false);
        self.in_service.set(vector, true);
        self.settle();
        Some(vector)
    }

    /// Takes a non-maskable interrupt that waits.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// Whether the PIC's interrupt line reaches the processor: through LINT0,
    /// or past an APIC that is disabled.
    pub fn passes_pic(&self) -> bool {
        let lint0 = self.local[lvt::LINT0];
        self.base & base::ENABLE == 0
            || lint0 & lvt::MASKED == 0 && lint0 >> 8 & 7 == delivery::EXTERNAL
    }

    fn logical_id(&self) -> u32 {
        self.id >> 4 << 16 | 1 << (self.id & 15)
    }

    fn processor_priority(&self) -> u8 {
        let service = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority >> 4 >= service >> 4 {
            self.task_priority
        } else {
            service
        }
    }

    /// Works out what waits, after anything it depends on has changed.
    fn settle(&mut self) {
        self.waiting = self
            .request
            .highest()
            .filter(|vector| self.is_on() && vector >> 4 > self.processor_priority() >> 4);
    }

    fn get(&self, now_ns: u64, register: Register) -> u64 {
        let value = match register {
            Register::Id if self.is_x2apic() => self.id,
            Register::Id => self.id << 24,
            Register::Version => VERSION,
            Register::TaskPriority => self.task_priority.into(),
            Register::ArbitrationPriority | Register::ProcessorPriority => {
                self.processor_priority().into()
            }
            Register::LogicalDestination if self.is_x2apic() => self.logical_id(),
            Register::LogicalDestination => self.logical_destination,
            Register::DestinationFormat => self.destination_format,
            Register::SpuriousVector => self.spurious,
            Register::InService(word) => self.in_service.0[word],
            Register::TriggerMode(word) => self.trigger_mode.0[word],
            Register::Request(word) => self.request.0[word],
            Register::ErrorStatus => self.error,
            Register::Command if self.is_x2apic() => return self.command,
            Register::Command | Register::CommandHigh => self.command as u32,
            Register::Local(index) => self.local[index],
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.count(now_ns),
            Register::Divide => self.timer.divide(),
            Register::EndOfInterrupt | Register::SelfInterrupt => 0,
        };
        value.into()
    }

    /// Writes a register that both modes have.
    fn put(&mut self, now_ns: u64, register: Register, value: u32) -> Delivery {
        match register {
            Register::TaskPriority => self.task_priority = value as u8,
            Register::EndOfInterrupt => return self.end_of_interrupt(),
            Register::SpuriousVector => {
                self.spurious = value & 0x1ff;
                if self.spurious & ENABLED == 0 {
                    // Software-disabled: all entries are masked (11.4.7.2).
                    self.local
                        .iter_mut()
                        .for_each(|entry| *entry |= lvt::MASKED);
                }
            }
            Register::ErrorStatus => {
                self.error = self.error_next;
                self.error_next = 0;
            }
            Register::Local(index) => {
                let masked = if self.spurious & ENABLED == 0 {
                    lvt::MASKED
                } else {
                    0
                };
                self.local[index] = value & lvt::KEEPS[index] | masked;
                if index == lvt::TIMER {
                    self.timer.set_mode(Mode::of_lvt(value));
                }
            }
            Register::InitialCount => self.timer.set_initial(now_ns, value),
            Register::Divide => self.timer.set_divide(now_ns, value),
            Register::SelfInterrupt => self.accept(value as u8, false),
            _ => {}
        }
        self.settle();
        Delivery::None
    }

    fn end_of_interrupt(&mut self) -> Delivery {
        let Some(vector) = self.in_service.highest() else {
            return Delivery::None;
        };
        self.in_service.set(vector, false);
        self.settle();
        if self.trigger_mode.has(vector) {
            Delivery::EndOfInterrupt(vector)
        } else {
            Delivery::None
        }
    }

    /// Sends an interrupt command, in its x2APIC form (11.6.1).
    fn send(&mut self, command: u64) -> Delivery {
        let low = command as u32;
        let destination = (command >> 32) as u32;
        let is_for_self = match low >> 18 & 3 {
            0 => self.is_destination(destination, low & 1 << 11 != 0),
            1 | 2 => true,
            _ => false,
        };
        let vector = low as u8;
        let mode = low >> 8 & 7;
        if matches!(mode, delivery::FIXED | delivery::LOWEST) && vector < 16 {
            self.flag_error(error::SEND_ILLEGAL_VECTOR);
            return Delivery::None;
        }
        if is_for_self {
            match mode {
                delivery::FIXED | delivery::LOWEST => self.accept(vector, false),
                delivery::NMI => self.accept_nmi(),
                // INIT and start-up are for others; to itself they do nothing.
                _ => {}
            }
        }
        Delivery::Command(command)
    }

    fn flag_error(&mut self, bit: u32) {
        let is_new = self.error_next & bit == 0;
        self.error_next |= bit;
        if is_new {
            self.raise(lvt::ERROR);
        }
    }

    /// A local source raises its interrupt.
    fn raise(&mut self, index: usize) {
        let entry = self.local[index];
        if entry & lvt::MASKED != 0 {
            return;
        }
        let vector = entry as u8;
        match entry >> 8 & 7 {
            delivery::NMI => self.accept_nmi(),
            // An illegal vector in the error entry itself is only flagged.
            _ if vector < 16 => self.error_next |= error::RECEIVE_ILLEGAL_VECTOR,
            _ => self.accept(vector, false),
        }
    }
}

impl Device for LocalApic {
    type State = LocalApicState;

    fn save(&self) -> LocalApicState {
        let LocalApic {
            id,
            base,
            task_priority,
            logical_destination,
            destination_format,
            spurious,
            in_service,
            trigger_mode,
            request,
            error,
            error_next,
            command,
            local,
            timer,
            nmi,
            waiting: _,
        } = self;
        LocalApicState {
            id: *id,
            base: *base,
            task_priority: *task_priority,
            logical_destination: *logical_destination,
            destination_format: *destination_format,
            spurious: *spurious,
            in_service: in_service.0,
            trigger_mode: trigger_mode.0,
            request: request.0,
            error: *error,
            error_next: *error_next,
            command: *command,
            local: *local,
            timer: timer.save(),
            nmi: *nmi,
        }
    }

    fn restore(&mut self, state: LocalApicState) -> Result<(), Damaged> {
        let modes = state.base & (base::X2APIC | base::ENABLE);
        check(
            modes != base::X2APIC,
            "local APIC",
            "it is in x2APIC mode, but disabled",
        )?;
        let mut timer = self.timer.clone();
        timer.restore(state.timer)?;
        *self = LocalApic {
            id: state.id,
            base: state.base,
            task_priority: state.task_priority,
            logical_destination: state.logical_destination,
            destination_format: state.destination_format,
            spurious: state.spurious,
            in_service: Vectors(state.in_service),
            trigger_mode: Vectors(state.trigger_mode),
            request: Vectors(state.request),
            error: state.error,
            error_next: state.error_next,
            command: state.command,
            local: state.local,
            timer,
            nmi: state.nmi,
            waiting: None,
        };
        self.settle();
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.timer.deadline_ns()
    }

    fn alarm(&mut self, now_ns: u64) {
        self.timer.alarm(now_ns);
        if self.timer.take_fires() {
            self.raise(lvt::TIMER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::assert_comes_back;

    const GHZ: u64 = 1_000_000_000;

    /// As after Linux's setup: enabled, spurious vector 0xff, TPR 0x10.
    fn enabled() -> LocalApic {
        let mut apic = LocalApic::new(0, GHZ, GHZ);
        apic.write(0, 0xf0, 0x1ff);
        apic.write(0, 0x80, 0x10);
        apic
    }

    fn in_x2apic_mode() -> LocalApic {
        let mut apic = enabled();
        apic.set_base(apic.base() | base::X2APIC)
            .expect("from xAPIC it is allowed");
        apic
    }

    #[test]
    fn the_higher_of_two_interrupts_is_taken_first() {
        let mut apic = enabled();
        apic.accept(0x31, false);
        apic.accept(0x41, false);
        assert_eq!(apic.acknowledge(), Some(0x41));
        assert_eq!(apic.acknowledge(), None, "the other has a lower class");
        apic.write(0, 0xb0, 0);
        assert_eq!(apic.acknowledge(), Some(0x31));
    }

    #[test]
    fn task_priority_holds_its_class_off() {
        let mut apic = enabled();
        apic.set_task_priority_class(3);
        apic.accept(0x3f, false);
        assert_eq!(apic.waiting(), None);
        apic.accept(0x40, false);
        assert_eq!(apic.waiting(), Some(0x40));
    }

    #[test]
    fn a_level_interrupt_is_broadcast_at_its_end() {
        let mut apic = enabled();
        apic.accept(0x51, true);
        apic.acknowledge();
        assert_eq!(apic.write(0, 0xb0, 0), Delivery::EndOfInterrupt(0x51));
        apic.accept(0x51, false);
        apic.acknowledge();
        assert_eq!(apic.write(0, 0xb0, 0), Delivery::None);
    }

    #[test]
    fn the_timer_interrupts_at_its_tsc_deadline() {
        let mut apic = in_x2apic_mode();
        apic.write_x2apic(0, 0x32, 0x400ec)
            .expect("deadline mode, vector 0xec");
        apic.set_deadline_tsc(5000);
        assert_eq!(apic.deadline_ns(), Some(5000));
        apic.alarm(5000);
        assert_eq!(apic.waiting(), Some(0xec));
        assert_eq!(apic.deadline_tsc(), 0);
    }

    #[test]
    fn a_masked_timer_expires_in_silence() {
        let mut apic = enabled();
        apic.write(0, 0x320, 0x100ec);
        apic.write(0, 0x380, 100);
        apic.alarm(1000);
        assert_eq!(apic.waiting(), None);
    }

    #[test]
    fn x2apic_registers_are_refused_outside_of_its_mode() {
        assert_eq!(enabled().read_x2apic(0, 2), Err(Refused));
        assert_eq!(in_x2apic_mode().read_x2apic(0, 2), Ok(0));
    }

    #[test]
    fn x2apic_refuses_reserved_bits_and_write_only_reads() {
        let mut apic = in_x2apic_mode();
        assert_eq!(apic.write_x2apic(0, 0x0b, 1), Err(Refused));
        assert_eq!(apic.read_x2apic(0, 0x0b), Err(Refused));
        assert_eq!(apic.write_x2apic(0, 0x08, 0x100), Err(Refused));
        assert_eq!(apic.write_x2apic(0, 0x0d, 0), Err(Refused));
        assert_eq!(apic.read_x2apic(0, 0x0d), Ok(1));
    }

    #[test]
    fn modes_change_only_as_the_manual_allows() {
        let mut apic = in_x2apic_mode();
        assert_eq!(
            apic.set_base(LocalApic::ADDRESS | base::ENABLE),
            Err(Refused)
        );
        assert_eq!(apic.set_base(LocalApic::ADDRESS), Ok(()));
        assert_eq!(
            apic.set_base(LocalApic::ADDRESS | base::ENABLE | base::X2APIC),
            Err(Refused)
        );
    }

    #[test]
    fn an_interrupt_to_oneself_arrives() {
        let mut apic = in_x2apic_mode();
        apic.write_x2apic(0, 0x3f, 0xf6).expect("self IPI");
        assert_eq!(apic.waiting(), Some(0xf6));
        let mut apic = enabled();
        apic.write(0, 0x300, 0x0004_00f7);
        assert_eq!(apic.waiting(), Some(0xf7));
    }

    #[test]
    fn an_illegal_vector_is_an_error() {
        let mut apic = enabled();
        apic.write(0, 0x370, 0xfe);
        apic.write(0, 0x300, 0x0004_0005);
        assert_eq!(apic.waiting(), Some(0xfe));
        apic.write(0, 0x280, 0);
        assert_eq!(apic.read(0, 0x280), error::SEND_ILLEGAL_VECTOR);
    }

    #[test]
    fn the_pic_passes_through_lint0_only_while_it_is_open() {
        let mut apic = enabled();
        assert!(!apic.passes_pic());
        apic.write(0, 0x350, 0x700);
        assert!(apic.passes_pic());
    }

    #[test]
    fn the_pic_passes_as_firmware_leaves_it() {
        assert!(LocalApic::new(0, 1, 1).in_virtual_wire_mode().passes_pic());
    }

    #[test]
    fn a_saved_apic_comes_back() {
        let mut apic = enabled();
        apic.write(0, 0x320, 0x200ec);
        apic.write(0, 0x380, 1000);
        apic.accept(0x41, true);
        apic.acknowledge();
        apic.accept(0x52, false);
        apic.alarm(2500);
        assert_comes_back(&apic, LocalApic::new(1, 7, 9));
    }
}
