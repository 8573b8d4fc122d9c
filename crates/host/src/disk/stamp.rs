//! Whether files are still as they were.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Error;

/// What tells that a file was changed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// The files that an image consists of, as they were.
#[derive(Clone, Debug, Default)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// Of `paths` as they are now.
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Stamps, Error> {
        paths.map(Stamp::of).collect::<Result<_, _>>().map(Stamps)
    }

    /// An error naming the first file that is not as it was.
    pub fn check(&self) -> Result<(), Error> {
        for stamp in &self.0 {
            if !Stamp::of(&stamp.path).is_ok_and(|now| now == *stamp) {
                return Err(Error::Changed(stamp.path.clone()));
            }
        }
        Ok(())
    }
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, Error> {
        let found = fs::metadata(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Stamp {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}
