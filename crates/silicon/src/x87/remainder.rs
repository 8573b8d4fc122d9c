//! FPREM and FPREM1. The result is exact, but how far an instruction gets when the exponents are 64 or more apart is
//! left to the make (32 to 63 bits): that case is done here, in Intel's way.

use super::arith::on_host;
use super::{Control, Done, F80, Kind, status};

macro_rules! remainder {
    ($($(#[$doc:meta])* $name:ident $op:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(control: Control, a: F80, b: F80) -> Done {
            if let Some(done) = partial(control, a, b) {
                return done;
            }
            let mut value = F80::ZERO;
            let status = on_host!(control, ["fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]"], $op,
                ["fstp tbyte ptr [{value}]", "fstp st(0)"],
                a = &raw const a, b = &raw const b, value = &raw mut value);
            // With a NaN C0 and C3 are what the host had before.
            let defined = if value.is_number() { status::CONDITIONS } else { 0 };
            Done { value, status: status & (status::EXCEPTIONS | defined) }
        }
    )*};
}

remainder! {
    /// FPREM: the remainder of `a` by `b` with the quotient truncated; its three low bits in C0, C3, C1 (high to low).
    /// C2: the reduction isn't complete. A NaN has no quotient: an instruction leaves C0 and C3 as they are.
    fprem "fprem";
    /// FPREM1: the same with the quotient rounded to the nearest, as IEEE 754 has it.
    fprem1 "fprem1";
}

/// One step of a reduction that is too long for one instruction: exponents at least 64 apart.
fn partial(control: Control, a: F80, b: F80) -> Option<Done> {
    let (mantissa_a, exponent_a) = significand(a)?;
    let (mantissa_b, exponent_b) = significand(b)?;
    let distance = u32::try_from(exponent_a - exponent_b)
        .ok()
        .filter(|distance| *distance >= 64)?;
    let step = 32 + distance % 32;
    let remainder = (u128::from(mantissa_a) << step) % u128::from(mantissa_b);
    let remainder = u64::try_from(remainder).expect("below a 64-bit divisor");
    let has_denormal = a.kind() == Kind::Denormal || b.kind() == Kind::Denormal;
    let flags = status::C2 | if has_denormal { status::DE } else { 0 };
    // The remainder's unit is the divisor's, moved up by what this step left undone. It fits: it is below `a`.
    let exponent = exponent_b + (distance - step).cast_signed();
    let done =
        super::wide::Wide::normalised(a.is_negative(), exponent, u128::from(remainder) << 64);
    let rounded = done.rounded(control, true);
    Some(Done {
        value: rounded.value,
        status: rounded.status | flags,
    })
}

/// The normalised significand and the unbiased exponent of a finite number that isn't zero.
fn significand(value: F80) -> Option<(u64, i32)> {
    if !matches!(value.kind(), Kind::Denormal | Kind::Normal) {
        return None;
    }
    let shift = value.mantissa.leading_zeros();
    let exponent = i32::from(value.biased_exponent().max(1)) - 16383;
    Some((value.mantissa << shift, exponent - shift.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the host's loop of FPREM ends with.
    fn reduced_by_host(a: F80, b: F80) -> F80 {
        let mut value = a;
        for _ in 0..2000 {
            let mut next = F80::ZERO;
            let status = on_host!(
                Control::DEFAULT,
                ["fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]"],
                "fprem",
                ["fstp tbyte ptr [{value}]", "fstp st(0)"],
                a = &raw const value,
                b = &raw const b,
                value = &raw mut next
            );
            value = next;
            if status & status::C2 == 0 {
                return value;
            }
        }
        panic!("no end");
    }

    proptest::proptest! {
        #[test]
        fn a_loop_of_partial_steps_ends_where_the_hosts_does(
            mantissas: (u64, u64), exponents in (1_u16..0x7fff, 1_u16..0x7fff), negative: bool,
        ) {
            let a = F80 { mantissa: mantissas.0 | 1 << 63, sign_exp: exponents.0 }.with_sign(negative);
            let b = F80 { mantissa: mantissas.1 | 1 << 63, sign_exp: exponents.1 };
            let mut value = a;
            let mut steps = 0;
            loop {
                let done = fprem(Control::DEFAULT, value, b);
                value = done.value;
                steps += 1;
                if done.status & status::C2 == 0 {
                    break;
                }
                proptest::prop_assert!(steps < 1200);
            }
            proptest::prop_assert_eq!(value, reduced_by_host(a, b));
        }
    }
}
