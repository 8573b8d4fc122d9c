//! The mapping and the ways in and out of it.

use std::cell::RefCell;
use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};
use x86::{PAGE_BYTES, Physical};

use crate::flag;
use crate::page::Pages;

/// First byte after low RAM: devices live from here to [`HOLE_END`].
pub const HOLE_START: u64 = 3 << 30;
/// First byte of high RAM.
pub const HOLE_END: u64 = 4 << 30;

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The size is not a whole number of pages, or out of range.
    #[error("guest memory of {bytes} bytes: give a multiple of 4096 from 1 MiB to 1 TiB")]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// The host gave no address space.
    #[error("the host gave no mapping for {bytes} bytes of guest memory: use less memory")]
    Map {
        /// The length of the mapping.
        bytes: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// A range that is not RAM.
    #[error("guest-physical range {start:#x}..+{bytes:#x} is not RAM")]
    NotRam {
        /// The first byte.
        start: u64,
        /// The length.
        bytes: u64,
    },
}

/// Numbers that are read and written whole, little-endian.
pub trait Word: Copy + sealed::Sealed {}
mod sealed {
    pub trait Sealed {}
}
macro_rules! words {
    ($($type:ty),*) => { $(impl Word for $type {} impl sealed::Sealed for $type {})* };
}
words!(u8, u16, u32, u64, u128);

/// Guest RAM.
#[derive(Debug)]
pub struct Ram {
    base: NonNull<u8>,
    /// What is mapped there; `None`: memory that no file holds.
    file: Option<OwnedFd>,
    mapped_bytes: u64,
    size_bytes: u64,
    pages: Pages,
    watched_writes: RefCell<Vec<(Physical, u64)>>,
}

// SAFETY: the mapping belongs to this value alone and moves with it; nothing
// about it is tied to the thread that made it.
unsafe impl Send for Ram {}

impl Ram {
    /// Zeroed RAM of `size_bytes`, a multiple of 4096 from 1 MiB to 1 TiB.
    pub fn new(size_bytes: u64) -> Result<Ram, Error> {
        if !size_bytes.is_multiple_of(PAGE_BYTES) || !(1 << 20..=1 << 40).contains(&size_bytes) {
            return Err(Error::Size { bytes: size_bytes });
        }
        let mapped_bytes = if size_bytes <= HOLE_START {
            size_bytes
        } else {
            size_bytes + (HOLE_END - HOLE_START)
        };
        let map_error = |source: std::io::Error| Error::Map {
            bytes: mapped_bytes,
            source,
        };
        let length =
            usize::try_from(mapped_bytes).map_err(|e| map_error(std::io::Error::other(e)))?;
        let file = file(mapped_bytes).map_err(|errno| map_error(errno.into()))?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: a mapping of fresh memory, or of a file that nobody else has, at
        // an address of the kernel's choice, aliases nothing. NORESERVE: a guest
        // rarely touches all it has.
        let base = unsafe {
            match &file {
                Some(file) => {
                    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
                    mmap(anywhere, length, access, flags, file, 0)
                }
                None => {
                    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
                    mmap_anonymous(anywhere, length, access, flags)
                }
            }
        }
        .map_err(|errno| map_error(errno.into()))?;
        // SAFETY: the mapping is ours, and this changes nothing but its speed:
        // with large pages the host walks its tables less. A host that has none
        // does without.
        let _ = unsafe { madvise(base, length, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).expect("mmap never returns null without MAP_FIXED");
        let count = usize::try_from(mapped_bytes / PAGE_BYTES).expect("fits, as the length did");
        Ok(Ram {
            base,
            file,
            mapped_bytes,
            size_bytes,
            pages: Pages::new(count),
            watched_writes: RefCell::default(),
        })
    }

    /// How much RAM there is, in bytes, the hole not counted.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The ranges that are RAM, as (first byte, length in bytes), ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (Physical, u64)> {
        let low = self.size_bytes.min(HOLE_START);
        let high = self.size_bytes - low;
        [(Physical(0), low), (Physical(HOLE_END), high)]
            .into_iter()
            .filter(|&(_, bytes)| bytes > 0)
    }

    /// Whether all of `start..start + bytes` is RAM.
    #[inline]
    pub fn holds(&self, start: Physical, bytes: u64) -> bool {
        let Some(end) = start.0.checked_add(bytes) else {
            return false;
        };
        end <= self.mapped_bytes && (end <= HOLE_START || start.0 >= HOLE_END)
    }

    /// What is known of each page.
    #[inline]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The number at `at`. No flags are looked at.
    ///
    /// # Panics
    /// If `at` lies outside of the mapping: the caller has translated it.
    #[inline]
    pub fn load<T: Word>(&self, at: Physical) -> T {
        let pointer = self.pointer(at, size_of::<T>() as u64);
        // SAFETY: `pointer` bounds-checked the range; every bit pattern is a `T`.
        unsafe { pointer.cast::<T>().read_unaligned() }
    }

