//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD.
//!
//! The count is taken modulo 32 (64 for 64-bit operands); a count of 0 changes
//! no flag. The manual leaves OF undefined for counts above 1, AF for all
//! shifts, and everything for SHLD and SHRD beyond the width: here OF follows
//! the same rule for every count and AF is 0 (docs/determinism.md).

use iced_x86::{Instruction, Mnemonic};
use x86::gpr;

use super::form::{Place, by_width, place, places};
use crate::flags::Flags;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// A shift or rotation by `count`, masked and not 0.
trait Shift {
    fn apply<W: Width>(flags: &mut Flags, a: W, count: u32) -> W;
}

macro_rules! shift {
    ($name:ident, |$flags:ident, $a:ident, $count:ident| $body:expr) => {
        struct $name;
        impl Shift for $name {
            #[inline(always)]
            fn apply<W: Width>($flags: &mut Flags, $a: W, $count: u32) -> W {
                $body
            }
        }
    };
}

/// Bit `n` of `value`; 0 beyond its width.
#[inline(always)]
fn bit(value: u64, n: u32) -> bool {
    value.checked_shr(n).unwrap_or(0) & 1 != 0
}

/// Whether the two top bits of `value` differ.
#[inline(always)]
fn top_bits_differ<W: Width>(value: W) -> bool {
    let value = value.zero_extend();
    bit(value, W::BITS - 1) != bit(value, W::BITS - 2)
}

shift!(Shl, |flags, a, count| {
    let wide = a.zero_extend();
    let result = W::truncate(wide.checked_shl(count).unwrap_or(0));
    let cf = count <= W::BITS && bit(wide, W::BITS - count.min(W::BITS));
    flags.set_result(result, cf, cf != result.sign(), false);
    result
});

shift!(Shr, |flags, a, count| {
    let wide = a.zero_extend();
    let result = W::truncate(wide.checked_shr(count).unwrap_or(0));
    flags.set_result(result, bit(wide, count - 1), top_bits_differ(result), false);
    result
});

shift!(Sar, |flags, a, count| {
    let wide = a.sign_extend().cast_signed();
    let result = W::truncate((wide >> count.min(63)).cast_unsigned());
    let cf = (wide >> (count - 1).min(63)) & 1 != 0;
    flags.set_result(result, cf, false, false);
    result
});

shift!(Rol, |flags, a, count| {
    let result = rotate_left(a, count % W::BITS);
    let cf = result.zero_extend() & 1 != 0;
    flags.set_cf(cf);
    flags.set_of(cf != result.sign());
    result
});

shift!(Ror, |flags, a, count| {
    let result = rotate_left(a, (W::BITS - count % W::BITS) % W::BITS);
    flags.set_cf(result.sign());
    flags.set_of(top_bits_differ(result));
    result
});

#[inline(always)]
fn rotate_left<W: Width>(a: W, count: u32) -> W {
    let wide = a.zero_extend();
    let high = wide.checked_shl(count).unwrap_or(0);
    let low = wide.checked_shr(W::BITS - count).unwrap_or(0);
    W::truncate(high | low)
}

/// Rotates the `BITS + 1` bits of carry and `a` left by `count`, which is at
/// most BITS: the new carry and value.
#[inline(always)]
fn rotate_through<W: Width>(carry: bool, a: W, count: u32) -> (bool, W) {
    let ring = u128::from(carry) << W::BITS | u128::from(a.zero_extend());
    let size = W::BITS + 1;
    let turned = ring << count | ring >> (size - count);
    (turned >> W::BITS & 1 != 0, W::truncate(turned as u64))
}

shift!(Rcl, |flags, a, count| {
    let (cf, result) = rotate_through(flags.cf(), a, count % (W::BITS + 1));
    flags.set_cf(cf);
    flags.set_of(cf != result.sign());
    result
});

shift!(Rcr, |flags, a, count| {
    let count = count % (W::BITS + 1);
    let (cf, result) = rotate_through(flags.cf(), a, (W::BITS + 1 - count) % (W::BITS + 1));
    flags.set_cf(cf);
    flags.set_of(top_bits_differ(result));
    result
});

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Shl | M::Sal => lower_shift::<Shl>(insn, op),
        M::Shr => lower_shift::<Shr>(insn, op),
        M::Sar => lower_shift::<Sar>(insn, op),
        M::Rol => lower_shift::<Rol>(insn, op),
        M::Ror => lower_shift::<Ror>(insn, op),
        M::Rcl => lower_shift::<Rcl>(insn, op),
        M::Rcr => lower_shift::<Rcr>(insn, op),
        M::Shld => lower_double::<Shld>(insn, op),
        M::Shrd => lower_double::<Shrd>(insn, op),
        _ => None,
    }
}

fn lower_shift<S: Shift>(insn: &Instruction, op: &Op) -> Option<Handler> {
    match places(insn) {
        (Place::Register, Place::Immediate) => by_width!(op.size, register_immediate, S),
        (Place::Register, _) => by_width!(op.size, register_cl, S),
        (Place::Memory, Place::Immediate) => by_width!(op.size, memory_immediate, S),
        (Place::Memory, _) => by_width!(op.size, memory_cl, S),
        _ => None,
    }
}

