//! Choices between two registers: blends by a register's top bits, tests, and
//! masks in general registers; shifts of whole lanes.

use iced_x86::{Instruction, Mnemonic};
use silicon::{integer, shuffle};
use x86::flags::{CF, ZF};

use super::{Source, by_vector, is_wide};
use crate::exec::sse::Aligned;
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Vpblendvb => by_vector!(insn, pblendvb, Aligned),
        M::Vblendvps => by_vector!(insn, blendvps, Aligned),
        M::Vblendvpd => by_vector!(insn, blendvpd, Aligned),
        M::Vptest => by_vector!(insn, ptest, Aligned),
        M::Vtestps => by_vector!(insn, testps, Aligned),
        M::Vtestpd => by_vector!(insn, testpd, Aligned),
        M::Vpslldq => by_vector!(insn, pslldq, Aligned),
        M::Vpsrldq => by_vector!(insn, psrldq, Aligned),
        // The narrow ones are as SSE's.
        M::Vmovmskps if is_wide(insn) => movmskps,
        M::Vmovmskpd if is_wide(insn) => movmskpd,
        M::Vpmovmskb if is_wide(insn) => pmovmskb,
        _ => return None,
    })
}

/// Blends by the top bits of the fourth operand, whose number is in the
/// immediate's place.
macro_rules! blends {
    ($($name:ident)*) => {$(
        fn $name<const L: usize, S: Source<L>>(
            cpu: &mut Cpu,
            bus: &mut dyn Bus,
            op: &Op,
        ) -> Flow {
            cpu.check_avx()?;
            let b = S::get(cpu, bus, op)?;
            let (a, mask) = (cpu.ymm::<L>(op.b), cpu.ymm::<L>(op.imm8()));
            let result = std::array::from_fn(|i| shuffle::$name(a[i], b[i], mask[i]));
            cpu.set_ymm::<L>(op.a, result);
            Ok(())
        }
    )*};
}
blends! { pblendvb blendvps blendvpd }

/// All bits, and the sign bits of singles and of doubles.
const ALL: u128 = u128::MAX;
const SINGLES: u128 = 0x8000_0000_8000_0000_8000_0000_8000_0000;
const DOUBLES: u128 = 0x8000_0000_0000_0000_8000_0000_0000_0000;

macro_rules! tests {
    ($($name:ident: $bits:ident;)*) => {$(
        fn $name<const L: usize, S: Source<L>>(
            cpu: &mut Cpu,
            bus: &mut dyn Bus,
            op: &Op,
        ) -> Flow {
            cpu.check_avx()?;
            let b = S::get(cpu, bus, op)?;
            let a = cpu.ymm::<L>(op.a);
            let is_clear = |f: fn(u128, u128) -> u128| {
                (0..L).all(|i| f(a[i], b[i]) & $bits == 0)
            };
            let zf = if is_clear(|a, b| a & b) { ZF } else { 0 };
            let cf = if is_clear(|a, b| !a & b) { CF } else { 0 };
            cpu.flags.set_arithmetic(zf | cf);
            Ok(())
        }
    )*};
}

tests! {
    ptest: ALL;
    testps: SINGLES;
    testpd: DOUBLES;
}

macro_rules! masks {
    ($($name:ident $bits:literal)*) => {$(
        fn $name(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_avx()?;
            let [low, high] = cpu.ymm::<2>(op.b).map(|lane| u64::from(integer::$name(lane)));
            cpu.set(op.a, low | high << $bits);
            Ok(())
        }
    )*};
}
masks! { movmskps 4 movmskpd 2 pmovmskb 16 }

macro_rules! byte_shifts {
    ($($name:ident)*) => {$(
        fn $name<const L: usize, S: Source<L>>(
            cpu: &mut Cpu,
            bus: &mut dyn Bus,
            op: &Op,
        ) -> Flow {
            cpu.check_avx()?;
            let bytes = op.imm8();
            let result = S::get(cpu, bus, op)?.map(|a| shuffle::$name(a, bytes));
            cpu.set_ymm(op.a, result);
            Ok(())
        }
    )*};
}
byte_shifts! { pslldq psrldq }
