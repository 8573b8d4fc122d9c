//! XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B. One processor runs at a time,
//! so a locked operation is no different from another.

use iced_x86::{Instruction, Mnemonic};
use x86::{flags, gpr};

use super::form::{Place, by_width, places};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let memory = places(insn).0 == Place::Memory;
    match insn.mnemonic() {
        M::Xchg if places(insn).1 == Place::Memory => {
            // Both orders of operands are the same instruction.
            op.b = op.a;
            by_width!(op.size, xchg_memory)
        }
        M::Xchg if memory => by_width!(op.size, xchg_memory),
        M::Xchg => by_width!(op.size, xchg_register),
        M::Xadd if memory => by_width!(op.size, xadd_memory),
        M::Xadd => by_width!(op.size, xadd_register),
        M::Cmpxchg if memory => by_width!(op.size, cmpxchg_memory),
        M::Cmpxchg => by_width!(op.size, cmpxchg_register),
        M::Cmpxchg8b => Some(cmpxchg8b),
        M::Cmpxchg16b => Some(cmpxchg16b),
        _ => None,
    }
}

fn xchg_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let (a, b) = (cpu.get::<W>(op.a), cpu.get::<W>(op.b));
    cpu.set(op.a, b);
    cpu.set(op.b, a);
    Ok(())
}

fn xchg_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let register = op.b;
    let value = cpu.get::<W>(register);
    let mut old = W::default();
    cpu.modify::<W>(bus, op, |_, before| {
        old = before;
        value
    })?;
    cpu.set(register, old);
    Ok(())
}

fn xadd_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let (a, b) = (cpu.get::<W>(op.a), cpu.get::<W>(op.b));
    let sum = a.plus(b);
    cpu.flags.add(a, b, sum);
    // The sum last: with the same register twice, it is what stays.
    cpu.set(op.b, a);
    cpu.set(op.a, sum);
    Ok(())
}

fn xadd_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let b = cpu.get::<W>(op.b);
    let mut old = W::default();
    cpu.modify::<W>(bus, op, |cpu, a| {
        old = a;
        let sum = a.plus(b);
        cpu.flags.add(a, b, sum);
        sum
    })?;
    cpu.set(op.b, old);
    Ok(())
}

fn cmpxchg_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let (accumulator, old) = (cpu.get::<W>(gpr::RAX), cpu.get::<W>(op.a));
    cpu.flags.sub(accumulator, old, accumulator.minus(old));
    if accumulator == old {
        let new = cpu.get::<W>(op.b);
        cpu.set(op.a, new);
    } else {
        cpu.set(gpr::RAX, old);
    }
    Ok(())
}

fn cmpxchg_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let (accumulator, new) = (cpu.get::<W>(gpr::RAX), cpu.get::<W>(op.b));
    let mut old = W::default();
    // The destination is written in either case, and must be writable.
    cpu.modify::<W>(bus, op, |cpu, before| {
        old = before;
        cpu.flags
            .sub(accumulator, before, accumulator.minus(before));
        if accumulator == before { new } else { before }
    })?;
    if accumulator != old {
        cpu.set(gpr::RAX, old);
    }
    Ok(())
}

fn set_zf(cpu: &mut Cpu, equal: bool) {
    cpu.flags
        .update_arithmetic(flags::ZF, if equal { flags::ZF } else { 0 });
}

fn cmpxchg8b(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let pair = |cpu: &Cpu, high, low| {
        cpu.get::<u32>(high).zero_extend() << 32 | cpu.get::<u32>(low).zero_extend()
    };
    let expected = pair(cpu, gpr::RDX, gpr::RAX);
    let new = pair(cpu, gpr::RCX, gpr::RBX);
    let mut old = 0u64;
    cpu.modify::<u64>(bus, op, |_, before| {
        old = before;
        if before == expected { new } else { before }
    })?;
    if old != expected {
        cpu.set(gpr::RAX, u32::truncate(old));
        cpu.set(gpr::RDX, u32::truncate(old >> 32));
    }
    set_zf(cpu, old == expected);
    Ok(())
}

fn cmpxchg16b(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let pair = |cpu: &Cpu, high: u8, low: u8| {
        u128::from(cpu.get::<u64>(high)) << 64 | u128::from(cpu.get::<u64>(low))
    };
    let at = cpu.address(op, 16, true)?;
    if !at.0.is_multiple_of(16) {
        return Err(Trap::GP);
    }
    // As CMPXCHG: the destination is written in either case.
    cpu.probe_write_slow(cpu.space, at, 16, op.stack)?;
    let old = cpu.read_128(bus, at, op.stack)?;
    let expected = pair(cpu, gpr::RDX, gpr::RAX);
    let new = if old == expected {
        pair(cpu, gpr::RCX, gpr::RBX)
    } else {
        old
    };
    cpu.write_128(bus, at, op.stack, new)?;
    if old != expected {
        cpu.set(gpr::RAX, old as u64);
        cpu.set(gpr::RDX, (old >> 64) as u64);
    }
    set_zf(cpu, old == expected);
    Ok(())
}
