//! Floating point with 128 bits of significand, truncated: what the transcendental functions are computed in, and the
//! one rounding at their end.
//!
//! The law: integer operations only, so that every host gives the same bits.

use super::{Control, Done, F80, Kind, Rounding, status};

/// `(-1)^negative * mantissa / 2^127 * 2^exponent`, with the mantissa's top bit set, or zero with the mantissa zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) negative: bool,
    pub(super) exponent: i32,
    pub(super) mantissa: u128,
}

/// One, as a fixed-point fraction of 2^127.
pub(super) const ONE: u128 = 1 << 127;

/// The upper half of the 256-bit product.
pub(super) fn multiply_high(a: u128, b: u128) -> u128 {
    multiply(a, b).0
}

/// The 256-bit product: upper and lower half.
fn multiply(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (low, middle_a, middle_b, high) = (a0 * b0, a1 * b0, a0 * b1, a1 * b1);
    let carry = (low >> 64) + (middle_a & LOW) + (middle_b & LOW);
    (
        high + (middle_a >> 64) + (middle_b >> 64) + (carry >> 64),
        (carry << 64) | (low & LOW),
    )
}

/// One divided by `n`, as a fraction of 2^128, for `n` of at least two.
pub(super) const fn reciprocal(n: u128) -> u128 {
    u128::MAX / n
}

impl Wide {
    pub(super) const ZERO: Wide = Wide {
        negative: false,
        exponent: 0,
        mantissa: 0,
    };

    pub(super) const fn new(exponent: i32, mantissa: u128) -> Wide {
        Wide {
            negative: false,
            exponent,
            mantissa,
        }
    }

    /// `mantissa / 2^127 * 2^exponent`, brought to the normal form.
    pub(super) fn normalised(negative: bool, exponent: i32, mantissa: u128) -> Wide {
        if mantissa == 0 {
            return Wide {
                negative,
                ..Wide::ZERO
            };
        }
        let shift = mantissa.leading_zeros();
        Wide {
            negative,
            exponent: exponent - shift.cast_signed(),
            mantissa: mantissa << shift,
        }
    }

    /// A fixed-point fraction of 2^127.
    pub(super) fn from_fixed(fraction: u128) -> Wide {
        Wide::normalised(false, 0, fraction)
    }

    /// An integer, exactly.
    pub(super) fn from_integer(value: i32) -> Wide {
        Wide::normalised(value < 0, 127, u128::from(value.unsigned_abs()))
    }

    /// A finite number, exactly.
    pub(super) fn from_finite(value: F80) -> Wide {
        debug_assert!(matches!(
            value.kind(),
            Kind::Zero | Kind::Denormal | Kind::Normal
        ));
        let exponent = i32::from(value.biased_exponent().max(1)) - 16383;
        Wide::normalised(
            value.is_negative(),
            exponent,
            u128::from(value.mantissa) << 64,
        )
    }

    pub(super) fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    pub(super) fn with_sign(self, negative: bool) -> Wide {
        Wide { negative, ..self }
    }

    pub(super) fn negated(self) -> Wide {
        self.with_sign(!self.negative)
    }

    /// Times two to the given power.
    pub(super) fn scaled(self, power: i32) -> Wide {
        Wide {
            exponent: self.exponent + power,
            ..self
        }
    }

    /// The magnitude as a fixed-point fraction of 2^128, truncated, for magnitudes below one.
    pub(super) fn to_fraction(self) -> u128 {
        debug_assert!(self.is_zero() || self.exponent < 0);
        self.mantissa
            .checked_shr((-1 - self.exponent).unsigned_abs())
            .unwrap_or(0)
    }

    /// The product; exact where it fits 128 bits.
    pub(super) fn times(self, other: Wide) -> Wide {
        let (high, low) = multiply(self.mantissa, other.mantissa);
        let negative = self.negative != other.negative;
        let exponent = self.exponent + other.exponent;
        if high == 0 {
            return Wide {
                negative,
                ..Wide::ZERO
            };
        }
        if high >= ONE {
            return Wide {
                negative,
                exponent: exponent + 1,
                mantissa: high,
            };
        }
        Wide {
            negative,
            exponent,
            mantissa: (high << 1) | (low >> 127),
        }
    }

