//! An XMM register's bits taken apart into lanes and put together again.
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the one claim below covers each of these blocks"
)]
// SAFETY of every transmute here: both sides are 16 bytes, without padding, and
// every bit pattern is a value of each.

use std::arch::x86_64::__m128i;
use std::mem::transmute;

#[inline(always)]
pub(crate) fn vector(bits: u128) -> __m128i {
    unsafe { transmute(bits) }
}

#[inline(always)]
pub(crate) fn bits(vector: __m128i) -> u128 {
    unsafe { transmute(vector) }
}

/// The lanes, lowest first.
#[inline(always)]
pub(crate) fn bytes(bits: u128) -> [u8; 16] {
    bits.to_le_bytes()
}

/// The register with these lanes, lowest first.
#[inline(always)]
pub(crate) fn from_bytes(lanes: [u8; 16]) -> u128 {
    u128::from_le_bytes(lanes)
}

macro_rules! lanes {
    ($($split:ident, $join:ident: [$lane:ty; $count:literal];)*) => {$(
        /// The lanes, lowest first.
        #[inline(always)]
        pub(crate) fn $split(bits: u128) -> [$lane; $count] {
            unsafe { transmute(bits) }
        }
        /// The register with these lanes, lowest first.
        #[inline(always)]
        pub(crate) fn $join(lanes: [$lane; $count]) -> u128 {
            unsafe { transmute(lanes) }
        }
    )*};
}

lanes! {
    words, from_words: [u16; 8];
    doubles, from_doubles: [u32; 4];
    quads, from_quads: [u64; 2];
}
