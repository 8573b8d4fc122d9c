//! Floating-point arithmetic: packed and scalar, single and double (SDM
//! volume 1, 10.4.1, 11.4.1 and 12.3).
//!
//! A scalar instruction is a function of the whole registers too: the lanes
//! above the lowest are the first operand's.

use crate::lanes::{bits, doubles, from_doubles, quads, vector};
use crate::mxcsr::{FLAGS, Result, control, each, settle, under_guest_mxcsr};
use crate::precise::{self, Operation};
use crate::quick;
use std::array::from_fn;

/// The pairs that an instruction's lanes combine: the operation and both
/// operands of each.
type Pairs<T, const N: usize> = [(Operation, T, T); N];

macro_rules! vertical {
    ($name:ident, $lanes:ident, $lane:ty, $count:literal) => {
        fn $name(operation: Operation, a: u128, b: u128) -> Pairs<$lane, $count> {
            let (a, b) = ($lanes(a), $lanes(b));
            from_fn(|i| (operation, a[i], b[i]))
        }
    };
}
vertical!(singles_vertical, doubles, u32, 4);
vertical!(doubles_vertical, quads, u64, 2);
vertical!(single_lowest, doubles, u32, 1);
vertical!(double_lowest, quads, u64, 1);

fn singles_horizontal(operation: Operation, a: u128, b: u128) -> Pairs<u32, 4> {
    let (a, b) = (doubles(a), doubles(b));
    [(a[0], a[1]), (a[2], a[3]), (b[0], b[1]), (b[2], b[3])].map(|(x, y)| (operation, x, y))
}

fn doubles_horizontal(operation: Operation, a: u128, b: u128) -> Pairs<u64, 2> {
    let (a, b) = (quads(a), quads(b));
    [(operation, a[0], a[1]), (operation, b[0], b[1])]
}

/// Even lanes are subtracted, odd lanes added.
fn alternate<T: Copy, const N: usize>(mut pairs: Pairs<T, N>) -> Pairs<T, N> {
    pairs
        .iter_mut()
        .step_by(2)
        .for_each(|pair| pair.0 = Operation::Sub);
    pairs
}

fn singles_alternating(operation: Operation, a: u128, b: u128) -> Pairs<u32, 4> {
    alternate(singles_vertical(operation, a, b))
}

fn doubles_alternating(operation: Operation, a: u128, b: u128) -> Pairs<u64, 2> {
    alternate(doubles_vertical(operation, a, b))
}

macro_rules! run {
    ($name:ident, $a:expr, $b:expr, $control:ident) => {{
        let mut result = vector($a);
        // SAFETY: one instruction on registers, of a level that `supported`
        // asks for, with every exception masked; the only memory touched is
        // `$control` and the constant `HOST`, whose value MXCSR has again
        // afterwards.
        unsafe {
            under_guest_mxcsr!(
                $control,
                [concat!(stringify!($name), " {a}, {b}")],
                a = inout(xmm_reg) result,
                b = in(xmm_reg) vector($b),
                options(nostack),
            );
        }
        bits(result)
    }};
}

/// The quick way of a scalar instruction, if it has one: see [`quick`].
#[inline(always)]
fn quick_single(a: u128, b: u128, mxcsr: u32, f: impl FnOnce(f32, f32) -> f32) -> Option<u128> {
    let result = quick::single::operate(a as u32, b as u32, mxcsr, f)?;
    Some(a & !u128::from(u32::MAX) | u128::from(result))
}

#[inline(always)]
fn quick_double(a: u128, b: u128, mxcsr: u32, f: impl FnOnce(f64, f64) -> f64) -> Option<u128> {
    let result = quick::double::operate(a as u64, b as u64, mxcsr, f)?;
    Some(a & !u128::from(u64::MAX) | u128::from(result))
}

/// Instructions whose results may overflow or be tiny: the pairs their lanes
/// combine, the operation, and how a lane's flags are found.
macro_rules! arithmetic {
    ($($name:ident: $pairs:ident, $operation:ident, $flags:path $(, $quick:expr)?;)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: the new `a`.")]
        #[inline]
        pub fn $name(a: u128, b: u128, mxcsr: &mut u32) -> Result<u128> {
            $(if let Some(result) = $quick(a, b, *mxcsr) {
                return Ok(result);
            })?
            let mut control = control(*mxcsr);
            let result = run!($name, a, b, control);
            settle(mxcsr, control, |guest| {
                $pairs(Operation::$operation, a, b)
                    .into_iter()
                    .fold(0, |raised, (operation, x, y)| raised | $flags(operation, x, y, guest))
            })?;
            Ok(result)
        }
    )*};
}

