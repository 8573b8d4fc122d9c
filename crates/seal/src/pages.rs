//! The digests of pages, sixteen at a time.
//!
//! BLAKE3 cuts a content into chunks of 1 KiB, which vectors hash side by side:
//! sixteen where the host has AVX-512, eight with AVX2. A page has four. The
//! same chunk of sixteen pages fills them all, and the tree above the chunks is
//! climbed side by side, too. What comes out is each page's BLAKE3 digest.
//!
//! The crate shows its vectors for benchmarks only, so it is held to one version
//! and a test holds this to [`Digest::of`].

use std::array;

use blake3::IncrementCounter;
use blake3::platform::Platform;

use crate::Digest;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a chunk: the leaves of BLAKE3's tree (BLAKE3 specification, 2.1).
const CHUNK: usize = 1024;
/// Pages that are hashed side by side: as many at a time fill the host's vectors, and
/// little of its cache.
pub const SIDE_BY_SIDE: usize = 16;

/// BLAKE3's initial value (specification, table 1).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
/// The flags of what is compressed (specification, table 3).
mod flag {
    pub(super) const CHUNK_START: u8 = 1 << 0;
    pub(super) const CHUNK_END: u8 = 1 << 1;
    pub(super) const PARENT: u8 = 1 << 2;
    pub(super) const ROOT: u8 = 1 << 3;
}

/// The digest of each of `pages`, in their order: as [`Digest::of`], faster.
pub fn page_digests(pages: &[[u8; PAGE]]) -> Vec<Digest> {
    let hasher = Hasher(Platform::detect());
    pages
        .chunks(SIDE_BY_SIDE)
        .flat_map(|pages| hasher.pages(pages))
        .map(Digest)
        .collect()
}

/// A chaining value, or a digest.
type Value = [u8; 32];

struct Hasher(Platform);

impl Hasher {
    fn pages(&self, pages: &[[u8; PAGE]]) -> Vec<Value> {
        let chunks: [Vec<Value>; PAGE / CHUNK] = array::from_fn(|index| self.chunks(pages, index));
        let left = self.parents(&chunks[0], &chunks[1], 0);
        let right = self.parents(&chunks[2], &chunks[3], 0);
        self.parents(&left, &right, flag::ROOT)
    }

    /// Chunk `index` of each of `pages`.
    fn chunks(&self, pages: &[[u8; PAGE]], index: usize) -> Vec<Value> {
        let chunks: Vec<&[u8; CHUNK]> = pages
            .iter()
            .map(|page| &page.as_chunks().0[index])
            .collect();
        let ends = [flag::CHUNK_START, flag::CHUNK_END];
        self.many(&chunks, index as u64, 0, ends)
    }

    /// What stands above each of `left` and its neighbour of `right`.
    fn parents(&self, left: &[Value], right: &[Value], flags: u8) -> Vec<Value> {
        let blocks: Vec<[Value; 2]> = left
            .iter()
            .copied()
            .zip(right.iter().copied())
            .map(<[Value; 2]>::from)
            .collect();
        let blocks: Vec<&[u8; 64]> = blocks
            .iter()
            .map(|block| block.as_flattened().try_into().expect("twice 32 bytes"))
            .collect();
        self.many(&blocks, 0, flag::PARENT | flags, [0, 0])
    }

    /// `inputs` side by side; `ends` are flags of an input's first and last block.
    fn many<const N: usize>(
        &self,
        inputs: &[&[u8; N]],
        counter: u64,
        flags: u8,
        [start, end]: [u8; 2],
    ) -> Vec<Value> {
        let mut values = vec![[0; 32]; inputs.len()];
        self.0.hash_many(
            inputs,
            &INITIAL,
            counter,
            IncrementCounter::No,
            flags,
            start,
            end,
            values.as_flattened_mut(),
        );
        values
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is in them and however many they are.
        #[test]
        fn are_what_blake3_says(seeds in proptest::collection::vec(any::<u64>(), 0..40)) {
            let pages: Vec<[u8; PAGE]> = seeds.iter().map(|seed| page(*seed)).collect();
            let expected: Vec<Digest> = pages.iter().map(|page| Digest::of(page)).collect();
            prop_assert_eq!(page_digests(&pages), expected);
        }
    }

    /// A page that looks like noise.
    fn page(seed: u64) -> [u8; PAGE] {
        let mut state = seed;
        array::from_fn(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
    }
}
