//! Far transfers: JMP, CALL and RET between code segments, through call gates
//! and between privilege levels, and IRET (SDM volume 2A; volume 3A, 5.8).
//!
//! Hardware task switching and virtual-8086 mode are not there: a selector of
//! a TSS or a task gate is a wrong selector, IRET with NT or VM is `#GP(0)`.

use iced_x86::{Code, Instruction};
use x86::{Linear, flags, gpr, seg, vector};

use super::event::set_flags;
use crate::descriptor::{Descriptor, is_null, kind, null_segment, rpl, selector_fault};
use crate::interrupt::stack_space;
use crate::op::Handler;
use crate::segment::{Segment, rights};
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match insn.code() {
        Code::Jmp_ptr1616 | Code::Jmp_ptr1632 => jump_direct,
        Code::Jmp_m1616 => jump_memory::<u16>,
        Code::Jmp_m1632 => jump_memory::<u32>,
        Code::Jmp_m1664 => jump_memory::<u64>,
        Code::Call_ptr1616 => {
            op.size = 2;
            call_direct
        }
        Code::Call_ptr1632 => {
            op.size = 4;
            call_direct
        }
        Code::Call_m1616 => call_memory::<u16>,
        Code::Call_m1632 => call_memory::<u32>,
        Code::Call_m1664 => call_memory::<u64>,
        Code::Retfw | Code::Retfw_imm16 => ret::<u16>,
        Code::Retfd | Code::Retfd_imm16 => ret::<u32>,
        Code::Retfq | Code::Retfq_imm16 => ret::<u64>,
        Code::Iretw => iret::<u16>,
        Code::Iretd => iret::<u32>,
        Code::Iretq => iret::<u64>,
        _ => return None,
    })
}

fn jump_direct(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    jump(cpu, bus, op.disp as u16, op.imm)
}

fn jump_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let (selector, offset) = pointer::<W>(cpu, bus, op)?;
    jump(cpu, bus, selector, offset)
}

fn call_direct(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    call(cpu, bus, op, op.disp as u16, op.imm, op.size)
}

fn call_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let (selector, offset) = pointer::<W>(cpu, bus, op)?;
    call(cpu, bus, op, selector, offset, W::BYTES as u8)
}

/// The far pointer in memory, as (selector, offset).
fn pointer<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<(u16, u64)> {
    let offset = cpu.load::<W>(bus, op)?;
    let at = cpu.address_of_part(op, W::BYTES, 2, false)?;
    let selector = cpu.read::<u16>(bus, at, op.stack)?;
    Ok((selector, offset.zero_extend()))
}

/// Where a far JMP or CALL leads.
enum Target {
    /// A code segment, at the privilege level of now.
    Code(Descriptor),
    /// A call gate, after the checks of the gate itself.
    Gate(Descriptor),
}

fn target(cpu: &mut Cpu, bus: &mut dyn Bus, selector: u16) -> Flow<Target> {
    if is_null(selector) {
        return Err(Trap::GP);
    }
    let fault = selector_fault(vector::GP, selector, false);
    let mut descriptor = cpu.descriptor(bus, selector, vector::GP, false)?;
    let cpl = cpu.cpl;
    if descriptor.is_code() {
        let allowed = if descriptor.is_conforming() {
            descriptor.dpl() <= cpl
        } else {
            rpl(selector) <= cpl && descriptor.dpl() == cpl
        };
        if !allowed || has_two_sizes(cpu, &descriptor) {
            return Err(fault);
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::NP, selector, false));
        }
        return Ok(Target::Code(descriptor));
    }
    let is_gate = descriptor.is_system()
        && match descriptor.kind() {
            kind::CALL_GATE => true,
            kind::CALL_GATE_16 => !cpu.long_mode(),
            _ => false,
        };
    if !is_gate || descriptor.dpl() < cpl || rpl(selector) > descriptor.dpl() {
        return Err(fault);
    }
    if !descriptor.is_present() {
        return Err(selector_fault(vector::NP, selector, false));
    }
    cpu.read_high(bus, selector, &mut descriptor, vector::GP)?;
    Ok(Target::Gate(descriptor))
}

