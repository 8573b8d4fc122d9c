//! A disk that is slow, fills or fails: the guest waits or is told, and what
//! was sealed stays readable.

mod sample;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{
    Body, Directory, EndReason, Error, Event, Layout, Memory, Options, Reader, Store, WriteError,
    Writer,
};
use sample::{MANIFEST, session, write_in};

/// A disk with room for so many bytes, which it takes a few at a time.
struct Small {
    memory: Memory,
    room: usize,
    piece: usize,
}

impl Store for Small {
    fn begin(&mut self, number: u64) -> io::Result<()> {
        self.memory.begin(number)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = bytes.len().min(self.room).min(self.piece);
        self.room -= len;
        self.memory.append(&bytes[..len])
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let before = self.bytes();
        self.memory.cut(len)?;
        self.room += before - self.bytes();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.memory.sync()
    }
}

impl Small {
    fn bytes(&self) -> usize {
        self.memory.segments().iter().map(Vec::len).sum()
    }
}

fn options() -> Options {
    Options {
        frame_bytes: 60,
        segment_bytes: 400,
        seal_after: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// Pushes a session to a disk with room for `room` bytes.
fn write_to(memory: &Memory, room: usize, piece: usize) -> Result<(), WriteError> {
    write_with(memory, room, piece, options())
}

fn write_with(
    memory: &Memory,
    room: usize,
    piece: usize,
    options: Options,
) -> Result<(), WriteError> {
    let store = Small {
        memory: memory.clone(),
        room,
        piece,
    };
    let mut writer = Writer::start(store, MANIFEST, options)?;
    for event in session() {
        writer.push(event)?;
    }
    writer.close().map(|_| ())
}

fn read(memory: Memory) -> Result<(Vec<Event>, Option<EndReason>), Error> {
    let mut reader = Reader::new(memory)?;
    let events = reader
        .by_ref()
        .map(|placed| placed.map(|placed| placed.event))
        .collect::<Result<_, _>>()?;
    assert!(reader.tail().is_none_or(|tail| tail.bytes_lost == 0));
    Ok((events, reader.ended()))
}

#[test]
fn a_disk_that_fills_at_any_byte_is_told_and_keeps_whole_frames() {
    let whole = write_in(&session(), options()).segments();
    let needed: usize = whole.iter().map(Vec::len).sum();
    let all = session();
    for room in log::SEGMENT_HEADER_BYTES..needed {
        let memory = Memory::new();
        let error = write_to(&memory, room, usize::MAX).expect_err("the disk is too small");
        let WriteError::Io { source, .. } = error else {
            panic!("another error than the disk's: {error}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        let (mut events, ended) = read(memory).expect("what was written is whole");
        if ended.is_some() {
            assert_eq!(ended, Some(EndReason::LogFailed));
            events.pop();
        }
        assert_eq!(events, all[..events.len()], "room for {room}");
    }
    write_to(&Memory::new(), needed, usize::MAX).expect("room for all");
}

#[test]
fn a_log_says_that_its_disk_was_full_if_there_is_room_for_that() {
    let memory = Memory::new();
    let one_segment = Options {
        segment_bytes: u64::MAX,
        ..options()
    };
    let needed = write_in(&session(), one_segment).segments()[0].len();
    write_with(&memory, needed - 1, usize::MAX, one_segment).expect_err("the disk is too small");
    let (events, ended) = read(memory).expect("what was written is whole");
    assert_eq!(ended, Some(EndReason::LogFailed));
    let [.., before, last] = &events[..] else {
        panic!("too few events were written: {events:?}");
    };
    assert_eq!((last.moment, last.check), (before.moment, before.check));
}

#[test]
fn a_disk_that_has_no_room_for_the_first_header_is_told_at_once() {
    for room in 0..log::SEGMENT_HEADER_BYTES {
        let store = Small {
            memory: Memory::new(),
            room,
            piece: usize::MAX,
        };
        assert!(Writer::start(store, MANIFEST, options()).is_err());
    }
}

#[test]
fn a_disk_that_takes_a_byte_at_a_time_gets_all() {
    let memory = Memory::new();
    write_to(&memory, usize::MAX, 1).expect("there is room");
    assert_eq!(read(memory).expect("a whole log").0, session());
}

#[test]
fn a_segment_that_can_not_be_made_leaves_the_one_before_as_it_is() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Directory::create(Layout::new(dir.path())).expect("a new log");
    let mut writer = Writer::start(store, MANIFEST, options()).expect("a new log");
    let in_the_way = dir.path().join("log/00000001.seg");
    std::fs::write(&in_the_way, b"").expect("a scratch file");
    for event in session() {
        let _ = writer.push(event);
    }
    writer.close().expect_err("the name is taken");
    std::fs::remove_file(&in_the_way).expect("a scratch file");
    let verified = log::verify(dir.path(), Some(MANIFEST), &[]).expect("all is whole");
    assert_eq!(verified.info.ended, Some(EndReason::LogFailed));
    assert!(verified.info.events() > 2);
}

/// A disk that writes only when it is let.
struct Slow {
    memory: Memory,
    turns: Mutex<Receiver<()>>,
}

impl Store for Slow {
    fn begin(&mut self, number: u64) -> io::Result<()> {
        self.memory.begin(number)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let turns = self.turns.lock().expect("one thread writes");
        turns.recv().map_err(io::Error::other)?;
        self.memory.append(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.memory.cut(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tick(ns: u64) -> Event {
    Event {
        moment: moment::Moment {
            branches: ns,
            pc: ns,
            rcx: 0,
        },
        vcpu: 0,
        check: 0,
        body: Body::Clock { ns },
    }
}

#[test]
fn the_guest_waits_for_a_slow_disk_and_nothing_is_lost() {
    const EVENTS: u64 = 1000;
    let ring_bytes = 20 * size_of::<Event>();
    let (turn, turns) = channel();
    let memory = Memory::new();
    let store = Slow {
        memory: memory.clone(),
        turns: Mutex::new(turns),
    };
    turn.send(()).expect("the store is there"); // the header
    let options = Options {
        ring_bytes,
        frame_bytes: 100,
        ..Options::default()
    };
    let mut writer = Writer::start(store, MANIFEST, options).expect("a log");
    let pushed = Arc::new(AtomicUsize::new(0));
    let guest = std::thread::spawn({
        let pushed = Arc::clone(&pushed);
        move || {
            for ns in 0..EVENTS {
                writer.push(tick(ns)).expect("the disk is slow, not full");
                pushed.fetch_add(1, Ordering::SeqCst);
            }
            writer.close().expect("the disk is slow, not full")
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    // Twenty in the ring, as many in the writer's hands, and a frame of a
    // hundred bytes, of which each event takes seven at least.
    assert!(pushed.load(Ordering::SeqCst) <= 20 + 20 + 100 / 7 + 1);
    for _ in 0..EVENTS {
        let _ = turn.send(());
    }
    let written = guest.join().expect("the guest ends");
    assert_eq!(written.events, EVENTS);
    assert_eq!(Reader::new(memory).expect("a log").count() as u64, EVENTS);
}

#[test]
fn whoever_waits_for_a_disk_that_fails_is_told() {
    let (turn, turns) = channel();
    let store = Slow {
        memory: Memory::new(),
        turns: Mutex::new(turns),
    };
    turn.send(()).expect("the store is there");
    let options = Options {
        ring_bytes: 1,
        frame_bytes: 1,
        ..Options::default()
    };
    let mut writer = Writer::start(store, MANIFEST, options).expect("a log");
    drop(turn);
    let failed = (0..100).find_map(|ns| writer.push(tick(ns)).err());
    assert!(matches!(failed, Some(WriteError::Io { .. })));
    assert!(writer.push(tick(100)).is_err());
    assert!(writer.flush().is_err());
    assert!(writer.close().is_err());
}

#[test]
fn an_event_is_sealed_after_its_time_without_another() {
    let memory = Memory::new();
    let options = Options {
        seal_after: Duration::from_millis(1),
        ..Options::default()
    };
    let mut writer = Writer::start(memory.clone(), MANIFEST, options).expect("a log");
    writer.push(tick(1)).expect("memory has room");
    let sealed = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Reader::new(memory.clone()).expect("a log").count() == 1
    });
    assert!(sealed);
}

#[test]
fn an_input_that_is_too_long_is_refused_and_the_log_goes_on() {
    let memory = Memory::new();
    let mut writer = Writer::start(memory.clone(), MANIFEST, options()).expect("a log");
    let input = |len| Event {
        body: Body::Input {
            door: log::Door::Console,
            bytes: vec![b'x'; len],
        },
        ..tick(1)
    };
    let refused = writer.push(input(log::INPUT_BYTES_MAX + 1));
    assert!(matches!(refused, Err(WriteError::TooLong { .. })));
    writer
        .push(input(log::INPUT_BYTES_MAX))
        .expect("the longest");
    writer.close().expect("memory has room");
    assert_eq!(Reader::new(memory).expect("a log").count(), 1);
}

#[test]
#[should_panic(expected = "backwards")]
fn time_running_backwards_is_a_bug_found_where_it_is_pushed() {
    let mut writer = Writer::start(Memory::new(), MANIFEST, options()).expect("a log");
    writer.push(tick(2)).expect("memory has room");
    let _ = writer.push(tick(1));
}
