//! x87 arithmetic: pure functions of the control word and the operands.
//!
//! What IEEE 754 defines (add, multiply, square root, conversions, comparisons) is done by the host's own x87 under
//! the guest's rounding and precision control; every make gives the same bits. What it leaves open (sines, logarithms)
//! is computed here in 128-bit arithmetic, because makes differ in the last place. SDM volume 1, chapter 8.
//!
//! The law: a result depends on the arguments alone. Each function starts from a cleared status word and leaves the
//! host's x87 empty, with the default control word.

#[cfg(test)]
mod against_host;
mod arith;
mod atan;
mod c1;
mod constants;
mod convert;
mod exp2;
mod f80;
mod log2;
mod remainder;
mod trig;
mod wide;
mod word;

pub use arith::{
    Binary, Compared, fadd, fadd_f32, fadd_f64, fadd_i16, fadd_i32, fcom, fcom_f32, fcom_f64,
    fcom_i16, fcom_i32, fdiv, fdiv_f32, fdiv_f64, fdiv_i16, fdiv_i32, fdivr, fdivr_f32, fdivr_f64,
    fdivr_i16, fdivr_i32, fmul, fmul_f32, fmul_f64, fmul_i16, fmul_i32, frndint, fscale, fsqrt,
    fsub, fsub_f32, fsub_f64, fsub_i16, fsub_i32, fsubr, fsubr_f32, fsubr_f64, fsubr_i16,
    fsubr_i32, ftst, fucom, fxtract,
};
pub use atan::fpatan;
pub use c1::comparisons_keep_c1;
pub use constants::{Constant, constant};
pub use convert::{
    from_bcd, from_f32, from_f64, from_i16, from_i32, from_i64, to_bcd, to_f32, to_f64, to_i16,
    to_i16_truncated, to_i32, to_i32_truncated, to_i64, to_i64_truncated,
};
pub use exp2::f2xm1;
pub use f80::{F80, Kind};
pub use log2::{fyl2x, fyl2xp1};
pub use remainder::{fprem, fprem1};
pub use trig::{fcos, fptan, fsin, fsincos};
pub use word::{Control, Rounding, status};

/// A result and the status-word bits its computation set: the exception flags (without SF), C1 for the direction of
/// rounding, C0, C2 and C3 where the instruction defines them. All other bits are zero.
///
/// Where the guest unmasks overflow or underflow and one happens, the value is the one with the biased exponent that
/// the SDM defines for a register destination (volume 1, 8.5.4 and 8.5.5). Where it unmasks invalid operation, denormal
/// operand or zero divide, the value is the masked response, and the caller must not store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done<T = F80> {
    /// The value to store.
    pub value: T,
    /// The bits to merge into the status word.
    pub status: u16,
}

/// The values of an instruction that replaces the top of the stack and then pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Replaces the old top, so it ends in ST(1).
    pub replaced: F80,
    /// Is pushed, so it ends in ST(0).
    pub pushed: F80,
}
