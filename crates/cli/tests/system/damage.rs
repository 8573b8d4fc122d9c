//! A recording that was altered, cut, or made by a later version.

use std::fs;
use std::path::{Path, PathBuf};

use crate::revirt::{on, record_console, replay, scratch};

/// Twins of a recording, one at a time.
struct Original {
    _folder: tempfile::TempDir,
    dir: PathBuf,
    stdout: Vec<u8>,
}

const PARTS: [&str; 4] = ["recording.json", "images/kernel", "log/00000000.seg", "log"];

impl Original {
    fn record() -> Original {
        let (folder, dir) = scratch();
        let stdout = record_console(&dir, b"acbq").expect(0).stdout;
        Original {
            _folder: folder,
            dir,
            stdout,
        }
    }

    /// A copy in which `part` has gone through `change`.
    fn altered(
        &self,
        part: &str,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> (tempfile::TempDir, PathBuf) {
        let (folder, dir) = scratch();
        fs::create_dir_all(dir.join("images")).expect("there is room");
        fs::create_dir_all(dir.join("log")).expect("there is room");
        for name in &PARTS[..3] {
            fs::copy(self.dir.join(name), dir.join(name)).expect("there is room");
        }
        let mut bytes = fs::read(dir.join(part)).expect("it was just written");
        change(&mut bytes);
        fs::write(dir.join(part), bytes).expect("there is room");
        (folder, dir)
    }

    fn len(&self, part: &str) -> usize {
        fs::read(self.dir.join(part)).expect("it is there").len()
    }
}

#[test]
fn a_flipped_bit_is_refused_with_its_place() {
    let original = Original::record();
    for part in &PARTS[..3] {
        let len = original.len(part);
        // Spread over the file, at each bit.
        for step in 0..16 {
            let at = step * (len - 1) / 15;
            let (_folder, dir) = original.altered(part, |bytes| bytes[at] ^= 1 << (step % 8));
            let refused = on("verify", &dir, &[]);
            assert!(
                matches!(refused.code, Some(1 | 2)),
                "byte {at} of {part}: {}",
                refused.text()
            );
            let error = refused.json()["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let place = if *part == "recording.json" { "" } else { part };
            assert!(
                error.contains(place) && !error.is_empty(),
                "byte {at} of {part}: {error}"
            );
        }
    }
}

#[test]
fn a_replay_of_an_altered_log_goes_as_far_as_it_is_sound() {
    let original = Original::record();
    let len = original.len("log/00000000.seg");
    let (_folder, dir) = original.altered("log/00000000.seg", |bytes| bytes[len - 40] ^= 1);
    let replayed = replay(&dir, &[]).expect(1);
    assert!(
        replayed.stderr.contains("altered at byte"),
        "{}",
        replayed.stderr
    );
    assert!(original.stdout.starts_with(&replayed.stdout));
}

#[test]
fn a_log_cut_anywhere_replays_up_to_there() {
    let original = Original::record();
    let len = original.len("log/00000000.seg");
    for step in 0..12 {
        let keep = step * len / 12;
        let (_folder, dir) = original.altered("log/00000000.seg", |bytes| bytes.truncate(keep));
        let replayed = replay(&dir, &[]);
        assert!(!replayed.stderr.contains("panicked"), "{}", replayed.stderr);
        assert!(matches!(replayed.code, Some(0..=2)), "{}", replayed.stderr);
        assert!(
            original.stdout.starts_with(&replayed.stdout),
            "cut at {keep}: {}",
            replayed.text()
        );
        assert_ne!(on("verify", &dir, &[]).code, Some(0), "cut at {keep}");
    }
}

#[test]
fn a_version_from_the_future_is_told_apart() {
    let original = Original::record();
    let (_folder, dir) = original.altered("recording.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("JSON is text");
        *bytes = text
            .replacen("\"format\": 1", "\"format\": 2", 1)
            .into_bytes();
    });
    future(&dir, "format 2");
    let (_folder, dir) = original.altered("log/00000000.seg", |bytes| {
        bytes[8] = 9;
        let checksum = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    });
    future(&dir, "version 9");
}

/// The configuration ends with field 12, the revision of the machine's model.
#[test]
fn a_machine_of_another_revision_is_refused_and_does_not_diverge() {
    let original = Original::record();
    let revision = machine::MODEL_REVISION;
    assert!(revision < 23, "one byte of CBOR holds it");
    let stored = |revision: u32| format!("0c{revision:02x}\"");
    for (found, hint) in [
        (revision - 1, "use the program"),
        (revision + 1, "newer one"),
    ] {
        let (_folder, dir) = original.altered("recording.json", |bytes| {
            let text = String::from_utf8(bytes.clone()).expect("JSON is text");
            let other = text.replacen(&stored(revision), &stored(found), 1);
            assert_ne!(other, text);
            *bytes = other.into_bytes();
        });
        let refused = replay(&dir, &[]).expect(2);
        let words = format!("revision {found} ");
        assert!(
            refused.stderr.contains(&words) && refused.stderr.contains(hint),
            "{}",
            refused.stderr
        );
        on("info", &dir, &[]).expect(0);
    }
}

fn future(dir: &Path, words: &str) {
    for verb in ["verify", "replay", "info", "log"] {
        let refused = on(verb, dir, &[]).expect(2);
        let said = format!("{}{}", refused.text(), refused.stderr);
        assert!(said.contains(words) && said.contains("newer"), "{said}");
    }
}

#[test]
fn parts_that_are_missing() {
    let original = Original::record();
    for part in PARTS {
        let (_folder, dir) = original.altered("recording.json", |_| ());
        let path = dir.join(part);
        if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        }
        .expect("it is ours");
        for verb in ["verify", "replay"] {
            let refused = on(verb, &dir, &[]);
            assert!(
                matches!(refused.code, Some(1 | 2)),
                "{part}: {}",
                refused.stderr
            );
            assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
        }
    }
}
