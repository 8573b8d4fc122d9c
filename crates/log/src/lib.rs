//! The log of a recording: what came from outside, and when.
//!
//! Events are packed into frames, frames into segments; each frame is tied to
//! all before it by a hash chain. `docs/log-format.md` is the specification,
//! written before this code and kept true.
//!
//! The laws of this crate: nothing pushed is lost without an error that says
//! so; no reader trusts a byte that it has not checked; memory is bounded,
//! whatever the file says; and the log does not know what a CPU is.
//!
//! [`Writer`] writes a log, [`Reader`] yields its events, [`verify`] checks
//! all of a recording and runs no machine, [`Info`] counts what is in it.

mod codec;
mod damage;
mod difference;
mod event;
mod frame;
mod info;
mod kind;
mod layout;
mod memory;
mod pack;
mod reader;
mod ring;
mod sealer;
mod segment;
mod store;
mod verify;
mod wire;
mod writer;

pub use codec::{Decoder, EVENT_BYTES_MAX, Encoder};
pub use damage::{Damage, Error, Flaw};
pub use event::{Body, Event};
pub use frame::{FRAME_BODY_MAX, FRAME_HEADER_BYTES};
pub use info::{Count, Info};
pub use kind::{Door, EndReason, Kind};
pub use layout::Layout;
pub use memory::Memory;
pub use reader::{Place, Placed, Reader, Tail};
pub use sealer::{Options, WriteError, Written};
pub use segment::{FORMAT_VERSION, SEGMENT_HEADER_BYTES};
pub use store::{Directory, Segments, Store};
pub use verify::{Verified, verify};
pub use wire::{Cursor, Malformed};
pub use writer::Writer;

/// The longest input of one event, in bytes; longer ones arrive as several.
pub const INPUT_BYTES_MAX: usize = 262_144;

/// The longest registers of one event, in bytes.
pub const REGISTERS_BYTES_MAX: usize = 65_536;
