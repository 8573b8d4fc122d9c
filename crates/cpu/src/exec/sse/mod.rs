//! SSE to SSE4.2 on XMM registers. What an instruction computes is in
//! `silicon`; here are its operands, its faults and the registers it writes.
//!
//! Before anything else `#UD` (CR0.EM, CR4.OSFXSR), then `#NM` (CR0.TS); then
//! the memory operand's own, among them `#GP(0)` for 16 bytes that are not
//! aligned (all instructions but the moves that say so, LDDQU and PCMPxSTRx);
//! at last `#XM`, or `#UD` without CR4.OSXMMEXCPT. SDM volume 2, tables 2-18
//! to 2-24 and 23-4 to 23-9; volume 3A, 14.1.

pub(in crate::exec) mod control;
pub(in crate::exec) mod convert;
pub(in crate::exec) mod float;
pub(in crate::exec) mod integer;
pub(in crate::exec) mod lane;
pub(in crate::exec) mod moves;
#[cfg(test)]
mod tests;
pub(in crate::exec) mod text;

use iced_x86::{EncodingKind, Instruction};
use x86::Linear;
use x86::control::{cr0, cr4};

use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    // VEX and EVEX forms share mnemonics with some of ours.
    if insn.encoding() != EncodingKind::Legacy {
        return None;
    }
    moves::lower(insn)
        .or_else(|| integer::lower(insn))
        .or_else(|| float::lower(insn))
        .or_else(|| convert::lower::<Legacy>(insn, op))
        .or_else(|| lane::lower::<Legacy>(insn))
        .or_else(|| text::lower::<Legacy>(insn))
        .or_else(|| control::lower::<Legacy>(insn))
}

impl Cpu {
    #[inline(always)]
    fn sse_is_on(&self) -> bool {
        self.cr0 & (cr0::EM | cr0::TS) | !self.cr4 & cr4::OSFXSR == 0
    }

    /// Whether SSE instructions may execute.
    #[inline(always)]
    pub(crate) fn check_sse(&self) -> Flow {
        if self.sse_is_on() {
            Ok(())
        } else {
            Err(self.sse_fault())
        }
    }

    #[cold]
    fn sse_fault(&self) -> Trap {
        if self.cr0 & cr0::EM | !self.cr4 & cr4::OSFXSR != 0 {
            Trap::UD
        } else {
            Trap::NM
        }
    }

    /// The fault for a floating-point exception that MXCSR doesn't mask.
    #[cold]
    pub(crate) fn unmasked(&self) -> Trap {
        if self.cr4 & cr4::OSXMMEXCPT != 0 {
            Trap::fault(x86::vector::XM)
        } else {
            Trap::UD
        }
    }

    #[inline(always)]
    pub(crate) fn xmm(&self, number: u8) -> u128 {
        self.xmm[usize::from(number & 15)]
    }

    /// The lowest quadword of an XMM register.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    pub(crate) fn xmm_low(&self, number: u8) -> u64 {
        self.xmm(number) as u64
    }

    #[inline(always)]
    pub(crate) fn set_xmm(&mut self, number: u8, value: u128) {
        self.xmm[usize::from(number & 15)] = value;
    }

    /// The address of a memory operand of 16 bytes that must be aligned.
    #[inline(always)]
    fn aligned_address(&self, op: &Op, write: bool) -> Flow<Linear> {
        match self.address(op, 16, write) {
            Ok(at) if at.0 & 15 == 0 => Ok(at),
            Ok(_) => Err(Trap::GP),
            Err(fault) => Err(self.misaligned_or(fault, op, 16)),
        }
    }

    /// `#GP(0)` if the memory operand is misaligned, else `fault`, which its
    /// segment gives: alignment is looked at first.
    #[cold]
    pub(in crate::exec) fn misaligned_or(&self, fault: Trap, op: &Op, alignment: u64) -> Trap {
        let base = self.segments[usize::from(op.seg)].base;
        if base.wrapping_add(self.offset(op)).is_multiple_of(alignment) {
            fault
        } else {
            Trap::GP
        }
    }
}