/// In long mode a code segment can't have both L and D.
fn has_two_sizes(cpu: &Cpu, code: &Descriptor) -> bool {
    cpu.long_mode() && code.has(rights::L | rights::DB)
}

/// The code segment behind a call gate.
fn behind_gate(cpu: &mut Cpu, bus: &mut dyn Bus, gate: &Descriptor) -> Flow<Descriptor> {
    let selector = gate.gate_selector();
    if is_null(selector) {
        return Err(Trap::GP);
    }
    let code = cpu.descriptor(bus, selector, vector::GP, false)?;
    let size_fits = !cpu.long_mode() || code.has(rights::L) && !code.has(rights::DB);
    if !code.is_code() || code.dpl() > cpu.cpl || !size_fits {
        return Err(selector_fault(vector::GP, selector, false));
    }
    if !code.is_present() {
        return Err(selector_fault(vector::NP, selector, false));
    }
    Ok(code)
}

/// `#GP(0)` unless `offset` lies in the code segment `code`.
fn check_offset(cpu: &Cpu, code: &Descriptor, offset: u64) -> Flow {
    let within = if is_64(cpu, code) {
        Linear(offset).is_canonical()
    } else {
        offset <= u64::from(code.limit())
    };
    if within { Ok(()) } else { Err(Trap::GP) }
}

fn is_64(cpu: &Cpu, code: &Descriptor) -> bool {
    cpu.long_mode() && code.has(rights::L)
}

/// Continues at `offset` of `code`. Nothing can fault any more but the write
/// of the accessed bit, which callers have done.
fn go(cpu: &mut Cpu, code: &Descriptor, selector: u16, offset: u64, cpl: u8) {
    cpu.set_code_segment(code, selector, cpl);
    cpu.rip = offset;
    cpu.branches += 1;
}

fn jump(cpu: &mut Cpu, bus: &mut dyn Bus, selector: u16, offset: u64) -> Flow {
    let cpl = cpu.cpl;
    match target(cpu, bus, selector)? {
        Target::Code(mut code) => {
            check_offset(cpu, &code, offset)?;
            cpu.mark_accessed(bus, &mut code)?;
            go(cpu, &code, selector, offset, cpl);
        }
        Target::Gate(gate) => {
            let mut code = behind_gate(cpu, bus, &gate)?;
            let selector = gate.gate_selector();
            if !code.is_conforming() && code.dpl() != cpl {
                return Err(selector_fault(vector::GP, selector, false));
            }
            check_offset(cpu, &code, gate.gate_offset())?;
            cpu.mark_accessed(bus, &mut code)?;
            go(cpu, &code, selector, gate.gate_offset(), cpl);
        }
    }
    Ok(())
}

/// `bytes`: the operand size.
fn call(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, selector: u16, offset: u64, bytes: u8) -> Flow {
    let back = [
        u64::from(cpu.segments[usize::from(seg::CS)].selector),
        cpu.next_rip(op),
    ];
    let cpl = cpu.cpl;
    match target(cpu, bus, selector)? {
        Target::Code(mut code) => {
            check_offset(cpu, &code, offset)?;
            cpu.mark_accessed(bus, &mut code)?;
            let rsp = push_here(cpu, bus, bytes, &back)?;
            go(cpu, &code, selector, offset, cpl);
            cpu.set_rsp(rsp);
        }
        Target::Gate(gate) => {
            let mut code = behind_gate(cpu, bus, &gate)?;
            let selector = gate.gate_selector();
            check_offset(cpu, &code, gate.gate_offset())?;
            let bytes = gate_bytes(cpu, &gate);
            if code.is_conforming() || code.dpl() == cpl {
                cpu.mark_accessed(bus, &mut code)?;
                let rsp = push_here(cpu, bus, bytes, &back)?;
                go(cpu, &code, selector, gate.gate_offset(), cpl);
                cpu.set_rsp(rsp);
            } else if cpu.long_mode() {
                call_inner_64(cpu, bus, &gate, &mut code, back)?;
            } else {
                call_inner_32(cpu, bus, &gate, &mut code, back)?;
            }
        }
    }
    Ok(())
}

