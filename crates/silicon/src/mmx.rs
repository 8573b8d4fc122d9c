//! MMX: the packed integer instructions on 64-bit registers (SDM volume 1,
//! chapter 9; the SSE, SSE2 and SSSE3 additions in 10.4.4, 11.4.2 and 12.5).
//!
//! Each is its XMM twin on registers whose high half is zero, with operands put
//! in place for the few that look at halves.

use crate::{integer, shuffle};

/// The low half of the XMM twin's result: lanes don't meet, or only those of
/// the low halves do.
macro_rules! low_half {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " mm, mm/m64`: the new first operand.")]
        #[inline]
        pub fn $name(a: u64, b: u64) -> u64 {
            integer::$name(a.into(), b.into()) as u64
        }
    )*};
}

/// Neighbours within `a`, then those within `b`: both side by side in one XMM
/// register give all of the result in its low half.
macro_rules! side_by_side {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " mm, mm/m64`: the new first operand.")]
        #[inline]
        pub fn $name(a: u64, b: u64) -> u64 {
            integer::$name(u128::from(a) | u128::from(b) << 64, 0) as u64
        }
    )*};
}

/// Interleaving the low halves gives what interleaving the high ones of MMX
/// registers does in its own high half.
macro_rules! high_of_low {
    ($($name:ident: $twin:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), " mm, mm/m64`: the new first operand.")]
        #[inline]
        pub fn $name(a: u64, b: u64) -> u64 {
            (integer::$twin(a.into(), b.into()) >> 64) as u64
        }
    )*};
}

macro_rules! unary {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " mm, mm/m64`: the new first operand.")]
        #[inline]
        pub fn $name(b: u64) -> u64 {
            integer::$name(b.into()) as u64
        }
    )*};
}

low_half! {
    paddb paddw paddd paddq paddsb paddsw paddusb paddusw
    psubb psubw psubd psubq psubsb psubsw psubusb psubusw
    pmullw pmulhw pmulhuw pmuludq pmaddwd psadbw pavgb pavgw
    pminub pmaxub pminsw pmaxsw
    pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd
    pand pandn por pxor
    punpcklbw punpcklwd punpckldq
    psllw pslld psllq psrlw psrld psrlq psraw psrad
    pmaddubsw pmulhrsw psignb psignw psignd
}

side_by_side! {
    packsswb packssdw packuswb
    phaddw phaddd phaddsw phsubw phsubd phsubsw
}

high_of_low! {
    punpckhbw: punpcklbw;
    punpckhwd: punpcklwd;
    punpckhdq: punpckldq;
}

unary! { pabsb pabsw pabsd }

/// `pshufb mm, mm/m64`: the new first operand. Bit 3 of a choice is ignored.
#[inline]
pub fn pshufb(a: u64, b: u64) -> u64 {
    integer::pshufb(a.into(), u128::from(b & 0x8787_8787_8787_8787)) as u64
}

/// `pshufw mm, mm/m64, imm8`: the new first operand.
#[inline]
pub fn pshufw(b: u64, imm: u8) -> u64 {
    shuffle::pshuflw(b.into(), imm) as u64
}

/// `palignr mm, mm/m64, imm8`: the new first operand.
#[inline]
pub fn palignr(a: u64, b: u64, imm: u8) -> u64 {
    shuffle::psrldq(u128::from(a) << 64 | u128::from(b), imm) as u64
}

/// `pinsrw mm, r32/m16, imm8`: the new first operand.
#[inline]
pub fn pinsrw(a: u64, value: u16, imm: u8) -> u64 {
    shuffle::pinsrw(a.into(), value, imm & 3) as u64
}

/// `pextrw r32, mm, imm8`: the lane.
#[inline]
pub fn pextrw(b: u64, imm: u8) -> u16 {
    shuffle::pextrw(b.into(), imm & 3)
}

/// `pmovmskb r32, mm`: the new `r32`.
#[inline]
pub fn pmovmskb(b: u64) -> u32 {
    integer::pmovmskb(b.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::arch::asm;

    /// The instruction itself, on MMX registers.
    macro_rules! native {
        ($name:expr, $a:expr, $b:expr) => {{
            let mut a: u64 = $a;
            // SAFETY: MMX registers are read and written within, and EMMS
            // leaves the x87 stack empty as it was.
            unsafe {
                asm!(
                    "movq mm0, {a}", "movq mm1, {b}",
                    concat!($name, " mm0, mm1"),
                    "movq {a}, mm0", "emms",
                    a = inout(reg) a, b = in(reg) $b,
                    out("mm0") _, out("mm1") _,
                    out("mm2") _, out("mm3") _, out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    options(nomem, nostack),
                );
            }
            a
        }};
    }

    macro_rules! as_native {
        ($($test:ident: $($name:ident)*;)*) => {
            proptest! {$(
                #[test]
                fn $test(a: u64, b: u64, count in 0u64..70) {
                    $(
                        prop_assert_eq!($name(a, b), native!(stringify!($name), a, b));
                        prop_assert_eq!($name(a, count), native!(stringify!($name), a, count));
                    )*
                }
            )*}
        };
    }

    as_native! {
        lanes_are_the_instructions_own:
            paddb paddsw psubusw pmulhuw pmuludq pmaddwd psadbw pavgb pcmpgtb pandn psignb pmulhrsw;
        shifts_are_the_instructions_own: psllw pslld psllq psrlw psrld psrlq psraw psrad;
        packs_and_sums_are_the_instructions_own:
            packsswb packssdw packuswb phaddw phaddd phaddsw phsubw phsubd phsubsw;
        interleavings_are_the_instructions_own:
            punpcklbw punpcklwd punpckldq punpckhbw punpckhwd punpckhdq pshufb;
    }

    proptest! {
        #[test]
        fn alignments_are_the_instructions_own(a: u64, b: u64) {
            prop_assert_eq!(palignr(a, b, 0), b);
            prop_assert_eq!(palignr(a, b, 3), b >> 24 | a << 40);
            prop_assert_eq!(palignr(a, b, 9), a >> 8);
            prop_assert_eq!(palignr(a, b, 16), 0);
        }
    }
}
