//! Writes a cpio archive in the `newc` format, which the Linux kernel unpacks as its first root file system.
//!
//! The law here: the archive is a function of its entries, and of nothing else. Times are zero, owners are root, inode
//! numbers count up. So two people who build the same guest get the same bytes, and a recording's digests can be compared.
//!
//! Format: Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`; `cpio(5)`.

/// The first six bytes of each entry.
const MAGIC: &str = "070701";
/// The name of the entry that ends the archive.
const TRAILER: &str = "TRAILER!!!";

const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_LINK: u32 = 0o120_000;
const MODE_CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Archive {
    /// An archive without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, open to read for all. Its parent must have been added before: the kernel makes none itself.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, MODE_DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file that all may read; with `executable`, all may run it.
    pub fn file(&mut self, name: &str, executable: bool, content: &[u8]) {
        let permissions = if executable { 0o755 } else { 0o644 };
        self.entry(name, MODE_FILE | permissions, (0, 0), content);
    }

    /// Adds a symbolic link called `name` that leads to `target`.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, MODE_LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device, for root only. An ordinary user cannot make one on disk, but can write it in an archive.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, MODE_CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// Ends the archive and gives its bytes, padded to 512 as `cpio(1)` does.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.inodes = 0;
        self.raw_entry(0, TRAILER, 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inodes += 1;
        self.raw_entry(self.inodes, name, mode, device, content);
    }

    fn raw_entry(&mut self, inode: u32, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let len =
            u32::try_from(content.len()).expect("an entry of our own guests is far below 4 GiB");
        let name_len = u32::try_from(name.len() + 1).expect("a path is short");
        let links = if mode & MODE_DIRECTORY != 0 && mode & MODE_FILE == 0 {
            2
        } else {
            1
        };
        let (major, minor) = device;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name length, checksum.
        let fields = [
            inode, mode, 0, 0, links, 0, len, 0, 0, major, minor, name_len, 0,
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Name and content both end on a multiple of four bytes, counted from the archive's start.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.directory("bin");
        archive.file("bin/odd", true, b"12345");
        archive.link("bin/sh", "odd");
        archive.finish()
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn every_entry_starts_on_a_multiple_of_four() {
        let bytes = sample();
        let starts: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| *w == MAGIC.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
    }

    #[test]
    fn cpio_lists_what_was_put_in() {
        let Ok(mut child) = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            eprintln!("cpio is not installed: nothing to compare with");
            return;
        };
        child
            .stdin
            .take()
            .expect("piped above")
            .write_all(&sample())
            .expect("cpio reads all");
        let output = child.wait_with_output().expect("cpio ends");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = listing.lines().collect();
        assert!(
            lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with("bin"),
            "{listing}"
        );
        assert!(
            lines[1].starts_with("-rwxr-xr-x") && lines[1].ends_with("bin/odd"),
            "{listing}"
        );
        assert!(
            lines[2].starts_with("lrwxrwxrwx") && lines[2].ends_with("bin/sh -> odd"),
            "{listing}"
        );
    }
}
