//! The board: memory map, boot loader, clock, the two doors and the run loop.
//!
//! A [`Machine`] is a function: from its configuration, its images and its
//! inputs at their moments follow every later state and every output. It does
//! not know whether it is recorded or replayed, and it cannot see the host:
//! what it is told comes in by [`Machine::input`], what it tells goes out by
//! [`Machine::take_output`], and nothing else passes.
//!
//! The law of time: guest time follows from the branch count and the last
//! clock sample ([`Clock`]); a timer fires at the first branch count at which
//! the clock has reached its deadline; time that an idle machine skips is a
//! branch of its own ([`Machine::idle_to`]), so that a moment names one state.

#![allow(
    clippy::cast_possible_truncation,
    reason = "a bus keeps the low bits of what it is given: that is the meaning here"
)]

mod board;
mod boot;
mod clock;
mod config;
mod door;
mod error;
mod lockstep;
mod machine;
mod memory_digest;
mod output;
mod saved;
mod slot;

#[cfg(fuzzing)]
pub use board::hostile::drive as drive_board;
pub use clock::Clock;
pub use config::{BootKind, DiskConfig, Image, Images, MODEL_REVISION, MachineConfig, NicConfig};
pub use cpu::{Count, Difference, Model as CpuModel, Registers, Until};
pub use devices::virtio::{ENTROPY_BYTES_MAX, FRAME_BYTES_MAX, Reception};
pub use devices::{Backing, Failed, SECTOR_BYTES};
pub use door::{Input, Output, OutputPort, Stop};
pub use error::Error;
pub use lockstep::Disagreement;
pub use machine::{EngineKind, Machine};
