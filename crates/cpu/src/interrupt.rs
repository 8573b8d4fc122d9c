//! Delivery of exceptions and interrupts (SDM volume 3A, chapter 6).

use crate::{Bus, Cpu, Trap};

/// What is being delivered: it decides error codes, privilege checks and the
/// saved instruction pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A fault or trap that the processor raised.
    Exception,
    /// INT n, INT3, INTO: gate privilege is checked.
    Software,
    /// From outside, or an NMI.
    External,
}

impl Cpu {
    /// Delivers `vector`, saving `self.rip` as the place to return to; an
    /// exception on the way becomes a double fault, one on that way a
    /// shutdown ([`Trap::SHUTDOWN`], the only error). Counts one branch.
    pub(crate) fn deliver(
        &mut self,
        bus: &mut dyn Bus,
        vector: u8,
        code: Option<u32>,
        event: Event,
    ) -> Result<(), Trap> {
        let _ = (bus, vector, code, event);
        Err(Trap::SHUTDOWN)
    }
}
