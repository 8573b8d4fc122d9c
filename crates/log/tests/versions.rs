//! A log of every released version of the format stays here, and is read.

mod sample;

use log::{Info, Memory, Options, Reader};
use sample::session;

/// [`session`] in format version 1, as hexadecimal digits; a line without any
/// starts the next segment.
const VERSION_1: &str = include_str!("data/format-1.hex");
/// The same in format version 2; some of its frames are compressed.
const VERSION_2: &str = include_str!("data/format-2.hex");
const VERSIONS: [&str; 2] = [VERSION_1, VERSION_2];

fn segments(text: &str) -> Memory {
    let segments = text.split("\n\n").map(|segment| {
        let digits: Vec<u8> = segment.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(byte).collect()
    });
    Memory::of(segments.collect())
}

fn byte(digits: &[u8]) -> u8 {
    let text = std::str::from_utf8(digits).expect("hexadecimal digits are ASCII");
    u8::from_str_radix(text, 16).expect("hexadecimal digits")
}

fn text(memory: &Memory) -> String {
    let digits = |line: &[u8]| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let segments = memory.segments();
    let texts = segments.iter().map(|segment| {
        segment
            .chunks(32)
            .map(digits)
            .collect::<Vec<_>>()
            .join("\n")
    });
    texts.collect::<Vec<_>>().join("\n\n") + "\n"
}

#[test]
fn a_log_of_each_version_is_read() {
    for version in VERSIONS {
        let events: Vec<_> = Reader::new(segments(version))
            .expect("a log")
            .map(|placed| placed.expect("it was not altered").event)
            .collect();
        assert_eq!(events, session());
    }
}

#[test]
fn a_log_of_each_version_is_counted() {
    for version in VERSIONS {
        counts_right(
            &Info::of(Reader::new(segments(version)).expect("a log")).expect("not altered"),
        );
    }
}

fn counts_right(info: &Info) {
    assert_eq!((info.segments, info.events()), (2, 10));
    assert_eq!(info.duration_ns, 480_000_000);
    assert_eq!(info.output_bytes, 600);
    assert_eq!(info.kind(log::Kind::Epoch).events, 2);
    assert_eq!(info.door(log::Door::Entropy).bytes, 32);
    assert_eq!(info.door(log::Door::Console).events, 2);
    assert_eq!(info.first.map(|moment| moment.branches), Some(0));
    assert_eq!(info.last.map(|moment| moment.branches), Some(3_000_001));
}

/// If this fails, the format has changed: that takes a new version, in
/// `docs/log-format.md` first.
#[test]
fn version_2_is_still_what_is_written() {
    let options = Options {
        frame_bytes: 200,
        segment_bytes: 500,
        ..Options::default()
    };
    let written = text(&sample::write_in(&session(), options));
    assert_eq!(written, VERSION_2, "written now:\n{written}");
}
