//! Debug registers (SDM volume 3B, chapter 18).

use x86::{Linear, flags, seg};

use crate::Cpu;

/// Bits of DR6.
pub(crate) mod dr6 {
    /// Conditions of breakpoints 0 to 3.
    pub(crate) const B: u64 = 0xf;
    /// A debug register was touched while DR7.GD was set.
    pub(crate) const BD: u64 = 1 << 13;
    /// Single step.
    pub(crate) const BS: u64 = 1 << 14;
    /// All that may be set.
    pub(crate) const WRITABLE: u64 = 0xe00f;
    /// Bits that are always 1.
    pub(crate) const FIXED: u64 = 0xffff_0ff0;
}

/// Bits of DR7.
pub(crate) mod dr7 {
    /// General detect: a touch of a debug register faults.
    pub(crate) const GD: u64 = 1 << 13;
    /// The bit that is always 1.
    pub(crate) const FIXED: u64 = 1 << 10;
    /// All that may be set.
    pub(crate) const WRITABLE: u64 = 0xffff_23ff;
}

/// What a breakpoint waits for, by its R/W field in DR7.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const READ_WRITE: u64 = 3;

/// An enabled breakpoint.
#[derive(Clone, Copy, Debug)]
struct Breakpoint {
    /// Its bit of DR6.
    bit: u64,
    kind: u64,
    start: u64,
    bytes: u64,
}

impl Breakpoint {
    fn overlaps(&self, start: u64, bytes: u64) -> bool {
        // Either's first byte lies in the other; differences may wrap.
        start.wrapping_sub(self.start) < self.bytes || self.start.wrapping_sub(start) < bytes
    }
}

impl Cpu {
    /// The breakpoints that DR7 enables.
    fn breakpoints(&self) -> impl Iterator<Item = Breakpoint> + '_ {
        let dr7 = self.dr[7];
        (0..4)
            .filter(move |n| dr7 >> (2 * n) & 3 != 0)
            .map(move |n| {
                let bytes = [1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize];
                Breakpoint {
                    bit: 1 << n,
                    kind: dr7 >> (16 + 4 * n) & 3,
                    // Addresses are aligned to the length, their low bits ignored.
                    start: self.dr[n as usize] & !(bytes - 1),
                    bytes,
                }
            })
    }

    /// Whether any instruction breakpoint is enabled, so that instructions
    /// are to be looked at one by one.
    pub(crate) fn breakpoints_armed(&self) -> bool {
        self.dr[7] & 0xff != 0 && self.breakpoints().any(|b| b.kind == EXECUTE)
    }

    /// The enabled instruction breakpoints at `rip`, as bits of DR6; none
    /// while RF is set.
    pub(crate) fn instruction_breakpoint(&self) -> Option<u64> {
        if self.dr[7] & 0xff == 0 || self.flags.has(flags::RF) {
            return None;
        }
        let base = if self.is_64() {
            0
        } else {
            self.segments[usize::from(seg::CS)].base
        };
        let at = base.wrapping_add(self.rip) & self.rip_mask();
        let hits = self
            .breakpoints()
            .filter(|b| b.kind == EXECUTE && b.start == at)
            .fold(0, |hits, b| hits | b.bit);
        (hits != 0).then_some(hits)
    }

    /// Whether a data breakpoint lies in `at`'s page: accesses there are all
    /// to be looked at.
    pub(crate) fn data_breakpoint_on_page(&self, at: Linear) -> bool {
        self.dr[7] & 0xff != 0
            && self.breakpoints().any(|b| {
                matches!(b.kind, WRITE | READ_WRITE) && Linear(b.start).page() == at.page()
            })
    }

    /// Notes which data breakpoints an access hits.
    pub(crate) fn note_data_access(&mut self, at: Linear, bytes: u64, write: bool) {
        if self.dr[7] & 0xff == 0 {
            return;
        }
        let hits = self
            .breakpoints()
            .filter(|b| b.kind == READ_WRITE || write && b.kind == WRITE)
            .filter(|b| b.overlaps(at.0, bytes))
            .fold(0, |hits, b| hits | b.bit);
        self.note_debug(hits);
    }

    /// Notes which I/O breakpoints an access to `port` hits.
    pub(crate) fn note_port_access(&mut self, port: u16, bytes: u64) {
        if self.dr[7] & 0xff == 0 || self.cr4 & x86::control::cr4::DE == 0 {
            return;
        }
        let hits = self
            .breakpoints()
            .filter(|b| b.kind == PORT && b.overlaps(u64::from(port), bytes))
            .fold(0, |hits, b| hits | b.bit);
        self.note_debug(hits);
    }

    fn note_debug(&mut self, hits: u64) {
        if hits != 0 {
            self.pending_debug |= hits;
            self.look = true;
        }
    }
}
