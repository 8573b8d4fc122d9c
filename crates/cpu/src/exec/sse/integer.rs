//! Instructions that combine two registers, or a register and memory, without
//! a look at MXCSR: packed integers, bitwise operations, shuffles, blends.

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::{approximate, integer, shuffle};

use super::{Aligned, Narrow, Source, by_source};
use crate::exec::avx::{by_vector, run, shift, shift_immediate};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

/// What an instruction computes: the first operand's new value.
pub(in crate::exec) trait Operation {
    /// How many bits of the immediate the lowest 128 bits use, where the next
    /// 128 go on with the others. 0: both use the same.
    const LANE_IMM_BITS: u32 = 0;
    fn apply(a: u128, b: u128, imm: u8) -> u128;
}

fn combine<S: Source, O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if cpu.sse_is_on()
        && let Some(b) = S::quick(cpu, op)
    {
        let result = O::apply(cpu.xmm(op.a), b, op.imm8());
        cpu.set_xmm(op.a, result);
        return Ok(());
    }
    combine_slowly::<S, O>(cpu, bus, op)
}

#[cold]
#[inline(never)]
fn combine_slowly<S: Source, O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = S::get(cpu, bus, op)?;
    let result = O::apply(cpu.xmm(op.a), b, op.imm8());
    cpu.set_xmm(op.a, result);
    Ok(())
}

/// One line an instruction; groups by the memory operand.
macro_rules! table {
    (|$a:ident, $b:ident, $imm:ident| $($memory:ty { $($name:ident $vex:ident $(/ $imm_bits:literal)?: $body:expr;)* })*) => {
        $($(
            pub(in crate::exec) struct $name;
            impl Operation for $name {
                $(const LANE_IMM_BITS: u32 = $imm_bits;)?
                #[inline(always)]
                fn apply($a: u128, $b: u128, $imm: u8) -> u128 {
                    let _ = ($a, $b, $imm);
                    $body
                }
            }
        )*)*
        /// The VEX-encoded forms that do the same in each 128 bits.
        pub(in crate::exec) fn lower_vex(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $($(Mnemonic::$vex => by_vector!(insn, run, $memory, $name),)*)*
                _ => return None,
            })
        }
        fn lower_table(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $($(Mnemonic::$name => by_source!(insn, combine, $memory, $name),)*)*
                _ => return None,
            })
        }
    };
}

