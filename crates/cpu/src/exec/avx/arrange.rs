//! Broadcasts, permutations, and moves of one half: what goes across the 128
//! bits of a lane, and VMOVDDUP.

use iced_x86::{Instruction, Mnemonic};
use silicon::permute;

use super::{Source, Whole, WholeMemory, by_vector, in_memory, is_wide, run};
use crate::exec::sse::{Aligned, integer};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    macro_rules! of_width {
        ($handler:ident) => {
            if in_memory(insn) {
                $handler::<WholeMemory> as Handler
            } else {
                $handler::<Whole> as Handler
            }
        };
    }
    Some(match insn.mnemonic() {
        // With 128 bits its memory operand is half as wide: as SSE's.
        M::Vmovddup if is_wide(insn) => by_vector!(insn, run, Aligned, integer::Movddup),
        M::Vpbroadcastb => broadcast::<u8>(insn),
        M::Vpbroadcastw => broadcast::<u16>(insn),
        M::Vpbroadcastd | M::Vbroadcastss => broadcast::<u32>(insn),
        M::Vpbroadcastq | M::Vbroadcastsd => broadcast::<u64>(insn),
        M::Vbroadcastf128 | M::Vbroadcasti128 => broadcast_128,
        M::Vinsertf128 | M::Vinserti128 => of_width!(insert_128),
        M::Vextractf128 | M::Vextracti128 if in_memory(insn) => extract_128_memory,
        M::Vextractf128 | M::Vextracti128 => extract_128,
        M::Vperm2f128 | M::Vperm2i128 => of_width!(permute_128),
        M::Vpermq | M::Vpermpd => of_width!(permute_quads),
        M::Vpermd | M::Vpermps => of_width!(permute_doubles),
        _ => return None,
    })
}

fn broadcast<W: Width>(insn: &Instruction) -> Handler {
    match (is_wide(insn), in_memory(insn)) {
        (false, false) => broadcast_register::<1, W>,
        (false, true) => broadcast_memory::<1, W>,
        (true, false) => broadcast_register::<2, W>,
        (true, true) => broadcast_memory::<2, W>,
    }
}

/// 128 bits full of one number.
fn filled<W: Width>(value: W) -> u128 {
    // Every multiplier has a one at the lowest bit of each lane.
    let ones = u128::MAX / u128::from(u64::MAX >> (64 - W::BITS));
    u128::from(value.zero_extend()) * ones
}

fn broadcast_register<const L: usize, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let value = W::truncate(cpu.xmm_low(op.c));
    cpu.set_ymm(op.a, [filled(value); L]);
    Ok(())
}

fn broadcast_memory<const L: usize, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let value = cpu.load::<W>(bus, op)?;
    cpu.set_ymm(op.a, [filled(value); L]);
    Ok(())
}

fn broadcast_128(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let [value] = WholeMemory::get(cpu, bus, op)?;
    cpu.set_ymm(op.a, [value; 2]);
    Ok(())
}

fn insert_128<S: Source<1>>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let [value] = S::get(cpu, bus, op)?;
    let mut result = cpu.ymm::<2>(op.b);
    result[usize::from(op.imm8() & 1)] = value;
    cpu.set_ymm(op.a, result);
    Ok(())
}

fn extract_128(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let value = cpu.ymm::<2>(op.b)[usize::from(op.imm8() & 1)];
    cpu.set_ymm(op.a, [value]);
    Ok(())
}

fn extract_128_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_avx()?;
    let value = cpu.ymm::<2>(op.b)[usize::from(op.imm8() & 1)];
    let at = cpu.address(op, 16, true)?;
    cpu.write_128(bus, at, op.stack, value)
}

macro_rules! permutations {
    ($($name:ident: |$a:ident, $b:ident, $imm:ident| $body:expr;)*) => {$(
        fn $name<S: Source<2>>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_avx()?;
            let $b = S::get(cpu, bus, op)?;
            let ($a, $imm) = (cpu.ymm::<2>(op.b), op.imm8());
            let _ = ($a, $imm);
            cpu.set_ymm(op.a, $body);
            Ok(())
        }
    )*};
}

permutations! {
    permute_128: |a, b, imm| permute::vperm2i128(a, b, imm);
    permute_quads: |a, b, imm| permute::vpermq(b, imm);
    permute_doubles: |a, b, imm| permute::vpermd(a, b);
}
