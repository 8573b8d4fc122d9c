//! Scalar arithmetic without a look at MXCSR, which takes longer than the
//! arithmetic.
//!
//! The law: where a function here gives a result, the instruction itself would
//! give the same and change nothing in MXCSR. That is so for ordinary numbers
//! under the usual MXCSR (everything masked, rounding to nearest) once the
//! inexact flag is set, which in practice the first division does. QEMU's
//! hardfloat rests on the same observation. All else is `None`: the instruction
//! is to be run.

use crate::mxcsr::{DAZ, FTZ, MASKS, PE, ROUNDING};

/// Whether the flag that is left to raise is set already.
#[inline(always)]
fn is_usual(mxcsr: u32) -> bool {
    mxcsr & (MASKS | ROUNDING | FTZ | DAZ | PE) == MASKS | PE
}

macro_rules! width {
    ($width:ident, $bits:ty, $float:ty, $fraction_bits:literal, $exponents:literal) => {
        pub(crate) mod $width {
            use super::is_usual;

            /// `f` of ordinary numbers, where its result is one.
            #[inline(always)]
            pub(crate) fn operate(
                x: $bits,
                y: $bits,
                mxcsr: u32,
                f: impl FnOnce($float, $float) -> $float,
            ) -> Option<$bits> {
                let result = f(<$float>::from_bits(x), <$float>::from_bits(y)).to_bits();
                // Neither zero, nor tiny or rounded up from tiny, nor infinite
                // nor NaN: so nothing was invalid, divided by zero, overflown
                // or underflown.
                let exponent = (result >> $fraction_bits) & ($exponents - 1);
                let is_ordinary = exponent.wrapping_sub(2) < $exponents - 3;
                (is_ordinary && is_usual(mxcsr) && !is_denormal(x) && !is_denormal(y))
                    .then_some(result)
            }

            /// Whether `x` is neither denormal nor NaN: then a comparison or a
            /// widening raises nothing, whatever MXCSR says.
            #[inline(always)]
            pub(crate) fn is_plain(x: $bits) -> bool {
                const INFINITY: $bits = ($exponents - 1) << $fraction_bits;
                !is_denormal(x) && x << 1 <= INFINITY << 1
            }

            #[inline(always)]
            fn is_denormal(x: $bits) -> bool {
                const LEAST_NORMAL: $bits = 1 << $fraction_bits;
                (x << 1).wrapping_sub(1) < (LEAST_NORMAL << 1) - 1
            }
        }
    };
}

width!(single, u32, f32, 23, 0x100);
width!(double, u64, f64, 52, 0x800);

/// A truncation that gives none of `limits`: there the inexact flag alone can
/// have been raised.
#[inline(always)]
pub(crate) fn truncated<T: Copy + PartialEq>(value: T, limits: &[T], mxcsr: u32) -> Option<T> {
    (is_usual(mxcsr) && !limits.contains(&value)).then_some(value)
}

#[cfg(test)]
mod tests {
    use crate::mxcsr::{INITIAL, PE};
    use crate::{convert, float};
    use proptest::prelude::*;

    const USUAL: u32 = INITIAL | PE;

    /// Numbers near every edge.
    fn number() -> impl Strategy<Value = u64> {
        let exponent = prop_oneof![
            0u64..4,
            1000u64..1100,
            2044u64..2048,
            890u64..900,
            1146u64..1156
        ];
        let fraction = prop_oneof![Just(0u64), Just(1), Just((1 << 52) - 1), 0u64..1 << 52];
        (any::<bool>(), exponent, fraction).prop_map(|(sign, exponent, fraction)| {
            u64::from(sign) << 63 | exponent << 52 | fraction
        })
    }

    macro_rules! quick_is_the_instruction {
        ($($name:ident: $function:path;)*) => {
            proptest! {$(
                #[test]
                fn $name(a in number(), b in number(), low_a: u32, low_b: u32, as_single: bool) {
                    let (a, b) = if as_single {
                        // The same edges in the low single.
                        let narrow = |x: u64, low: u32| (x >> 32) as u32 & 0x8000_0000
                            | ((x >> 52 & 0xff) as u32) << 23 | low & 0x7f_ffff;
                        (u128::from(narrow(a, low_a)), u128::from(narrow(b, low_b)))
                    } else {
                        (u128::from(a), u128::from(b))
                    };
                    let mut quick = USUAL;
                    let result = $function(a, b, &mut quick);
                    // With the inexact flag clear the quick way isn't taken.
                    let mut slow = INITIAL;
                    let expected = $function(a, b, &mut slow);
                    prop_assert_eq!(result, expected);
                    prop_assert_eq!(quick, slow | PE);
                }
            )*}
        };
    }

    quick_is_the_instruction! {
        addition: float::addsd;
        subtraction: float::subsd;
        multiplication: float::mulsd;
        division: float::divsd;
        square_root: float::sqrtsd;
        addition_of_singles: float::addss;
        subtraction_of_singles: float::subss;
        multiplication_of_singles: float::mulss;
        division_of_singles: float::divss;
        square_root_of_singles: float::sqrtss;
        truncation: truncate_double;
        truncation_of_singles: truncate_single;
    }

    fn truncate_double(_: u128, b: u128, mxcsr: &mut u32) -> crate::mxcsr::Result<(u32, u64)> {
        Ok((
            convert::cvttsd2si_32(b, mxcsr)?,
            convert::cvttsd2si_64(b, mxcsr)?,
        ))
    }

    fn truncate_single(_: u128, b: u128, mxcsr: &mut u32) -> crate::mxcsr::Result<(u32, u64)> {
        Ok((
            convert::cvttss2si_32(b, mxcsr)?,
            convert::cvttss2si_64(b, mxcsr)?,
        ))
    }
}
