//! What is recorded is replayed, to the byte.

use std::collections::HashSet;
use std::time::Duration;

use crate::revirt::{console_machine, on, record_console, replay, revirt_typing, scratch, with};

#[test]
fn a_replay_prints_what_was_recorded() {
    let (_folder, dir) = scratch();
    let recorded = record_console(&dir, b"afcbq").expect(0);
    assert!(
        recorded
            .text()
            .starts_with("ready\nyou said a\nfilled\ncounted "),
        "{}",
        recorded.text()
    );
    assert!(
        recorded.text().ends_with("you said b\npassed\n"),
        "{}",
        recorded.text()
    );
    let replayed = replay(&dir, &[]).expect(0);
    assert_eq!(replayed.text(), recorded.text());
    assert_eq!(replayed.json()["outcome"], "complete");
    assert_eq!(on("verify", &dir, &[]).expect(0).json()["whole"], true);
}

#[test]
fn runs_differ_and_each_replay_does_not() {
    let outputs: HashSet<String> = (0..5)
        .map(|_| {
            let (_folder, dir) = scratch();
            let recorded = record_console(&dir, b"cq").expect(0);
            assert_eq!(replay(&dir, &[]).expect(0).stdout, recorded.stdout);
            recorded.text()
        })
        .collect();
    assert_eq!(outputs.len(), 5, "{outputs:?}");
}

#[test]
fn a_recording_replays_again_and_again() {
    let (_folder, dir) = scratch();
    let recorded = record_console(&dir, b"cscq").expect(0);
    for _ in 0..5 {
        let replayed = replay(&dir, &[]).expect(0);
        assert_eq!(replayed.stdout, recorded.stdout);
    }
}

#[test]
fn idle_time_is_skipped() {
    let (_folder, dir) = scratch();
    let recorded = record_console(&dir, b"ssq").expect(0);
    assert!(
        recorded.took >= Duration::from_secs(6),
        "{:?}",
        recorded.took
    );
    let guest_ns = recorded.json()["guest_ns"].as_u64();
    assert!(
        guest_ns >= Some(5_900_000_000),
        "the guest's clock follows the host's: {guest_ns:?}"
    );
    let replayed = replay(&dir, &[]).expect(0);
    assert!(
        replayed.took < Duration::from_secs(2),
        "{:?}",
        replayed.took
    );
}

#[test]
fn a_run_without_a_recording_does_the_same() {
    let ran = revirt_typing(&with(&["run", "--json"], console_machine()), b"aq").expect(0);
    assert_eq!(ran.text(), "ready\nyou said a\npassed\n");
    assert_eq!(ran.json()["debug_exit"], 0x10);
}

#[test]
fn full_checks_hold_all_registers_at_each_input() {
    let (_folder, dir) = scratch();
    let verb = [
        "record",
        "--json",
        "--checks",
        "full",
        "-o",
        dir.to_str().expect("a plain path"),
    ];
    let recorded = revirt_typing(&with(&verb, console_machine()), b"abq").expect(0);
    assert_eq!(
        replay(&dir, &["--checks", "full"]).expect(0).stdout,
        recorded.stdout
    );
    let kinds = &on("info", &dir, &[]).expect(0).json()["kinds"];
    let inputs = kinds["input"]["events"].as_u64().expect("a number");
    let samples = kinds["clock"]["events"].as_u64().expect("a number");
    assert_eq!(
        kinds["registers"]["events"].as_u64(),
        Some(inputs + samples)
    );
}

#[test]
fn input_is_not_lost_however_fast_it_comes() {
    let (_folder, dir) = scratch();
    let mut input = vec![b'\n'; 5000];
    input.extend(b"q");
    let recorded = record_console(&dir, &input).expect(0);
    let came = on("info", &dir, &[]).expect(0).json()["doors"]["console"]["bytes"].as_u64();
    assert_eq!(came, Some(5001));
    assert_eq!(replay(&dir, &[]).expect(0).stdout, recorded.stdout);
}
