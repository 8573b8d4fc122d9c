//! FPATAN: the angle of a point.

use super::constants::PI;
use super::wide::{ONE, Wide, multiply_high, reciprocal};
use super::{Control, Done, F80, Kind, fadd, status};

/// The terms of the series: the last is below 2^-128 for arguments up to 1/32.
const TERMS: usize = 14;

/// The angle whose tangent is sixteenths, from 1/16.
const SIXTEENTHS: [Wide; 16] = [
    Wide::new(-5, 0xffaa_ddb9_67ef_4e36_cb27_92dc_0e2e_0d51),
    Wide::new(-4, 0xfead_d4d5_617b_6e32_c897_989f_3e88_8ef8),
    Wide::new(-3, 0xbdcb_da5e_72d8_1134_7b0b_4f88_1c9c_7488),
    Wide::new(-3, 0xfadb_afc9_6406_eb15_6dc7_9ef5_f7a2_17e6),
    Wide::new(-2, 0x9b13_b9b8_3f5e_5e69_c5ab_b498_d27a_f328),
    Wide::new(-2, 0xb7b0_ca0f_26f7_8473_8aa3_2122_dcfe_4483),
    Wide::new(-2, 0xd327_761e_611f_e5b6_427c_95e9_001e_7136),
    Wide::new(-2, 0xed63_382b_0dda_7b45_6fe4_45ec_bc3a_8d03),
    Wide::new(-1, 0x832b_f4a6_d986_7e2a_4b6a_09cb_61a5_15c1),
    Wide::new(-1, 0x8f00_5d5e_f7f5_9f9b_5c83_5e16_65c4_3748),
    Wide::new(-1, 0x9a2f_80e6_71bd_da20_4226_f8e2_204f_f3bd),
    Wide::new(-1, 0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9f),
    Wide::new(-1, 0xaeac_4c38_b4d8_c080_1472_5e2f_3e52_070a),
    Wide::new(-1, 0xb805_3e2b_c231_9e73_cb2d_a552_10a4_443d),
    Wide::new(-1, 0xc0ce_85b8_ac52_6640_89dd_62c4_6e92_fa25),
    Wide::new(-1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1),
];

/// FPATAN: the angle of the point with `x` in ST(0) and `y` in ST(1), from minus pi to pi, with the sign of `y`
/// (SDM, table of FPATAN).
pub fn fpatan(control: Control, x: F80, y: F80) -> Done {
    if !x.is_number() || !y.is_number() {
        return fadd(control, x, y);
    }
    let is_denormal = x.kind() == Kind::Denormal || y.kind() == Kind::Denormal;
    let (angle, is_exact) = angle(x, y);
    let done = angle.with_sign(y.is_negative()).rounded(control, is_exact);
    Done {
        value: done.value,
        status: done.status | if is_denormal { status::DE } else { 0 },
    }
}

/// The magnitude of the angle, and whether it is exact.
fn angle(x: F80, y: F80) -> (Wide, bool) {
    let left = x.is_negative();
    match (x.kind(), y.kind()) {
        (Kind::Infinity, Kind::Infinity) if left => (PI.scaled(-2).plus(PI.scaled(-1)), false),
        (Kind::Infinity, Kind::Infinity) => (PI.scaled(-2), false),
        (Kind::Infinity, _) | (_, Kind::Zero) if left => (PI, false),
        (Kind::Infinity, _) | (_, Kind::Zero) => (Wide::ZERO, true),
        (_, Kind::Infinity) | (Kind::Zero, _) => (PI.scaled(-1), false),
        _ => (
            angle_of_finite(
                Wide::from_finite(x.absolute()),
                Wide::from_finite(y.absolute()),
                left,
            ),
            false,
        ),
    }
}

/// The same for two finite magnitudes that aren't zero; `left`: `x` is negative.
fn angle_of_finite(x: Wide, y: Wide, left: bool) -> Wide {
    let is_steep = (y.exponent, y.mantissa) > (x.exponent, x.mantissa);
    let acute = if is_steep {
        arc_tangent(x, y)
    } else {
        arc_tangent(y, x)
    };
    match (is_steep, left) {
        (false, false) => acute,
        (false, true) => PI.plus(acute.negated()),
        (true, false) => PI.scaled(-1).plus(acute.negated()),
        (true, true) => PI.scaled(-1).plus(acute),
    }
}

/// The angle of `numerator / denominator`, which is at most one; both have 64 bits.
fn arc_tangent(numerator: Wide, denominator: Wide) -> Wide {
    let distance = denominator.exponent.abs_diff(numerator.exponent);
    // In units in which both are integers of at most 64 + 5 bits; below 2^-5 no angle is subtracted.
    let index = if distance > 5 {
        0
    } else {
        let n = numerator.mantissa >> 64;
        let d = (denominator.mantissa >> 64) << distance;
        (16 * n + d / 2) / d
    };
    let Some(base) = usize::try_from(index)
        .ok()
        .and_then(|index| index.checked_sub(1))
    else {
        let (quotient, is_exact) = numerator.divided_by(denominator);
        // The angle is less than its tangent, by less than 128 bits can say when that is tiny.
        let tangent = if is_exact && quotient.exponent < -60 {
            quotient.nudged(false)
        } else {
            quotient
        };
        return series(tangent);
    };
    // tan(a - b) = (n/d - k/16) / (1 + n/d * k/16).
    let k = Wide::from_integer(base as i32 + 1).scaled(-4);
    let (quotient, _) = numerator
        .plus(k.times(denominator).negated())
        .divided_by(denominator.plus(k.times(numerator)));
    SIXTEENTHS[base].plus(series(quotient))
}

/// The angle of a tangent of at most 1/32: `s * (1 - s^2/3 + s^4/5 - ...)`.
fn series(s: Wide) -> Wide {
    const RECIPROCALS: [u128; TERMS] = {
        let mut table = [0; TERMS];
        let mut n = 0;
        while n < TERMS {
            table[n] = reciprocal(2 * n as u128 + 1) >> 1;
            n += 1;
        }
        table[0] = ONE;
        table
    };
    if s.is_zero() {
        return s;
    }
    let square = s.times(s).to_fraction();
    let sum = RECIPROCALS
        .iter()
        .rev()
        .fold(0, |sum, reciprocal| reciprocal - multiply_high(square, sum));
    s.times(Wide::from_fixed(sum))
}
