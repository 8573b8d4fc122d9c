//! MUL, IMUL, DIV, IDIV, and the sign extensions that go with them: CBW,
//! CWDE, CDQE, CWD, CDQ, CQO.
//!
//! CF and OF say whether a product needs its upper half. The manual leaves the
//! other flags undefined after a product: here SF, ZF and PF follow the lower
//! half and AF is 0. After a quotient all six are undefined: here unchanged
//! (docs/determinism.md).

use iced_x86::{Instruction, Mnemonic};
use x86::{gpr, vector};

use super::form::{Place, by_width, place};
use crate::op::{HIGH_BYTE, Handler};
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let memory = place(insn, 0) == Place::Memory;
    match insn.mnemonic() {
        M::Mul if memory => by_width!(op.size, with_memory, Mul),
        M::Mul => by_width!(op.size, with_register, Mul),
        M::Imul if insn.op_count() > 1 => lower_imul(insn, op),
        M::Imul if memory => by_width!(op.size, with_memory, Imul),
        M::Imul => by_width!(op.size, with_register, Imul),
        M::Div if memory => by_width!(op.size, with_memory, Div),
        M::Div => by_width!(op.size, with_register, Div),
        M::Idiv if memory => by_width!(op.size, with_memory, Idiv),
        M::Idiv => by_width!(op.size, with_register, Idiv),
        M::Cbw => Some(widen::<u8, u16>),
        M::Cwde => Some(widen::<u16, u32>),
        M::Cdqe => Some(widen::<u32, u64>),
        M::Cwd => Some(spread::<u16>),
        M::Cdq => Some(spread::<u32>),
        M::Cqo => Some(spread::<u64>),
        _ => None,
    }
}

/// An operation of the accumulator and one explicit operand.
trait Wide {
    fn apply<W: Width>(cpu: &mut Cpu, operand: W) -> Flow;
}

fn with_register<O: Wide, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let operand = cpu.get::<W>(op.a);
    O::apply(cpu, operand)
}

fn with_memory<O: Wide, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let operand = cpu.load::<W>(bus, op)?;
    O::apply(cpu, operand)
}

/// The register of the upper half: AH for bytes, else DX, EDX or RDX.
fn upper<W: Width>() -> u8 {
    if W::BITS == 8 {
        HIGH_BYTE | gpr::RAX
    } else {
        gpr::RDX
    }
}

#[inline(always)]
fn product<W: Width>(cpu: &mut Cpu, low: W, high: W, overflow: bool) {
    cpu.set(gpr::RAX, low);
    cpu.set(upper::<W>(), high);
    cpu.flags.set_result(low, overflow, overflow, false);
}

struct Mul;
impl Wide for Mul {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, operand: W) -> Flow {
        let a = cpu.get::<W>(gpr::RAX);
        let whole = u128::from(a.zero_extend()) * u128::from(operand.zero_extend());
        let high = W::truncate((whole >> W::BITS) as u64);
        product(cpu, W::truncate(whole as u64), high, high != W::default());
        Ok(())
    }
}

#[inline(always)]
fn signed_product<W: Width>(a: W, b: W) -> (W, W, bool) {
    let a = i128::from(a.sign_extend().cast_signed());
    let whole = a * i128::from(b.sign_extend().cast_signed());
    let low = W::truncate(whole as u64);
    let overflow = i128::from(low.sign_extend().cast_signed()) != whole;
    (low, W::truncate((whole >> W::BITS) as u64), overflow)
}

struct Imul;
impl Wide for Imul {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, operand: W) -> Flow {
        let (low, high, overflow) = signed_product(cpu.get::<W>(gpr::RAX), operand);
        product(cpu, low, high, overflow);
        Ok(())
    }
}

struct Div;
impl Wide for Div {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, operand: W) -> Flow {
        let divisor = u128::from(operand.zero_extend());
        let high = cpu.get::<W>(upper::<W>()).zero_extend();
        let low = cpu.get::<W>(gpr::RAX).zero_extend();
        let dividend = u128::from(high) << W::BITS | u128::from(low);
        // The quotient fits exactly if the upper half is below the divisor.
        if u128::from(high) >= divisor {
            return Err(Trap::fault(vector::DE));
        }
        if W::BITS < 64 || high == 0 {
            // 128-bit division is a slow call; this is all but always enough.
            let (dividend, divisor) = (dividend as u64, divisor as u64);
            cpu.set(gpr::RAX, W::truncate(dividend / divisor));
            cpu.set(upper::<W>(), W::truncate(dividend % divisor));
        } else {
            cpu.set(gpr::RAX, W::truncate((dividend / divisor) as u64));
            cpu.set(upper::<W>(), W::truncate((dividend % divisor) as u64));
        }
        Ok(())
    }
}

struct Idiv;
impl Wide for Idiv {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, operand: W) -> Flow {
        let fault = Trap::fault(vector::DE);
        let divisor = i128::from(operand.sign_extend().cast_signed());
        let high = cpu.get::<W>(upper::<W>()).sign_extend().cast_signed();
        let low = cpu.get::<W>(gpr::RAX).zero_extend();
        let dividend = i128::from(high) << W::BITS | i128::from(low);
        let quotient = match (i64::try_from(dividend), i64::try_from(divisor)) {
            (Ok(dividend), Ok(divisor)) => dividend.checked_div(divisor).map(i128::from),
            _ => None,
        };
        let quotient = match quotient {
            Some(quotient) => quotient,
            None => dividend.checked_div(divisor).ok_or(fault)?,
        };
        let result = W::truncate(quotient as u64);
        if i128::from(result.sign_extend().cast_signed()) != quotient {
            return Err(fault);
        }
        cpu.set(gpr::RAX, result);
        cpu.set(
            upper::<W>(),
            W::truncate((dividend - quotient * divisor) as u64),
        );
        Ok(())
    }
}

fn lower_imul(insn: &Instruction, op: &Op) -> Option<Handler> {
    let three = insn.op_count() == 3;
    macro_rules! instance {
        ($width:ty) => {
            match (place(insn, 1), three) {
                (Place::Memory, false) => Some(imul_memory::<$width, false>),
                (Place::Memory, true) => Some(imul_memory::<$width, true>),
                (_, false) => Some(imul_register::<$width, false>),
                (_, true) => Some(imul_register::<$width, true>),
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
fn imul<W: Width, const THREE: bool>(cpu: &mut Cpu, op: &Op, source: W) {
    let other = if THREE {
        W::truncate(op.imm)
    } else {
        cpu.get::<W>(op.a)
    };
    let (low, _, overflow) = signed_product(source, other);
    cpu.set(op.a, low);
    cpu.flags.set_result(low, overflow, overflow, false);
}

fn imul_register<W: Width, const THREE: bool>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.get::<W>(op.b);
    imul::<W, THREE>(cpu, op, source);
    Ok(())
}

fn imul_memory<W: Width, const THREE: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.load::<W>(bus, op)?;
    imul::<W, THREE>(cpu, op, source);
    Ok(())
}

/// The accumulator's lower half, sign-extended into the whole.
fn widen<N: Width, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let value = cpu.get::<N>(gpr::RAX).sign_extend();
    cpu.set(gpr::RAX, W::truncate(value));
    Ok(())
}

/// The accumulator's sign, in all bits of the upper register.
fn spread<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let sign = if cpu.get::<W>(gpr::RAX).sign() {
        u64::MAX
    } else {
        0
    };
    cpu.set(gpr::RDX, W::truncate(sign));
    Ok(())
}
