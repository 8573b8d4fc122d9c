//! Instructions on segment registers and descriptor tables: MOV and POP to and
//! from segment registers, LDS and its kin, LAR, LSL, VERR, VERW, ARPL, LLDT,
//! LTR, SLDT, STR, LGDT, LIDT, SGDT, SIDT, SWAPGS, RDFSBASE and its kin.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use x86::control::cr4;
use x86::{Linear, flags, seg, vector};

use super::form::{Place, by_width, place};
use crate::descriptor::{Descriptor, is_null, kind, null_segment, rpl, selector_fault};
use crate::op::Handler;
use crate::segment::{Segment, rights};
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Shadow, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let is_segment =
        |n| insn.op_kind(n) == OpKind::Register && insn.op_register(n).is_segment_register();
    let in_memory = place(insn, 0) == Place::Memory;
    match insn.mnemonic() {
        M::Mov if is_segment(0) => match place(insn, 1) {
            Place::Register => Some(load_from_register),
            _ => Some(load_from_memory),
        },
        M::Mov if is_segment(1) => match place(insn, 0) {
            Place::Register => by_width!(op.size, store_to_register),
            _ => Some(store_to_memory),
        },
        M::Pop if is_segment(0) => match insn.stack_pointer_increment() {
            2 => Some(pop::<u16>),
            4 => Some(pop::<u32>),
            _ => Some(pop::<u64>),
        },
        M::Lds => far_pointer(op, seg::DS),
        M::Les => far_pointer(op, seg::ES),
        M::Lfs => far_pointer(op, seg::FS),
        M::Lgs => far_pointer(op, seg::GS),
        M::Lss => far_pointer(op, seg::SS),
        M::Lar => by_width!(op.size, lar).map(|run| selector_operand(insn, op, 1, run)),
        M::Lsl => by_width!(op.size, lsl).map(|run| selector_operand(insn, op, 1, run)),
        M::Verr => Some(selector_operand(insn, op, 0, verr)),
        M::Verw => Some(selector_operand(insn, op, 0, verw)),
        M::Arpl if in_memory => Some(arpl_memory),
        M::Arpl => Some(arpl_register),
        M::Lldt => Some(selector_operand(insn, op, 0, lldt)),
        M::Ltr => Some(selector_operand(insn, op, 0, ltr)),
        M::Sldt if in_memory => Some(sldt_memory),
        M::Sldt => by_width!(op.size, sldt),
        M::Str if in_memory => Some(str_memory),
        M::Str => by_width!(op.size, str_),
        _ => lower_table(insn, op),
    }
}

fn lower_table(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Lgdt => {
            op.imm = base_mask(insn);
            lgdt
        }
        M::Lidt => {
            op.imm = base_mask(insn);
            lidt
        }
        M::Sgdt => sgdt,
        M::Sidt => sidt,
        M::Swapgs => swapgs,
        M::Rdfsbase => return by_width!(op.size, read_base, Fs),
        M::Rdgsbase => return by_width!(op.size, read_base, Gs),
        M::Wrfsbase => return by_width!(op.size, write_base, Fs),
        M::Wrgsbase => return by_width!(op.size, write_base, Gs),
        _ => return None,
    })
}

/// The bits of the base that LGDT or LIDT takes: the narrowest form 24.
fn base_mask(insn: &Instruction) -> u64 {
    match insn.code() {
        Code::Lgdt_m1632_16 | Code::Lidt_m1632_16 => 0xff_ffff,
        Code::Lgdt_m1664 | Code::Lidt_m1664 => u64::MAX,
        _ => 0xffff_ffff,
    }
}

/// Marks in [`Op::c`] that the selector is in memory, so that one body serves
/// both places.
const IN_MEMORY: u8 = 1;

fn selector_operand(insn: &Instruction, op: &mut Op, n: u32, run: Handler) -> Handler {
    op.c = u8::from(place(insn, n) == Place::Memory) * IN_MEMORY;
    if n == 0 {
        op.b = op.a;
    }
    run
}