#[inline(always)]
fn masked<W: Width>(count: u64) -> u32 {
    // Both masks leave a number below 64.
    (count & if W::BITS == 64 { 63 } else { 31 }) as u32
}

#[inline(always)]
fn register<S: Shift, W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> Flow {
    let count = masked::<W>(count);
    let a = cpu.get::<W>(op.a);
    let result = if count == 0 {
        a
    } else {
        S::apply(&mut cpu.flags, a, count)
    };
    // Written back in any case: a 32-bit result clears the upper half.
    cpu.set(op.a, result);
    Ok(())
}

#[inline(always)]
fn memory<S: Shift, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, count: u64) -> Flow {
    let count = masked::<W>(count);
    cpu.modify::<W>(bus, op, |cpu, a| {
        if count == 0 {
            a
        } else {
            S::apply(&mut cpu.flags, a, count)
        }
    })
}

fn register_immediate<S: Shift, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    register::<S, W>(cpu, op, op.imm)
}

fn register_cl<S: Shift, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let count = cpu.gpr[usize::from(gpr::RCX)];
    register::<S, W>(cpu, op, count)
}

fn memory_immediate<S: Shift, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    memory::<S, W>(cpu, bus, op, op.imm)
}

fn memory_cl<S: Shift, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let count = cpu.gpr[usize::from(gpr::RCX)];
    memory::<S, W>(cpu, bus, op, count)
}

/// A shift of `a` that takes in bits of `b`, by `count`, masked and not 0.
trait Double {
    fn apply<W: Width>(flags: &mut Flags, a: W, b: W, count: u32) -> W;
}
struct Shld;
struct Shrd;

/// `a` three times around `b`, so that counts beyond the width have a meaning:
/// the bits of `a` come in again.
#[inline(always)]
fn ring<W: Width>(high: W, middle: W, low: W) -> u128 {
    u128::from(high.zero_extend()) << (2 * W::BITS % 128)
        | u128::from(middle.zero_extend()) << W::BITS
        | u128::from(low.zero_extend())
}

impl Double for Shld {
    #[inline(always)]
    fn apply<W: Width>(flags: &mut Flags, a: W, b: W, count: u32) -> W {
        let (result, cf) = if W::BITS == 64 {
            let result = a.zero_extend() << count | b.zero_extend() >> (64 - count);
            (W::truncate(result), bit(a.zero_extend(), 64 - count))
        } else {
            // a : b : a, of which the top part moves left.
            let turned = ring(a, b, a) << count;
            let result = W::truncate((turned >> (2 * W::BITS)) as u64);
            (result, turned >> (3 * W::BITS) & 1 != 0)
        };
        flags.set_result(result, cf, a.sign() != result.sign(), false);
        result
    }
}

impl Double for Shrd {
    #[inline(always)]
    fn apply<W: Width>(flags: &mut Flags, a: W, b: W, count: u32) -> W {
        let (result, cf) = if W::BITS == 64 {
            let result = a.zero_extend() >> count | b.zero_extend() << (64 - count);
            (W::truncate(result), bit(a.zero_extend(), count - 1))
        } else {
            // a : b : a, of which the low part moves right.
            let whole = ring(a, b, a);
            (
                W::truncate((whole >> count) as u64),
                whole >> (count - 1) & 1 != 0,
            )
        };
        flags.set_result(result, cf, top_bits_differ(result), false);
        result
    }
}

fn lower_double<D: Double>(insn: &Instruction, op: &Op) -> Option<Handler> {
    let by_cl = place(insn, 2) != Place::Immediate;
    macro_rules! instance {
        ($width:ty) => {
            match (place(insn, 0), by_cl) {
                (Place::Register, false) => Some(double_register::<D, $width, false>),
                (Place::Register, true) => Some(double_register::<D, $width, true>),
                (_, false) => Some(double_memory::<D, $width, false>),
                (_, true) => Some(double_memory::<D, $width, true>),
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
fn double_count<W: Width, const CL: bool>(cpu: &Cpu, op: &Op) -> u32 {
    masked::<W>(if CL {
        cpu.gpr[usize::from(gpr::RCX)]
    } else {
        op.imm
    })
}

fn double_register<D: Double, W: Width, const CL: bool>(
    cpu: &mut Cpu,
    _: &mut dyn Bus,
    op: &Op,
) -> Flow {
    let count = double_count::<W, CL>(cpu, op);
    let (a, b) = (cpu.get::<W>(op.a), cpu.get::<W>(op.b));
    let result = if count == 0 {
        a
    } else {
        D::apply(&mut cpu.flags, a, b, count)
    };
    cpu.set(op.a, result);
    Ok(())
}

fn double_memory<D: Double, W: Width, const CL: bool>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    let count = double_count::<W, CL>(cpu, op);
    let b = cpu.get::<W>(op.b);
    cpu.modify::<W>(bus, op, |cpu, a| {
        if count == 0 {
            a
        } else {
            D::apply(&mut cpu.flags, a, b, count)
        }
    })
}
