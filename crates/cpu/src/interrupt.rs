//! Delivery of exceptions and interrupts (SDM volume 3A, chapter 6).

use x86::{Linear, flags, gpr, seg, vector};

use crate::debug::{dr6, dr7};
use crate::descriptor::{Descriptor, is_null, kind, null_segment, rpl, selector_fault};
use crate::segment::{Segment, rights};
use crate::tlb::Space;
use crate::{Bus, Cpu, Flow, Trap};

/// What is being delivered: it decides error codes, privilege checks and the
/// saved flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A fault or trap that the processor raised.
    Exception,
    /// INT n, INT3, INTO: gate privilege is checked.
    Software,
    /// INT1: a debug trap by instruction.
    Int1,
    /// From outside, or an NMI.
    External,
}

impl Event {
    /// Whether faults on the way bear EXT in their error codes.
    fn is_external(self) -> bool {
        self != Event::Software
    }
}

/// Exceptions in a row at most before one must end in a shutdown; the rules
/// allow four.
const CHAIN_MAX: usize = 8;

/// Whether exception `second`, raised while `first` was being delivered, makes
/// a double fault (SDM volume 3A, table 6-5).
fn doubles(first: u8, second: u8) -> bool {
    let contributory = |vector| {
        matches!(
            vector,
            vector::DE | vector::TS | vector::NP | vector::SS | vector::GP
        )
    };
    match first {
        vector::PF => second == vector::PF || contributory(second),
        first => contributory(first) && contributory(second),
    }
}

impl Cpu {
    /// Delivers `vector`, saving `self.rip` as the place to return to; an
    /// exception on the way becomes a double fault, one on that way a
    /// shutdown ([`Trap::SHUTDOWN`], the only error). Counts one branch.
    pub(crate) fn deliver(
        &mut self,
        bus: &mut dyn Bus,
        vector: u8,
        code: Option<u32>,
        event: Event,
    ) -> Result<(), Trap> {
        let (mut vector, mut code, mut event) = (vector, code, event);
        if event == Event::Exception {
            self.enter_debug(vector);
        }
        for _ in 0..CHAIN_MAX {
            let Err(trap) = self.enter(bus, vector, code, event) else {
                return Ok(());
            };
            let Some((second, second_code)) = trap.exception() else {
                return Err(Trap::SHUTDOWN);
            };
            if event == Event::Exception && vector == vector::DF {
                return Err(Trap::SHUTDOWN);
            }
            (vector, code) = if event == Event::Exception && doubles(vector, second) {
                (vector::DF, Some(0))
            } else {
                (second, second_code)
            };
            event = Event::Exception;
        }
        Err(Trap::SHUTDOWN)
    }

    /// Debug conditions met by an instruction are told by `#DB`, and lost if
    /// the instruction faults otherwise.
    fn enter_debug(&mut self, vector: u8) {
        if vector == vector::DB {
            self.dr[6] = self.dr[6] & !dr6::B | self.pending_debug;
            self.dr[7] &= !dr7::GD;
        }
        self.pending_debug = 0;
    }

    /// Goes through the gate of `vector`, or changes nothing and gives the
    /// exception that stands in the way.
    pub(crate) fn enter(
        &mut self,
        bus: &mut dyn Bus,
        vector: u8,
        code: Option<u32>,
        event: Event,
    ) -> Flow {
        if self.long_mode() {
            self.enter_64(bus, vector, code, event)?;
        } else {
            self.enter_32(bus, vector, code, event)?;
        }
        self.branches += 1;
        self.in_repeat = false;
        self.halted = false;
        self.shadow = crate::Shadow::None;
        self.refresh();
        Ok(())
    }

    /// RFLAGS as it is saved: RF says that the instruction is to be tried
    /// again and its breakpoint not (SDM volume 3B, 18.3.1.1).
    fn saved_flags(&self, vector: u8, event: Event) -> u64 {
        let retries = match event {
            Event::Exception => vector != vector::DB || self.dr[6] & dr6::BD != 0,
            Event::External => self.in_repeat,
            Event::Software | Event::Int1 => false,
        };
        self.flags.value() | if retries { flags::RF } else { 0 }
    }

