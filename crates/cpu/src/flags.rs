//! RFLAGS, with the six arithmetic flags kept as what they follow from.
//!
//! Most results are never asked for their flags. So an instruction leaves two
//! words, and each flag is a few operations away (the scheme of Mihocka and
//! Shwartsman, "Virtualization without direct execution", 2008):
//!
//! - `result`: the result, sign-extended. ZF: it is zero. SF: its top bit.
//!   PF: the parity of its low byte.
//! - `carries`: bit 63 the carry out of the top bit (CF), bit 62 the carry into
//!   it (OF is their difference), bit 3 the carry out of bit 3 (AF). Bits 8 to
//!   15 and bit 0 are differences for PF and SF, so that any combination of
//!   flags has a form.

use x86::flags;

use crate::width::Width;

/// RFLAGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    result: u64,
    carries: u64,
    /// The bits that arithmetic leaves alone; the others are 0 here.
    pub rest: u64,
}

const CARRY_OUT: u64 = 1 << 63;
const CARRY_IN: u64 = 1 << 62;
const CARRY_3: u64 = 1 << 3;

impl Flags {
    /// RFLAGS of `value`.
    pub fn new(value: u64) -> Flags {
        let mut flags = Flags {
            result: 0,
            carries: 0,
            rest: value & !flags::ARITHMETIC | flags::FIXED,
        };
        flags.set_arithmetic(value);
        flags
    }

    /// The whole register.
    pub fn value(&self) -> u64 {
        self.rest | self.arithmetic()
    }

    /// The six arithmetic flags.
    pub fn arithmetic(&self) -> u64 {
        let bit = |on: bool, flag: u64| if on { flag } else { 0 };
        bit(self.cf(), flags::CF)
            | bit(self.pf(), flags::PF)
            | bit(self.af(), flags::AF)
            | bit(self.zf(), flags::ZF)
            | bit(self.sf(), flags::SF)
            | bit(self.of(), flags::OF)
    }

    /// Sets the six arithmetic flags from `value`; its other bits are ignored.
    pub fn set_arithmetic(&mut self, value: u64) {
        let cf = value & flags::CF != 0;
        let of = value & flags::OF != 0;
        self.result = u64::from(value & flags::ZF == 0) << 8;
        self.carries = u64::from(cf) << 63
            | u64::from(cf != of) << 62
            | u64::from(value & flags::PF == 0) << 8
            | u64::from(value & flags::AF != 0) << 3
            | u64::from(value & flags::SF != 0);
    }

    /// Sets those of the six arithmetic flags that `mask` names.
    pub fn update_arithmetic(&mut self, mask: u64, value: u64) {
        self.set_arithmetic(self.arithmetic() & !mask | value & mask);
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        self.carries & CARRY_OUT != 0
    }
    /// Overflow.
    #[inline(always)]
    pub fn of(&self) -> bool {
        (self.carries ^ self.carries << 1) & CARRY_OUT != 0
    }
    /// Zero.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.result == 0
    }
    /// Sign.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        self.result >> 63 ^ self.carries & 1 != 0
    }
    /// Auxiliary carry.
    #[inline(always)]
    pub fn af(&self) -> bool {
        self.carries & CARRY_3 != 0
    }
    /// Parity of the result's low byte: set if even.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        ((self.result ^ self.carries >> 8) as u8).count_ones() & 1 == 0
    }

    /// Sets CF alone.
    #[inline(always)]
    pub fn set_cf(&mut self, cf: bool) {
        let of = self.of();
        self.carries = self.carries & !(CARRY_OUT | CARRY_IN)
            | u64::from(cf) << 63
            | u64::from(cf != of) << 62;
    }

    /// Sets OF alone.
    #[inline(always)]
    pub fn set_of(&mut self, of: bool) {
        let cf = self.cf();
        self.carries = self.carries & !CARRY_IN | u64::from(cf != of) << 62;
    }

    /// After AND, OR, XOR and TEST: SF, ZF and PF of `result`; CF, OF and AF 0.
    #[inline(always)]
    pub fn logic<W: Width>(&mut self, result: W) {
        self.result = result.sign_extend();
        self.carries = 0;
    }

    /// After `a + b` (and a carry in, if any) gave `result`.
    #[inline(always)]
    pub fn add<W: Width>(&mut self, a: W, b: W, result: W) {
        let (a, b, r) = (a.zero_extend(), b.zero_extend(), result.zero_extend());
        self.result = result.sign_extend();
        self.carries = Self::place::<W>(a & b | (a | b) & !r);
    }

    /// After `a - b` (and a borrow, if any) gave `result`.
    #[inline(always)]
    pub fn sub<W: Width>(&mut self, a: W, b: W, result: W) {
        let (a, b, r) = (a.zero_extend(), b.zero_extend(), result.zero_extend());
        self.result = result.sign_extend();
        self.carries = Self::place::<W>(!a & b | (!a | b) & r);
    }

    /// All six at once: SF, ZF and PF from `result`; the others as told.
    #[inline(always)]
    pub fn set_result<W: Width>(&mut self, result: W, cf: bool, of: bool, af: bool) {
        self.result = result.sign_extend();
        self.carries = u64::from(cf) << 63 | u64::from(cf != of) << 62 | u64::from(af) << 3;
    }

    #[inline(always)]
    fn place<W: Width>(carries: u64) -> u64 {
        carries << (64 - W::BITS) & (CARRY_OUT | CARRY_IN) | carries & CARRY_3
    }

    /// Whether condition `code` (the low four bits of Jcc's, SETcc's and
    /// CMOVcc's opcodes, SDM volume 1 appendix B) holds.
    #[inline(always)]
    pub fn condition<const CODE: u8>(&self) -> bool {
        let holds = match CODE >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds != (CODE & 1 == 1)
    }

    /// Whether all of `bits` of the non-arithmetic flags are set.
    #[inline(always)]
    pub fn has(&self, bits: u64) -> bool {
        self.rest & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_flags_has_a_form() {
        for bits in 0..64u64 {
            let value = [
                flags::CF,
                flags::PF,
                flags::AF,
                flags::ZF,
                flags::SF,
                flags::OF,
            ]
            .iter()
            .enumerate()
            .fold(flags::FIXED, |value, (i, flag)| {
                value | (flag * (bits >> i & 1))
            });
            assert_eq!(Flags::new(value).value(), value, "{value:#x}");
        }
    }

    #[test]
    fn addition_and_subtraction_of_bytes_match_their_definition() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let mut flags = Flags::new(0);
                flags.add(a, b, a.wrapping_add(b));
                assert_eq!(flags.cf(), a.checked_add(b).is_none());
                assert_eq!(
                    flags.of(),
                    a.cast_signed().checked_add(b.cast_signed()).is_none()
                );
                assert_eq!(flags.af(), (a & 15) + (b & 15) > 15);
                flags.sub(a, b, a.wrapping_sub(b));
                assert_eq!(flags.cf(), a < b);
                assert_eq!(
                    flags.of(),
                    a.cast_signed().checked_sub(b.cast_signed()).is_none()
                );
                assert_eq!(flags.af(), a & 15 < b & 15);
                assert_eq!(flags.condition::<0xc>(), a.cast_signed() < b.cast_signed());
                assert_eq!(flags.condition::<0x6>(), a <= b);
            }
        }
    }
}
