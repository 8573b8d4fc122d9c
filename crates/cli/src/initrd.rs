//! Is an initial RAM disk cut off? The guest would say so late, and in other
//! words.
//!
//! It is a row of archives, each a cpio archive or one compressed, with zeros
//! between them (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst). What is of no kind that we know is let alone: the guest
//! may know it. Nothing is unpacked where the format tells its end without.

use std::io::{self, ErrorKind, Read, sink};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const LZ4_LEGACY_MAGIC: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
/// The "newc" format, the only one of cpio's that Linux unpacks.
const CPIO_MAGIC: &[u8] = b"07070";
const CPIO_HEADER_BYTES: usize = 110;
const CPIO_TRAILER: &[u8] = b"TRAILER!!!\0";
/// What the dictionary of an XZ stream may take.
const XZ_MEMORY_KIB: u32 = 1 << 20;

/// Where an archive ends.
enum End<'a> {
    /// With this behind it.
    Here(&'a [u8]),
    /// After the end of the file.
    Beyond,
    /// Nobody knows.
    Unknown,
}

/// Whether the last archive in `bytes` has no end.
pub(crate) fn is_cut(bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let mut rest = bytes;
    // Each turn takes at least a magic number.
    loop {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[zeros..];
        rest = match end(rest) {
            End::Here([]) => return false,
            End::Here(rest) => rest,
            End::Beyond => return true,
            End::Unknown => return false,
        };
    }
}

fn end(bytes: &[u8]) -> End<'_> {
    let found = match bytes {
        [] => return End::Here(bytes),
        _ if bytes.starts_with(CPIO_MAGIC) => cpio(bytes),
        _ if bytes.starts_with(GZIP_MAGIC) => return gzip(bytes),
        _ if bytes.starts_with(XZ_MAGIC) => return xz(bytes),
        _ if bytes.starts_with(ZSTD_MAGIC) => zstd(bytes),
        _ if bytes.starts_with(LZ4_LEGACY_MAGIC) => lz4(bytes),
        _ => return End::Unknown,
    };
    match found {
        Some(Some(rest)) => End::Here(rest),
        Some(None) => End::Unknown,
        None => End::Beyond,
    }
}

/// What is behind an archive: `None` if it has no end, `Some(None)` if it is
/// something that the guest may know better.
type Behind<'a> = Option<Option<&'a [u8]>>;

fn cpio(bytes: &[u8]) -> Behind<'_> {
    let mut rest = bytes;
    // Each turn takes at least a header.
    loop {
        let (header, after) = rest.split_at_checked(CPIO_HEADER_BYTES)?;
        let sizes = hexadecimal(header, 54).zip(hexadecimal(header, 94));
        let Some((file_bytes, name_bytes)) = sizes else {
            return Some(None);
        };
        let data = (CPIO_HEADER_BYTES + name_bytes).next_multiple_of(4);
        if after.get(..name_bytes) == Some(CPIO_TRAILER) {
            return Some(Some(rest.get(data..).unwrap_or_default()));
        }
        let end = (data + file_bytes).next_multiple_of(4);
        rest = rest.split_at_checked(end)?.1;
    }
}

/// The eight hexadecimal digits at `at` of a cpio header.
fn hexadecimal(header: &[u8], at: usize) -> Option<usize> {
    let digits = std::str::from_utf8(&header[at..at + 8]).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

fn gzip(bytes: &[u8]) -> End<'_> {
    let mut plain = flate2::bufread::GzDecoder::new(bytes);
    match unpacks(&mut plain) {
        Ok(()) => End::Here(plain.into_inner()),
        Err(ErrorKind::UnexpectedEof) => End::Beyond,
        Err(_) => End::Unknown,
    }
}

/// The last stream of a file ends with a footer that begins with its own
/// CRC-32 and ends with `YZ` (The .xz File Format 1.2.1, section 2.1.2). One
/// that doesn't has to be unpacked to find out why.
fn xz(bytes: &[u8]) -> End<'_> {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    if let Some([crc @ .., _, _]) = bytes[..bytes.len() - zeros].last_chunk::<12>()
        && bytes[..bytes.len() - zeros].ends_with(b"YZ")
    {
        let (crc, covered) = crc.split_at(4);
        let mut found = flate2::Crc::new();
        found.update(covered);
        if crc == found.sum().to_le_bytes() {
            return End::Here(&[]);
        }
    }
    let mut plain = lzma_rust2::XzReader::new_mem_limit(bytes, false, XZ_MEMORY_KIB);
    match unpacks(&mut plain) {
        Err(ErrorKind::UnexpectedEof) => End::Beyond,
        _ => End::Unknown,
    }
}

