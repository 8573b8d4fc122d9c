//! The cell: the child process in which generated code runs on the processor itself.
//!
//! It lives in a signal handler. A case is loaded by writing its registers into the handler's own
//! signal frame and returning: the kernel loads general, x87 and SSE registers, flags and mode in
//! one go, with the trap flag set. After one instruction, or at a fault, the kernel brings it all
//! back in the next frame. So a case costs two crossings and no system call but the return.
//!
//! Laws: after the first case FS.base is the case's, so nothing here may touch thread-local
//! storage (no allocation, no panic that is meant to be seen, no libc call that sets `errno`).
//! Memory of the case is written through an alias mapping, never at the case's own addresses.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::desk::{Answer, CHANGES_MAX, Desk, Request, SLOTS, kind};
use super::filter;
use crate::case::Change;
use crate::layout::{self, PAGE_BYTES, PAGES_TOTAL, REGIONS, selector};
use crate::state::flag;

const WORDS: usize = (PAGES_TOTAL * PAGE_BYTES / 8) as usize;
const ALT_STACK_BYTES: usize = 256 * 1024;

/// Indices into `mcontext_t::gregs` by register encoding, RAX first.
const GREG_OF_GPR: [usize; 16] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];
const GREG_RIP: usize = 16;
const GREG_EFL: usize = 17;
const GREG_SELECTORS: usize = 18;
const GREG_ERR: usize = 19;
const GREG_TRAPNO: usize = 20;
const GREG_CR2: usize = 22;

/// Bits of XSTATE_BV.
const X87_AND_SSE: u64 = 3;
const AVX: u64 = 4;
/// Where the AVX part lies in a signal frame's XSAVE image.
const YMM_HIGH_AT: usize = 576;

const VECTOR_DB: i64 = 1;
const VECTOR_BP: i64 = 3;

/// What the handler keeps between two signals.
struct Cell {
    desk: *mut Desk,
    /// All regions one after another, writable.
    alias: *mut u64,
    /// What `alias` held when the case started.
    before: [u64; WORDS],
    seen: u32,
    len: u32,
    current: u32,
    steps: u32,
    running: bool,
    /// Whether a signal frame has an AVX part.
    has_avx: bool,
}

static CELL: AtomicPtr<Cell> = AtomicPtr::new(ptr::null_mut());

/// Exit codes of the cell, for the owner's message.
pub(super) mod exit {
    /// A call failed while it was being set up.
    pub(in super::super) const SET_UP: i32 = 40;
    /// A signal came while no case was running: a bug in the cell.
    pub(in super::super) const UNEXPECTED: i32 = 41;
}

/// Runs the cell in a freshly forked child. Never returns.
///
/// # Safety
/// Only in a child just forked, with `desk` mapped shared and used by nobody but its owner's
/// other side.
pub(super) unsafe fn run(desk: *mut Desk, has_avx: bool) -> ! {
    // SAFETY: handed on from the caller.
    if unsafe { set_up(desk, has_avx) }.is_some() {
        // SAFETY: a breakpoint; its handler was just installed and never comes back here.
        unsafe { std::arch::asm!("int3") };
    }
    // SAFETY: ends this process; nothing is left to run.
    unsafe { libc::_exit(exit::SET_UP) }
}

/// # Safety
/// As for [`run`].
unsafe fn set_up(desk: *mut Desk, has_avx: bool) -> Option<()> {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let alias = map_memory()?;
    let cell = map(
        0,
        std::mem::size_of::<Cell>(),
        libc::PROT_READ | libc::PROT_WRITE,
        None,
    )?
    .cast::<Cell>();
    // SAFETY: `cell` is a fresh mapping of the right size, page-aligned; zero is a valid Cell, so
    // the fields that are not written here are initialised as well.
    unsafe {
        (*cell).desk = desk;
        (*cell).alias = alias;
        (*cell).has_avx = has_avx;
        for region in &REGIONS {
            let first = word_of(region.start)?;
            for word in 0..(region.len_bytes() / 8) as usize {
                let value = layout::baseline(region.start + 8 * word as u64);
                (*cell).before[first + word] = value;
                alias.add(first + word).write_volatile(value);
            }
        }
    }
    CELL.store(cell, Ordering::SeqCst);
    install_handler()?;
    limit()?;
    set_data_selectors();
    filter::install().ok()
}