table! { |a, b, imm|
    Aligned {
        Paddb Vpaddb: integer::paddb(a, b);
        Paddw Vpaddw: integer::paddw(a, b);
        Paddd Vpaddd: integer::paddd(a, b);
        Paddq Vpaddq: integer::paddq(a, b);
        Paddsb Vpaddsb: integer::paddsb(a, b);
        Paddsw Vpaddsw: integer::paddsw(a, b);
        Paddusb Vpaddusb: integer::paddusb(a, b);
        Paddusw Vpaddusw: integer::paddusw(a, b);
        Psubb Vpsubb: integer::psubb(a, b);
        Psubw Vpsubw: integer::psubw(a, b);
        Psubd Vpsubd: integer::psubd(a, b);
        Psubq Vpsubq: integer::psubq(a, b);
        Psubsb Vpsubsb: integer::psubsb(a, b);
        Psubsw Vpsubsw: integer::psubsw(a, b);
        Psubusb Vpsubusb: integer::psubusb(a, b);
        Psubusw Vpsubusw: integer::psubusw(a, b);
        Pmullw Vpmullw: integer::pmullw(a, b);
        Pmulhw Vpmulhw: integer::pmulhw(a, b);
        Pmulhuw Vpmulhuw: integer::pmulhuw(a, b);
        Pmuludq Vpmuludq: integer::pmuludq(a, b);
        Pmaddwd Vpmaddwd: integer::pmaddwd(a, b);
        Psadbw Vpsadbw: integer::psadbw(a, b);
        Pavgb Vpavgb: integer::pavgb(a, b);
        Pavgw Vpavgw: integer::pavgw(a, b);
        Pminub Vpminub: integer::pminub(a, b);
        Pmaxub Vpmaxub: integer::pmaxub(a, b);
        Pminsw Vpminsw: integer::pminsw(a, b);
        Pmaxsw Vpmaxsw: integer::pmaxsw(a, b);
        Pcmpeqb Vpcmpeqb: integer::pcmpeqb(a, b);
        Pcmpeqw Vpcmpeqw: integer::pcmpeqw(a, b);
        Pcmpeqd Vpcmpeqd: integer::pcmpeqd(a, b);
        Pcmpgtb Vpcmpgtb: integer::pcmpgtb(a, b);
        Pcmpgtw Vpcmpgtw: integer::pcmpgtw(a, b);
        Pcmpgtd Vpcmpgtd: integer::pcmpgtd(a, b);
        Packsswb Vpacksswb: integer::packsswb(a, b);
        Packssdw Vpackssdw: integer::packssdw(a, b);
        Packuswb Vpackuswb: integer::packuswb(a, b);
        Punpcklbw Vpunpcklbw: integer::punpcklbw(a, b);
        Punpcklwd Vpunpcklwd: integer::punpcklwd(a, b);
        Punpckldq Vpunpckldq: integer::punpckldq(a, b);
        Punpcklqdq Vpunpcklqdq: integer::punpcklqdq(a, b);
        Punpckhbw Vpunpckhbw: integer::punpckhbw(a, b);
        Punpckhwd Vpunpckhwd: integer::punpckhwd(a, b);
        Punpckhdq Vpunpckhdq: integer::punpckhdq(a, b);
        Punpckhqdq Vpunpckhqdq: integer::punpckhqdq(a, b);
        Unpcklps Vunpcklps: integer::unpcklps(a, b);
        Unpckhps Vunpckhps: integer::unpckhps(a, b);
        Unpcklpd Vunpcklpd: integer::unpcklpd(a, b);
        Unpckhpd Vunpckhpd: integer::unpckhpd(a, b);

        Pand Vpand: integer::pand(a, b);
        Andps Vandps: integer::pand(a, b);
        Andpd Vandpd: integer::pand(a, b);
        Pandn Vpandn: integer::pandn(a, b);
        Andnps Vandnps: integer::pandn(a, b);
        Andnpd Vandnpd: integer::pandn(a, b);
        Por Vpor: integer::por(a, b);
        Orps Vorps: integer::por(a, b);
        Orpd Vorpd: integer::por(a, b);
        Pxor Vpxor: integer::pxor(a, b);
        Xorps Vxorps: integer::pxor(a, b);
        Xorpd Vxorpd: integer::pxor(a, b);

        Pshufb Vpshufb: integer::pshufb(a, b);
        Phaddw Vphaddw: integer::phaddw(a, b);
        Phaddd Vphaddd: integer::phaddd(a, b);
        Phaddsw Vphaddsw: integer::phaddsw(a, b);
        Phsubw Vphsubw: integer::phsubw(a, b);
        Phsubd Vphsubd: integer::phsubd(a, b);
        Phsubsw Vphsubsw: integer::phsubsw(a, b);
        Pmaddubsw Vpmaddubsw: integer::pmaddubsw(a, b);
        Pmulhrsw Vpmulhrsw: integer::pmulhrsw(a, b);
        Psignb Vpsignb: integer::psignb(a, b);
        Psignw Vpsignw: integer::psignw(a, b);
        Psignd Vpsignd: integer::psignd(a, b);
        Pabsb Vpabsb: integer::pabsb(b);
        Pabsw Vpabsw: integer::pabsw(b);
        Pabsd Vpabsd: integer::pabsd(b);

        Pmuldq Vpmuldq: integer::pmuldq(a, b);
        Pmulld Vpmulld: integer::pmulld(a, b);
        Pcmpeqq Vpcmpeqq: integer::pcmpeqq(a, b);
        Pcmpgtq Vpcmpgtq: integer::pcmpgtq(a, b);
        Packusdw Vpackusdw: integer::packusdw(a, b);
        Pminsb Vpminsb: integer::pminsb(a, b);
        Pminsd Vpminsd: integer::pminsd(a, b);
        Pminuw Vpminuw: integer::pminuw(a, b);
        Pminud Vpminud: integer::pminud(a, b);
        Pmaxsb Vpmaxsb: integer::pmaxsb(a, b);
        Pmaxsd Vpmaxsd: integer::pmaxsd(a, b);
        Pmaxuw Vpmaxuw: integer::pmaxuw(a, b);
        Pmaxud Vpmaxud: integer::pmaxud(a, b);
        Phminposuw Vphminposuw: integer::phminposuw(b);
        Mpsadbw Vmpsadbw / 3: integer::mpsadbw(a, b, imm);

        Movsldup Vmovsldup: integer::movsldup(b);
        Movshdup Vmovshdup: integer::movshdup(b);
        Pshufd Vpshufd: shuffle::pshufd(b, imm);
        Pshuflw Vpshuflw: shuffle::pshuflw(b, imm);
        Pshufhw Vpshufhw: shuffle::pshufhw(b, imm);
        Shufps Vshufps: shuffle::shufps(a, b, imm);
        Shufpd Vshufpd / 2: shuffle::shufpd(a, b, imm);
        Palignr Vpalignr: shuffle::palignr(a, b, imm);
        Pblendw Vpblendw: shuffle::pblendw(a, b, imm);
        Blendps Vblendps / 4: shuffle::blendps(a, b, imm);
        Blendpd Vblendpd / 2: shuffle::blendpd(a, b, imm);

        Rcpps Vrcpps: approximate::rcpps(b);
        Rsqrtps Vrsqrtps: approximate::rsqrtps(b);
    }
    Narrow<u64> {
        Movddup Vmovddup: integer::movddup(b);
        Pmovsxbw Vpmovsxbw: integer::pmovsxbw(b);
        Pmovsxwd Vpmovsxwd: integer::pmovsxwd(b);
        Pmovsxdq Vpmovsxdq: integer::pmovsxdq(b);
        Pmovzxbw Vpmovzxbw: integer::pmovzxbw(b);
        Pmovzxwd Vpmovzxwd: integer::pmovzxwd(b);
        Pmovzxdq Vpmovzxdq: integer::pmovzxdq(b);
    }
    Narrow<u32> {
        Pmovsxbd Vpmovsxbd: integer::pmovsxbd(b);
        Pmovsxwq Vpmovsxwq: integer::pmovsxwq(b);
        Pmovzxbd Vpmovzxbd: integer::pmovzxbd(b);
        Pmovzxwq Vpmovzxwq: integer::pmovzxwq(b);
        Rcpss Vrcpss: approximate::rcpss(a, b);
        Rsqrtss Vrsqrtss: approximate::rsqrtss(a, b);
    }
    Narrow<u16> {
        Pmovsxbq Vpmovsxbq: integer::pmovsxbq(b);
        Pmovzxbq Vpmovzxbq: integer::pmovzxbq(b);
    }
}

