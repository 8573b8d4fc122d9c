//! The x87 instructions (SDM volume 1, chapter 8): what they have in common.
//!
//! The law: memory is read, or written, before any x87 state changes, so that
//! a page fault leaves the unit as it was. An exception that is found before
//! the result (stack fault, invalid operation, denormal operand, zero divide)
//! and is unmasked changes nothing but the status word; it is delivered as
//! `#MF` by the next waiting instruction.
//!
//! With CR0.NE clear an exception is ignored, as if IGNNE# were asserted: this
//! machine has no FERR# line.

mod arith;
mod compare;
mod control;
mod function;
mod load;
mod store;
#[cfg(test)]
mod tests;

use iced_x86::Instruction;
use silicon::x87::status::{C1, DE, EXCEPTIONS, IE, SF, ZE};
use x86::control::cr0;
use x86::{Linear, vector};

use crate::fpu::Fpu;
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    let code = insn.code();
    arith::lower(code)
        .or_else(|| load::lower(code))
        .or_else(|| store::lower(code))
        .or_else(|| compare::lower(code, op))
        .or_else(|| function::lower(code))
        .or_else(|| control::lower(code))
}

/// Whether an instruction has a memory operand, for FDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Register,
    Memory,
}

impl Cpu {
    /// What every instruction but WAIT begins with.
    fn x87_available(&self) -> Flow {
        if self.cr0 & (cr0::EM | cr0::TS) != 0 {
            return Err(Trap::NM);
        }
        Ok(())
    }

    /// What a waiting instruction does: delivers the exception that waits.
    pub(super) fn x87_deliver(&self) -> Flow {
        if self.fpu.is_pending() && self.cr0 & cr0::NE != 0 {
            return Err(Trap::fault(vector::MF));
        }
        Ok(())
    }

    /// What every waiting instruction but WAIT begins with.
    fn x87_begin(&self) -> Flow {
        self.x87_available()?;
        self.x87_deliver()
    }

    /// Sets the pointers, at the end of every instruction that isn't of the
    /// control group.
    fn x87_end(&mut self, op: &Op, operand: Operand) {
        let rip = self.next_rip(op).wrapping_sub(u64::from(op.len)) & self.rip_mask();
        self.fpu.instruction_pointer = rip;
        if self.fpu.is_pending() {
            self.x87_point(op, operand, rip);
        }
    }

    #[cold]
    fn x87_point(&mut self, op: &Op, operand: Operand, rip: u64) {
        self.fpu.opcode = self.x87_opcode(rip, op.len);
        if operand == Operand::Memory {
            self.fpu.data_pointer = self.offset(op);
        }
    }

    /// The opcode of the instruction at `rip`: the low three bits of its first
    /// byte after the prefixes, and the second byte (SDM volume 1, 8.1.9).
    fn x87_opcode(&mut self, rip: u64, len: u8) -> u16 {
        let mut first = None;
        for at in 0..u64::from(len) {
            let byte = self
                .code_linear(rip.wrapping_add(at))
                .and_then(|linear| self.code_byte(linear));
            match (first, byte) {
                (Some(first), Ok(second)) => {
                    return u16::from(first) << 8 | u16::from(second);
                }
                // ESC, the first byte of all x87 instructions.
                (None, Ok(byte)) if byte & 0xf8 == 0xd8 => first = Some(byte & 7),
                // A prefix.
                (None, Ok(_)) => {}
                // It was fetched, so it can be; were it not, zero stands.
                (_, Err(_)) => return 0,
            }
        }
        0
    }

    fn code_byte(&mut self, at: Linear) -> Flow<u8> {
        let physical = self.fetch_address(at)?.ok_or(Trap::GP)?;
        let mut byte = [0];
        self.ram.read(physical, &mut byte).or(Err(Trap::GP))?;
        Ok(byte[0])
    }

    /// Ten bytes of memory operand.
    fn load_80(&mut self, bus: &mut dyn Bus, op: &Op) -> Flow<[u8; 10]> {
        let at = self.address(op, 10, false)?;
        let low: u64 = self.read(bus, at, op.stack)?;
        let high: u16 = self.read(bus, at.plus(8), op.stack)?;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&high.to_le_bytes());
        Ok(bytes)
    }

    /// Stores ten bytes, or none.
    fn store_80(&mut self, bus: &mut dyn Bus, op: &Op, bytes: [u8; 10]) -> Flow {
        let at = self.address(op, 10, true)?;
        self.probe_write_slow(self.space, at, 10, op.stack)?;
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        self.write(bus, at, op.stack, low)?;
        self.write(bus, at.plus(8), op.stack, u16::from_le_bytes([i, j]))
    }
}

impl Fpu {
    /// Takes up what a computation gave in the status word: its flags, and
    /// the condition codes that `conditions` names. False if an unmasked
    /// exception forbids the result.
    fn complete(&mut self, bits: u16, conditions: u16) -> bool {
        let early = bits & (IE | DE | ZE);
        if self.control().unmasked(early) != 0 {
            self.update_status(C1 | early, early);
            return false;
        }
        let flags = bits & EXCEPTIONS;
        self.update_status(conditions | flags, bits);
        true
    }

    /// A stack underflow: an operand is empty. True if the masked response is
    /// due.
    fn underflow(&mut self) -> bool {
        self.update_status(IE | SF | C1, IE | SF);
        self.control().unmasked(IE) == 0
    }

    /// A stack overflow: what is to be pushed on isn't empty. True if the
    /// masked response is due.
    fn overflow(&mut self) -> bool {
        self.update_status(IE | SF | C1, IE | SF | C1);
        self.control().unmasked(IE) == 0
    }
}
