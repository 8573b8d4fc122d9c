//! Where a replay is not what was recorded, and how.

use std::fmt;

use log::{EndReason, Event, Place};
use moment::Moment;
use seal::Digest;

use crate::describe::Line;
use crate::{RegisterDifference, Suspects};

/// The first difference between a recording and its replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Where the replay stands.
    pub moment: Moment,
    /// The number of the event that found it.
    pub event: u64,
    /// Where that event stands in the log.
    pub place: Place,
    /// What differs.
    pub differences: Vec<Difference>,
    /// The last moment at which everything that was checked agreed.
    pub agreed: Option<Moment>,
    /// The last moment at which all of the machine was checked and agreed.
    pub agreed_fully: Option<Moment>,
    /// The events before, oldest first, with their numbers.
    pub before: Vec<(u64, Event)>,
}

/// Something that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The replay doesn't come to the event's moment.
    Moment {
        /// As recorded.
        expected: Moment,
        /// Where the replay stands.
        found: Moment,
        /// What it did instead.
        instead: Instead,
    },
    /// A register.
    Register(RegisterDifference),
    /// The digest of all registers; which of them, the log doesn't tell.
    Check {
        /// As recorded.
        expected: u32,
        /// As replayed.
        found: u32,
    },
    /// Guest memory.
    Memory {
        /// As recorded.
        expected: Digest,
        /// As replayed.
        found: Digest,
        /// Where to look.
        suspects: Suspects,
    },
    /// The state of the devices.
    Devices {
        /// As recorded.
        expected: Digest,
        /// As replayed.
        found: Digest,
    },
    /// What went out.
    Output {
        /// All output before this byte is as recorded.
        from_byte: u64,
        /// How many bytes had gone out when it was recorded.
        expected_bytes: u64,
        /// How many have gone out now.
        found_bytes: u64,
    },
    /// How the run ended.
    End {
        /// As recorded.
        expected: EndReason,
        /// What the machine says; `None`: it would go on.
        found: Option<EndReason>,
    },
}

/// What a replay did that did not come to the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// It passed the moment.
    Passed,
    /// It sleeps, and nothing will wake it.
    Slept,
    /// The machine ended.
    Ended(EndReason),
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instead::Passed => write!(f, "went past it"),
            Instead::Slept => write!(f, "sleeps for ever"),
            Instead::Ended(reason) => write!(f, "ended: {}", reason.doc()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Moment {
                expected,
                found,
                instead,
            } => {
                write!(
                    f,
                    "moment: expected {expected}, found {found}: the replay {instead}"
                )
            }
            Difference::Register(RegisterDifference {
                name,
                expected,
                found,
            }) => {
                write!(
                    f,
                    "register {name}: expected {expected:#x}, found {found:#x}"
                )
            }
            Difference::Check { expected, found } => write!(
                f,
                "registers: expected a digest of {expected:08x}, found {found:08x} \
                 (recordings made with --checks full tell which register)"
            ),
            Difference::Memory {
                expected,
                found,
                suspects,
            } => {
                write!(
                    f,
                    "memory: expected a digest of {expected}, found {found}; {suspects}"
                )
            }
            Difference::Devices { expected, found } => {
                write!(f, "devices: expected a digest of {expected}, found {found}")
            }
            Difference::Output {
                from_byte,
                expected_bytes,
                found_bytes,
            } => write!(
                f,
                "output: differs at or after byte {from_byte}; expected {expected_bytes} bytes, found {found_bytes}"
            ),
            Difference::End {
                expected,
                found: Some(found),
            } => {
                write!(
                    f,
                    "end: expected that {}, found that {}",
                    expected.doc(),
                    found.doc()
                )
            }
            Difference::End {
                expected,
                found: None,
            } => {
                write!(
                    f,
                    "end: expected that {}, but the guest goes on",
                    expected.doc()
                )
            }
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the replay diverges from the recording at {}",
            self.moment
        )?;
        writeln!(
            f,
            "  found by event {} of the log ({})",
            self.event, self.place
        )?;
        for difference in &self.differences {
            writeln!(f, "  {difference}")?;
        }
        let or_start = |moment: Option<Moment>| {
            moment.map_or("the start".to_owned(), |moment| moment.to_string())
        };
        writeln!(
            f,
            "  the last event that agreed was at {}",
            or_start(self.agreed)
        )?;
        writeln!(
            f,
            "  the last full check that agreed was at {}",
            or_start(self.agreed_fully)
        )?;
        if !self.before.is_empty() {
            writeln!(f, "  the events before:")?;
        }
        for (number, event) in &self.before {
            writeln!(
                f,
                "    {}",
                Line {
                    number: *number,
                    event
                }
            )?;
        }
        Ok(())
    }
}
