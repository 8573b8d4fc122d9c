//! Every way in which a recording can end, and its replay.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use crate::revirt::{
    Running, command, command_on_a_full_disk, console_machine, on, record_console, replay, scratch,
    with,
};

/// Records `input`; fails unless the recording ends for `reason` with `code`,
/// and the replay ends the same way.
#[track_caller]
fn ends(input: &[u8], reason: &str, code: i32) {
    let (_folder, dir) = scratch();
    let recorded = record_console(&dir, input).expect(code);
    assert_eq!(recorded.json()["reason"], reason);
    let replayed = replay(&dir, &[]).expect(0);
    assert_eq!(replayed.json()["reason"], reason);
    assert_eq!(replayed.stdout, recorded.stdout);
    on("verify", &dir, &[]).expect(0);
}

#[test]
fn a_guest_that_halts_for_ever_is_ended() {
    ends(b"d", "halted", 1);
}

#[test]
fn a_triple_fault_is_a_crash() {
    ends(b"t", "crashed", 1);
}

#[test]
fn a_reset_ends_the_run_if_asked_to() {
    let (_folder, dir) = scratch();
    let mut running = start_with(&dir, &["--no-reboot"]);
    running.type_in(b"r");
    let recorded = running.end().expect(0);
    assert_eq!(recorded.json()["reason"], "reset");
    let replayed = replay(&dir, &[]).expect(0);
    assert_eq!(replayed.json()["reason"], "reset");
    assert_eq!(replayed.stdout, recorded.stdout);
}

#[test]
fn a_reset_starts_the_machine_again_within_the_recording() {
    let (_folder, dir) = scratch();
    let mut running = start(&dir);
    for (input, answer) in [
        (b"fr", "ready\nfilled\nready\n"),
        (b"ar", "you said a\nready\n"),
    ] {
        running.type_in(input);
        running.wait_for(answer);
    }
    running.type_in(b"bq");
    let recorded = running.end().expect(0);
    assert_eq!(
        recorded.text(),
        "ready\nfilled\nready\nyou said a\nready\nyou said b\npassed\n"
    );
    assert_eq!(recorded.json()["resets"], 2);
    let replayed = replay(&dir, &["--checks", "full"]).expect(0);
    assert_eq!(replayed.text(), recorded.text());
    assert_eq!(replayed.json()["outcome"], "complete");
    on("verify", &dir, &[]).expect(0);
}

/// What stood in memory before a reset does not after it.
#[test]
fn a_replay_that_stops_behind_a_reset_stands_there() {
    let (_folder, dir) = scratch();
    let mut running = start(&dir);
    running.type_in(b"r");
    running.wait_for("ready\nready\n");
    running.type_in(b"q");
    let recorded = running.end().expect(0);
    let end = recorded.json()["branches"].as_u64().expect("a number");
    let place = (end - 1).to_string();
    let stopped = replay(&dir, &["--until", &place]).expect(0);
    assert_eq!(stopped.json()["outcome"], "stopped");
    assert!(
        stopped.text().starts_with("ready\nready\n"),
        "{}",
        stopped.text()
    );
}

#[test]
fn a_jump_to_nowhere_is_the_guests_own_fault() {
    ends(b"x", "powered-off", 0);
}

#[test]
fn a_guest_that_programs_its_devices_with_nonsense_harms_nobody() {
    let (_folder, dir) = scratch();
    let mut running = start_with(&dir, &["--no-reboot"]);
    running.type_in(b"n");
    let recorded = running.end().expect(0);
    let reason = recorded.json()["reason"].clone();
    assert_eq!(reason, "reset", "{}", recorded.text());
    on("verify", &dir, &[]).expect(0);
    let replayed = replay(&dir, &["--checks", "full"]).expect(0);
    assert_eq!(replayed.json()["reason"], reason);
    assert_eq!(replayed.stdout, recorded.stdout);
}

/// Records `console.c` in `dir` and waits for it to be ready.
fn start(dir: &std::path::Path) -> Running {
    start_with(dir, &[])
}

fn start_with(dir: &std::path::Path, options: &[&str]) -> Running {
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    let verb: Vec<&OsStr> = verb
        .into_iter()
        .chain(options.iter().map(OsStr::new))
        .collect();
    let mut running = Running::start(&mut command(&with(&verb, console_machine())));
    running.wait_for("ready");
    running
}

#[test]
fn a_signal_closes_the_recording() {
    // This guest has no ear for its power button.
    for (signal, input) in [("TERM", b"ssss"), ("INT", b"cccc"), ("HUP", b"ssss")] {
        let (_folder, dir) = scratch();
        let mut running = start_with(&dir, &["--grace", "1"]);
        running.type_in(input);
        std::thread::sleep(Duration::from_millis(500));
        running.signal(signal);
        let recorded = running.end().expect(0);
        assert!(
            recorded.took < Duration::from_secs(30),
            "{:?}",
            recorded.took
        );
        assert_eq!(recorded.json()["reason"], "stopped");
        on("verify", &dir, &[]).expect(0);
        assert_eq!(replay(&dir, &[]).expect(0).stdout, recorded.stdout);
    }
}