arithmetic! {
    addps: singles_vertical, Add, precise::single;
    addpd: doubles_vertical, Add, precise::double;
    addss: single_lowest, Add, precise::single, |a, b, m| quick_single(a, b, m, |x, y| x + y);
    addsd: double_lowest, Add, precise::double, |a, b, m| quick_double(a, b, m, |x, y| x + y);
    subps: singles_vertical, Sub, precise::single;
    subpd: doubles_vertical, Sub, precise::double;
    subss: single_lowest, Sub, precise::single, |a, b, m| quick_single(a, b, m, |x, y| x - y);
    subsd: double_lowest, Sub, precise::double, |a, b, m| quick_double(a, b, m, |x, y| x - y);
    mulps: singles_vertical, Mul, precise::single;
    mulpd: doubles_vertical, Mul, precise::double;
    mulss: single_lowest, Mul, precise::single, |a, b, m| quick_single(a, b, m, |x, y| x * y);
    mulsd: double_lowest, Mul, precise::double, |a, b, m| quick_double(a, b, m, |x, y| x * y);
    divps: singles_vertical, Div, precise::single;
    divpd: doubles_vertical, Div, precise::double;
    divss: single_lowest, Div, precise::single, |a, b, m| quick_single(a, b, m, |x, y| x / y);
    divsd: double_lowest, Div, precise::double, |a, b, m| quick_double(a, b, m, |x, y| x / y);
    haddps: singles_horizontal, Add, precise::single;
    haddpd: doubles_horizontal, Add, precise::double;
    hsubps: singles_horizontal, Sub, precise::single;
    hsubpd: doubles_horizontal, Sub, precise::double;
    addsubps: singles_alternating, Add, precise::single;
    addsubpd: doubles_alternating, Add, precise::double;
}

/// Instructions that raise neither overflow nor underflow.
macro_rules! bounded {
    ($($name:ident $(: $quick:expr)?;)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: the new `a`.")]
        #[inline]
        pub fn $name(a: u128, b: u128, mxcsr: &mut u32) -> Result<u128> {
            $(if let Some(result) = $quick(a, b, *mxcsr) {
                return Ok(result);
            })?
            let mut control = control(*mxcsr);
            let result = run!($name, a, b, control);
            settle(mxcsr, control, |_| control & FLAGS)?;
            Ok(result)
        }
    )*};
}
pub(crate) use bounded;
pub(crate) use run;

bounded! {
    minps; minpd; minss; minsd;
    maxps; maxpd; maxss; maxsd;
    sqrtps;
    sqrtpd;
    sqrtss: |a, b, m| quick_single(a, b, m, |_, y| y.sqrt());
    sqrtsd: |a, b, m| quick_double(a, b, m, |_, y| y.sqrt());
}

/// One scalar operation under `control`: its result, and what it raised.
pub(crate) fn raw_scalar_single(
    operation: Operation,
    x: u32,
    y: u32,
    mut control: u32,
) -> (u32, u32) {
    let (x, y) = (u128::from(x), u128::from(y));
    let result = match operation {
        Operation::Add => run!(addss, x, y, control),
        Operation::Sub => run!(subss, x, y, control),
        Operation::Mul => run!(mulss, x, y, control),
        Operation::Div => run!(divss, x, y, control),
    };
    (result as u32, control & FLAGS)
}

/// As [`raw_scalar_single`], for doubles.
pub(crate) fn raw_scalar_double(
    operation: Operation,
    x: u64,
    y: u64,
    mut control: u32,
) -> (u64, u32) {
    let (x, y) = (u128::from(x), u128::from(y));
    let result = match operation {
        Operation::Add => run!(addsd, x, y, control),
        Operation::Sub => run!(subsd, x, y, control),
        Operation::Mul => run!(mulsd, x, y, control),
        Operation::Div => run!(divsd, x, y, control),
    };
    (result as u64, control & FLAGS)
}

/// `cvtsd2ss` of one double under `control`.
pub(crate) fn raw_narrow(x: u64, mut control: u32) -> (u32, u32) {
    let result = run!(cvtsd2ss, 0, u128::from(x), control);
    (result as u32, control & FLAGS)
}

