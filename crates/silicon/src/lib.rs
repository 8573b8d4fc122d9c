//! Guest arithmetic done by the host's own instructions: pure functions of
//! their operands.
//!
//! An SSE or MMX instruction is one function here, of its operands' bits (and
//! of the guest's MXCSR, where rounding and exceptions matter) to its result's
//! bits. Most run the very instruction; those whose immediate would have to be
//! a constant, and those whose result depends on the processor's make, are
//! plain code ([`approximate`]).
//!
//! Two laws. *Purity*: a result depends on the arguments alone, so that two
//! hosts agree. *No trap*: a guest's unmasked floating-point exception is a
//! value, [`Unmasked`], never a signal in the host; the host's own MXCSR is
//! what it was when a function returns.
//!
//! An XMM register is a `u128` and an MMX register a `u64`, the lowest lane in
//! the lowest bits.
//!
//! x87 instructions are in [`x87`]. Intel SDM volume 1 chapters 8 to 12, volume
//! 2 for each instruction.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("guest instructions run on the host's own: the host must be x86-64");

pub mod approximate;
pub mod compare;
pub mod convert;
pub mod float;
pub mod fma;
pub mod half;
pub mod integer;
mod lanes;
pub mod mmx;
pub mod mxcsr;
pub mod permute;
mod precise;
mod quick;
mod requirement;
pub mod round;
pub mod shuffle;
pub mod text;
pub mod x87;

pub use mxcsr::Unmasked;
pub use requirement::{Level, Missing, has_bmi2, supported};
