//! Rearrangements by an immediate, in plain code: an instruction's immediate is
//! a constant, and the guest's is not known until it runs.
//!
//! SDM volume 2, under each name. Bits of an immediate that choose nothing are
//! ignored.

use crate::lanes::{
    bytes, doubles, from_bytes, from_doubles, from_quads, from_words, quads, words,
};
use std::array::from_fn;

/// The two-bit choice number `i` of `imm`.
fn choice(imm: u8, i: usize) -> usize {
    usize::from(imm >> (2 * i) & 3)
}

/// `pshufd a, b, imm8`: the new `a`.
#[inline]
pub fn pshufd(b: u128, imm: u8) -> u128 {
    let b = doubles(b);
    from_doubles(from_fn(|i| b[choice(imm, i)]))
}

/// `pshuflw a, b, imm8`: the new `a`. MMX's `pshufw` is its low half.
#[inline]
pub fn pshuflw(b: u128, imm: u8) -> u128 {
    let b = words(b);
    from_words(from_fn(|i| if i < 4 { b[choice(imm, i)] } else { b[i] }))
}

/// `pshufhw a, b, imm8`: the new `a`.
#[inline]
pub fn pshufhw(b: u128, imm: u8) -> u128 {
    let b = words(b);
    from_words(from_fn(|i| {
        if i < 4 {
            b[i]
        } else {
            b[4 + choice(imm, i - 4)]
        }
    }))
}

/// `shufps a, b, imm8`: the new `a`.
#[inline]
pub fn shufps(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (doubles(a), doubles(b));
    from_doubles(from_fn(|i| if i < 2 { a } else { b }[choice(imm, i)]))
}

/// `shufpd a, b, imm8`: the new `a`.
#[inline]
pub fn shufpd(a: u128, b: u128, imm: u8) -> u128 {
    from_quads([
        quads(a)[usize::from(imm & 1)],
        quads(b)[usize::from(imm >> 1 & 1)],
    ])
}

/// `pslldq a, imm8`: the new `a`.
#[inline]
pub fn pslldq(a: u128, bytes: u8) -> u128 {
    a.checked_shl(u32::from(bytes) * 8).unwrap_or(0)
}

/// `psrldq a, imm8`: the new `a`.
#[inline]
pub fn psrldq(a: u128, bytes: u8) -> u128 {
    a.checked_shr(u32::from(bytes) * 8).unwrap_or(0)
}

/// `palignr a, b, imm8`: the new `a`, cut from `a:b` at byte `imm8`.
#[inline]
pub fn palignr(a: u128, b: u128, imm: u8) -> u128 {
    match imm {
        0 => b,
        1..=15 => b >> (u32::from(imm) * 8) | a << (128 - u32::from(imm) * 8),
        _ => psrldq(a, imm - 16),
    }
}

/// `pblendw a, b, imm8`: the new `a`.
#[inline]
pub fn pblendw(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (words(a), words(b));
    from_words(from_fn(|i| if imm >> i & 1 != 0 { b[i] } else { a[i] }))
}

/// `blendps a, b, imm8`: the new `a`.
#[inline]
pub fn blendps(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (doubles(a), doubles(b));
    from_doubles(from_fn(|i| if imm >> i & 1 != 0 { b[i] } else { a[i] }))
}

/// `blendpd a, b, imm8`: the new `a`.
#[inline]
pub fn blendpd(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (quads(a), quads(b));
    from_quads(from_fn(|i| if imm >> i & 1 != 0 { b[i] } else { a[i] }))
}

/// `pblendvb a, b, xmm0`: the new `a`. A lane's top bit in `mask` chooses `b`.
#[inline]
pub fn pblendvb(a: u128, b: u128, mask: u128) -> u128 {
    let (a, b, mask) = (bytes(a), bytes(b), bytes(mask));
    from_bytes(from_fn(|i| if mask[i] >> 7 != 0 { b[i] } else { a[i] }))
}

/// `blendvps a, b, xmm0`: the new `a`.
#[inline]
pub fn blendvps(a: u128, b: u128, mask: u128) -> u128 {
    let (a, b, mask) = (doubles(a), doubles(b), doubles(mask));
    from_doubles(from_fn(|i| if mask[i] >> 31 != 0 { b[i] } else { a[i] }))
}