    /// After everything else has been done: the handler's flags.
    fn clear_flags(&mut self, gate: &Descriptor) {
        self.flags.rest &= !(flags::TF | flags::NT | flags::RF | flags::VM);
        // Only their lowest bit tells interrupt gates from trap gates.
        if gate.kind() & 1 == 0 {
            self.flags.rest &= !flags::IF;
        }
    }

    /// The gate of `vector` after the checks of the gate itself.
    fn idt_gate(&mut self, bus: &mut dyn Bus, vector: u8, event: Event) -> Flow<Descriptor> {
        let long = self.long_mode();
        let bytes = if long { 16 } else { 8 };
        let offset = u64::from(vector) * bytes;
        let number = (u16::from(vector) << 3) | 2;
        let fault =
            |kind| Trap::with_code(kind, u32::from(number) | u32::from(event.is_external()));
        if offset + bytes - 1 > u64::from(self.idtr.limit) {
            return Err(fault(vector::GP));
        }
        let at = self.table_linear(self.idtr.base.wrapping_add(offset));
        let low = self.read_system(bus, at)?;
        let high: u64 = if long {
            self.read_system(bus, at.plus(8))?
        } else {
            0
        };
        let gate = Descriptor::gate(low, high & 0xffff_ffff);
        let is_gate = match gate.kind() {
            kind::INTERRUPT_GATE | kind::TRAP_GATE => true,
            kind::INTERRUPT_GATE_16 | kind::TRAP_GATE_16 => !long,
            // Hardware task switching isn't implemented: a task gate is none.
            _ => false,
        };
        let closed = event == Event::Software && gate.dpl() < self.cpl;
        if !is_gate || !gate.is_system() || closed {
            return Err(fault(vector::GP));
        }
        if !gate.is_present() {
            return Err(fault(vector::NP));
        }
        Ok(gate)
    }

