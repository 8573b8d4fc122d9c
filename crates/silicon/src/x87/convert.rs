//! Loads and stores that convert, by the host's x87; packed decimal loads in software.

use super::arith::on_host;
use super::{Control, Done, F80, status};

macro_rules! load {
    ($($(#[$doc:meta])* $name:ident($from:ty) $op:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(from: $from) -> Done {
            let mut value = F80::ZERO;
            let status = on_host!(Control::DEFAULT, [], $op, ["fstp tbyte ptr [{value}]"],
                from = &raw const from, value = &raw mut value);
            Done { value, status: status & status::EXCEPTIONS }
        }
    )*};
}

load! {
    /// FLD of a 32-bit real: a denormal sets DE, a signalling NaN sets IE and becomes quiet.
    from_f32(u32) "fld dword ptr [{from}]";
    /// FLD of a 64-bit real: a denormal sets DE, a signalling NaN sets IE and becomes quiet.
    from_f64(u64) "fld qword ptr [{from}]";
    /// FILD of a 16-bit integer: exact.
    from_i16(i16) "fild word ptr [{from}]";
    /// FILD of a 32-bit integer: exact.
    from_i32(i32) "fild dword ptr [{from}]";
    /// FILD of a 64-bit integer: exact.
    from_i64(i64) "fild qword ptr [{from}]";
}

macro_rules! store {
    ($($(#[$doc:meta])* $name:ident -> $to:ty = $zero:expr, $op:literal, [$($after:literal),*];)*) => {$(
        $(#[$doc])*
        pub fn $name(control: Control, from: F80) -> Done<$to> {
            let mut value: $to = $zero;
            let status = on_host!(control, ["fld tbyte ptr [{from}]"], $op, [$($after),*],
                from = &raw const from, value = &raw mut value);
            Done { value, status: status & (status::EXCEPTIONS | status::C1) }
        }
    )*};
}

// The popping forms don't pop on an unmasked overflow or underflow, so where such can be, the form without a pop is
// used; conversions to integers know only the (masked) invalid operation.
store! {
    /// FST to a 32-bit real. On an unmasked overflow or underflow nothing is to be stored.
    to_f32 -> u32 = 0, "fst dword ptr [{value}]", ["fstp st(0)"];
    /// FST to a 64-bit real. On an unmasked overflow or underflow nothing is to be stored.
    to_f64 -> u64 = 0, "fst qword ptr [{value}]", ["fstp st(0)"];
    /// FIST to a 16-bit integer; out of range is invalid and gives 0x8000.
    to_i16 -> i16 = 0, "fist word ptr [{value}]", ["fstp st(0)"];
    /// FIST to a 32-bit integer; out of range is invalid and gives 0x8000_0000.
    to_i32 -> i32 = 0, "fist dword ptr [{value}]", ["fstp st(0)"];
    /// FISTP to a 64-bit integer; out of range is invalid and gives the smallest integer.
    to_i64 -> i64 = 0, "fistp qword ptr [{value}]", [];
    /// FISTTP to a 16-bit integer.
    to_i16_truncated -> i16 = 0, "fisttp word ptr [{value}]", [];
    /// FISTTP to a 32-bit integer.
    to_i32_truncated -> i32 = 0, "fisttp dword ptr [{value}]", [];
    /// FISTTP to a 64-bit integer.
    to_i64_truncated -> i64 = 0, "fisttp qword ptr [{value}]", [];
    /// FBSTP: eighteen decimal digits, two a byte from the lowest, and the sign in the last byte's top bit. Out of
    /// range is invalid and gives the packed indefinite.
    to_bcd -> [u8; 10] = [0; 10], "fbstp tbyte ptr [{value}]", [];
}

/// FBLD: exact. The manual leaves digits above nine undefined; here they count for their value, whatever the host.
pub fn from_bcd(from: [u8; 10]) -> F80 {
    // Eighteen nibbles of 15 are below 2^64.
    let digits = from[..9]
        .iter()
        .rev()
        .flat_map(|byte| [byte >> 4, byte & 15]);
    let magnitude = digits.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit));
    F80::from_integer(magnitude).with_sign(from[9] & 0x80 != 0)
}

impl F80 {
    /// The value of an unsigned integer, exactly.
    pub(super) fn from_integer(magnitude: u64) -> F80 {
        if magnitude == 0 {
            return F80::ZERO;
        }
        let shift = magnitude.leading_zeros();
        let exponent = 0x3fff + 63 - u16::try_from(shift).expect("at most 63");
        F80 {
            mantissa: magnitude << shift,
            sign_exp: exponent,
        }
    }
}
