//! Arithmetic by the host's x87. All operand forms are the host's own instructions, so that signalling NaNs and
//! denormals in memory operands behave as they do there.

use super::{Control, Done, F80, Pair, status};

/// An operation on ST(0) or another register and a second operand of type `T`.
pub type Binary<T> = fn(Control, F80, T) -> Done;
/// A comparison of ST(0) with a second operand of type `T`: C3, C2, C0 as FCOM sets them.
pub type Compared<T> = fn(F80, T) -> u16;

const KEPT: u16 = status::EXCEPTIONS | status::CONDITIONS;
pub(super) static DEFAULT_CONTROL: u16 = Control::DEFAULT.0;

/// Runs `$op` between `$before` and `$after` on the host, under the guest's control word, and gives the status word.
///
/// `$before` loads operands on the empty stack; `$after` stores results and must leave the stack empty. An unmasked
/// overflow or underflow raises #MF only at the next waiting instruction; FNSTSW and FNCLEX don't wait, so it is gone
/// before FLDCW would deliver it.
macro_rules! on_host {
    ($control:expr, [$($before:literal),*], $op:literal, [$($after:literal),*], $($name:ident = $pointer:expr),*) => {{
        let word: u16 = $control.for_host();
        let unmasked = u32::from($control.unmasked($crate::x87::status::OE | $crate::x87::status::UE));
        let status: u16;
        // SAFETY: the pointers are of live locals of at least the size that the instructions access; the x87
        // stack is empty before (the ABI's promise) and after, and the default control word is put back; all
        // exceptions that would be delivered are masked or cleared before a waiting instruction.
        unsafe {
            std::arch::asm!(
                "fnclex",
                $($before,)*
                "fldcw word ptr [{word}]",
                $op,
                "fnstsw ax",
                "test {unmasked:e}, {unmasked:e}",
                "jz 2f",
                "fnclex",
                "2:",
                "fldcw word ptr [{default}]",
                $($after,)*
                word = in(reg) &raw const word,
                default = in(reg) &raw const $crate::x87::arith::DEFAULT_CONTROL,
                unmasked = in(reg) unmasked,
                $($name = in(reg) $pointer,)*
                out("ax") status,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                options(nostack),
            );
        }
        status
    }};
}
pub(super) use on_host;

macro_rules! binary {
    ($($name:ident($second:ty) $op:literal;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: ST(0) becomes the result of `", $op, "`.")]
        pub fn $name(control: Control, a: F80, b: $second) -> Done {
            let mut value = F80::ZERO;
            let status = on_host!(control, ["fld tbyte ptr [{a}]"], $op, ["fstp tbyte ptr [{value}]"],
                a = &raw const a, b = &raw const b, value = &raw mut value);
            Done { value, status: status & (status::EXCEPTIONS | status::C1) }
        }
    )*};
}

binary! {
    fadd_f32(u32) "fadd dword ptr [{b}]";
    fadd_f64(u64) "fadd qword ptr [{b}]";
    fadd_i16(i16) "fiadd word ptr [{b}]";
    fadd_i32(i32) "fiadd dword ptr [{b}]";
    fmul_f32(u32) "fmul dword ptr [{b}]";
    fmul_f64(u64) "fmul qword ptr [{b}]";
    fmul_i16(i16) "fimul word ptr [{b}]";
    fmul_i32(i32) "fimul dword ptr [{b}]";
    fsub_f32(u32) "fsub dword ptr [{b}]";
    fsub_f64(u64) "fsub qword ptr [{b}]";
    fsub_i16(i16) "fisub word ptr [{b}]";
    fsub_i32(i32) "fisub dword ptr [{b}]";
    fsubr_f32(u32) "fsubr dword ptr [{b}]";
    fsubr_f64(u64) "fsubr qword ptr [{b}]";
    fsubr_i16(i16) "fisubr word ptr [{b}]";
    fsubr_i32(i32) "fisubr dword ptr [{b}]";
    fdiv_f32(u32) "fdiv dword ptr [{b}]";
    fdiv_f64(u64) "fdiv qword ptr [{b}]";
    fdiv_i16(i16) "fidiv word ptr [{b}]";
    fdiv_i32(i32) "fidiv dword ptr [{b}]";
    fdivr_f32(u32) "fdivr dword ptr [{b}]";
    fdivr_f64(u64) "fdivr qword ptr [{b}]";
    fdivr_i16(i16) "fidivr word ptr [{b}]";
    fdivr_i32(i32) "fidivr dword ptr [{b}]";
}

