//! Debian's kernel and an ext4 file system on a disk, recorded and replayed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::revirt::{Ran, Running, command, guests, on, scratch};

const LIMIT: Duration = Duration::from_secs(400);

fn run(arguments: &[&str]) -> Ran {
    let mut running = Running::start(&mut command(arguments)).within(LIMIT);
    running.type_all(Vec::new());
    running.end()
}

/// An ext4 file system with the file `numbers` in it.
fn file_system(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir(&tree).expect("there is room");
    let numbers: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    fs::write(tree.join("numbers"), numbers).expect("there is room");
    ext4_of(folder, "64M")
}

/// An ext4 file system of `size` with what is in `folder/tree`.
fn ext4_of(folder: &Path, size: &str) -> PathBuf {
    let path = folder.join("disk.ext4");
    let mut make = Command::new("mke2fs");
    make.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    make.args(["-q", "-t", "ext4", "-d"])
        .arg(folder.join("tree"))
        .arg(&path)
        .arg(size);
    let made = make
        .status()
        .expect("mke2fs is there: apt-get install e2fsprogs");
    assert!(made.success());
    path
}

/// Mounts, reads, writes, syncs, reads back after a second mount, discards.
const PROGRAM: &str = "cat /sys/block/vda/serial; echo; \
    mount /dev/vda /mnt && md5sum </mnt/numbers; \
    seq 1 50000 >/mnt/written; dd if=/mnt/numbers of=/mnt/copy bs=64k; sync; \
    umount /mnt; mount /dev/vda /mnt; md5sum </mnt/written; md5sum </mnt/copy; \
    cp /bin/busybox /mnt; sync; echo 3 >/proc/sys/vm/drop_caches; /mnt/busybox echo run from the disk; \
    rm /mnt/copy; fstrim /mnt; umount /mnt; \
    dd if=/dev/zero of=/dev/vdb bs=512 count=1; md5sum </dev/vdb; echo all is done";

pub(crate) fn md5sum(path: &Path) -> String {
    let output = Command::new("md5sum")
        .stdin(fs::File::open(path).expect("it is there"))
        .output();
    let text = String::from_utf8_lossy(&output.expect("coreutils are there").stdout).into_owned();
    text.chars().take(32).collect()
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn ext4_is_written_and_read_and_a_replay_is_equal_and_the_image_is_unchanged() {
    let (folder, dir) = scratch();
    let path = file_system(folder.path());
    let before = fs::read(&path).expect("it was made");
    let numbers = folder.path().join("tree/numbers");
    let written = folder.path().join("written");
    let lines: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    fs::write(&written, lines).expect("there is room");
    let append = format!("console=ttyS0 revirt.run=\"{PROGRAM}\"");
    let disks = [
        format!("{},serial=ROOT1", path.display()),
        format!("{},ro", numbers.display()),
    ];
    let recorded = run(&[
        "record",
        "--json",
        "--append",
        &append,
        "--disk",
        &disks[0],
        "--disk",
        &disks[1],
        "-o",
        dir.to_str().expect("a plain path"),
    ])
    .expect(0);
    let console = recorded.text().replace('\r', "");
    assert_eq!(recorded.json()["reason"], "powered-off");
    let numbers_twice = console.matches(&md5sum(&numbers)).count();
    assert_eq!(numbers_twice, 2, "before and after: {console}");
    for line in [
        "ROOT1",
        &md5sum(&written),
        "Operation not permitted",
        "run from the disk\n",
        "all is done",
    ] {
        assert!(console.contains(line), "no `{line}` in: {console}");
    }
    assert!(
        fs::read(&path).expect("it is there") == before,
        "the image was written"
    );
    for engine in ["jit", "interp"] {
        let place = dir.to_str().expect("a plain path");
        let replayed = run(&["replay", "--json", "--engine", engine, place]).expect(0);
        assert_eq!(replayed.text(), recorded.text());
        assert_eq!(replayed.json()["outcome"], "complete");
    }
    on("verify", &dir, &[]).expect(0);
    let info = on("info", &dir, &[]).expect(0).json();
    assert!(
        info["log_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes < 100_000),
        "reads are not logged: {info}"
    );
}

/// The kernel and the initial RAM disk lie on the disk, as a distribution puts
/// them there.
#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_guest_boots_from_its_disk_and_its_recording_needs_no_other_files() {
    let (folder, dir) = scratch();
    let guest = guests().default_guest().expect("it can be built");
    let boot = folder.path().join("tree/boot");
    fs::create_dir_all(boot.join("grub")).expect("there is room");
    fs::copy(&guest.kernel, boot.join("vmlinuz-6.1.0-1")).expect("there is room");
    fs::copy(&guest.initrd, boot.join("initrd.img-6.1.0-1")).expect("there is room");
    let config = "menuentry 'x' {\n\
        linux /boot/vmlinuz-6.1.0-1 root=/dev/vda revirt.run=\"grep -o root=.* /proc/cmdline\"\n\
        initrd /boot/initrd.img-6.1.0-1\n}\n";
    fs::write(boot.join("grub/grub.cfg"), config).expect("there is room");
    let path = ext4_of(folder.path(), "64M");
    let recorded = run(&[
        "record",
        "--boot-from-disk",
        "--net",
        "none",
        "--disk",
        path.to_str().expect("a plain path"),
        "-o",
        dir.to_str().expect("a plain path"),
    ])
    .expect(0);
    let line = "root=/dev/vda revirt.run=\"grep -o root=.* /proc/cmdline\" console=ttyS0";
    for (said, found) in [
        (
            "booting /boot/vmlinuz-6.1.0-1 on the whole disk",
            &recorded.stderr,
        ),
        (line, &recorded.stderr),
        (line, &recorded.text()),
    ] {
        assert!(found.contains(said), "no `{said}` in: {found}");
    }
    let replayed = on("replay", &dir, &[]).expect(0);
    assert_eq!(replayed.text(), recorded.text());
}

#[test]
fn what_can_t_be_booted_is_told() {
    let (folder, _) = scratch();
    let path = folder.path().join("empty");
    fs::write(&path, vec![0; 1 << 20]).expect("there is room");
    let disk = path.to_str().expect("a plain path");
    let told = run(&["run", "--boot-from-disk", "--disk", disk]).expect(2);
    assert!(
        told.stderr.contains("no ext2, ext3 or ext4"),
        "{}",
        told.stderr
    );
    let told = run(&["run", "--boot-from-disk"]).expect(2);
    assert!(told.stderr.contains("--disk"), "{}", told.stderr);
}
