//! Instructions that SSE hasn't, and that do the same in each 128 bits: shifts
//! by a count for each element, permutations within 128 bits, VPBLENDD, and
//! comparisons with all 32 predicates.

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::mxcsr::Result;
use silicon::{compare, permute};

use super::{by_vector, run, run_float};
use crate::exec::sse::{Aligned, Narrow, float, integer};
use crate::op::Handler;

/// One line an instruction: the mnemonic, how many bits of the immediate the
/// lowest 128 bits use if the next go on with the others, and the result.
macro_rules! table {
    (|$a:ident, $b:ident, $imm:ident| $($name:ident $(/ $imm_bits:literal)?: $body:expr;)*) => {
        $(
            struct $name;
            impl integer::Operation for $name {
                $(const LANE_IMM_BITS: u32 = $imm_bits;)?
                #[inline(always)]
                fn apply($a: u128, $b: u128, $imm: u8) -> u128 {
                    let _ = ($a, $imm);
                    $body
                }
            }
        )*
        fn lower_table(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$name => by_vector!(insn, run, Aligned, $name),)*
                _ => return None,
            })
        }
    };
}

table! { |a, b, imm|
    Vpsllvd: permute::vpsllvd(a, b);
    Vpsllvq: permute::vpsllvq(a, b);
    Vpsrlvd: permute::vpsrlvd(a, b);
    Vpsrlvq: permute::vpsrlvq(a, b);
    Vpsravd: permute::vpsravd(a, b);
    Vpblendd / 4: silicon::shuffle::blendps(a, b, imm);
    Vpermilps: permute::vpermilps(a, b);
    Vpermilpd: permute::vpermilpd(a, b);
}

struct PermuteSingles;
impl integer::Operation for PermuteSingles {
    #[inline(always)]
    fn apply(_: u128, b: u128, imm: u8) -> u128 {
        silicon::shuffle::pshufd(b, imm)
    }
}

struct PermuteDoubles;
impl integer::Operation for PermuteDoubles {
    const LANE_IMM_BITS: u32 = 2;
    #[inline(always)]
    fn apply(_: u128, b: u128, imm: u8) -> u128 {
        silicon::shuffle::shufpd(b, b, imm)
    }
}

macro_rules! comparisons {
    ($($name:ident: $memory:ty, $function:ident;)*) => {
        $(
            struct $name;
            impl float::Operation for $name {
                #[inline(always)]
                fn apply(a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> Result<u128> {
                    compare::$function(a, b, imm, mxcsr)
                }
            }
        )*
        fn lower_comparison(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$name => by_vector!(insn, run_float, $memory, $name),)*
                _ => return None,
            })
        }
    };
}

comparisons! {
    Vcmpps: Aligned, vcmpps;
    Vcmppd: Aligned, vcmppd;
    Vcmpss: Narrow<u32>, vcmpss;
    Vcmpsd: Narrow<u64>, vcmpsd;
}

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    let by_immediate = insn.op_count() == 3 && insn.op_kind(2) == OpKind::Immediate8;
    match insn.mnemonic() {
        Mnemonic::Vpermilps if by_immediate => Some(by_vector!(insn, run, Aligned, PermuteSingles)),
        Mnemonic::Vpermilpd if by_immediate => Some(by_vector!(insn, run, Aligned, PermuteDoubles)),
        _ => lower_table(insn).or_else(|| lower_comparison(insn)),
    }
}