/// Shifts: by an immediate, by a register or by memory.
macro_rules! shifts {
    ($($name:ident $vex:ident: $function:path;)*) => {
        $(
            struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply(a: u128, b: u128, _: u8) -> u128 {
                    $function(a, b)
                }
            }
        )*
        /// The VEX-encoded forms.
        pub(in crate::exec) fn lower_shift_vex(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$vex if insn.op_kind(2) == OpKind::Immediate8 => {
                    by_vector!(insn, shift_immediate, Aligned, $name)
                })*
                $(Mnemonic::$vex => by_vector!(insn, shift, Aligned, $name),)*
                _ => return None,
            })
        }
        fn lower_shift(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$name if insn.op_kind(1) == OpKind::Immediate8 => shift_by_immediate::<$name>,)*
                $(Mnemonic::$name => by_source!(insn, combine, Aligned, $name),)*
                _ => return None,
            })
        }
    };
}

shifts! {
    Psllw Vpsllw: integer::psllw;
    Pslld Vpslld: integer::pslld;
    Psllq Vpsllq: integer::psllq;
    Psrlw Vpsrlw: integer::psrlw;
    Psrld Vpsrld: integer::psrld;
    Psrlq Vpsrlq: integer::psrlq;
    Psraw Vpsraw: integer::psraw;
    Psrad Vpsrad: integer::psrad;
}

fn shift_by_immediate<O: Operation>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let result = O::apply(cpu.xmm(op.a), u128::from(op.imm8()), 0);
    cpu.set_xmm(op.a, result);
    Ok(())
}

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    // MMX forms share the mnemonics.
    if insn.op_kind(0) != OpKind::Register || !insn.op_register(0).is_xmm() {
        return None;
    }
    match insn.mnemonic() {
        Mnemonic::Pslldq => Some(pslldq),
        Mnemonic::Psrldq => Some(psrldq),
        Mnemonic::Pblendvb => Some(by_source!(insn, pblendvb, Aligned)),
        Mnemonic::Blendvps => Some(by_source!(insn, blendvps, Aligned)),
        Mnemonic::Blendvpd => Some(by_source!(insn, blendvpd, Aligned)),
        Mnemonic::Ptest => Some(by_source!(insn, ptest, Aligned)),
        _ => lower_table(insn).or_else(|| lower_shift(insn)),
    }
}

fn pslldq(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    cpu.set_xmm(op.a, shuffle::pslldq(cpu.xmm(op.a), op.imm8()));
    Ok(())
}

fn psrldq(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    cpu.set_xmm(op.a, shuffle::psrldq(cpu.xmm(op.a), op.imm8()));
    Ok(())
}

/// Blends by XMM0's top bits.
macro_rules! blends {
    ($($name:ident)*) => {$(
        fn $name<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_sse()?;
            let b = S::get(cpu, bus, op)?;
            cpu.set_xmm(op.a, shuffle::$name(cpu.xmm(op.a), b, cpu.xmm(0)));
            Ok(())
        }
    )*};
}
blends! { pblendvb blendvps blendvpd }

fn ptest<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = S::get(cpu, bus, op)?;
    let (zf, cf) = integer::ptest(cpu.xmm(op.a), b);
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    cpu.flags
        .set_arithmetic(flag(zf, x86::flags::ZF) | flag(cf, x86::flags::CF));
    Ok(())
}
