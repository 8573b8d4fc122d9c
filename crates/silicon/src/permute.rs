//! What AVX and AVX2 add to packed integers, in plain code: permutations, and
//! shifts by a count for each element (SDM volume 2, under each name).
//!
//! A YMM register is two `u128`, the low one first; a function of one `u128`
//! does what the instruction does in each 128 bits.

use crate::lanes::{doubles, from_doubles, from_quads, quads};
use std::array::from_fn;

/// `vperm2f128` and `vperm2i128`: each half of the result by four bits of
/// `imm`, of which the highest clears it.
#[inline]
pub fn vperm2i128(a: [u128; 2], b: [u128; 2], imm: u8) -> [u128; 2] {
    let halves = [a[0], a[1], b[0], b[1]];
    [imm, imm >> 4].map(|choice| match choice & 8 {
        0 => halves[usize::from(choice & 3)],
        _ => 0,
    })
}

/// `vpermq` and `vpermpd`: each quadword by two bits of `imm`.
#[inline]
pub fn vpermq(b: [u128; 2], imm: u8) -> [u128; 2] {
    let lanes = b.map(quads);
    let choose = |n: usize| lanes.as_flattened()[usize::from(imm >> (2 * n) & 3)];
    from_fn(|half| from_quads(from_fn(|i| choose(2 * half + i))))
}

/// `vpermd` and `vpermps`: each doubleword of the result by three bits of the
/// one in `a`.
#[inline]
pub fn vpermd(a: [u128; 2], b: [u128; 2]) -> [u128; 2] {
    let lanes = b.map(doubles);
    a.map(|a| from_doubles(doubles(a).map(|choice| lanes.as_flattened()[choice as usize & 7])))
}

/// `vpermilps` with the choices in a register.
#[inline]
pub fn vpermilps(a: u128, choices: u128) -> u128 {
    let lanes = doubles(a);
    from_doubles(doubles(choices).map(|choice| lanes[choice as usize & 3]))
}

/// `vpermilpd` with the choices in a register, in bit 1 of each quadword.
#[inline]
pub fn vpermilpd(a: u128, choices: u128) -> u128 {
    let lanes = quads(a);
    from_quads(quads(choices).map(|choice| lanes[(choice >> 1 & 1) as usize]))
}

macro_rules! shifts {
    ($($name:ident: $split:ident $join:ident |$a:ident, $count:ident| $body:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, counts`: the new register.")]
        #[inline]
        pub fn $name(a: u128, counts: u128) -> u128 {
            let (a, counts) = ($split(a), $split(counts));
            $join(from_fn(|i| {
                let ($a, $count) = (a[i], u32::try_from(counts[i]).unwrap_or(u32::MAX));
                $body
            }))
        }
    )*};
}

shifts! {
    vpsllvd: doubles from_doubles |a, count| a.checked_shl(count).unwrap_or(0);
    vpsllvq: quads from_quads |a, count| a.checked_shl(count).unwrap_or(0);
    vpsrlvd: doubles from_doubles |a, count| a.checked_shr(count).unwrap_or(0);
    vpsrlvq: quads from_quads |a, count| a.checked_shr(count).unwrap_or(0);
    vpsravd: doubles from_doubles |a, count| (a.cast_signed() >> count.min(31)).cast_unsigned();
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u128; 2] = [
        0x0706_0504_0302_0100_0f0e_0d0c_0b0a_0908,
        0x1716_1514_1312_1110_1f1e_1d1c_1b1a_1918,
    ];

    #[test]
    fn halves_are_chosen_or_cleared() {
        assert_eq!(vperm2i128(A, [7, 8], 0x31), [A[1], 8]);
        assert_eq!(vperm2i128(A, [7, 8], 0x08 | 0x20), [0, 7]);
    }

    #[test]
    fn quadwords_go_anywhere() {
        assert_eq!(vpermq(A, 0b11_10_01_00), A);
        assert_eq!(vpermq([1, 2], 0b00_10_00_10), [2 | 1 << 64, 2 | 1 << 64]);
    }

    #[test]
    fn a_count_beyond_the_width_leaves_zeros_or_signs() {
        let a = 0x8000_0000_0000_0001_8000_0000_0000_0001;
        assert_eq!(vpsllvd(a, 32), a & !0xffff_ffff);
        assert_eq!(vpsrlvq(a, 1 << 40), a & !u128::from(u64::MAX));
        assert_eq!(vpsravd(0x8000_0000, 99), 0xffff_ffff);
    }
}
