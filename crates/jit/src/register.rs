//! Which host register holds which guest register while translated code runs.
//!
//! Twelve of the guest's sixteen general registers live in host registers, the
//! other four, which compilers use least, in the [`Frame`](crate::frame::Frame).
//! The host's `rsp` points at the frame, `rax` counts branches and holds the
//! guest's flags while the host's are in use, `rcx` and `r15` are free for
//! translated code.

use iced_x86::Register;

/// A host register's number in an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host(pub(crate) u8);

/// Holds the guest's arithmetic flags: AH as LAHF gives them, AL the overflow
/// flag as SETO gives it. And above them, from bit [`LEFT_SHIFT`] on, how many
/// branches are left until the run is to stop, less one.
pub(crate) const FLAGS: Host = Host(0);
/// Where that is in [`FLAGS`].
pub(crate) const LEFT_SHIFT: u8 = 16;
/// So many branches may be left at most when translated code is entered: 32 bits are
/// looked at, and what is counted may be taken back.
pub(crate) const LEFT_MAX: u64 = 1 << 31;
/// Free; a memory operand's address.
pub(crate) const ADDRESS: Host = Host(1);
/// Free; an index into the frame's tables, a guest register from the frame.
pub(crate) const INDEX: Host = Host(15);
/// Points at the frame.
pub(crate) const FRAME: Host = Host(4);
/// The guest's `rsp`.
pub(crate) const STACK: Host = Host(14);

/// `rdx` on both sides.
pub(crate) const DX: Host = Host(2);
/// The guest's `rax`: `rbx`, whose second byte is encodable as `bh`.
pub(crate) const ACCUMULATOR: Host = Host(3);
/// The guest's `rcx`.
pub(crate) const COUNTER: Host = Host(10);

/// Number of the guest's `rsp`.
pub(crate) const GUEST_RSP: u8 = 4;

/// Where a guest register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In a host register.
    Host(Host),
    /// In the frame.
    Frame,
}

/// The home of guest register `number`, 0 to 15.
pub(crate) const fn home(number: u8) -> Home {
    Home::Host(match number {
        0 => ACCUMULATOR,
        1 => COUNTER,
        2 => DX,
        3 => Host(11),
        4 => STACK,
        5..=9 | 12 | 13 => Host(number),
        _ => return Home::Frame,
    })
}

/// The guest registers that live in host registers, with these.
pub(crate) fn pinned() -> impl Iterator<Item = (u8, Host)> {
    (0..16).filter_map(|guest| match home(guest) {
        Home::Host(host) => Some((guest, host)),
        Home::Frame => None,
    })
}

/// `host` under the name that iced has for it at `register`'s width.
pub(crate) fn named(host: Host, register: Register) -> Register {
    let first = match register.size() {
        1 => {
            // iced counts SPL to R15L on from BH.
            let high = matches!(
                register,
                Register::AH | Register::CH | Register::DH | Register::BH
            );
            return match (high, host.0) {
                (true, n) => Register::AH + u32::from(n),
                (false, n @ 0..4) => Register::AL + u32::from(n),
                (false, n) => Register::SPL + u32::from(n - 4),
            };
        }
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    };
    first + u32::from(host.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_register_has_two_uses() {
        let mut used: Vec<u8> = pinned().map(|(_, host)| host.0).collect();
        used.extend([FLAGS.0, ADDRESS.0, INDEX.0, FRAME.0]);
        used.sort_unstable();
        assert_eq!(used, (0..16).collect::<Vec<u8>>());
    }

    #[test]
    fn names_follow_widths() {
        assert_eq!(named(ACCUMULATOR, Register::AH), Register::BH);
        assert_eq!(named(ACCUMULATOR, Register::AL), Register::BL);
        assert_eq!(named(Host(11), Register::BL), Register::R11L);
        assert_eq!(named(Host(6), Register::SIL), Register::SIL);
        assert_eq!(named(STACK, Register::ESP), Register::R14D);
        assert_eq!(named(STACK, Register::SP), Register::R14W);
    }
}
