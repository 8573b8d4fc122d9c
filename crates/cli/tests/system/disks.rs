//! Disks, driven by `guests/kernels/disk.c`: what it prints, and what becomes
//! of images that are not as they should be.
#![allow(
    clippy::cast_possible_truncation,
    reason = "patterns of bytes keep the low bits, and names are short"
)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::revirt::{
    Ran, Running, bare_kernel, command, command_on_a_full_disk, on, replay, revirt, scratch, with,
};

/// 100 sectors.
const BYTES: usize = 51_200;

/// A disk that begins as `bytes` say, in `folder`.
fn image(folder: &Path) -> PathBuf {
    let path = folder.join("disk.raw");
    let bytes: Vec<u8> = (0..BYTES).map(|n| (n * n + 7) as u8).collect();
    fs::write(&path, bytes).expect("there is room");
    path
}

/// The sum that the kernel prints.
fn sum(bytes: &[u8]) -> u32 {
    let weigh = |sum: u32, byte: &u8| sum.wrapping_mul(31).wrapping_add((*byte).into());
    bytes.iter().fold(0, weigh)
}

/// What the kernel writes.
fn written() -> Vec<u8> {
    let sectors = (0..BYTES / 512).flat_map(|sector| (0..512).map(move |i| (sector * 7 + i) as u8));
    sectors.collect()
}

/// The options of a machine with `disk` (a file and options).
fn machine(disk: &str) -> Vec<OsString> {
    let mut options: Vec<OsString> = [
        "--memory",
        "16M",
        "--debug-exit",
        "--disk",
        disk,
        "--kernel",
    ]
    .map(OsString::from)
    .into();
    options.push(bare_kernel("disk").into());
    options
}

fn record(dir: &Path, disk: &str, more: &[&str]) -> Ran {
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    let mut options = machine(disk);
    options.extend(more.iter().map(OsString::from));
    revirt(&with(&verb, options))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Fails unless `ran` ended with `code` and said all of `words`.
#[track_caller]
fn says(ran: Ran, code: i32, words: &[&str]) {
    let ran = ran.expect(code);
    for word in words {
        assert!(ran.stderr.contains(word), "no `{word}` in: {}", ran.stderr);
    }
}

#[test]
fn a_guest_reads_and_writes_and_the_image_stays_as_it_was() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let before = fs::read(&path).expect("it is there");
    let recorded = record(&dir, &format!("{},serial=SER7", text(&path)), &[]).expect(0);
    let console = recorded.text();
    for line in [
        "SER7".to_owned(),
        format!("sum {:08x}", sum(&before)),
        format!("sum after writing {:08x}", sum(&written())),
        "passed".to_owned(),
    ] {
        let found = console.lines().any(|found| found == line);
        assert!(found, "no `{line}` in {console}");
    }
    assert_eq!(fs::read(&path).expect("it is there"), before);
    assert_eq!(replay(&dir, &[]).expect(0).text(), console);
    let verified = on("verify", &dir, &[]).expect(0).json();
    assert_eq!(verified["images_outside"], 1);
    let info = on("info", &dir, &[]).expect(0).json();
    let disk = &info["manifest"]["disks"][0];
    assert_eq!(disk["serial"], "SER7");
    assert_eq!(disk["bytes"], BYTES);
    assert_eq!(
        disk["path"],
        text(&path.canonicalize().expect("it is there"))
    );
    assert!(
        !dir.join("disks").exists(),
        "what the guest wrote follows from the log"
    );
}

/// What a disk writes into memory is what runs next, whatever ran there before,
/// on both engines.
#[test]
fn code_that_is_read_over_code_is_what_runs() {
    let (folder, dir) = scratch();
    let path = folder.path().join("code");
    let mut bytes = vec![0; BYTES];
    for (sector, value) in [(0, 0x11), (1, 0x22)] {
        bytes[512 * sector..512 * sector + 6].copy_from_slice(&[0xb8, value, 0, 0, 0, 0xc3]);
    }
    fs::write(&path, bytes).expect("there is room");
    let recorded = record(&dir, text(&path), &["--engine", "jit"]).expect(0);
    let console = recorded.text();
    let values: Vec<&str> = console
        .lines()
        .filter_map(|line| line.strip_prefix("code "))
        .collect();
    assert_eq!(values, ["00000011", "00000022", "00000011", "00000022"]);
    for engine in ["interp", "jit"] {
        assert_eq!(
            replay(&dir, &["--engine", engine]).expect(0).text(),
            console
        );
    }
}

