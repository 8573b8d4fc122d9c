//! AVX, AVX2, FMA and F16C: VEX-encoded instructions on XMM and YMM registers.
//!
//! What an instruction computes is SSE's wherever it has a form there, done in
//! each 128 bits; here are the operands. The law: an instruction that writes an
//! XMM register clears the YMM register's upper half.
//!
//! Before anything else `#UD` (CR4.OSXSAVE, XCR0), then `#NM` (CR0.TS); then the
//! memory operand's own, which may lie anywhere but for the moves that say
//! aligned; at last `#XM`, or `#UD` without CR4.OSXMMEXCPT. What the prefix must
//! not hold (66, F2, F3, LOCK, REX before it, VVVV or L that mean nothing) the
//! decoder refuses. SDM volume 1, chapter 14; volume 2, 2.4 and tables 2-18 to
//! 2-28.

mod arrange;
mod blend;
mod convert;
mod fma;
mod masked;
mod moves;
#[cfg(test)]
mod tests;
mod vary;

use iced_x86::{EncodingKind, Instruction, OpKind};
use silicon::mxcsr;
use x86::Linear;
use x86::control::{cr0, cr4};

use super::sse::{self, Aligned, Encoding, Narrow};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap, xstate};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    if insn.encoding() != EncodingKind::VEX {
        return None;
    }
    place_operands(insn, op);
    moves::lower(insn)
        .or_else(|| arrange::lower(insn))
        .or_else(|| blend::lower(insn))
        .or_else(|| vary::lower(insn))
        .or_else(|| convert::lower(insn))
        .or_else(|| fma::lower(insn))
        .or_else(|| masked::lower(insn, op))
        .or_else(|| sse::integer::lower_vex(insn))
        .or_else(|| sse::integer::lower_shift_vex(insn))
        .or_else(|| sse::float::lower_vex(insn))
        .or_else(|| sse::float::lower_comparison::<Vex>(insn))
        .or_else(|| sse::convert::lower::<Vex>(insn, op))
        .or_else(|| sse::moves::lower_part::<Vex>(insn))
        .or_else(|| sse::lane::lower::<Vex>(insn))
        .or_else(|| sse::text::lower::<Vex>(insn))
        .or_else(|| sse::control::lower::<Vex>(insn))
}

/// Brings the operand that may lie in memory to the third place where the
/// instruction has two, and a fourth register to the immediate's.
fn place_operands(insn: &Instruction, op: &mut Op) {
    let count = insn.op_count();
    if count < 3 || insn.op_kind(2) == OpKind::Immediate8 {
        op.c = op.b;
    }
    if count > 3 && insn.op_kind(3) == OpKind::Register {
        op.imm = insn.op_register(3).number() as u64;
    }
}

/// VEX: the first source has its own place, and an XMM register's upper half
/// is cleared.
pub(super) struct Vex;

impl Encoding for Vex {
    #[inline(always)]
    fn check(cpu: &Cpu) -> Flow {
        cpu.check_avx()
    }
    #[inline(always)]
    fn first(op: &Op) -> u8 {
        op.b
    }
    #[inline(always)]
    fn second(op: &Op) -> u8 {
        op.c
    }
    #[inline(always)]
    fn set(cpu: &mut Cpu, number: u8, value: u128) {
        cpu.set_ymm(number, [value]);
    }
}

impl Cpu {
    /// Whether AVX instructions may execute, as the control registers have it.
    #[inline(always)]
    pub fn avx_is_on(&self) -> bool {
        const STATE: u64 = xstate::SSE | xstate::AVX;
        self.cr0 & cr0::TS | !self.cr4 & cr4::OSXSAVE | !self.xcr0 & STATE == 0
    }

    /// `#UD` or `#NM` where AVX instructions may not execute.
    #[inline(always)]
    pub(super) fn check_avx(&self) -> Flow {
        if self.avx_is_on() {
            Ok(())
        } else {
            Err(self.avx_fault())
        }
    }

    #[cold]
    fn avx_fault(&self) -> Trap {
        const STATE: u64 = xstate::SSE | xstate::AVX;
        if !self.cr4 & cr4::OSXSAVE | !self.xcr0 & STATE != 0 {
            Trap::UD
        } else {
            Trap::NM
        }
    }

