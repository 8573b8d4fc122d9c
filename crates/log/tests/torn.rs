//! A log cut at any byte: what was whole before stays readable.

mod sample;

use log::{Error, Event, Memory, Options, Reader, Tail};
use sample::{session, write_in};

fn small() -> Vec<Vec<u8>> {
    let options = Options {
        frame_bytes: 60,
        segment_bytes: 400,
        ..Options::default()
    };
    write_in(&session(), options).segments()
}

/// The events that can be read, and how reading ends.
fn read(segments: Vec<Vec<u8>>) -> (Vec<Event>, Result<Option<Tail>, Error>) {
    let mut reader = match Reader::new(Memory::of(segments)) {
        Ok(reader) => reader,
        Err(error) => return (vec![], Err(error)),
    };
    let mut events = vec![];
    for placed in &mut reader {
        match placed {
            Ok(placed) => events.push(placed.event),
            Err(error) => return (events, Err(error)),
        }
    }
    assert_eq!(reader.ended(), None);
    let tail = reader.tail().cloned();
    (events, Ok(tail))
}

/// How many events lie in whole frames of the first `len` bytes of the last of
/// `segments`, and where the last such frame ends.
fn whole_until(segments: &[Vec<u8>], len: usize) -> (usize, usize) {
    let (last, before) = segments.split_last().expect("a segment");
    let events_before: usize = before.iter().map(|segment| frames(segment).1).sum();
    let (ends, _) = frames(last);
    ends.iter()
        .take_while(|(end, _)| *end <= len)
        .fold((events_before, 0), |(events, _), (end, count)| {
            (events + count, *end)
        })
}

/// Where each frame ends and how many events it holds, the header first; and
/// the sum of events.
fn frames(segment: &[u8]) -> (Vec<(usize, usize)>, usize) {
    let number = |at: usize| {
        u32::from_le_bytes(segment[at..at + 4].try_into().expect("four bytes")) as usize
    };
    let mut ends = vec![(log::SEGMENT_HEADER_BYTES, 0)];
    let mut at = log::SEGMENT_HEADER_BYTES;
    while at < segment.len() {
        let events = number(at + 16);
        at += log::FRAME_HEADER_BYTES + number(at + 4);
        ends.push((at, events));
    }
    let sum = ends.iter().map(|(_, events)| events).sum();
    (ends, sum)
}

#[test]
fn a_log_cut_at_any_byte_loses_no_whole_frame() {
    let whole = small();
    let all = session();
    for number in 0..whole.len() {
        for len in 0..whole[number].len() {
            let mut segments = whole[..=number].to_vec();
            let (events, end) = whole_until(&segments, len);
            segments[number].truncate(len);
            let (read, result) = read(segments);
            assert_eq!(read, all[..events], "cut at {len} of {number}");
            match result {
                Ok(None) => assert_eq!(len, end),
                Ok(Some(tail)) => {
                    assert_eq!(tail.cut_at, end as u64);
                    assert_eq!(tail.bytes_lost, (len - end) as u64);
                }
                Err(error) => assert!(number == 0 && len < log::SEGMENT_HEADER_BYTES, "{error}"),
            }
        }
    }
}

#[test]
fn a_segment_cut_at_any_byte_before_the_last_is_altered() {
    let whole = small();
    for len in 0..whole[0].len() {
        let mut segments = whole.clone();
        segments[0].truncate(len);
        let (_, result) = read(segments);
        assert!(matches!(result, Err(Error::Damage(_))), "cut at {len}");
    }
}

#[test]
fn zeros_at_the_end_are_torn_and_not_altered() {
    let whole = small();
    let mut segments = whole[..2].to_vec();
    segments[1].extend([0; 5000]);
    let (read, result) = read(segments);
    let (events, end) = whole_until(&whole[..2], usize::MAX);
    assert_eq!(read.len(), events);
    let tail = result
        .expect("nothing is altered")
        .expect("the tail is torn");
    assert_eq!((tail.cut_at, tail.bytes_lost), (end as u64, 5000));
}

#[test]
fn an_empty_last_segment_is_torn() {
    let mut segments = small()[..2].to_vec();
    segments.push(vec![]);
    let (_, result) = read(segments);
    let tail = result
        .expect("nothing is altered")
        .expect("the tail is torn");
    assert_eq!((tail.cut_at, tail.bytes_lost), (0, 0));
}