fn map(at: u64, len: usize, protection: i32, file: Option<(i32, u64)>) -> Option<*mut u8> {
    let (fd, offset) = file.unwrap_or((-1, 0));
    let mut flags = if file.is_some() {
        libc::MAP_SHARED
    } else {
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS
    };
    flags |= libc::MAP_POPULATE;
    if at != 0 {
        flags |= libc::MAP_FIXED_NOREPLACE;
    }
    // SAFETY: never replaces a mapping: the kernel chooses the place, or refuses an occupied one.
    let place = unsafe {
        libc::mmap(
            at as *mut libc::c_void,
            len,
            protection,
            flags,
            fd,
            i64::try_from(offset).ok()?,
        )
    };
    (place != libc::MAP_FAILED && (at == 0 || place as u64 == at)).then_some(place.cast())
}

/// Maps every region at its address with its rights, and all of them once more, writable.
fn map_memory() -> Option<*mut u64> {
    let len = PAGES_TOTAL * PAGE_BYTES;
    // SAFETY: the name is a C string; the call touches no other memory.
    let fd = unsafe { libc::memfd_create(c"cell".as_ptr(), 0) };
    // SAFETY: plain integers.
    if fd < 0 || unsafe { libc::ftruncate(fd, i64::try_from(len).ok()?) } != 0 {
        return None;
    }
    let alias = map(
        0,
        usize::try_from(len).ok()?,
        libc::PROT_READ | libc::PROT_WRITE,
        Some((fd, 0)),
    )?;
    let mut offset = 0;
    for region in &REGIONS {
        let mut protection = libc::PROT_READ;
        if region.rights.write {
            protection |= libc::PROT_WRITE;
        }
        if region.rights.execute {
            protection |= libc::PROT_EXEC;
        }
        map(
            region.start,
            usize::try_from(region.len_bytes()).ok()?,
            protection,
            Some((fd, offset)),
        )?;
        offset += region.len_bytes();
    }
    Some(alias.cast())
}

fn install_handler() -> Option<()> {
    let stack = map(0, ALT_STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE, None)?;
    let alt = libc::stack_t {
        ss_sp: stack.cast(),
        ss_flags: 0,
        ss_size: ALT_STACK_BYTES,
    };
    // SAFETY: `alt` describes a mapping that lives as long as the process.
    if unsafe { libc::sigaltstack(&raw const alt, ptr::null_mut()) } != 0 {
        return None;
    }
    for signal in [
        libc::SIGTRAP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGSYS,
    ] {
        // SAFETY: an all-zero sigaction is a valid one.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = enter as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: `enter` has the signature of a SA_SIGINFO handler and touches only the cell's
        // own mappings.
        if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return None;
        }
    }
    Some(())
}

/// No files, no core, no new memory to speak of, an hour of CPU.
fn limit() -> Option<()> {
    // SAFETY: plain integers; this child needs none of its files any more.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) } != 0 {
        return None;
    }
    for (resource, max) in [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_NOFILE, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_NPROC, 0),
        (libc::RLIMIT_CPU, 3600),
    ] {
        let limit = libc::rlimit {
            rlim_cur: max,
            rlim_max: max,
        };
        // SAFETY: `limit` lives until the call has copied it.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return None;
        }
    }
    Some(())
}

/// DS and ES to what [`selector`] says, FS and GS to null. 64-bit kernels leave them alone.
fn set_data_selectors() {
    // SAFETY: loads Linux's flat user data segment, which 64-bit code ignores, and null selectors;
    // called only where FS.base and GS.base are set afresh or not used any more.
    unsafe {
        std::arch::asm!(
            "mov ds, {data:x}", "mov es, {data:x}",
            data = in(reg) u64::from(selector::FLAT_DATA), options(nostack, nomem, preserves_flags)
        );
    }
}