/// What an instruction's encoding decides, where everything else is the same.
pub(in crate::exec) trait Encoding {
    /// Whether the instruction may execute.
    fn check(cpu: &Cpu) -> Flow;
    /// The number of the register that is the first source.
    fn first(op: &Op) -> u8;
    /// The number of the register that is the second, if it is one.
    fn second(op: &Op) -> u8;
    /// Sets an XMM register.
    fn set(cpu: &mut Cpu, number: u8, value: u128);
}

/// The encodings of SSE: the first source is the destination, and a YMM
/// register's upper half stays.
pub(in crate::exec) struct Legacy;

impl Encoding for Legacy {
    #[inline(always)]
    fn check(cpu: &Cpu) -> Flow {
        cpu.check_sse()
    }
    #[inline(always)]
    fn first(op: &Op) -> u8 {
        op.a
    }
    #[inline(always)]
    fn second(op: &Op) -> u8 {
        op.b
    }
    #[inline(always)]
    fn set(cpu: &mut Cpu, number: u8, value: u128) {
        cpu.set_xmm(number, value);
    }
}

/// Where the second operand comes from.
pub(in crate::exec) trait Source {
    /// The operand, where that takes no call: what the quick way of a handler
    /// begins with. See [`crate::access`].
    fn quick(cpu: &Cpu, op: &Op) -> Option<u128>;
    /// The operand, or the fault that getting it raises.
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u128>;
}

/// An XMM register, all of it.
pub(in crate::exec) struct Register;
/// 16 bytes of memory, aligned.
pub(in crate::exec) struct Aligned;
/// 16 bytes of memory anywhere.
pub(in crate::exec) struct Anywhere;
/// A number in memory; zeros above it.
pub(in crate::exec) struct Narrow<W>(std::marker::PhantomData<W>);

impl Source for Register {
    #[inline(always)]
    fn quick(cpu: &Cpu, op: &Op) -> Option<u128> {
        Some(cpu.xmm(op.b))
    }
    #[inline(always)]
    fn get(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow<u128> {
        Ok(cpu.xmm(op.b))
    }
}

impl Source for Aligned {
    #[inline(always)]
    fn quick(cpu: &Cpu, op: &Op) -> Option<u128> {
        let at = cpu.quick(op)?;
        let physical = cpu.tlb.read(cpu.space, at, 16)?;
        (at.0 & 15 == 0).then(|| cpu.ram.load(physical))
    }
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u128> {
        let at = cpu.aligned_address(op, false)?;
        cpu.read_128(bus, at, op.stack)
    }
}

impl Source for Anywhere {
    #[inline(always)]
    fn quick(cpu: &Cpu, op: &Op) -> Option<u128> {
        let at = cpu.quick(op)?;
        let physical = cpu.tlb.read(cpu.space, at, 16)?;
        Some(cpu.ram.load(physical))
    }
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u128> {
        let at = cpu.address(op, 16, false)?;
        cpu.read_128(bus, at, op.stack)
    }
}

impl<W: Width> Source for Narrow<W> {
    #[inline(always)]
    fn quick(cpu: &Cpu, op: &Op) -> Option<u128> {
        let at = cpu.quick(op)?;
        let physical = cpu.tlb.read(cpu.space, at, W::BYTES)?;
        Some(cpu.ram.load::<W>(physical).zero_extend().into())
    }
    #[inline(always)]
    fn get(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow<u128> {
        Ok(cpu.load::<W>(bus, op)?.zero_extend().into())
    }
}

/// The handler for a register source, or for one in memory.
macro_rules! by_source {
    ($insn:ident, $handler:ident, $memory:ty $(, $generic:ty)*) => {
        if $insn.op_kind(1) == iced_x86::OpKind::Register {
            $handler::<$crate::exec::sse::Register $(, $generic)*> as $crate::op::Handler
        } else {
            $handler::<$memory $(, $generic)*> as $crate::op::Handler
        }
    };
}
use by_source;
