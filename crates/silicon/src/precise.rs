//! The flags of an arithmetic instruction whose overflow or underflow is not
//! masked, lane by lane (SDM volume 1, 4.9.1.4 to 4.9.1.6).
//!
//! Unmasked, both are judged on the result rounded as if the exponent had no
//! bounds: a tiny result underflows even if it is exact, and the result is
//! inexact only if that rounding lost something. Both can be had from the
//! masked instruction: the second by running it on operands of moderate size
//! with the same significands. All this is rare, so it is written to be plain.

use crate::float::{raw_narrow, raw_scalar_double, raw_scalar_single};
use crate::mxcsr::{OE, PE, UE, control, unmasked};

/// An operation whose result may overflow or be tiny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

/// The flags with the guest's masks, of those the masked instruction `raised`,
/// whose result was `tiny`; `unbounded` says whether the result is inexact if
/// the exponent has no bounds.
fn judge(mxcsr: u32, raised: u32, tiny: bool, unbounded: impl FnOnce() -> bool) -> u32 {
    let unmasked = unmasked(mxcsr);
    let event = if (tiny || raised & UE != 0) && unmasked & UE != 0 {
        UE
    } else if raised & OE != 0 && unmasked & OE != 0 {
        OE
    } else {
        return raised;
    };
    raised & !PE | event | if unbounded() { PE } else { 0 }
}

macro_rules! width {
    ($name:ident, $bits:ty, $run:path, $fraction_bits:literal, $bias:literal) => {
        /// What one lane's `operation` raises with the guest's masks.
        pub(crate) fn $name(operation: Operation, x: $bits, y: $bits, mxcsr: u32) -> u32 {
            const FRACTION: $bits = (1 << $fraction_bits) - 1;
            const EXPONENT: $bits = (2 * $bias + 1) << $fraction_bits;
            const SIGN: $bits = 1 << (<$bits>::BITS - 1);
            /// The significand of a finite number that is not zero, with an
            /// exponent of 0.
            fn moderate(x: $bits) -> $bits {
                let sign = x & SIGN;
                if x & EXPONENT != 0 {
                    return sign | $bias << $fraction_bits | x & FRACTION;
                }
                let shift = (x & FRACTION).leading_zeros() - (<$bits>::BITS - 1 - $fraction_bits);
                sign | $bias << $fraction_bits | x << shift & FRACTION
            }
            let (result, raised) = $run(operation, x, y, control(mxcsr));
            let tiny = result & EXPONENT == 0 && result & FRACTION != 0;
            judge(mxcsr, raised, tiny, || match operation {
                Operation::Mul | Operation::Div => {
                    $run(operation, moderate(x), moderate(y), control(mxcsr)).1 & PE != 0
                }
                // A tiny sum is always exact.
                Operation::Add | Operation::Sub if raised & OE == 0 => false,
                // One operand is huge: far above the other, the sum is inexact
                // (unless that is zero, but then it doesn't overflow); else
                // both can be made smaller without becoming denormal.
                Operation::Add | Operation::Sub => {
                    const SMALLER: $bits = 8 << $fraction_bits;
                    let (ex, ey) = (x & EXPONENT, y & EXPONENT);
                    ex.abs_diff(ey) >= ($fraction_bits + 8) << $fraction_bits
                        || $run(operation, x - SMALLER, y - SMALLER, control(mxcsr)).1 & PE != 0
                }
            })
        }
    };
}

width!(single, u32, raw_scalar_single, 23, 127);
width!(double, u64, raw_scalar_double, 52, 1023);

/// What the conversion of one double to a single raises with the guest's masks.
pub(crate) fn narrow(x: u64, mxcsr: u32) -> u32 {
    let (result, raised) = raw_narrow(x, control(mxcsr));
    let tiny = result & 0x7f80_0000 == 0 && result & 0x007f_ffff != 0;
    // A denormal double is below the smallest single by more than 2^800: its
    // significand alone decides.
    judge(mxcsr, raised, tiny, || {
        let fraction = x & ((1 << 52) - 1);
        if x >> 52 & 0x7ff != 0 {
            return fraction & ((1 << 29) - 1) != 0;
        }
        64 - fraction.leading_zeros() - fraction.trailing_zeros().min(63) > 24
    })
}
