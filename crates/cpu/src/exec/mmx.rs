//! MMX, with the additions of SSE, SSE2 and SSSE3 to it, EMMS, and what moves
//! between MMX and XMM registers. What an instruction computes is in `silicon`.
//!
//! `#UD` for CR0.EM (and CR4.OSFXSR where an XMM register takes part), `#NM`
//! for CR0.TS, `#MF` for a pending x87 exception; then the memory operand's
//! faults. An instruction that completes makes all x87 registers used and TOP
//! zero (SDM volume 1, 9.6.2; volume 3A, 13.2; volume 2, tables 23-4 to 23-9).

use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpKind};
use silicon::{convert, mmx};
use x86::control::{cr0, cr4};

use super::sse;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

impl Cpu {
    /// Whether MMX instructions may execute.
    #[inline(always)]
    fn check_mmx(&self) -> Flow {
        if self.cr0 & (cr0::EM | cr0::TS) != 0 || self.fpu.is_pending() {
            return self.check_mmx_slowly();
        }
        Ok(())
    }

    #[cold]
    fn check_mmx_slowly(&self) -> Flow {
        if self.cr0 & cr0::EM != 0 {
            Err(Trap::UD)
        } else if self.cr0 & cr0::TS != 0 {
            Err(Trap::NM)
        } else if self.cr0 & cr0::NE != 0 {
            Err(Trap::fault(x86::vector::MF))
        } else {
            // Ignored, as x87 instructions do.
            Ok(())
        }
    }

    /// Whether instructions on both MMX and XMM registers may execute.
    fn check_mmx_and_sse(&self) -> Flow {
        if self.cr4 & cr4::OSFXSR == 0 {
            return Err(Trap::UD);
        }
        self.check_mmx()
    }

    /// The result of an MMX instruction, which completes.
    #[inline(always)]
    fn put_mmx(&mut self, number: u8, value: u64) {
        self.fpu.enter_mmx();
        self.fpu.set_mmx(number, value);
    }
}

/// Where the second operand comes from.
trait Source {
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u64>;
}

/// An MMX register.
struct Register;
/// A number in memory; zeros above it.
struct Memory<W>(std::marker::PhantomData<W>);

impl Source for Register {
    #[inline(always)]
    fn get(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow<u64> {
        Ok(cpu.fpu.mmx(op.b))
    }
}

impl<W: Width> Source for Memory<W> {
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u64> {
        Ok(cpu.load::<W>(bus, op)?.zero_extend())
    }
}

/// The handler for a register source, or for one in memory.
macro_rules! by_source {
    ($insn:ident, $handler:ident, $memory:ty $(, $generic:ty)*) => {
        if $insn.op_kind(1) == OpKind::Register {
            $handler::<Register $(, $generic)*> as Handler
        } else {
            $handler::<Memory<$memory> $(, $generic)*> as Handler
        }
    };
}

/// What an instruction computes: the first operand's new value.
trait Operation {
    fn apply(a: u64, b: u64, imm: u8) -> u64;
}

fn run<S: Source, O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let b = S::get(cpu, bus, op)?;
    let result = O::apply(cpu.fpu.mmx(op.a), b, op.imm8());
    cpu.put_mmx(op.a, result);
    Ok(())
}

