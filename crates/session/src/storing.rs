//! The images of a new recording, on their way to the disk.
//!
//! They may be long, and nobody needs them before a replay does: a thread
//! writes them while the guest already runs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use log::Layout;
use machine::Images;

use crate::Error;
use crate::recording::named;

/// A thread that writes images; gone once it is known how that went.
#[derive(Debug)]
pub(crate) struct Storing(Option<JoinHandle<Result<(), Error>>>);

impl Storing {
    /// Begins to write `images` where `layout` has their place.
    pub(crate) fn start(layout: &Layout, images: &Arc<Images>) -> Result<Storing, Error> {
        let images = Arc::clone(images);
        let places = layout.clone();
        let all = move || {
            named(&images).try_for_each(|(name, image)| write(&places.image(name), image.bytes()))
        };
        let thread = Builder::new().name("images".into()).spawn(all);
        let thread = thread.map_err(|source| Error::Write {
            path: layout.images(),
            source,
        })?;
        Ok(Storing(Some(thread)))
    }

    /// Tells an error as soon as it is known.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        match &self.0 {
            Some(thread) if thread.is_finished() => self.finish(),
            _ => Ok(()),
        }
    }

    /// Returns when they are safe on disk, or can't be. An error is told once.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.0.take().map_or(Ok(()), |thread| {
            thread
                .join()
                .expect("a thread that writes files has no reason to panic")
        })
    }
}

/// Writes a new file that survives a power cut.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let all = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    all().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}
