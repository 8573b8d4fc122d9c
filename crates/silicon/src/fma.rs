//! Fused multiply-add of singles and doubles (SDM volume 1, 14.5.3; volume 2,
//! `VFMADD132PS` and its kin).
//!
//! All forms are one here: of the multiplicand `x`, the multiplier `y` and the
//! addend `z`, in the order of SDM table 14-17. Which NaN is the result follows
//! from that order: `x` before `y` before `z`, whatever the form. A scalar
//! function gives its result in the lowest lane; what is above means nothing.

use crate::lanes::{bits, doubles, quads, vector};
use crate::mxcsr::{FLAGS, Result, control, settle, under_guest_mxcsr};
use crate::precise;

macro_rules! run {
    ($instruction:expr, $x:expr, $y:expr, $z:expr, $control:ident) => {{
        let mut result = vector($y);
        // SAFETY: as in `float::run`; of a level that `supported` asks for if
        // the guest has it.
        unsafe {
            under_guest_mxcsr!(
                $control,
                [concat!($instruction, " {y}, {x}, {z}")],
                x = in(xmm_reg) vector($x),
                y = inout(xmm_reg) result,
                z = in(xmm_reg) vector($z),
                options(nostack),
            );
        }
        bits(result)
    }};
}

/// Which of product and addend is negated in an even lane, and in an odd one.
type Signs = [(bool, bool); 2];

const ADD: (bool, bool) = (false, false);
const SUB: (bool, bool) = (false, true);
const NEGATED_ADD: (bool, bool) = (true, false);
const NEGATED_SUB: (bool, bool) = (true, true);

macro_rules! width {
    ($name:ident, $lanes:ident, $bits:ty, $exact:path) => {
        /// What the lowest `$count` lanes raise with the guest's masks.
        fn $name(count: usize, signs: Signs, [x, y, z]: [u128; 3], mxcsr: u32) -> u32 {
            const SIGN: $bits = 1 << (<$bits>::BITS - 1);
            let (x, y, z) = ($lanes(x), $lanes(y), $lanes(z));
            (0..count).fold(0, |raised, i| {
                let (product, addend) = signs[i % 2];
                let x = if product { x[i] ^ SIGN } else { x[i] };
                let z = if addend { z[i] ^ SIGN } else { z[i] };
                raised | $exact(x, y[i], z, mxcsr)
            })
        }
    };
}
width!(singles, doubles, u32, precise::fused_single);
width!(doubles_, quads, u64, precise::fused_double);

macro_rules! fused {
    ($($name:ident: $instruction:literal, $exact:ident $count:literal, $even:ident $odd:ident;)*) => {$(
        #[doc = concat!("`", $instruction, " y, x, z`: the new `y`.")]
        #[inline]
        pub fn $name(x: u128, y: u128, z: u128, mxcsr: &mut u32) -> Result<u128> {
            let mut control = control(*mxcsr);
            let result = run!($instruction, x, y, z, control);
            settle(mxcsr, control, |guest| $exact($count, [$even, $odd], [x, y, z], guest))?;
            Ok(result)
        }
    )*};
}

fused! {
    fmadd_ps: "vfmadd213ps", singles 4, ADD ADD;
    fmadd_pd: "vfmadd213pd", doubles_ 2, ADD ADD;
    fmadd_ss: "vfmadd213ss", singles 1, ADD ADD;
    fmadd_sd: "vfmadd213sd", doubles_ 1, ADD ADD;
    fmsub_ps: "vfmsub213ps", singles 4, SUB SUB;
    fmsub_pd: "vfmsub213pd", doubles_ 2, SUB SUB;
    fmsub_ss: "vfmsub213ss", singles 1, SUB SUB;
    fmsub_sd: "vfmsub213sd", doubles_ 1, SUB SUB;
    fnmadd_ps: "vfnmadd213ps", singles 4, NEGATED_ADD NEGATED_ADD;
    fnmadd_pd: "vfnmadd213pd", doubles_ 2, NEGATED_ADD NEGATED_ADD;
    fnmadd_ss: "vfnmadd213ss", singles 1, NEGATED_ADD NEGATED_ADD;
    fnmadd_sd: "vfnmadd213sd", doubles_ 1, NEGATED_ADD NEGATED_ADD;
    fnmsub_ps: "vfnmsub213ps", singles 4, NEGATED_SUB NEGATED_SUB;
    fnmsub_pd: "vfnmsub213pd", doubles_ 2, NEGATED_SUB NEGATED_SUB;
    fnmsub_ss: "vfnmsub213ss", singles 1, NEGATED_SUB NEGATED_SUB;
    fnmsub_sd: "vfnmsub213sd", doubles_ 1, NEGATED_SUB NEGATED_SUB;
    fmaddsub_ps: "vfmaddsub213ps", singles 4, SUB ADD;
    fmaddsub_pd: "vfmaddsub213pd", doubles_ 2, SUB ADD;
    fmsubadd_ps: "vfmsubadd213ps", singles 4, ADD SUB;
    fmsubadd_pd: "vfmsubadd213pd", doubles_ 2, ADD SUB;
}

/// One `x * y + z` under `control`: its result, and what it raised.
pub(crate) fn raw_single(x: u32, y: u32, z: u32, mut control: u32) -> (u32, u32) {
    let [x, y, z] = [x, y, z].map(u128::from);
    let result = run!("vfmadd213ss", x, y, z, control);
    (result as u32, control & FLAGS)
}

/// As [`raw_single`], for doubles.
pub(crate) fn raw_double(x: u64, y: u64, z: u64, mut control: u32) -> (u64, u32) {
    let [x, y, z] = [x, y, z].map(u128::from);
    let result = run!("vfmadd213sd", x, y, z, control);
    (result as u64, control & FLAGS)
}
