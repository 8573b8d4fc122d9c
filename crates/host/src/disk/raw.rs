//! A raw image: the disk, byte by byte.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom as Seeks;

use super::Base;

/// A raw image.
#[derive(Debug)]
pub(super) struct Raw {
    file: File,
    bytes: u64,
}

impl Raw {
    /// The disk in `file`, which may be a block device.
    pub(super) fn new(mut file: File) -> io::Result<Raw> {
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(Raw { file, bytes })
    }
}

impl Base for Raw {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let there = self.bytes.saturating_sub(at).min(into.len() as u64) as usize;
        let (there, behind) = into.split_at_mut(there);
        behind.fill(0);
        // A file that was cut off since ends early: that is an error.
        self.file.read_exact_at(there, at)
    }

    fn zeros_at(&self, at: u64) -> u64 {
        match rustix::fs::seek(&self.file, Seeks::Data(at)) {
            Ok(next) => next.saturating_sub(at),
            // Only a hole is left.
            Err(rustix::io::Errno::NXIO) => self.bytes.saturating_sub(at),
            // Not every file system tells.
            Err(_) => 0,
        }
    }
}