/// The selector operand: register `b`, or memory.
fn selector(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u16> {
    if op.c == IN_MEMORY {
        cpu.load(bus, op)
    } else {
        Ok(cpu.get(op.b))
    }
}

fn load_from_register(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let selector = cpu.get::<u16>(op.b);
    load(cpu, bus, op.a, selector)
}

fn load_from_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let selector = cpu.load::<u16>(bus, op)?;
    load(cpu, bus, op.a, selector)
}

fn load(cpu: &mut Cpu, bus: &mut dyn Bus, register: u8, selector: u16) -> Flow {
    if register == seg::CS {
        return Err(Trap::UD);
    }
    cpu.load_segment(bus, register, selector)?;
    shadow_after(cpu, register);
    Ok(())
}

/// After a load of SS by MOV or POP nothing comes between it and the next
/// instruction, which loads the stack pointer.
fn shadow_after(cpu: &mut Cpu, register: u8) {
    if register == seg::SS {
        cpu.shadow = Shadow::MovSs;
        cpu.look = true;
    }
}

fn store_to_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let selector = cpu.segments[usize::from(op.b)].selector;
    cpu.set(op.a, W::truncate(selector.into()));
    Ok(())
}

fn store_to_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let selector = cpu.segments[usize::from(op.b)].selector;
    cpu.store(bus, op, selector)
}

fn pop<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.peek::<W>(bus, 0)?;
    // The new stack's size doesn't matter to the pointer that is popped from.
    let rsp = cpu.gpr[usize::from(x86::gpr::RSP)].wrapping_add(W::BYTES);
    let mask = cpu.stack_mask();
    cpu.load_segment(bus, op.a, value.zero_extend() as u16)?;
    let register = &mut cpu.gpr[usize::from(x86::gpr::RSP)];
    let kept = if mask == 0xffff { *register & !mask } else { 0 };
    *register = kept | rsp & mask;
    shadow_after(cpu, op.a);
    Ok(())
}

fn far_pointer(op: &mut Op, register: u8) -> Option<Handler> {
    op.b = register;
    by_width!(op.size, load_far_pointer)
}

fn load_far_pointer<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let offset = cpu.load::<W>(bus, op)?;
    let at = cpu.address_of_part(op, W::BYTES, 2, false)?;
    let selector = cpu.read::<u16>(bus, at, op.stack)?;
    cpu.load_segment(bus, op.b, selector)?;
    cpu.set(op.a, offset);
    Ok(())
}

/// The descriptor that a selector operand names, if the program may know of
/// it: of the types in `system` where it is a system descriptor.
fn visible(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    selector: u16,
    system: &[u16],
) -> Flow<Option<Descriptor>> {
    if is_null(selector) {
        return Ok(None);
    }
    let Some(mut descriptor) = cpu.find_descriptor(bus, selector)? else {
        return Ok(None);
    };
    if descriptor.is_system()
        && (!system.contains(&descriptor.kind())
            || cpu
                .read_high(bus, selector, &mut descriptor, vector::GP)
                .is_err())
    {
        return Ok(None);
    }
    let inner = cpu.cpl > descriptor.dpl() || rpl(selector) > descriptor.dpl();
    Ok((!inner || descriptor.is_conforming()).then_some(descriptor))
}

fn set_zf(cpu: &mut Cpu, zf: bool) {
    cpu.flags
        .update_arithmetic(flags::ZF, if zf { flags::ZF } else { 0 });
}

fn lar<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    const LEGACY: &[u16] = &[
        kind::TSS_16,
        kind::LDT,
        kind::TSS_16_BUSY,
        kind::CALL_GATE_16,
        kind::TASK_GATE,
        kind::TSS,
        kind::TSS_BUSY,
        kind::CALL_GATE,
    ];
    const LONG: &[u16] = &[kind::LDT, kind::TSS, kind::TSS_BUSY, kind::CALL_GATE];
    let selector = selector(cpu, bus, op)?;
    let system = if cpu.long_mode() { LONG } else { LEGACY };
    let found = visible(cpu, bus, selector, system)?;
    set_zf(cpu, found.is_some());
    if let Some(descriptor) = found {
        // Bits 8 to 23 of the descriptor's second half. (The limit's part is
        // undefined by the manual; processors give it.)
        cpu.set(op.a, W::truncate(descriptor.low >> 32 & 0xff_ff00));
    }
    Ok(())
}