    /// The sum; a smaller operand is truncated where the greater ends.
    pub(super) fn plus(self, other: Wide) -> Wide {
        if self.is_zero() {
            return other;
        }
        if other.is_zero() {
            return self;
        }
        let self_is_greater = (self.exponent, self.mantissa) >= (other.exponent, other.mantissa);
        let (greater, smaller) = if self_is_greater {
            (self, other)
        } else {
            (other, self)
        };
        let distance = greater.exponent.abs_diff(smaller.exponent);
        let aligned = smaller.mantissa.checked_shr(distance).unwrap_or(0);
        if greater.negative != smaller.negative {
            return Wide::normalised(
                greater.negative,
                greater.exponent,
                greater.mantissa - aligned,
            );
        }
        match greater.mantissa.overflowing_add(aligned) {
            (sum, false) => Wide {
                mantissa: sum,
                ..greater
            },
            (sum, true) => Wide {
                mantissa: (sum >> 1) | ONE,
                exponent: greater.exponent + 1,
                ..greater
            },
        }
    }

    /// The quotient by a divisor that isn't zero, and whether it is exact.
    pub(super) fn divided_by(self, divisor: Wide) -> (Wide, bool) {
        debug_assert!(!divisor.is_zero());
        let negative = self.negative != divisor.negative;
        if self.is_zero() {
            return (
                Wide {
                    negative,
                    ..Wide::ZERO
                },
                true,
            );
        }
        let mut exponent = self.exponent - divisor.exponent;
        let mut remainder = self.mantissa;
        let mut overflows = false;
        if remainder < divisor.mantissa {
            exponent -= 1;
            overflows = remainder >= ONE;
            remainder <<= 1;
        }
        let mut quotient = 0_u128;
        for _ in 0..128 {
            quotient <<= 1;
            if overflows || remainder >= divisor.mantissa {
                remainder = remainder.wrapping_sub(divisor.mantissa);
                quotient |= 1;
            }
            overflows = remainder >= ONE;
            remainder <<= 1;
        }
        (
            Wide {
                negative,
                exponent,
                mantissa: quotient,
            },
            remainder == 0 && !overflows,
        )
    }

    /// The same moved by the least amount towards or away from zero: for a value that is known to lie strictly beside
    /// what 128 bits can say. Not for zero.
    pub(super) fn nudged(self, outwards: bool) -> Wide {
        if outwards {
            return Wide {
                mantissa: self.mantissa | 1,
                ..self
            };
        }
        if self.mantissa == ONE {
            return Wide {
                mantissa: u128::MAX,
                exponent: self.exponent - 1,
                ..self
            };
        }
        Wide {
            mantissa: self.mantissa - 1,
            ..self
        }
    }

    /// Rounded to 64 bits of significand by the rounding control (transcendental functions don't obey the precision
    /// control, SDM volume 1, 8.1.5.2), with the flags. `is_exact`: the value is no approximation.
    pub(super) fn rounded(self, control: Control, is_exact: bool) -> Done {
        use status::{C1, OE, PE, UE};
        if self.is_zero() {
            return Done {
                value: F80::ZERO.with_sign(self.negative),
                status: 0,
            };
        }
        let rounding = control.rounding();
        let unbounded = self.cut(64, rounding, is_exact);
        let exponent = self.exponent + 16383 + i32::from(unbounded.carried);
        if exponent >= 0x7fff && control.unmasked(OE) == 0 {
            return overflowed(self.negative, rounding);
        }
        if exponent <= 0 && control.unmasked(UE) == 0 {
            let shift = (1 - (self.exponent + 16383)).unsigned_abs();
            let cut = self.cut(64 + shift, rounding, is_exact);
            // A carry into bit 63 makes it the least normal number.
            let field = u16::from(cut.mantissa >> 63 != 0);
            let value = F80 {
                mantissa: cut.mantissa,
                sign_exp: field,
            }
            .with_sign(self.negative);
            let flags = if cut.inexact { UE | PE } else { 0 };
            return Done {
                value,
                status: flags | if cut.up { C1 } else { 0 },
            };
        }
        let (bias, flag) = match exponent {
            0x7fff.. => (-24576, OE),
            ..=0 => (24576, UE),
            _ => (0, 0),
        };
        let field =
            u16::try_from((exponent + bias).clamp(1, 0x7ffe)).expect("clamped to fifteen bits");
        let value = F80 {
            mantissa: unbounded.mantissa,
            sign_exp: field,
        }
        .with_sign(self.negative);
        let precision = if unbounded.inexact { PE } else { 0 };
        Done {
            value,
            status: flag | precision | if unbounded.up { C1 } else { 0 },
        }
    }

