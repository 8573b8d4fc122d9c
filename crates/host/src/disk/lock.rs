//! Whether another process may write to an image.
//!
//! An image is held with a shared lock (`flock`): machines may share it, and a
//! program that wants it for itself is told that it is in use. QEMU locks
//! single bytes instead, which no `flock` sees; so the kernel's table of all
//! locks is looked at too, as far as it can be read.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;

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
    let inode = file.metadata().ok()?.ino();
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| writer_in(line, inode))
}

/// `1: OFDLCK  ADVISORY  READ -1 08:01:1234 101 101`; a line that waits for a
/// lock has `->` after its number. The inode's number must do: device numbers
/// there are not those that `stat` tells on every file system.
fn writer_in(line: &str, inode: u64) -> Option<Holder> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, _, access, process, place, first, last] = words[..] else {
        return None;
    };
    let is_ours = place.rsplit(':').next()?.parse() == Ok(inode);
    let reaches = first.parse::<u64>().is_ok_and(|first| first <= QEMU_WRITES)
        && (last == "EOF" || last.parse::<u64>().is_ok_and(|last| last >= QEMU_WRITES));
    let is_qemu = kind != "FLOCK" && access == "READ" && reaches && last != "EOF";
    let writes = access == "WRITE" || is_qemu;
    (is_ours && writes).then(|| match process {
        "-1" => String::new(),
        process => format!(" (process {process})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_found_in_the_table() {
        let qemu = "3: OFDLCK ADVISORY  READ -1 08:01:77 101 101";
        assert_eq!(writer_in(qemu, 77), Some(String::new()));
        assert_eq!(writer_in(qemu, 78), None);
        let other = "1: FLOCK  ADVISORY  WRITE 17 00:3c:77 0 EOF";
        assert_eq!(writer_in(other, 77), Some(" (process 17)".to_owned()));
    }

    #[test]
    fn readers_are_none() {
        for line in [
            "1: FLOCK  ADVISORY  READ 17 00:3c:77 0 EOF",
            "3: OFDLCK ADVISORY  READ -1 08:01:77 100 100",
            "3: -> OFDLCK ADVISORY  WRITE -1 08:01:77 101 101",
            "nonsense",
        ] {
            assert_eq!(writer_in(line, 77), None, "{line}");
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