#[test]
fn a_read_only_disk_refuses_what_is_written() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let recorded = record(&dir, &format!("{},ro", text(&path)), &[]).expect(0);
    assert!(
        recorded.text().contains("read-only\npassed"),
        "{}",
        recorded.text()
    );
    assert_eq!(replay(&dir, &[]).expect(0).text(), recorded.text());
}

#[test]
fn a_machine_that_is_not_recorded_forgets_what_was_written() {
    let (folder, _) = scratch();
    let path = image(folder.path());
    let verb = [OsStr::new("run"), OsStr::new("--json")];
    let first = revirt(&with(&verb, machine(text(&path)))).expect(0);
    let second = revirt(&with(&verb, machine(text(&path)))).expect(0);
    assert_eq!(first.text(), second.text());
}

#[test]
fn an_image_that_moved_is_found_with_base_and_no_other_is_taken() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let recorded = record(&dir, text(&path), &[]).expect(0);
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).expect("it is ours");
    says(replay(&dir, &[]), 2, &["disk 0", "--base FILE"]);
    let replayed = replay(&dir, &["--base", text(&moved)]).expect(0);
    assert_eq!(replayed.text(), recorded.text());
    let other = folder.path().join("other");
    fs::write(&other, [1; BYTES]).expect("there is room");
    fs::copy(&moved, &path).expect("there is room");
    says(
        replay(&dir, &["--base", text(&other)]),
        2,
        &["the image of no disk"],
    );
}

#[test]
fn an_image_that_was_changed_is_told_apart() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    record(&dir, text(&path), &[]).expect(0);
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[7] ^= 1;
    fs::write(&path, bytes).expect("there is room");
    let words = ["is not the one that the recording was made with", "--base"];
    says(replay(&dir, &[]), 1, &words);
}

#[test]
fn an_image_that_was_read_before_is_not_read_again_until_it_changes() {
    let (folder, _) = scratch();
    let path = image(folder.path());
    // Files that were changed just now are read in any case.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    let record = |name: &str, more: &[&str]| {
        let dir = folder.path().join(name);
        let verb = [OsStr::new("record"), OsStr::new("-o"), dir.as_os_str()];
        let mut options = machine(text(&path));
        options.extend(more.iter().map(OsString::from));
        let mut command = command(&with(&verb, options));
        let mut running = Running::start(command.env("XDG_CACHE_HOME", folder.path()));
        running.type_all(Vec::new());
        let is_trusted = running.end().stderr.contains("was read before");
        (dir, is_trusted)
    };
    assert!(!record("first", &[]).1);
    let (second, is_trusted) = record("second", &[]);
    assert!(is_trusted);
    replay(&second, &[]).expect(0);
    assert!(!record("third", &["--read-disks"]).1);
    let bytes = fs::read(&path).expect("it was made");
    fs::write(&path, bytes).expect("there is room");
    assert!(!record("fourth", &[]).1);
}

#[test]
fn an_embedded_disk_needs_no_image_and_is_verified() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let recorded = record(&dir, text(&path), &["--embed"]).expect(0);
    fs::remove_file(&path).expect("it is ours");
    assert_eq!(replay(&dir, &[]).expect(0).text(), recorded.text());
    on("verify", &dir, &[]).expect(0);
    let copy = dir.join("images/disk0");
    let mut bytes = fs::read(&copy).expect("it was embedded");
    bytes[40_000] ^= 4;
    fs::write(&copy, bytes).expect("there is room");
    on("verify", &dir, &[]).expect(1);
    replay(&dir, &[]).expect(1);
}