    /// Puts the number at `at`, setting no flags: for engines, which have seen
    /// to the page's flags when they translated the address.
    ///
    /// # Panics
    /// If `at` lies outside of the mapping: the caller has translated it.
    #[inline]
    pub fn store<T: Word>(&self, at: Physical, value: T) {
        let pointer = self.pointer(at, size_of::<T>() as u64);
        // SAFETY: `pointer` bounds-checked the range, and no reference to guest
        // memory exists that this write could contradict.
        unsafe { pointer.cast::<T>().write_unaligned(value) }
    }

    /// Copies RAM from `at` into `into`.
    pub fn read(&self, at: Physical, into: &mut [u8]) -> Result<(), Error> {
        self.check(at, into.len() as u64)?;
        let pointer = self.pointer(at, into.len() as u64);
        // SAFETY: `pointer` bounds-checked the range; `into` is the caller's own.
        unsafe { pointer.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies `bytes` to RAM at `at`, as devices and loaders do: the pages
    /// become dirty, and watched ones are told by [`Ram::take_watched_writes`].
    pub fn write(&self, at: Physical, bytes: &[u8]) -> Result<(), Error> {
        let length = bytes.len() as u64;
        self.check(at, length)?;
        if length == 0 {
            return Ok(());
        }
        self.note_write(at, length);
        let pointer = self.pointer(at, length);
        // SAFETY: `pointer` bounds-checked the range, and no reference to guest
        // memory exists that this write could contradict.
        unsafe { pointer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Marks the pages of a write dirty, and keeps what it did to watched
    /// ones for [`Ram::take_watched_writes`]. True if there were any.
    pub fn note_write(&self, at: Physical, bytes: u64) -> bool {
        let end = at.0.saturating_add(bytes);
        let mut watched = false;
        for number in at.page_number()..=(end - 1) / PAGE_BYTES {
            self.pages.set(number, flag::DIRTY);
            if self.pages.get(number) & flag::WATCHED != 0 {
                let first = at.0.max(number * PAGE_BYTES);
                let last = end.min((number + 1) * PAGE_BYTES);
                self.watched_writes
                    .borrow_mut()
                    .push((Physical(first), last - first));
                watched = true;
            }
        }
        watched
    }

    /// The writes to watched pages since the last call, each within a page, as
    /// (first byte, length in bytes). The engine acts on them before its next
    /// instruction.
    pub fn take_watched_writes(&self) -> Vec<(Physical, u64)> {
        self.watched_writes.take()
    }

    /// Whether [`Ram::take_watched_writes`] has anything to give.
    #[inline]
    pub fn has_watched_writes(&self) -> bool {
        !self.watched_writes.borrow().is_empty()
    }

    /// The pages written since the last call, ascending; none is dirty after.
    /// The engine must let go of its leave to write to them without notice.
    pub fn take_dirty(&self) -> Vec<u64> {
        let dirty: Vec<u64> = self.pages.with(flag::DIRTY).collect();
        dirty
            .iter()
            .for_each(|&number| self.pages.clear(number, flag::DIRTY));
        dirty
    }

    /// Copies `bytes` bytes inside RAM, setting no flags: for engines, as
    /// [`Ram::store`].
    ///
    /// # Panics
    /// If either range lies outside of the mapping.
    pub fn copy(&self, from: Physical, to: Physical, bytes: u64) {
        let (from, to) = (self.pointer(from, bytes), self.pointer(to, bytes));
        // SAFETY: `pointer` bounds-checked both ranges; they may overlap. The
        // length fits, as the mapping's does.
        unsafe { from.copy_to(to, bytes as usize) }
    }

    /// Puts `count` copies of a number one after the other from `at` on, setting
    /// no flags: for engines, as [`Ram::store`].
    ///
    /// # Panics
    /// If any lies outside of the mapping.
    pub fn fill<T: Word>(&self, at: Physical, value: T, count: u64) {
        let bytes = count
            .checked_mul(size_of::<T>() as u64)
            .expect("no mapping is that long");
        let pointer = self.pointer(at, bytes).cast::<T>();
        for n in 0..count as usize {
            // SAFETY: `pointer` bounds-checked all of them, and no reference to
            // guest memory exists that this write could contradict.
            unsafe { pointer.add(n).write_unaligned(value) };
        }
    }

    /// For each page of the mapping, the hole's included, whether the host has
    /// given it memory. One that has none holds zeros, and was never written
    /// by anyone. If the host can't say, all have.
    pub fn resident(&self) -> Vec<bool> {
        let count = (self.mapped_bytes / PAGE_BYTES) as usize;
        self.stretches().map_or_else(
            |_| vec![true; count],
            |stretches| {
                let mut resident = vec![false; count];
                for (start, end) in stretches {
                    let [first, last] = [start / PAGE_BYTES, end.div_ceil(PAGE_BYTES)];
                    resident[first as usize..last as usize].fill(true);
                }
                resident
            },
        )
    }

    /// Where the file holds anything, as (start, end): what the host has swapped
    /// out counts, too.
    fn stretches(&self) -> Result<Vec<(u64, u64)>, Errno> {
        let file = self.file.as_ref().ok_or(Errno::NOTSUP)?;
        let mut stretches = Vec::new();
        let mut at = 0;
        while at < self.mapped_bytes {
            let start = match seek(file, SeekFrom::Data(at)) {
                Ok(start) => start,
                // There is nothing further.
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno),
            };
            at = seek(file, SeekFrom::Hole(start))?;
            stretches.push((start, at));
        }
        Ok(stretches)
    }

    /// The host address of guest-physical 0, for a translator, which adds to it
    /// what it has translated and checked. Never to become visible to the guest.
    pub fn host_base(&self) -> NonNull<u8> {
        self.base
    }

    /// The file that is mapped there: guest-physical addresses are offsets in
    /// it. For a translator, which maps pages of it once more. `None` where the
    /// host limits files to less (`ulimit -f`).
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    fn check(&self, start: Physical, bytes: u64) -> Result<(), Error> {
        if self.holds(start, bytes) {
            Ok(())
        } else {
            Err(Error::NotRam {
                start: start.0,
                bytes,
            })
        }
    }

    #[inline]
    fn pointer(&self, at: Physical, bytes: u64) -> *mut u8 {
        if bytes > self.mapped_bytes || at.0 > self.mapped_bytes - bytes {
            outside(at, bytes);
        }
        // SAFETY: `at..at + bytes` lies inside the mapping, by the line above,
        // and the mapping's length fits an isize.
        unsafe { self.base.as_ptr().add(at.0 as usize) }
    }
}

/// A file in memory of `bytes` bytes, which nobody else has. `None`: files mustn't
/// be as long; to try would raise a signal.
fn file(bytes: u64) -> Result<Option<OwnedFd>, Errno> {
    let longest = getrlimit(Resource::Fsize).current;
    if longest.is_some_and(|longest| longest < bytes) {
        return Ok(None);
    }
    let file = memfd_create(c"guest memory", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, bytes)?;
    Ok(Some(file))
}

/// Out of the way of [`Ram::load`], which is everywhere.
#[cold]
#[inline(never)]
fn outside(at: Physical, bytes: u64) -> ! {
    panic!(
        "bug: guest-physical {:#x}..+{bytes} lies outside of RAM",
        at.0
    )
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, with this length, and nothing
        // points into it once the value is gone. A failure would only leak it.
        let _ = unsafe {
            munmap(
                self.base.as_ptr().cast::<c_void>(),
                self.mapped_bytes as usize,
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded() {
        let ram = Ram::new(1 << 20).expect("a small mapping");
        ram.store(Physical(0xffe), 0x1122_3344_u32);
        assert_eq!(ram.load::<u16>(Physical(0x1000)), 0x1122);
    }

    #[test]
    fn memory_above_three_gib_moves_to_four() {
        let ram = Ram::new((3 << 30) + PAGE_BYTES).expect("untouched pages cost nothing");
        assert!(!ram.holds(Physical(HOLE_START), 1));
        assert!(ram.holds(Physical(HOLE_END), PAGE_BYTES));
        assert!(!ram.holds(Physical(HOLE_END), PAGE_BYTES + 1));
        assert!(!ram.holds(Physical(u64::MAX), 2));
    }

    #[test]
    fn a_foreign_write_is_dirty_and_tells_of_watched_pages() {
        let ram = Ram::new(1 << 20).expect("a small mapping");
        ram.pages().set(2, flag::CODE);
        ram.write(Physical(0x1fff), &[1, 2]).expect("it is RAM");
        assert_eq!(ram.take_watched_writes(), [(Physical(0x2000), 1)]);
        assert_eq!(ram.take_dirty(), [1, 2]);
        assert!(ram.take_dirty().is_empty());
    }

    #[test]
    fn a_page_becomes_resident_when_it_is_written() {
        let ram = Ram::new(1 << 20).expect("a small mapping");
        assert_eq!(ram.resident(), [false; 256]);
        ram.store(Physical(0x3000), 1u8);
        assert!(ram.resident()[3]);
    }

    #[test]
    fn a_range_that_is_not_ram_is_an_error() {
        let ram = Ram::new(1 << 20).expect("a small mapping");
        assert!(ram.write(Physical((1 << 20) - 1), &[0; 2]).is_err());
        assert!(ram.read(Physical(u64::MAX), &mut [0; 2]).is_err());
    }
}
