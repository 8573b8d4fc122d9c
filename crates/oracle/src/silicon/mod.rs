//! The host's processor as a subject: the owner's side of the cell.

mod cell;
mod desk;
mod filter;

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::case::{
    CODE_BYTES_MAX, Case, End, Fault, Mode, Outcome, PATCH_BYTES_MAX, PATCHES_MAX, STEPS_MAX,
    Subject,
};
use crate::state::{MXCSR_VALID, MachineState, flag};
use desk::{Answer, Desk, DeskPatch, Request, SLOTS, kind};

/// A batch that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);
/// `AT_HWCAP2` bit 1: the kernel lets user code use RDFSBASE and friends.
const HWCAP2_FSGSBASE: u64 = 2;

/// The host's processor: runs cases in a confined child process.
///
/// The child holds no files, may make no system call but to wait and to end, and dies with its
/// owner. If a case kills it (a stray store into its own memory), the case is [`End::Lost`] and a
/// new child goes on with the next.
#[derive(Debug)]
pub struct Silicon {
    desk: *mut Desk,
    child: libc::pid_t,
}

impl Silicon {
    /// Starts the child.
    ///
    /// # Errors
    /// If the host is no 64-bit Linux with FSGSBASE, or refuses a mapping or a process.
    pub fn start() -> io::Result<Self> {
        // SAFETY: plain integers.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel does not enable FSGSBASE, which the oracle's cell needs: use Linux 5.9 or later",
            ));
        }
        // SAFETY: a new shared mapping at a place of the kernel's choice.
        let desk = unsafe {
            libc::mmap(
                ptr::null_mut(),
                std::mem::size_of::<Desk>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if desk == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut silicon = Self {
            desk: desk.cast(),
            child: 0,
        };
        silicon.fork()?;
        Ok(silicon)
    }

    fn fork(&mut self) -> io::Result<()> {
        self.posted().store(0, Ordering::SeqCst);
        self.answered().store(0, Ordering::SeqCst);
        let has_avx = std::is_x86_feature_detected!("avx");
        // SAFETY: the child runs only `cell::run`, which uses nothing that another thread of this
        // process could hold locked: it allocates nothing and takes no lock.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the child; the desk is shared and the owner waits for `answered`.
            0 => unsafe { cell::run(self.desk, has_avx) },
            child => {
                self.child = child;
                Ok(())
            }
        }
    }

    fn posted(&self) -> &AtomicU32 {
        // SAFETY: the desk lives as long as `self`; the field is an atomic.
        unsafe { &(*self.desk).posted }
    }

    fn answered(&self) -> &AtomicU32 {
        // SAFETY: as for `posted`.
        unsafe { &(*self.desk).answered }
    }

    /// Runs at most [`SLOTS`] cases; returns how many were answered and, if not all, why.
    fn run_batch(&mut self, cases: &[Case]) -> (usize, Option<&'static str>) {
        for (slot, case) in cases.iter().enumerate() {
            // SAFETY: `slot` is below SLOTS; the cell reads requests only after `posted` is raised.
            unsafe {
                (&raw mut (*self.desk).requests)
                    .cast::<Request>()
                    .add(slot)
                    .write(request(case))
            };
        }
        let ticket = self.posted().load(Ordering::SeqCst).wrapping_add(1).max(1);
        // SAFETY: atomic fields of the desk.
        unsafe {
            (*self.desk).current.store(0, Ordering::SeqCst);
            (*self.desk).len.store(
                u32::try_from(cases.len()).expect("at most SLOTS"),
                Ordering::SeqCst,
            );
        }
        self.posted().store(ticket, Ordering::SeqCst);
        wake(self.posted());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answered = self.answered().load(Ordering::SeqCst);
            if answered == ticket {
                return (cases.len(), None);
            }
            wait(self.answered(), answered, Duration::from_millis(50));
            let why = match self.child_ended() {
                Some(why) => why,
                None if Instant::now() < deadline => continue,
                None => "it hung, and was killed",
            };
            // SAFETY: an atomic field of the desk.
            let current = unsafe { (*self.desk).current.load(Ordering::SeqCst) } as usize;
            return (current.min(cases.len() - 1), Some(why));
        }
    }

    fn child_ended(&mut self) -> Option<&'static str> {
        let mut status = 0;
        // SAFETY: `child` is this process's own child, not waited for yet.
        if unsafe { libc::waitpid(self.child, &raw mut status, libc::WNOHANG) } != self.child {
            return None;
        }
        self.child = 0;
        Some(
            match libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)) {
                Some(cell::exit::SET_UP) => "the cell could not set itself up",
                Some(cell::exit::UNEXPECTED) => "the cell itself took a signal",
                Some(_) => "the cell ended itself",
                None => "the cell was killed by a signal",
            },
        )
    }

    fn end_child(&mut self) {
        if self.child != 0 {
            // SAFETY: `child` is this process's own child, not waited for yet, so its id is its.
            unsafe {
                libc::kill(self.child, libc::SIGKILL);
                libc::waitpid(self.child, ptr::null_mut(), 0);
            }
            self.child = 0;
        }
    }

    fn outcome(&self, slot: usize, case: &Case) -> Outcome {
        // SAFETY: `slot` is below SLOTS; any bytes are a valid Answer; the cell is waiting.
        let answer = unsafe {
            (&raw const (*self.desk).answers)
                .cast::<Answer>()
                .add(slot)
                .read()
        };
        let mut state = answer.state;
        state.fx.clear_reserved();
        if case.mode == Mode::Compat {
            narrow(&mut state, &case.state);
        }
        let end = match answer.kind {
            kind::LEFT => End::Left,
            kind::ENDLESS => End::Endless,
            kind::SYSTEM_CALL => End::SystemCall,
            // Running freely to the end of its region it found no breakpoint, but nothing.
            kind::FAULT
                if is_fetch(&answer) && state.rip == case.code_end() && must_run_free(case) =>
            {
                End::Left
            }
            kind::FAULT => End::Fault(fault(&answer)),
            _ => End::Lost("the cell's answer makes no sense"),
        };
        let changes =
            answer.changes[..(answer.changes_len as usize).min(answer.changes.len())].to_vec();
        if answer.overflowed != 0 {
            return Outcome {
                end: End::Lost("it changed more memory than an answer holds"),
                state,
                changes,
            };
        }
        Outcome {
            end,
            state,
            changes,
        }
    }
}