macro_rules! register_binary {
    ($($(#[$doc:meta])* $name:ident $op:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(control: Control, a: F80, b: F80) -> Done {
            let mut value = F80::ZERO;
            let status = on_host!(control, ["fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]"], $op,
                ["fstp tbyte ptr [{value}]", "fstp st(0)"],
                a = &raw const a, b = &raw const b, value = &raw mut value);
            Done { value, status: status & (status::EXCEPTIONS | status::C1) }
        }
    )*};
}

register_binary! {
    /// `a + b`.
    fadd "fadd st, st(1)";
    /// `a * b`.
    fmul "fmul st, st(1)";
    /// `a - b`.
    fsub "fsub st, st(1)";
    /// `b - a`.
    fsubr "fsubr st, st(1)";
    /// `a / b`.
    fdiv "fdiv st, st(1)";
    /// `b / a`.
    fdivr "fdivr st, st(1)";
    /// `a` times two to the integer part of `b`.
    fscale "fscale";
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(control: Control, a: F80) -> Done {
            let mut value = F80::ZERO;
            let status = on_host!(control, ["fld tbyte ptr [{a}]"], $op, ["fstp tbyte ptr [{value}]"],
                a = &raw const a, value = &raw mut value);
            Done { value, status: status & (status::EXCEPTIONS | status::C1) }
        }
    )*};
}

unary! {
    /// The square root.
    fsqrt "fsqrt";
    /// Rounded to an integer.
    frndint "frndint";
}

/// FXTRACT: the exponent replaces the operand, the significand is pushed.
pub fn fxtract(a: F80) -> Done<Pair> {
    let (mut replaced, mut pushed) = (F80::ZERO, F80::ZERO);
    let status = on_host!(
        Control::DEFAULT,
        ["fld tbyte ptr [{a}]"],
        "fxtract",
        ["fstp tbyte ptr [{pushed}]", "fstp tbyte ptr [{replaced}]"],
        a = &raw const a,
        pushed = &raw mut pushed,
        replaced = &raw mut replaced
    );
    Done {
        value: Pair { replaced, pushed },
        status: status & status::EXCEPTIONS,
    }
}

macro_rules! compare {
    ($($name:ident($second:ty) $op:literal;)*) => {$(
        #[doc = concat!("`", $op, "`: the flags and conditions of comparing `a` with `b`.")]
        pub fn $name(a: F80, b: $second) -> u16 {
            let status = on_host!(Control::DEFAULT, ["fld tbyte ptr [{a}]"], $op, ["fstp st(0)"],
                a = &raw const a, b = &raw const b);
            status & KEPT
        }
    )*};
}

compare! {
    fcom_f32(u32) "fcom dword ptr [{b}]";
    fcom_f64(u64) "fcom qword ptr [{b}]";
    fcom_i16(i16) "ficom word ptr [{b}]";
    fcom_i32(i32) "ficom dword ptr [{b}]";
}

macro_rules! register_compare {
    ($($(#[$doc:meta])* $name:ident $op:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: F80, b: F80) -> u16 {
            let status = on_host!(Control::DEFAULT, ["fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]"], $op,
                ["fstp st(0)", "fstp st(0)"], a = &raw const a, b = &raw const b);
            status & KEPT
        }
    )*};
}

register_compare! {
    /// FCOM: any NaN is invalid.
    fcom "fcom st(1)";
    /// FUCOM: only signalling NaNs and unsupported patterns are invalid.
    fucom "fucom st(1)";
}

/// FTST: FCOM with plus zero.
pub fn ftst(a: F80) -> u16 {
    fcom(a, F80::ZERO)
}
