//! Conversions between XMM and general registers, which obey MXCSR. Those to
//! and from MMX registers are in [`crate::exec::mmx`], the others in `float`.

use iced_x86::{Instruction, Mnemonic, OpKind};
use silicon::convert;
use silicon::mxcsr::Result;

use super::{Encoding, Narrow, Source, by_source};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// A conversion from or to a general register, at one width.
trait General<W: Width> {
    fn from_general(a: u128, b: W, mxcsr: &mut u32) -> Result<u128>;
}
trait ToGeneral<W: Width> {
    fn to_general(b: u128, mxcsr: &mut u32) -> Result<W>;
}

macro_rules! from_general {
    ($($name:ident $vex:ident: $function_32:ident $function_64:ident;)*) => {
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
        fn lower_from_general<E: Encoding>(insn: &Instruction) -> Option<Handler> {
            let last = insn.op_count() - 1;
            let in_register = insn.op_kind(last) == OpKind::Register;
            let bytes = if in_register {
                insn.op_register(last).size()
            } else {
                insn.memory_size().size()
            };
            Some(match (insn.mnemonic(), in_register, bytes) {
                $(
                    (Mnemonic::$name | Mnemonic::$vex, true, 8) => from_register::<E, $name, u64>,
                    (Mnemonic::$name | Mnemonic::$vex, true, _) => from_register::<E, $name, u32>,
                    (Mnemonic::$name | Mnemonic::$vex, false, 8) => from_memory::<E, $name, u64>,
                    (Mnemonic::$name | Mnemonic::$vex, false, _) => from_memory::<E, $name, u32>,
                )*
                _ => return None,
            })
        }
    };
}

from_general! {
    Cvtsi2ss Vcvtsi2ss: cvtsi2ss_32 cvtsi2ss_64;
    Cvtsi2sd Vcvtsi2sd: cvtsi2sd_32 cvtsi2sd_64;
}

fn from_register<E: Encoding, C: General<W>, W: Width>(
    cpu: &mut Cpu,
    _: &mut dyn Bus,
    op: &Op,
) -> Flow {
    E::check(cpu)?;
    let b = cpu.get::<W>(E::second(op));
    put::<E, C, W>(cpu, op, b)
}

fn from_memory<E: Encoding, C: General<W>, W: Width>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    E::check(cpu)?;
    let b = cpu.load::<W>(bus, op)?;
    put::<E, C, W>(cpu, op, b)
}

#[inline(always)]
fn put<E: Encoding, C: General<W>, W: Width>(cpu: &mut Cpu, op: &Op, b: W) -> Flow {
    match C::from_general(cpu.xmm(E::first(op)), b, &mut cpu.mxcsr) {
        Ok(result) => {
            E::set(cpu, op.a, result);
            Ok(())
        }
        Err(_) => Err(cpu.unmasked()),
    }
}

macro_rules! to_general {
    ($($name:ident $vex:ident: $function_32:ident $function_64:ident, $memory:ty;)*) => {
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
        fn lower_to_general<E: Encoding>(insn: &Instruction, op: &Op) -> Option<Handler> {
            Some(match (insn.mnemonic(), op.size) {
                $(
                    (Mnemonic::$name | Mnemonic::$vex, 8) => by_source!(insn, to_register, $memory, E, $name, u64),
                    (Mnemonic::$name | Mnemonic::$vex, _) => by_source!(insn, to_register, $memory, E, $name, u32),
                )*
                _ => return None,
            })
        }
    };
}

to_general! {
    Cvtss2si Vcvtss2si: cvtss2si_32 cvtss2si_64, Narrow<u32>;
    Cvttss2si Vcvttss2si: cvttss2si_32 cvttss2si_64, Narrow<u32>;
    Cvtsd2si Vcvtsd2si: cvtsd2si_32 cvtsd2si_64, Narrow<u64>;
    Cvttsd2si Vcvttsd2si: cvttsd2si_32 cvttsd2si_64, Narrow<u64>;
}

fn to_register<S: Source, E: Encoding, C: ToGeneral<W>, W: Width>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    E::check(cpu)?;
    let b = S::get(cpu, bus, op)?;
    match C::to_general(b, &mut cpu.mxcsr) {
        Ok(result) => {
            cpu.set(op.a, result);
            Ok(())
        }
        Err(_) => Err(cpu.unmasked()),
    }
}

pub(in crate::exec) fn lower<E: Encoding>(insn: &Instruction, op: &Op) -> Option<Handler> {
    if insn.op_count() < 2 {
        return None;
    }
    lower_from_general::<E>(insn).or_else(|| lower_to_general::<E>(insn, op))
}
