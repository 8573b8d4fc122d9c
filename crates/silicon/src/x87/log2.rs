//! FYL2X and FYL2XP1: logarithms to base two.

use super::constants::LOG2_E;
use super::wide::{ONE, Wide, multiply_high, reciprocal};
use super::{Control, Done, F80, Kind, fadd, status};

/// The terms of the series: the last is below 2^-128 for arguments up to 0.172.
const TERMS: usize = 26;

const INVALID: Done = Done {
    value: F80::INDEFINITE,
    status: status::IE,
};

/// FYL2X: `y * log2(x)`, with `x` in ST(0) and `y` in ST(1) (SDM, table of FYL2X).
pub fn fyl2x(control: Control, x: F80, y: F80) -> Done {
    if !x.is_number() || !y.is_number() {
        return fadd(control, x, y);
    }
    if x.is_negative() && x.kind() != Kind::Zero {
        return INVALID;
    }
    let above_one =
        (x.biased_exponent(), x.mantissa) > (F80::ONE.biased_exponent(), F80::ONE.mantissa);
    let negative = y.is_negative() == above_one;
    match (x.kind(), y.kind()) {
        (Kind::Zero | Kind::Infinity, Kind::Zero) => return INVALID,
        (Kind::Zero | Kind::Infinity, Kind::Infinity) => {
            return exact(F80::INFINITY.with_sign(negative));
        }
        (Kind::Zero, _) => {
            return Done {
                value: F80::INFINITY.with_sign(negative),
                status: status::ZE,
            };
        }
        (Kind::Infinity, _) => {
            return Done {
                value: F80::INFINITY.with_sign(negative),
                status: denormal(y),
            };
        }
        (_, Kind::Infinity) if x == F80::ONE => return INVALID,
        (_, Kind::Infinity) => {
            return Done {
                value: F80::INFINITY.with_sign(negative),
                status: denormal(x),
            };
        }
        (_, Kind::Zero) if x == F80::ONE => return exact(y),
        (_, Kind::Zero) => {
            return Done {
                value: F80::ZERO.with_sign(negative),
                status: denormal(x),
            };
        }
        _ if x == F80::ONE => {
            return Done {
                value: F80::ZERO.with_sign(y.is_negative()),
                status: denormal(y),
            };
        }
        _ => {}
    }
    let (logarithm, is_exact) = log2(Wide::from_finite(x));
    scaled_by(control, logarithm, is_exact, y, denormal(x))
}

/// FYL2XP1: `y * log2(1 + x)`, with `x` in ST(0) and `y` in ST(1). The SDM defines it for `x` between
/// `sqrt(1/2) - 1` and `1 - sqrt(1/2)`; here it is right for every `x` above -1, and from -1 down it is `x`
/// unchanged and not exact, unless `y` is zero or infinite.
pub fn fyl2xp1(control: Control, x: F80, y: F80) -> Done {
    if !x.is_number() || !y.is_number() {
        return fadd(control, x, y);
    }
    let negative = x.is_negative() != y.is_negative();
    if x.kind() == Kind::Infinity && x.is_negative() {
        return INVALID;
    }
    match (x.kind(), y.kind()) {
        (Kind::Zero, Kind::Infinity) | (Kind::Infinity, Kind::Zero) => return INVALID,
        (Kind::Infinity, _) | (_, Kind::Infinity) => {
            return Done {
                value: F80::INFINITY.with_sign(negative),
                status: denormal(x) | denormal(y),
            };
        }
        (Kind::Zero, _) | (_, Kind::Zero) => {
            return Done {
                value: F80::ZERO.with_sign(negative),
                status: denormal(x) | denormal(y),
            };
        }
        _ => {}
    }
    if x.is_negative() && x.biased_exponent() >= 0x3fff {
        return Done {
            value: x,
            status: status::PE | denormal(y),
        };
    }
    let wide = Wide::from_finite(x);
    let sum = wide.plus(Wide::from_integer(1));
    let (logarithm, is_exact) = match wide.exponent {
        // The sum may have lost what matters; the quotient in the series has not.
        ..-2 => (
            series(wide.divided_by(wide.plus(Wide::from_integer(2))).0),
            false,
        ),
        -2..127 => log2(sum),
        // The sum has lost the one.
        127.. => log2(sum.nudged(true)),
    };
    scaled_by(control, logarithm, is_exact, y, denormal(x))
}

fn exact(value: F80) -> Done {
    Done { value, status: 0 }
}

fn denormal(value: F80) -> u16 {
    if value.kind() == Kind::Denormal {
        status::DE
    } else {
        0
    }
}

fn scaled_by(control: Control, logarithm: Wide, is_exact: bool, y: F80, flags: u16) -> Done {
    let done = logarithm
        .times(Wide::from_finite(y))
        .rounded(control, is_exact);
    Done {
        value: done.value,
        status: done.status | flags | denormal(y),
    }
}

/// The logarithm of a positive number, and whether it is exact: it is for powers of two alone.
fn log2(x: Wide) -> (Wide, bool) {
    if x.mantissa == ONE {
        return (Wide::from_integer(x.exponent), true);
    }
    /// The square root of two, as a mantissa. Only where the two branches meet depends on it.
    const SQRT_2: u128 = 0xb504_f333_f9de_6484_597d_89b3_754a_be9f;
    let is_upper = x.mantissa > SQRT_2;
    let exponent = x.exponent + i32::from(is_upper);
    let fraction = Wide::new(-i32::from(is_upper), x.mantissa);
    let one = Wide::from_integer(1);
    let (quotient, _) = fraction.plus(one.negated()).divided_by(fraction.plus(one));
    (series(quotient).plus(Wide::from_integer(exponent)), false)
}

/// `log2((1 + s) / (1 - s))`, that is `2/ln 2 * s * (1 + s^2/3 + s^4/5 + ...)`.
fn series(s: Wide) -> Wide {
    const RECIPROCALS: [u128; TERMS] = {
        let mut table = [0; TERMS];
        let mut n = 0;
        while n < TERMS {
            // Fractions of 2^127, so half of those of 2^128; the first is one.
            table[n] = reciprocal(2 * n as u128 + 1) >> 1;
            n += 1;
        }
        table[0] = ONE;
        table
    };
    let square = s.times(s).to_fraction();
    let sum = RECIPROCALS
        .iter()
        .rev()
        .fold(0, |sum, reciprocal| reciprocal + multiply_high(square, sum));
    s.times(Wide::from_fixed(sum)).times(LOG2_E).scaled(1)
}