    /// The code segment that `gate` leads to, and the privilege level there.
    fn gate_target(
        &mut self,
        bus: &mut dyn Bus,
        gate: &Descriptor,
        external: bool,
    ) -> Flow<(Descriptor, u8)> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(selector_fault(vector::GP, 0, external));
        }
        let code = self.descriptor(bus, selector, vector::GP, external)?;
        let size_fits = !self.long_mode() || code.has(rights::L) && !code.has(rights::DB);
        if !code.is_code() || code.dpl() > self.cpl || !size_fits {
            return Err(selector_fault(vector::GP, selector, external));
        }
        if !code.is_present() {
            return Err(selector_fault(vector::NP, selector, external));
        }
        let level = if code.is_conforming() {
            self.cpl
        } else {
            code.dpl()
        };
        Ok((code, level))
    }

    fn enter_64(&mut self, bus: &mut dyn Bus, vector: u8, code: Option<u32>, event: Event) -> Flow {
        let external = event.is_external();
        let gate = self.idt_gate(bus, vector, event)?;
        let (mut target, level) = self.gate_target(bus, &gate, external)?;
        let ist = gate.low >> 32 & 7;
        let old_rsp = self.gpr[usize::from(gpr::RSP)];
        let top = if ist != 0 {
            self.tss_word_64(bus, 28 + 8 * ist, external)?
        } else if level < self.cpl {
            self.tss_word_64(bus, 4 + 8 * u64::from(level), external)?
        } else {
            old_rsp
        } & !0xf;
        let selector_of =
            |cpu: &Cpu, register: u8| u64::from(cpu.segments[usize::from(register)].selector);
        let saved = [
            selector_of(self, seg::SS),
            old_rsp,
            self.saved_flags(vector, event),
            selector_of(self, seg::CS),
            self.rip,
            u64::from(code.unwrap_or(0)),
        ];
        let frame = &saved[..if code.is_some() { 6 } else { 5 }];
        let bottom = top.wrapping_sub(8 * frame.len() as u64);
        let offset = gate.gate_offset();
        if !Linear(offset).is_canonical() {
            return Err(selector_fault(vector::GP, 0, external));
        }
        if !Linear(bottom).is_canonical() || !Linear(top.wrapping_sub(1)).is_canonical() {
            return Err(selector_fault(vector::SS, 0, external));
        }
        let space = stack_space(level);
        self.probe_write_slow(space, Linear(bottom), top.wrapping_sub(bottom), true)?;
        self.mark_accessed(bus, &mut target)?;
        for (value, n) in frame.iter().zip(1..) {
            let at = Linear(top.wrapping_sub(8 * n));
            self.write_as(bus, space, at, *value)?;
        }
        if level < self.cpl {
            self.segments[usize::from(seg::SS)] = null_segment(u16::from(level));
        }
        self.gpr[usize::from(gpr::RSP)] = bottom;
        self.clear_flags(&gate);
        self.set_code_segment(&target, gate.gate_selector(), level);
        self.rip = offset;
        Ok(())
    }

    /// The eight bytes at `offset` in a 64-bit TSS: a stack pointer.
    pub(crate) fn tss_word_64(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        external: bool,
    ) -> Flow<u64> {
        if offset + 7 > u64::from(self.tr.limit) {
            return Err(selector_fault(vector::TS, self.tr.selector, external));
        }
        self.read_system(bus, Linear(self.tr.base.wrapping_add(offset)))
    }

    fn enter_32(&mut self, bus: &mut dyn Bus, vector: u8, code: Option<u32>, event: Event) -> Flow {
        let external = event.is_external();
        let gate = self.idt_gate(bus, vector, event)?;
        let (mut target, level) = self.gate_target(bus, &gate, external)?;
        let (stack, top) = if level < self.cpl {
            self.inner_stack_32(bus, level, external)?
        } else {
            let rsp = self.gpr[usize::from(gpr::RSP)];
            (self.segments[usize::from(seg::SS)], rsp)
        };
        let inner = level < self.cpl;
        let selector_of =
            |cpu: &Cpu, register: u8| u64::from(cpu.segments[usize::from(register)].selector);
        let saved = [
            selector_of(self, seg::SS),
            self.gpr[usize::from(gpr::RSP)],
            self.saved_flags(vector, event),
            selector_of(self, seg::CS),
            self.rip,
            u64::from(code.unwrap_or(0)),
        ];
        let first = if inner { 0 } else { 2 };
        let last = if code.is_some() { 6 } else { 5 };
        let offset = gate.gate_offset();
        if offset > u64::from(target.limit()) {
            return Err(selector_fault(vector::GP, 0, external));
        }
        self.mark_accessed(bus, &mut target)?;
        let bytes = if gate.kind() & 8 == 0 { 2 } else { 4 };
        let named = if inner { stack.selector } else { 0 };
        let fault = selector_fault(vector::SS, named, external);
        let space = stack_space(level);
        let rsp = self.push_all(bus, &stack, top, space, bytes, &saved[first..last], fault)?;
        if inner {
            self.segments[usize::from(seg::SS)] = stack;
        }
        self.clear_flags(&gate);
        self.set_code_segment(&target, gate.gate_selector(), level);
        self.set_rsp(rsp);
        self.rip = offset;
        Ok(())
    }

    /// Pushes `values`, each of `bytes` (2 or 4), on the stack `rsp` in
    /// `stack`, and gives the stack pointer after; `fault` where the segment
    /// ends. All of it is known to succeed before memory changes.
    #[expect(clippy::too_many_arguments, reason = "a stack has no fewer parts")]
    pub(crate) fn push_all(
        &mut self,
        bus: &mut dyn Bus,
        stack: &Segment,
        rsp: u64,
        space: Space,
        bytes: u8,
        values: &[u64],
        fault: Trap,
    ) -> Flow<u64> {
        let mask = if stack.has(rights::DB) {
            0xffff_ffff
        } else {
            0xffff
        };
        let below = |n: usize| rsp.wrapping_sub(u64::from(bytes) * n as u64) & mask;
        for n in 1..=values.len() {
            let at = stack.linear(below(n), bytes.into(), true).ok_or(fault)?;
            self.probe_write_slow(space, at, bytes.into(), true)?;
        }
        for (&value, n) in values.iter().zip(1..) {
            let at = stack.linear(below(n), bytes.into(), true).ok_or(fault)?;
            self.write_slow(bus, space, at, bytes, true, value)?;
        }
        Ok(below(values.len()))
    }

    /// SS and ESP of an inner privilege level, from a 32-bit or 16-bit TSS.
    pub(crate) fn inner_stack_32(
        &mut self,
        bus: &mut dyn Bus,
        level: u8,
        external: bool,
    ) -> Flow<(Segment, u64)> {
        let level_offset = u64::from(level);
        let is_32 = self.tr.has(8);
        let (offset, bytes) = if is_32 {
            (4 + 8 * level_offset, 6)
        } else {
            (2 + 4 * level_offset, 4)
        };
        if offset + bytes - 1 > u64::from(self.tr.limit) {
            return Err(selector_fault(vector::TS, self.tr.selector, external));
        }
        let at = self.table_linear(self.tr.base.wrapping_add(offset));
        let rsp = if is_32 {
            u64::from(self.read_system::<u32>(bus, at)?)
        } else {
            u64::from(self.read_system::<u16>(bus, at)?)
        };
        let selector: u16 = self.read_system(bus, at.plus(bytes - 2))?;
        if is_null(selector) {
            return Err(selector_fault(vector::TS, 0, external));
        }
        let mut descriptor = self.descriptor(bus, selector, vector::TS, external)?;
        let fits =
            rpl(selector) == level && descriptor.dpl() == level && descriptor.is_writable_data();
        if !fits {
            return Err(selector_fault(vector::TS, selector, external));
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::SS, selector, external));
        }
        self.mark_accessed(bus, &mut descriptor)?;
        Ok((descriptor.segment(selector), rsp))
    }

    /// Writes eight bytes with the rights of `space`.
    pub(crate) fn write_as(
        &mut self,
        bus: &mut dyn Bus,
        space: Space,
        at: Linear,
        value: u64,
    ) -> Flow {
        match self.tlb.write(space, at, 8) {
            Some(physical) => {
                self.ram.store(physical, value);
                Ok(())
            }
            None => self.write_slow(bus, space, at, 8, true, value),
        }
    }
}

