//! Moves of whole registers, halves and lowest lanes. Non-temporal ones are
//! ordinary: there is no cache to spare.

use iced_x86::{Code, Instruction, OpKind};

use super::{Aligned, Anywhere, Encoding, Legacy, Register, Source};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

const LOW: u128 = u64::MAX as u128;

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    lower_whole(insn).or_else(|| lower_part::<Legacy>(insn))
}

/// Moves of whole registers. VEX-encoded ones are in `avx`.
fn lower_whole(insn: &Instruction) -> Option<Handler> {
    use Code as C;
    let from_register = insn.op_count() > 1 && insn.op_kind(1) == OpKind::Register;
    let to_register = insn.op_count() > 0 && insn.op_kind(0) == OpKind::Register;
    Some(match insn.code() {
        C::Movaps_xmm_xmmm128
        | C::Movapd_xmm_xmmm128
        | C::Movdqa_xmm_xmmm128
        | C::Movups_xmm_xmmm128
        | C::Movupd_xmm_xmmm128
        | C::Movdqu_xmm_xmmm128
            if from_register =>
        {
            load::<Register>
        }
        C::Movaps_xmm_xmmm128
        | C::Movapd_xmm_xmmm128
        | C::Movdqa_xmm_xmmm128
        | C::Movntdqa_xmm_m128 => load::<Aligned>,
        C::Movups_xmm_xmmm128
        | C::Movupd_xmm_xmmm128
        | C::Movdqu_xmm_xmmm128
        | C::Lddqu_xmm_m128 => load::<Anywhere>,

        C::Movaps_xmmm128_xmm
        | C::Movapd_xmmm128_xmm
        | C::Movdqa_xmmm128_xmm
        | C::Movups_xmmm128_xmm
        | C::Movupd_xmmm128_xmm
        | C::Movdqu_xmmm128_xmm
            if to_register =>
        {
            load::<Register>
        }
        C::Movaps_xmmm128_xmm
        | C::Movapd_xmmm128_xmm
        | C::Movdqa_xmmm128_xmm
        | C::Movntps_m128_xmm
        | C::Movntpd_m128_xmm
        | C::Movntdq_m128_xmm => store_aligned,
        C::Movups_xmmm128_xmm | C::Movupd_xmmm128_xmm | C::Movdqu_xmmm128_xmm => store_anywhere,

        _ => return None,
    })
}

