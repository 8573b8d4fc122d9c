//! Decompression of the kernel inside a bzImage, so that the guest need not.
//!
//! The kernel's build appends the size of what it compressed, 32 bits; it is
//! an allegation, and bounded before memory is allocated by it.

use std::io::Read;

use super::bytes::u32_at;
use super::kernel_error;
use crate::Error;

/// Larger than any kernel.
const BYTES_MAX: usize = 1 << 30;
/// Memory of the LZMA2 decoder: twice the largest dictionary that the kernel's
/// build uses.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// Uncompressed bytes in a chunk of the legacy LZ4 frame.
const LZ4_CHUNK: usize = 8 << 20;

/// Whether [`decompress`] knows how.
pub(super) fn is_unpacked_here(payload: &[u8]) -> bool {
    const STARTS: [&[u8]; 3] = [b"\x7fELF", b"\xfd7zXZ\0", b"\x02\x21\x4c\x18"];
    STARTS.iter().any(|start| payload.starts_with(start))
}

/// The kernel in `payload`.
pub(super) fn decompress(payload: &[u8]) -> Result<Vec<u8>, Error> {
    match payload {
        [0x7f, b'E', b'L', b'F', ..] => Ok(payload.to_vec()),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => xz(payload),
        [0x02, 0x21, 0x4c, 0x18, chunks @ ..] => lz4(chunks, alleged_bytes(payload)?),
        _ => Err(kernel_error(format!(
            "its payload is compressed by a method ({}) that is not unpacked here: \
             let the kernel unpack itself (boot kind `linux-entry`)",
            method(payload)
        ))),
    }
}

/// The name of a compression by its first bytes.
fn method(payload: &[u8]) -> &'static str {
    match payload {
        [0x1f, 0x8b, ..] => "gzip",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x5d, 0, 0, ..] => "lzma",
        [0x89, b'L', b'Z', b'O', ..] => "lzo",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => "unknown",
    }
}

fn alleged_bytes(payload: &[u8]) -> Result<usize, Error> {
    let at = payload.len().saturating_sub(4);
    let bytes = u32_at(payload, at).and_then(|bytes| usize::try_from(bytes).ok());
    bytes
        .filter(|bytes| *bytes <= BYTES_MAX)
        .ok_or_else(|| kernel_error("the size of its payload makes no sense"))
}

fn xz(payload: &[u8]) -> Result<Vec<u8>, Error> {
    let limit = alleged_bytes(payload)?;
    let mut kernel = Vec::with_capacity(limit.min(BYTES_MAX));
    // The size follows the stream, so there is no other stream to look for.
    let reader = lzma_rust2::XzReader::new_mem_limit(payload, false, XZ_MEMORY_KIB);
    reader
        .take(limit as u64 + 1)
        .read_to_end(&mut kernel)
        .map_err(|source| kernel_error(format!("its XZ payload is damaged: {source}")))?;
    of_size(kernel, limit)
}

/// The legacy frame: after the magic number chunks of 8 MiB, each with its
/// compressed size before it. The alleged size stands where the next would.
fn lz4(mut chunks: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let damaged = || kernel_error("its LZ4 payload is damaged");
    let mut kernel = vec![0; limit];
    let mut done = 0;
    while done < limit {
        let (size, rest) = chunks.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| damaged())?;
        let (chunk, rest) = rest.split_at_checked(size).ok_or_else(damaged)?;
        let end = limit.min(done + LZ4_CHUNK);
        let written = lz4_flex::block::decompress_into(chunk, &mut kernel[done..end])
            .map_err(|source| kernel_error(format!("its LZ4 payload is damaged: {source}")))?;
        if written == 0 {
            return Err(damaged());
        }
        done += written;
        chunks = rest;
    }
    of_size(kernel, done)
}

fn of_size(kernel: Vec<u8>, bytes: usize) -> Result<Vec<u8>, Error> {
    if kernel.len() == bytes {
        Ok(kernel)
    } else {
        Err(kernel_error(format!(
            "its payload unpacks to {} bytes where it says {bytes}",
            kernel.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `content` as the kernel's build compresses it with LZ4.
    fn lz4_of(content: &[u8]) -> Vec<u8> {
        let mut payload = vec![0x02, 0x21, 0x4c, 0x18];
        for chunk in content.chunks(LZ4_CHUNK) {
            let compressed = lz4_flex::block::compress(chunk);
            payload.extend(
                u32::try_from(compressed.len())
                    .expect("small")
                    .to_le_bytes(),
            );
            payload.extend(compressed);
        }
        payload.extend(u32::try_from(content.len()).expect("small").to_le_bytes());
        payload
    }

    #[test]
    fn an_lz4_payload_of_several_chunks_is_unpacked() {
        let content: Vec<u8> = (0..LZ4_CHUNK + 1000).map(|n| (n / 7) as u8).collect();
        assert_eq!(decompress(&lz4_of(&content)).expect("it is whole"), content);
    }

    #[test]
    fn another_compression_is_named() {
        let error = decompress(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0]).expect_err("not unpacked");
        assert!(error.to_string().contains("zstd"));
    }

    proptest! {
        #[test]
        fn a_damaged_lz4_payload_breaks_nothing(at in 4usize..200, byte: u8, cut in 0usize..100) {
            let content: Vec<u8> = (0..2000).map(|n: u32| (n * n / 3) as u8).collect();
            let mut payload = lz4_of(&content);
            payload[at] = byte;
            // The alleged size is left alone, or it may be up to 1 GiB.
            payload.drain(200..200 + cut);
            let _ = decompress(&payload);
        }

        #[test]
        fn a_damaged_xz_payload_breaks_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut payload = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0".to_vec();
            payload.extend(bytes);
            payload.extend(1000u32.to_le_bytes());
            let _ = decompress(&payload);
        }
    }
}