/// Puts DS, ES, FS and GS back if the code under test changed them.
fn restore_selectors() {
    let (ds, es, fs, gs): (u64, u64, u64, u64);
    // SAFETY: reads four selectors.
    unsafe {
        std::arch::asm!(
            "mov {0:r}, ds", "mov {1:r}, es", "mov {2:r}, fs", "mov {3:r}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nostack, nomem, preserves_flags)
        );
    }
    let data = u64::from(selector::FLAT_DATA);
    if ds != data || es != data {
        set_data_selectors();
    }
    if fs != 0 || gs != 0 {
        // SAFETY: null selectors; the bases are set afresh by the caller.
        unsafe {
            std::arch::asm!("mov fs, {0:x}", "mov gs, {0:x}", in(reg) 0_u64, options(nostack, nomem, preserves_flags));
        }
    }
}

fn bases() -> (u64, u64) {
    let (fs, gs);
    // SAFETY: reads two registers; the owner has checked that the kernel enables these.
    unsafe {
        std::arch::asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs, options(nostack, nomem, preserves_flags));
    }
    (fs, gs)
}

fn set_bases(fs: u64, gs: u64) {
    // SAFETY: nothing in the handler uses FS or GS (see the head of this file); the bases are
    // canonical, the owner has checked.
    unsafe {
        std::arch::asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs, options(nostack, nomem, preserves_flags));
    }
}

/// The index in `alias` of the quadword at a present address.
fn word_of(address: u64) -> Option<usize> {
    let mut first = 0;
    for region in &REGIONS {
        if address >= region.start && address < region.end() {
            return usize::try_from((first + address - region.start) / 8).ok();
        }
        first += region.len_bytes();
    }
    None
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: FUTEX_WAIT and FUTEX_WAKE only read `word`; no libc, hence no `errno`.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_futex => _,
            in("rdi") ptr::from_ref(word), in("rsi") i64::from(operation), in("rdx") u64::from(value),
            in("r10") 0_u64, in("r8") 0_u64, in("r9") 0_u64,
            lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
}

fn exit_now(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe {
        std::arch::asm!("syscall", in("rax") libc::SYS_exit_group, in("rdi") i64::from(code), options(noreturn, nostack));
    }
}

/// Where the kernel enters on every signal: clears AC, which the handler's own accesses may not
/// have set, and NT and ID, which the kernel would let the next case have; goes on to
/// [`on_signal`].
#[unsafe(naked)]
extern "C" fn enter() {
    std::arch::naked_asm!(
        "pushfq",
        "and qword ptr [rsp], {mask}",
        "popfq",
        "jmp {handler}",
        mask = const !(flag::AC | flag::NT | flag::ID | flag::TF) as i32,
        handler = sym on_signal,
    )
}

extern "C" fn on_signal(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: set before the handler was installed, never freed; signals do not nest while a
    // reference lives, since one that comes while no case runs ends the process.
    let cell = unsafe { &mut *CELL.load(Ordering::SeqCst) };
    // SAFETY: the kernel hands a valid frame on this handler's own stack.
    let context = unsafe { &mut *context };
    if cell.running {
        if !cell.finish(signal, context) {
            return;
        }
        cell.current += 1;
    } else if cell.seen != 0 {
        exit_now(exit::UNEXPECTED);
    }
    cell.running = false;
    if cell.current == cell.len {
        cell.next_batch();
    }
    cell.start(context);
    cell.running = true;
}

impl Cell {
    fn next_batch(&mut self) {
        // SAFETY: the desk stays mapped; these fields are atomics.
        let (posted, answered, len) = unsafe {
            (
                &(*self.desk).posted,
                &(*self.desk).answered,
                &(*self.desk).len,
            )
        };
        answered.store(self.seen, Ordering::SeqCst);
        futex(answered, libc::FUTEX_WAKE, 1);
        while posted.load(Ordering::SeqCst) == self.seen {
            futex(posted, libc::FUTEX_WAIT, self.seen);
        }
        self.seen = posted.load(Ordering::SeqCst);
        self.len = len.load(Ordering::SeqCst);
        self.current = 0;
        if self.len == 0 || self.len as usize > SLOTS {
            exit_now(0);
        }
    }

