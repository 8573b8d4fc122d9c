//! String comparison: `PCMPESTRI`, `PCMPESTRM`, `PCMPISTRI`, `PCMPISTRM` (SDM
//! volume 1, 12.10; volume 2, 4.1 "Imm8 control byte operation").

use crate::lanes::{bytes, from_bytes, from_words, words};
use std::array::from_fn;

/// `RFLAGS.CF`, `ZF`, `SF` and `OF`; AF and PF become 0.
const CF: u64 = 1 << 0;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// One bit an element of the second operand: `IntRes2`.
    matches: u16,
    imm: u8,
    /// The six arithmetic bits of RFLAGS.
    pub flags: u64,
}

impl Comparison {
    /// ECX after `PCMPxSTRI`: the first or last match, or the count of
    /// elements if there is none.
    pub fn index(self) -> u32 {
        if self.matches == 0 {
            count(self.imm) as u32
        } else if self.imm & 0x40 == 0 {
            self.matches.trailing_zeros()
        } else {
            15 - self.matches.leading_zeros()
        }
    }

    /// XMM0 after `PCMPxSTRM`: bits, or whole elements.
    pub fn mask(self) -> u128 {
        if self.imm & 0x40 == 0 {
            self.matches.into()
        } else if self.imm & 1 == 0 {
            from_bytes(from_fn(|i| {
                if self.matches >> i & 1 != 0 {
                    u8::MAX
                } else {
                    0
                }
            }))
        } else {
            from_words(from_fn(|i| {
                if self.matches >> i & 1 != 0 {
                    u16::MAX
                } else {
                    0
                }
            }))
        }
    }
}

/// Elements in a register: bytes or words.
fn count(imm: u8) -> usize {
    if imm & 1 == 0 { 16 } else { 8 }
}

/// Elements as numbers that compare as the immediate says, signed or not.
fn elements(v: u128, imm: u8) -> [i32; 16] {
    let (bytes, words) = (bytes(v), words(v));
    from_fn(|i| match imm & 3 {
        0 => bytes[i].into(),
        2 => bytes[i].cast_signed().into(),
        _ if i >= 8 => 0,
        1 => words[i].into(),
        _ => words[i].cast_signed().into(),
    })
}

/// `PCMPISTRx a, b, imm8`: each string ends before its first zero element.
pub fn implicit(a: u128, b: u128, imm: u8) -> Comparison {
    let length = |v: u128| {
        let v = elements(v, imm);
        (0..count(imm)).find(|&i| v[i] == 0).unwrap_or(count(imm))
    };
    compare(a, length(a), b, length(b), imm)
}

/// `PCMPESTRx a, b, imm8`: `a_length` is EAX or RAX, `b_length` EDX or RDX,
/// sign-extended. Of a length, the magnitude counts, up to the register's end.
pub fn explicit(a: u128, a_length: i64, b: u128, b_length: i64, imm: u8) -> Comparison {
    let clip = |length: i64| length.unsigned_abs().min(count(imm) as u64) as usize;
    compare(a, clip(a_length), b, clip(b_length), imm)
}

fn compare(a: u128, a_length: usize, b: u128, b_length: usize, imm: u8) -> Comparison {
    let count = count(imm);
    let (x, y) = (elements(a, imm), elements(b, imm));
    let bit = |holds: bool, i: usize| u16::from(holds) << i;
    let raw: u16 = match imm >> 2 & 3 {
        // Equal any: is the element of `b` one of the set `a`?
        0 => (0..b_length)
            .map(|j| bit(x[..a_length].contains(&y[j]), j))
            .sum(),
        // Ranges: is it within one of the pairs of `a`? A lone last element
        // is no range.
        1 => (0..b_length)
            .map(|j| {
                let within = |range: &[i32]| range[0] <= y[j] && y[j] <= range[1];
                bit(x[..a_length].chunks_exact(2).any(within), j)
            })
            .sum(),
        // Equal each: the ends are equal to one another, and to nothing else.
        2 => (0..count)
            .map(|j| match (j < a_length, j < b_length) {
                (true, true) => bit(x[j] == y[j], j),
                (false, false) => bit(true, j),
                _ => 0,
            })
            .sum(),
        // Equal ordered: does `a` stand in `b` from here on? Beyond the
        // register's end `b` may go on, so what lies there is no difference.
        _ => (0..count)
            .map(|j| {
                let differs = |i: usize| j + i < count && (j + i >= b_length || x[i] != y[j + i]);
                bit(!(0..a_length).any(differs), j)
            })
            .sum(),
    };
    let all = if count == 16 { u16::MAX } else { 0xff };
    let matches = match imm >> 4 & 3 {
        1 => !raw & all,
        3 => raw ^ (((1u32 << b_length) - 1) as u16),
        _ => raw,
    };
    let mut flags = 0;
    for (flag, holds) in [
        (CF, matches != 0),
        (ZF, b_length < count),
        (SF, a_length < count),
        (OF, matches & 1 != 0),
    ] {
        flags |= if holds { flag } else { 0 };
    }
    Comparison {
        matches,
        imm,
        flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{bits, vector};
    use proptest::prelude::*;
    use std::arch::asm;
    use std::arch::x86_64::__m128i;

    macro_rules! native {
        ($($imm:literal)*) => {
            /// Index, mask and flags of the instruction itself.
            fn native_explicit(a: u128, la: i32, b: u128, lb: i32, imm: u8) -> (u32, u128, u64) {
                let (index, mask, flags): (u32, __m128i, u64);
                match imm {
                    $($imm => {
                        // SAFETY: registers and the flags, pushed and popped.
                        unsafe {
                            asm!(
                                concat!("pcmpestrm {a}, {b}, ", $imm),
                                concat!("pcmpestri {a}, {b}, ", $imm),
                                "pushfq", "pop {f}",
                                a = in(xmm_reg) vector(a), b = in(xmm_reg) vector(b), f = out(reg) flags,
                                in("eax") la, in("edx") lb, out("ecx") index, out("xmm0") mask,
                            );
                        }
                    })*
                    _ => unreachable!("only the immediates above are tested"),
                }
                (index, bits(mask), flags & 0x8d5)
            }

            proptest! {
                #[test]
                fn explicit_lengths_are_compared_as_the_instruction_does(
                    a in text(), b in text(), la in -20i32..20, lb in -20i32..20
                ) {
                    for imm in [$($imm),*] {
                        let found = explicit(a, la.into(), b, lb.into(), imm);
                        prop_assert_eq!(
                            (found.index(), found.mask(), found.flags),
                            native_explicit(a, la, b, lb, imm),
                            "imm {:#x}", imm
                        );
                    }
                }
            }
        };
    }

    native! {
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        16 21 26 31 36 43 48 50 52 53 54 55 56 57 58 59 60 61 62 63
        64 65 72 73 76 77 84 85 90 91 95 112 117 120 125 126 127
    }

    /// Few different bytes, so that strings meet.
    fn text() -> impl Strategy<Value = u128> {
        prop::array::uniform16(prop_oneof![
            Just(0u8),
            Just(1),
            Just(2),
            Just(0x80),
            Just(0xff)
        ])
        .prop_map(u128::from_le_bytes)
    }

    #[test]
    fn an_implicit_string_ends_at_a_zero() {
        let a = u128::from_le_bytes(*b"abc\0xxxxxxxxxxxx");
        let b = u128::from_le_bytes(*b"abd\0yyyyyyyyyyyy");
        let found = implicit(a, b, 0b01_10_00 | 0x10);
        assert_eq!(found.index(), 2);
        assert_eq!(found.flags, CF | ZF | SF);
    }
}
