//! The local APIC's registers and their bits.

/// Registers, by MMIO offset / 16, which is the x2APIC number less 0x800
/// (table 11-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Id,
    Version,
    TaskPriority,
    ArbitrationPriority,
    ProcessorPriority,
    EndOfInterrupt,
    LogicalDestination,
    DestinationFormat,
    SpuriousVector,
    InService(usize),
    TriggerMode(usize),
    Request(usize),
    ErrorStatus,
    Command,
    CommandHigh,
    Local(usize),
    InitialCount,
    CurrentCount,
    Divide,
    SelfInterrupt,
}

impl Register {
    pub(super) fn at(number: u32) -> Option<Register> {
        let index = |first: u32| (number - first) as usize;
        Some(match number {
            0x02 => Register::Id,
            0x03 => Register::Version,
            0x08 => Register::TaskPriority,
            0x09 => Register::ArbitrationPriority,
            0x0a => Register::ProcessorPriority,
            0x0b => Register::EndOfInterrupt,
            0x0d => Register::LogicalDestination,
            0x0e => Register::DestinationFormat,
            0x0f => Register::SpuriousVector,
            0x10..=0x17 => Register::InService(index(0x10)),
            0x18..=0x1f => Register::TriggerMode(index(0x18)),
            0x20..=0x27 => Register::Request(index(0x20)),
            0x28 => Register::ErrorStatus,
            0x30 => Register::Command,
            0x31 => Register::CommandHigh,
            0x32..=0x37 => Register::Local(index(0x32)),
            0x38 => Register::InitialCount,
            0x39 => Register::CurrentCount,
            0x3e => Register::Divide,
            0x3f => Register::SelfInterrupt,
            _ => return None,
        })
    }
}

/// Entries of the local vector table, as indices of [`Register::Local`]: timer,
/// thermal sensor, performance counters, LINT0, LINT1, error.
pub(super) mod lvt {
    pub(crate) const TIMER: usize = 0;
    pub(crate) const LINT0: usize = 3;
    pub(crate) const ERROR: usize = 5;
    pub(crate) const COUNT: usize = 6;

    pub(crate) const MASKED: u32 = 1 << 16;
    /// The bits each entry keeps (figure 11-8); delivery status is never set.
    pub(crate) const KEEPS: [u32; COUNT] = [
        0x0007_00ff,
        0x0001_07ff,
        0x0001_07ff,
        0x0001_a7ff,
        0x0001_a7ff,
        0x0001_00ff,
    ];
}

/// Delivery modes (bits 8 to 10 of an entry, a redirection or a command).
pub(super) mod delivery {
    pub(crate) const FIXED: u32 = 0;
    pub(crate) const LOWEST: u32 = 1;
    pub(crate) const NMI: u32 = 4;
    pub(crate) const EXTERNAL: u32 = 7;
}

/// The error status register's bits.
pub(super) mod error {
    pub(crate) const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    pub(crate) const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
    pub(crate) const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// IA32_APIC_BASE.
pub(super) mod base {
    pub(crate) const BOOTSTRAP: u64 = 1 << 8;
    pub(crate) const X2APIC: u64 = 1 << 10;
    pub(crate) const ENABLE: u64 = 1 << 11;
    pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// The spurious-vector register's bit that enables the APIC.
pub(super) const ENABLED: u32 = 1 << 8;
/// Integrated APIC, six LVT entries, no suppression of EOI broadcasts.
pub(super) const VERSION: u32 = 0x0005_0014;