    fn request(&self) -> *const Request {
        // SAFETY: `current` is below `len`, which is at most SLOTS.
        unsafe {
            (&raw const (*self.desk).requests)
                .cast::<Request>()
                .add(self.current as usize)
        }
    }

    fn answer(&self) -> *mut Answer {
        // SAFETY: as for `request`.
        unsafe {
            (&raw mut (*self.desk).answers)
                .cast::<Answer>()
                .add(self.current as usize)
        }
    }

    /// Lays a case into memory and into the frame that the handler is about to return to.
    fn start(&mut self, context: &mut libc::ucontext_t) {
        // SAFETY: the desk stays mapped; the owner does not write requests before all are answered.
        let request = unsafe { &*self.request() };
        // SAFETY: an atomic field of the desk.
        unsafe { (*self.desk).current.store(self.current, Ordering::SeqCst) };
        self.lay(request, Some(()));
        self.steps = 0;
        let gregs = &mut context.uc_mcontext.gregs;
        for (i, value) in request.state.gpr.iter().enumerate() {
            gregs[GREG_OF_GPR[i]] = value.cast_signed();
        }
        gregs[GREG_RIP] = request.state.rip.cast_signed();
        let mut rflags = request.state.rflags & flag::CHOOSABLE | flag::IF | 2;
        if request.free == 0 {
            rflags |= flag::TF;
        }
        gregs[GREG_EFL] = rflags.cast_signed();
        let code = if request.compat == 1 {
            selector::CODE_32
        } else {
            selector::CODE_64
        };
        gregs[GREG_SELECTORS] = i64::from(code) | i64::from(selector::FLAT_DATA) << 48;
        let image = context.uc_mcontext.fpregs.cast::<u8>();
        // SAFETY: the kernel's frame holds an XSAVE image of at least 512 + 64 bytes here; bytes
        // 464..512 are the kernel's own and stay. Where there is AVX, its part follows the header
        // (SDM vol. 1, 13.4.3). XSTATE_BV says which parts are to be loaded, the others that they
        // are to be reset.
        unsafe {
            ptr::copy_nonoverlapping(request.state.fx.0.as_ptr(), image, 416);
            let mut components = X87_AND_SSE;
            if self.has_avx {
                components |= AVX;
                let high = image.add(YMM_HIGH_AT).cast::<[u128; 16]>();
                high.write_unaligned(request.state.ymm_high);
            }
            image.add(512).cast::<u64>().write_unaligned(components);
        }
        restore_selectors();
        set_bases(request.state.fs_base, request.state.gs_base);
    }

    /// Writes the pieces of a case into memory, or (`None`) the baseline back over them.
    fn lay(&mut self, request: &Request, forward: Option<()>) {
        for patch in request.patches.iter().take(request.patches_len as usize) {
            self.lay_piece(
                patch.address,
                &patch.bytes[..(patch.len as usize).min(patch.bytes.len())],
                forward,
            );
        }
        let len = (request.code_len as usize).min(request.code.len());
        self.lay_piece(request.state.rip, &request.code[..len], forward);
    }

    fn lay_piece(&mut self, start: u64, bytes: &[u8], forward: Option<()>) {
        for (i, byte) in bytes.iter().enumerate() {
            let address = start.wrapping_add(i as u64);
            let Some(word) = word_of(address) else {
                continue;
            };
            let shift = 8 * (address & 7);
            let byte = match forward {
                Some(()) => u64::from(*byte),
                None => layout::baseline(address & !7) >> shift & 0xff,
            };
            self.before[word] = self.before[word] & !(0xff << shift) | byte << shift;
            // SAFETY: `word_of` is below WORDS, the length of the alias mapping.
            unsafe { self.alias.add(word).write_volatile(self.before[word]) };
        }
    }