fn unpacks(plain: &mut impl Read) -> Result<(), ErrorKind> {
    io::copy(plain, &mut sink())
        .map(drop)
        .map_err(|error| error.kind())
}

/// A frame of Zstandard (RFC 8878, section 3.1.1): blocks tell their size.
fn zstd(bytes: &[u8]) -> Behind<'_> {
    let (&descriptor, _) = bytes.get(4..)?.split_first()?;
    let is_single = descriptor >> 5 & 1 == 1;
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(is_single),
        n => 1 << n,
    };
    let mut at = 5 + usize::from(!is_single) + dictionary_bytes + size_bytes;
    // Each turn takes at least a block's header.
    loop {
        let header = bytes.get(at..at + 3)?;
        let word = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        // A block of type 1 is one byte, repeated.
        let stored = if word >> 1 & 3 == 1 { 1 } else { word >> 3 };
        at += 3 + stored as usize;
        if word & 1 == 1 {
            break;
        }
    }
    let checksum_bytes = if descriptor >> 2 & 1 == 1 { 4 } else { 0 };
    bytes.get(at + checksum_bytes..).map(Some)
}

/// The legacy frame of LZ4: chunks with their sizes before them, up to the end
/// of the file or another magic number. A cut between two chunks, 8 MiB of
/// content apart, does not show.
fn lz4(bytes: &[u8]) -> Behind<'_> {
    let mut rest = &bytes[4..];
    // Each turn takes at least a size.
    loop {
        if rest.is_empty() || rest.iter().all(|byte| *byte == 0) {
            return Some(Some(&[]));
        }
        let (size, after) = rest.split_first_chunk::<4>()?;
        let is_another = [
            CPIO_MAGIC,
            GZIP_MAGIC,
            XZ_MAGIC,
            ZSTD_MAGIC,
            LZ4_LEGACY_MAGIC,
        ]
        .iter()
        .any(|magic| rest.starts_with(magic));
        if is_another {
            return Some(Some(rest));
        }
        rest = after.get(u32::from_le_bytes(*size) as usize..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A member of a "newc" archive.
    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let fields = [0, 0, 0, 0, 0, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let mut bytes = b"070701".to_vec();
        fields
            .iter()
            .for_each(|field| bytes.extend(format!("{field:08x}").bytes()));
        bytes.extend(name.bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive() -> Vec<u8> {
        [member("init", b"#!/bin/sh"), member("TRAILER!!!", b"")].concat()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    }

    /// The same text as `xz`, `zstd` and `lz4 -l` pack it.
    const XZ: &[u8] = include_bytes!("../tests/data/hello.xz");
    const ZSTD: &[u8] = include_bytes!("../tests/data/hello.zst");
    const LZ4: &[u8] = include_bytes!("../tests/data/hello.lz4");

    #[track_caller]
    fn is_found_wherever_it_is_cut(whole: &[u8]) {
        assert!(!is_cut(whole));
        (0..whole.len()).for_each(|len| {
            // So short that its magic number is missing, it can't be told.
            assert!(is_cut(&whole[..len]) || (1..7).contains(&len), "{len}");
        });
        assert!(!is_cut(&[whole, &[0; 40]].concat()), "zeros may follow");
    }

    #[test]
    fn a_cut_is_found_in_every_format() {
        is_found_wherever_it_is_cut(&gzipped(&[7; 10_000]));
        is_found_wherever_it_is_cut(XZ);
        is_found_wherever_it_is_cut(ZSTD);
        let end = LZ4.len();
        assert!(!is_cut(LZ4));
        (9..end).for_each(|len| assert!(is_cut(&LZ4[..len]), "{len}"));
    }

    #[test]
    fn a_cpio_archive_that_is_cut_is_found() {
        let whole = archive();
        // What pads the trailer's name may be missing.
        let end = whole.len() - 3;
        assert!(!is_cut(&whole) && !is_cut(&whole[..end]));
        (6..end).for_each(|len| assert!(is_cut(&whole[..len]), "{len}"));
    }

    #[test]
    fn the_last_of_several_archives_counts() {
        for last in [&gzipped(&archive())[..], XZ, ZSTD] {
            let whole = [&archive()[..], &[0; 8], last].concat();
            is_found_in_the_last(&whole, last.len());
        }
    }

    #[track_caller]
    fn is_found_in_the_last(whole: &[u8], last_bytes: usize) {
        assert!(!is_cut(whole));
        assert!(is_cut(&whole[..whole.len() - last_bytes / 2]));
    }

    #[test]
    fn what_we_do_not_know_is_let_alone() {
        assert!(!is_cut(b"BZh91AY"));
        assert!(!is_cut(&[0; 512]));
    }
}
