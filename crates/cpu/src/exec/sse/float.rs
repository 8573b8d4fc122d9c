//! Floating-point arithmetic and comparisons, which obey MXCSR.

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::mxcsr::Result;
use silicon::{compare, convert, float, round};

use super::{Aligned, Encoding, Legacy, Narrow, Source, by_source};
use crate::exec::avx::{by_vector, run_float};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

/// What an instruction computes: the first operand's new value.
pub(in crate::exec) trait Operation {
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
        $($memory:ty { $($name:ident $vex:ident: $body:expr;)* })*) => {
        $($(
            pub(in crate::exec) struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply($a: u128, $b: u128, $imm: u8, $mxcsr: &mut u32) -> Result<u128> {
                    let _ = $imm;
                    $body
                }
            }
        )*)*
        /// The VEX-encoded forms that do the same in each 128 bits.
        pub(in crate::exec) fn lower_vex(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $($(Mnemonic::$vex => by_vector!(insn, run_float, $memory, $name),)*)*
                _ => return None,
            })
        }
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
        Addps Vaddps: float::addps(a, b, mxcsr);
        Addpd Vaddpd: float::addpd(a, b, mxcsr);
        Subps Vsubps: float::subps(a, b, mxcsr);
        Subpd Vsubpd: float::subpd(a, b, mxcsr);
        Mulps Vmulps: float::mulps(a, b, mxcsr);
        Mulpd Vmulpd: float::mulpd(a, b, mxcsr);
        Divps Vdivps: float::divps(a, b, mxcsr);
        Divpd Vdivpd: float::divpd(a, b, mxcsr);
        Minps Vminps: float::minps(a, b, mxcsr);
        Minpd Vminpd: float::minpd(a, b, mxcsr);
        Maxps Vmaxps: float::maxps(a, b, mxcsr);
        Maxpd Vmaxpd: float::maxpd(a, b, mxcsr);
        Sqrtps Vsqrtps: float::sqrtps(a, b, mxcsr);
        Sqrtpd Vsqrtpd: float::sqrtpd(a, b, mxcsr);
        Haddps Vhaddps: float::haddps(a, b, mxcsr);
        Haddpd Vhaddpd: float::haddpd(a, b, mxcsr);
        Hsubps Vhsubps: float::hsubps(a, b, mxcsr);
        Hsubpd Vhsubpd: float::hsubpd(a, b, mxcsr);
        Addsubps Vaddsubps: float::addsubps(a, b, mxcsr);
        Addsubpd Vaddsubpd: float::addsubpd(a, b, mxcsr);
        Dpps Vdpps: float::dpps(a, b, imm, mxcsr);
        Dppd Vdppd: float::dppd(a, b, imm, mxcsr);
        Cmpps Vcmpps: compare::cmpps(a, b, imm, mxcsr);
        Cmppd Vcmppd: compare::cmppd(a, b, imm, mxcsr);
        Roundps Vroundps: round::roundps(a, b, imm, mxcsr);
        Roundpd Vroundpd: round::roundpd(a, b, imm, mxcsr);
        Cvtdq2ps Vcvtdq2ps: convert::cvtdq2ps(a, b, mxcsr);
        Cvtps2dq Vcvtps2dq: convert::cvtps2dq(a, b, mxcsr);
        Cvttps2dq Vcvttps2dq: convert::cvttps2dq(a, b, mxcsr);
        Cvtpd2dq Vcvtpd2dq: convert::cvtpd2dq(a, b, mxcsr);
        Cvttpd2dq Vcvttpd2dq: convert::cvttpd2dq(a, b, mxcsr);
        Cvtpd2ps Vcvtpd2ps: convert::cvtpd2ps(a, b, mxcsr);
    }
    Narrow<u32> {
        Addss Vaddss: float::addss(a, b, mxcsr);
        Subss Vsubss: float::subss(a, b, mxcsr);
        Mulss Vmulss: float::mulss(a, b, mxcsr);
        Divss Vdivss: float::divss(a, b, mxcsr);
        Minss Vminss: float::minss(a, b, mxcsr);
        Maxss Vmaxss: float::maxss(a, b, mxcsr);
        Sqrtss Vsqrtss: float::sqrtss(a, b, mxcsr);
        Cmpss Vcmpss: compare::cmpss(a, b, imm, mxcsr);
        Roundss Vroundss: round::roundss(a, b, imm, mxcsr);
        Cvtss2sd Vcvtss2sd: convert::cvtss2sd(a, b, mxcsr);
    }
    Narrow<u64> {
        Addsd Vaddsd: float::addsd(a, b, mxcsr);
        Subsd Vsubsd: float::subsd(a, b, mxcsr);
        Mulsd Vmulsd: float::mulsd(a, b, mxcsr);
        Divsd Vdivsd: float::divsd(a, b, mxcsr);
        Minsd Vminsd: float::minsd(a, b, mxcsr);
        Maxsd Vmaxsd: float::maxsd(a, b, mxcsr);
        Sqrtsd Vsqrtsd: float::sqrtsd(a, b, mxcsr);
        // Not the string instruction: `lower` looks at the first operand.
        Cmpsd Vcmpsd: compare::cmpsd(a, b, imm, mxcsr);
        Roundsd Vroundsd: round::roundsd(a, b, imm, mxcsr);
        Cvtdq2pd Vcvtdq2pd: convert::cvtdq2pd(a, b, mxcsr);
        Cvtps2pd Vcvtps2pd: convert::cvtps2pd(a, b, mxcsr);
        Cvtsd2ss Vcvtsd2ss: convert::cvtsd2ss(a, b, mxcsr);
    }
}

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    if insn.op_count() < 2 || insn.op_kind(0) != OpKind::Register || !insn.op_register(0).is_xmm() {
        return None;
    }
    lower_comparison::<Legacy>(insn).or_else(|| lower_table(insn))
}

/// COMISx and UCOMISx.
pub(in crate::exec) fn lower_comparison<E: Encoding>(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Comiss | M::Vcomiss => by_source!(insn, comiss, Narrow<u32>, E),
        M::Comisd | M::Vcomisd => by_source!(insn, comisd, Narrow<u64>, E),
        M::Ucomiss | M::Vucomiss => by_source!(insn, ucomiss, Narrow<u32>, E),
        M::Ucomisd | M::Vucomisd => by_source!(insn, ucomisd, Narrow<u64>, E),
        _ => return None,
    })
}

macro_rules! comparisons {
    ($($name:ident)*) => {$(
        fn $name<S: Source, E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            E::check(cpu)?;
            let b = match S::quick(cpu, op) {
                Some(b) => b,
                _ => S::get(cpu, bus, op)?,
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
