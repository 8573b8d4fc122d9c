//! What translated code reaches besides guest memory: the frame, where pages
//! are mapped, the fast TLB and the jump cache, in one mapping that the host's
//! `rsp` points into.
//!
//! ```text
//! guard page | host stack of helpers | Frame | mapped | fast TLB | jump cache | chunks, twice
//!                                    ^ rsp
//! ```
//!
//! Everything is addressed as `[rsp + constant]` or `[rsp + index + constant]`,
//! so that no host register is spent on it. Below the frame is an ordinary
//! stack: helpers and the host's signal handlers run on it.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::NonNull;

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};

use crate::register::LEFT_SHIFT;
use crate::{cache, mapped, tlb, window};

/// State that translated code and Rust code share.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// Why and where translated code was left: a number in
    /// [`crate::site::Sites`].
    pub(crate) site: u64,
    /// Linear address of the page that the code in execution lies in.
    pub(crate) code_base: u64,
    /// 0 while the guest's SIMD registers are in the host's.
    pub(crate) simd_absent: u64,
    /// 0 while the guest's x87 unit is in the host's.
    pub(crate) x87_absent: u64,
    /// The x87 unit's instruction pointer.
    pub(crate) x87_pointer: u64,
    /// Base of FS.
    pub(crate) fs_base: u64,
    /// Base of GS.
    pub(crate) gs_base: u64,
    /// What SWAPGS swaps with the base of GS.
    pub(crate) kernel_gs_base: u64,
    /// Whose rights memory accesses have, by its number: STAC and CLAC change it.
    pub(crate) space: u64,
    /// Of the time-stamp counter's line ([`cpu::TscLine`]): how many branches from
    /// where it begins to the last before the run is to stop.
    pub(crate) tsc_from: u64,
    /// Its slope; 0: only the interpreter can tell the counter.
    pub(crate) tsc_rate: u64,
    /// The counter where the line begins.
    pub(crate) tsc_base: u64,
    /// What the guest has added to it.
    pub(crate) tsc_adjust: u64,
    /// What RDTSCP gives beside it.
    pub(crate) tsc_aux: u64,
    /// Where the helper has translated code go on.
    pub(crate) go_on: u64,
    /// A word for translated code: the target of an indirect jump.
    pub(crate) temp: u64,
    /// The guest's `rsi` and `rdi`, while the host's own string instruction runs.
    pub(crate) pointers: [u64; 2],
    /// The guest's flags and how many branches are left, as
    /// [`crate::register::FLAGS`] holds them.
    flags: u64,
    /// The guest's other flags.
    pub(crate) rest: u64,
    /// Whether an interrupt waits.
    pub(crate) interrupt: u64,
    /// Guest registers 8 to 15.
    pub(crate) high: [u64; 8],
    /// Guest registers 0 to 7.
    pub(crate) low: [u64; 8],
    /// The host's stack pointer to return to.
    pub(crate) host_rsp: u64,
    /// [`crate::slow::slow`].
    pub(crate) helper: u64,
    /// Its argument.
    pub(crate) context: u64,
    /// The x87 unit, while it is in the host's and translated code isn't running.
    pub(crate) x87: crate::x87::Image,
    /// Address of the guest's XMM registers.
    pub(crate) xmm: u64,
    /// Address of the upper halves of the guest's YMM registers; 0: it has none.
    pub(crate) ymm_high: u64,
    /// Address of the guest's segment registers.
    pub(crate) segments: u64,
    /// Address of the guest's MXCSR.
    pub(crate) mxcsr: u64,
    /// The host's MXCSR.
    pub(crate) host_mxcsr: u64,
}

impl Frame {
    /// Takes the guest's registers from `gpr`.
    pub(crate) fn set_gprs(&mut self, gpr: &[u64]) {
        self.low.copy_from_slice(&gpr[..8]);
        self.high.copy_from_slice(&gpr[8..16]);
    }

