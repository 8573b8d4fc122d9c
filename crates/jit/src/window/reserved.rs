//! Addresses that are set aside for windows, and what is mapped there.

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use x86::Physical;

use super::{CHUNK_BYTES, WINDOWS};

/// Length in bytes of what is kept free on either side of a window: more than a
/// displacement reaches, and all that a base register may move by in a block.
pub(super) const GUARD_BYTES: u64 = 4 << 30;
const STRIDE_BYTES: u64 = CHUNK_BYTES + GUARD_BYTES;
const BYTES: u64 = WINDOWS as u64 * STRIDE_BYTES + GUARD_BYTES;

/// The host's addresses for [`WINDOWS`] windows. Nothing is there but what is
/// shown.
#[derive(Debug)]
pub(super) struct Reserved {
    base: NonNull<u8>,
}

// SAFETY: the addresses belong to this value alone and move with it.
unsafe impl Send for Reserved {}

/// A stretch of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The window, below [`WINDOWS`].
    pub(super) window: usize,
    /// In bytes from its start.
    pub(super) offset: u64,
    /// Its length, which ends in the window.
    pub(super) bytes: u64,
}

impl Place {
    /// A whole window.
    pub(super) fn whole(window: usize) -> Place {
        Place {
            window,
            offset: 0,
            bytes: CHUNK_BYTES,
        }
    }
}

impl Reserved {
    /// `None`: the host gives none.
    pub(super) fn new() -> Option<Reserved> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases
        // nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length(BYTES),
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let base = NonNull::new(base.ok()?.cast())?;
        Some(Reserved { base })
    }

    /// Where `window` begins.
    pub(super) fn start(&self, window: usize) -> NonNull<u8> {
        assert!(window < WINDOWS, "bug: no such window");
        let offset = GUARD_BYTES + window as u64 * STRIDE_BYTES;
        // SAFETY: inside of what is reserved.
        unsafe { self.base.add(length(offset)) }
    }

    fn address(&self, place: Place) -> *mut c_void {
        let end = place.offset.checked_add(place.bytes);
        assert!(
            end.is_some_and(|end| end <= CHUNK_BYTES),
            "bug: outside of a window"
        );
        // SAFETY: inside of the window, as just checked.
        let start = unsafe { self.start(place.window).add(length(place.offset)) };
        start.as_ptr().cast()
    }

    /// Shows guest memory, which is `file`, from `from` on.
    pub(super) fn show(
        &self,
        place: Place,
        file: BorrowedFd<'_>,
        from: Physical,
        write: bool,
    ) -> io::Result<()> {
        let access = if write {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::POPULATE;
        let at = self.address(place);
        // SAFETY: a part of a window, which translated code alone uses. It shows
        // guest memory, to which no reference exists, ever.
        unsafe { mmap(at, length(place.bytes), access, flags, file, from.0) }?;
        Ok(())
    }

    /// What is shown there can no longer be stored to.
    pub(super) fn protect(&self, place: Place) -> io::Result<()> {
        // SAFETY: as in `show`.
        let done = unsafe {
            mprotect(
                self.address(place),
                length(place.bytes),
                MprotectFlags::READ,
            )
        };
        Ok(done?)
    }

    /// Nothing is shown there any more.
    pub(super) fn hide(&self, place: Place) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let at = self.address(place);
        // SAFETY: as in `show`; the addresses stay reserved.
        unsafe { mmap_anonymous(at, length(place.bytes), ProtFlags::empty(), flags) }?;
        Ok(())
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("addresses have 64 bits")
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, with this length, and no translated
        // code runs any more. A failure would only leak it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), length(BYTES)) };
    }
}
