//! Debug registers (SDM volume 3B, chapter 18).

use crate::Cpu;

impl Cpu {
    /// Whether any instruction breakpoint is enabled, so that instructions
    /// are to be looked at one by one.
    pub(crate) fn breakpoints_armed(&self) -> bool {
        false
    }

    /// The enabled instruction breakpoints at `rip`, as bits of DR6; none
    /// while RF is set.
    pub(crate) fn instruction_breakpoint(&self) -> Option<u64> {
        None
    }
}