/// Moves of halves and lowest lanes, and MASKMOVDQU.
pub(in crate::exec) fn lower_part<E: Encoding>(insn: &Instruction) -> Option<Handler> {
    use Code as C;
    let from_register = insn.op_count() > 1 && insn.op_kind(1) == OpKind::Register;
    let to_register = insn.op_count() > 0 && insn.op_kind(0) == OpKind::Register;
    Some(match insn.code() {
        C::VEX_Vmovss_xmm_xmm_xmm | C::VEX_Vmovss_xmm_xmm_xmm_0F11 => merge_32::<E>,
        C::VEX_Vmovss_xmm_m32 => load_part::<E, u32>,
        C::VEX_Vmovss_m32_xmm => store_low::<E, u32>,
        C::VEX_Vmovsd_xmm_xmm_xmm | C::VEX_Vmovsd_xmm_xmm_xmm_0F11 => merge_64::<E>,
        C::VEX_Vmovsd_xmm_m64 => load_part::<E, u64>,
        C::VEX_Vmovsd_m64_xmm => store_low::<E, u64>,
        C::Movss_xmm_xmmm32 | C::Movss_xmmm32_xmm if from_register && to_register => merge_32::<E>,
        C::Movss_xmm_xmmm32 => load_part::<E, u32>,
        C::Movss_xmmm32_xmm => store_low::<E, u32>,
        C::Movsd_xmm_xmmm64 | C::Movsd_xmmm64_xmm if from_register && to_register => merge_64::<E>,
        C::Movsd_xmm_xmmm64 => load_part::<E, u64>,
        C::Movsd_xmmm64_xmm => store_low::<E, u64>,

        C::Movq_xmm_xmmm64
        | C::VEX_Vmovq_xmm_xmmm64
        | C::Movq_xmmm64_xmm
        | C::VEX_Vmovq_xmmm64_xmm
            if from_register && to_register =>
        {
            low_half::<E>
        }
        C::Movq_xmm_xmmm64 | C::VEX_Vmovq_xmm_xmmm64 => load_part::<E, u64>,
        C::Movq_xmmm64_xmm | C::VEX_Vmovq_xmmm64_xmm => store_low::<E, u64>,
        C::Movd_xmm_rm32 | C::VEX_Vmovd_xmm_rm32 if from_register => from_general::<E, u32>,
        C::Movd_xmm_rm32 | C::VEX_Vmovd_xmm_rm32 => load_part::<E, u32>,
        C::Movd_rm32_xmm | C::VEX_Vmovd_rm32_xmm if to_register => to_general::<E, u32>,
        C::Movd_rm32_xmm | C::VEX_Vmovd_rm32_xmm => store_low::<E, u32>,
        C::Movq_xmm_rm64 | C::VEX_Vmovq_xmm_rm64 if from_register => from_general::<E, u64>,
        C::Movq_xmm_rm64 | C::VEX_Vmovq_xmm_rm64 => load_part::<E, u64>,
        C::Movq_rm64_xmm | C::VEX_Vmovq_rm64_xmm if to_register => to_general::<E, u64>,
        C::Movq_rm64_xmm | C::VEX_Vmovq_rm64_xmm => store_low::<E, u64>,

        C::Movlps_xmm_m64
        | C::VEX_Vmovlps_xmm_xmm_m64
        | C::Movlpd_xmm_m64
        | C::VEX_Vmovlpd_xmm_xmm_m64 => load_low::<E>,
        C::Movhps_xmm_m64
        | C::VEX_Vmovhps_xmm_xmm_m64
        | C::Movhpd_xmm_m64
        | C::VEX_Vmovhpd_xmm_xmm_m64 => load_high::<E>,
        C::Movlps_m64_xmm | C::VEX_Vmovlps_m64_xmm | C::Movlpd_m64_xmm | C::VEX_Vmovlpd_m64_xmm => {
            store_low::<E, u64>
        }
        C::Movhps_m64_xmm | C::VEX_Vmovhps_m64_xmm | C::Movhpd_m64_xmm | C::VEX_Vmovhpd_m64_xmm => {
            store_high::<E>
        }
        C::Movhlps_xmm_xmm | C::VEX_Vmovhlps_xmm_xmm_xmm => high_to_low::<E>,
        C::Movlhps_xmm_xmm | C::VEX_Vmovlhps_xmm_xmm_xmm => low_to_high::<E>,

        C::Maskmovdqu_rDI_xmm_xmm | C::VEX_Vmaskmovdqu_rDI_xmm_xmm => maskmovdqu::<E>,
        _ => return None,
    })
}

fn load<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if cpu.sse_is_on()
        && let Some(value) = S::quick(cpu, op)
    {
        cpu.set_xmm(op.a, value);
        return Ok(());
    }
    load_slowly::<S>(cpu, bus, op)
}

#[cold]
#[inline(never)]
fn load_slowly<S: Source>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let value = S::get(cpu, bus, op)?;
    cpu.set_xmm(op.a, value);
    Ok(())
}

fn store_aligned(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    store::<true>(cpu, bus, op)
}

fn store_anywhere(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    store::<false>(cpu, bus, op)
}

#[inline(always)]
fn store<const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if cpu.sse_is_on()
        && let Some(at) = cpu.quick(op)
        && (!ALIGNED || at.0 & 15 == 0)
        && let Some(physical) = cpu.tlb.write(cpu.space, at, 16)
    {
        cpu.ram.store(physical, cpu.xmm(op.b));
        return Ok(());
    }
    store_slowly::<ALIGNED>(cpu, bus, op)
}

