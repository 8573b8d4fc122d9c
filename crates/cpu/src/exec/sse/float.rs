//! Floating-point arithmetic and comparisons, which obey MXCSR.

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::mxcsr::Result;
use silicon::{compare, float, round};

use super::{Aligned, Narrow, Source, by_source};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

/// What an instruction computes: the first operand's new value.
trait Operation {
    fn apply(a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> Result<u128>;
}

fn run<S: Source, O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let b = match S::quick(cpu, op) {
        Some(b) if cpu.sse_is_on() => b,
        _ => get_slowly::<S>(cpu, bus, op)?,
    };
    match O::apply(cpu.xmm(op.a), b, op.imm8(), &mut cpu.mxcsr) {
        Ok(result) => {
            cpu.set_xmm(op.a, result);
            Ok(())
        }
        Err(_) => Err(cpu.unmasked()),
    }
}

/// The second operand, after the checks that come before it.
#[cold]
#[inline(never)]
fn get_slowly<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u128> {
    cpu.check_sse()?;
    S::get(cpu, bus, op)
}

/// One line an instruction; groups by the memory operand.
macro_rules! table {
    (|$a:ident, $b:ident, $imm:ident, $mxcsr:ident|
        $($memory:ty { $($name:ident: $body:expr;)* })*) => {
        $($(
            struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply($a: u128, $b: u128, $imm: u8, $mxcsr: &mut u32) -> Result<u128> {
                    let _ = $imm;
                    $body
                }
            }
        )*)*
        fn lower_table(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $($(Mnemonic::$name => by_source!(insn, run, $memory, $name),)*)*
                _ => return None,
            })
        }
    };
}

table! { |a, b, imm, mxcsr|
    Aligned {
        Addps: float::addps(a, b, mxcsr);
        Addpd: float::addpd(a, b, mxcsr);
        Subps: float::subps(a, b, mxcsr);
        Subpd: float::subpd(a, b, mxcsr);
        Mulps: float::mulps(a, b, mxcsr);
        Mulpd: float::mulpd(a, b, mxcsr);
        Divps: float::divps(a, b, mxcsr);
        Divpd: float::divpd(a, b, mxcsr);
        Minps: float::minps(a, b, mxcsr);
        Minpd: float::minpd(a, b, mxcsr);
        Maxps: float::maxps(a, b, mxcsr);
        Maxpd: float::maxpd(a, b, mxcsr);
        Sqrtps: float::sqrtps(a, b, mxcsr);
        Sqrtpd: float::sqrtpd(a, b, mxcsr);
        Haddps: float::haddps(a, b, mxcsr);
        Haddpd: float::haddpd(a, b, mxcsr);
        Hsubps: float::hsubps(a, b, mxcsr);
        Hsubpd: float::hsubpd(a, b, mxcsr);
        Addsubps: float::addsubps(a, b, mxcsr);
        Addsubpd: float::addsubpd(a, b, mxcsr);
        Dpps: float::dpps(a, b, imm, mxcsr);
        Dppd: float::dppd(a, b, imm, mxcsr);
        Cmpps: compare::cmpps(a, b, imm, mxcsr);
        Cmppd: compare::cmppd(a, b, imm, mxcsr);
        Roundps: round::roundps(a, b, imm, mxcsr);
        Roundpd: round::roundpd(a, b, imm, mxcsr);
    }
    Narrow<u32> {
        Addss: float::addss(a, b, mxcsr);
        Subss: float::subss(a, b, mxcsr);
        Mulss: float::mulss(a, b, mxcsr);
        Divss: float::divss(a, b, mxcsr);
        Minss: float::minss(a, b, mxcsr);
        Maxss: float::maxss(a, b, mxcsr);
        Sqrtss: float::sqrtss(a, b, mxcsr);
        Cmpss: compare::cmpss(a, b, imm, mxcsr);
        Roundss: round::roundss(a, b, imm, mxcsr);
    }
    Narrow<u64> {
        Addsd: float::addsd(a, b, mxcsr);
        Subsd: float::subsd(a, b, mxcsr);
        Mulsd: float::mulsd(a, b, mxcsr);
        Divsd: float::divsd(a, b, mxcsr);
        Minsd: float::minsd(a, b, mxcsr);
        Maxsd: float::maxsd(a, b, mxcsr);
        Sqrtsd: float::sqrtsd(a, b, mxcsr);
        // Not the string instruction: `lower` looks at the first operand.
        Cmpsd: compare::cmpsd(a, b, imm, mxcsr);
        Roundsd: round::roundsd(a, b, imm, mxcsr);
    }
}

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    if insn.op_count() < 2 || insn.op_kind(0) != OpKind::Register || !insn.op_register(0).is_xmm() {
        return None;
    }
    match insn.mnemonic() {
        Mnemonic::Comiss => Some(by_source!(insn, comiss, Narrow<u32>)),
        Mnemonic::Comisd => Some(by_source!(insn, comisd, Narrow<u64>)),
        Mnemonic::Ucomiss => Some(by_source!(insn, ucomiss, Narrow<u32>)),
        Mnemonic::Ucomisd => Some(by_source!(insn, ucomisd, Narrow<u64>)),
        _ => lower_table(insn),
    }
}

macro_rules! comparisons {
    ($($name:ident)*) => {$(
        fn $name<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            let b = match S::quick(cpu, op) {
                Some(b) if cpu.sse_is_on() => b,
                _ => get_slowly::<S>(cpu, bus, op)?,
            };
            match compare::$name(cpu.xmm(op.a), b, &mut cpu.mxcsr) {
                Ok(flags) => {
                    cpu.flags.set_arithmetic(flags);
                    Ok(())
                }
                Err(_) => Err(cpu.unmasked()),
            }
        }
    )*};
}
comparisons! { comiss comisd ucomiss ucomisd }