/// `blendvpd a, b, xmm0`: the new `a`.
#[inline]
pub fn blendvpd(a: u128, b: u128, mask: u128) -> u128 {
    let (a, b, mask) = (quads(a), quads(b), quads(mask));
    from_quads(from_fn(|i| if mask[i] >> 63 != 0 { b[i] } else { a[i] }))
}

/// `insertps a, b, imm8`: the new `a`, given the single that `b` contributes
/// (lane `imm8[7:6]` of a register; of a memory operand the only one).
#[inline]
pub fn insertps(a: u128, single: u32, imm: u8) -> u128 {
    let mut lanes = doubles(a);
    lanes[choice(imm, 2)] = single;
    from_doubles(from_fn(|i| if imm >> i & 1 != 0 { 0 } else { lanes[i] }))
}

/// `extractps` and `pextrd`: lane `imm8[1:0]`.
#[inline]
pub fn pextrd(b: u128, imm: u8) -> u32 {
    doubles(b)[choice(imm, 0)]
}

/// `pextrb`: lane `imm8[3:0]`.
#[inline]
pub fn pextrb(b: u128, imm: u8) -> u8 {
    bytes(b)[usize::from(imm & 15)]
}

/// `pextrw`: lane `imm8[2:0]`.
#[inline]
pub fn pextrw(b: u128, imm: u8) -> u16 {
    words(b)[usize::from(imm & 7)]
}

/// `pextrq`: lane `imm8[0]`.
#[inline]
pub fn pextrq(b: u128, imm: u8) -> u64 {
    quads(b)[usize::from(imm & 1)]
}

/// `pinsrb`: into lane `imm8[3:0]`.
#[inline]
pub fn pinsrb(a: u128, value: u8, imm: u8) -> u128 {
    let mut lanes = bytes(a);
    lanes[usize::from(imm & 15)] = value;
    from_bytes(lanes)
}

/// `pinsrw`: into lane `imm8[2:0]`.
#[inline]
pub fn pinsrw(a: u128, value: u16, imm: u8) -> u128 {
    let mut lanes = words(a);
    lanes[usize::from(imm & 7)] = value;
    from_words(lanes)
}

/// `pinsrd`: into lane `imm8[1:0]`.
#[inline]
pub fn pinsrd(a: u128, value: u32, imm: u8) -> u128 {
    let mut lanes = doubles(a);
    lanes[choice(imm, 0)] = value;
    from_doubles(lanes)
}

/// `pinsrq`: into lane `imm8[0]`.
#[inline]
pub fn pinsrq(a: u128, value: u64, imm: u8) -> u128 {
    let mut lanes = quads(a);
    lanes[usize::from(imm & 1)] = value;
    from_quads(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
    const B: u128 = 0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110;

    #[test]
    fn an_alignment_cuts_from_both_and_then_from_the_first() {
        assert_eq!(palignr(A, B, 0), B);
        assert_eq!(palignr(A, B, 3), B >> 24 | A << 104);
        assert_eq!(palignr(A, B, 16), A);
        assert_eq!(palignr(A, B, 20), A >> 32);
        assert_eq!(palignr(A, B, 32), 0);
        assert_eq!(palignr(A, B, 255), 0);
    }

    #[test]
    fn a_shift_of_sixteen_bytes_or_more_leaves_nothing() {
        assert_eq!(pslldq(A, 15), A << 120);
        assert_eq!(pslldq(A, 16), 0);
        assert_eq!(psrldq(A, 255), 0);
    }

    #[test]
    fn the_low_singles_come_from_the_first_operand() {
        let result = shufps(A, B, 0b11_10_01_00);
        assert_eq!(result, B & !u128::from(u64::MAX) | A & u128::from(u64::MAX));
        assert_eq!(shufpd(A, B, 0b01), B << 64 | A >> 64);
    }

    #[test]
    fn an_inserted_single_can_be_zeroed_at_once() {
        assert_eq!(
            insertps(A, 0xffff_ffff, 0x10) >> 32 & 0xffff_ffff,
            0xffff_ffff
        );
        assert_eq!(insertps(A, 0xffff_ffff, 0x1f), 0);
    }

    #[test]
    fn word_shuffles_leave_the_other_half() {
        assert_eq!(pshuflw(A, 0) & 0xffff_ffff_ffff_ffff, 0x0100_0100_0100_0100);
        assert_eq!(pshuflw(A, 0) >> 64, A >> 64);
        assert_eq!(pshufhw(A, 0) >> 64, 0x0908_0908_0908_0908);
        assert_eq!(pshufhw(A, 0) as u64, A as u64);
    }
}