fn lsl<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    const LEGACY: &[u16] = &[
        kind::TSS_16,
        kind::LDT,
        kind::TSS_16_BUSY,
        kind::TSS,
        kind::TSS_BUSY,
    ];
    const LONG: &[u16] = &[kind::LDT, kind::TSS, kind::TSS_BUSY];
    let selector = selector(cpu, bus, op)?;
    let system = if cpu.long_mode() { LONG } else { LEGACY };
    let found = visible(cpu, bus, selector, system)?;
    set_zf(cpu, found.is_some());
    if let Some(descriptor) = found {
        cpu.set(op.a, W::truncate(descriptor.limit().into()));
    }
    Ok(())
}

fn verr(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    verify(cpu, bus, op, Descriptor::is_readable)
}

fn verw(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    verify(cpu, bus, op, Descriptor::is_writable_data)
}

fn verify(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, allows: fn(&Descriptor) -> bool) -> Flow {
    let selector = selector(cpu, bus, op)?;
    let found = visible(cpu, bus, selector, &[])?;
    set_zf(cpu, found.is_some_and(|descriptor| allows(&descriptor)));
    Ok(())
}

/// The destination with its RPL raised to the source's, and whether it was.
fn adjusted(destination: u16, source: u16) -> (u16, bool) {
    if rpl(destination) < rpl(source) {
        (destination & !3 | source & 3, true)
    } else {
        (destination, false)
    }
}

fn arpl_register(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let (selector, raised) = adjusted(cpu.get(op.a), cpu.get(op.b));
    cpu.set(op.a, selector);
    set_zf(cpu, raised);
    Ok(())
}

/// Memory is written only if the level is raised.
fn arpl_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let (selector, raised) = adjusted(cpu.load(bus, op)?, cpu.get(op.b));
    if raised {
        cpu.store::<u16>(bus, op, selector)?;
    }
    set_zf(cpu, raised);
    Ok(())
}

/// `#GP(0)` above privilege level 0.
pub(super) fn privileged(cpu: &Cpu) -> Flow {
    if cpu.cpl == 0 { Ok(()) } else { Err(Trap::GP) }
}

/// `#GP(0)` above privilege level 0 where user-mode instruction prevention is
/// on.
pub(super) fn not_prevented(cpu: &Cpu) -> Flow {
    if cpu.cr4 & cr4::UMIP != 0 {
        privileged(cpu)
    } else {
        Ok(())
    }
}

fn lldt(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    privileged(cpu)?;
    let selector = selector(cpu, bus, op)?;
    if is_null(selector) {
        cpu.ldtr = null_segment(selector);
        return Ok(());
    }
    let descriptor = system_descriptor(cpu, bus, selector, &[kind::LDT])?;
    cpu.ldtr = descriptor.segment(selector);
    Ok(())
}

fn ltr(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    privileged(cpu)?;
    let selector = selector(cpu, bus, op)?;
    if is_null(selector) {
        return Err(Trap::GP);
    }
    let kinds: &[u16] = if cpu.long_mode() {
        &[kind::TSS]
    } else {
        &[kind::TSS, kind::TSS_16]
    };
    let mut descriptor = system_descriptor(cpu, bus, selector, kinds)?;
    cpu.mark_busy(bus, &mut descriptor)?;
    cpu.tr = descriptor.segment(selector);
    Ok(())
}

/// A system descriptor in the GDT, of one of `kinds`, present.
fn system_descriptor(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    selector: u16,
    kinds: &[u16],
) -> Flow<Descriptor> {
    let fault = selector_fault(vector::GP, selector, false);
    if selector & 4 != 0 {
        return Err(fault);
    }
    let mut descriptor = cpu.descriptor(bus, selector, vector::GP, false)?;
    if !descriptor.is_system() || !kinds.contains(&descriptor.kind()) {
        return Err(fault);
    }
    if !descriptor.is_present() {
        return Err(selector_fault(vector::NP, selector, false));
    }
    cpu.read_high(bus, selector, &mut descriptor, vector::GP)?;
    if !Linear(descriptor.base()).is_canonical() {
        return Err(fault);
    }
    Ok(descriptor)
}

