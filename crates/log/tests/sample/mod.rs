//! Events for tests.
#![allow(dead_code, reason = "each test uses its own part of this")]

use std::time::Duration;

use log::{Body, Door, EndReason, Event, Memory, Options, Writer};
use moment::Moment;
use proptest::collection::vec;
use proptest::prelude::*;
use seal::Digest;

pub(crate) const MANIFEST: Digest = Digest([0x4d; 32]);

/// Writes `events` as one log, in which frames end by their size alone.
pub(crate) fn write_in(events: &[Event], options: Options) -> Memory {
    let options = Options {
        seal_after: Duration::from_secs(3600),
        ..options
    };
    let memory = Memory::new();
    let mut writer = Writer::start(memory.clone(), MANIFEST, options).expect("a log");
    for event in events {
        writer.push(event.clone()).expect("memory has room");
    }
    writer.close().expect("memory has room");
    memory
}

fn event(branches: u64, pc: u64, check: u32, body: Body) -> Event {
    Event {
        moment: Moment {
            branches,
            pc,
            rcx: 0,
        },
        vcpu: 0,
        check,
        body,
    }
}

/// A frame that has come by the network, after `branches`.
pub(crate) fn received(branches: u64, bytes: Vec<u8>) -> Event {
    let door = Door::Network;
    event(branches, 0x100_0000, 1, Body::Input { door, bytes })
}

/// A short session with an event of every kind. It is in the tests as a log of
/// format version 1, so it never changes.
pub(crate) fn session() -> Vec<Event> {
    let epoch = |registers: u8, output_bytes| Body::Epoch {
        registers: (0..100).map(|byte| byte & registers).collect(),
        memory: Digest::of(&[registers]),
        devices: Digest::of(b"devices"),
        output: Digest::of(b"output"),
        output_bytes,
    };
    let console = |text: &str| Body::Input {
        door: Door::Console,
        bytes: text.into(),
    };
    let mut inside = event(2_500_000, 0xffff_ffff_8200_0000, 4, console("x"));
    inside.moment.rcx = 77;
    inside.vcpu = 3;
    vec![
        event(0, 0x100_0000, 1, Body::Clock { ns: 0 }),
        event(
            0,
            0x100_0000,
            1,
            Body::Input {
                door: Door::Entropy,
                bytes: vec![0xa5; 32],
            },
        ),
        event(
            1_000_000,
            0xffff_ffff_8100_0000,
            2,
            Body::Clock { ns: 480_000_000 },
        ),
        event(2_000_000, 0xffff_ffff_8100_0040, 3, epoch(0xff, 10)),
        inside,
        event(
            2_600_000,
            0x40_0000,
            5,
            Body::Registers {
                bytes: vec![8; 100],
            },
        ),
        event(2_600_000, 0x40_0000, 5, console("poweroff\n")),
        event(
            2_700_000,
            0x40_1000,
            6,
            Body::Input {
                door: Door::PowerButton,
                bytes: vec![],
            },
        ),
        event(3_000_000, 0xffff_ffff_8100_0040, 7, epoch(0xf0, 600)),
        event(
            3_000_001,
            0xffff_ffff_8100_0080,
            8,
            Body::End {
                reason: EndReason::PoweredOff,
            },
        ),
    ]
}

/// Any sequence of events that a writer accepts.
pub(crate) fn events(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Event>> {
    vec((steps(), any::<(u64, u32)>(), body()), count).prop_map(|parts| {
        let (mut branches, mut clock, mut output) = (0u64, 0u64, 0u64);
        parts
            .into_iter()
            .map(|((step, vcpu, rcx), (pc, check), mut body)| {
                branches += step;
                match &mut body {
                    Body::Clock { ns } => {
                        clock += *ns;
                        *ns = clock;
                    }
                    Body::Epoch { output_bytes, .. } => {
                        output += *output_bytes;
                        *output_bytes = output;
                    }
                    _ => {}
                }
                let moment = Moment { branches, pc, rcx };
                Event {
                    moment,
                    vcpu,
                    check,
                    body,
                }
            })
            .collect()
    })
}

fn steps() -> impl Strategy<Value = (u64, u8, u64)> {
    (
        prop_oneof![Just(0), 0u64..1000, 0u64..1 << 50],
        prop_oneof![Just(0), any::<u8>()],
        prop_oneof![Just(0), any::<u64>()],
    )
}

fn body() -> impl Strategy<Value = Body> {
    let digest = || prop_oneof![Just(Digest::default()), any::<[u8; 32]>().prop_map(Digest)];
    let bytes = || vec(prop_oneof![Just(0), any::<u8>()], 0..200);
    prop_oneof![
        (0u64..1 << 50).prop_map(|ns| Body::Clock { ns }),
        (0..Door::ALL.len(), bytes()).prop_map(|(door, bytes)| {
            let door = Door::ALL[door];
            let bytes = if door.carries_bytes() { bytes } else { vec![] };
            Body::Input { door, bytes }
        }),
        (bytes(), digest(), digest(), digest(), 0u64..1 << 50).prop_map(
            |(registers, memory, devices, output, output_bytes)| Body::Epoch {
                registers,
                memory,
                devices,
                output,
                output_bytes,
            }
        ),
        bytes().prop_map(|bytes| Body::Registers { bytes }),
    ]
}
