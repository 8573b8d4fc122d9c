//! Where a run is: the one clock of the machine.
//!
//! A [`Moment`] names a point between two instructions of a run. Between two
//! branches code is straight, so the triple of branches retired, program
//! counter and (inside a repeated string instruction) `rcx` is unique. The
//! same type serves the log, the reports and every question "where?".

use std::fmt;

/// A point between two instructions of a run.
///
/// `branches` counts every transfer of control since the machine's start:
/// jumps taken or not, calls, returns, `syscall`, `sysret`, `iret`, and each
/// exception and interrupt delivered. A repeated string instruction counts one
/// each time an iteration leaves its count register at a multiple of 65,536
/// other than 0, so that none runs for ever between two branches. A halted
/// processor counts one each time its machine's time is moved on to the next
/// timer, so that each stretch of idleness has a moment of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Transfers of control retired since the start.
    pub branches: u64,
    /// `RIP` of the next instruction.
    pub pc: u64,
    /// `RCX`, where the next instruction is a repeated string instruction
    /// that has begun and not ended; 0 elsewhere.
    pub rcx: u64,
}

impl Moment {
    /// The start of every run, before its first instruction at `pc`.
    pub const fn start(pc: u64) -> Moment {
        Moment {
            branches: 0,
            pc,
            rcx: 0,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:#x}", self.branches, self.pc)?;
        if self.rcx != 0 {
            write!(f, "+rcx={:#x}", self.rcx)?;
        }
        Ok(())
    }
}
