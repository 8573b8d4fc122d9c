//! Any bytes as a log: nothing panics, nothing is read that was not written,
//! and each sequence of events has one encoding.
//!
//! Headers are made here by `docs/log-format.md` and not by the crate under
//! test, so that both are held to it.

use log::{Cursor, Decoder, Encoder, Event, FRAME_BODY_MAX, Memory, Reader};
use seal::{Digest, Digester};

/// Tries `data` as a segment, as frames after a good header, and as the body
/// of a good frame, in each version of the format.
pub(crate) fn check(data: &[u8]) {
    for version in 1..=log::FORMAT_VERSION {
        check_in(version, data);
    }
}

fn check_in(version: u32, data: &[u8]) {
    assert_eq!(
        read(data.to_vec()).len(),
        0,
        "random bytes have no good checksum"
    );
    let (header, chain) = segment_header(version);
    read([&header[..], data].concat());

    let body = &data[..data.len().min(FRAME_BODY_MAX - 1)];
    let events = decode(body);
    let count = u32::try_from(events.len()).expect("an event takes a byte at least");
    let branches = events.first().map_or(0, |first| first.moment.branches);
    // Version 1 knew no forms; form 0 is the events as they are.
    let form: &[u8] = if version == 1 { &[] } else { &[0] };
    if !events.is_empty() {
        let body = [form, body].concat();
        let frame = frame_header(&body, count, branches, chain);
        let found = read([&header[..], &frame, &body].concat());
        assert!(events.starts_with(&found), "the reader found other events");
    }
    if version > 1 && !body.is_empty() {
        let packed = [&[1], body].concat();
        let frame = frame_header(&packed, 1, 0, chain);
        read([&header[..], &frame, &packed].concat());
    }
}

/// The events of a segment, until it ends or is found altered.
fn read(segment: Vec<u8>) -> Vec<Event> {
    let reader = Reader::new(Memory::of(vec![segment]));
    reader
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .map(|placed| placed.event)
        .collect()
}

/// The events of a body, until something is none; they have to be written as
/// they were read.
fn decode(body: &[u8]) -> Vec<Event> {
    let (mut cursor, mut decoder) = (Cursor::new(body), Decoder::new());
    let (mut encoder, mut again) = (Encoder::new(), Vec::new());
    let mut events = Vec::new();
    while cursor.left() > 0
        && let Ok(event) = decoder.decode(&mut cursor)
    {
        encoder.encode(&event, &mut again);
        assert_eq!(
            again,
            body[..body.len() - cursor.left()],
            "two encodings of {event:?}"
        );
        events.push(event);
    }
    events
}

/// A good header of segment 0, and the chain value after it.
fn segment_header(version: u32) -> (Vec<u8>, Digest) {
    let mut header = b"\x89RVLOG\r\n".to_vec();
    header.extend(version.to_le_bytes());
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend([7; 32]);
    let mut digester = Digester::for_purpose("ReVirt log format 1: start");
    digester.feed(&header);
    header.extend(digester.digest().0);
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    (header, digester.digest())
}

/// A good header of frame 0.
fn frame_header(body: &[u8], events: u32, first_branches: u64, before: Digest) -> Vec<u8> {
    let body_bytes = u32::try_from(body.len()).expect("at most FRAME_BODY_MAX");
    let mut header = b"RVfr".to_vec();
    header.extend(body_bytes.to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend(events.to_le_bytes());
    header.extend(crc32c::crc32c(body).to_le_bytes());
    header.extend(first_branches.to_le_bytes());
    let mut digester = Digester::for_purpose("ReVirt log format 1: frame");
    digester.feed(&before.0);
    digester.feed(&header);
    digester.feed(body);
    header.extend(digester.digest().0);
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    header
}
