//! Guest memory: one flat mapping, and what is known of each page.
//!
//! A guest-physical address is an offset into one mapping, so that an engine
//! can address RAM with a single addition. RAM lies at `0..min(size, 3 GiB)`
//! and the rest from 4 GiB up; the hole between is part of the mapping, holds
//! zeros and is nobody's: [`Ram::holds`] tells what is RAM.
//!
//! The law of this crate: no reference to guest memory exists, ever. Bytes are
//! copied in and out through raw pointers, bounds checked, by one thread.

mod page;
mod ram;

pub use page::Pages;
pub use ram::{Error, HOLE_END, HOLE_START, Ram, Word};

/// What is known of a page; a set of these bits.
pub mod flag {
    /// Written since [`crate::Ram::take_dirty`] was last called, or to be taken for
    /// that.
    pub const DIRTY: u8 = 1 << 0;
    /// The interpreter keeps decoded code from this page: a write to it must
    /// reach the engine.
    pub const CODE: u8 = 1 << 1;
    /// The soft TLB holds translations that were read from this page: a write
    /// to it must drop them.
    pub const TABLE: u8 = 1 << 2;

    /// A translator keeps translated code from this page: as [`CODE`].
    pub const TRANSLATED: u8 = 1 << 3;

    /// Some engine keeps code from this page.
    pub const ANY_CODE: u8 = CODE | TRANSLATED;
    /// A store must take the slow way if any of these is set.
    pub const WATCHED: u8 = ANY_CODE | TABLE;
}
