//! An image copied into a recording.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Error, Image, Progress};

/// Zeros are left out in blocks of this size.
const BLOCK_BYTES: usize = 4096;

impl Image {
    /// Copies the disk's contents to the new file `path`, raw; blocks of zeros
    /// become holes.
    pub fn embed(&self, path: &Path, progress: Progress<'_>) -> Result<(), Error> {
        let write = |source| Error::Write {
            path: path.to_owned(),
            source,
        };
        let file = File::create_new(path).map_err(write)?;
        let mut length = 0;
        self.read_all(progress, |at, piece| {
            length = at + piece.len() as u64;
            let blocks = (at..).step_by(BLOCK_BYTES).zip(piece.chunks(BLOCK_BYTES));
            for (at, block) in blocks {
                if block.iter().any(|byte| *byte != 0) {
                    file.write_all_at(block, at).map_err(write)?;
                }
            }
            Ok(())
        })?;
        file.set_len(length)
            .and_then(|()| file.sync_all())
            .map_err(write)
    }
}
