//! Code memory: one stretch of memory, mapped twice. Through one mapping it is
//! written, through the other executed; no page is both. Its size is fixed;
//! when it is full, all of it is used anew. Code that is often executed lies in
//! its first part, what is rare in the second: so the host fetches little that
//! it doesn't need.

use std::ffi::c_void;
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};

use crate::asm::{Asm, Section};

/// Where a piece of code lies, in bytes from the start of code memory.
pub(crate) type Offset = u32;

/// Length in bytes of code memory in use; tests have less.
pub(crate) const BYTES: usize = 128 << 20;

/// Length in bytes of the host's large pages. Translated code is many times as
/// long as the guest's, and the host's instruction TLB soon too small for it in
/// small pages.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// The opcode of JMP with a displacement of 32 bits.
const JMP: u8 = 0xe9;

/// Code memory.
#[derive(Debug)]
pub(crate) struct Code {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    /// Length in bytes of both mappings, below 4 GiB.
    bytes: usize,
    /// By [`Section`]: up to where it is in use, and where it ends.
    used: [usize; 2],
    ends: [usize; 2],
    /// Written since [`Code::make_ready`] was last called.
    is_fresh: bool,
    /// What stays when the rest is used anew.
    kept: usize,
    /// By [`Section`]: up to here large pages have been asked for.
    enlarged: [usize; 2],
}

// SAFETY: the mappings belong to this value alone and move with it.
unsafe impl Send for Code {}

impl Code {
    /// Empty code memory of `bytes` bytes.
    pub(crate) fn new(bytes: usize) -> std::io::Result<Code> {
        // To make a longer file than the host allows would raise a signal.
        let longest = getrlimit(Resource::Fsize).current;
        if longest.is_some_and(|longest| longest < bytes as u64) {
            return Err(Errno::FBIG.into());
        }
        let file = memfd_create(c"translated code", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes as u64)?;
        let map = |access: ProtFlags| {
            let place = Self::reserve(bytes)?;
            // SAFETY: the place was reserved just now and nothing uses it; the
            // two mappings of the file are only reached through this type.
            unsafe {
                mmap(
                    place.as_ptr().cast(),
                    bytes,
                    access,
                    MapFlags::SHARED | MapFlags::FIXED,
                    &file,
                    0,
                )
            }?;
            Ok::<_, std::io::Error>(place)
        };
        let hot_bytes = bytes / 2;
        let write = map(ProtFlags::READ | ProtFlags::WRITE)?;
        let execute = map(ProtFlags::READ | ProtFlags::EXEC)?;
        Ok(Code {
            write,
            execute,
            bytes,
            used: [0, hot_bytes],
            ends: [hot_bytes, bytes],
            is_fresh: false,
            kept: 0,
            enlarged: [0, hot_bytes],
        })
    }