/// Whose rights the pushes on a stack of privilege level `level` have.
pub(crate) fn stack_space(level: u8) -> Space {
    if level == 3 {
        Space::User
    } else {
        Space::Supervisor
    }
}

#[cfg(test)]
mod tests {
    use x86::control::pte;
    use x86::{Physical, flags, gpr, seg, vector};

    use crate::rig::{CODE, HANDLERS, IDT, Rig, STACK, STACK_0, STACK_IST, WINDOW, sel};
    use crate::{Exit, Segment};

    #[test]
    fn a_page_fault_saves_the_instruction_and_its_address() {
        let mut rig = Rig::new();
        // mov rax, [WINDOW]
        rig.code(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x40, 0]);
        assert_eq!(rig.run(), Exit::Halted);
        assert_eq!(rig.vector(), vector::PF);
        assert_eq!(rig.cpu.cr2, WINDOW);
        assert_eq!(rig.stacked(0), 0);
        assert_eq!(rig.stacked(1), CODE);
        assert_eq!(rig.stacked(2), u64::from(sel::CODE_0));
        assert_eq!(rig.stacked(3), flags::FIXED | flags::RF);
        assert_eq!(rig.stacked(4), STACK);
        assert_eq!(rig.cpu.branches, 1);
    }

    #[test]
    fn a_stack_at_address_0_goes_on_below_the_top_of_all_addresses() {
        let mut rig = Rig::new();
        rig.cpu.gpr[usize::from(gpr::RSP)] = 8;
        // int3; nothing is mapped there, so that the fault has no stack either.
        rig.code(&[0xcc]);
        assert_eq!(rig.run(), Exit::Shutdown);
        assert_eq!(
            rig.cpu.cr2,
            0u64.wrapping_sub(48),
            "the double fault's frame"
        );
    }

    #[test]
    fn from_level_3_the_stack_comes_from_the_tss() {
        let mut rig = Rig::new();
        rig.gate(0x80, 0xf, 3, 0);
        rig.at_level(3);
        rig.cpu.flags.rest |= flags::IF;
        rig.code(&[0xcd, 0x80]);
        assert_eq!(rig.run(), Exit::Halted);
        assert_eq!(rig.vector(), 0x80);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RSP)], STACK_0 - 40);
        assert_eq!(rig.stacked(0), CODE + 2);
        assert_eq!(rig.stacked(1), u64::from(sel::CODE_3));
        assert_eq!(rig.stacked(4), u64::from(sel::DATA_3));
        // A trap gate leaves IF; the stack segment is null.
        assert!(rig.cpu.flags.has(flags::IF));
        assert_eq!(rig.cpu.segments[usize::from(seg::SS)].selector, 0);
        assert_eq!(rig.cpu.cpl, 0);
    }

    #[test]
    fn a_gate_may_be_closed_to_software() {
        let mut rig = Rig::new();
        rig.at_level(3);
        rig.code(&[0xcd, 0x80]);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
        assert_eq!(rig.stacked(0), 0x80 * 8 + 2);
        assert_eq!(rig.stacked(1), CODE);
    }

    #[test]
    fn the_interrupt_stack_table_is_used_at_every_level() {
        let mut rig = Rig::new();
        rig.gate(vector::UD, 0xe, 0, 1);
        rig.cpu.gpr[usize::from(gpr::RSP)] = 3;
        rig.code(&[0x0f, 0x0b]);
        rig.run();
        assert_eq!(rig.vector(), vector::UD);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RSP)], STACK_IST - 40);
        assert_eq!(rig.stacked(3), 3);
    }

    #[test]
    fn a_fault_in_the_delivery_of_a_fault_is_a_double_fault() {
        let mut rig = Rig::new();
        rig.gate(vector::DF, 0xe, 0, 1);
        rig.map(0, 0, pte::P);
        // An unmapped stack: the page fault of PUSH can't be delivered on it.
        rig.cpu.gpr[usize::from(gpr::RSP)] = WINDOW + 0x2000;
        rig.code(&[0x50]);
        rig.run();
        assert_eq!(rig.vector(), vector::DF);
        assert_eq!(rig.stacked(0), 0);
        assert_eq!(rig.stacked(1), CODE);
    }

    #[test]
    fn a_fault_in_the_delivery_of_a_double_fault_shuts_down() {
        let mut rig = Rig::new();
        rig.cpu.idtr = Segment::table(IDT, 0);
        rig.code(&[0x0f, 0x0b]);
        assert_eq!(rig.run(), Exit::Shutdown);
        assert_eq!(rig.cpu.branches, 0);
    }

    #[test]
    fn an_interrupt_waits_for_if_and_for_the_shadow_of_sti() {
        let mut rig = Rig::new();
        rig.board.interrupt = Some(0x40);
        // nop; sti; nop; nop
        rig.code(&[0x90, 0xfb, 0x90, 0x90]);
        rig.run();
        assert_eq!(rig.vector(), 0x40);
        assert_eq!(rig.stacked(0), CODE + 3);
        assert!(!rig.cpu.flags.has(flags::IF));
    }

    #[test]
    fn mov_ss_holds_off_everything_for_one_instruction() {
        let mut rig = Rig::new();
        rig.board.interrupt = Some(0x40);
        rig.cpu.flags.rest |= flags::IF;
        rig.cpu.shadow = crate::Shadow::MovSs;
        rig.code(&[0x90, 0x90]);
        rig.run();
        assert_eq!(rig.stacked(0), CODE + 1);
    }

    #[test]
    fn nmis_wait_for_iret() {
        let mut rig = Rig::new();
        rig.board.nmi = true;
        rig.code(&[0x90]);
        rig.run();
        assert_eq!(rig.vector(), vector::NMI);
        rig.board.nmi = true;
        // The handler: nop; iretq. Back at NOP, the next one is taken.
        rig.cpu
            .ram
            .write(Physical(HANDLERS + 0x20), &[0x90, 0x48, 0xcf])
            .expect("it is RAM");
        rig.cpu.halted = false;
        rig.cpu.rip = HANDLERS + 0x20;
        for _ in 0..2 {
            rig.step();
        }
        assert_eq!(rig.cpu.rip, CODE);
        assert!(rig.board.nmi);
        rig.step();
        assert_eq!(rig.cpu.rip, HANDLERS + 0x20);
        assert!(!rig.board.nmi);
    }

    #[test]
    fn single_step_traps_after_each_instruction() {
        let mut rig = Rig::new();
        rig.cpu.flags.rest |= flags::TF;
        rig.code(&[0x90, 0x90]);
        rig.run();
        assert_eq!(rig.vector(), vector::DB);
        assert_eq!(rig.stacked(0), CODE + 1);
        assert_eq!(rig.stacked(2), flags::FIXED | flags::TF);
        assert_eq!(rig.cpu.dr[6], 0xffff_4ff0);
    }

    #[test]
    fn a_data_breakpoint_traps_after_the_access() {
        let mut rig = Rig::new();
        rig.map(0, 0x80_0000, pte::P | pte::RW | pte::US);
        rig.write(WINDOW, 0).expect("mapped");
        // mov dr0, rax; mov dr7, rcx; mov [rax], ecx; nop
        rig.code(&[0x0f, 0x23, 0xc0, 0x0f, 0x23, 0xf9, 0x89, 0x08, 0x90]);
        rig.cpu.gpr[usize::from(gpr::RAX)] = WINDOW;
        rig.cpu.gpr[usize::from(gpr::RCX)] = 0xd_0001;
        rig.run();
        assert_eq!(rig.vector(), vector::DB);
        assert_eq!(rig.stacked(0), CODE + 8);
        assert_eq!(rig.cpu.dr[6], 0xffff_0ff1);
    }

    #[test]
    fn an_instruction_breakpoint_faults_once_where_rf_is_set_in_between() {
        let mut rig = Rig::new();
        rig.cpu.dr[0] = CODE + 1;
        rig.cpu.dr[7] = 0x402 | 1;
        rig.code(&[0x90, 0x90, 0xf4]);
        rig.run();
        assert_eq!(rig.vector(), vector::DB);
        assert_eq!(rig.stacked(0), CODE + 1);
        rig.cpu.rip = CODE + 1;
        rig.cpu.flags.rest |= flags::RF;
        rig.run();
        assert_eq!(rig.cpu.rip, CODE + 3);
        assert!(!rig.cpu.flags.has(flags::RF));
    }

    #[test]
    fn protected_mode_pushes_four_bytes_each() {
        let mut rig = Rig::new();
        rig.protected();
        rig.code(&[0x0f, 0x0b]);
        rig.run();
        assert_eq!(rig.vector(), vector::UD);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RSP)], STACK - 12);
        let at = Physical(STACK - 12);
        assert_eq!(rig.cpu.ram.load::<u32>(at), CODE as u32);
        assert_eq!(
            rig.cpu.ram.load::<u32>(at.plus(4)),
            u32::from(sel::CODE32_0)
        );
    }
}