fn sldt<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    not_prevented(cpu)?;
    cpu.set(op.a, W::truncate(cpu.ldtr.selector.into()));
    Ok(())
}

fn sldt_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    not_prevented(cpu)?;
    let selector = cpu.ldtr.selector;
    cpu.store(bus, op, selector)
}

fn str_<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    not_prevented(cpu)?;
    cpu.set(op.a, W::truncate(cpu.tr.selector.into()));
    Ok(())
}

fn str_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    not_prevented(cpu)?;
    let selector = cpu.tr.selector;
    cpu.store(bus, op, selector)
}

/// A table register's new contents. `imm` is the mask of the base.
fn load_table(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<Segment> {
    privileged(cpu)?;
    let limit = cpu.load::<u16>(bus, op)?;
    let base = if cpu.is_64() {
        let at = cpu.address_of_part(op, 2, 8, false)?;
        cpu.read::<u64>(bus, at, op.stack)?
    } else {
        let at = cpu.address_of_part(op, 2, 4, false)?;
        cpu.read::<u32>(bus, at, op.stack)?.into()
    };
    let base = base & op.imm;
    if !Linear(base).is_canonical() {
        return Err(Trap::GP);
    }
    Ok(Segment::table(base, limit.into()))
}

fn lgdt(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.gdtr = load_table(cpu, bus, op)?;
    Ok(())
}

fn lidt(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.idtr = load_table(cpu, bus, op)?;
    Ok(())
}

fn sgdt(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let table = cpu.gdtr;
    store_table(cpu, bus, op, table)
}

fn sidt(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let table = cpu.idtr;
    store_table(cpu, bus, op, table)
}

fn store_table(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, table: Segment) -> Flow {
    not_prevented(cpu)?;
    let limit = table.limit as u16;
    let base_bytes = if cpu.is_64() { 8 } else { 4 };
    let at = cpu.address_of_part(op, 2, base_bytes, true)?;
    cpu.probe_write_slow(cpu.space, at, base_bytes, op.stack)?;
    cpu.store(bus, op, limit)?;
    if cpu.is_64() {
        cpu.write(bus, at, op.stack, table.base)
    } else {
        cpu.write(bus, at, op.stack, table.base as u32)
    }
}

fn swapgs(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    privileged(cpu)?;
    let gs = &mut cpu.segments[usize::from(seg::GS)].base;
    std::mem::swap(gs, &mut cpu.kernel_gs_base);
    Ok(())
}

/// FS or GS, for the instructions on their bases.
trait Based {
    const NUMBER: u8;
}
struct Fs;
impl Based for Fs {
    const NUMBER: u8 = seg::FS;
}
struct Gs;
impl Based for Gs {
    const NUMBER: u8 = seg::GS;
}

fn base_allowed(cpu: &Cpu) -> Flow {
    if cpu.is_64() && cpu.cr4 & cr4::FSGSBASE != 0 {
        Ok(())
    } else {
        Err(Trap::UD)
    }
}

fn read_base<S: Based, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    base_allowed(cpu)?;
    let base = cpu.segments[usize::from(S::NUMBER)].base;
    cpu.set(op.a, W::truncate(base));
    Ok(())
}

fn write_base<S: Based, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    base_allowed(cpu)?;
    let base = cpu.get::<W>(op.a).zero_extend();
    if !Linear(base).is_canonical() {
        return Err(Trap::GP);
    }
    cpu.segments[usize::from(S::NUMBER)].base = base;
    Ok(())
}

/// The flat segments that SYSCALL and its kin load without looking at any
/// descriptor: code if `extra` says so, at privilege level `dpl`.
pub(super) fn flat_segment(selector: u16, extra: u16, dpl: u8) -> Segment {
    let common = rights::ACCESSED | rights::RW | rights::S | rights::P | rights::G;
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights: common | extra | u16::from(dpl) << 5,
    }
}

#[cfg(test)]
mod tests {
    use x86::{Physical, flags, gpr, seg, vector};

    use crate::rig::{CODE, GDT, IDT, Rig, TSS, sel};

