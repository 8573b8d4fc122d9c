//! Operand widths: one body serves the 8, 16, 32 and 64 bit forms of an
//! instruction.

use std::ops::{BitAnd, BitOr, BitXor, Not};

use memory::Word;

/// An operand's type: `u8`, `u16`, `u32` or `u64`.
pub trait Width:
    Word
    + Eq
    + Ord
    + Default
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: u64 = Self::BITS as u64 / 8;
    /// The low bits of `value`.
    fn truncate(value: u64) -> Self;
    /// As 64 bits, zeros above.
    fn zero_extend(self) -> u64;
    /// As 64 bits, copies of the top bit above.
    fn sign_extend(self) -> u64;
    /// Sum modulo 2^BITS.
    fn plus(self, other: Self) -> Self;
    /// Difference modulo 2^BITS.
    fn minus(self, other: Self) -> Self;
    /// The top bit.
    fn sign(self) -> bool;
}

macro_rules! width {
    ($unsigned:ty) => {
        impl Width for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            #[inline(always)]
            fn truncate(value: u64) -> Self {
                value as $unsigned
            }
            #[inline(always)]
            fn zero_extend(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn sign_extend(self) -> u64 {
                i64::from(self.cast_signed()).cast_unsigned()
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn sign(self) -> bool {
                self.cast_signed() < 0
            }
        }
    };
}
width!(u8);
width!(u16);
width!(u32);
width!(u64);
