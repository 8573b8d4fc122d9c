//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE. (PUSHF and POPF are with the flags;
//! POP to a segment register with the segments.)

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use x86::gpr;

use super::form::{Place, place};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// The instance for an operand size of 2, 4 or 8 bytes.
macro_rules! by_stack_width {
    ($size:expr, $handler:ident) => {
        match $size {
            2 => Some($handler::<u16> as Handler),
            4 => Some($handler::<u32> as Handler),
            8 => Some($handler::<u64> as Handler),
            _ => None,
        }
    };
}

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let is_general = insn.op_count() == 1
        && (insn.op_kind(0) != OpKind::Register || {
            let register: Register = insn.op_register(0);
            register.is_gpr()
        });
    match insn.mnemonic() {
        M::Push => {
            op.size = moved_bytes(insn);
            match place(insn, 0) {
                Place::Register if is_general => by_stack_width!(op.size, push_register),
                Place::Register => by_stack_width!(op.size, push_segment),
                Place::Immediate => by_stack_width!(op.size, push_immediate),
                Place::Memory => by_stack_width!(op.size, push_memory),
                Place::None => None,
            }
        }
        M::Pop if is_general => {
            op.size = moved_bytes(insn);
            match place(insn, 0) {
                Place::Register => by_stack_width!(op.size, pop_register),
                Place::Memory => by_stack_width!(op.size, pop_memory),
                _ => None,
            }
        }
        M::Pusha => Some(push_all::<u16>),
        M::Pushad => Some(push_all::<u32>),
        M::Popa => Some(pop_all::<u16>),
        M::Popad => Some(pop_all::<u32>),
        M::Enter => by_stack_width!(frame_bytes(insn), enter),
        M::Leave => by_stack_width!(frame_bytes(insn), leave),
        _ => None,
    }
}

/// How far one PUSH or POP moves the stack pointer.
fn moved_bytes(insn: &Instruction) -> u8 {
    // At most 8, by the instruction set.
    insn.stack_pointer_increment().unsigned_abs() as u8
}

fn frame_bytes(insn: &Instruction) -> u8 {
    use iced_x86::Code as C;
    match insn.code() {
        C::Enterw_imm16_imm8 | C::Leavew => 2,
        C::Enterd_imm16_imm8 | C::Leaved => 4,
        _ => 8,
    }
}

fn push_register<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<W>(op.a);
    cpu.push(bus, value)
}

/// A selector is pushed zero-extended; of a 32-bit push both makes write only
/// the lower 16 bits to memory.
fn push_segment<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let selector = cpu.segments[usize::from(op.a)].selector;
    if W::BITS != 32 {
        return cpu.push(bus, W::truncate(u64::from(selector)));
    }
    let rsp = cpu.gpr[usize::from(gpr::RSP)].wrapping_sub(W::BYTES);
    let at = cpu.stack_address(rsp, W::BYTES, true)?;
    cpu.write(bus, at, true, selector)?;
    cpu.set_rsp(rsp);
    Ok(())
}

fn push_immediate<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.push(bus, W::truncate(op.imm))
}

fn push_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.load::<W>(bus, op)?;
    cpu.push(bus, value)
}

fn pop_register<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    // POP RSP: the value comes last, and stays.
    cpu.with_pop::<W>(bus, |cpu, value| cpu.set(op.a, value))
}

/// The address is computed with the stack pointer already moved.
fn pop_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let rsp = cpu.gpr[usize::from(gpr::RSP)];
    let value = cpu.pop::<W>(bus)?;
    let stored = cpu.store(bus, op, value);
    if stored.is_err() {
        cpu.gpr[usize::from(gpr::RSP)] = rsp;
    }
    stored
}

fn push_all<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    let rsp = cpu.gpr[usize::from(gpr::RSP)];
    // In the order of the pushes, which a fault shows; the registers come last.
    for number in 0..8u8 {
        let below = rsp.wrapping_sub(W::BYTES * (u64::from(number) + 1));
        let at = cpu.stack_address(below, W::BYTES, true)?;
        let value = cpu.get::<W>(number);
        cpu.write(bus, at, true, value)?;
    }
    cpu.set_rsp(rsp.wrapping_sub(W::BYTES * 8));
    Ok(())
}

fn pop_all<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    let mut values = [W::default(); 8];
    for (value, n) in values.iter_mut().zip(0u64..) {
        *value = cpu.peek(bus, n * W::BYTES)?;
    }
    let rsp = cpu.gpr[usize::from(gpr::RSP)].wrapping_add(W::BYTES * 8);
    for (value, number) in values.into_iter().rev().zip(0u8..) {
        // The saved stack pointer is not taken back.
        if number != gpr::RSP {
            cpu.set(number, value);
        }
    }
    cpu.set_rsp(rsp);
    Ok(())
}

/// SDM volume 2A, ENTER. The level is taken modulo 32.
fn enter<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let level = u64::from(op.b & 31);
    let size = op.imm & 0xffff;
    let rsp = cpu.gpr[usize::from(gpr::RSP)];
    let rbp = cpu.gpr[usize::from(gpr::RBP)];
    let frame = rsp.wrapping_sub(W::BYTES);
    let put = |cpu: &mut Cpu, bus: &mut dyn Bus, below: u64, value: W| -> Flow {
        let at = cpu.stack_address(rsp.wrapping_sub(below), W::BYTES, true)?;
        cpu.write(bus, at, true, value)
    };
    put(cpu, bus, W::BYTES, W::truncate(rbp))?;
    for n in 1..level {
        let at = cpu.stack_address(rbp.wrapping_sub(n * W::BYTES), W::BYTES, false)?;
        let outer = cpu.read::<W>(bus, at, true)?;
        put(cpu, bus, (n + 1) * W::BYTES, outer)?;
    }
    if level > 0 {
        put(cpu, bus, (level + 1) * W::BYTES, W::truncate(frame))?;
    }
    let pushed = W::BYTES * (level + 1);
    let rsp = rsp.wrapping_sub(pushed).wrapping_sub(size);
    // The new top of the stack must be writable, or nothing has happened.
    let at = cpu.stack_address(rsp, W::BYTES, true)?;
    cpu.probe_write::<W>(at, true)?;
    cpu.set(gpr::RBP, W::truncate(frame));
    cpu.set_rsp(rsp);
    Ok(())
}

fn leave<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    let rbp = cpu.gpr[usize::from(gpr::RBP)];
    let at = cpu.stack_address(rbp, W::BYTES, false)?;
    let value = cpu.read::<W>(bus, at, true)?;
    cpu.set_rsp(rbp.wrapping_add(W::BYTES));
    cpu.set(gpr::RBP, value);
    Ok(())
}