    #[test]
    fn segments_load_what_their_descriptors_say() {
        let mut rig = Rig::new();
        rig.cpu.gpr[0] = sel::DATA_3.into();
        // mov fs, eax; mov ecx, fs; hlt
        rig.code(&[0x8e, 0xe0, 0x8c, 0xe1, 0xf4]);
        rig.run();
        let fs = rig.cpu.segments[usize::from(seg::FS)];
        assert_eq!((fs.base, fs.limit, fs.dpl()), (0, u32::MAX, 3));
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RCX)], sel::DATA_3.into());
    }

    #[test]
    fn wrong_selectors_fault_with_their_number() {
        for (selector, vector, code) in [
            (0x100u16, vector::GP, 0x100),
            (sel::TSS, vector::GP, sel::TSS.into()),
            (0x38, vector::GP, 0x38),
        ] {
            let mut rig = Rig::new();
            rig.cpu.gpr[0] = selector.into();
            rig.code(&[0x8e, 0xd8]);
            rig.run();
            assert_eq!((rig.vector(), rig.stacked(0)), (vector, code));
        }
    }

    #[test]
    fn a_segment_that_is_not_present_faults_as_such() {
        let mut rig = Rig::new();
        let gdt = Physical(GDT + u64::from(sel::DATA_3 & !3));
        rig.cpu.ram.store(gdt, 0x00cf_7300_0000_ffffu64);
        rig.cpu.gpr[0] = sel::DATA_3.into();
        rig.code(&[0x8e, 0xd8]);
        rig.run();
        assert_eq!(rig.vector(), vector::NP);
        assert_eq!(rig.stacked(0), u64::from(sel::DATA_3 & !3));
    }

    #[test]
    fn ltr_makes_the_task_busy_and_takes_no_busy_one() {
        let mut rig = Rig::new();
        rig.cpu.gpr[0] = sel::TSS.into();
        // ltr ax; ltr ax
        rig.code(&[0x0f, 0x00, 0xd8, 0x0f, 0x00, 0xd8]);
        rig.run();
        assert_eq!(rig.cpu.tr.base, TSS);
        assert_eq!(rig.vector(), vector::GP);
        assert_eq!(rig.stacked(0), sel::TSS.into());
        assert_eq!(rig.stacked(1), CODE + 3);
    }

    #[test]
    fn descriptor_tables_are_stored_and_loaded() {
        let mut rig = Rig::new();
        rig.cpu.gpr[0] = 0x2_0000;
        // sidt [rax]; lidt [rax]; hlt
        rig.code(&[0x0f, 0x01, 0x08, 0x0f, 0x01, 0x18, 0xf4]);
        rig.run();
        assert_eq!(rig.cpu.ram.load::<u16>(Physical(0x2_0000)), 0xfff);
        assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x2_0002)), IDT);
        assert_eq!((rig.cpu.idtr.base, rig.cpu.idtr.limit), (IDT, 0xfff));
    }

    #[test]
    fn lar_and_lsl_tell_of_visible_segments_only() {
        let mut rig = Rig::new();
        rig.at_level(3);
        rig.cpu.gpr[usize::from(gpr::RCX)] = sel::CODE_3.into();
        // lar eax, ecx; lsl edx, ecx
        rig.code(&[0x0f, 0x02, 0xc1, 0x0f, 0x03, 0xd1]);
        rig.step();
        assert!(rig.cpu.flags.zf());
        assert_eq!(rig.cpu.gpr[0], 0x00af_fb00);
        rig.step();
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RDX)], 0xffff_ffff);
        rig.cpu.gpr[usize::from(gpr::RCX)] = sel::CODE_0.into();
        rig.cpu.flags.update_arithmetic(flags::ZF, flags::ZF);
        rig.code(&[0x0f, 0x02, 0xc1]);
        rig.step();
        assert!(!rig.cpu.flags.zf());
        assert_eq!(rig.cpu.gpr[0], 0x00af_fb00);
    }

    #[test]
    fn swapgs_is_the_kernels() {
        let mut rig = Rig::new();
        rig.cpu.kernel_gs_base = 7;
        rig.code(&[0x0f, 0x01, 0xf8]);
        rig.step();
        assert_eq!(rig.cpu.segments[usize::from(seg::GS)].base, 7);
        rig.at_level(3);
        rig.code(&[0x0f, 0x01, 0xf8]);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
    }
}