    /// The lowest `L` times 128 bits of a YMM register, lowest first.
    #[inline(always)]
    pub(super) fn ymm<const L: usize>(&self, number: u8) -> [u128; L] {
        let number = usize::from(number & 15);
        let both = [self.xmm[number], self.ymm_high[number]];
        std::array::from_fn(|i| both[i])
    }

    /// Sets a YMM register; what is above the value becomes zero.
    #[inline(always)]
    pub(super) fn set_ymm<const L: usize>(&mut self, number: u8, value: [u128; L]) {
        let number = usize::from(number & 15);
        self.xmm[number] = value[0];
        self.ymm_high[number] = value.get(1).copied().unwrap_or(0);
    }

    /// `L` times 16 bytes at `at`.
    #[inline(always)]
    fn read_lanes<const L: usize>(
        &mut self,
        bus: &mut dyn Bus,
        at: Linear,
        stack: bool,
    ) -> Flow<[u128; L]> {
        let mut lanes = [0; L];
        if let Some(physical) = self.tlb.read(self.space, at, 16 * L as u64) {
            for (lane, n) in lanes.iter_mut().zip(0..) {
                *lane = self.ram.load(physical.plus(16 * n));
            }
            return Ok(lanes);
        }
        if L > 1 {
            // Both halves must be there before a device sees either read.
            self.probe_read_slow(self.space, at, 16 * L as u64, stack)?;
        }
        for (lane, n) in lanes.iter_mut().zip(0..) {
            *lane = self.read_128(bus, at.plus(16 * n), stack)?;
        }
        Ok(lanes)
    }

    /// Puts `L` times 16 bytes at `at`.
    #[inline(always)]
    fn write_lanes<const L: usize>(
        &mut self,
        bus: &mut dyn Bus,
        at: Linear,
        stack: bool,
        value: [u128; L],
    ) -> Flow {
        if let Some(physical) = self.tlb.write(self.space, at, 16 * L as u64) {
            for (lane, n) in value.into_iter().zip(0..) {
                self.ram.store(physical.plus(16 * n), lane);
            }
            return Ok(());
        }
        if L > 1 {
            self.probe_write_slow(self.space, at, 16 * L as u64, stack)?;
        }
        for (lane, n) in value.into_iter().zip(0..) {
            self.write_128(bus, at.plus(16 * n), stack, lane)?;
        }
        Ok(())
    }
}

/// Where the operand that may lie in memory comes from, as `L` lanes of 128
/// bits.
pub(super) trait Source<const L: usize> {
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<[u128; L]>;
}

/// A register, all of it.
pub(super) struct Whole;
/// A register, of which a lane gets the part at its own number; what is above
/// the part is not to be looked at.
pub(super) struct Part<W>(std::marker::PhantomData<W>);
/// Memory for all lanes.
pub(super) struct WholeMemory;
/// Memory with a part for each lane; zeros above it.
pub(super) struct PartMemory<W>(std::marker::PhantomData<W>);

