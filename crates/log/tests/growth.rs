//! A log stays small.

mod sample;

use std::time::Duration;

use log::{Body, Event, Options, Reader};
use moment::Moment;
use seal::Digest;

const DAY_SECONDS: u64 = 86_400;

/// The clock is sampled every 0.3 seconds, as in `session`; an epoch is five of them.
const SAMPLE_NS: u64 = 300_000_000;
const SAMPLES_IN_AN_EPOCH: u64 = 5;
/// A frame is sealed after two seconds, so that it holds seven samples or so.
const SAMPLES_IN_A_FRAME: u64 = 7;

/// A guest in a busy loop, in the kernel or in a program, with an interrupt
/// now and then: the digests of memory and devices change from epoch to epoch,
/// and of 150 registers of 16 bytes each the general ones, the flags and two
/// vector registers.
fn busy(seconds: u64) -> Vec<Event> {
    let mut events = vec![];
    let mut registers = vec![0; 150 * 16];
    for sample in 0..seconds * 1_000_000_000 / SAMPLE_NS {
        let noise = Digest::of(&sample.to_le_bytes());
        let moment = Moment {
            branches: sample * 40_000_000 + u64::from(noise.short() >> 12),
            pc: if noise.0[1] & 3 == 0 {
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
            ns: sample * SAMPLE_NS + u64::from(noise.short() >> 12),
        }));
        if sample % SAMPLES_IN_AN_EPOCH == 0 {
            for (register, byte) in noise.0.into_iter().take(18).enumerate() {
                registers[register * 16..register * 16 + 4].fill(byte);
            }
            registers[800..832].copy_from_slice(&noise.0);
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

/// Bytes of a log of `events`.
fn bytes(events: &[Event]) -> u64 {
    let memory = log::Memory::new();
    let options = Options {
        seal_after: Duration::from_secs(3600),
        ..Options::default()
    };
    let mut writer = log::Writer::start(memory.clone(), sample::MANIFEST, options).expect("a log");
    let mut samples = 0;
    for event in events {
        writer.push(event.clone()).expect("memory has room");
        samples += u64::from(event.body.kind() == log::Kind::Clock);
        if samples == SAMPLES_IN_A_FRAME {
            writer.flush().expect("memory has room");
            samples = 0;
        }
    }
    let written = writer.close().expect("memory has room");
    assert_eq!(Reader::new(memory).expect("a log").count(), events.len());
    written.bytes
}

/// The promise is 0.04 GB a day; this leaves room for a guest whose registers
/// are busier than these.
#[test]
fn a_busy_loop_costs_less_than_a_fortieth_of_a_gigabyte_a_day() {
    const SECONDS: u64 = 600;
    let a_day = bytes(&busy(SECONDS)) * DAY_SECONDS / SECONDS;
    println!("{} bytes a second, {a_day} a day", a_day / DAY_SECONDS);
    assert!(a_day < 25_000_000, "{a_day} bytes a day");
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