    /// The guest's flags, saved.
    pub(crate) fn flags(&self) -> u16 {
        let [low, high, ..] = self.flags.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// How many branches are left until the run is to stop.
    pub(crate) fn left(&self) -> u64 {
        (self.flags.cast_signed() >> LEFT_SHIFT)
            .cast_unsigned()
            .wrapping_add(1)
    }

    /// Sets both.
    pub(crate) fn set_flags(&mut self, flags: u16, left: u64) {
        self.flags = left.wrapping_sub(1) << LEFT_SHIFT | u64::from(flags);
    }

    /// Gives the guest's registers to `gpr`.
    pub(crate) fn get_gprs(&self, gpr: &mut [u64]) {
        gpr[..8].copy_from_slice(&self.low);
        gpr[8..16].copy_from_slice(&self.high);
    }
}

/// Displacements from `rsp`.
pub(crate) mod at {
    use super::{FRAME_BYTES, Frame, offset_of};
    use crate::{cache, mapped, tlb, window};

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the frame and its tables are a few megabytes"
    )]
    const fn disp(offset: usize) -> i32 {
        offset as i32
    }

    pub(crate) const SITE: i32 = disp(offset_of!(Frame, site));
    pub(crate) const CODE_BASE: i32 = disp(offset_of!(Frame, code_base));
    pub(crate) const SIMD_ABSENT: i32 = disp(offset_of!(Frame, simd_absent));
    pub(crate) const X87_ABSENT: i32 = disp(offset_of!(Frame, x87_absent));
    pub(crate) const X87_POINTER: i32 = disp(offset_of!(Frame, x87_pointer));
    pub(crate) const X87: i32 = disp(offset_of!(Frame, x87));
    pub(crate) const FS_BASE: i32 = disp(offset_of!(Frame, fs_base));
    pub(crate) const GS_BASE: i32 = disp(offset_of!(Frame, gs_base));
    pub(crate) const KERNEL_GS_BASE: i32 = disp(offset_of!(Frame, kernel_gs_base));
    pub(crate) const SPACE: i32 = disp(offset_of!(Frame, space));
    pub(crate) const TSC_FROM: i32 = disp(offset_of!(Frame, tsc_from));
    pub(crate) const TSC_RATE: i32 = disp(offset_of!(Frame, tsc_rate));
    pub(crate) const TSC_BASE: i32 = disp(offset_of!(Frame, tsc_base));
    pub(crate) const TSC_ADJUST: i32 = disp(offset_of!(Frame, tsc_adjust));
    pub(crate) const TSC_AUX: i32 = disp(offset_of!(Frame, tsc_aux));
    pub(crate) const GO_ON: i32 = disp(offset_of!(Frame, go_on));
    pub(crate) const TEMP: i32 = disp(offset_of!(Frame, temp));
    pub(crate) const FLAGS: i32 = disp(offset_of!(Frame, flags));
    pub(crate) const REST: i32 = disp(offset_of!(Frame, rest));
    pub(crate) const INTERRUPT: i32 = disp(offset_of!(Frame, interrupt));
    pub(crate) const SEGMENTS: i32 = disp(offset_of!(Frame, segments));
    pub(crate) const HOST_RSP: i32 = disp(offset_of!(Frame, host_rsp));
    pub(crate) const HELPER: i32 = disp(offset_of!(Frame, helper));
    pub(crate) const CONTEXT: i32 = disp(offset_of!(Frame, context));
    pub(crate) const YMM_HIGH: i32 = disp(offset_of!(Frame, ymm_high));
    pub(crate) const XMM: i32 = disp(offset_of!(Frame, xmm));
    pub(crate) const MXCSR: i32 = disp(offset_of!(Frame, mxcsr));
    pub(crate) const HOST_MXCSR: i32 = disp(offset_of!(Frame, host_mxcsr));
    /// Where the windows of `side` are.
    pub(crate) const fn chunks(side: window::Side) -> i32 {
        disp(CHUNKS_FROM + side.table_offset())
    }
    /// Where pages are mapped.
    pub(crate) const MAPPED: i32 = disp(MAPPED_FROM);
    /// The fast TLB.
    pub(crate) const TLB: i32 = disp(TLB_FROM);
    /// The jump cache.
    pub(crate) const JUMPS: i32 = disp(JUMPS_FROM);

    pub(super) const MAPPED_FROM: usize = FRAME_BYTES;
    pub(super) const TLB_FROM: usize = MAPPED_FROM + mapped::BYTES;
    pub(super) const JUMPS_FROM: usize = TLB_FROM + tlb::BYTES;
    pub(super) const CHUNKS_FROM: usize = JUMPS_FROM + cache::JUMPS_BYTES;
    /// The end of everything.
    pub(super) const END: usize = CHUNKS_FROM + window::BYTES;

    /// The place of page `number` in the table of where pages are mapped.
    pub(crate) const fn mapped(number: mapped::Number) -> i32 {
        MAPPED + disp(number as usize * size_of::<u64>())
    }

    /// Of [`Frame::pointers`] number `n`.
    pub(crate) const fn pointer(n: usize) -> i32 {
        disp(offset_of!(Frame, pointers) + 8 * n)
    }

    /// Guest register `number`.
    pub(crate) const fn gpr(number: u8) -> i32 {
        let (array, n) = if number < 8 {
            (offset_of!(Frame, low), number)
        } else {
            (offset_of!(Frame, high), number - 8)
        };
        disp(array + 8 * n as usize)
    }
}

