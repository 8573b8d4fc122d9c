//! Whether another process may write to an image.
//!
//! An image is held with a shared lock (`flock`): machines may share it, and a
//! program that wants it for itself is told that it is in use. QEMU locks
//! single bytes instead, which no `flock` sees; so the kernel's table of all
//! locks is looked at too, as far as it can be read.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{major, minor};

/// QEMU reads this byte's lock as "someone writes" (`RAW_LOCK_PERM_BASE` 100
/// and `BLK_PERM_WRITE`, bit 1).
const QEMU_WRITES: u64 = 101;

/// Who holds a lock, in words: `" (process 17)"` or nothing.
pub(super) type Holder = String;

/// Takes the shared lock on `file`, or tells who keeps it from that. The lock
/// lasts as long as the file is open.
pub(super) fn share(file: &File) -> Result<(), Holder> {
    if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return Err(writer(file).unwrap_or_default());
    }
    // A file system without locks has no locks to respect.
    writer(file).map_or(Ok(()), Err)
}

/// The process that holds a lock for writing, by the kernel's table.
fn writer(file: &File) -> Option<Holder> {
    let found = file.metadata().ok()?;
    let place = Place {
        device: (major(found.dev()), minor(found.dev())),
        inode: found.ino(),
        has_other_device: is_btrfs(file),
    };
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| writer_in(line, place))
}

/// A file, as the table names it.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Major and minor number of the file system's device.
    device: (u32, u32),
    inode: u64,
    /// `stat` tells another device than the table does.
    has_other_device: bool,
}

impl Place {
    /// Whether `text`, as in `08:01:1234`, is this place.
    fn is(self, text: &str) -> bool {
        let mut parts = text.split(':');
        let mut hexadecimal = || u32::from_str_radix(parts.next()?, 16).ok();
        let (major, minor) = (hexadecimal(), hexadecimal());
        let is_here = (major, minor) == (Some(self.device.0), Some(self.device.1));
        let inode = parts.next().and_then(|inode| inode.parse().ok());
        inode == Some(self.inode) && (is_here || self.has_other_device)
    }
}

/// Whether `file` is on btrfs, where `stat` tells a device for each subvolume.
fn is_btrfs(file: &File) -> bool {
    const BTRFS: i64 = 0x9123_683e;
    rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type == BTRFS)
}

/// Whether `line` tells of a lock on `wanted` that is for writing.
///
/// `1: OFDLCK  ADVISORY  READ -1 08:01:1234 101 101`; a line that waits for a
/// lock has `->` after its number.
fn writer_in(line: &str, wanted: Place) -> Option<Holder> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, _, access, process, place, first, last] = words[..] else {
        return None;
    };
    let reaches = first.parse::<u64>().is_ok_and(|first| first <= QEMU_WRITES)
        && last.parse::<u64>().is_ok_and(|last| last >= QEMU_WRITES);
    let is_qemu = kind != "FLOCK" && access == "READ" && reaches;
    let writes = access == "WRITE" || is_qemu;
    (writes && wanted.is(place)).then(|| match process {
        "-1" => String::new(),
        process => format!(" (process {process})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(major: u32, minor: u32, inode: u64) -> Place {
        Place {
            device: (major, minor),
            inode,
            has_other_device: false,
        }
    }

    #[test]
    fn a_writer_is_found_in_the_table() {
        let qemu = "3: OFDLCK ADVISORY  READ -1 08:01:77 100 101";
        assert_eq!(writer_in(qemu, place(8, 1, 77)), Some(String::new()));
        assert_eq!(writer_in(qemu, place(8, 1, 78)), None);
        assert_eq!(writer_in(qemu, place(8, 2, 77)), None);
        let other = "1: FLOCK  ADVISORY  WRITE 17 00:3c:77 0 EOF";
        let holder = Some(" (process 17)".to_owned());
        assert_eq!(writer_in(other, place(0, 0x3c, 77)), holder);
        let on_btrfs = Place {
            has_other_device: true,
            ..place(0, 0x40, 77)
        };
        assert_eq!(writer_in(other, on_btrfs), holder);
    }

    #[test]
    fn readers_are_none() {
        for line in [
            "1: FLOCK  ADVISORY  READ 17 08:01:77 0 EOF",
            "3: OFDLCK ADVISORY  READ -1 08:01:77 100 100",
            "3: -> OFDLCK ADVISORY  WRITE -1 08:01:77 101 101",
            "nonsense",
        ] {
            assert_eq!(writer_in(line, place(8, 1, 77)), None, "{line}");
        }
    }

    #[test]
    fn a_file_that_another_has_for_itself_can_t_be_shared() {
        let file = tempfile::NamedTempFile::new().expect("there is room");
        let open = || File::open(file.path()).expect("it is there");
        let (ours, theirs) = (open(), open());
        assert_eq!(share(&ours), Ok(()));
        assert_eq!(share(&theirs), Ok(()));
        drop(theirs);
        drop(ours);
        let theirs = open();
        theirs.lock().expect("nobody has it");
        assert!(share(&open()).is_err());
    }
}