impl<const L: usize> Source<L> for Whole {
    #[inline(always)]
    fn get(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow<[u128; L]> {
        Ok(cpu.ymm(op.c))
    }
}

impl<const L: usize, W: Width> Source<L> for Part<W> {
    #[inline(always)]
    fn get(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow<[u128; L]> {
        let value = cpu.xmm(op.c);
        Ok(std::array::from_fn(|i| value >> (W::BITS * i as u32)))
    }
}

impl<const L: usize> Source<L> for WholeMemory {
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<[u128; L]> {
        let at = cpu.address(op, 16 * L as u64, false)?;
        cpu.read_lanes(bus, at, op.stack)
    }
}

impl<const L: usize, W: Width> Source<L> for PartMemory<W> {
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<[u128; L]> {
        let bytes = W::BYTES * L as u64;
        let at = cpu.address(op, bytes, false)?;
        let all = match bytes {
            2 => cpu.read::<u16>(bus, at, op.stack)?.into(),
            4 => cpu.read::<u32>(bus, at, op.stack)?.into(),
            8 => cpu.read::<u64>(bus, at, op.stack)?.into(),
            _ => cpu.read_128(bus, at, op.stack)?,
        };
        let mask = u128::from(u64::MAX >> (64 - W::BITS));
        Ok(std::array::from_fn(|i| all >> (W::BITS * i as u32) & mask))
    }
}

/// What a memory operand of SSE becomes in a VEX-encoded form.
pub(super) trait Operand {
    type Register;
    type Memory;
}
impl Operand for Aligned {
    type Register = Whole;
    type Memory = WholeMemory;
}
impl<W: Width> Operand for Narrow<W> {
    type Register = Part<W>;
    type Memory = PartMemory<W>;
}

/// Whether the instruction works on 256 bits.
pub(super) fn is_wide(insn: &Instruction) -> bool {
    (0..insn.op_count()).any(|n| match insn.op_kind(n) {
        OpKind::Register => insn.op_register(n).is_ymm(),
        OpKind::Memory => insn.memory_size().size() == 32,
        _ => false,
    })
}

/// Whether an operand lies in memory.
pub(super) fn in_memory(insn: &Instruction) -> bool {
    (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory)
}

/// The instance of a handler by width and by the operand that may lie in
/// memory, which is of the kind `$operand`.
macro_rules! by_vector {
    ($insn:expr, $handler:ident, $operand:ty $(, $generic:ty)*) => {{
        type Register = <$operand as $crate::exec::avx::Operand>::Register;
        type Memory = <$operand as $crate::exec::avx::Operand>::Memory;
        match ($crate::exec::avx::is_wide($insn), $crate::exec::avx::in_memory($insn)) {
            (false, false) => $handler::<1, Register $(, $generic)*> as $crate::op::Handler,
            (false, true) => $handler::<1, Memory $(, $generic)*> as $crate::op::Handler,
            (true, false) => $handler::<2, Register $(, $generic)*> as $crate::op::Handler,
            (true, true) => $handler::<2, Memory $(, $generic)*> as $crate::op::Handler,
        }
    }};
}
pub(super) use by_vector;

/// An operation in each lane.
pub(super) fn run<const L: usize, S: Source<L>, O: sse::integer::Operation>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_avx()?;
    let b = S::get(cpu, bus, op)?;
    let a = cpu.ymm::<L>(op.b);
    let imm = |i| op.imm8() >> (O::LANE_IMM_BITS * i as u32);
    cpu.set_ymm::<L>(op.a, std::array::from_fn(|i| O::apply(a[i], b[i], imm(i))));
    Ok(())
}

/// An operation that obeys MXCSR, in each lane.
pub(super) fn run_float<const L: usize, S: Source<L>, O: sse::float::Operation>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_avx()?;
    let b = S::get(cpu, bus, op)?;
    let a = cpu.ymm::<L>(op.b);
    let result = mxcsr::each::<L>(&mut cpu.mxcsr, |i, mxcsr| {
        O::apply(a[i], b[i], op.imm8(), mxcsr)
    });
    cpu.put_float(op, result)
}

impl Cpu {
    /// Sets the destination, or faults with an exception that isn't masked.
    #[inline(always)]
    fn put_float<const L: usize>(&mut self, op: &Op, result: mxcsr::Result<[u128; L]>) -> Flow {
        match result {
            Ok(value) => {
                self.set_ymm(op.a, value);
                Ok(())
            }
            Err(_) => Err(self.unmasked()),
        }
    }
}

/// A shift by a count that is 128 bits wide, whatever is shifted.
pub(super) fn shift<const L: usize, S: Source<1>, O: sse::integer::Operation>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_avx()?;
    let [count] = S::get(cpu, bus, op)?;
    let value = cpu.ymm::<L>(op.b).map(|a| O::apply(a, count, 0));
    cpu.set_ymm(op.a, value);
    Ok(())
}

/// A shift by an immediate.
pub(super) fn shift_immediate<const L: usize, S: Source<L>, O: sse::integer::Operation>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_avx()?;
    let count = op.imm8().into();
    let value = S::get(cpu, bus, op)?.map(|a| O::apply(a, count, 0));
    cpu.set_ymm(op.a, value);
    Ok(())
}