/// What a call through `gate` pushes with.
fn gate_bytes(cpu: &Cpu, gate: &Descriptor) -> u8 {
    if cpu.long_mode() {
        8
    } else if gate.kind() == kind::CALL_GATE {
        4
    } else {
        2
    }
}

/// Pushes on the current stack without moving its pointer, which is returned.
fn push_here(cpu: &mut Cpu, bus: &mut dyn Bus, bytes: u8, values: &[u64]) -> Flow<u64> {
    let rsp = cpu.gpr[usize::from(gpr::RSP)];
    if !cpu.is_64() {
        let stack = cpu.segments[usize::from(seg::SS)];
        let space = cpu.space;
        return cpu.push_all(bus, &stack, rsp, space, bytes, values, Trap::SS);
    }
    let all = u64::from(bytes) * values.len() as u64;
    let bottom = rsp.wrapping_sub(all);
    cpu.probe_write_slow(cpu.space, Linear(bottom), all, true)?;
    for (&value, n) in values.iter().zip(1..) {
        let at = Linear(rsp.wrapping_sub(u64::from(bytes) * n));
        cpu.write_slow(bus, cpu.space, at, bytes, true, value)?;
    }
    Ok(bottom)
}

fn call_inner_64(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    gate: &Descriptor,
    code: &mut Descriptor,
    back: [u64; 2],
) -> Flow {
    let level = code.dpl();
    let top = cpu.tss_word_64(bus, 4 + 8 * u64::from(level), false)?;
    let values = [
        u64::from(cpu.segments[usize::from(seg::SS)].selector),
        cpu.gpr[usize::from(gpr::RSP)],
        back[0],
        back[1],
    ];
    let bottom = top.wrapping_sub(8 * values.len() as u64);
    let space = stack_space(level);
    cpu.probe_write_slow(space, Linear(bottom), 8 * values.len() as u64, true)?;
    cpu.mark_accessed(bus, code)?;
    for (&value, n) in values.iter().zip(1..) {
        cpu.write_as(bus, space, Linear(top.wrapping_sub(8 * n)), value)?;
    }
    cpu.segments[usize::from(seg::SS)] = null_segment(level.into());
    cpu.gpr[usize::from(gpr::RSP)] = bottom;
    go(cpu, code, gate.gate_selector(), gate.gate_offset(), level);
    Ok(())
}

fn call_inner_32(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    gate: &Descriptor,
    code: &mut Descriptor,
    back: [u64; 2],
) -> Flow {
    let level = code.dpl();
    let (stack, top) = cpu.inner_stack_32(bus, level, false)?;
    let bytes = gate_bytes(cpu, gate);
    let mut values = vec![
        u64::from(cpu.segments[usize::from(seg::SS)].selector),
        cpu.gpr[usize::from(gpr::RSP)],
    ];
    // Up to 31 parameters are copied, the first pushed stays the first.
    for n in (0..gate.low >> 32 & 31).rev() {
        values.push(if bytes == 4 {
            cpu.peek::<u32>(bus, 4 * n)?.into()
        } else {
            cpu.peek::<u16>(bus, 2 * n)?.into()
        });
    }
    values.extend(back);
    cpu.mark_accessed(bus, code)?;
    let fault = selector_fault(vector::SS, stack.selector, false);
    let space = stack_space(level);
    let rsp = cpu.push_all(bus, &stack, top, space, bytes, &values, fault)?;
    cpu.segments[usize::from(seg::SS)] = stack;
    go(cpu, code, gate.gate_selector(), gate.gate_offset(), level);
    cpu.set_rsp(rsp);
    Ok(())
}

/// The code segment that a RET or IRET goes back to, at the privilege level in
/// `selector`.
fn return_code(cpu: &mut Cpu, bus: &mut dyn Bus, selector: u16) -> Flow<Descriptor> {
    if is_null(selector) {
        return Err(Trap::GP);
    }
    let fault = selector_fault(vector::GP, selector, false);
    let code = cpu.descriptor(bus, selector, vector::GP, false)?;
    let level = rpl(selector);
    let fits = if code.is_conforming() {
        code.dpl() <= level
    } else {
        code.dpl() == level
    };
    if !code.is_code() || level < cpu.cpl || !fits || has_two_sizes(cpu, &code) {
        return Err(fault);
    }
    if !code.is_present() {
        return Err(selector_fault(vector::NP, selector, false));
    }
    Ok(code)
}

