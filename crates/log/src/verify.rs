//! Is a recording whole and unaltered? No machine is run to find out.

use std::fs::File;
use std::path::{Path, PathBuf};

use seal::Digest;

use crate::{Damage, Error, Flaw, Info, Layout, Reader};

/// A recording that is not altered. It may still be torn: see
/// [`Info::is_whole`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What is in its log.
    pub info: Info,
    /// How many images were checked.
    pub images: usize,
    /// Bytes of those images.
    pub image_bytes: u64,
}

/// Checks the recording in directory `dir`: every byte of its log; that the
/// log was made with the manifest, whose digest is `manifest`; and that each of
/// `images` has the digest that the manifest names.
pub fn verify(
    dir: &Path,
    manifest: Option<Digest>,
    images: &[(PathBuf, Digest)],
) -> Result<Verified, Error> {
    let reader = Reader::open(dir)?;
    // The log's header has been checked against itself and the chain, so if
    // they differ it is the manifest that is altered.
    let expected = reader.manifest();
    if let Some(found) = manifest.filter(|found| *found != expected) {
        let path = Layout::new(dir).manifest();
        return Err(damage(path, Flaw::Content { expected, found }));
    }
    let info = Info::of(reader)?;
    let mut image_bytes = 0;
    for (path, expected) in images {
        image_bytes += check_image(path, *expected)?;
    }
    Ok(Verified {
        info,
        images: images.len(),
        image_bytes,
    })
}

/// Checks one image; tells how long it is.
fn check_image(path: &Path, expected: Digest) -> Result<u64, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let found = Digest::of_reader(file).map_err(io)?;
    if found != expected {
        return Err(damage(path.to_owned(), Flaw::Content { expected, found }));
    }
    Ok(bytes)
}

fn damage(path: PathBuf, flaw: Flaw) -> Error {
    Error::Damage(Damage {
        path,
        offset: 0,
        frame: None,
        flaw,
    })
}
