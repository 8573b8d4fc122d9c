//! Floating-point comparisons: masks by predicate, and EFLAGS (SDM volume 2,
//! `CMPPS`, `COMISS`, `UCOMISS`).

use crate::lanes::{bits, vector};
use crate::mxcsr::{FLAGS, Result, control, settle, under_guest_mxcsr};
use crate::quick;

macro_rules! run {
    ($name:literal, $a:ident, $b:ident, $control:ident) => {{
        let mut result = vector($a);
        // SAFETY: as in `float::run`.
        unsafe {
            under_guest_mxcsr!(
                $control,
                [concat!($name, " {a}, {b}")],
                a = inout(xmm_reg) result,
                b = in(xmm_reg) vector($b),
                options(nostack),
            );
        }
        bits(result)
    }};
}

macro_rules! compare {
    ($($name:ident: $eq:literal $lt:literal $le:literal $unord:literal
        $neq:literal $nlt:literal $nle:literal $ord:literal;)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, predicate`: the new `a`.")]
        /// Of `predicate`, the lowest three bits count.
        pub fn $name(a: u128, b: u128, predicate: u8, mxcsr: &mut u32) -> Result<u128> {
            let mut control = control(*mxcsr);
            let result = match predicate & 7 {
                0 => run!($eq, a, b, control),
                1 => run!($lt, a, b, control),
                2 => run!($le, a, b, control),
                3 => run!($unord, a, b, control),
                4 => run!($neq, a, b, control),
                5 => run!($nlt, a, b, control),
                6 => run!($nle, a, b, control),
                _ => run!($ord, a, b, control),
            };
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(result)
        }
    )*};
}

compare! {
    cmpps: "cmpeqps" "cmpltps" "cmpleps" "cmpunordps" "cmpneqps" "cmpnltps" "cmpnleps" "cmpordps";
    cmppd: "cmpeqpd" "cmpltpd" "cmplepd" "cmpunordpd" "cmpneqpd" "cmpnltpd" "cmpnlepd" "cmpordpd";
    cmpss: "cmpeqss" "cmpltss" "cmpless" "cmpunordss" "cmpneqss" "cmpnltss" "cmpnless" "cmpordss";
    cmpsd: "cmpeqsd" "cmpltsd" "cmplesd" "cmpunordsd" "cmpneqsd" "cmpnltsd" "cmpnlesd" "cmpordsd";
}

macro_rules! run_vex {
    ($name:ident, $a:ident, $b:ident, $control:ident, $predicate:literal) => {{
        let mut result = vector($a);
        // SAFETY: as in `float::run`; of a level that `supported` asks for if
        // the guest has it.
        unsafe {
            under_guest_mxcsr!(
                $control,
                [concat!(stringify!($name), " {a}, {a}, {b}, ", $predicate)],
                a = inout(xmm_reg) result,
                b = in(xmm_reg) vector($b),
                options(nostack),
            );
        }
        bits(result)
    }};
}

/// One arm for each predicate.
macro_rules! compare_vex {
    ([$($name:ident)*] $predicates:tt) => {
        $(compare_vex!($name $predicates);)*
    };
    ($name:ident [$($predicate:literal)*]) => {
        #[doc = concat!("`", stringify!($name), " a, b, predicate`: the new register.")]
        /// Of `predicate`, the lowest five bits count.
        pub fn $name(a: u128, b: u128, predicate: u8, mxcsr: &mut u32) -> Result<u128> {
            let mut control = control(*mxcsr);
            let result = match predicate & 31 {
                $($predicate => run_vex!($name, a, b, control, $predicate),)*
                _ => run_vex!($name, a, b, control, 31),
            };
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(result)
        }
    };
}

compare_vex! {
    [vcmpps vcmppd vcmpss vcmpsd]
    [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30]
}

/// ZF, PF and CF, the flags that a comparison can set.
const COMPARED: u64 = 0x45;
const ZF: u64 = 0x40;

macro_rules! ordered {
    ($($name:ident: $width:ident, $bits:ty, $float:ty;)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: RFLAGS' six arithmetic bits,")]
        /// of which OF, SF and AF are 0.
        #[inline]
        pub fn $name(a: u128, b: u128, mxcsr: &mut u32) -> Result<u64> {
            let (x, y) = (a as $bits, b as $bits);
            if quick::$width::is_plain(x) && quick::$width::is_plain(y) {
                let (x, y) = (<$float>::from_bits(x), <$float>::from_bits(y));
                return Ok(if x == y { ZF } else { u64::from(x < y) });
            }
            let mut control = control(*mxcsr);
            let ax: u64;
            // SAFETY: as in `float::run`; LAHF copies the flags to AH.
            unsafe {
                under_guest_mxcsr!(
                    control,
                    [concat!(stringify!($name), " {a}, {b}"), "lahf"],
                    a = in(xmm_reg) vector(a),
                    b = in(xmm_reg) vector(b),
                    out("rax") ax,
                    options(nostack),
                );
            }
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(ax >> 8 & COMPARED)
        }
    )*};
}

ordered! {
    comiss: single, u32, f32;
    comisd: double, u64, f64;
    ucomiss: single, u32, f32;
    ucomisd: double, u64, f64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mxcsr::{IE, INITIAL};

    fn single(value: f32) -> u128 {
        value.to_bits().into()
    }

    #[test]
    fn flags_tell_less_equal_greater_and_unordered() {
        let flags = |a, b| ucomiss(single(a), single(b), &mut INITIAL.clone()).expect("masked");
        assert_eq!(flags(1.0, 2.0), 0x01);
        assert_eq!(flags(2.0, 2.0), 0x40);
        assert_eq!(flags(3.0, 2.0), 0x00);
        assert_eq!(flags(f32::NAN, 2.0), 0x45);
    }

    #[test]
    fn only_the_ordered_comparison_minds_a_quiet_nan() {
        let mut mxcsr = INITIAL;
        ucomiss(single(f32::NAN), 0, &mut mxcsr).expect("masked");
        assert_eq!(mxcsr, INITIAL);
        comiss(single(f32::NAN), 0, &mut mxcsr).expect("masked");
        assert_eq!(mxcsr, INITIAL | IE);
    }

    #[test]
    fn a_predicate_is_its_lowest_three_bits() {
        let a = single(1.0);
        for predicate in 0..8 {
            let mut mxcsr = INITIAL;
            let mask = cmpps(a, a, predicate, &mut mxcsr).expect("masked");
            assert_eq!(cmpps(a, a, predicate | 0xf8, &mut mxcsr), Ok(mask));
            let holds = matches!(predicate, 0 | 2 | 5 | 7);
            assert_eq!(mask, if holds { u128::MAX } else { 0 });
        }
    }
}
