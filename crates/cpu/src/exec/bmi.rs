//! What x86-64-v3 adds to general registers: BMI1, BMI2, LZCNT and MOVBE.
//!
//! Flags that the manual leaves undefined: PF, and SF after BEXTR, follow the
//! result, and AF is 0; after TZCNT and LZCNT OF, SF, AF and PF are 0
//! (docs/determinism.md). RORX, SARX, SHLX, SHRX, MULX, PDEP and PEXT leave
//! every flag alone.

use iced_x86::{Instruction, Mnemonic};
use x86::gpr;

use super::form::{Place, by_width, places};
use crate::flags::Flags;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Andn => lower_other_first::<Andn>(insn, op),
        M::Pdep => lower_other_first::<Pdep>(insn, op),
        M::Pext => lower_other_first::<Pext>(insn, op),
        M::Bextr => lower_combine::<Bextr>(insn, op),
        M::Bzhi => lower_combine::<Bzhi>(insn, op),
        M::Sarx => lower_combine::<Sarx>(insn, op),
        M::Shlx => lower_combine::<Shlx>(insn, op),
        M::Shrx => lower_combine::<Shrx>(insn, op),
        M::Blsi => lower_combine::<Blsi>(insn, op),
        M::Blsr => lower_combine::<Blsr>(insn, op),
        M::Blsmsk => lower_combine::<Blsmsk>(insn, op),
        M::Tzcnt => lower_combine::<Tzcnt>(insn, op),
        M::Lzcnt => lower_combine::<Lzcnt>(insn, op),
        M::Rorx => match places(insn).1 {
            Place::Memory => by_width!(op.size, rorx_memory),
            _ => by_width!(op.size, rorx_register),
        },
        M::Mulx => match insn.op2_kind() {
            iced_x86::OpKind::Memory => by_width!(op.size, mulx_memory),
            _ => by_width!(op.size, mulx_register),
        },
        M::Movbe => match places(insn).1 {
            Place::Memory => by_width!(op.size, movbe_load),
            _ => by_width!(op.size, movbe_store),
        },
        _ => None,
    }
}

/// A function of the operand that may lie in memory, and of another register
/// if the instruction has one.
trait Combine {
    fn apply<W: Width>(flags: &mut Flags, source: W, other: W) -> W;
}

macro_rules! combine {
    ($name:ident, |$flags:ident, $source:ident, $other:ident| $body:expr) => {
        struct $name;
        impl Combine for $name {
            #[inline(always)]
            fn apply<W: Width>($flags: &mut Flags, $source: W, $other: W) -> W {
                $body
            }
        }
    };
}

/// Where the operand that may lie in memory is the second.
fn lower_combine<C: Combine>(insn: &Instruction, op: &Op) -> Option<Handler> {
    match places(insn).1 {
        Place::Memory => by_width!(op.size, combine_memory, C),
        _ => by_width!(op.size, combine_register, C),
    }
}

/// Where it is the third: it comes to the second's place.
fn lower_other_first<C: Combine>(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    std::mem::swap(&mut op.b, &mut op.c);
    match insn.op2_kind() {
        iced_x86::OpKind::Memory => by_width!(op.size, combine_memory, C),
        _ => by_width!(op.size, combine_register, C),
    }
}

fn combine_register<C: Combine, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.get::<W>(op.b);
    let other = cpu.get::<W>(op.c);
    let result = C::apply(&mut cpu.flags, source, other);
    cpu.set(op.a, result);
    Ok(())
}

fn combine_memory<C: Combine, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<W>(bus, op, |cpu, source| {
        let other = cpu.get::<W>(op.c);
        let result = C::apply(&mut cpu.flags, source, other);
        cpu.set(op.a, result);
    })
}

combine!(Andn, |flags, source, other| {
    let result = !other & source;
    flags.logic(result);
    result
});

combine!(Bextr, |flags, source, control| {
    let control = control.zero_extend();
    let (start, len) = (control as u8, (control >> 8) as u8);
    let shifted = source
        .zero_extend()
        .checked_shr(start.into())
        .unwrap_or_default();
    let result = W::truncate(shifted & low_bits(len));
    flags.logic(result);
    result
});

combine!(Bzhi, |flags, source, control| {
    let first = control.zero_extend() as u8;
    let result = W::truncate(source.zero_extend() & low_bits(first));
    let cf = u32::from(first) >= W::BITS;
    flags.set_result(result, cf, false, false);
    result
});

/// The lowest `count` bits, or all.
#[inline(always)]
fn low_bits(count: u8) -> u64 {
    !u64::MAX.checked_shl(count.into()).unwrap_or_default()
}

combine!(Blsi, |flags, source, _other| {
    let result = W::default().minus(source) & source;
    flags.set_result(result, source != W::default(), false, false);
    result
});

combine!(Blsr, |flags, source, _other| {
    let result = source.minus(W::truncate(1)) & source;
    flags.set_result(result, source == W::default(), false, false);
    result
});

combine!(Blsmsk, |flags, source, _other| {
    let result = source.minus(W::truncate(1)) ^ source;
    flags.set_result(result, source == W::default(), false, false);
    result
});

