//! A replay finds what differs, and stops where it is told.

use crate::revirt::{on, record_console, replay, scratch};

/// A page that `console.c` never touches, and no loader.
const UNUSED: &str = "0x800123:5";

#[test]
fn a_flipped_bit_is_caught_within_an_epoch() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"cccq").expect(0);
    let epochs = on("log", &dir, &["--kind", "epoch"]).expect(0).json();
    let epochs = epochs["events"].as_array().expect("an array");
    assert!(
        epochs.len() >= 3,
        "six busy seconds make more than one epoch"
    );
    let flip = format!(
        "{UNUSED}@{}",
        epochs[0]["branches"].as_u64().expect("a number") + 1000
    );
    let replayed = replay(&dir, &["--checks", "full", "--inject-flip", &flip])
        .expect(1)
        .json();
    assert_eq!(replayed["divergence"]["event"], epochs[1]["event"]);
    let difference = &replayed["divergence"]["differences"][0];
    assert_eq!(difference["what"], "memory");
    let text = difference["text"].as_str().expect("text");
    assert!(
        text.contains("0x800000") && text.contains("nothing wrote"),
        "{text}"
    );
}

#[test]
fn a_flipped_bit_is_caught_at_the_end_at_the_latest() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"aq").expect(0);
    let replayed = replay(&dir, &["--inject-flip", &format!("{UNUSED}@100")]).expect(1);
    assert!(replayed.stderr.contains("memory"), "{}", replayed.stderr);
}

#[test]
fn a_divergence_names_the_registers_and_what_came_before() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"abq").expect(0);
    // The kernel's code begins at 1 MiB.
    let flip = "0x100010:0@100";
    let divergence = &replay(&dir, &["--inject-flip", flip]).expect(1).json()["divergence"];
    assert!(
        divergence["differences"]
            .as_array()
            .is_some_and(|list| !list.is_empty()),
        "{divergence}"
    );
    let text = crate::revirt::revirt(&[
        "replay",
        dir.to_str().expect("a plain path"),
        "--inject-flip",
        flip,
    ]);
    assert!(
        text.expect(1)
            .stderr
            .contains("the replay diverges from the recording at")
    );
}

#[test]
fn a_replay_stops_at_a_branch_count() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"cq").expect(0);
    let stopped = replay(&dir, &["--until", "123456"]).expect(0).json();
    assert_eq!(stopped["outcome"], "stopped");
    assert_eq!(stopped["branches"], 123_456);
    assert!(stopped["registers"]["rip"].is_string());
}

#[test]
fn a_replay_stops_at_an_event_and_at_its_moment() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"cq").expect(0);
    let events = on("log", &dir, &["--kind", "clock"]).expect(0).json();
    let event = &events["events"][0];
    let number = format!("event {}", event["event"]);
    let by_number = replay(&dir, &["--until", &number]).expect(0).json();
    assert_eq!(by_number["branches"], event["branches"]);
    let moment = by_number["moment"].as_str().expect("text");
    let by_moment = replay(&dir, &["--until", moment]).expect(0).json();
    assert_eq!(by_moment["moment"], moment);
    assert_eq!(by_moment["registers"], by_number["registers"]);
}

#[test]
fn a_replay_stops_at_a_time() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"csq").expect(0);
    for ns in [500_000_000_u64, 3_500_000_000] {
        let stopped = replay(&dir, &["--until", &format!("{ns}ns")])
            .expect(0)
            .json();
        assert!(stopped["guest_ns"].as_u64() >= Some(ns), "{stopped}");
        let before = stopped["branches"].as_u64().expect("a number") - 1;
        let before = replay(&dir, &["--until", &before.to_string()])
            .expect(0)
            .json();
        assert!(before["guest_ns"].as_u64() < Some(ns), "{before}");
    }
}

#[test]
fn a_place_that_is_not_there_is_an_error() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"q").expect(0);
    for place in ["99999999999999", "event 5000", "1000@0x3", "9999s"] {
        let error = replay(&dir, &["--until", place]).expect(2).json();
        assert!(
            error["error"]
                .as_str()
                .is_some_and(|text| text.contains("has no place")),
            "{error}"
        );
    }
}
