//! MOV, MOVZX, MOVSX, MOVSXD, LEA, BSWAP, CMOVcc, SETcc, XLAT, MOVNTI, and
//! what does nothing: NOP, PAUSE, ENDBR, prefetches.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::form::{Place, by_condition, by_width, condition, places};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Mov => lower_mov(insn, op),
        M::Movnti => by_width!(op.size, memory_register),
        M::Movzx => lower_extend::<Zero>(insn, op),
        M::Movsx | M::Movsxd => lower_extend::<Sign>(insn, op),
        M::Lea => by_width!(op.size, lea),
        M::Bswap => match op.size {
            8 => Some(bswap_64),
            4 => Some(bswap_32),
            // The manual calls the result undefined; both makes clear it.
            _ => Some(bswap_16),
        },
        M::Xlatb => Some(xlat),
        M::Nop | M::Pause | M::Endbr64 | M::Endbr32 | M::Reservednop => Some(nothing),
        // Extensions in the space of hint NOPs (0F 18 to 0F 1F), which are NOPs
        // where the extension is absent or off: libgcc reads the shadow stack
        // pointer into a register that it has cleared, and looks whether it
        // still is.
        M::Rdsspd | M::Rdsspq | M::Cldemote => Some(nothing),
        M::Prefetchnta | M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Prefetchw => {
            Some(nothing)
        }
        _ => lower_conditional(insn, op),
    }
}

fn lower_mov(insn: &Instruction, op: &Op) -> Option<Handler> {
    // Moves to and from segment, control and debug registers are not ours.
    let is_general = |n| {
        insn.op_kind(n) != OpKind::Register || {
            let register: Register = insn.op_register(n);
            register.is_gpr()
        }
    };
    if !is_general(0) || !is_general(1) {
        return None;
    }
    match places(insn) {
        (Place::Register, Place::Register) => by_width!(op.size, register_register),
        (Place::Register, Place::Immediate) => by_width!(op.size, register_immediate),
        (Place::Register, Place::Memory) => by_width!(op.size, register_memory),
        (Place::Memory, Place::Register) => by_width!(op.size, memory_register),
        (Place::Memory, Place::Immediate) => by_width!(op.size, memory_immediate),
        _ => None,
    }
}

fn register_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<W>(op.b);
    cpu.set(op.a, value);
    Ok(())
}

fn register_immediate<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.set(op.a, W::truncate(op.imm));
    Ok(())
}

fn register_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<W>(bus, op, |cpu, value| cpu.set(op.a, value))
}

fn memory_register<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<W>(op.b);
    cpu.store(bus, op, value)
}

fn memory_immediate<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.store(bus, op, W::truncate(op.imm))
}

/// How a narrow source becomes 64 bits.
trait Extend {
    fn extend<W: Width>(value: W) -> u64;
}
struct Zero;
struct Sign;
impl Extend for Zero {
    #[inline(always)]
    fn extend<W: Width>(value: W) -> u64 {
        value.zero_extend()
    }
}
impl Extend for Sign {
    #[inline(always)]
    fn extend<W: Width>(value: W) -> u64 {
        value.sign_extend()
    }
}

fn lower_extend<E: Extend>(insn: &Instruction, op: &Op) -> Option<Handler> {
    macro_rules! to {
        ($narrow:ty) => {
            match places(insn).1 {
                Place::Memory => by_width!(op.size, extend_memory, E, $narrow),
                _ => by_width!(op.size, extend_register, E, $narrow),
            }
        };
    }
    let narrow = match places(insn).1 {
        Place::Memory => insn.memory_size().size(),
        _ => insn.op_register(1).size(),
    };
    match narrow {
        1 => to!(u8),
        2 => to!(u16),
        4 => to!(u32),
        _ => None,
    }
}

fn extend_register<E: Extend, N: Width, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let value = E::extend(cpu.get::<N>(op.b));
    cpu.set(op.a, W::truncate(value));
    Ok(())
}

fn extend_memory<E: Extend, N: Width, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<N>(bus, op, |cpu, value| {
        cpu.set(op.a, W::truncate(E::extend(value)));
    })
}

fn lea<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.set(op.a, W::truncate(cpu.offset(op)));
    Ok(())
}

fn bswap_64(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<u64>(op.a);
    cpu.set(op.a, value.swap_bytes());
    Ok(())
}

fn bswap_32(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<u32>(op.a);
    cpu.set(op.a, value.swap_bytes());
    Ok(())
}

fn bswap_16(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.set(op.a, 0u16);
    Ok(())
}

fn xlat(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    // iced gives RBX as the base and AL as the index, unscaled.
    let low = cpu.gpr[0] & 0xff;
    let offset = cpu.gpr[usize::from(x86::gpr::RBX)].wrapping_add(low);
    let at = cpu.string_address(op.seg, offset & op.address.last(), 1, false)?;
    let value = cpu.read::<u8>(bus, at, op.stack)?;
    cpu.set(x86::gpr::RAX, value);
    Ok(())
}

fn nothing(_: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    Ok(())
}

fn lower_conditional(insn: &Instruction, op: &Op) -> Option<Handler> {
    let code = condition(insn)?;
    // Told apart by shape: SETcc has one operand, CMOVcc two, of which the
    // first is a register. FCMOVcc and Jcc have others.
    let place_0 = places(insn).0;
    if insn.op_count() == 1 && op.size == 1 {
        return match place_0 {
            Place::Memory => by_condition!(code, set_memory),
            Place::Register => by_condition!(code, set_register),
            _ => None,
        };
    }
    let is_cmov =
        insn.op_count() == 2 && insn.op_kind(0) == OpKind::Register && insn.op_register(0).is_gpr();
    if !is_cmov {
        return None;
    }
    match (places(insn).1, op.size) {
        (Place::Register, 2) => by_condition!(code, cmov_register, u16),
        (Place::Register, 4) => by_condition!(code, cmov_register, u32),
        (Place::Register, 8) => by_condition!(code, cmov_register, u64),
        (Place::Memory, 2) => by_condition!(code, cmov_memory, u16),
        (Place::Memory, 4) => by_condition!(code, cmov_memory, u32),
        (Place::Memory, 8) => by_condition!(code, cmov_memory, u64),
        _ => None,
    }
}

fn set_register<const CODE: u8>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let value = u8::from(cpu.flags.condition::<CODE>());
    cpu.set(op.a, value);
    Ok(())
}

fn set_memory<const CODE: u8>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = u8::from(cpu.flags.condition::<CODE>());
    cpu.store(bus, op, value)
}

fn cmov_register<const CODE: u8, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    // A 32-bit CMOV clears the upper half even where it doesn't move.
    let from = if cpu.flags.condition::<CODE>() {
        op.b
    } else {
        op.a
    };
    let value = cpu.get::<W>(from);
    cpu.set(op.a, value);
    Ok(())
}

fn cmov_memory<const CODE: u8, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    // The load takes place, and may fault, whether or not it is used.
    cpu.with_load::<W>(bus, op, |cpu, loaded| {
        let taken = cpu.flags.condition::<CODE>();
        let value = if taken { loaded } else { cpu.get(op.a) };
        cpu.set(op.a, value);
    })
}