#[test]
fn an_image_that_is_changed_while_the_guest_runs_is_told() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let console = bare_kernel("console");
    let arguments = [
        "record",
        "--json",
        "--memory",
        "16M",
        "--debug-exit",
        "--kernel",
        text(&console),
        "--disk",
        text(&path),
        "-o",
        text(&dir),
    ];
    let mut running = Running::start(&mut command(&arguments));
    running.wait_for("ready");
    fs::write(&path, [1; BYTES]).expect("there is room");
    running.type_in(b"q");
    says(running.end(), 2, &["was changed while the guest ran"]);
}

#[test]
fn images_that_are_none() {
    let (folder, dir) = scratch();
    let refused = |disk: &str, words: &[&str]| {
        says(record(&dir, disk, &[]), 2, words);
        assert!(!dir.exists(), "nothing is left behind");
    };
    refused("/nonexistent", &["/nonexistent", "check the path"]);
    refused(text(folder.path()), &["directory", "name a file"]);
    refused("/dev/null", &["special file"]);
    let file = folder.path().join("disk");
    fs::write(&file, b"").expect("there is room");
    refused(text(&file), &["is empty", "truncate"]);
    fs::write(&file, [1; 512]).expect("there is room");
    refused(
        &format!("{},format=vmdk", text(&file)),
        &["vmdk", "raw or qcow2"],
    );
    refused(
        &format!("{},format=qcow2", text(&file)),
        &["damaged, or no qcow2 image"],
    );
    refused(
        &format!("{},serial=a b", text(&file)),
        &["serial number", "letters and digits"],
    );
    let long = "x".repeat(21);
    refused(&format!("{},serial={long}", text(&file)), &["at most 20"]);
    fs::write(&file, b"QFI\xfb\0\0\0\x03").expect("there is room");
    refused(text(&file), &["qcow2", "qemu-img check"]);
    fs::write(&file, [1; 512]).expect("there is room");
    let holder = File::open(&file).expect("it is there");
    holder.lock().expect("nobody has it");
    refused(text(&file), &["locked by another process", "use a copy"]);
}

#[test]
fn a_place_that_can_t_be_written_is_told_with_a_way_out() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let nowhere = folder.path().join("nowhere/recording");
    let words = ["nowhere/recording", "check that its directory exists"];
    says(record(&nowhere, text(&path), &[]), 2, &words);

    record(&dir, text(&path), &[]).expect(0);
    let replay = [OsStr::new("replay"), OsStr::new("--json"), dir.as_os_str()];
    for arguments in [
        replay.map(OsString::from).to_vec(),
        with(&["run", "--json"], machine(text(&path))),
    ] {
        let mut command = command(&arguments);
        // Not even root may write there.
        let mut running = Running::start(command.env("TMPDIR", "/proc"));
        running.type_all(Vec::new());
        says(running.end(), 2, &["/proc", "TMPDIR"]);
    }
}

#[test]
fn too_many_disks_are_refused() {
    let (folder, dir) = scratch();
    let path = image(folder.path());
    let more: Vec<&str> = (0..24).flat_map(|_| ["--disk", text(&path)]).collect();
    says(
        record(&dir, text(&path), &more),
        2,
        &["25 disks", "at most 24"],
    );
}