#[cold]
#[inline(never)]
fn store_slowly<const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let at = if ALIGNED {
        cpu.aligned_address(op, true)?
    } else {
        cpu.address(op, 16, true)?
    };
    let value = cpu.xmm(op.b);
    cpu.write_128(bus, at, op.stack, value)
}

/// Loads a lowest lane; zeros above it.
fn load_part<E: Encoding, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    cpu.with_load::<W>(bus, op, |cpu, value| {
        E::set(cpu, op.a, value.zero_extend().into());
    })
}

/// Stores the lowest lane.
fn store_low<E: Encoding, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = W::truncate(cpu.xmm_low(op.b));
    cpu.store(bus, op, value)
}

fn store_high<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = (cpu.xmm(op.b) >> 64) as u64;
    cpu.store(bus, op, value)
}

fn load_low<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = cpu.load::<u64>(bus, op)?;
    let kept = cpu.xmm(E::first(op)) & !LOW;
    E::set(cpu, op.a, kept | u128::from(value));
    Ok(())
}

fn load_high<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = cpu.load::<u64>(bus, op)?;
    let kept = cpu.xmm(E::first(op)) & LOW;
    E::set(cpu, op.a, kept | u128::from(value) << 64);
    Ok(())
}

fn high_to_low<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let kept = cpu.xmm(E::first(op)) & !LOW;
    E::set(cpu, op.a, kept | cpu.xmm(E::second(op)) >> 64);
    Ok(())
}

fn low_to_high<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let kept = cpu.xmm(E::first(op)) & LOW;
    E::set(cpu, op.a, kept | cpu.xmm(E::second(op)) << 64);
    Ok(())
}

fn low_half<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    E::set(cpu, op.a, cpu.xmm(op.b) & LOW);
    Ok(())
}

fn merge_64<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let kept = cpu.xmm(E::first(op)) & !LOW;
    E::set(cpu, op.a, kept | cpu.xmm(E::second(op)) & LOW);
    Ok(())
}

fn merge_32<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    const LOWEST: u128 = u32::MAX as u128;
    E::check(cpu)?;
    let kept = cpu.xmm(E::first(op)) & !LOWEST;
    E::set(cpu, op.a, kept | cpu.xmm(E::second(op)) & LOWEST);
    Ok(())
}

fn from_general<E: Encoding, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = cpu.get::<W>(op.b).zero_extend();
    E::set(cpu, op.a, value.into());
    Ok(())
}

fn to_general<E: Encoding, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = W::truncate(cpu.xmm_low(op.b));
    cpu.set(op.a, value);
    Ok(())
}

fn maskmovdqu<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    // iced's operands are the implied memory, then the two registers.
    let (values, mask) = (cpu.xmm(op.b), cpu.xmm(op.c));
    cpu.store_masked(bus, op, &values.to_le_bytes(), &mask.to_le_bytes())
}

impl Cpu {
    /// Stores at DS:rDI the bytes of `values` whose byte of `mask` has its top
    /// bit set. It faults as a store of all of them would, even where none is
    /// chosen: the manual leaves that open.
    pub(in crate::exec) fn store_masked<const BYTES: usize>(
        &mut self,
        bus: &mut dyn Bus,
        op: &Op,
        values: &[u8; BYTES],
        mask: &[u8; BYTES],
    ) -> Flow {
        let rdi = self.gpr[usize::from(x86::gpr::RDI)];
        let offset = rdi & op.address.last();
        // Eight bytes at a time, as to limits and alignment.
        let part =
            |cpu: &Cpu, start: u64| cpu.string_address(op.seg, offset.wrapping_add(start), 8, true);
        for start in (0..BYTES as u64).step_by(8) {
            let at = part(self, start)?;
            self.probe_write::<u64>(at, op.stack)?;
        }
        for (i, value) in (0u8..).zip(values.iter().copied()) {
            if mask[usize::from(i)] >> 7 != 0 {
                let at = part(self, u64::from(i & 8))?.plus(u64::from(i & 7));
                self.write(bus, at, op.stack, value)?;
            }
        }
        Ok(())
    }
}
