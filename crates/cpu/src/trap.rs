//! What ends an instruction other than its completion.

use std::fmt;

/// The outcome of a piece of an instruction.
pub type Flow<T = ()> = Result<T, Trap>;

/// Why an instruction did not simply complete: mostly a *fault*, the guest's
/// own doing, to be delivered to it. One word, so that a [`Flow`] travels in
/// registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trap(u64);

const HAS_CODE: u64 = 1 << 8;
const KIND: u64 = 0xf << 60;
const FAULT: u64 = 0 << 60;

impl Trap {
    /// The instruction made progress and is to be started again where it
    /// stands: a repeated string instruction at a point where it can be
    /// interrupted.
    pub const AGAIN: Trap = Trap(1 << 60);
    /// A triple fault.
    pub const SHUTDOWN: Trap = Trap(2 << 60);

    /// Exception `vector`, without an error code.
    pub const fn fault(vector: u8) -> Trap {
        Trap(FAULT | vector as u64)
    }

    /// Exception `vector` with error code `code`.
    pub const fn with_code(vector: u8, code: u32) -> Trap {
        Trap(FAULT | HAS_CODE | (code as u64) << 16 | vector as u64)
    }

    /// `#UD`.
    pub const UD: Trap = Trap::fault(x86::vector::UD);
    /// `#GP(0)`.
    pub const GP: Trap = Trap::with_code(x86::vector::GP, 0);
    /// `#SS(0)`.
    pub const SS: Trap = Trap::with_code(x86::vector::SS, 0);
    /// `#NM`.
    pub const NM: Trap = Trap::fault(x86::vector::NM);

    /// The exception's vector and error code, where it is one.
    pub const fn exception(self) -> Option<(u8, Option<u32>)> {
        if self.0 & KIND != FAULT {
            return None;
        }
        let code = if self.0 & HAS_CODE != 0 {
            Some((self.0 >> 16) as u32)
        } else {
            None
        };
        Some((self.0 as u8, code))
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.exception()) {
            (Trap::AGAIN, _) => write!(f, "again"),
            (Trap::SHUTDOWN, _) => write!(f, "shutdown"),
            (_, Some((vector, code))) => {
                write!(f, "{}", x86::vector::mnemonic(vector).unwrap_or("vector"))?;
                code.map_or(Ok(()), |code| write!(f, "({code:#x})"))
            }
            (_, None) => write!(f, "trap {:#x}", self.0),
        }
    }
}
