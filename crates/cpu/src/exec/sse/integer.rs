//! Instructions that combine two registers, or a register and memory, without
//! a look at MXCSR: packed integers, bitwise operations, shuffles, blends.

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::{approximate, integer, shuffle};

use super::{Aligned, Narrow, Source, by_source};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

/// What an instruction computes: the first operand's new value.
trait Operation {
    fn apply(a: u128, b: u128, imm: u8) -> u128;
}

fn run<S: Source, O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if cpu.sse_is_on()
        && let Some(b) = S::quick(cpu, op)
    {
        let result = O::apply(cpu.xmm(op.a), b, op.imm8());
        cpu.set_xmm(op.a, result);
        return Ok(());
    }
    run_slowly::<S, O>(cpu, bus, op)
}

#[cold]
#[inline(never)]
fn run_slowly<S: Source, O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = S::get(cpu, bus, op)?;
    let result = O::apply(cpu.xmm(op.a), b, op.imm8());
    cpu.set_xmm(op.a, result);
    Ok(())
}

/// One line an instruction; groups by the memory operand.
macro_rules! table {
    (|$a:ident, $b:ident, $imm:ident| $($memory:ty { $($name:ident: $body:expr;)* })*) => {
        $($(
            struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply($a: u128, $b: u128, $imm: u8) -> u128 {
                    let _ = ($a, $b, $imm);
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

table! { |a, b, imm|
    Aligned {
        Paddb: integer::paddb(a, b);
        Paddw: integer::paddw(a, b);
        Paddd: integer::paddd(a, b);
        Paddq: integer::paddq(a, b);
        Paddsb: integer::paddsb(a, b);
        Paddsw: integer::paddsw(a, b);
        Paddusb: integer::paddusb(a, b);
        Paddusw: integer::paddusw(a, b);
        Psubb: integer::psubb(a, b);
        Psubw: integer::psubw(a, b);
        Psubd: integer::psubd(a, b);
        Psubq: integer::psubq(a, b);
        Psubsb: integer::psubsb(a, b);
        Psubsw: integer::psubsw(a, b);
        Psubusb: integer::psubusb(a, b);
        Psubusw: integer::psubusw(a, b);
        Pmullw: integer::pmullw(a, b);
        Pmulhw: integer::pmulhw(a, b);
        Pmulhuw: integer::pmulhuw(a, b);
        Pmuludq: integer::pmuludq(a, b);
        Pmaddwd: integer::pmaddwd(a, b);
        Psadbw: integer::psadbw(a, b);
        Pavgb: integer::pavgb(a, b);
        Pavgw: integer::pavgw(a, b);
        Pminub: integer::pminub(a, b);
        Pmaxub: integer::pmaxub(a, b);
        Pminsw: integer::pminsw(a, b);
        Pmaxsw: integer::pmaxsw(a, b);
        Pcmpeqb: integer::pcmpeqb(a, b);
        Pcmpeqw: integer::pcmpeqw(a, b);
        Pcmpeqd: integer::pcmpeqd(a, b);
        Pcmpgtb: integer::pcmpgtb(a, b);
        Pcmpgtw: integer::pcmpgtw(a, b);
        Pcmpgtd: integer::pcmpgtd(a, b);
        Packsswb: integer::packsswb(a, b);
        Packssdw: integer::packssdw(a, b);
        Packuswb: integer::packuswb(a, b);
        Punpcklbw: integer::punpcklbw(a, b);
        Punpcklwd: integer::punpcklwd(a, b);
        Punpckldq: integer::punpckldq(a, b);
        Punpcklqdq: integer::punpcklqdq(a, b);
        Punpckhbw: integer::punpckhbw(a, b);
        Punpckhwd: integer::punpckhwd(a, b);
        Punpckhdq: integer::punpckhdq(a, b);
        Punpckhqdq: integer::punpckhqdq(a, b);
        Unpcklps: integer::unpcklps(a, b);
        Unpckhps: integer::unpckhps(a, b);
        Unpcklpd: integer::unpcklpd(a, b);
        Unpckhpd: integer::unpckhpd(a, b);

        Pand: integer::pand(a, b);
        Andps: integer::pand(a, b);
        Andpd: integer::pand(a, b);
        Pandn: integer::pandn(a, b);
        Andnps: integer::pandn(a, b);
        Andnpd: integer::pandn(a, b);
        Por: integer::por(a, b);
        Orps: integer::por(a, b);
        Orpd: integer::por(a, b);
        Pxor: integer::pxor(a, b);
        Xorps: integer::pxor(a, b);
        Xorpd: integer::pxor(a, b);

        Pshufb: integer::pshufb(a, b);
        Phaddw: integer::phaddw(a, b);
        Phaddd: integer::phaddd(a, b);
        Phaddsw: integer::phaddsw(a, b);
        Phsubw: integer::phsubw(a, b);
        Phsubd: integer::phsubd(a, b);
        Phsubsw: integer::phsubsw(a, b);
        Pmaddubsw: integer::pmaddubsw(a, b);
        Pmulhrsw: integer::pmulhrsw(a, b);
        Psignb: integer::psignb(a, b);
        Psignw: integer::psignw(a, b);
        Psignd: integer::psignd(a, b);
        Pabsb: integer::pabsb(b);
        Pabsw: integer::pabsw(b);
        Pabsd: integer::pabsd(b);

        Pmuldq: integer::pmuldq(a, b);
        Pmulld: integer::pmulld(a, b);
        Pcmpeqq: integer::pcmpeqq(a, b);
        Pcmpgtq: integer::pcmpgtq(a, b);
        Packusdw: integer::packusdw(a, b);
        Pminsb: integer::pminsb(a, b);
        Pminsd: integer::pminsd(a, b);
        Pminuw: integer::pminuw(a, b);
        Pminud: integer::pminud(a, b);
        Pmaxsb: integer::pmaxsb(a, b);
        Pmaxsd: integer::pmaxsd(a, b);
        Pmaxuw: integer::pmaxuw(a, b);
        Pmaxud: integer::pmaxud(a, b);
        Phminposuw: integer::phminposuw(b);
        Mpsadbw: integer::mpsadbw(a, b, imm);

        Movsldup: integer::movsldup(b);
        Movshdup: integer::movshdup(b);
        Pshufd: shuffle::pshufd(b, imm);
        Pshuflw: shuffle::pshuflw(b, imm);
        Pshufhw: shuffle::pshufhw(b, imm);
        Shufps: shuffle::shufps(a, b, imm);
        Shufpd: shuffle::shufpd(a, b, imm);
        Palignr: shuffle::palignr(a, b, imm);
        Pblendw: shuffle::pblendw(a, b, imm);
        Blendps: shuffle::blendps(a, b, imm);
        Blendpd: shuffle::blendpd(a, b, imm);

        Rcpps: approximate::rcpps(b);
        Rsqrtps: approximate::rsqrtps(b);
    }
    Narrow<u64> {
        Movddup: integer::movddup(b);
        Pmovsxbw: integer::pmovsxbw(b);
        Pmovsxwd: integer::pmovsxwd(b);
        Pmovsxdq: integer::pmovsxdq(b);
        Pmovzxbw: integer::pmovzxbw(b);
        Pmovzxwd: integer::pmovzxwd(b);
        Pmovzxdq: integer::pmovzxdq(b);
    }
    Narrow<u32> {
        Pmovsxbd: integer::pmovsxbd(b);
        Pmovsxwq: integer::pmovsxwq(b);
        Pmovzxbd: integer::pmovzxbd(b);
        Pmovzxwq: integer::pmovzxwq(b);
        Rcpss: approximate::rcpss(a, b);
        Rsqrtss: approximate::rsqrtss(a, b);
    }
    Narrow<u16> {
        Pmovsxbq: integer::pmovsxbq(b);
        Pmovzxbq: integer::pmovzxbq(b);
    }
}

/// Shifts: by an immediate, by a register or by memory.
macro_rules! shifts {
    ($($name:ident: $function:path;)*) => {
        $(
            struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply(a: u128, b: u128, _: u8) -> u128 {
                    $function(a, b)
                }
            }
        )*
        fn lower_shift(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$name if insn.op_kind(1) == OpKind::Immediate8 => shift::<$name>,)*
                $(Mnemonic::$name => by_source!(insn, run, Aligned, $name),)*
                _ => return None,
            })
        }
    };
}

shifts! {
    Psllw: integer::psllw;
    Pslld: integer::pslld;
    Psllq: integer::psllq;
    Psrlw: integer::psrlw;
    Psrld: integer::psrld;
    Psrlq: integer::psrlq;
    Psraw: integer::psraw;
    Psrad: integer::psrad;
}

fn shift<O: Operation>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
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
