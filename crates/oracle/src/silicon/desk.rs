//! The desk: memory that the cell and its owner share. Requests go down, answers come up.
//!
//! Plain integers only, fixed sizes, no pointers: the owner must believe nothing that would hurt
//! it, since a stray store of the code under test could have changed any byte of the desk.

use std::sync::atomic::AtomicU32;

use crate::case::{CODE_BYTES_MAX, Change, PATCH_BYTES_MAX, PATCHES_MAX};
use crate::state::MachineState;

/// Cases in one batch.
pub(super) const SLOTS: usize = 128;
/// The most changed quadwords that an answer can tell; more set `overflowed`.
pub(super) const CHANGES_MAX: usize = 192;

/// A patch as it lies on the desk.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct DeskPatch {
    pub(super) address: u64,
    pub(super) len: u64,
    pub(super) bytes: [u8; PATCH_BYTES_MAX],
}

/// A case as it lies on the desk.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Request {
    pub(super) state: MachineState,
    /// 1: 32-bit code.
    pub(super) compat: u32,
    /// 1: run freely into the `int3` behind the code; 0: step by the trap flag.
    pub(super) free: u32,
    pub(super) steps_max: u32,
    pub(super) code_len: u32,
    pub(super) patches_len: u64,
    pub(super) code: [u8; CODE_BYTES_MAX],
    pub(super) patches: [DeskPatch; PATCHES_MAX],
}

/// `Answer::kind`.
pub(super) mod kind {
    pub(in super::super) const LEFT: u32 = 1;
    pub(in super::super) const FAULT: u32 = 2;
    pub(in super::super) const ENDLESS: u32 = 3;
    pub(in super::super) const SYSTEM_CALL: u32 = 4;
}

/// An outcome as it lies on the desk.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Answer {
    pub(super) state: MachineState,
    pub(super) kind: u32,
    pub(super) vector: u32,
    pub(super) error: u64,
    pub(super) address: u64,
    pub(super) changes_len: u32,
    pub(super) overflowed: u32,
    pub(super) changes: [Change; CHANGES_MAX],
}

/// The whole desk. All-zero bytes are a valid one.
#[repr(C)]
pub(super) struct Desk {
    /// Raised by the owner when a batch lies ready; the cell waits on it.
    pub(super) posted: AtomicU32,
    /// Set to `posted` by the cell when the batch is answered; the owner waits on it.
    pub(super) answered: AtomicU32,
    /// Cases in the batch.
    pub(super) len: AtomicU32,
    /// The case being run, so that the owner knows which one killed the cell.
    pub(super) current: AtomicU32,
    pub(super) requests: [Request; SLOTS],
    pub(super) answers: [Answer; SLOTS],
}
