//! Wires: what a network card is connected to.
//!
//! A [`Wire`] has a thread that reads what comes and puts it where the run loop
//! takes it ([`Arrivals`]): a bounded place, so that whoever sends too much
//! waits. What the guest sends is written by the run loop itself; an other end
//! that does not take it for a while loses frames, as on a real wire, and never
//! holds the guest up for long.

mod error;
mod frames;
mod passt;
mod socket;
mod tap;
mod wire;

pub use error::Error;
pub use passt::{Forward, Protocol};
pub use wire::{Plug, Wire};

/// The longest packet that the TAP interface `name` carries, if it is there.
pub fn tap_mtu(name: &str) -> Option<u16> {
    tap::mtu(name)
}
