//! The host's faults at what translated code does in a window ([`crate::window`]):
//! a signal's handler lets it go on at the way to the helper.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use crate::code::Offset;

/// Where translated code goes on after a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// If it was at `start..end`,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// it goes on here.
    pub(crate) to: Offset,
}

/// The translated code that this thread is in.
#[derive(Debug)]
struct Active {
    /// The host address of code memory.
    code: u64,
    /// Ascending.
    ways: *const [Way],
}

thread_local! {
    /// Read by the handler: of a type without destructor and initialized by a
    /// constant, so that reading it is reading memory.
    static ACTIVE: Cell<*const Active> = const { Cell::new(std::ptr::null()) };
}

/// Runs `run`, which runs translated code whose memory begins at host address
/// `code`; its faults go by `ways`, which are ascending.
pub(crate) fn with_ways<T>(code: u64, ways: &[Way], run: impl FnOnce() -> T) -> T {
    let active = Active { code, ways };
    ACTIVE.set(&raw const active);
    let done = run();
    ACTIVE.set(std::ptr::null());
    done
}

/// The way of a fault at host address `at`.
fn way(at: u64) -> Option<u64> {
    let active = ACTIVE.get();
    if active.is_null() {
        return None;
    }
    // SAFETY: `with_ways` is running on this thread, and its value lives on.
    let active = unsafe { &*active };
    // SAFETY: as above; nobody changes the ways while translated code runs.
    let ways = unsafe { &*active.ways };
    let offset = Offset::try_from(at.checked_sub(active.code)?).ok()?;
    let after = ways.partition_point(|way| way.start <= offset);
    let way = ways.get(after.checked_sub(1)?)?;
    (offset < way.end).then(|| active.code + u64::from(way.to))
}

/// What was done before at these signals.
static BEFORE: OnceLock<[libc::sigaction; 2]> = OnceLock::new();
/// An address that isn't canonical faults with the second where `rsp` or `rbp`
/// is in it.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

extern "C" fn on_fault(signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler with SA_SIGINFO its context, which is
    // the handler's alone.
    let rip = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
    if let Some(to) = way(rip.cast_unsigned()) {
        *rip = to.cast_signed();
        return;
    }
    // It is none of ours: it comes again, and whoever was there before sees it.
    let n = usize::from(signal != SIGNALS[0]);
    if let Some(before) = BEFORE.get() {
        // SAFETY: what sigaction(2) itself gave for this signal.
        unsafe { libc::sigaction(signal, &raw const before[n], std::ptr::null_mut()) };
    }
}

/// Installs the handler, once for the process.
pub(crate) fn install() {
    BEFORE.get_or_init(|| {
        // SAFETY: all zeros are a sigaction.
        let mut before: [libc::sigaction; 2] = unsafe { std::mem::zeroed() };
        for (signal, before) in SIGNALS.into_iter().zip(&mut before) {
            // SAFETY: as above.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            // lint: the handler's address, for the kernel
            action.sa_sigaction = (on_fault as *const ()).expose_provenance();
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: the handler does nothing that a handler mustn't; both
            // places are valid.
            let done = unsafe { libc::sigaction(signal, &raw const action, before) };
            assert_eq!(done, 0, "a handler can be installed");
        }
        before
    });
}