/// A qcow2 image of 64 KiB in one file of four clusters, that lies on `backing`
/// (QEMU, docs/interop/qcow2.txt).
fn qcow2(backing: &str) -> Vec<u8> {
    let mut file = vec![0; 4 << 16];
    let name_at: usize = 512;
    let name_bytes = backing.len() as u32;
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3u32.to_be_bytes());
    put(8, &(name_at as u64).to_be_bytes());
    put(16, &name_bytes.to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(24, &(1u64 << 16).to_be_bytes());
    put(36, &1u32.to_be_bytes());
    put(40, &(3u64 << 16).to_be_bytes());
    put(48, &(1u64 << 16).to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(name_at, backing.as_bytes());
    put(1 << 16, &(2u64 << 16).to_be_bytes());
    (0..4).for_each(|n| put((2 << 16) + 2 * n, &1u16.to_be_bytes()));
    file
}

#[test]
fn a_qcow2_image_is_read_with_what_it_lies_on_and_one_that_lies_on_itself_is_refused() {
    let (folder, dir) = scratch();
    let mut below = fs::read(image(folder.path())).expect("it is there");
    below.resize(1 << 16, 0);
    fs::write(folder.path().join("disk.raw"), &below).expect("there is room");
    let path = folder.path().join("above.qcow2");
    fs::write(&path, qcow2("disk.raw")).expect("there is room");
    let recorded = record(&dir, text(&path), &[]).expect(0);
    let line = format!("sum {:08x}", sum(&below));
    assert!(recorded.text().contains(&line), "{}", recorded.text());
    assert_eq!(replay(&dir, &[]).expect(0).text(), recorded.text());
    // The same contents in another format are as good.
    let raw = folder.path().join("disk.raw");
    replay(&dir, &["--base", text(&raw)]).expect(0);

    let (folder, dir) = scratch();
    let path = folder.path().join("own.qcow2");
    fs::write(&path, qcow2("own.qcow2")).expect("there is room");
    says(
        record(&dir, text(&path), &[]),
        2,
        &["lies on itself", "qemu-img rebase"],
    );
}

#[test]
fn a_full_disk_ends_the_recording_and_what_was_recorded_replays() {
    let (folder, dir) = scratch();
    let path = long_image(folder.path());
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    let arguments = with(&verb, machine(text(&path)));
    let mut running = Running::start(&mut command_on_a_full_disk(&arguments, "unlimited"));
    // It reads all of the disk before it writes.
    running.wait_for("sectors");
    running.fill_disk();
    running.type_all(Vec::new());
    let recorded = running.end();
    let words = [
        "disk 0",
        "what the guest wrote can't be kept",
        "make room there",
    ];
    says(recorded, 2, &words);
    on("verify", &dir, &[]).expect(0);
    replay(&dir, &[]).expect(0);
}

/// 64 MiB of zeros, so that the guest is still reading when it becomes shorter.
fn long_image(folder: &Path) -> PathBuf {
    let path = folder.join("long.raw");
    let file = File::create(&path).expect("there is room");
    file.set_len(64 << 20).expect("there is room");
    path
}

/// Runs `arguments`, cuts off the image at `path` as soon as the guest has
/// begun to read, and puts it back when all is over.
fn while_it_is_cut_off<S: AsRef<OsStr>>(arguments: &[S], path: &Path) -> Ran {
    let mut running = Running::start(&mut command(arguments));
    running.wait_for("sectors");
    let file = File::options().write(true).open(path);
    let file = file.expect("it is ours");
    file.set_len(4096).expect("it is ours");
    let ran = running.end();
    file.set_len(64 << 20).expect("it is ours");
    ran
}

#[test]
fn an_image_that_can_t_be_read_ends_a_recording_and_a_replay_with_a_message() {
    let (folder, dir) = scratch();
    let path = long_image(folder.path());
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    let recorded = while_it_is_cut_off(&with(&verb, machine(text(&path))), &path);
    let words = ["disk 0", "can't be read at byte", "check the host's disk"];
    says(recorded, 2, &words);
    on("verify", &dir, &[]).expect(0);
    let replayed = replay(&dir, &[]).expect(0);
    assert_eq!(replayed.json()["reason"], "disk-failed");
    assert!(
        replayed.text().starts_with("sectors"),
        "{}",
        replayed.text()
    );

    let (_folder, dir) = scratch();
    let mut running = Running::start(&mut command(&with(
        &[OsStr::new("record"), OsStr::new("-o"), dir.as_os_str()],
        machine(text(&path)),
    )));
    running.wait_for("sectors");
    std::thread::sleep(std::time::Duration::from_secs(3));
    running.signal("INT");
    running.end().expect(0);
    let arguments = [OsStr::new("replay"), dir.as_os_str()];
    says(while_it_is_cut_off(&arguments, &path), 2, &words);
}
