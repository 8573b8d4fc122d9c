//! What holds a disk's contents: all that a disk sees of the host.

use std::fmt::Debug;

/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = 512;

/// The host could not read or write a disk's contents. The guest is never
/// told: its course must not depend on it, so the machine stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// The contents of a disk: what was read last is what was written last, and
/// before that what the machine began with.
///
/// Places and lengths are in bytes, multiples of [`SECTOR_BYTES`], and lie
/// inside of the disk: the disk has checked them.
pub trait Backing: Debug {
    /// How many sectors there are.
    fn sectors(&self) -> u64;

    /// Reads from `at` into the whole of `into`.
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Failed>;

    /// Writes `bytes` at `at`.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failed>;

    /// From here on the `bytes` bytes at `at` read as zeros.
    fn zero(&mut self, at: u64, bytes: u64) -> Result<(), Failed>;
}

/// Contents in memory, for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InMemory(pub Vec<u8>);

impl InMemory {
    fn range(&mut self, at: u64, bytes: usize) -> Result<&mut [u8], Failed> {
        let range = usize::try_from(at)
            .ok()
            .and_then(|at| self.0.get_mut(at..)?.get_mut(..bytes));
        range.ok_or_else(|| Failed(format!("{at:#x}..+{bytes} lies outside of the disk")))
    }
}

impl Backing for InMemory {
    fn sectors(&self) -> u64 {
        self.0.len() as u64 / SECTOR_BYTES
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Failed> {
        into.copy_from_slice(self.range(at, into.len())?);
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        self.range(at, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, at: u64, bytes: u64) -> Result<(), Failed> {
        self.range(at, bytes as usize)?.fill(0);
        Ok(())
    }
}