    /// A stretch of addresses for a mapping of `bytes` bytes, which begins where
    /// a large page can.
    fn reserve(bytes: usize) -> std::io::Result<NonNull<u8>> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases
        // nothing.
        let lowest = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes + LARGE_PAGE_BYTES,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let lowest = NonNull::new(lowest.cast::<u8>());
        let lowest = lowest.expect("mmap never returns null without MAP_FIXED");
        let before = lowest.as_ptr().align_offset(LARGE_PAGE_BYTES);
        // SAFETY: less than a large page further, for which there is room.
        let place = unsafe { lowest.add(before) };
        // SAFETY: inside of the mapping, or its end.
        let end = unsafe { place.add(bytes) };
        for (start, length) in [(lowest, before), (end, LARGE_PAGE_BYTES - before)] {
            if length > 0 {
                // SAFETY: a part of the mapping that nothing uses.
                unsafe { munmap(start.as_ptr().cast(), length) }?;
            }
        }
        Ok(place)
    }

    /// Lays the code of `section` up to `end` into large pages, where the host
    /// has any to give: it changes nothing but the speed.
    fn enlarge(&mut self, section: Section, end: usize) {
        let section = section as usize;
        while self.enlarged[section] < end
            && self.enlarged[section] + LARGE_PAGE_BYTES <= self.ends[section]
        {
            let at = self.enlarged[section];
            self.enlarged[section] += LARGE_PAGE_BYTES;
            // SAFETY: inside of both mappings.
            let [write, execute] = unsafe { [self.write.add(at), self.execute.add(at)] };
            // SAFETY: it gives the pages of our own mapping memory, and leaves
            // what is in them.
            let _ = unsafe {
                madvise(
                    write.as_ptr().cast(),
                    LARGE_PAGE_BYTES,
                    Advice::LinuxPopulateWrite,
                )
            };
            for place in [write, execute] {
                // SAFETY: as above. rustix doesn't know this advice.
                let _ = unsafe {
                    libc::madvise(place.as_ptr().cast(), LARGE_PAGE_BYTES, libc::MADV_COLLAPSE)
                };
            }
        }
    }

    /// Where the next piece of `section` will lie.
    #[expect(clippy::cast_possible_truncation, reason = "it is far below 4 GiB")]
    pub(crate) fn next(&self, section: Section) -> Offset {
        self.used[section as usize] as Offset
    }

    /// How many bytes are in use.
    pub(crate) fn used(&self) -> usize {
        self.used[0] + self.used[1] - self.ends[0]
    }

    /// Whether there is room for `bytes` bytes in each section.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let both = self.used.iter().zip(self.ends);
        both.into_iter().all(|(used, end)| end - used >= bytes)
    }

    /// Puts the code of `asm`, which was begun at [`Code::next`], there.
    ///
    /// # Panics
    /// If there is no room: the caller has looked.
    pub(crate) fn place(&mut self, asm: &Asm) {
        for section in [Section::Hot, Section::Cold] {
            let bytes = asm.bytes(section);
            let at = self.next(section);
            self.enlarge(section, at as usize + bytes.len());
            self.write(at, bytes);
            // Entries at multiples of 16 are fetched best.
            self.used[section as usize] = (at as usize + bytes.len())
                .next_multiple_of(16)
                .min(self.ends[section as usize]);
        }
    }

    /// Keeps what often executed code has been placed so far for ever.
    pub(crate) fn keep(&mut self) {
        self.kept = self.used[0];
    }

    /// Forgets all that isn't kept.
    pub(crate) fn clear(&mut self) {
        self.used = [self.kept, self.ends[0]];
    }

    /// Makes the jump whose 32-bit displacement lies at `at` go to `target`.
    pub(crate) fn patch(&mut self, at: Offset, target: Offset) {
        let displacement = target.wrapping_sub(at + 4);
        self.write(at, &displacement.to_le_bytes());
    }

    /// Makes what is executed at `at` a jump to `target`.
    pub(crate) fn divert(&mut self, at: Offset, target: Offset) {
        self.write(at, &[JMP]);
        self.patch(at + 1, target);
    }

    /// The code from `from` to `to`, to look at.
    #[cfg(test)]
    pub(crate) fn read(&self, from: Offset, to: Offset) -> Vec<u8> {
        let mut bytes = vec![0; (to - from) as usize];
        let at = self.address(from);
        // SAFETY: inside of the mapping, as `to` is a place that was reached.
        unsafe { at.copy_to_nonoverlapping(NonNull::from(&mut bytes[..]).cast(), bytes.len()) };
        bytes
    }

    fn write(&mut self, at: Offset, bytes: &[u8]) {
        self.is_fresh = true;
        let at = at as usize;
        assert!(
            at.checked_add(bytes.len())
                .is_some_and(|end| end <= self.bytes),
            "bug: code outside of code memory"
        );
        // SAFETY: inside of the writable mapping, as just checked; no reference
        // to it exists.
        unsafe {
            self.write
                .add(at)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
    }

    /// To be called before code is executed. The processor may have fetched
    /// what was there before: it promises to notice a store by the address that
    /// it fetches from, not by another mapping, unless a serializing
    /// instruction comes between (SDM volume 3A, 12.6; APM volume 2, 7.6.1).
    pub(crate) fn make_ready(&mut self) {
        if std::mem::take(&mut self.is_fresh) {
            serialize();
        }
    }

    /// The address to execute the code at `at`.
    pub(crate) fn address(&self, at: Offset) -> NonNull<u8> {
        assert!(
            (at as usize) < self.bytes,
            "bug: code outside of code memory"
        );
        // SAFETY: inside of the mapping.
        unsafe { self.execute.add(at as usize) }
    }
}

/// A return from interrupt to the next instruction: of the serializing
/// instructions the one that costs least, and that no hypervisor traps.
fn serialize() {
    // SAFETY: the frame that IRETQ takes off the stack holds the stack pointer
    // as it was, the flags and selectors as they are, and the address behind
    // it; so nothing has changed but `spare`. The block may push: it isn't
    // `nostack`.
    unsafe {
        std::arch::asm!(
            "mov {spare:e}, ss",
            "push {spare}",
            "lea {spare}, [rsp + 8]",
            "push {spare}",
            "pushfq",
            "mov {spare:e}, cs",
            "push {spare}",
            "lea {spare}, [rip + 2f]",
            "push {spare}",
            "iretq",
            "2:",
            spare = out(reg) _,
        );
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        for base in [self.write, self.execute] {
            // SAFETY: this value made the mappings, with this length, and no
            // code in them runs any more. A failure would only leak them.
            let _ = unsafe { munmap(base.as_ptr().cast::<c_void>(), self.bytes) };
        }
    }
}
