//! Conversions between singles, doubles and integers, which obey MXCSR.
//! Those to and from MMX registers are in [`crate::exec::mmx`].

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::convert;
use silicon::mxcsr::Result;

use super::{Aligned, Narrow, Source, by_source};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// From an XMM register or memory to an XMM register.
macro_rules! packed {
    ($($name:ident $mnemonic:ident: $memory:ty;)*) => {
        $(
            fn $name<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
                cpu.check_sse()?;
                let b = S::get(cpu, bus, op)?;
                match convert::$name(cpu.xmm(op.a), b, &mut cpu.mxcsr) {
                    Ok(result) => {
                        cpu.set_xmm(op.a, result);
                        Ok(())
                    }
                    Err(_) => Err(cpu.unmasked()),
                }
            }
        )*
        fn lower_packed(insn: &Instruction) -> Option<Handler> {
            Some(match insn.mnemonic() {
                $(Mnemonic::$mnemonic => by_source!(insn, $name, $memory),)*
                _ => return None,
            })
        }
    };
}

packed! {
    cvtdq2ps Cvtdq2ps: Aligned;
    cvtps2dq Cvtps2dq: Aligned;
    cvttps2dq Cvttps2dq: Aligned;
    cvtpd2dq Cvtpd2dq: Aligned;
    cvttpd2dq Cvttpd2dq: Aligned;
    cvtpd2ps Cvtpd2ps: Aligned;
    cvtdq2pd Cvtdq2pd: Narrow<u64>;
    cvtps2pd Cvtps2pd: Narrow<u64>;
    cvtsd2ss Cvtsd2ss: Narrow<u64>;
    cvtss2sd Cvtss2sd: Narrow<u32>;
}

/// A conversion from or to a general register, at one width.
trait General<W: Width> {
    fn from_general(a: u128, b: W, mxcsr: &mut u32) -> Result<u128>;
}
trait ToGeneral<W: Width> {
    fn to_general(b: u128, mxcsr: &mut u32) -> Result<W>;
}

macro_rules! from_general {
    ($($name:ident: $function_32:ident $function_64:ident;)*) => {
        $(
            struct $name;
            impl General<u32> for $name {
                #[inline(always)]
                fn from_general(a: u128, b: u32, mxcsr: &mut u32) -> Result<u128> {
                    convert::$function_32(a, b, mxcsr)
                }
            }
            impl General<u64> for $name {
                #[inline(always)]
                fn from_general(a: u128, b: u64, mxcsr: &mut u32) -> Result<u128> {
                    convert::$function_64(a, b, mxcsr)
                }
            }
        )*
        fn lower_from_general(insn: &Instruction) -> Option<Handler> {
            let in_register = insn.op_kind(1) == OpKind::Register;
            let bytes = if in_register {
                insn.op_register(1).size()
            } else {
                insn.memory_size().size()
            };
            Some(match (insn.mnemonic(), in_register, bytes) {
                $(
                    (Mnemonic::$name, true, 8) => from_register::<$name, u64>,
                    (Mnemonic::$name, true, _) => from_register::<$name, u32>,
                    (Mnemonic::$name, false, 8) => from_memory::<$name, u64>,
                    (Mnemonic::$name, false, _) => from_memory::<$name, u32>,
                )*
                _ => return None,
            })
        }
    };
}

from_general! {
    Cvtsi2ss: cvtsi2ss_32 cvtsi2ss_64;
    Cvtsi2sd: cvtsi2sd_32 cvtsi2sd_64;
}

fn from_register<C: General<W>, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = cpu.get::<W>(op.b);
    put::<C, W>(cpu, op, b)
}

fn from_memory<C: General<W>, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let b = cpu.load::<W>(bus, op)?;
    put::<C, W>(cpu, op, b)
}

#[inline(always)]
fn put<C: General<W>, W: Width>(cpu: &mut Cpu, op: &Op, b: W) -> Flow {
    match C::from_general(cpu.xmm(op.a), b, &mut cpu.mxcsr) {
        Ok(result) => {
            cpu.set_xmm(op.a, result);
            Ok(())
        }
        Err(_) => Err(cpu.unmasked()),
    }
}

macro_rules! to_general {
    ($($name:ident: $function_32:ident $function_64:ident, $memory:ty;)*) => {
        $(
            struct $name;
            impl ToGeneral<u32> for $name {
                #[inline(always)]
                fn to_general(b: u128, mxcsr: &mut u32) -> Result<u32> {
                    convert::$function_32(b, mxcsr)
                }
            }
            impl ToGeneral<u64> for $name {
                #[inline(always)]
                fn to_general(b: u128, mxcsr: &mut u32) -> Result<u64> {
                    convert::$function_64(b, mxcsr)
                }
            }
        )*
        fn lower_to_general(insn: &Instruction, op: &Op) -> Option<Handler> {
            Some(match (insn.mnemonic(), op.size) {
                $(
                    (Mnemonic::$name, 8) => by_source!(insn, to_register, $memory, $name, u64),
                    (Mnemonic::$name, _) => by_source!(insn, to_register, $memory, $name, u32),
                )*
                _ => return None,
            })
        }
    };
}

to_general! {
    Cvtss2si: cvtss2si_32 cvtss2si_64, Narrow<u32>;
    Cvttss2si: cvttss2si_32 cvttss2si_64, Narrow<u32>;
    Cvtsd2si: cvtsd2si_32 cvtsd2si_64, Narrow<u64>;
    Cvttsd2si: cvttsd2si_32 cvttsd2si_64, Narrow<u64>;
}

fn to_register<S: Source, C: ToGeneral<W>, W: Width>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_sse()?;
    let b = S::get(cpu, bus, op)?;
    match C::to_general(b, &mut cpu.mxcsr) {
        Ok(result) => {
            cpu.set(op.a, result);
            Ok(())
        }
        Err(_) => Err(cpu.unmasked()),
    }
}

pub(super) fn lower(insn: &Instruction, op: &Op) -> Option<Handler> {
    lower_packed(insn)
        .or_else(|| lower_from_general(insn))
        .or_else(|| lower_to_general(insn, op))
}
