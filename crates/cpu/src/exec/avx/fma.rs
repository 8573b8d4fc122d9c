//! FMA: the forms differ only in which operand is the multiplicand, the
//! multiplier and the addend.

use iced_x86::{Instruction, Mnemonic};
use silicon::fma;
use silicon::mxcsr::{self, Result};

use super::{Source, by_vector};
use crate::exec::sse::{Aligned, Narrow};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

/// `x * y + z` or one of its kin.
trait Fused {
    /// Bits of each 128 that the result has; the destination keeps the others.
    const RESULT: u128;
    fn apply(x: u128, y: u128, z: u128, mxcsr: &mut u32) -> Result<u128>;
}

/// Multiplicand, multiplier and addend of the first, second and third operand.
trait Order {
    fn order(a: u128, b: u128, c: u128) -> [u128; 3];
}
struct Form132;
struct Form213;
struct Form231;
impl Order for Form132 {
    #[inline(always)]
    fn order(a: u128, b: u128, c: u128) -> [u128; 3] {
        [a, c, b]
    }
}
impl Order for Form213 {
    #[inline(always)]
    fn order(a: u128, b: u128, c: u128) -> [u128; 3] {
        [b, a, c]
    }
}
impl Order for Form231 {
    #[inline(always)]
    fn order(a: u128, b: u128, c: u128) -> [u128; 3] {
        [b, c, a]
    }
}

fn fuse<const L: usize, S: Source<L>, F: Fused, O: Order>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_avx()?;
    let c = S::get(cpu, bus, op)?;
    let (a, b) = (cpu.ymm::<L>(op.a), cpu.ymm::<L>(op.b));
    let result = mxcsr::each::<L>(&mut cpu.mxcsr, |i, mxcsr| {
        let [x, y, z] = O::order(a[i], b[i], c[i]);
        let result = F::apply(x, y, z, mxcsr)?;
        Ok(a[i] & !F::RESULT | result & F::RESULT)
    });
    cpu.put_float(op, result)
}

/// One line an operation: its three forms, what computes it, and the operand.
macro_rules! table {
    ($($form_132:ident $form_213:ident $form_231:ident: $function:ident, $memory:ty, $result:expr;)*) => {
        $(
            struct $form_213;
            impl Fused for $form_213 {
                const RESULT: u128 = $result;
                #[inline(always)]
                fn apply(x: u128, y: u128, z: u128, mxcsr: &mut u32) -> Result<u128> {
                    fma::$function(x, y, z, mxcsr)
                }
            }
        )*
        pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(
                    Mnemonic::$form_132 => by_vector!(insn, fuse, $memory, $form_213, Form132),
                    Mnemonic::$form_213 => by_vector!(insn, fuse, $memory, $form_213, Form213),
                    Mnemonic::$form_231 => by_vector!(insn, fuse, $memory, $form_213, Form231),
                )*
                _ => return None,
            })
        }
    };
}

const ALL: u128 = u128::MAX;
const SINGLE: u128 = u32::MAX as u128;
const DOUBLE: u128 = u64::MAX as u128;

table! {
    Vfmadd132ps Vfmadd213ps Vfmadd231ps: fmadd_ps, Aligned, ALL;
    Vfmadd132pd Vfmadd213pd Vfmadd231pd: fmadd_pd, Aligned, ALL;
    Vfmadd132ss Vfmadd213ss Vfmadd231ss: fmadd_ss, Narrow<u32>, SINGLE;
    Vfmadd132sd Vfmadd213sd Vfmadd231sd: fmadd_sd, Narrow<u64>, DOUBLE;
    Vfmsub132ps Vfmsub213ps Vfmsub231ps: fmsub_ps, Aligned, ALL;
    Vfmsub132pd Vfmsub213pd Vfmsub231pd: fmsub_pd, Aligned, ALL;
    Vfmsub132ss Vfmsub213ss Vfmsub231ss: fmsub_ss, Narrow<u32>, SINGLE;
    Vfmsub132sd Vfmsub213sd Vfmsub231sd: fmsub_sd, Narrow<u64>, DOUBLE;
    Vfnmadd132ps Vfnmadd213ps Vfnmadd231ps: fnmadd_ps, Aligned, ALL;
    Vfnmadd132pd Vfnmadd213pd Vfnmadd231pd: fnmadd_pd, Aligned, ALL;
    Vfnmadd132ss Vfnmadd213ss Vfnmadd231ss: fnmadd_ss, Narrow<u32>, SINGLE;
    Vfnmadd132sd Vfnmadd213sd Vfnmadd231sd: fnmadd_sd, Narrow<u64>, DOUBLE;
    Vfnmsub132ps Vfnmsub213ps Vfnmsub231ps: fnmsub_ps, Aligned, ALL;
    Vfnmsub132pd Vfnmsub213pd Vfnmsub231pd: fnmsub_pd, Aligned, ALL;
    Vfnmsub132ss Vfnmsub213ss Vfnmsub231ss: fnmsub_ss, Narrow<u32>, SINGLE;
    Vfnmsub132sd Vfnmsub213sd Vfnmsub231sd: fnmsub_sd, Narrow<u64>, DOUBLE;
    Vfmaddsub132ps Vfmaddsub213ps Vfmaddsub231ps: fmaddsub_ps, Aligned, ALL;
    Vfmaddsub132pd Vfmaddsub213pd Vfmaddsub231pd: fmaddsub_pd, Aligned, ALL;
    Vfmsubadd132ps Vfmsubadd213ps Vfmsubadd231ps: fmsubadd_ps, Aligned, ALL;
    Vfmsubadd132pd Vfmsubadd213pd Vfmsubadd231pd: fmsubadd_pd, Aligned, ALL;
}