/// One line an instruction; groups by the memory operand.
macro_rules! table {
    (|$a:ident, $b:ident, $imm:ident| $($memory:ty { $($name:ident: $body:expr;)* })*) => {
        $($(
            struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply($a: u64, $b: u64, $imm: u8) -> u64 {
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
    u64 {
        Paddb: mmx::paddb(a, b);
        Paddw: mmx::paddw(a, b);
        Paddd: mmx::paddd(a, b);
        Paddq: mmx::paddq(a, b);
        Paddsb: mmx::paddsb(a, b);
        Paddsw: mmx::paddsw(a, b);
        Paddusb: mmx::paddusb(a, b);
        Paddusw: mmx::paddusw(a, b);
        Psubb: mmx::psubb(a, b);
        Psubw: mmx::psubw(a, b);
        Psubd: mmx::psubd(a, b);
        Psubq: mmx::psubq(a, b);
        Psubsb: mmx::psubsb(a, b);
        Psubsw: mmx::psubsw(a, b);
        Psubusb: mmx::psubusb(a, b);
        Psubusw: mmx::psubusw(a, b);
        Pmullw: mmx::pmullw(a, b);
        Pmulhw: mmx::pmulhw(a, b);
        Pmulhuw: mmx::pmulhuw(a, b);
        Pmuludq: mmx::pmuludq(a, b);
        Pmaddwd: mmx::pmaddwd(a, b);
        Psadbw: mmx::psadbw(a, b);
        Pavgb: mmx::pavgb(a, b);
        Pavgw: mmx::pavgw(a, b);
        Pminub: mmx::pminub(a, b);
        Pmaxub: mmx::pmaxub(a, b);
        Pminsw: mmx::pminsw(a, b);
        Pmaxsw: mmx::pmaxsw(a, b);
        Pcmpeqb: mmx::pcmpeqb(a, b);
        Pcmpeqw: mmx::pcmpeqw(a, b);
        Pcmpeqd: mmx::pcmpeqd(a, b);
        Pcmpgtb: mmx::pcmpgtb(a, b);
        Pcmpgtw: mmx::pcmpgtw(a, b);
        Pcmpgtd: mmx::pcmpgtd(a, b);
        Pand: mmx::pand(a, b);
        Pandn: mmx::pandn(a, b);
        Por: mmx::por(a, b);
        Pxor: mmx::pxor(a, b);
        Packsswb: mmx::packsswb(a, b);
        Packssdw: mmx::packssdw(a, b);
        Packuswb: mmx::packuswb(a, b);
        Punpckhbw: mmx::punpckhbw(a, b);
        Punpckhwd: mmx::punpckhwd(a, b);
        Punpckhdq: mmx::punpckhdq(a, b);
        Pshufb: mmx::pshufb(a, b);
        Phaddw: mmx::phaddw(a, b);
        Phaddd: mmx::phaddd(a, b);
        Phaddsw: mmx::phaddsw(a, b);
        Phsubw: mmx::phsubw(a, b);
        Phsubd: mmx::phsubd(a, b);
        Phsubsw: mmx::phsubsw(a, b);
        Pmaddubsw: mmx::pmaddubsw(a, b);
        Pmulhrsw: mmx::pmulhrsw(a, b);
        Psignb: mmx::psignb(a, b);
        Psignw: mmx::psignw(a, b);
        Psignd: mmx::psignd(a, b);
        Pabsb: mmx::pabsb(b);
        Pabsw: mmx::pabsw(b);
        Pabsd: mmx::pabsd(b);
        Pshufw: mmx::pshufw(b, imm);
        Palignr: mmx::palignr(a, b, imm);
    }
    u32 {
        Punpcklbw: mmx::punpcklbw(a, b);
        Punpcklwd: mmx::punpcklwd(a, b);
        Punpckldq: mmx::punpckldq(a, b);
    }
}

/// Shifts: by an immediate, by a register or by memory.
macro_rules! shifts {
    ($($name:ident: $function:path;)*) => {
        $(
            struct $name;
            impl Operation for $name {
                #[inline(always)]
                fn apply(a: u64, b: u64, _: u8) -> u64 {
                    $function(a, b)
                }
            }
        )*
        fn lower_shift(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$name if insn.op_kind(1) == OpKind::Immediate8 => shift::<$name>,)*
                $(Mnemonic::$name => by_source!(insn, run, u64, $name),)*
                _ => return None,
            })
        }
    };
}

shifts! {
    Psllw: mmx::psllw;
    Pslld: mmx::pslld;
    Psllq: mmx::psllq;
    Psrlw: mmx::psrlw;
    Psrld: mmx::psrld;
    Psrlq: mmx::psrlq;
    Psraw: mmx::psraw;
    Psrad: mmx::psrad;
}

fn shift<O: Operation>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let result = O::apply(cpu.fpu.mmx(op.a), u64::from(op.imm8()), 0);
    cpu.put_mmx(op.a, result);
    Ok(())
}

