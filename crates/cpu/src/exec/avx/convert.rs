//! Conversions of 256 bits to 128, dot products of 256, and halves: what SSE's
//! operations in each 128 bits don't give.

use iced_x86::{Instruction, Mnemonic};
use silicon::mxcsr::{self, Result};
use silicon::{convert, float, half};

use super::{Source, by_vector, in_memory, is_wide, run_float};
use crate::exec::sse::{self, Aligned, Narrow};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

macro_rules! by_place {
    ($insn:ident, $conversion:ty) => {
        if super::in_memory($insn) {
            narrow::<super::WholeMemory, $conversion> as Handler
        } else {
            narrow::<super::Whole, $conversion> as Handler
        }
    };
}
pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Vcvtph2ps => by_vector!(insn, run_float, Narrow<u64>, FromHalves),
        M::Vcvtps2ph => match (is_wide(insn), in_memory(insn)) {
            (false, false) => to_halves::<1>,
            (false, true) => to_halves_memory::<1>,
            (true, false) => to_halves::<2>,
            (true, true) => to_halves_memory::<2>,
        },
        _ if !is_wide(insn) => return None,
        M::Vcvtpd2ps => by_place!(insn, ToSingles),
        M::Vcvtpd2dq => by_place!(insn, ToIntegers),
        M::Vcvttpd2dq => by_place!(insn, ToIntegersTruncated),
        M::Vdpps => by_vector!(insn, dot_product, Aligned),
        _ => return None,
    })
}

/// Two doubles to two numbers of 32 bits, in the low half.
trait Conversion {
    fn apply(b: u128, mxcsr: &mut u32) -> Result<u128>;
}

macro_rules! conversions {
    ($($name:ident: $function:ident;)*) => {$(
        struct $name;
        impl Conversion for $name {
            #[inline(always)]
            fn apply(b: u128, mxcsr: &mut u32) -> Result<u128> {
                convert::$function(0, b, mxcsr)
            }
        }
    )*};
}

conversions! {
    ToSingles: cvtpd2ps;
    ToIntegers: cvtpd2dq;
    ToIntegersTruncated: cvttpd2dq;
}

fn narrow<S: Source<2>, C: Conversion>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let b = S::get(cpu, bus, op)?;
    let halves = mxcsr::each(&mut cpu.mxcsr, |i, mxcsr| C::apply(b[i], mxcsr));
    cpu.put_float(op, halves.map(|[low, high]| [low | high << 64]))
}

fn dot_product<const L: usize, S: Source<L>>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let b = S::get(cpu, bus, op)?;
    let a = cpu.ymm::<L>(op.b);
    let result = float::vdpps(a, b, op.imm8(), &mut cpu.mxcsr);
    cpu.put_float(op, result)
}

struct FromHalves;
impl sse::float::Operation for FromHalves {
    #[inline(always)]
    fn apply(_: u128, b: u128, _: u8, mxcsr: &mut u32) -> Result<u128> {
        half::vcvtph2ps(b, mxcsr)
    }
}

/// The second operand's singles as halves, in the low `64 * L` bits.
fn halves<const L: usize>(op: &Op, b: [u128; L], mxcsr: &mut u32) -> Result<u128> {
    let quads = mxcsr::each::<L>(mxcsr, |i, mxcsr| half::vcvtps2ph(b[i], op.imm8(), mxcsr))?;
    Ok((0..L).fold(0, |all, i| all | quads[i] << (64 * i)))
}

fn to_halves<const L: usize>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let result = halves(op, cpu.ymm::<L>(op.b), &mut cpu.mxcsr);
    cpu.put_float(op, result.map(|value| [value]))
}

fn to_halves_memory<const L: usize>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let at = cpu.address(op, 8 * L as u64, true)?;
    cpu.probe_write_slow(cpu.space, at, 8 * L as u64, op.stack)?;
    let Ok(value) = halves(op, cpu.ymm::<L>(op.b), &mut cpu.mxcsr) else {
        return Err(cpu.unmasked());
    };
    match L {
        1 => cpu.write(bus, at, op.stack, value as u64),
        _ => cpu.write_128(bus, at, op.stack, value),
    }
}
