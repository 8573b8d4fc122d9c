//! The names of the processor's manual.
//!
//! Constants and small types that several crates speak: registers, flags,
//! control-register bits, exception vectors, model-specific registers and the
//! kinds of addresses. Nothing here computes. Sources: Intel SDM volume 3A
//! chapters 2, 4 and 6; volume 4 for the model-specific registers.

pub mod address;
pub mod control;
pub mod flags;
pub mod msr;
pub mod vector;

pub use address::{Linear, PAGE_BYTES, PAGE_MASK, Physical};

/// General-purpose registers by their number in an encoding.
pub mod gpr {
    #![expect(missing_docs, reason = "the names are the manual's")]
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    pub const RBX: u8 = 3;
    pub const RSP: u8 = 4;
    pub const RBP: u8 = 5;
    pub const RSI: u8 = 6;
    pub const RDI: u8 = 7;

    /// Names in the order of their numbers.
    pub const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
}

/// Segment registers by their number in an encoding.
pub mod seg {
    #![expect(missing_docs, reason = "the names are the manual's")]
    pub const ES: u8 = 0;
    pub const CS: u8 = 1;
    pub const SS: u8 = 2;
    pub const DS: u8 = 3;
    pub const FS: u8 = 4;
    pub const GS: u8 = 5;
    /// No segment: base 0, no limit. What ES, CS, SS and DS are in 64-bit mode.
    pub const FLAT: u8 = 6;

    /// Names in the order of their numbers.
    pub const NAMES: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
}
