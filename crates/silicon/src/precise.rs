//! The flags of an arithmetic instruction whose overflow or underflow is not
//! masked, lane by lane (SDM volume 1, 4.9.1.4 to 4.9.1.6).
//!
//! Unmasked, both are judged on the result rounded as if the exponent had no
//! bounds: a tiny result underflows even if it is exact, and the result is
//! inexact only if that rounding lost something. Both can be had from the
//! masked instruction: the second by running it on operands of moderate size
//! with the same significands. All this is rare, so it is written to be plain.

use crate::float::{raw_narrow, raw_scalar_double, raw_scalar_single};
use crate::fma::{raw_double, raw_single};
use crate::mxcsr::{DAZ, OE, PE, UE, control, unmasked};

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

/// What the conversion of one single to a half raises with the guest's masks;
/// `run` does it under a control word.
pub(crate) fn halve(x: u32, mxcsr: u32, run: impl FnOnce(u32, u32) -> (u16, u32)) -> u32 {
    let (result, raised) = run(x, control(mxcsr));
    let tiny = result & 0x7c00 == 0 && result & 0x03ff != 0;
    // As in `narrow`.
    judge(mxcsr, raised, tiny, || {
        let fraction = x & ((1 << 23) - 1);
        if x >> 23 & 0xff != 0 {
            return fraction & ((1 << 13) - 1) != 0;
        }
        32 - fraction.leading_zeros() - fraction.trailing_zeros().min(31) > 11
    })
}

macro_rules! fused {
    ($name:ident, $bits:ty, $run:path, $fraction_bits:literal, $exponents:literal) => {
        /// What one lane's `x * y + z` raises with the guest's masks.
        pub(crate) fn $name(x: $bits, y: $bits, z: $bits, mxcsr: u32) -> u32 {
            const FRACTION: $bits = (1 << $fraction_bits) - 1;
            /// A finite number's significand and exponent, and whether it is
            /// negative.
            fn number(x: $bits, mxcsr: u32) -> Number {
                let exponent = x >> $fraction_bits & ($exponents - 1);
                let significand = match exponent {
                    0 if mxcsr & DAZ != 0 => 0,
                    0 => x & FRACTION,
                    _ => x & FRACTION | 1 << $fraction_bits,
                };
                Number {
                    significand: significand.into(),
                    exponent: exponent.max(1) as i32,
                    negative: x >> (<$bits>::BITS - 1) != 0,
                }
            }
            let (result, raised) = $run(x, y, z, control(mxcsr));
            let exponent = result >> $fraction_bits & ($exponents - 1);
            let tiny = exponent == 0 && result & FRACTION != 0;
            judge(mxcsr, raised, tiny, || {
                const BIAS: i32 = $exponents / 2 - 1 + $fraction_bits;
                let product = number(x, mxcsr).times(number(y, mxcsr), BIAS);
                product.sum_has_more_bits(number(z, mxcsr), $fraction_bits + 1)
            })
        }
    };
}

fused!(fused_single, u32, raw_single, 23, 0x100);
fused!(fused_double, u64, raw_double, 52, 0x800);

/// `significand * 2^exponent`; of the product of two doubles at most.
#[derive(Clone, Copy, Debug)]
struct Number {
    significand: u128,
    exponent: i32,
    negative: bool,
}

impl Number {
    /// The product of two numbers whose exponents count from `bias` below.
    fn times(self, other: Number, bias: i32) -> Number {
        Number {
            significand: self.significand * other.significand,
            exponent: self.exponent + other.exponent - bias,
            negative: self.negative != other.negative,
        }
    }

    /// The same number with an odd significand; 0 stays.
    fn odd(self) -> Number {
        let zeros = self.significand.trailing_zeros() % 128;
        Number {
            significand: self.significand >> zeros,
            exponent: self.exponent + zeros as i32,
            ..self
        }
    }

    /// Whether the exact sum has more than `bits` bits from its first one to
    /// its last one.
    fn sum_has_more_bits(self, other: Number, bits: u32) -> bool {
        let (a, b) = (self.odd(), other.odd());
        if a.significand == 0 || b.significand == 0 {
            return 128 - (a.significand | b.significand).leading_zeros() > bits;
        }
        let (low, high) = if a.exponent <= b.exponent {
            (a, b)
        } else {
            (b, a)
        };
        let apart = (high.exponent - low.exponent).cast_unsigned();
        // A significand has at most 106 bits: from here on the high number is
        // far above the low one, whose lowest bit is the sum's.
        if 128 - high.significand.leading_zeros() + apart > 120 {
            return true;
        }
        let signed = |number: Number, shift: u32| {
            let value = (number.significand << shift).cast_signed();
            if number.negative { -value } else { value }
        };
        let sum = (signed(high, apart) + signed(low, 0)).unsigned_abs();
        let sum = sum >> (sum.trailing_zeros() % 128);
        128 - sum.leading_zeros() > bits
    }
}
