//! Whether files are still as they were.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seal::{Digest, Digester};

use super::Error;

/// File systems tell times no finer than this.
const GRAIN: Duration = Duration::from_secs(2);

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

    /// A key that every later change to the files gives another value, or
    /// `None` if nothing tells of changes: they are no plain files, or were
    /// changed so lately that a change now could bear the same time.
    ///
    /// It holds the time at which the kernel saw the last change of any kind,
    /// which no user can set. What programs have mapped is written out first: a
    /// later write then counts as a change.
    pub(super) fn key(&self) -> Option<Digest> {
        let mut digester = Digester::for_purpose("ReVirt disk: an image's files");
        for stamp in &self.0 {
            let file = File::open(&stamp.path).ok()?;
            file.sync_data().ok()?;
            let found = file.metadata().ok()?;
            let kind = found.file_type();
            let is_this = (found.dev(), found.ino()) == (stamp.device, stamp.inode);
            if kind.is_block_device() || !kind.is_file() || !is_this {
                return None;
            }
            let changed = Duration::from_secs(u64::try_from(found.ctime()).ok()?);
            let age = SystemTime::now()
                .duration_since(UNIX_EPOCH + changed)
                .ok()?;
            if age <= GRAIN {
                return None;
            }
            let numbers = [
                stamp.device,
                stamp.inode,
                stamp.bytes,
                stamp.modified.0.cast_unsigned(),
                stamp.modified.1.cast_unsigned(),
                found.ctime().cast_unsigned(),
                found.ctime_nsec().cast_unsigned(),
            ];
            numbers
                .iter()
                .for_each(|number| digester.feed(&number.to_le_bytes()));
        }
        Some(digester.digest())
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
