//! A log in memory: for tests, and for a log that nobody keeps.

use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Segments, Store};

/// Segments in memory, shared among clones.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<Vec<u8>>>>);

impl Memory {
    /// No segment yet.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// These segments.
    pub fn of(segments: Vec<Vec<u8>>) -> Memory {
        Memory(Arc::new(Mutex::new(segments)))
    }

    /// A copy of the segments as they are.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        self.with(|segments| segments.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_last<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.with(|segments| segments.last_mut().map(act))
            .ok_or_else(|| io::Error::other("no segment was begun"))
    }
}

impl Store for Memory {
    fn begin(&mut self, number: u64) -> io::Result<()> {
        self.with(|segments| {
            if segments.len() as u64 != number {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            segments.push(Vec::new());
            Ok(())
        })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with_last(|segment| {
            segment.extend_from_slice(bytes);
            bytes.len()
        })
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with_last(|segment| segment.resize(len, 0))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Segments for Memory {
    type Source = Cursor<Vec<u8>>;

    fn count(&self) -> u64 {
        self.with(|segments| segments.len() as u64)
    }

    fn open(&self, number: u64) -> io::Result<Cursor<Vec<u8>>> {
        let number = usize::try_from(number).map_err(io::Error::other)?;
        self.with(|segments| segments.get(number).cloned())
            .map(Cursor::new)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
