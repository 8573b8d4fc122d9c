//! Half-precision numbers: F16C's conversions (SDM volume 1, 14.4; volume 2,
//! `VCVTPH2PS`, `VCVTPS2PH`).
//!
//! FTZ has no meaning for either, and DAZ none for halves: a tiny half is
//! always kept, a denormal half always taken.

use crate::lanes::{bits, doubles, vector};
use crate::mxcsr::{FLAGS, Result, control, settle, under_guest_mxcsr};
use crate::precise;

/// `vcvtph2ps b`: four halves in the low quadword to singles.
#[inline]
pub fn vcvtph2ps(b: u128, mxcsr: &mut u32) -> Result<u128> {
    let mut control = control(*mxcsr);
    let mut result = vector(b);
    // SAFETY: as in `float::run`; of a level that `supported` asks for if the
    // guest has it.
    unsafe {
        under_guest_mxcsr!(
            control,
            ["vcvtph2ps {b}, {b}"],
            b = inout(xmm_reg) result,
            options(nostack),
        );
    }
    settle(mxcsr, control, |_| control & FLAGS)?;
    Ok(bits(result))
}

macro_rules! run {
    ($imm:literal, $b:expr, $control:ident) => {{
        let mut result = vector($b);
        // SAFETY: as in `vcvtph2ps`.
        unsafe {
            under_guest_mxcsr!(
                $control,
                [concat!("vcvtps2ph {b}, {b}, ", $imm)],
                b = inout(xmm_reg) result,
                options(nostack),
            );
        }
        bits(result)
    }};
}

/// Four singles to halves in the low quadword, under `control`.
fn raw(b: u128, imm: u8, control: &mut u32) -> u128 {
    let mut own = *control;
    let result = match imm & 7 {
        0 => run!(0, b, own),
        1 => run!(1, b, own),
        2 => run!(2, b, own),
        3 => run!(3, b, own),
        _ => run!(4, b, own),
    };
    *control = own;
    result
}

/// `vcvtps2ph b, imm8`: four singles to halves in the low quadword; the high
/// one is 0. Bits 0 and 1 of `imm` are the rounding mode, unless bit 2 says that
/// MXCSR's counts.
pub fn vcvtps2ph(b: u128, imm: u8, mxcsr: &mut u32) -> Result<u128> {
    let mut control = control(*mxcsr);
    let result = raw(b, imm, &mut control);
    settle(mxcsr, control, |guest| {
        doubles(b).into_iter().fold(0, |raised, x| {
            raised
                | precise::halve(x, guest, |x, mut control| {
                    let half = raw(x.into(), imm, &mut control);
                    (half as u16, control & FLAGS)
                })
        })
    })?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mxcsr::{INITIAL, PE, UE};

    #[test]
    fn rounding_follows_the_immediate_or_mxcsr() {
        // 1 and half a unit of a half's last place.
        let b = u128::from((1.0f32 + 2f32.powi(-11)).to_bits());
        let mut mxcsr = INITIAL;
        assert_eq!(vcvtps2ph(b, 0, &mut mxcsr), Ok(0x3c00));
        assert_eq!(mxcsr, INITIAL | PE);
        assert_eq!(vcvtps2ph(b, 2, &mut mxcsr), Ok(0x3c01));
        let mut up = INITIAL | 2 << 13;
        assert_eq!(vcvtps2ph(b, 4, &mut up), Ok(0x3c01));
    }

    #[test]
    fn a_tiny_half_is_kept_whatever_ftz_says() {
        let b = u128::from(2f32.powi(-24).to_bits());
        let mut mxcsr = INITIAL | crate::mxcsr::FTZ;
        assert_eq!(vcvtps2ph(b, 0, &mut mxcsr), Ok(1));
        let mut unmasked = INITIAL & !(UE << 7);
        assert!(vcvtps2ph(b, 0, &mut unmasked).is_err());
        assert_eq!(vcvtph2ps(1, &mut mxcsr), Ok(b));
    }
}
