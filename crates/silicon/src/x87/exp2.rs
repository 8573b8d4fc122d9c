//! F2XM1: two to the power of ST(0), less one.

use super::constants::LN_2;
use super::wide::{ONE, Wide, multiply_high, reciprocal};
use super::{Control, Done, F80, Kind, fadd, status};

/// The terms of the series: the last is below 2^-128 for arguments up to ln 2.
const TERMS: usize = 34;

/// `2^a - 1` for `a` in -1 to 1. The SDM leaves the rest undefined: here it is `a` unchanged and not exact, except that
/// plus infinity stays and minus infinity gives minus one.
pub fn f2xm1(control: Control, a: F80) -> Done {
    let denormal = match a.kind() {
        Kind::Quiet | Kind::Signalling | Kind::Unsupported => return fadd(control, a, a),
        Kind::Zero => {
            return Done {
                value: a,
                status: 0,
            };
        }
        Kind::Infinity if a.is_negative() => {
            return Done {
                value: F80::ONE.negated(),
                status: 0,
            };
        }
        Kind::Infinity => {
            return Done {
                value: a,
                status: 0,
            };
        }
        Kind::Denormal => status::DE,
        Kind::Normal => 0,
    };
    if a.biased_exponent() >= 0x3fff {
        let half = F80 {
            mantissa: 1 << 63,
            sign_exp: 0xbffe,
        };
        return match a {
            F80::ONE => Done {
                value: a,
                status: 0,
            },
            _ if a == F80::ONE.negated() => Done {
                value: half,
                status: 0,
            },
            _ => Done {
                value: a,
                status: status::PE,
            },
        };
    }
    let t = Wide::from_finite(a).times(LN_2);
    let done = t.times(Wide::from_fixed(series(t))).rounded(control, false);
    Done {
        value: done.value,
        status: done.status | denormal,
    }
}

/// `(e^t - 1) / t`, as a fraction of 2^127: `1 + t/2 (1 + t/3 (1 + ...))`.
fn series(t: Wide) -> u128 {
    const RECIPROCALS: [u128; TERMS] = {
        let mut table = [0; TERMS];
        let mut n = 0;
        while n < TERMS {
            table[n] = reciprocal(n as u128 + 2);
            n += 1;
        }
        table
    };
    let magnitude = t.to_fraction();
    RECIPROCALS.iter().rev().fold(ONE, |sum, reciprocal| {
        let term = multiply_high(multiply_high(magnitude, *reciprocal), sum);
        if t.negative { ONE - term } else { ONE + term }
    })
}
