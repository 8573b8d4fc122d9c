//! What the cell may ask of the kernel: to return from a signal, to wait, to wake, to end.
//!
//! A system call made *by the code under test* (its instruction pointer lies in the pages of
//! [`crate::layout`]) becomes a SIGSYS whatever its number, and is reported. Any other call that
//! is not on the list kills the cell.

use std::io;

use crate::layout;

const NR: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;
/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xc000_003e;

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn end(action: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).expect("BPF codes are 16 bits"),
        jt,
        jf,
        k,
    }
}

fn program() -> Vec<libc::sock_filter> {
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let first = u32::try_from(layout::CODE).expect("regions lie below 4 GiB");
    // The address after a `syscall` that ends the last region belongs to it too.
    let last =
        u32::try_from(layout::REGIONS[layout::REGIONS.len() - 1].end()).expect("below 4 GiB");
    let mut filter = vec![
        load(IP_HIGH),
        jump(equal, 0, 0, 4),
        load(IP_LOW),
        jump(at_least, first, 0, 2),
        jump(at_least, last + 1, 1, 0),
        end(libc::SECCOMP_RET_TRAP),
        load(ARCH),
        jump(equal, X86_64, 1, 0),
        end(libc::SECCOMP_RET_KILL_PROCESS),
        load(NR),
    ];
    for allowed in [
        libc::SYS_rt_sigreturn,
        libc::SYS_futex,
        libc::SYS_exit_group,
    ] {
        filter.push(jump(equal, u32::try_from(allowed).expect("small"), 0, 1));
        filter.push(end(libc::SECCOMP_RET_ALLOW));
    }
    filter.push(end(libc::SECCOMP_RET_KILL_PROCESS));
    filter
}

/// Puts the filter on this process, for good.
pub(super) fn install() -> io::Result<()> {
    let mut filter = program();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a short program"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain integers; the call has no memory effect.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` and the filter it points to live until the call has copied them.
    if unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    } != 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