/// The stack segment that a RET or IRET to `code` at privilege level `level`
/// goes back to.
fn return_stack(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    selector: u16,
    code: &Descriptor,
    level: u8,
) -> Flow<Segment> {
    if is_null(selector) {
        return if is_64(cpu, code) && level != 3 {
            Ok(null_segment(selector))
        } else {
            Err(Trap::GP)
        };
    }
    let mut stack = cpu.descriptor(bus, selector, vector::GP, false)?;
    if rpl(selector) != level || stack.dpl() != level || !stack.is_writable_data() {
        return Err(selector_fault(vector::GP, selector, false));
    }
    if !stack.is_present() {
        return Err(selector_fault(vector::SS, selector, false));
    }
    cpu.mark_accessed(bus, &mut stack)?;
    Ok(stack.segment(selector))
}

/// RET, with the immediate (0 without) further bytes released on both stacks.
fn ret<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let released = op.imm & 0xffff;
    let offset = cpu.peek::<W>(bus, 0)?.zero_extend();
    let selector = cpu.peek::<W>(bus, W::BYTES)?.zero_extend() as u16;
    let mut code = return_code(cpu, bus, selector)?;
    let level = rpl(selector);
    if level == cpu.cpl {
        check_offset(cpu, &code, offset)?;
        cpu.mark_accessed(bus, &mut code)?;
        let rsp = cpu.gpr[usize::from(gpr::RSP)];
        cpu.set_rsp(rsp.wrapping_add(2 * W::BYTES + released));
        go(cpu, &code, selector, offset, level);
        return Ok(());
    }
    let rsp = cpu.peek::<W>(bus, 2 * W::BYTES + released)?.zero_extend();
    let ss = cpu.peek::<W>(bus, 3 * W::BYTES + released)?.zero_extend() as u16;
    let stack = return_stack(cpu, bus, ss, &code, level)?;
    check_offset(cpu, &code, offset)?;
    cpu.mark_accessed(bus, &mut code)?;
    go(cpu, &code, selector, offset, level);
    cpu.segments[usize::from(seg::SS)] = stack;
    cpu.set_rsp(rsp.wrapping_add(released));
    cpu.drop_inner_segments();
    Ok(())
}