    /// The mantissa without its lowest `bits` (at least 64), rounded.
    fn cut(self, bits: u32, rounding: Rounding, is_exact: bool) -> Cut {
        let kept = self.mantissa.checked_shr(bits).unwrap_or(0);
        let half_bit = bits - 1;
        let half = half_bit < 128 && (self.mantissa >> half_bit) & 1 == 1;
        let below = if half_bit >= 128 {
            self.mantissa
        } else {
            self.mantissa & ((1 << half_bit) - 1)
        };
        let rest = below != 0 || !is_exact;
        let up = match rounding {
            Rounding::Nearest => half && (rest || kept & 1 == 1),
            _ => (half || rest) && rounding.is_away_from_zero(self.negative),
        };
        let mantissa = u64::try_from(kept).expect("at least 64 of 128 bits are dropped");
        let (rounded, carried) = mantissa.overflowing_add(u64::from(up));
        Cut {
            mantissa: if carried { 1 << 63 } else { rounded },
            carried,
            up,
            inexact: half || rest,
        }
    }
}

struct Cut {
    mantissa: u64,
    /// The mantissa went to the next power of two.
    carried: bool,
    up: bool,
    inexact: bool,
}

/// The masked response to an overflow.
fn overflowed(negative: bool, rounding: Rounding) -> Done {
    use status::{C1, OE, PE};
    let to_infinity = rounding == Rounding::Nearest || rounding.is_away_from_zero(negative);
    let (value, direction) = if to_infinity {
        (F80::INFINITY, C1)
    } else {
        (F80::MAX, 0)
    };
    Done {
        value: value.with_sign(negative),
        status: OE | PE | direction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finite() -> impl Strategy<Value = F80> {
        (any::<u64>(), any::<bool>(), 0x3f00_u16..0x40ff).prop_map(
            |(mantissa, negative, sign_exp)| {
                F80 {
                    mantissa: mantissa | 1 << 63,
                    sign_exp,
                }
                .with_sign(negative)
            },
        )
    }

    proptest! {
        #[test]
        fn products_quotients_and_sums_round_as_the_host_rounds(a in finite(), b in finite(), rc in 0_u16..4) {
            let control = Control(0x037f | rc << 10);
            let (wide_a, wide_b) = (Wide::from_finite(a), Wide::from_finite(b));
            prop_assert_eq!(wide_a.times(wide_b).rounded(control, true), crate::x87::fmul(control, a, b));
            let (quotient, is_exact) = wide_a.divided_by(wide_b);
            prop_assert_eq!(quotient.rounded(control, is_exact), crate::x87::fdiv(control, a, b));
            if a.biased_exponent().abs_diff(b.biased_exponent()) < 60 {
                prop_assert_eq!(wide_a.plus(wide_b).rounded(control, true), crate::x87::fadd(control, a, b));
            }
        }

        #[test]
        fn overflow_and_underflow_round_as_the_host_rounds(
            a in finite(), b in finite(), rc in 0_u16..4, far in prop::bool::ANY, masks in 0_u16..4,
        ) {
            let control = Control(0x0367 | masks << 3 | rc << 10);
            let base = if far { 0x7f00 } else { 1 };
            let a = F80 { mantissa: a.mantissa, sign_exp: (a.sign_exp & 0x807f) + base };
            let product = Wide::from_finite(a).times(Wide::from_finite(b));
            prop_assert_eq!(product.rounded(control, true), crate::x87::fmul(control, a, b));
        }
    }
}
