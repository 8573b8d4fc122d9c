//! What is pushed is read back, whatever the sizes of frames and segments.

mod sample;

use log::{Directory, Layout, Memory, Options, Reader, Writer};
use proptest::prelude::*;
use sample::{MANIFEST, events, write_in};
use seal::Digest;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sequence_of_events_is_read_back(
        events in events(0..40),
        frame_bytes in 1usize..400,
        segment_bytes in 100u64..2000,
    ) {
        let memory = write_in(&events, Options { frame_bytes, segment_bytes, ..Options::default() });
        let read: Vec<_> = Reader::new(memory)
            .expect("the first header is whole")
            .map(|placed| placed.expect("the log is whole").event)
            .collect();
        prop_assert_eq!(read, events);
    }
}

#[test]
fn a_reader_knows_the_manifest_and_how_the_log_ends() {
    let events = sample::session();
    let mut reader = Reader::new(write_in(&events, Options::default())).expect("a log");
    assert_eq!(reader.by_ref().count(), events.len());
    assert_eq!(reader.manifest(), MANIFEST);
    assert_eq!(reader.ended(), Some(log::EndReason::PoweredOff));
    assert_eq!(reader.tail(), None);
}

#[test]
fn a_log_in_a_directory_is_read_back_and_verified() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut writer = Writer::create(dir.path(), MANIFEST).expect("a new log");
    for event in sample::session() {
        writer.push(event).expect("room on the disk");
    }
    let written = writer.close().expect("room on the disk");
    let verified = log::verify(dir.path(), Some(MANIFEST), &[]).expect("it was not altered");
    assert!(verified.info.is_whole());
    assert_eq!(verified.info.bytes, written.bytes);
    assert_eq!(verified.info.frames, written.frames);
    assert_eq!(verified.info.chain, written.chain);
    assert_eq!(verified.info.events(), written.events);
}

#[test]
fn a_log_of_segments_that_the_disk_gets_in_pieces_is_read_back() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Directory::create(Layout::new(dir.path())).expect("a new log");
    let options = Options {
        segment_bytes: 9 << 20,
        ..Options::default()
    };
    // What no compression makes shorter.
    let frame = |n: u64| {
        (0..2000)
            .flat_map(|part| Digest::of(&(2000 * n + part).to_le_bytes()).0)
            .collect()
    };
    let mut writer = Writer::start(store, MANIFEST, options).expect("a new log");
    for n in 0..400 {
        writer
            .push(sample::received(n, frame(n)))
            .expect("room on the disk");
    }
    let written = writer.close().expect("room on the disk");
    assert_eq!(written.segments, 3);
    let log = Directory::open(Layout::new(dir.path())).expect("it is there");
    let read = Reader::new(log)
        .expect("a log")
        .map(|placed| placed.expect("the log is whole").event);
    for (n, event) in (0..400).zip(read) {
        assert!(event == sample::received(n, frame(n)), "event {n}");
    }
    let verified = log::verify(dir.path(), Some(MANIFEST), &[]).expect("it was not altered");
    assert_eq!(verified.info.events(), 400);
}

#[test]
fn a_log_is_not_written_over() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let first = Writer::create(dir.path(), MANIFEST);
    assert!(first.is_ok());
    assert!(Writer::create(dir.path(), MANIFEST).is_err());
}

#[test]
fn what_was_flushed_can_be_read_while_the_writer_goes_on() {
    let memory = Memory::new();
    let mut writer = Writer::start(memory.clone(), MANIFEST, Options::default()).expect("a log");
    let events = sample::session();
    for event in &events[..3] {
        writer.push(event.clone()).expect("memory has room");
    }
    writer.flush().expect("memory has room");
    let read = Reader::new(memory).expect("a log").count();
    assert_eq!(read, 3);
}
