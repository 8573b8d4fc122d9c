//! What the processor sees of the board: the only way out of `cpu`.
//!
//! Every call bears `now`, the branches retired so far, because a device's
//! answer may depend on guest time and guest time follows from branches
//! alone. A device changes the INTR line only inside one of these calls or
//! while no engine runs; so engines look at [`Bus::interrupt_waits`] after a
//! call and at entry, and nowhere else.

use memory::Ram;
use x86::Physical;

/// A model-specific register that the board doesn't have, or a value it
/// refuses: `#GP(0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The time-stamp counter as a straight line over branches: at `b` it is `base`
/// plus (`b` - `base_branches`) times `rate`, divided by 2 to the 32nd and rounded
/// down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscLine {
    /// The branch count at which the line begins.
    pub base_branches: u64,
    /// The counter there, in ticks.
    pub base: u64,
    /// Ticks a branch, 32.32 bits.
    pub rate: u64,
}

/// The board, as seen by one processor.
pub trait Bus {
    /// Reads `size_bytes` (1, 2, 4 or 8) at `at`, which is no RAM. All ones
    /// where nothing answers.
    fn read(&mut self, ram: &Ram, now: u64, at: Physical, size_bytes: u8) -> u64;

    /// Writes the low `size_bytes` (1, 2, 4 or 8) of `value` at `at`, which is
    /// no RAM. Ignored where nothing answers.
    fn write(&mut self, ram: &Ram, now: u64, at: Physical, size_bytes: u8, value: u64);

    /// `IN`: reads `size_bytes` (1, 2 or 4) from `port`. All ones where
    /// nothing answers.
    fn port_in(&mut self, ram: &Ram, now: u64, port: u16, size_bytes: u8) -> u32;

    /// `OUT`: writes the low `size_bytes` (1, 2 or 4) of `value` to `port`.
    fn port_out(&mut self, ram: &Ram, now: u64, port: u16, size_bytes: u8, value: u32);

    /// Reads one of the board's model-specific registers: `IA32_APIC_BASE`,
    /// `IA32_TSC_DEADLINE` and the x2APIC range.
    fn msr_read(&mut self, now: u64, number: u32) -> Result<u64, Refused>;

    /// Writes one of the board's model-specific registers.
    fn msr_write(&mut self, now: u64, number: u32, value: u64) -> Result<(), Refused>;

    /// The time-stamp counter, in ticks, before `IA32_TSC_ADJUST` is added.
    fn tsc(&mut self, now: u64) -> u64;

    /// The same as a function of the branch count, if it is one: up to branch
    /// count `until`, and as long as the engine runs.
    fn tsc_line(&self, until: u64) -> Option<TscLine> {
        let _ = until;
        None
    }

    /// CR8: the local APIC's task priority, 0 to 15.
    fn task_priority(&self) -> u8;

    /// Sets CR8, 0 to 15.
    fn set_task_priority(&mut self, priority: u8);

    /// The INTR line: whether an interrupt of sufficient priority waits.
    fn interrupt_waits(&self) -> bool;

    /// Takes the interrupt that waits: its vector, 16 to 255. `None` if it
    /// went away (the processor then goes on).
    fn acknowledge(&mut self, now: u64) -> Option<u8>;

    /// Takes a waiting non-maskable interrupt.
    fn take_nmi(&mut self) -> bool;

    /// Whether something happened that the run loop above must see to before
    /// the next instruction: a power-off, a reset, an earlier deadline.
    fn needs_attention(&self) -> bool;
}
