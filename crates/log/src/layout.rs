//! Where the parts of a recording lie in its directory.

use std::path::{Path, PathBuf};

/// The paths of one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(PathBuf);

impl Layout {
    /// Of the recording in directory `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Layout {
        Layout(dir.into())
    }

    /// The directory that a user holds.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("recording.json")
    }

    /// The directory of what the machine was given.
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// One of the things the machine was given.
    pub fn image(&self, name: &str) -> PathBuf {
        self.images().join(name)
    }

    /// The contents of disk `number`, if they were embedded.
    pub fn embedded_disk(&self, number: usize) -> PathBuf {
        self.image(&format!("disk{number}"))
    }

    /// The directory of what the guest wrote to its disks. No replay needs it.
    pub fn disks(&self) -> PathBuf {
        self.0.join("disks")
    }

    /// What the guest wrote to disk `number`: files with this name and an
    /// ending.
    pub fn disk(&self, number: usize) -> PathBuf {
        self.disks().join(format!("disk{number}"))
    }

    /// The directory of the log.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// One segment of the log.
    pub fn segment(&self, number: u64) -> PathBuf {
        self.log().join(segment_name(number))
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:08}.seg")
}

/// The number in the file name of a segment; `None` for any other name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".seg")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        assert_eq!(segment_number(&segment_name(7)), Some(7));
        assert_eq!(segment_number(&segment_name(u64::MAX)), Some(u64::MAX));
        for other in [
            "7.seg",
            "00000007",
            "+0000007.seg",
            "00000007.seg~",
            "-1.seg",
        ] {
            assert_eq!(segment_number(other), None);
        }
    }
}