/// What 32-bit code can't see is as it was.
fn narrow(state: &mut MachineState, before: &MachineState) {
    for i in 0..8 {
        state.gpr[i] &= 0xffff_ffff;
    }
    state.gpr[8..].copy_from_slice(&before.gpr[8..]);
    for i in 8..16 {
        state.fx.set_xmm(i, before.fx.xmm(i));
    }
    state.ymm_high[8..].copy_from_slice(&before.ymm_high[8..]);
}

/// Whether it is a page fault of an instruction fetch.
fn is_fetch(answer: &Answer) -> bool {
    answer.vector == 14 && answer.error & 0x10 != 0
}

fn fault(answer: &Answer) -> Fault {
    let vector = u8::try_from(answer.vector).unwrap_or(u8::MAX);
    Fault {
        vector,
        error: if matches!(vector, 10..=14 | 17) {
            answer.error as u32
        } else {
            0
        },
        address: (vector == 14).then_some(answer.address),
    }
}

fn request(case: &Case) -> Request {
    assert!(
        case.code.len() <= CODE_BYTES_MAX,
        "{}: too much code",
        case.name
    );
    assert!(
        case.patches.len() <= PATCHES_MAX,
        "{}: too many patches",
        case.name
    );
    assert!(
        case.state.fx.mxcsr() & !MXCSR_VALID == 0,
        "{}: MXCSR has reserved bits",
        case.name
    );
    let canonical = |base: u64| ((base << 16).cast_signed() >> 16).cast_unsigned() == base;
    assert!(
        canonical(case.state.fs_base) && canonical(case.state.gs_base),
        "{}: a base is not canonical",
        case.name
    );
    let mut request = Request {
        state: case.state,
        compat: u32::from(case.mode == Mode::Compat),
        free: u32::from(must_run_free(case)),
        steps_max: STEPS_MAX,
        code_len: u32::try_from(case.code.len()).expect("checked above"),
        patches_len: case.patches.len() as u64,
        code: [0; CODE_BYTES_MAX],
        patches: [DeskPatch {
            address: 0,
            len: 0,
            bytes: [0; PATCH_BYTES_MAX],
        }; PATCHES_MAX],
    };
    request.code[..case.code.len()].copy_from_slice(&case.code);
    for (to, from) in request.patches.iter_mut().zip(&case.patches) {
        assert!(
            from.bytes.len() <= PATCH_BYTES_MAX,
            "{}: a patch is too long",
            case.name
        );
        to.address = from.address;
        to.len = from.bytes.len() as u64;
        to.bytes[..from.bytes.len()].copy_from_slice(&from.bytes);
    }
    request
}

/// PUSHF and POPF would see the trap flag that stepping sets.
fn must_run_free(case: &Case) -> bool {
    use iced_x86::Mnemonic::{Popf, Popfd, Popfq, Pushf, Pushfd, Pushfq};
    if case.state.rflags & flag::TF != 0 {
        return false;
    }
    let mut decoder =
        iced_x86::Decoder::new(case.mode.bits(), &case.code, crate::case::decoder_options());
    std::iter::from_fn(|| decoder.can_decode().then(|| decoder.decode()))
        .any(|i| matches!(i.mnemonic(), Popf | Popfd | Popfq | Pushf | Pushfd | Pushfq))
}

fn wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE reads nothing but the address.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            ptr::from_ref(word),
            libc::FUTEX_WAKE,
            1,
            0,
            0,
            0,
        )
    };
}

fn wait(word: &AtomicU32, value: u32, most: Duration) {
    let most = libc::timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(most.subsec_nanos()),
    };
    // SAFETY: FUTEX_WAIT only reads `word` and `most`, which outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            ptr::from_ref(word),
            libc::FUTEX_WAIT,
            value,
            &raw const most,
            0,
            0,
        );
    }
}

impl Subject for Silicon {
    fn name(&self) -> &str {
        "silicon"
    }

    fn run(&mut self, case: &Case) -> Outcome {
        self.run_all(std::slice::from_ref(case)).remove(0)
    }

    fn run_all(&mut self, cases: &[Case]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(cases.len());
        while outcomes.len() < cases.len() {
            let rest = &cases[outcomes.len()..];
            let batch = &rest[..rest.len().min(SLOTS)];
            let (answered, lost) = self.run_batch(batch);
            for (slot, case) in batch[..answered].iter().enumerate() {
                outcomes.push(self.outcome(slot, case));
            }
            if let Some(why) = lost {
                outcomes.push(Outcome {
                    end: End::Lost(why),
                    state: batch[answered].state,
                    changes: Vec::new(),
                });
                self.end_child();
                self.fork().expect("the host gave a process before");
            }
        }
        outcomes
    }
}

impl Drop for Silicon {
    fn drop(&mut self) {
        self.end_child();
        // SAFETY: mapped by `start`, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.desk.cast(), std::mem::size_of::<Desk>()) };
    }
}
