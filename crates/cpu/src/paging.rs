//! From linear to physical addresses (SDM volume 3A, chapter 4), and the slow
//! way of an access.

use x86::{Linear, Physical};

use crate::tlb::Space;
use crate::{Bus, Cpu, Flow, Trap};

impl Cpu {
    /// The writes to pages that hold code, since the last call. Writes to
    /// pages that hold translations are acted upon here.
    pub(crate) fn take_code_writes(&mut self) -> Vec<(Physical, u64)> {
        self.ram.take_watched_writes()
    }

    /// The linear address of offset `rip` in the code segment.
    pub(crate) fn code_linear(&self, rip: u64) -> Flow<Linear> {
        Ok(Linear(rip))
    }

    pub(crate) fn read_slow(
        &mut self,
        bus: &mut dyn Bus,
        space: Space,
        at: Linear,
        bytes: u8,
        stack: bool,
    ) -> Flow<u64> {
        let _ = (bus, space, at, bytes, stack);
        Err(Trap::GP)
    }

    pub(crate) fn write_slow(
        &mut self,
        bus: &mut dyn Bus,
        space: Space,
        at: Linear,
        bytes: u8,
        stack: bool,
        value: u64,
    ) -> Flow {
        let _ = (bus, space, at, bytes, stack, value);
        Err(Trap::GP)
    }

    pub(crate) fn probe_write_slow(
        &mut self,
        space: Space,
        at: Linear,
        bytes: u64,
        stack: bool,
    ) -> Flow {
        let _ = (space, at, bytes, stack);
        Err(Trap::GP)
    }

    /// Where the instruction byte at linear address `at` lies; `None` where it
    /// is no RAM.
    pub(crate) fn fetch_address(&mut self, at: Linear) -> Flow<Option<Physical>> {
        if let Some(physical) = self.tlb.fetch(self.space, at) {
            return Ok(Some(physical));
        }
        Err(Trap::GP)
    }
}
