//! Conversions between singles, doubles and integers (SDM volume 1, 11.4.1.6
//! and table 11-1; volume 2, `CVT...`).

use crate::float::{bounded, run};
use crate::lanes::{bits, quads, vector};
use crate::mxcsr::{FLAGS, Result, control, settle, under_guest_mxcsr};
use crate::{precise, quick};

// Scalar ones keep the lanes of `a` above the one written; packed ones replace
// all of `a`. A packed source narrower than a register lies in its low half.
bounded! {
    cvtdq2ps; cvtps2dq; cvttps2dq;
    cvtdq2pd; cvtpd2dq; cvttpd2dq;
    cvtps2pd;
    cvtss2sd: |a, b, _| widened(a, b as u32);
}

/// `cvtss2sd` of a number that raises nothing.
#[inline(always)]
fn widened(a: u128, x: u32) -> Option<u128> {
    let result = f64::from(f32::from_bits(x)).to_bits();
    quick::single::is_plain(x).then(|| a & !u128::from(u64::MAX) | u128::from(result))
}

/// `cvtsd2ss a, b`: the new `a`.
#[inline]
pub fn cvtsd2ss(a: u128, b: u128, mxcsr: &mut u32) -> Result<u128> {
    let mut control = control(*mxcsr);
    let result = run!(cvtsd2ss, a, b, control);
    settle(mxcsr, control, |guest| precise::narrow(b as u64, guest))?;
    Ok(result)
}

/// `cvtpd2ps a, b`: the new `a`, whose high half is 0.
#[inline]
pub fn cvtpd2ps(a: u128, b: u128, mxcsr: &mut u32) -> Result<u128> {
    let mut control = control(*mxcsr);
    let result = run!(cvtpd2ps, a, b, control);
    settle(mxcsr, control, |guest| {
        quads(b)
            .into_iter()
            .fold(0, |raised, x| raised | precise::narrow(x, guest))
    })?;
    Ok(result)
}

/// From a general register to the lowest lane.
macro_rules! from_general {
    ($($name:ident: $op:literal, $type:ty;)*) => {$(
        #[doc = concat!("`", $op, "`: the new `a`, whose lanes above the lowest stay.")]
        #[inline]
        pub fn $name(a: u128, b: $type, mxcsr: &mut u32) -> Result<u128> {
            let mut control = control(*mxcsr);
            let mut result = vector(a);
            // SAFETY: as in `float::run`.
            unsafe {
                under_guest_mxcsr!(
                    control,
                    [$op],
                    a = inout(xmm_reg) result,
                    b = in(reg) b,
                    options(nostack),
                );
            }
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(bits(result))
        }
    )*};
}

from_general! {
    cvtsi2ss_32: "cvtsi2ss {a}, {b:e}", u32;
    cvtsi2ss_64: "cvtsi2ss {a}, {b:r}", u64;
    cvtsi2sd_64: "cvtsi2sd {a}, {b:r}", u64;
}

/// `cvtsi2sd a, r32`: the new `a`, whose high half stays. It is always exact,
/// so that MXCSR doesn't matter.
#[inline]
pub fn cvtsi2sd_32(a: u128, b: u32, _: &mut u32) -> Result<u128> {
    let result = f64::from(b.cast_signed()).to_bits();
    Ok(a & !u128::from(u64::MAX) | u128::from(result))
}

/// From the lowest lane to a general register.
macro_rules! to_general {
    ($($name:ident: $op:literal, $type:ty $(, $quick:expr)?;)*) => {$(
        #[doc = concat!("`", $op, "`: the new general register.")]
        /// What doesn't fit becomes the most negative integer.
        #[inline]
        pub fn $name(b: u128, mxcsr: &mut u32) -> Result<$type> {
            $(if let Some(result) = $quick(b, *mxcsr) {
                return Ok(result);
            })?
            let mut control = control(*mxcsr);
            let result: $type;
            // SAFETY: as in `float::run`.
            unsafe {
                under_guest_mxcsr!(
                    control,
                    [$op],
                    a = out(reg) result,
                    b = in(xmm_reg) vector(b),
                    options(nostack),
                );
            }
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(result)
        }
    )*};
}

