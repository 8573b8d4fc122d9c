//! Near transfers of control: JMP, Jcc, CALL, RET, LOOP, JCXZ.
//!
//! Each counts one branch, taken or not. A target outside of the code segment
//! (not canonical, in 64-bit mode) faults before anything changes.

use iced_x86::{Instruction, Mnemonic, OpKind};
use x86::{Linear, gpr, seg};

use super::form::{Place, by_condition, condition, place};
use super::string::{register, set_register};
use crate::op::{AddressSize, Handler};
use crate::state::GPR_BLOCK;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let near = (0..insn.op_count()).find_map(|n| match insn.op_kind(n) {
        OpKind::NearBranch16 => Some(2),
        OpKind::NearBranch32 => Some(4),
        OpKind::NearBranch64 => Some(8),
        _ => None,
    });
    if let Some(size) = near {
        op.size = size;
        // A direct branch has no memory operand: its displacement is free to
        // hold the instruction pointer's mask.
        op.disp = mask(size);
        return lower_direct(insn, op);
    }
    match insn.mnemonic() {
        M::Jmp if is_near_indirect(insn) => indirect(insn, op, Kind::Jump),
        M::Call if is_near_indirect(insn) => indirect(insn, op, Kind::Call),
        M::Ret => {
            op.size = return_size(insn);
            match op.size {
                2 => Some(ret::<u16>),
                4 => Some(ret::<u32>),
                _ => Some(ret::<u64>),
            }
        }
        _ => None,
    }
}

fn lower_direct(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    op.address = match insn.mnemonic() {
        M::Jcxz => AddressSize::Bits16,
        M::Jecxz => AddressSize::Bits32,
        M::Jrcxz => AddressSize::Bits64,
        M::Loop | M::Loope | M::Loopne => loop_counter(insn),
        _ => op.address,
    };
    match insn.mnemonic() {
        M::Jmp => Some(jump),
        M::Call => match op.size {
            2 => Some(call::<u16>),
            4 => Some(call::<u32>),
            _ => Some(call::<u64>),
        },
        M::Jcxz | M::Jecxz | M::Jrcxz => Some(jump_if_counter_zero),
        M::Loop => Some(loop_),
        M::Loope => Some(loop_while::<true>),
        M::Loopne => Some(loop_while::<false>),
        _ => by_condition!(condition(insn)?, jump_if),
    }
}

fn loop_counter(insn: &Instruction) -> AddressSize {
    use iced_x86::Code as C;
    match insn.code() {
        C::Loop_rel8_16_CX
        | C::Loop_rel8_32_CX
        | C::Loope_rel8_16_CX
        | C::Loope_rel8_32_CX
        | C::Loopne_rel8_16_CX
        | C::Loopne_rel8_32_CX => AddressSize::Bits16,
        C::Loop_rel8_64_RCX
        | C::Loop_rel8_16_RCX
        | C::Loope_rel8_64_RCX
        | C::Loope_rel8_16_RCX
        | C::Loopne_rel8_64_RCX
        | C::Loopne_rel8_16_RCX => AddressSize::Bits64,
        _ => AddressSize::Bits32,
    }
}

fn is_near_indirect(insn: &Instruction) -> bool {
    insn.is_jmp_near_indirect() || insn.is_call_near_indirect()
}

fn return_size(insn: &Instruction) -> u8 {
    use iced_x86::Code as C;
    match insn.code() {
        C::Retnw | C::Retnw_imm16 => 2,
        C::Retnd | C::Retnd_imm16 => 4,
        _ => 8,
    }
}

