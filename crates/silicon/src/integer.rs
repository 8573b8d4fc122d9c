//! Packed integers, and the bitwise and rearranging instructions that look at
//! no number: MMX, SSE2, SSSE3, SSE4.1 and SSE4.2 on XMM registers.
//!
//! None reads or writes MXCSR. Shifts by an immediate are the shifts by a
//! register whose low quadword is the immediate (SDM volume 2, `PSLLW`).

use std::arch::asm;

use crate::lanes::{bits, bytes, from_words, vector};

/// `op a, b` with `a` read and written.
macro_rules! binary {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: the new `a`.")]
        #[inline]
        pub fn $name(a: u128, b: u128) -> u128 {
            let mut result = vector(a);
            // SAFETY: one instruction on registers, of a level that
            // `supported` asks for; it touches no memory and no flag.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {a}, {b}"),
                    a = inout(xmm_reg) result,
                    b = in(xmm_reg) vector(b),
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            bits(result)
        }
    )*};
}

/// `op a, b` with `a` only written.
macro_rules! unary {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: the new `a`.")]
        #[inline]
        pub fn $name(b: u128) -> u128 {
            let result;
            // SAFETY: as in `binary`.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {a}, {b}"),
                    a = lateout(xmm_reg) result,
                    b = in(xmm_reg) vector(b),
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            bits(result)
        }
    )*};
}

/// The top bit of each lane, gathered in a general register.
macro_rules! gather {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " r32, b`: the new `r32`.")]
        #[inline]
        pub fn $name(b: u128) -> u32 {
            let result;
            // SAFETY: as in `binary`.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {a:e}, {b}"),
                    a = lateout(reg) result,
                    b = in(xmm_reg) vector(b),
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            result
        }
    )*};
}

binary! {
    paddb paddw paddd paddq paddsb paddsw paddusb paddusw
    psubb psubw psubd psubq psubsb psubsw psubusb psubusw
    pmullw pmulhw pmulhuw pmuludq pmaddwd psadbw pavgb pavgw
    pminub pmaxub pminsw pmaxsw
    pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd
    packsswb packssdw packuswb
    punpcklbw punpcklwd punpckldq punpcklqdq
    punpckhbw punpckhwd punpckhdq punpckhqdq
    unpcklps unpckhps unpcklpd unpckhpd
    psllw pslld psllq psrlw psrld psrlq psraw psrad
}

// SSSE3.
binary! {
    pshufb phaddw phaddd phaddsw phsubw phsubd phsubsw
    pmaddubsw pmulhrsw psignb psignw psignd
}

// SSE4.1 and SSE4.2.
binary! {
    pmuldq pmulld pcmpeqq pcmpgtq packusdw
    pminsb pminsd pminuw pminud pmaxsb pmaxsd pmaxuw pmaxud
}

unary! {
    pabsb pabsw pabsd
    pmovsxbw pmovsxbd pmovsxbq pmovsxwd pmovsxwq pmovsxdq
    pmovzxbw pmovzxbd pmovzxbq pmovzxwd pmovzxwq pmovzxdq
    phminposuw
    movddup movsldup movshdup
}

gather! { pmovmskb movmskps movmskpd }

/// `pand`, `andps` and `andpd`.
#[inline]
pub fn pand(a: u128, b: u128) -> u128 {
    a & b
}

/// `pandn`, `andnps` and `andnpd`: the first operand is the one complemented.
#[inline]
pub fn pandn(a: u128, b: u128) -> u128 {
    !a & b
}

/// `por`, `orps` and `orpd`.
#[inline]
pub fn por(a: u128, b: u128) -> u128 {
    a | b
}

/// `pxor`, `xorps` and `xorpd`.
#[inline]
pub fn pxor(a: u128, b: u128) -> u128 {
    a ^ b
}

/// `ptest a, b`: the new ZF and CF. The other arithmetic flags become 0.
#[inline]
pub fn ptest(a: u128, b: u128) -> (bool, bool) {
    (a & b == 0, !a & b == 0)
}

/// `mpsadbw a, b, imm8`: eight sums of absolute differences of four bytes of
/// `b` against a window that slides over `a`.
pub fn mpsadbw(a: u128, b: u128, imm: u8) -> u128 {
    let window = bytes(a >> (u32::from(imm >> 2 & 1) * 32));
    let fixed = bytes(b >> (u32::from(imm & 3) * 32));
    // With bit 2 set the window starts at byte 4 and its last byte is
    // 4 + 7 + 3 = 14, so the shift above drops none that is read.
    from_words(std::array::from_fn(|i| {
        (0..4)
            .map(|j| u16::from(window[i + j].abs_diff(fixed[j])))
            .sum()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{from_bytes, words};
    use proptest::prelude::*;

    fn zip_bytes(a: u128, b: u128, f: impl Fn(u8, u8) -> u8) -> u128 {
        let (a, b) = (bytes(a), bytes(b));
        from_bytes(std::array::from_fn(|i| f(a[i], b[i])))
    }

    fn zip_words(a: u128, b: u128, f: impl Fn(u16, u16) -> u16) -> u128 {
        let (a, b) = (words(a), words(b));
        from_words(std::array::from_fn(|i| f(a[i], b[i])))
    }

    proptest! {
        #[test]
        fn lanes_are_added_apart(a: u128, b: u128) {
            prop_assert_eq!(paddb(a, b), zip_bytes(a, b, u8::wrapping_add));
            prop_assert_eq!(paddusw(a, b), zip_words(a, b, u16::saturating_add));
            prop_assert_eq!(psubusb(a, b), zip_bytes(a, b, u8::saturating_sub));
        }

        #[test]
        fn operands_are_not_swapped(a: u128, b: u128) {
            prop_assert_eq!(pcmpgtw(a, b), zip_words(a, b, |a, b| {
                if a.cast_signed() > b.cast_signed() { 0xffff } else { 0 }
            }));
            prop_assert_eq!(punpcklqdq(a, b), a & u128::from(u64::MAX) | b << 64);
        }

        #[test]
        fn a_shift_count_is_the_whole_low_quadword(a: u128, count in 0u64..20) {
            let expected = zip_words(a, 0, |a, _| if count > 15 { 0 } else { a << count });
            prop_assert_eq!(psllw(a, u128::from(count)), expected);
            prop_assert_eq!(psllw(a, u128::from(count) | 1 << 40), 0);
        }

        #[test]
        fn differences_are_summed_as_the_instruction_does(a: u128, b: u128) {
            for imm in 0..8u8 {
                prop_assert_eq!(mpsadbw(a, b, imm), native_mpsadbw(a, b, imm));
            }
        }
    }

    fn native_mpsadbw(a: u128, b: u128, imm: u8) -> u128 {
        macro_rules! run {
            ($imm:literal) => {{
                let mut result = vector(a);
                // SAFETY: one instruction on registers.
                unsafe {
                    asm!(concat!("mpsadbw {a}, {b}, ", $imm), a = inout(xmm_reg) result,
                         b = in(xmm_reg) vector(b), options(pure, nomem, nostack));
                }
                bits(result)
            }};
        }
        match imm {
            0 => run!(0),
            1 => run!(1),
            2 => run!(2),
            3 => run!(3),
            4 => run!(4),
            5 => run!(5),
            6 => run!(6),
            _ => run!(7),
        }
    }
}
