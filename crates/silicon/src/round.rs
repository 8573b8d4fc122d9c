//! Rounding to an integral value (SDM volume 2, `ROUNDPS`).

use crate::lanes::{bits, vector};
use crate::mxcsr::{FLAGS, Result, control, settle, under_guest_mxcsr};

macro_rules! run {
    ($name:ident, $imm:literal, $a:ident, $b:ident, $control:ident) => {{
        let mut result = vector($a);
        // SAFETY: as in `float::run`.
        unsafe {
            under_guest_mxcsr!(
                $control,
                [concat!(stringify!($name), " {a}, {b}, ", $imm)],
                a = inout(xmm_reg) result,
                b = in(xmm_reg) vector($b),
                options(nostack),
            );
        }
        bits(result)
    }};
}

macro_rules! round {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, imm8`: the new `a`.")]
        /// Bits 0 and 1 of `imm` are the rounding mode, unless bit 2 says that
        /// MXCSR's counts; bit 3 hides the inexact result. The rest is ignored.
        pub fn $name(a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> Result<u128> {
            let mut control = control(*mxcsr);
            let result = match imm & 15 {
                0 => run!($name, 0, a, b, control),
                1 => run!($name, 1, a, b, control),
                2 => run!($name, 2, a, b, control),
                3 => run!($name, 3, a, b, control),
                4..=7 => run!($name, 4, a, b, control),
                8 => run!($name, 8, a, b, control),
                9 => run!($name, 9, a, b, control),
                10 => run!($name, 10, a, b, control),
                11 => run!($name, 11, a, b, control),
                _ => run!($name, 12, a, b, control),
            };
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(result)
        }
    )*};
}

round! { roundps roundpd roundss roundsd }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mxcsr::{INITIAL, PE};

    #[test]
    fn the_immediate_chooses_mode_and_silence() {
        let b = u128::from(1.5f64.to_bits());
        let rounded = |imm, mut mxcsr| {
            let result = roundsd(0, b, imm, &mut mxcsr).expect("masked") as u64;
            (f64::from_bits(result), mxcsr)
        };
        assert_eq!(rounded(1, INITIAL), (1.0, INITIAL | PE));
        assert_eq!(rounded(10, INITIAL), (2.0, INITIAL));
        let down = INITIAL | 1 << 13;
        assert_eq!(rounded(4, down), (1.0, down | PE));
        assert_eq!(rounded(0xf7, down), (1.0, down | PE));
    }
}
