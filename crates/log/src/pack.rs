//! The body of a frame: its events, as they are or compressed.
//!
//! Where a log carries payload, such as what the network brought, this makes it
//! a good deal shorter, in the thread that writes; where it doesn't, nothing is
//! lost but a byte a frame. A frame needs no other to be read.

use std::borrow::Cow;

use lz4_flex::block;

use crate::FRAME_BODY_MAX;
use crate::wire::{Cursor, Malformed, put_varint};

/// The first byte of a body.
mod form {
    pub(super) const PLAIN: u8 = 0;
    pub(super) const LZ4: u8 = 1;
}

/// The shorter body for `events`.
pub(crate) fn pack(events: &[u8]) -> Vec<u8> {
    let mut body = vec![form::LZ4];
    put_varint(&mut body, events.len() as u64);
    let start = body.len();
    body.resize(start + block::get_maximum_output_size(events.len()), 0);
    let packed = block::compress_into(events, &mut body[start..]);
    body.truncate(start + packed.expect("there is room for the longest"));
    if body.len() <= events.len() {
        return body;
    }
    [&[form::PLAIN], events].concat()
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
        fn what_is_packed_comes_back(events in prop::collection::vec(0u8..4, 1..3000)) {
            let body = pack(&events);
            prop_assert_eq!(unpack(&body), Ok(Cow::Borrowed(&events[..])));
        }
    }
}
