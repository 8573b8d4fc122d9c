//! A log stays small: the promise of 0.02 GB a day.

mod sample;

use std::time::Duration;

use log::{Body, Event, Options, Reader};
use moment::Moment;
use seal::Digest;

const DAY_SECONDS: u64 = 86_400;

/// A guest in a busy loop: two clock samples a second, an
/// epoch every other second, frames that are sealed every other second.
///
/// A kilobyte of registers, of which the general ones, the flags and some of
/// the vector registers change from epoch to epoch.
fn busy(seconds: u64) -> Vec<Event> {
    let mut events = vec![];
    let mut registers = vec![0; 1024];
    for half in 0..seconds * 2 {
        let noise = Digest::of(&half.to_le_bytes());
        let moment = Moment {
            branches: half * 60_000_000 + u64::from(noise.0[0]),
            pc: if noise.0[1] & 1 == 0 {
                0xffff_ffff_8123_4567
            } else {
                0x55d0_1234_5678
            } + u64::from(noise.0[2]),
            rcx: 0,
        };
        let event = |body| Event {
            moment,
            vcpu: 0,
            check: noise.short(),
            body,
        };
        events.push(event(Body::Clock {
            ns: half * 500_000_000 + u64::from(noise.0[3]) * 1000,
        }));
        if half % 4 == 3 {
            for (register, byte) in (0..16).zip(noise.0) {
                registers[register * 8..register * 8 + 4].fill(byte);
            }
            registers[256..288].copy_from_slice(&noise.0);
            events.push(event(Body::Epoch {
                registers: registers.clone(),
                memory: noise,
                devices: Digest::of(&noise.0),
                output: Digest::of(b"no output"),
                output_bytes: 9,
            }));
        }
    }
    events
}

/// Bytes of a log of `events` that is sealed after each epoch, as it is by the
/// time of two seconds.
fn bytes(events: &[Event]) -> u64 {
    let memory = log::Memory::new();
    let options = Options {
        seal_after: Duration::from_secs(3600),
        ..Options::default()
    };
    let mut writer = log::Writer::start(memory.clone(), sample::MANIFEST, options).expect("a log");
    for event in events {
        writer.push(event.clone()).expect("memory has room");
        if event.body.kind() == log::Kind::Epoch {
            writer.flush().expect("memory has room");
        }
    }
    let written = writer.close().expect("memory has room");
    assert_eq!(Reader::new(memory).expect("a log").count(), events.len());
    written.bytes
}

#[test]
fn a_busy_loop_costs_less_than_two_hundredths_of_a_gigabyte_a_day() {
    const SECONDS: u64 = 600;
    let a_day = bytes(&busy(SECONDS)) * DAY_SECONDS / SECONDS;
    println!("{} bytes a second, {a_day} a day", a_day / DAY_SECONDS);
    assert!(a_day < 20_000_000, "{a_day} bytes a day");
}

#[test]
fn a_log_without_events_does_not_grow() {
    let memory = log::Memory::new();
    let options = Options {
        seal_after: Duration::from_millis(1),
        sync_after: Duration::from_millis(1),
        ..Options::default()
    };
    let writer = log::Writer::start(memory.clone(), sample::MANIFEST, options).expect("a log");
    std::thread::sleep(Duration::from_millis(50));
    writer.close().expect("memory has room");
    assert_eq!(memory.segments()[0].len(), log::SEGMENT_HEADER_BYTES);
}
