//! Reciprocals and reciprocal square roots of singles, defined here because
//! each make of processor has its own (SDM volume 2, `RCPPS`, `RSQRTPS`).
//!
//! The manual asks for a relative error of at most 1.5 * 2^-12. Here a result
//! is the true value rounded to 13 significant bits, halves up, so its error is
//! at most 2^-13. A denormal operand counts as a zero, a tiny result becomes
//! one. No exception is raised, and MXCSR is neither read nor written.

use crate::lanes::{doubles, from_doubles};

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = 0xff << FRACTION_BITS;
const FRACTION_BITS: u32 = 23;
const FRACTION: u32 = (1 << FRACTION_BITS) - 1;
const QUIET: u32 = 1 << (FRACTION_BITS - 1);
const INDEFINITE: u32 = SIGN | INFINITY | QUIET;
/// Fraction bits of a result.
const KEPT_BITS: u32 = 12;

/// `RCPSS` on one lane.
pub fn reciprocal(x: u32) -> u32 {
    let sign = x & SIGN;
    let exponent = x >> FRACTION_BITS & 0xff;
    let fraction = x & FRACTION;
    match exponent {
        0 => return sign | INFINITY,
        0xff if fraction != 0 => return x | QUIET,
        0xff => return sign,
        _ => {}
    }
    // 1/significand with 13 fraction bits and one more to round by; in
    // 0x2000..=0x4000 for a significand from 2 (not reached) down to 1.
    let significand = u64::from(fraction | 1 << FRACTION_BITS);
    let quotient = (1 << (FRACTION_BITS + KEPT_BITS + 2)) / significand;
    let rounded = (quotient as u32).div_ceil(2);
    // `rounded` is 1/significand in units of 2^-13: 0x2000 stands for 1.
    let (rounded, power) = match rounded {
        0x2000 => (0x1000, 0),
        rounded => (rounded, -1),
    };
    pack(sign, rounded, 127 - (exponent as i32 - 127) + power)
}

/// `RSQRTSS` on one lane.
pub fn reciprocal_square_root(x: u32) -> u32 {
    let sign = x & SIGN;
    let exponent = x >> FRACTION_BITS & 0xff;
    let fraction = x & FRACTION;
    match exponent {
        0 => return sign | INFINITY,
        0xff if fraction != 0 => return x | QUIET,
        _ if sign != 0 => return INDEFINITE,
        0xff => return 0,
        _ => {}
    }
    // The operand is m * 4^half with m in 1..4, in units of 2^-23.
    let power = exponent as i32 - 127;
    let half = power.div_euclid(2);
    let m = u64::from(fraction | 1 << FRACTION_BITS) << power.rem_euclid(2);
    // 1/sqrt(m), in 1/2..=1, in units of 2^-14, rounded down: the largest r
    // with r * r * m <= 2^(28 + 23).
    let root = ((1_u64 << (2 * 14 + FRACTION_BITS)) / m).isqrt() as u32;
    let rounded = root.div_ceil(2);
    let (rounded, power) = match rounded {
        0x2000 => (0x1000, 0),
        rounded => (rounded, -1),
    };
    pack(0, rounded, 127 - half + power)
}

/// A single from a significand of `KEPT_BITS` fraction bits, 1 or more and
/// below 2, and a biased exponent. Below the normal ones it is a zero.
fn pack(sign: u32, significand: u32, biased_exponent: i32) -> u32 {
    if biased_exponent <= 0 {
        return sign;
    }
    let fraction = (significand << (FRACTION_BITS - KEPT_BITS)) & FRACTION;
    sign | (biased_exponent as u32) << FRACTION_BITS | fraction
}

/// `rcpps a, b`: the new `a`.
pub fn rcpps(b: u128) -> u128 {
    from_doubles(doubles(b).map(reciprocal))
}

/// `rcpss a, b`: the new `a`.
pub fn rcpss(a: u128, b: u128) -> u128 {
    lowest(a, reciprocal(b as u32))
}

/// `rsqrtps a, b`: the new `a`.
pub fn rsqrtps(b: u128) -> u128 {
    from_doubles(doubles(b).map(reciprocal_square_root))
}

/// `rsqrtss a, b`: the new `a`.
pub fn rsqrtss(a: u128, b: u128) -> u128 {
    lowest(a, reciprocal_square_root(b as u32))
}

fn lowest(a: u128, single: u32) -> u128 {
    a & !u128::from(u32::MAX) | u128::from(single)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(result: u32, truth: f64) -> bool {
        let result = f64::from(f32::from_bits(result));
        (result / truth - 1.0).abs() <= 2f64.powi(-13)
    }

    #[test]
    fn powers_of_two_are_exact() {
        assert_eq!(f32::from_bits(reciprocal(4f32.to_bits())), 0.25);
        assert_eq!(f32::from_bits(reciprocal((-0.5f32).to_bits())), -2.0);
        assert_eq!(
            f32::from_bits(reciprocal_square_root(16f32.to_bits())),
            0.25
        );
        assert_eq!(
            f32::from_bits(reciprocal_square_root(0.25f32.to_bits())),
            2.0
        );
    }

    #[test]
    fn special_operands_are_as_the_manual_says() {
        let (inf, nan) = (f32::INFINITY.to_bits(), 0x7f80_0001);
        assert_eq!(reciprocal(SIGN), SIGN | inf);
        assert_eq!(reciprocal(1), inf);
        assert_eq!(reciprocal(SIGN | inf), SIGN);
        assert_eq!(reciprocal(nan), 0x7fc0_0001);
        assert_eq!(reciprocal_square_root(SIGN), SIGN | inf);
        assert_eq!(reciprocal_square_root(SIGN | 1), SIGN | inf);
        assert_eq!(reciprocal_square_root((-1f32).to_bits()), INDEFINITE);
        assert_eq!(reciprocal_square_root(SIGN | inf), INDEFINITE);
        assert_eq!(reciprocal_square_root(inf), 0);
        assert_eq!(reciprocal_square_root(SIGN | nan), SIGN | 0x7fc0_0001);
    }

    #[test]
    fn a_tiny_reciprocal_is_zero() {
        assert_eq!(
            reciprocal(0x7e80_0c01),
            0,
            "1.00000000000110000000001 * 2^126"
        );
        assert_ne!(
            reciprocal(0x7e7f_e800),
            0,
            "1.11111111110100000000000 * 2^125"
        );
    }

    proptest! {
        #[test]
        fn the_error_is_within_bounds(bits in 0x0080_0000_u32..0x7e80_0000) {
            let x = f64::from(f32::from_bits(bits));
            prop_assert!(close(reciprocal(bits), x.recip()));
            prop_assert!(close(reciprocal_square_root(bits), x.sqrt().recip()));
        }
    }
}
