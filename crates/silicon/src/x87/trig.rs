//! FSIN, FCOS, FSINCOS and FPTAN.
//!
//! The argument is reduced with the 66-bit pi of SDM volume 1, 8.3.8, as the x87 of both makes does: a guest that
//! corrects for that pi gets what it expects.

use super::wide::{ONE, Wide, multiply_high, reciprocal};
use super::{Control, Done, F80, Kind, Pair, fadd, status};

/// The terms of the series: the last is below 2^-128 for arguments up to pi/4.
const TERMS: usize = 18;

/// Half of the x87's pi, in units of 2^-65.
const HALF_PI: u128 = 0x3_243f_6a88_85a3_08d3;

/// An argument less its multiple of pi/2.
struct Reduced {
    /// Between minus and plus pi/4; zero only for a zero argument.
    angle: Wide,
    /// The multiple, modulo four.
    quadrant: u8,
}

/// FSIN.
pub fn fsin(control: Control, a: F80) -> Done {
    one_result(control, a, a, sine)
}

/// FCOS.
pub fn fcos(control: Control, a: F80) -> Done {
    one_result(control, a, F80::ONE, cosine)
}

/// FSINCOS: the sine replaces the operand, the cosine is pushed. C2: out of range, nothing is pushed.
pub fn fsincos(control: Control, a: F80) -> Done<Pair> {
    let (sine, cosine) = (fsin(control, a), fcos(control, a));
    // The manual says nothing of C1 for two results; it is the pushed one's.
    let flags = sine.status & !status::C1 | cosine.status;
    Done {
        value: Pair {
            replaced: sine.value,
            pushed: cosine.value,
        },
        status: flags,
    }
}

/// FPTAN: the tangent replaces the operand, one is pushed. C2: out of range, nothing is pushed.
pub fn fptan(control: Control, a: F80) -> Done<Pair> {
    let done = one_result(control, a, a, tangent);
    // A NaN is pushed too, as the processors do it, so that a division by the pushed value keeps it.
    let pushed = if done.value.is_number() {
        F80::ONE
    } else {
        done.value
    };
    Done {
        value: Pair {
            replaced: done.value,
            pushed,
        },
        status: done.status,
    }
}

/// What the three functions share: special operands, range, flags.
fn one_result(control: Control, a: F80, of_zero: F80, function: fn(&Reduced) -> Wide) -> Done {
    let denormal = match a.kind() {
        Kind::Quiet | Kind::Signalling | Kind::Unsupported => return fadd(control, a, a),
        Kind::Infinity => {
            return Done {
                value: F80::INDEFINITE,
                status: status::IE,
            };
        }
        Kind::Zero => {
            return Done {
                value: of_zero,
                status: 0,
            };
        }
        Kind::Denormal => status::DE,
        Kind::Normal => 0,
    };
    let Some(reduced) = reduce(a) else {
        return Done {
            value: a,
            status: status::C2,
        };
    };
    let done = function(&reduced).rounded(control, false);
    Done {
        value: done.value,
        status: done.status | denormal,
    }
}

/// None from 2^63 on.
fn reduce(a: F80) -> Option<Reduced> {
    let wide = Wide::from_finite(a);
    if wide.exponent >= 63 {
        return None;
    }
    if wide.exponent < -1 {
        return Some(Reduced {
            angle: wide,
            quadrant: 0,
        });
    }
    // In units of 2^-65 the argument is an integer of at most 128 bits.
    let integer = u128::from(a.mantissa) << (wide.exponent + 2);
    let (multiple, remainder) = (integer / HALF_PI, integer % HALF_PI);
    // Twice the remainder is never HALF_PI, which is odd.
    let is_upper = 2 * remainder > HALF_PI;
    let magnitude = if is_upper {
        HALF_PI - remainder
    } else {
        remainder
    };
    let multiple = (multiple + u128::from(is_upper)) & 3;
    let multiple = u8::try_from(multiple).expect("two bits");
    let quadrant = if a.is_negative() {
        multiple.wrapping_neg() & 3
    } else {
        multiple
    };
    Some(Reduced {
        angle: Wide::normalised(is_upper != a.is_negative(), 62, magnitude),
        quadrant,
    })
}

fn sine(reduced: &Reduced) -> Wide {
    let near = if reduced.quadrant & 1 == 0 {
        near_sine(reduced.angle)
    } else {
        near_cosine(reduced.angle)
    };
    if reduced.quadrant & 2 == 0 {
        near
    } else {
        near.negated()
    }
}

fn cosine(reduced: &Reduced) -> Wide {
    sine(&Reduced {
        angle: reduced.angle,
        quadrant: reduced.quadrant + 1,
    })
}

fn tangent(reduced: &Reduced) -> Wide {
    let angle = reduced.angle;
    if reduced.quadrant & 1 == 1 {
        return near_cosine(angle).divided_by(near_sine(angle)).0.negated();
    }
    // The tangent is greater than its angle, by less than 128 bits can say when that is tiny.
    if angle.exponent < -62 {
        return angle.nudged(true);
    }
    near_sine(angle).divided_by(near_cosine(angle)).0
}

/// The sine of at most pi/4: `r * (1 - r^2/(2*3) * (1 - r^2/(4*5) * ...))`.
fn near_sine(angle: Wide) -> Wide {
    const RECIPROCALS: [u128; TERMS] = reciprocals_of_products(2);
    angle.times(series(angle, &RECIPROCALS))
}

/// The cosine of at most pi/4: `1 - r^2/(1*2) * (1 - r^2/(3*4) * ...)`.
fn near_cosine(angle: Wide) -> Wide {
    const RECIPROCALS: [u128; TERMS] = reciprocals_of_products(1);
    series(angle, &RECIPROCALS)
}

fn series(angle: Wide, reciprocals: &[u128; TERMS]) -> Wide {
    let square = angle.times(angle).to_fraction();
    let sum = reciprocals.iter().rev().fold(ONE, |sum, reciprocal| {
        ONE - multiply_high(multiply_high(square, *reciprocal), sum)
    });
    // It is less than one, if by less than 128 bits can say: the rounding has to see that.
    Wide::from_fixed(sum.min(ONE - 1))
}

/// `1/(n(n+1))`, `1/((n+2)(n+3))` and so on.
const fn reciprocals_of_products(first: u128) -> [u128; TERMS] {
    let mut table = [0; TERMS];
    let mut index = 0;
    while index < TERMS {
        let n = first + 2 * index as u128;
        table[index] = reciprocal(n * (n + 1));
        index += 1;
    }
    table
}