#[test]
fn sigterm_presses_the_power_button_and_a_second_one_does_not_wait() {
    let (_folder, dir) = scratch();
    let mut running = start(&dir);
    running.type_in(b"ssss");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        running.signal("TERM");
    }
    let recorded = running.end().expect(0);
    assert!(
        recorded.took < Duration::from_secs(20),
        "{:?}",
        recorded.took
    );
    assert_eq!(recorded.json()["reason"], "stopped");
    let info = on("info", &dir, &[]).expect(0).json();
    assert_eq!(info["doors"]["power-button"]["inputs"], 1);
    assert_eq!(replay(&dir, &[]).expect(0).stdout, recorded.stdout);
}

#[test]
fn a_recording_that_was_killed_replays_up_to_there() {
    let (_folder, dir) = scratch();
    let mut running = start(&dir);
    running.type_in(b"accccc");
    running.wait_for("counted");
    std::thread::sleep(Duration::from_millis(2500));
    running.signal("KILL");
    let recorded = running.end();
    assert_eq!(recorded.code, None);
    let replayed = replay(&dir, &[]).expect(0);
    assert_eq!(replayed.json()["outcome"], "cut-off");
    assert!(
        replayed.text().contains("you said a\n"),
        "{}",
        replayed.text()
    );
    assert!(
        recorded.stdout.starts_with(&replayed.stdout),
        "{}",
        replayed.text()
    );
    assert_eq!(on("verify", &dir, &[]).expect(1).json()["whole"], false);
}

#[test]
fn a_full_disk_ends_the_recording_and_what_was_sealed_replays() {
    let (_folder, dir) = scratch();
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    let arguments = with(&verb, console_machine());
    let mut running = Running::start(&mut command_on_a_full_disk(&arguments, "unlimited"));
    running.wait_for("ready");
    running.fill_disk();
    // The log is compressed: what fills it has no pattern.
    let noise = std::iter::successors(Some(1u32), |state| {
        Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    });
    let noise = noise.map(|state| 0x80 | state.to_be_bytes()[0]);
    running.type_all(noise.take(200_000).chain(*b"ssq").collect());
    let recorded = running.end().expect(2);
    let error = recorded.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(error.contains("the recording stops here"), "{error}");
    let replayed = replay(&dir, &[]).expect(0);
    assert_eq!(replayed.json()["outcome"], "cut-off");
    assert!(
        recorded.stdout.starts_with(&replayed.stdout),
        "{}",
        replayed.text()
    );
}

#[test]
fn images_that_do_not_fit_end_the_run_and_leave_no_recording() {
    let (_folder, dir) = scratch();
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        // The other engine's code memory is a file, too.
        OsStr::new("--engine=interp"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    let arguments = with(&verb, console_machine());
    // 4 KiB: the manifest fits, the kernel doesn't.
    let mut running = Running::start(&mut command_on_a_full_disk(&arguments, "8"));
    running.type_all(b"sq".to_vec());
    let recorded = running.end().expect(2);
    let error = recorded.json()["error"].to_string();
    assert!(error.contains("images/kernel can't be written"), "{error}");
    assert!(!dir.exists());
}

/// Records on a terminal, which `script` makes, and types `keys` once the
/// guest is ready.
fn on_a_terminal(dir: &std::path::Path, keys: &[&[u8]]) -> crate::revirt::Ran {
    let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy());
    let verb = [OsStr::new("record"), OsStr::new("-o"), dir.as_os_str()];
    let revirt = command(&with(&verb, console_machine()));
    let words: Vec<String> = std::iter::once(revirt.get_program())
        .chain(revirt.get_args())
        .map(quoted)
        .collect();
    let mut script = Command::new("script");
    script.args([
        "--quiet",
        "--return",
        "--command",
        &words.join(" "),
        "/dev/null",
    ]);
    let mut running = Running::start(&mut script);
    running.wait_for("ready");
    for key in keys {
        running.type_in(key);
        std::thread::sleep(Duration::from_millis(300));
    }
    running.end()
}

#[test]
fn the_escape_key_quits() {
    let (_folder, dir) = scratch();
    let ran = on_a_terminal(&dir, &[b"s", b"\x1d", b"q"]).expect(0);
    assert!(ran.text().contains("stopped after"), "{}", ran.text());
    on("verify", &dir, &[]).expect(0);
    replay(&dir, &[]).expect(0);
}

#[test]
fn the_escape_key_presses_the_power_button() {
    let (_folder, dir) = scratch();
    on_a_terminal(&dir, &[b"s", b"\x1dh", b"\x1dp", b"q"]).expect(0);
    let info = on("info", &dir, &[]).expect(0).json();
    assert_eq!(info["doors"]["power-button"]["inputs"], 1);
    replay(&dir, &[]).expect(0);
}
