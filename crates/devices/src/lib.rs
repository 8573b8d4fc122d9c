//! The chipset: register machines without a host in them.
//!
//! A device here is a value: it is read, written, told the time and asked for
//! its interrupt line. Time is guest time in nanoseconds since the machine's
//! start, and comes as an argument; no device keeps a clock of its own. Each
//! tells when it wants to be woken next ([`Device::deadline_ns`]) and is woken
//! then ([`Device::alarm`]). Which ports and addresses lead to which device,
//! and which line to which pin, is the board's business, not theirs.
//!
//! What the guest writes is an allegation: reserved bits are dropped, indices
//! are bounded by their types, and nothing here panics on any sequence of
//! accesses.
#![allow(
    clippy::cast_possible_truncation,
    reason = "a register keeps the low bits of what it is given: that is the meaning here"
)]

mod backing;
mod device;
mod ioapic;
mod keyboard;
mod local_apic;
mod local_timer;
mod pic;
mod pit;
mod power;
mod rtc;
mod ticks;
mod uart;
pub mod virtio;

pub use backing::{Backing, Failed, InMemory, SECTOR_BYTES};
pub use device::{Damaged, Device};
pub use ioapic::{IoApic, Message};
pub use keyboard::Keyboard;
pub use local_apic::{Delivery, LocalApic, Refused};
pub use pic::Pics;
pub use pit::Pit;
pub use power::{Power, Switch};
pub use rtc::Rtc;
pub use ticks::{ns_of_ticks, ticks_at};
pub use uart::Uart;

pub mod state {
    //! What devices are saved as.
    pub use crate::ioapic::IoApicState;
    pub use crate::keyboard::KeyboardState;
    pub use crate::local_apic::LocalApicState;
    pub use crate::local_timer::LocalTimerState;
    pub use crate::pic::{PicState, PicsState};
    pub use crate::pit::{PitChannelState, PitState};
    pub use crate::power::PowerState;
    pub use crate::rtc::RtcState;
    pub use crate::uart::UartState;
}