to_general! {
    cvtss2si_32: "cvtss2si {a:e}, {b}", u32;
    cvtss2si_64: "cvtss2si {a:r}, {b}", u64;
    cvttss2si_32: "cvttss2si {a:e}, {b}", u32, |b, m| truncated_32(f32::from_bits(b as u32) as i32, m);
    cvttss2si_64: "cvttss2si {a:r}, {b}", u64, |b, m| truncated_64(f32::from_bits(b as u32) as i64, m);
    cvtsd2si_32: "cvtsd2si {a:e}, {b}", u32;
    cvtsd2si_64: "cvtsd2si {a:r}, {b}", u64;
    cvttsd2si_32: "cvttsd2si {a:e}, {b}", u32, |b, m| truncated_32(f64::from_bits(b as u64) as i32, m);
    cvttsd2si_64: "cvttsd2si {a:r}, {b}", u64, |b, m| truncated_64(f64::from_bits(b as u64) as i64, m);
}

/// Where the number fits, Rust's conversion is the instruction's. It doesn't
/// where the result is a limit (NaN gives 0, which is left to the instruction
/// too).
#[inline(always)]
fn truncated_32(value: i32, mxcsr: u32) -> Option<u32> {
    quick::truncated(value, &[0, i32::MIN, i32::MAX], mxcsr).map(i32::cast_unsigned)
}

#[inline(always)]
fn truncated_64(value: i64, mxcsr: u32) -> Option<u64> {
    quick::truncated(value, &[0, i64::MIN, i64::MAX], mxcsr).map(i64::cast_unsigned)
}

/// `cvtpi2ps a, mm`: two integers to the low two singles; the high two stay.
#[inline]
pub fn cvtpi2ps(a: u128, b: u64, mxcsr: &mut u32) -> Result<u128> {
    let low = cvtdq2ps(0, b.into(), mxcsr)?;
    Ok(a & !u128::from(u64::MAX) | low & u128::from(u64::MAX))
}

/// `cvtpi2pd a, mm`: two integers to two doubles. It is always exact.
#[inline]
pub fn cvtpi2pd(b: u64, mxcsr: &mut u32) -> Result<u128> {
    cvtdq2pd(0, b.into(), mxcsr)
}

/// `cvtps2pi mm, b` and its like: two floating-point numbers to two integers.
/// The high two singles of a register are not looked at.
macro_rules! to_mmx {
    ($($name:ident: $packed:ident, $mask:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), " mm, b`: the new `mm`.")]
        #[inline]
        pub fn $name(b: u128, mxcsr: &mut u32) -> Result<u64> {
            Ok($packed(0, b & $mask, mxcsr)? as u64)
        }
    )*};
}

to_mmx! {
    cvtps2pi: cvtps2dq, u64::MAX as u128;
    cvttps2pi: cvttps2dq, u64::MAX as u128;
    cvtpd2pi: cvtpd2dq, u128::MAX;
    cvttpd2pi: cvttpd2dq, u128::MAX;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mxcsr::{IE, INITIAL, PE, Unmasked};

    #[test]
    fn what_does_not_fit_becomes_the_integer_indefinite() {
        let mut mxcsr = INITIAL;
        let huge = u128::from(1e300f64.to_bits());
        assert_eq!(cvttsd2si_32(huge, &mut mxcsr), Ok(0x8000_0000));
        assert_eq!(cvttsd2si_64(huge, &mut mxcsr), Ok(1 << 63));
        assert_eq!(mxcsr, INITIAL | IE);
    }

    #[test]
    fn the_guest_rounds_as_it_says() {
        let value = u128::from((-1.5f64).to_bits());
        for (mode, expected) in [(0u32, -2i32), (1, -2), (2, -1), (3, -1)] {
            let mut mxcsr = INITIAL | mode << 13;
            assert_eq!(cvtsd2si_32(value, &mut mxcsr), Ok(expected as u32));
            assert_eq!(mxcsr, INITIAL | mode << 13 | PE);
        }
    }

    #[test]
    fn an_unmasked_inexact_conversion_faults() {
        let mut mxcsr = INITIAL & !(PE << 7);
        assert_eq!(
            cvtsd2si_32(u128::from(1.5f64.to_bits()), &mut mxcsr),
            Err(Unmasked)
        );
        assert_eq!(mxcsr, INITIAL & !(PE << 7) | PE);
    }

    #[test]
    fn the_half_not_converted_raises_nothing() {
        let mut mxcsr = INITIAL;
        let b = u128::from(f32::NAN.to_bits()) << 96 | u128::from(2f32.to_bits());
        assert_eq!(cvtps2pi(b, &mut mxcsr), Ok(2));
        assert_eq!(mxcsr, INITIAL);
    }
}
