//! Values worth trying: the edges of every operand size and number format.

use crate::random::Random;

/// A 64-bit integer: often an edge of some size, else random with a random length.
pub(super) fn integer(random: &mut Random) -> u64 {
    const EDGES: [u64; 20] = [
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_8000_0000,
        0xffff_ffff_7fff_ffff,
        0x5555_5555_5555_5555,
        0x0101_0101_0101_0101,
    ];
    match random.below(8) {
        0..=2 => random.pick(&EDGES),
        3 => random
            .pick(&EDGES)
            .wrapping_add(random.below(3))
            .wrapping_sub(1),
        4 => random.below(64),
        5 => random.draw() >> random.below(64),
        _ => random.draw(),
    }
}

/// A single: zeros, ones, denormals, infinities, NaNs of both kinds, whole and odd numbers.
pub(super) fn single(random: &mut Random) -> u32 {
    const EDGES: [u32; 16] = [
        0,
        0x3f80_0000,
        0x4000_0000,
        0x3f00_0000,
        0x0000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7fc0_0000,
        0x7fa0_1234,
        0x4f00_0000,
        0x4eff_ffff,
        0x5f00_0000,
        0x4b00_0001,
        0x3eaa_aaab,
    ];
    let sign = if random.one_in(2) { 1 << 31 } else { 0 };
    sign ^ match random.below(8) {
        0..=3 => random.pick(&EDGES),
        // Near enough to one that sums and products stay ordinary.
        4 | 5 => 0x3c00_0000 + (random.draw() as u32 & 0x07ff_ffff),
        6 => (random.below(2000) as f32 / 4.0).to_bits(),
        _ => random.draw() as u32,
    }
}

/// A double, as [`single`].
pub(super) fn double(random: &mut Random) -> u64 {
    const EDGES: [u64; 18] = [
        0,
        0x3ff0_0000_0000_0000,
        0x4000_0000_0000_0000,
        0x3fe0_0000_0000_0000,
        0x0000_0000_0000_0001,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x7fef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0x7ff4_0000_0000_1234,
        0x41e0_0000_0000_0000,
        0x41df_ffff_ffc0_0000,
        0x43e0_0000_0000_0000,
        0x4330_0000_0000_0001,
        0x3fd5_5555_5555_5555,
        0x47ef_ffff_e000_0000,
        0x380f_ffff_ffff_ffff,
    ];
    let sign = if random.one_in(2) { 1 << 63 } else { 0 };
    sign ^ match random.below(8) {
        0..=3 => random.pick(&EDGES),
        4 | 5 => 0x3f80_0000_0000_0000 + (random.draw() & 0x00ff_ffff_ffff_ffff),
        6 => (random.below(100_000) as f64 / 8.0).to_bits(),
        _ => random.draw(),
    }
}

/// An x87 extended number, unsupported encodings (unnormals, pseudo-NaNs) included.
pub(super) fn extended(random: &mut Random) -> [u8; 10] {
    const EDGES: [(u16, u64); 15] = [
        (0, 0),
        (0x3fff, 1 << 63),
        (0x4000, 1 << 63),
        (0x3ffe, 1 << 63),
        (0, 1),
        (0, 1 << 63),
        (1, 1 << 63),
        (0x7ffe, u64::MAX),
        (0x7fff, 1 << 63),
        (0x7fff, 0xc000_0000_0000_0000),
        (0x7fff, 0xa000_0000_0000_1234),
        (0x7fff, 0),
        (0x3fff, 1),
        (0x403e, 1 << 63),
        (0x4000, 0xc90f_daa2_2168_c235),
    ];
    let (exponent, significand) = match random.below(8) {
        0..=2 => random.pick(&EDGES),
        3 | 4 => (0x3ff0 + random.below(32) as u16, random.draw() | 1 << 63),
        5 => (
            0x3fff + random.below(70) as u16,
            (random.draw() << random.below(64)) | 1 << 63,
        ),
        6 => (random.below(0x8000) as u16, random.draw() | 1 << 63),
        _ => (random.below(0x8000) as u16, random.draw()),
    };
    let sign = if random.one_in(2) { 0x8000 } else { 0 };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&(exponent | sign).to_le_bytes());
    bytes
}

/// Sixteen bytes that make sense as something: singles, doubles, integers, repeated bytes, text.
pub(super) fn vector(random: &mut Random) -> u128 {
    let mut bytes = [0; 16];
    match random.below(6) {
        0 | 1 => bytes
            .chunks_exact_mut(4)
            .for_each(|lane| lane.copy_from_slice(&single(random).to_le_bytes())),
        2 | 3 => bytes
            .chunks_exact_mut(8)
            .for_each(|lane| lane.copy_from_slice(&double(random).to_le_bytes())),
        4 => bytes
            .chunks_exact_mut(8)
            .for_each(|lane| lane.copy_from_slice(&integer(random).to_le_bytes())),
        // A small alphabet with zeros: string instructions find what they look for.
        _ => bytes.fill_with(|| b"\0ab\xff"[random.below(4) as usize]),
    }
    u128::from_le_bytes(bytes)
}

/// Bytes for a memory operand of `len` bytes, in the formats that fit.
pub(super) fn memory(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        match (len, random.below(3)) {
            (4, 0) => bytes.extend(single(random).to_le_bytes()),
            (8, 0) => bytes.extend(double(random).to_le_bytes()),
            (10, 0 | 1) => bytes.extend(extended(random)),
            (16.., _) => bytes.extend(vector(random).to_le_bytes()),
            _ => bytes.extend(integer(random).to_le_bytes()),
        }
    }
    bytes.truncate(len);
    bytes
}
