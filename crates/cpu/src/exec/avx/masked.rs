//! VMASKMOVPS, VPMASKMOVD and their kin, and gathers: memory of which only
//! some elements are accessed.
//!
//! The law: an element that its mask leaves out is not accessed and can't
//! fault. A gather that faults has done all elements below the one that
//! faults, and cleared their masks: so it goes on there when it is restarted
//! (SDM volume 2, `VPGATHERDD`).

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::is_wide;
use crate::op::Handler;
use crate::state::GPR_ZERO;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Vmaskmovps | M::Vpmaskmovd => Some(lower_masked::<u32>(insn)),
        M::Vmaskmovpd | M::Vpmaskmovq => Some(lower_masked::<u64>(insn)),
        _ if insn.is_vsib() => lower_gather(insn, op),
        _ => None,
    }
}

fn lower_masked<W: Width>(insn: &Instruction) -> Handler {
    match (is_wide(insn), insn.op_kind(0) == OpKind::Memory) {
        (false, false) => load_masked::<1, W>,
        (false, true) => store_masked::<1, W>,
        (true, false) => load_masked::<2, W>,
        (true, true) => store_masked::<2, W>,
    }
}

/// Element `n` of a register.
#[inline(always)]
fn element<W: Width>(lanes: &[u128], n: u32) -> W {
    let per_lane = 128 / W::BITS;
    W::truncate((lanes[(n / per_lane) as usize] >> (n % per_lane * W::BITS)) as u64)
}

/// Sets element `n` of a register.
#[inline(always)]
fn set_element<W: Width>(lanes: &mut [u128], n: u32, value: W) {
    let per_lane = 128 / W::BITS;
    let shift = n % per_lane * W::BITS;
    let lane = &mut lanes[(n / per_lane) as usize];
    let mask = u128::from(u64::MAX >> (64 - W::BITS)) << shift;
    *lane = *lane & !mask | u128::from(value.zero_extend()) << shift;
}

/// The elements of a vector of `L` lanes whose mask has its top bit set.
#[inline(always)]
fn chosen<const L: usize, W: Width>(mask: [u128; L]) -> impl Iterator<Item = u32> {
    (0..L as u32 * (128 / W::BITS)).filter(move |&n| element::<W>(&mask, n).sign())
}

fn load_masked<const L: usize, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let mut result = [0; L];
    for n in chosen::<L, W>(cpu.ymm(op.b)) {
        let at = cpu.address_of_part(op, u64::from(n) * W::BYTES, W::BYTES, false)?;
        set_element(&mut result, n, cpu.read::<W>(bus, at, op.stack)?);
    }
    cpu.set_ymm(op.a, result);
    Ok(())
}

fn store_masked<const L: usize, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let (mask, values) = (cpu.ymm::<L>(op.b), cpu.ymm::<L>(op.c));
    let place =
        |cpu: &Cpu, n: u32| cpu.address_of_part(op, u64::from(n) * W::BYTES, W::BYTES, true);
    // All or nothing: what faults stores no element.
    for n in chosen::<L, W>(mask) {
        let at = place(cpu, n)?;
        cpu.probe_write::<W>(at, op.stack)?;
    }
    for n in chosen::<L, W>(mask) {
        let at = place(cpu, n)?;
        cpu.write(bus, at, op.stack, element::<W>(&values, n))?;
    }
    Ok(())
}

/// The index register's number comes to `op.b`; what is left of the address is
/// base and displacement.
fn lower_gather(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Code as C;
    op.b = op.index;
    op.index = GPR_ZERO;
    Some(match insn.code() {
        C::VEX_Vpgatherdd_xmm_vm32x_xmm | C::VEX_Vgatherdps_xmm_vm32x_xmm => gather::<4, u32, u32>,
        C::VEX_Vpgatherdd_ymm_vm32y_ymm | C::VEX_Vgatherdps_ymm_vm32y_ymm => gather::<8, u32, u32>,
        C::VEX_Vpgatherdq_xmm_vm32x_xmm | C::VEX_Vgatherdpd_xmm_vm32x_xmm => gather::<2, u32, u64>,
        C::VEX_Vpgatherdq_ymm_vm32x_ymm | C::VEX_Vgatherdpd_ymm_vm32x_ymm => gather::<4, u32, u64>,
        C::VEX_Vpgatherqd_xmm_vm64x_xmm | C::VEX_Vgatherqps_xmm_vm64x_xmm => gather::<2, u64, u32>,
        C::VEX_Vpgatherqd_xmm_vm64y_xmm | C::VEX_Vgatherqps_xmm_vm64y_xmm => gather::<4, u64, u32>,
        C::VEX_Vpgatherqq_xmm_vm64x_xmm | C::VEX_Vgatherqpd_xmm_vm64x_xmm => gather::<2, u64, u64>,
        C::VEX_Vpgatherqq_ymm_vm64y_ymm | C::VEX_Vgatherqpd_ymm_vm64y_ymm => gather::<4, u64, u64>,
        _ => return None,
    })
}

/// `N` elements of type `W`, at indices of type `I`.
fn gather<const N: u32, I: Width, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let indices = cpu.ymm::<2>(op.b);
    let mut mask = cpu.ymm::<2>(op.c);
    let mut result = cpu.ymm::<2>(op.a);
    for n in 0..N {
        if element::<W>(&mask, n).sign() {
            let offset = element::<I>(&indices, n).sign_extend() << op.scale;
            let at = cpu.address_plus(op, offset, W::BYTES, false)?;
            let value = cpu.read::<W>(bus, at, op.stack)?;
            set_element(&mut result, n, value);
        }
        set_element(&mut mask, n, W::default());
        // At once: the next element may fault.
        cpu.set_ymm(op.a, result);
        cpu.set_ymm(op.c, mask);
    }
    // The mask is cleared whole, and what is above the elements.
    cpu.set_ymm(op.c, [0]);
    let all: [u128; 2] = std::array::from_fn(|lane| {
        let bits = (N * W::BITS).saturating_sub(128 * lane as u32);
        u128::MAX
            .checked_shr(128u32.saturating_sub(bits))
            .unwrap_or(0)
    });
    cpu.set_ymm::<2>(op.a, [result[0] & all[0], result[1] & all[1]]);
    Ok(())
}