pub(super) fn lower(insn: &Instruction, _: &mut Op) -> Option<Handler> {
    use Code as C;
    if insn.encoding() != EncodingKind::Legacy {
        return None;
    }
    let in_registers = (0..insn.op_count().min(2)).all(|n| insn.op_kind(n) == OpKind::Register);
    let place =
        |register: Handler, memory: Handler| Some(if in_registers { register } else { memory });
    match insn.code() {
        C::Emms => Some(emms),
        C::Movd_mm_rm32 => place(from_general::<u32>, load::<u32>),
        C::Movq_mm_rm64 => place(from_general::<u64>, load::<u64>),
        C::Movd_rm32_mm => place(to_general::<u32>, store::<u32>),
        C::Movq_rm64_mm => place(to_general::<u64>, store::<u64>),
        C::Movq_mm_mmm64 | C::Movq_mmm64_mm if in_registers => Some(copy),
        C::Movq_mm_mmm64 => Some(load::<u64>),
        C::Movq_mmm64_mm | C::Movntq_m64_mm => Some(store::<u64>),
        C::Maskmovq_rDI_mm_mm => Some(maskmovq),
        C::Pmovmskb_r32_mm | C::Pmovmskb_r64_mm => Some(pmovmskb),
        C::Pextrw_r32_mm_imm8 | C::Pextrw_r64_mm_imm8 => Some(pextrw),
        C::Pinsrw_mm_r32m16_imm8 | C::Pinsrw_mm_r64m16_imm8 => place(pinsrw, pinsrw_memory),
        C::Movq2dq_xmm_mm => Some(movq2dq),
        C::Movdq2q_mm_xmm => Some(movdq2q),
        C::Cvtpi2ps_xmm_mmm64 => place(cvtpi2ps, cvtpi2ps_memory),
        C::Cvtpi2pd_xmm_mmm64 => place(cvtpi2pd, cvtpi2pd_memory),
        C::Cvtps2pi_mm_xmmm64 => place(cvtps2pi::<sse::Register>, cvtps2pi::<sse::Narrow<u64>>),
        C::Cvttps2pi_mm_xmmm64 => place(cvttps2pi::<sse::Register>, cvttps2pi::<sse::Narrow<u64>>),
        C::Cvtpd2pi_mm_xmmm128 => place(cvtpd2pi::<sse::Register>, cvtpd2pi::<sse::Aligned>),
        C::Cvttpd2pi_mm_xmmm128 => place(cvttpd2pi::<sse::Register>, cvttpd2pi::<sse::Aligned>),
        _ if insn.op_kind(0) == OpKind::Register && insn.op_register(0).is_mm() => {
            lower_table(insn).or_else(|| lower_shift(insn))
        }
        _ => None,
    }
}

fn emms(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.check_mmx()?;
    cpu.fpu.leave_mmx();
    Ok(())
}

fn copy(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    cpu.put_mmx(op.a, cpu.fpu.mmx(op.b));
    Ok(())
}

fn load<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let value = cpu.load::<W>(bus, op)?.zero_extend();
    cpu.put_mmx(op.a, value);
    Ok(())
}

fn store<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let value = W::truncate(cpu.fpu.mmx(op.b));
    cpu.store(bus, op, value)?;
    cpu.fpu.enter_mmx();
    Ok(())
}

fn from_general<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let value = cpu.get::<W>(op.b).zero_extend();
    cpu.put_mmx(op.a, value);
    Ok(())
}

fn to_general<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let value = W::truncate(cpu.fpu.mmx(op.b));
    cpu.set(op.a, value);
    cpu.fpu.enter_mmx();
    Ok(())
}

