//! The processor: state, paging, soft TLB, interpreter, exceptions, CPUID.

mod bus;
mod engine;

pub use bus::{Bus, Refused};
pub use engine::{Engine, Exit, Until};

/// A processor.
pub struct Cpu;
