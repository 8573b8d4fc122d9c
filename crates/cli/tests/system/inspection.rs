//! `info` and `log` tell what is in a recording.

use crate::revirt::{on, record_console, revirt, scratch};

#[test]
fn info_tells_machine_images_and_counts() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"aq").expect(0);
    let info = on("info", &dir, &[]).expect(0).json();
    assert_eq!(info["manifest"]["machine"]["memory_bytes"], 16 << 20);
    assert_eq!(info["manifest"]["machine"]["boot"], "multiboot");
    assert_eq!(info["manifest"]["images"][0]["name"], "kernel");
    assert_eq!(info["ended"], "powered-off");
    assert_eq!(info["doors"]["console"]["bytes"], 2);
    let text = revirt(&["info", dir.to_str().expect("a plain path")])
        .expect(0)
        .text();
    assert!(text.contains("16M of memory"), "{text}");
}

#[test]
fn log_tells_each_event_in_a_line() {
    let (_folder, dir) = scratch();
    record_console(&dir, b"aq").expect(0);
    let path = dir.to_str().expect("a plain path");
    let text = revirt(&["log", path]).expect(0).text();
    let events = on("log", &dir, &[]).expect(0).json();
    let events = events["events"].as_array().expect("an array").len();
    assert_eq!(text.lines().count(), events);
    assert!(
        text.lines()
            .last()
            .is_some_and(|line| line.contains("powered-off")),
        "{text}"
    );
    let inputs = revirt(&["log", path, "--kind", "input"]).expect(0).text();
    assert!(
        inputs.lines().all(|line| line.contains("console")),
        "{inputs}"
    );
}
