//! The header of a frame, and the chain.

use seal::{Digest, Digester};

use crate::damage::Flaw;
use crate::segment::{check_crc, digest_at, put_crc, u32_at, u64_at};

/// How long a frame's header is.
pub const FRAME_HEADER_BYTES: usize = 68;

/// The longest body of a frame, in bytes.
pub const FRAME_BODY_MAX: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"RVfr";

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// How long its body is, in bytes.
    pub(crate) body_bytes: u32,
    /// Its number, from 0 at the start of the log.
    pub(crate) sequence: u64,
    /// How many events its body holds.
    pub(crate) events: u32,
    /// The crc32c of its body.
    pub(crate) body_crc: u32,
    /// The branch count of its first event.
    pub(crate) first_branches: u64,
    /// The chain value after it.
    pub(crate) chain: Digest,
}

impl FrameHeader {
    /// That of a frame with this body, after `before` in the chain.
    pub(crate) fn new(
        before: Digest,
        sequence: u64,
        events: u32,
        first_branches: u64,
        body: &[u8],
    ) -> FrameHeader {
        assert!(events > 0 && !body.is_empty() && body.len() <= FRAME_BODY_MAX);
        let mut header = FrameHeader {
            body_bytes: u32::try_from(body.len()).expect("a body is at most 1 MiB"),
            sequence,
            events,
            body_crc: crc32c::crc32c(body),
            first_branches,
            chain: Digest::default(),
        };
        header.chain = header.chain_after(before, body);
        header
    }

    /// The chain value after this frame, if it was `before` ahead of it.
    pub(crate) fn chain_after(&self, before: Digest, body: &[u8]) -> Digest {
        let mut digester = Digester::for_purpose("ReVirt log format 1: frame");
        digester.feed(&before.0);
        digester.feed(&self.encode()[..32]);
        digester.feed(body);
        digester.digest()
    }

    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.events.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_branches.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.chain.0);
        put_crc(&mut bytes, 64);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, Flaw> {
        if bytes[0..4] != MAGIC {
            return Err(Flaw::Magic);
        }
        check_crc(bytes, 64)?;
        let header = FrameHeader {
            body_bytes: u32_at(bytes, 4),
            sequence: u64_at(bytes, 8),
            events: u32_at(bytes, 16),
            body_crc: u32_at(bytes, 20),
            first_branches: u64_at(bytes, 24),
            chain: digest_at(bytes, 32),
        };
        if header.body_bytes == 0 || header.body_bytes as usize > FRAME_BODY_MAX {
            return Err(Flaw::BodyLength(header.body_bytes));
        }
        if header.events == 0 {
            return Err(Flaw::NoEvents);
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back() {
        let header = FrameHeader::new(Digest::of(b"before"), 5, 2, 77, b"body");
        assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn the_chain_depends_on_all_before() {
        let one = FrameHeader::new(Digest::of(b"one"), 5, 2, 77, b"body");
        let other = FrameHeader::new(Digest::of(b"other"), 5, 2, 77, b"body");
        assert_ne!(one.chain, other.chain);
    }
}
