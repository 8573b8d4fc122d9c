//! The body of a frame: its events, as they are or compressed.
//!
//! Where a log carries payload, such as what the network brought, this makes it
//! a good deal shorter, in the thread that writes; where it doesn't, nothing is
//! lost but a byte a frame. A frame needs no other to be read.

use std::borrow::Cow;

use lz4_flex::block;

use crate::frame::{FRAME_BODY_MAX, FRAME_HEADER_BYTES};
use crate::wire::{Cursor, Malformed, put_varint};

/// The first byte of a body.
mod form {
    pub(super) const PLAIN: u8 = 0;
    pub(super) const LZ4: u8 = 1;
}

/// How many bytes are kept free before a draft's events: for the frame's header and
/// the body's first byte.
const ROOM: usize = FRAME_HEADER_BYTES + 1;

/// The events of a frame in the making. It becomes the frame without being moved.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Room, and the events.
    plain: Vec<u8>,
    /// Room, and the events compressed.
    packed: Vec<u8>,
}

impl Draft {
    /// Without events.
    pub(crate) fn new() -> Draft {
        Draft {
            plain: vec![0; ROOM],
            packed: Vec::new(),
        }
    }

    /// Where events are appended.
    pub(crate) fn events(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// Length in bytes of the events.
    pub(crate) fn len(&self) -> usize {
        self.plain.len() - ROOM
    }

    /// Takes all events out.
    pub(crate) fn clear(&mut self) {
        self.plain.truncate(ROOM);
    }

    /// The frame: room for its header, and the shorter body for the events.
    pub(crate) fn frame(&mut self) -> &mut [u8] {
        let events = &self.plain[ROOM..];
        let packed = &mut self.packed;
        packed.resize(FRAME_HEADER_BYTES, 0);
        packed.push(form::LZ4);
        put_varint(packed, events.len() as u64);
        let start = packed.len();
        packed.resize(start + block::get_maximum_output_size(events.len()), 0);
        let bytes = block::compress_into(events, &mut packed[start..]);
        let end = start + bytes.expect("there is room for the longest");
        if end < self.plain.len() {
            return &mut packed[..end];
        }
        self.plain[FRAME_HEADER_BYTES] = form::PLAIN;
        &mut self.plain
    }
}

/// The events in `body`, of a format that has forms. Takes no more memory than
/// the longest body, whatever the bytes allege.
pub(crate) fn unpack(body: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let mut cursor = Cursor::new(body);
    match cursor.byte()? {
        form::PLAIN => Ok(Cow::Borrowed(cursor.rest())),
        form::LZ4 => {
            let len = cursor.length(FRAME_BODY_MAX)?;
            let mut events = vec![0; len];
            match block::decompress_into(cursor.rest(), &mut events) {
                Ok(found) if found == len && len > 0 => Ok(Cow::Owned(events)),
                _ => Err(Malformed::Packed),
            }
        }
        other => Err(Malformed::Form(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body of a frame with these events.
    fn pack(events: &[u8]) -> Vec<u8> {
        let mut draft = Draft::new();
        draft.events().extend_from_slice(events);
        draft.frame()[FRAME_HEADER_BYTES..].to_vec()
    }

    #[test]
    fn what_repeats_gets_shorter_and_what_does_not_hardly_longer() {
        let page = b"GET /index.html HTTP/1.1\r\n".repeat(1000);
        assert!(pack(&page).len() < page.len() / 50);
        let noise: Vec<u8> = (0u32..5000)
            .map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()[3])
            .collect();
        assert!(pack(&noise).len() <= noise.len() + 1);
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        let says = |len: u64, block: &[u8]| {
            let mut body = vec![form::LZ4];
            put_varint(&mut body, len);
            body.extend(block);
            body
        };
        let honest = pack(&[7; 60_000]);
        let block = &honest[4..];
        assert_eq!(
            unpack(&says(60_000, block)),
            Ok(Cow::Owned(vec![7; 60_000]))
        );
        for body in [says(100, block), says(70_000, block), says(0, &[0])] {
            assert_eq!(unpack(&body), Err(Malformed::Packed));
        }
        assert!(matches!(
            unpack(&says(u64::MAX, block)),
            Err(Malformed::Length { .. })
        ));
        assert_eq!(unpack(&[]), Err(Malformed::Short));
        assert_eq!(unpack(&[2, 0]), Err(Malformed::Form(2)));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            frames in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(0u8..4, 1..3000),
                    prop::collection::vec(any::<u8>(), 1..3000),
                ],
                1..4,
            ),
        ) {
            let mut draft = Draft::new();
            for events in frames {
                draft.events().extend_from_slice(&events);
                prop_assert_eq!(draft.len(), events.len());
                let frame = draft.frame();
                // A header is written there.
                frame[..FRAME_HEADER_BYTES].fill(0xff);
                prop_assert_eq!(unpack(&frame[FRAME_HEADER_BYTES..]), Ok(Cow::Borrowed(&events[..])));
                draft.clear();
            }
        }
    }
}
