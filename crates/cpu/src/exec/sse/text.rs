//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM.

use iced_x86::{Code, Instruction};
use silicon::text::{self, Comparison};
use x86::gpr::{RAX, RCX, RDX};

use super::{Anywhere, Encoding, Source, by_source};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(in crate::exec) fn lower<E: Encoding>(insn: &Instruction) -> Option<Handler> {
    use Code as C;
    Some(match insn.code() {
        C::Pcmpistri_xmm_xmmm128_imm8 | C::VEX_Vpcmpistri_xmm_xmmm128_imm8 => {
            by_source!(insn, pcmpistri, Anywhere, E)
        }
        C::Pcmpistrm_xmm_xmmm128_imm8 | C::VEX_Vpcmpistrm_xmm_xmmm128_imm8 => {
            by_source!(insn, pcmpistrm, Anywhere, E)
        }
        C::Pcmpestri_xmm_xmmm128_imm8 | C::VEX_Vpcmpestri_xmm_xmmm128_imm8 => {
            by_source!(insn, pcmpestri, Anywhere, E, u32)
        }
        C::Pcmpestrm_xmm_xmmm128_imm8 | C::VEX_Vpcmpestrm_xmm_xmmm128_imm8 => {
            by_source!(insn, pcmpestrm, Anywhere, E, u32)
        }
        C::Pcmpestri64_xmm_xmmm128_imm8 | C::VEX_Vpcmpestri64_xmm_xmmm128_imm8 => {
            by_source!(insn, pcmpestri, Anywhere, E, u64)
        }
        C::Pcmpestrm64_xmm_xmmm128_imm8 | C::VEX_Vpcmpestrm64_xmm_xmmm128_imm8 => {
            by_source!(insn, pcmpestrm, Anywhere, E, u64)
        }
        _ => return None,
    })
}

fn pcmpistri<S: Source, E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let found = implicit::<S, E>(cpu, bus, op)?;
    cpu.set_found_index(found);
    Ok(())
}

fn pcmpistrm<S: Source, E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let found = implicit::<S, E>(cpu, bus, op)?;
    cpu.set_found_mask::<E>(found);
    Ok(())
}

fn pcmpestri<S: Source, E: Encoding, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let found = explicit::<S, E, W>(cpu, bus, op)?;
    cpu.set_found_index(found);
    Ok(())
}

fn pcmpestrm<S: Source, E: Encoding, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let found = explicit::<S, E, W>(cpu, bus, op)?;
    cpu.set_found_mask::<E>(found);
    Ok(())
}

#[inline(always)]
fn implicit<S: Source, E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<Comparison> {
    E::check(cpu)?;
    let b = S::get(cpu, bus, op)?;
    Ok(text::implicit(cpu.xmm(op.a), b, op.imm8()))
}

#[inline(always)]
fn explicit<S: Source, E: Encoding, W: Width>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow<Comparison> {
    E::check(cpu)?;
    let b = S::get(cpu, bus, op)?;
    let length = |register| cpu.get::<W>(register).sign_extend().cast_signed();
    Ok(text::explicit(
        cpu.xmm(op.a),
        length(RAX),
        b,
        length(RDX),
        op.imm8(),
    ))
}

impl Cpu {
    fn set_found_index(&mut self, found: Comparison) {
        self.set(RCX, found.index());
        self.flags.set_arithmetic(found.flags);
    }

    fn set_found_mask<E: Encoding>(&mut self, found: Comparison) {
        E::set(self, 0, found.mask());
        self.flags.set_arithmetic(found.flags);
    }
}
