//! The fast engine: guest x86-64 translated to host x86-64, block by block.
//!
//! Most instructions are emitted again as they are, with the guest's registers
//! in host registers and its flags in the host's; memory operands go through a
//! lookup in the fast TLB. What is rare the interpreter does, called from
//! translated code ([`slow`]); it is also the judge of all the rest. What may
//! be seen of an engine (memory, registers, branch counts, where an interrupt
//! is taken) is the same to the bit.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod asm;
mod cache;
mod code;
mod engine;
mod fault;
mod flag;
mod frame;
mod halves;
mod mapped;
mod register;
mod routine;
mod site;
mod slow;
mod statistics;
mod tlb;
mod translate;
mod window;
mod x87;

pub use engine::{Error, Jit};