/// `dpps a, b, imm8`.
pub fn dpps(a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> Result<u128> {
    vdpps([a], [b], imm, mxcsr).map(|[result]| result)
}

/// `vdpps a, b, imm8`: `dpps` in each 128 bits. The products and sums, and what
/// each raises, come in the order of the SDM; which NaN wins follows from that
/// order.
pub fn vdpps<const L: usize>(
    a: [u128; L],
    b: [u128; L],
    imm: u8,
    mxcsr: &mut u32,
) -> Result<[u128; L]> {
    let chosen = |v: u128, bits: u8| {
        let v = doubles(v);
        from_doubles(from_fn(|i| if bits >> i & 1 != 0 { v[i] } else { 0 }))
    };
    let products = each::<L>(mxcsr, |i, mxcsr| {
        mulps(chosen(a[i], imm >> 4), chosen(b[i], imm >> 4), mxcsr)
    })?
    .map(doubles);
    let sums = each::<L>(mxcsr, |i, mxcsr| {
        let pair = |x, y| u128::from(products[i][x]) | u128::from(products[i][y]) << 32;
        addps(pair(0, 2), pair(1, 3), mxcsr)
    })?
    .map(doubles);
    let sum = each::<L>(mxcsr, |i, mxcsr| {
        addss(sums[i][0].into(), sums[i][1].into(), mxcsr)
    })?;
    Ok(sum.map(|sum| chosen(from_doubles([sum as u32; 4]), imm)))
}

/// `dppd a, b, imm8`.
pub fn dppd(a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> Result<u128> {
    let chosen = |v: u128, bits: u8| {
        let v = quads(v);
        crate::lanes::from_quads(from_fn(|i| if bits >> i & 1 != 0 { v[i] } else { 0 }))
    };
    let products = quads(mulpd(chosen(a, imm >> 4), chosen(b, imm >> 4), mxcsr)?);
    let sum = addsd(products[0].into(), products[1].into(), mxcsr)? as u64;
    Ok(chosen(crate::lanes::from_quads([sum; 2]), imm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mxcsr::{DAZ, DE, FTZ, IE, INITIAL, OE, PE, UE, Unmasked, ZE};
    use proptest::prelude::*;

    /// The flags of `f(a, b)` with the exceptions in `unmasked` not masked, and
    /// whether it faulted. The cases below were seen on the hardware.
    fn raised(
        f: impl Fn(u128, u128, &mut u32) -> Result<u128>,
        (a, b): (f32, f32),
        (unmasked, modes): (u32, u32),
    ) -> (u32, bool) {
        let mut mxcsr = INITIAL & !(unmasked << 7) | modes;
        let result = f(a.to_bits().into(), b.to_bits().into(), &mut mxcsr);
        (mxcsr & FLAGS, result == Err(Unmasked))
    }

    const HUGE: f32 = 1.2676506e30; // 2^100
    const SMALL: f32 = 7.888609e-31; // 2^-100
    /// 2^-100 and a bit, so that its square is inexact.
    const SMALL_ODD: f32 = f32::from_bits(SMALL.to_bits() + 1);
    const DENORMAL: f32 = f32::from_bits(1 << 9);

    #[test]
    fn an_unmasked_overflow_is_inexact_only_without_exponent_bounds() {
        let huge_odd = f32::from_bits(HUGE.to_bits() + 1);
        assert_eq!(raised(mulss, (HUGE, HUGE), (OE, 0)), (OE, true));
        assert_eq!(
            raised(mulss, (huge_odd, huge_odd), (OE, 0)),
            (OE | PE, true)
        );
        assert_eq!(raised(mulss, (HUGE, HUGE), (PE, 0)), (OE | PE, true));
        assert_eq!(raised(mulss, (HUGE, HUGE), (OE | PE, 0)), (OE, true));
        assert_eq!(raised(addss, (f32::MAX, f32::MAX), (OE, 0)), (OE, true));
        assert_eq!(raised(addss, (f32::MAX, HUGE), (OE, 0)), (PE, false));
    }

    #[test]
    fn an_unmasked_underflow_is_raised_by_exact_results_too() {
        let eighth = 2f32.powi(-40);
        assert_eq!(raised(mulss, (SMALL, eighth), (0, 0)), (0, false));
        assert_eq!(raised(mulss, (SMALL, eighth), (UE, 0)), (UE, true));
        assert_eq!(raised(mulss, (SMALL, eighth), (UE, FTZ)), (UE, true));
        assert_eq!(raised(mulss, (SMALL, eighth), (0, FTZ)), (UE | PE, false));
        assert_eq!(raised(mulss, (SMALL, SMALL), (UE, 0)), (UE, true));
        assert_eq!(
            raised(mulss, (SMALL_ODD, SMALL_ODD), (UE, 0)),
            (UE | PE, true)
        );
        assert_eq!(
            raised(mulss, (SMALL_ODD, 2f32.powi(-30)), (UE, 0)),
            (UE, true)
        );
        assert_eq!(
            raised(addss, (DENORMAL, DENORMAL), (UE, 0)),
            (DE | UE, true)
        );
        assert_eq!(raised(maxss, (DENORMAL, DENORMAL), (UE, 0)), (DE, false));
    }

    #[test]
    fn what_is_found_before_the_computation_hides_the_rest() {
        assert_eq!(raised(divss, (1.0, 0.0), (ZE, 0)), (ZE, true));
        assert_eq!(raised(divss, (DENORMAL, 0.0), (DE, 0)), (ZE, false));
        assert_eq!(raised(addss, (DENORMAL, 1.0), (0, 0)), (DE | PE, false));
        assert_eq!(raised(addss, (DENORMAL, 1.0), (DE, 0)), (DE, true));
        assert_eq!(raised(addss, (DENORMAL, 1.0), (DE, DAZ)), (0, false));
        assert_eq!(raised(mulss, (f32::INFINITY, 0.0), (IE, 0)), (IE, true));
    }

    #[test]
    fn rounding_is_the_guests_and_the_hosts_stays() {
        let one_third = |mode: u32| {
            let mut mxcsr = INITIAL | mode << 13;
            let three = u128::from(3f64.to_bits());
            let result = divsd(1f64.to_bits().into(), three, &mut mxcsr).expect("masked");
            assert_eq!(mxcsr, INITIAL | mode << 13 | PE);
            result as u64
        };
        let nearest = (1f64 / 3f64).to_bits();
        assert_eq!(
            [0, 1, 2, 3].map(one_third),
            [nearest, nearest, nearest + 1, nearest]
        );
        assert_eq!(
            std::hint::black_box(1f64) / std::hint::black_box(3f64),
            f64::from_bits(nearest)
        );
    }

    /// Doubles and singles near the edges of their range.
    fn edges() -> impl Strategy<Value = u128> {
        prop_oneof![
            any::<u128>(),
            prop::array::uniform4(single()).prop_map(crate::lanes::from_doubles)
        ]
    }

    fn single() -> impl Strategy<Value = u32> {
        (
            any::<bool>(),
            prop_oneof![0u32..6, 60u32..70, 120u32..134, 186u32..196, 250u32..256],
            prop_oneof![Just(0u32), Just(1), Just(0x40_0000), 0u32..0x80_0000],
        )
            .prop_map(|(sign, exponent, fraction)| {
                u32::from(sign) << 31 | exponent << 23 | fraction
            })
    }

    /// `value`, with each NaN in its lanes of `bits` bits, 32 or 64, made the same: which one it is
    /// follows from the order of the sums, and processors have their own.
    fn with_one_nan(value: u128, bits: u32) -> u128 {
        (0..128).step_by(bits as usize).fold(0, |all, shift| {
            let lane = value >> shift & (u128::MAX >> (128 - bits));
            let is_nan = match bits {
                32 => f32::from_bits(lane as u32).is_nan(),
                _ => f64::from_bits(lane as u64).is_nan(),
            };
            let same = u128::MAX >> (128 - bits);
            all | if is_nan { same } else { lane } << shift
        })
    }

    macro_rules! native_dot {
        ($name:ident of $bits:literal: $test:ident: $($imm:literal)*) => {
            proptest! {
                #[test]
                fn $test(a in edges(), b in edges()) {
                    $({
                        let mut control = INITIAL;
                        let mut result = vector(a);
                        // SAFETY: as in `run`.
                        unsafe {
                            under_guest_mxcsr!(control,
                                [concat!(stringify!($name), " {a}, {b}, ", $imm)],
                                a = inout(xmm_reg) result, b = in(xmm_reg) vector(b), options(nostack));
                        }
                        let mut mxcsr = INITIAL;
                        let ours = $name(a, b, $imm, &mut mxcsr).expect("masked");
                        let [ours, native] = [ours, bits(result)].map(|value| with_one_nan(value, $bits));
                        prop_assert_eq!((ours, mxcsr), (native, control), "imm {:#x}", $imm);
                    })*
                }
            }
        };
    }
    native_dot!(dpps of 32: dot_products_of_singles_are_the_instructions_own: 0xff 0xf1 0x7f 0x31 0x55 0x8f 0x0f);
    native_dot!(dppd of 64: dot_products_of_doubles_are_the_instructions_own: 0x33 0x31 0x12 0x23 0x03);
}