    /// Takes the answer from the frame; false if the case is to go on for another step.
    fn finish(&mut self, signal: i32, context: &mut libc::ucontext_t) -> bool {
        // SAFETY: as in `start`.
        let request = unsafe { &*self.request() };
        // SAFETY: the owner does not read answers before all are given.
        let answer = unsafe { &mut *self.answer() };
        let gregs = &mut context.uc_mcontext.gregs;
        let rip = gregs[GREG_RIP].cast_unsigned();
        let inside = rip.wrapping_sub(request.state.rip) < u64::from(request.code_len);
        let (vector, stepping) = (gregs[GREG_TRAPNO], request.free == 0);
        let wants_trap = request.state.rflags & flag::TF != 0;
        answer.kind = kind::FAULT;
        answer.state.rip = rip;
        if signal == libc::SIGSYS {
            answer.kind = kind::SYSTEM_CALL;
        } else if signal == libc::SIGTRAP && vector == VECTOR_DB && stepping && !wants_trap {
            self.steps += 1;
            if inside && self.steps < request.steps_max {
                gregs[GREG_EFL] |= flag::TF.cast_signed();
                return false;
            }
            answer.kind = if inside { kind::ENDLESS } else { kind::LEFT };
        } else if signal == libc::SIGTRAP
            && vector == VECTOR_BP
            && rip.wrapping_sub(1) == request.state.rip.wrapping_add(u64::from(request.code_len))
        {
            // The filler behind the code.
            answer.kind = kind::LEFT;
            answer.state.rip = rip.wrapping_sub(1);
        }
        answer.vector = u32::try_from(vector).unwrap_or(u32::MAX);
        answer.error = gregs[GREG_ERR].cast_unsigned();
        answer.address = gregs[GREG_CR2].cast_unsigned();
        for (i, value) in answer.state.gpr.iter_mut().enumerate() {
            *value = gregs[GREG_OF_GPR[i]].cast_unsigned();
        }
        answer.state.rflags = gregs[GREG_EFL].cast_unsigned();
        if stepping && !wants_trap {
            answer.state.rflags &= !flag::TF;
        }
        (answer.state.fs_base, answer.state.gs_base) = bases();
        // SAFETY: the image is as in `start`.
        unsafe {
            ptr::copy_nonoverlapping(
                context.uc_mcontext.fpregs.cast::<u8>(),
                answer.state.fx.0.as_mut_ptr(),
                416,
            );
            let image = context.uc_mcontext.fpregs.cast::<u8>();
            let components = image.add(512).cast::<u64>().read_unaligned();
            answer.state.ymm_high = if self.has_avx && components & AVX != 0 {
                image.add(YMM_HIGH_AT).cast::<[u128; 16]>().read_unaligned()
            } else {
                [0; 16]
            };
        }
        self.collect(answer);
        self.lay(request, None);
        true
    }

    /// Finds what memory the case changed, tells it, and puts it back.
    fn collect(&mut self, answer: &mut Answer) {
        let (mut first, mut len) = (0, 0);
        answer.overflowed = 0;
        for region in &REGIONS {
            let words = (region.len_bytes() / 8) as usize;
            for i in 0..if region.rights.write { words } else { 0 } {
                // SAFETY: `first + i` is below WORDS, the length of the alias mapping.
                let value = unsafe { self.alias.add(first + i).read_volatile() };
                if value == self.before[first + i] {
                    continue;
                }
                match answer.changes.get_mut(len) {
                    Some(change) => {
                        *change = Change {
                            address: region.start + 8 * i as u64,
                            value,
                        }
                    }
                    None => answer.overflowed = 1,
                }
                len += 1;
                // SAFETY: as above.
                unsafe {
                    self.alias
                        .add(first + i)
                        .write_volatile(self.before[first + i])
                };
            }
            first += words;
        }
        answer.changes_len = u32::try_from(len.min(CHANGES_MAX)).unwrap_or(0);
    }
}
