//! Moves of whole registers, VZEROUPPER and VZEROALL.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{Source, Whole, WholeMemory, is_wide};
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    let aligned = match insn.mnemonic() {
        M::Vmovaps | M::Vmovapd | M::Vmovdqa => true,
        M::Vmovntps | M::Vmovntpd | M::Vmovntdq | M::Vmovntdqa => true,
        M::Vmovups | M::Vmovupd | M::Vmovdqu | M::Vlddqu => false,
        M::Vzeroupper => return Some(zero_upper),
        M::Vzeroall => return Some(zero_all),
        _ => return None,
    };
    macro_rules! by_width {
        ($lanes:literal) => {
            match (insn.op_kind(0), insn.op_kind(1), aligned) {
                (OpKind::Memory, _, false) => store::<$lanes, false>,
                (OpKind::Memory, _, true) => store::<$lanes, true>,
                (_, OpKind::Memory, false) => load::<$lanes, WholeMemory>,
                (_, OpKind::Memory, true) => load::<$lanes, AlignedMemory>,
                _ => load::<$lanes, Whole>,
            }
        };
    }
    Some(if is_wide(insn) {
        by_width!(2)
    } else {
        by_width!(1)
    })
}

/// Memory that must be aligned to its size.
struct AlignedMemory;

impl<const L: usize> Source<L> for AlignedMemory {
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<[u128; L]> {
        let at = cpu.vector_address::<L>(op, true, false)?;
        cpu.read_lanes(bus, at, op.stack)
    }
}

impl Cpu {
    /// The address of a memory operand of `L` times 16 bytes.
    #[inline(always)]
    fn vector_address<const L: usize>(
        &self,
        op: &Op,
        aligned: bool,
        write: bool,
    ) -> Flow<x86::Linear> {
        let bytes = 16 * L as u64;
        match self.address(op, bytes, write) {
            Ok(at) if aligned && !at.0.is_multiple_of(bytes) => Err(Trap::GP),
            Err(fault) if aligned => Err(self.misaligned_or(fault, op, bytes)),
            result => result,
        }
    }
}

fn load<const L: usize, S: Source<L>>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let value = S::get(cpu, bus, op)?;
    cpu.set_ymm(op.a, value);
    Ok(())
}

fn store<const L: usize, const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let at = cpu.vector_address::<L>(op, ALIGNED, true)?;
    let value = cpu.ymm::<L>(op.b);
    cpu.write_lanes(bus, at, op.stack, value)
}

/// How many registers the mode can name.
fn count(cpu: &Cpu) -> usize {
    if cpu.is_64() { 16 } else { 8 }
}

fn zero_upper(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.check_avx()?;
    let count = count(cpu);
    cpu.ymm_high[..count].fill(0);
    Ok(())
}

fn zero_all(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.check_avx()?;
    let count = count(cpu);
    cpu.xmm[..count].fill(0);
    cpu.ymm_high[..count].fill(0);
    Ok(())
}
