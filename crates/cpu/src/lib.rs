//! The processor: state, paging, soft TLB, interpreter, exceptions, CPUID.
//!
//! [`Cpu`] holds the state; an [`Engine`] runs guest code on it; the board is
//! behind [`Bus`]. What an instruction means is in `exec`, a family a file.

#![allow(
    clippy::cast_possible_truncation,
    reason = "to keep the low bits is what an operand's width means; each cast states the width"
)]

mod access;
mod block;
mod bus;
mod by_page;
mod cpuid;
mod debug;
mod descriptor;
mod engine;
mod exec;
mod flags;
mod fpu;
mod interpreter;
mod interrupt;
mod marks;
mod model;
mod op;
mod paging;
mod register;
mod registers;
#[cfg(test)]
mod rig;
pub mod segment;
mod spaces;
mod state;
mod tables;
mod tlb;
mod trap;
mod walk;
mod width;
pub mod xstate;

pub use block::{Decoded, crossing, straight_line};
pub use bus::{Bus, Refused, TscLine};
pub use by_page::ByPage;
pub use engine::{Count, Engine, Exit, Stepper, Until};
pub use flags::Flags;
pub use fpu::Fpu;
pub use interpreter::{Interpreter, Next};
pub use marks::Marks;
pub use model::Model;
pub use op::{Handler, Op};
pub use paging::is_storable;
pub use registers::{DecodeError, Difference, Registers, encode_registers};
pub use segment::Segment;
pub use state::{CodeSize, Cpu, GPR_BLOCK, Shadow};
pub use tlb::{Dropped, Known, Space, Tlb};
pub use trap::{Flow, Trap};