/// A count of zeros, and the flags of it: CF if there was nothing else.
#[inline(always)]
fn count<W: Width>(flags: &mut Flags, source: W, zeros: u32) -> W {
    let is_zero = source == W::default();
    let count = if is_zero { W::BITS } else { zeros };
    let mut bits = if is_zero { x86::flags::CF } else { 0 };
    if count == 0 {
        bits |= x86::flags::ZF;
    }
    flags.set_arithmetic(bits);
    W::truncate(count.into())
}

combine!(Tzcnt, |flags, source, _other| {
    count(flags, source, source.zero_extend().trailing_zeros())
});

combine!(Lzcnt, |flags, source, _other| {
    let zeros = source.zero_extend().leading_zeros();
    count(flags, source, zeros.wrapping_sub(64 - W::BITS))
});

combine!(Sarx, |_flags, source, other| {
    let wide = source.sign_extend().cast_signed();
    W::truncate((wide >> shift_count(other)).cast_unsigned())
});

combine!(Shlx, |_flags, source, other| {
    W::truncate(source.zero_extend() << shift_count(other))
});

combine!(Shrx, |_flags, source, other| {
    W::truncate(source.zero_extend() >> shift_count(other))
});

/// Modulo the operand's size, a power of two.
#[inline(always)]
fn shift_count<W: Width>(count: W) -> u64 {
    count.zero_extend() & u64::from(W::BITS - 1)
}

combine!(Pdep, |_flags, mask, source| {
    let (mut rest, source) = (mask.zero_extend(), source.zero_extend());
    let mut result = 0;
    for n in 0..mask.zero_extend().count_ones() {
        let lowest = rest & rest.wrapping_neg();
        if source >> n & 1 != 0 {
            result |= lowest;
        }
        rest ^= lowest;
    }
    W::truncate(result)
});

combine!(Pext, |_flags, mask, source| {
    let (mut rest, source) = (mask.zero_extend(), source.zero_extend());
    let mut result = 0u64;
    for n in 0..mask.zero_extend().count_ones() {
        let lowest = rest & rest.wrapping_neg();
        if source & lowest != 0 {
            result |= 1 << n;
        }
        rest ^= lowest;
    }
    W::truncate(result)
});

#[inline(always)]
fn rotated<W: Width>(source: W, imm: u64) -> W {
    let count = imm & u64::from(W::BITS - 1);
    let wide = source.zero_extend();
    let high = wide.checked_shl(W::BITS - count as u32).unwrap_or_default();
    W::truncate(wide >> count | high)
}

fn rorx_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.get::<W>(op.b);
    cpu.set(op.a, rotated(source, op.imm));
    Ok(())
}

fn rorx_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<W>(bus, op, |cpu, source| {
        cpu.set(op.a, rotated(source, op.imm));
    })
}

fn mulx_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.get::<W>(op.c);
    mulx(cpu, op, source);
    Ok(())
}

fn mulx_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<W>(bus, op, |cpu, source| mulx(cpu, op, source))
}

#[inline(always)]
fn mulx<W: Width>(cpu: &mut Cpu, op: &Op, source: W) {
    let other = cpu.get::<W>(gpr::RDX).zero_extend();
    let whole = u128::from(other) * u128::from(source.zero_extend());
    // If both are one register, it holds the upper half.
    cpu.set(op.b, W::truncate(whole as u64));
    cpu.set(op.a, W::truncate((whole >> W::BITS) as u64));
}

#[inline(always)]
fn swapped<W: Width>(value: W) -> W {
    W::truncate(value.zero_extend().swap_bytes() >> (64 - W::BITS))
}

fn movbe_load<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<W>(bus, op, |cpu, value| cpu.set(op.a, swapped(value)))
}

fn movbe_store<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = swapped(cpu.get::<W>(op.b));
    cpu.store(bus, op, value)
}

#[cfg(test)]
mod tests {
    use x86::gpr::{RAX, RBX};

    use crate::Model;
    use crate::rig::Rig;

    const LZCNT: &[u8] = &[0xf3, 0x0f, 0xbd, 0xc3, 0xf4];
    const BSR_WITH_PREFIX: &[u8] = LZCNT;
    const ANDN: &[u8] = &[0xc4, 0xe2, 0x60, 0xf2, 0xc3, 0xf4];
    const MOVBE: &[u8] = &[0x0f, 0x38, 0xf0, 0x44, 0x24, 0xf8, 0xf4];

    /// RAX after `code` with RBX = 0x10, and the vector of the fault if there
    /// was one.
    fn outcome(model: Model, code: &[u8]) -> Result<u64, u8> {
        let mut rig = Rig::new();
        rig.cpu.model = model;
        rig.cpu.gpr[usize::from(RBX)] = 0x10;
        rig.code(code);
        rig.run();
        if rig.cpu.rip == crate::rig::CODE + code.len() as u64 {
            Ok(rig.cpu.gpr[usize::from(RAX)])
        } else {
            Err(rig.vector())
        }
    }

    #[test]
    fn the_lower_level_knows_none_of_them() {
        assert_eq!(outcome(Model::V3, LZCNT), Ok(27));
        assert_eq!(outcome(Model::V2, BSR_WITH_PREFIX), Ok(4));
        for code in [ANDN, MOVBE] {
            assert!(outcome(Model::V3, code).is_ok());
            assert_eq!(outcome(Model::V2, code), Err(x86::vector::UD));
        }
    }
}