/// Where the frame is, from the start of a page. It is the address in `rsp`, whose
/// low six bits thus are a count for shifts: by them an address becomes the number
/// of its chunk.
const FRAME_OFFSET: usize = window::CHUNK_BITS as usize;
const _: () = assert!(FRAME_OFFSET < 64 && FRAME_OFFSET.is_multiple_of(16));
/// Room for the frame: the rest of the page, so that the tables behind it begin at
/// one.
const FRAME_BYTES: usize = 4096 - FRAME_OFFSET;
const _: () = assert!(size_of::<Frame>() <= FRAME_BYTES);
/// The host stack that helpers run on.
const STACK_BYTES: usize = 1 << 20;
const GUARD_BYTES: usize = 4096;
/// The host's large pages: the frame begins at one, so that it and the tables
/// behind it lie in few of them.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// The mapping.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to this value alone and moves with it.
unsafe impl Send for Region {}

impl Region {
    /// A region of zeros: a frame, an empty TLB and jump cache.
    pub(crate) fn new() -> std::io::Result<Region> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's
        // choice aliases nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                Self::LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        // SAFETY: as above; it changes nothing but the mapping's speed. A host
        // that has no large pages does without.
        let _ = unsafe { madvise(base, Self::DENSE_BYTES, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).expect("mmap never returns null without MAP_FIXED");
        let region = Region { base };
        // SAFETY: the first page of a mapping that nothing uses yet.
        unsafe { mprotect(base.as_ptr().cast(), GUARD_BYTES, MprotectFlags::empty()) }?;
        Ok(region)
    }

    const LENGTH: usize = GUARD_BYTES + STACK_BYTES + LARGE_PAGE_BYTES + at::END;

    /// All but the table of chunks, which is almost all zeros.
    const DENSE_BYTES: usize = Self::LENGTH - window::BYTES;

    /// The frame. Valid as long as the region is.
    pub(crate) fn frame(&self) -> NonNull<Frame> {
        // SAFETY: inside of the mapping.
        let lowest = unsafe { self.base.add(GUARD_BYTES + STACK_BYTES) };
        let skipped = lowest.as_ptr().align_offset(LARGE_PAGE_BYTES);
        // SAFETY: less than a large page further, for which there is room.
        unsafe { lowest.add(skipped + FRAME_OFFSET).cast() }
    }

    /// The fast TLB's entries.
    pub(crate) fn tlb(&mut self) -> &mut [tlb::Entry; tlb::COUNT] {
        // SAFETY: inside of the mapping and aligned; all bit patterns are
        // entries; the borrow keeps everyone else away but translated code,
        // which does not run while Rust code holds a borrow.
        unsafe { self.frame().byte_add(at::TLB_FROM).cast().as_mut() }
    }

    /// Where the windows of `side` are: what to add to an address, by its chunk.
    pub(crate) fn chunks(&mut self, side: window::Side) -> &mut [u64; window::CHUNKS] {
        let from = at::CHUNKS_FROM + side.table_offset();
        // SAFETY: as for `tlb`.
        unsafe { self.frame().byte_add(from).cast().as_mut() }
    }

    /// Where pages are mapped: [`crate::mapped::Mapped`]'s table.
    pub(crate) fn mapped(&mut self) -> &mut [u64; mapped::PAGES] {
        // SAFETY: as for `tlb`, which begins where this ends.
        unsafe { self.frame().byte_add(at::MAPPED_FROM).cast().as_mut() }
    }

    /// The jump cache's entries.
    pub(crate) fn jumps(&mut self) -> &mut [cache::Jump; cache::JUMPS] {
        // SAFETY: as for `tlb`, which ends where this begins.
        unsafe { self.frame().byte_add(at::JUMPS_FROM).cast().as_mut() }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, with this length, and nothing
        // points into it once the value is gone. A failure would only leak it.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), Self::LENGTH) };
    }
}
