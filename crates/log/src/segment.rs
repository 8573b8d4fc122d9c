//! The header of a segment.

use seal::{Digest, Digester};

use crate::damage::Flaw;

/// The version of the format that this program writes; it reads all up to it.
pub const FORMAT_VERSION: u32 = 2;

/// How long a segment's header is.
pub const SEGMENT_HEADER_BYTES: usize = 100;

/// The start of every segment. The high bit and the line ends make it fail at
/// once if something treated the file as text.
const MAGIC: [u8; 8] = *b"\x89RVLOG\r\n";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The version of the format that it is written in.
    pub(crate) version: u32,
    /// Its number, from 0.
    pub(crate) number: u64,
    /// The sequence number of its first frame.
    pub(crate) first_frame: u64,
    /// The digest of the manifest, which tells the machine configuration.
    pub(crate) manifest: Digest,
    /// The chain value before its first frame.
    pub(crate) chain: Digest,
}

impl SegmentHeader {
    /// That of a log's first segment.
    pub(crate) fn first(manifest: Digest) -> SegmentHeader {
        let mut header = SegmentHeader {
            version: FORMAT_VERSION,
            number: 0,
            first_frame: 0,
            manifest,
            chain: Digest::default(),
        };
        header.chain = header.start_of_chain();
        header
    }

    /// The chain value that follows from the rest of this header, were it the
    /// first of its log.
    pub(crate) fn start_of_chain(&self) -> Digest {
        let mut digester = Digester::for_purpose("ReVirt log format 1: start");
        digester.feed(&self.encode()[..64]);
        digester.digest()
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        put_crc(&mut bytes, 12);
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_frame.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.manifest.0);
        bytes[64..96].copy_from_slice(&self.chain.0);
        put_crc(&mut bytes, 96);
        bytes
    }

    /// Reads a header of any version up to this one; of another, says which.
    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<SegmentHeader, HeaderFlaw> {
        if bytes[0..8] != MAGIC {
            return Err(Flaw::Magic.into());
        }
        check_crc(bytes, 12)?;
        let version = u32_at(bytes, 8);
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(HeaderFlaw::Version(version));
        }
        check_crc(bytes, 96)?;
        Ok(SegmentHeader {
            version,
            number: u64_at(bytes, 16),
            first_frame: u64_at(bytes, 24),
            manifest: digest_at(bytes, 32),
            chain: digest_at(bytes, 64),
        })
    }
}

/// Why a segment's header can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFlaw {
    /// It is intact, and of another version.
    Version(u32),
    /// It is altered.
    Flaw(Flaw),
}

impl From<Flaw> for HeaderFlaw {
    fn from(flaw: Flaw) -> HeaderFlaw {
        HeaderFlaw::Flaw(flaw)
    }
}

/// Writes the checksum of all before `place` at `place`.
pub(crate) fn put_crc(bytes: &mut [u8], place: usize) {
    let crc = crc32c::crc32c(&bytes[..place]);
    bytes[place..place + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Checks what [`put_crc`] wrote.
pub(crate) fn check_crc(bytes: &[u8], place: usize) -> Result<(), Flaw> {
    let expected = u32_at(bytes, place);
    let found = crc32c::crc32c(&bytes[..place]);
    if expected != found {
        return Err(Flaw::HeaderChecksum { expected, found });
    }
    Ok(())
}

pub(crate) fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, place))
}

pub(crate) fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, place))
}

pub(crate) fn digest_at(bytes: &[u8], place: usize) -> Digest {
    Digest(array_at(bytes, place))
}

fn array_at<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    bytes[place..place + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back() {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            number: 3,
            first_frame: 1 << 40,
            manifest: Digest::of(b"manifest"),
            chain: Digest::of(b"chain"),
        };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn a_version_from_the_future_is_known_whatever_follows_it() {
        let mut bytes = [0x5a; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        let next = FORMAT_VERSION + 1;
        bytes[8..12].copy_from_slice(&next.to_le_bytes());
        put_crc(&mut bytes, 12);
        let found = SegmentHeader::decode(&bytes);
        assert_eq!(found, Err(HeaderFlaw::Version(next)));
    }

    #[test]
    fn a_flipped_version_is_no_version() {
        let mut bytes = SegmentHeader::first(Digest::default()).encode();
        bytes[8] ^= 2;
        let read = SegmentHeader::decode(&bytes);
        assert!(matches!(
            read,
            Err(HeaderFlaw::Flaw(Flaw::HeaderChecksum { .. }))
        ));
    }
}