fn maskmovq(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    // iced's operands are the implied memory, then the two registers.
    let (value, mask) = (cpu.fpu.mmx(op.b), cpu.fpu.mmx(op.c));
    // Even if the store faults: so does the silicon.
    cpu.fpu.enter_mmx();
    cpu.store_masked(bus, op, &value.to_le_bytes(), &mask.to_le_bytes())
}

fn pmovmskb(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    cpu.set(op.a, mmx::pmovmskb(cpu.fpu.mmx(op.b)));
    cpu.fpu.enter_mmx();
    Ok(())
}

fn pextrw(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let lane = mmx::pextrw(cpu.fpu.mmx(op.b), op.imm8());
    cpu.set(op.a, u32::from(lane));
    cpu.fpu.enter_mmx();
    Ok(())
}

fn pinsrw(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let lane = cpu.get::<u16>(op.b);
    cpu.put_mmx(op.a, mmx::pinsrw(cpu.fpu.mmx(op.a), lane, op.imm8()));
    Ok(())
}

fn pinsrw_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx()?;
    let lane = cpu.load::<u16>(bus, op)?;
    cpu.put_mmx(op.a, mmx::pinsrw(cpu.fpu.mmx(op.a), lane, op.imm8()));
    Ok(())
}

fn movq2dq(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx_and_sse()?;
    cpu.set_xmm(op.a, cpu.fpu.mmx(op.b).into());
    cpu.fpu.enter_mmx();
    Ok(())
}

fn movdq2q(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx_and_sse()?;
    cpu.put_mmx(op.a, cpu.xmm_low(op.b));
    Ok(())
}

fn cvtpi2ps(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx_and_sse()?;
    let b = cpu.fpu.mmx(op.b);
    cpu.fpu.enter_mmx();
    cpu.put_converted(op, |a, mxcsr| convert::cvtpi2ps(a, b, mxcsr))
}

/// With a memory operand no MMX register takes part, and the x87 unit is
/// neither asked nor changed. The manual says so of CVTPI2PD; of CVTPI2PS it
/// says nothing, but the hardware does the same.
fn cvtpi2ps_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = cpu.load::<u64>(bus, op)?;
    cpu.put_converted(op, |a, mxcsr| convert::cvtpi2ps(a, b, mxcsr))
}

fn cvtpi2pd(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_mmx_and_sse()?;
    let b = cpu.fpu.mmx(op.b);
    cpu.fpu.enter_mmx();
    cpu.put_converted(op, |_, mxcsr| convert::cvtpi2pd(b, mxcsr))
}

fn cvtpi2pd_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = cpu.load::<u64>(bus, op)?;
    cpu.put_converted(op, |_, mxcsr| convert::cvtpi2pd(b, mxcsr))
}

impl Cpu {
    fn put_converted(
        &mut self,
        op: &Op,
        convert: impl FnOnce(u128, &mut u32) -> silicon::mxcsr::Result<u128>,
    ) -> Flow {
        match convert(self.xmm(op.a), &mut self.mxcsr) {
            Ok(result) => {
                self.set_xmm(op.a, result);
                Ok(())
            }
            Err(_) => Err(self.unmasked()),
        }
    }
}

/// From an XMM register or memory. The x87 unit changes even if `#XM` follows.
macro_rules! to_mmx {
    ($($name:ident)*) => {$(
        fn $name<S: sse::Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_mmx_and_sse()?;
            let b = S::get(cpu, bus, op)?;
            cpu.fpu.enter_mmx();
            match convert::$name(b, &mut cpu.mxcsr) {
                Ok(result) => {
                    cpu.fpu.set_mmx(op.a, result);
                    Ok(())
                }
                Err(_) => Err(cpu.unmasked()),
            }
        }
    )*};
}
to_mmx! { cvtps2pi cvttps2pi cvtpd2pi cvttpd2pi }