/// The instruction pointer's mask for an operand size in bytes.
fn mask(size: u8) -> u64 {
    match size {
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// Whether execution may go on at `target`.
#[inline(always)]
fn check(cpu: &Cpu, target: u64, mask: u64) -> Flow {
    let within = if mask == u64::MAX {
        Linear(target).is_canonical()
    } else {
        target <= u64::from(cpu.segments[usize::from(seg::CS)].limit)
    };
    if within { Ok(()) } else { Err(Trap::GP) }
}

#[inline(always)]
fn go(cpu: &mut Cpu, target: u64) {
    cpu.rip = target;
    cpu.branches += 1;
}

#[inline(always)]
fn direct_target(cpu: &Cpu, op: &Op) -> u64 {
    cpu.gpr[usize::from(GPR_BLOCK)].wrapping_add(op.imm) & op.disp
}

#[inline(always)]
fn jump_when(cpu: &mut Cpu, op: &Op, taken: bool) -> Flow {
    if taken {
        let target = direct_target(cpu, op);
        check(cpu, target, op.disp)?;
        go(cpu, target);
    } else {
        let next = cpu.next_rip(op);
        go(cpu, next);
    }
    Ok(())
}

fn jump(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    jump_when(cpu, op, true)
}

fn jump_if<const CODE: u8>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let taken = cpu.flags.condition::<CODE>();
    jump_when(cpu, op, taken)
}

fn jump_if_counter_zero(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let taken = register(cpu, op, gpr::RCX) == 0;
    jump_when(cpu, op, taken)
}

fn loop_(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    loop_if(cpu, op, true)
}

fn loop_while<const ZERO: bool>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let wanted = cpu.flags.zf() == ZERO;
    loop_if(cpu, op, wanted)
}

fn loop_if(cpu: &mut Cpu, op: &Op, wanted: bool) -> Flow {
    let before = register(cpu, op, gpr::RCX);
    set_register(cpu, op, gpr::RCX, before.wrapping_sub(1));
    let taken = wanted && register(cpu, op, gpr::RCX) != 0;
    // A target that faults leaves the counter as it was.
    jump_when(cpu, op, taken).inspect_err(|_| set_register(cpu, op, gpr::RCX, before))
}

fn call<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let target = direct_target(cpu, op);
    call_to::<W>(cpu, bus, op, target)
}

#[inline(always)]
fn call_to<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, target: u64) -> Flow {
    check(cpu, target, mask(W::BYTES as u8))?;
    let next = cpu.next_rip(op);
    cpu.push(bus, W::truncate(next))?;
    go(cpu, target);
    Ok(())
}

enum Kind {
    Jump,
    Call,
}

fn indirect(insn: &Instruction, op: &mut Op, kind: Kind) -> Option<Handler> {
    macro_rules! instance {
        ($width:ty) => {
            match (kind, place(insn, 0)) {
                (Kind::Jump, Place::Register) => Some(jump_register::<$width>),
                (Kind::Jump, _) => Some(jump_memory::<$width>),
                (Kind::Call, Place::Register) => Some(call_register::<$width>),
                (Kind::Call, _) => Some(call_memory::<$width>),
            }
        };
    }
    match op.size {
        2 => instance!(u16),
        4 => instance!(u32),
        8 => instance!(u64),
        _ => None,
    }
}

#[inline(always)]
fn jump_to<W: Width>(cpu: &mut Cpu, target: W) -> Flow {
    let target = target.zero_extend();
    check(cpu, target, mask(W::BYTES as u8))?;
    go(cpu, target);
    Ok(())
}

fn jump_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let target = cpu.get::<W>(op.a);
    jump_to(cpu, target)
}

fn jump_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let target = cpu.load::<W>(bus, op)?;
    jump_to(cpu, target)
}

fn call_register<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let target = cpu.get::<W>(op.a).zero_extend();
    call_to::<W>(cpu, bus, op, target)
}

fn call_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let target = cpu.load::<W>(bus, op)?.zero_extend();
    call_to::<W>(cpu, bus, op, target)
}

/// RET, with the immediate (0 without) further bytes released.
fn ret<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let rsp = cpu.gpr[usize::from(gpr::RSP)];
    if cpu.is_64()
        && let Some(physical) = cpu.tlb.read(cpu.space, Linear(rsp), W::BYTES)
    {
        let target = cpu.ram.load::<W>(physical);
        jump_to(cpu, target)?;
        cpu.gpr[usize::from(gpr::RSP)] = rsp.wrapping_add(W::BYTES + (op.imm & 0xffff));
        return Ok(());
    }
    ret_slowly::<W>(cpu, bus, op)
}

#[cold]
#[inline(never)]
fn ret_slowly<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let target = cpu.peek::<W>(bus, 0)?;
    jump_to(cpu, target)?;
    let rsp = cpu.gpr[usize::from(gpr::RSP)].wrapping_add(W::BYTES + (op.imm & 0xffff));
    cpu.set_rsp(rsp);
    Ok(())
}
