//! The host's processor as the judge of instructions (tests only).
//!
//! A [`Case`](case::Case) is an instruction with everything it starts from. A
//! [`Subject`](case::Subject) runs cases: [`Silicon`](silicon::Silicon) on the host's processor,
//! in a confined child process, and each engine by an implementation of its own in its tests.
//! [`compare`] says where two outcomes differ, and [`undefined`] which differences the manual
//! allows. Cases come from [`generate`] (any number, from a seed) and from [`ins`] (readable
//! files, `tests/insn/*.ins`).

pub mod case;
pub mod compare;
pub mod forms;
pub mod generate;
pub mod ins;
pub mod layout;
pub mod random;
pub mod silicon;
pub mod state;
pub mod undefined;
