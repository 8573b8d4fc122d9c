//! Events: what a log is a sequence of.

use moment::Moment;
use seal::Digest;

use crate::{Door, EndReason, INPUT_BYTES_MAX, Kind, Malformed, REGISTERS_BYTES_MAX};

/// Something that came from outside, or a check, at its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When. Branch counts never decrease from event to event.
    pub moment: Moment,
    /// Which vCPU `moment` and `check` speak of.
    pub vcpu: u8,
    /// A short digest of all registers of that vCPU at that moment.
    pub check: u32,
    /// What.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The clock was sampled.
    Clock {
        /// Nanoseconds of host time since the recording started; never
        /// decreases from sample to sample.
        ns: u64,
    },
    /// Something came in.
    Input {
        /// The way it came.
        door: Door,
        /// What came, at most [`INPUT_BYTES_MAX`]; empty where the door
        /// carries none.
        bytes: Vec<u8>,
    },
    /// A check of the whole machine.
    Epoch {
        /// All registers, at most [`REGISTERS_BYTES_MAX`]; only their owner
        /// knows what they mean.
        registers: Vec<u8>,
        /// Guest memory.
        memory: Digest,
        /// The devices' state.
        devices: Digest,
        /// All output so far.
        output: Digest,
        /// How long that output is; never decreases from epoch to epoch.
        output_bytes: u64,
    },
    /// A check of all registers.
    Registers {
        /// As in an epoch.
        bytes: Vec<u8>,
    },
    /// The recording ended.
    End {
        /// Why.
        reason: EndReason,
    },
}

impl Body {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Body::Clock { .. } => Kind::Clock,
            Body::Input { .. } => Kind::Input,
            Body::Epoch { .. } => Kind::Epoch,
            Body::Registers { .. } => Kind::Registers,
            Body::End { .. } => Kind::End,
        }
    }

    /// Its bytes of variable length, and how many of them an event can hold.
    pub(crate) fn variable(&self) -> (&[u8], usize) {
        match self {
            Body::Input { bytes, .. } => (bytes, INPUT_BYTES_MAX),
            Body::Epoch { registers, .. } => (registers, REGISTERS_BYTES_MAX),
            Body::Registers { bytes } => (bytes, REGISTERS_BYTES_MAX),
            Body::Clock { .. } | Body::End { .. } => (&[], 0),
        }
    }
}

/// What never decreases from event to event, as far as it has come.
///
/// The writer asserts it of what is pushed, the reader checks it of what it
/// reads: a segment's numbers start afresh, so its decoder can't know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    branches: u64,
    clock_ns: u64,
    output_bytes: u64,
}

impl Order {
    /// Goes on to `event`.
    pub(crate) fn advance(&mut self, event: &Event) -> Result<(), Malformed> {
        raise(&mut self.branches, event.moment.branches)?;
        match event.body {
            Body::Clock { ns } => raise(&mut self.clock_ns, ns),
            Body::Epoch { output_bytes, .. } => raise(&mut self.output_bytes, output_bytes),
            _ => Ok(()),
        }
    }
}

fn raise(value: &mut u64, found: u64) -> Result<(), Malformed> {
    let before = std::mem::replace(value, found);
    if found < before {
        return Err(Malformed::Backwards { before, found });
    }
    Ok(())
}