fn iret<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    // Even one that faults lets the next non-maskable interrupt in.
    cpu.nmi_blocked = false;
    cpu.look = true;
    if cpu.flags.has(flags::NT) {
        return Err(Trap::GP);
    }
    let offset = cpu.peek::<W>(bus, 0)?.zero_extend();
    let selector = cpu.peek::<W>(bus, W::BYTES)?.zero_extend() as u16;
    let image = cpu.peek::<W>(bus, 2 * W::BYTES)?.zero_extend();
    if !cpu.long_mode() && cpu.cpl == 0 && image & flags::VM != 0 {
        return Err(Trap::GP);
    }
    let mut code = return_code(cpu, bus, selector)?;
    let level = rpl(selector);
    let outer = level != cpu.cpl;
    // 64-bit mode takes the stack back even within a level.
    let stack = if outer || cpu.is_64() {
        let rsp = cpu.peek::<W>(bus, 3 * W::BYTES)?.zero_extend();
        let ss = cpu.peek::<W>(bus, 4 * W::BYTES)?.zero_extend() as u16;
        Some((return_stack(cpu, bus, ss, &code, level)?, rsp))
    } else {
        None
    };
    check_offset(cpu, &code, offset)?;
    cpu.mark_accessed(bus, &mut code)?;
    let more = if W::BYTES > 2 { flags::RF } else { 0 };
    set_flags(cpu, image, W::BYTES, more);
    let old_rsp = cpu.gpr[usize::from(gpr::RSP)];
    if stack.is_none() {
        cpu.set_rsp(old_rsp.wrapping_add(3 * W::BYTES));
    }
    go(cpu, &code, selector, offset, level);
    if let Some((segment, rsp)) = stack {
        cpu.segments[usize::from(seg::SS)] = segment;
        cpu.set_rsp(rsp);
    }
    if outer {
        cpu.drop_inner_segments();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use x86::{Physical, flags, gpr, seg, vector};

    use crate::rig::{CODE, Rig, STACK, sel};
    use crate::{CodeSize, Exit};

    fn put_frame(rig: &mut Rig, frame: [u64; 5]) {
        rig.cpu.gpr[usize::from(gpr::RSP)] = STACK - 40;
        for (value, n) in frame.into_iter().zip(0..) {
            rig.cpu.ram.store(Physical(STACK - 40 + 8 * n), value);
        }
    }

    #[test]
    fn iret_to_level_3_takes_flags_and_stack_and_drops_inner_segments() {
        let mut rig = Rig::new();
        let flags = flags::FIXED | flags::IF | flags::CF;
        let code = u64::from(sel::CODE_3);
        put_frame(
            &mut rig,
            [CODE + 0x100, code, flags, 0x1234, sel::DATA_3.into()],
        );
        rig.code(&[0x48, 0xcf]);
        assert_eq!(rig.step(), Exit::Reached);
        assert_eq!(rig.cpu.rip, CODE + 0x100);
        assert_eq!(rig.cpu.cpl, 3);
        assert_eq!(rig.cpu.flags.value(), flags);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RSP)], 0x1234);
        assert_eq!(rig.cpu.segments[usize::from(seg::DS)].rights, 0);
        assert_eq!(rig.cpu.branches, 1);
    }

    #[test]
    fn iret_to_compatibility_mode_is_thirty_two_bits_wide() {
        let mut rig = Rig::new();
        let code = u64::from(sel::CODE32_3);
        put_frame(
            &mut rig,
            [CODE, code, flags::FIXED, 0x1234, sel::DATA_3.into()],
        );
        rig.code(&[0x48, 0xcf]);
        rig.step();
        assert_eq!(rig.cpu.code_size, CodeSize::Bits32);
        // inc eax, which is a REX prefix in 64-bit mode.
        rig.code(&[0x40]);
        rig.step();
        assert_eq!(rig.cpu.gpr[0], 1);
    }

    #[test]
    fn iret_with_a_wrong_selector_changes_nothing() {
        let mut rig = Rig::new();
        put_frame(
            &mut rig,
            [
                CODE,
                sel::DATA_3.into(),
                flags::FIXED,
                0,
                sel::DATA_3.into(),
            ],
        );
        rig.code(&[0x48, 0xcf]);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
        assert_eq!(rig.stacked(0), u64::from(sel::DATA_3 & !3));
        assert_eq!(rig.stacked(1), CODE);
    }

    #[test]
    fn a_far_jump_changes_the_size_of_code_and_a_far_return_takes_it_back() {
        let mut rig = Rig::new();
        let back = CODE + 0x40;
        // jmp far [rip]: in compatibility mode: push 8; push back; retf
        rig.code(&[0xff, 0x2d, 0, 0, 0, 0]);
        let target = (CODE + 0x20) | u64::from(sel::CODE32_0) << 32;
        rig.cpu.ram.store(Physical(CODE + 6), target);
        let [a, b, c, d] = (back as u32).to_le_bytes();
        rig.cpu
            .ram
            .write(
                Physical(CODE + 0x20),
                &[0x6a, sel::CODE_0 as u8, 0x68, a, b, c, d, 0xcb],
            )
            .expect("it is RAM");
        // mov rax, rsp; hlt
        rig.cpu
            .ram
            .write(Physical(back), &[0x48, 0x89, 0xe0, 0xf4])
            .expect("it is RAM");
        assert_eq!(rig.run(), Exit::Halted);
        assert_eq!(rig.cpu.rip, back + 4);
        assert_eq!(rig.cpu.gpr[0], STACK);
        assert_eq!(rig.cpu.branches, 2);
    }
}
