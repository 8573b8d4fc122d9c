//! A guest that runs live: the same loop with a log and without one.
//!
//! What the host does (how long a slice takes, when a key is pressed) reaches
//! the machine only as an input, written down before the machine has it. Time
//! that an idle guest skips up to its next timer is no input: where it ends
//! follows from the machine alone.

use std::collections::VecDeque;

use log::EndReason;
use machine::{Count, Images, Input, Machine, Reception, Stop, Until};
use moment::Moment;

use crate::epochs::Epochs;
use crate::pace::Pace;
use crate::tape::Tape;
use crate::{Arrival, Error, Room, World};

/// A busy guest's clock is sampled this often, in host time spent running it.
const SAMPLE_NS: u64 = 300_000_000;
/// A guest that wakes with its clock so far behind gets a sample. One that is
/// less behind, because the host woke us late, catches up by itself: it waits
/// for no timer until it has. So a loaded host doesn't fill an idle guest's log.
const DRIFT_NS: u64 = 200_000_000;
/// So many typed bytes wait here at most; the others wait in the world.
const TYPED_MAX: usize = 4096;

/// How a live run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// What the guest wrote to the debug exit port, if that was why.
    pub debug_exit: Option<u32>,
    /// Where.
    pub moment: Moment,
    /// Guest time since the start.
    pub guest_ns: u64,
    /// Host time since the start.
    pub host_ns: u64,
    /// Host time spent running the guest.
    pub busy_ns: u64,
    /// Bytes that went out.
    pub output_bytes: u64,
    /// Events in the log; 0 without one.
    pub events: u64,
    /// Where the engine's time went.
    pub counts: Vec<Count>,
    /// How often the guest has reset its machine and was started again.
    pub resets: u64,
}

/// What a reset by the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReset {
    /// The machine starts again from its images, and the recording goes on.
    /// Not logged: it follows.
    #[default]
    Restart,
    /// The run ends.
    End,
}

pub(crate) struct Live<'a> {
    machine: &'a mut Machine,
    world: &'a mut dyn World,
    tape: Option<Tape>,
    /// What the machine starts from again after a reset; `None`: it ends.
    images: Option<&'a Images>,
    pace: Pace,
    /// Typed, and no room for it in the machine yet.
    typed: VecDeque<u8>,
    busy_ns: u64,
    /// `busy_ns` at the last sample.
    sampled_ns: u64,
    epochs: Epochs,
}

/// Why the loop ended.
struct End {
    reason: EndReason,
    debug_exit: Option<u32>,
}

impl<'a> Live<'a> {
    pub(crate) fn new(
        machine: &'a mut Machine,
        world: &'a mut dyn World,
        tape: Option<Tape>,
        images: Option<&'a Images>,
    ) -> Live<'a> {
        Live {
            machine,
            world,
            tape,
            images,
            pace: Pace::new(),
            typed: VecDeque::new(),
            busy_ns: 0,
            sampled_ns: 0,
            epochs: Epochs::new(),
        }
    }

    /// Runs the guest to its end.
    pub(crate) fn run(mut self) -> Result<Ended, Error> {
        let outcome = self.until_the_end();
        // Whatever went wrong in the world, the recording is closed where the
        // guest stands; what went wrong comes first in the report.
        let end = match &outcome {
            Ok(end) => End {
                reason: end.reason,
                debug_exit: end.debug_exit,
            },
            Err(Error::Disk { .. }) => End {
                reason: EndReason::DiskFailed,
                debug_exit: None,
            },
            Err(_) => End {
                reason: EndReason::Stopped,
                debug_exit: None,
            },
        };
        let closed = self
            .tape
            .take()
            .map_or(Ok(0), |tape| tape.end(self.machine, end.reason));
        outcome?;
        Ok(Ended {
            reason: end.reason,
            debug_exit: end.debug_exit,
            moment: self.machine.moment(),
            guest_ns: self.machine.now_ns(),
            host_ns: self.world.now_ns(),
            busy_ns: self.busy_ns,
            output_bytes: self.machine.output_bytes(),
            events: closed?,
            counts: self.machine.engine_counts(),
            resets: self.machine.resets(),
        })
    }

    fn until_the_end(&mut self) -> Result<End, Error> {
        loop {
            self.tape.as_mut().map_or(Ok(()), Tape::look)?;
            self.give_typed(false)?;
            while let Some(arrival) = self.arrival() {
                self.arrive(arrival, false)?;
            }
            self.give_entropy(false)?;
            if self.world.is_over() {
                return Ok(End {
                    reason: EndReason::Stopped,
                    debug_exit: None,
                });
            }
            if self.busy_ns - self.sampled_ns >= SAMPLE_NS {
                self.sample()?;
            }
            self.check()?;
            let stop = self.slice()?;
            if let Some(end) = self.follow(stop)? {
                return Ok(end);
            }
        }
    }

    /// Checks all of the machine, if that is due.
    fn check(&mut self) -> Result<(), Error> {
        let Some(tape) = &mut self.tape else {
            return Ok(());
        };
        let written_pages = || self.machine.written_pages();
        if self.epochs.is_due(self.busy_ns, written_pages) {
            tape.epoch(self.machine)?;
        }
        Ok(())
    }

    /// Runs the guest for a slice, and shows what it printed.
    fn slice(&mut self) -> Result<Stop, Error> {
        let from = self.machine.moment().branches;
        let began_ns = self.world.now_ns();
        let stop = self
            .machine
            .run(Until::Branches(from + self.pace.slice_branches()));
        let took_ns = self.world.now_ns() - began_ns;
        self.busy_ns += took_ns;
        self.pace
            .learn(self.machine.moment().branches - from, took_ns);
        show(self.machine, self.world)?;
        Ok(stop)
    }

    fn follow(&mut self, stop: Stop) -> Result<Option<End>, Error> {
        match stop {
            Stop::Reached => Ok(None),
            Stop::Idle {
                deadline_ns,
                is_dead: false,
            } => self.idle(deadline_ns).map(|()| None),
            Stop::DiskFailed { disk } => Err(disk_error(self.machine, disk)),
            Stop::Reset if let Some(images) = self.images => {
                self.machine.restart(images)?;
                Ok(None)
            }
            Stop::Disagreed => Err(disagreed(self.machine)),
            stop => {
                let end = end_reason(stop).map(|(reason, debug_exit)| End { reason, debug_exit });
                // Only a moment can be missed, and this loop asks for counts.
                Ok(Some(end.expect("a branch count ahead is never missed")))
            }
        }
    }

    /// Waits with an idle guest for its next timer or an arrival.
    fn idle(&mut self, deadline_ns: Option<u64>) -> Result<(), Error> {
        if !self.typed.is_empty() && self.machine.console_room() > 0 {
            return self.give_typed(true);
        }
        if self.machine.wants_entropy() {
            return self.give_entropy(true);
        }
        let room = self.room();
        if let Some(arrival) = self.world.wait(deadline_ns, room) {
            return self.arrive(arrival, true);
        }
        let Some(deadline_ns) = deadline_ns else {
            return Ok(());
        };
        let now_ns = self.world.now_ns();
        if now_ns >= deadline_ns {
            self.machine.idle_to(deadline_ns);
            if now_ns - deadline_ns > DRIFT_NS {
                self.sample()?;
            }
        }
        Ok(())
    }

    /// What has arrived, while there is room for it.
    fn arrival(&mut self) -> Option<Arrival> {
        let room = self.room();
        self.world.take(room)
    }

    /// What there is room for: a card that is deaf takes frames, too; nobody
    /// gets them.
    fn room(&self) -> Room {
        let nics = 0..self.machine.config().nics.len();
        Room {
            typed: self.typed.len() < TYPED_MAX,
            frames: nics
                .filter(|nic| self.machine.reception(*nic) != Reception::Full)
                .fold(0, |bits, nic| bits | 1 << nic),
        }
    }

    fn arrive(&mut self, arrival: Arrival, is_idle: bool) -> Result<(), Error> {
        match arrival {
            Arrival::Typed(bytes) => {
                self.typed.extend(bytes);
                self.give_typed(is_idle)
            }
            Arrival::PowerButton => self.bring(&Input::PowerButton, is_idle),
            // What nobody hears does not reach the machine, and is not logged.
            Arrival::Frame { nic, .. } if self.machine.reception(nic) == Reception::Deaf => Ok(()),
            Arrival::Frame { nic, bytes } => self.bring(&Input::Frame { nic, bytes }, is_idle),
            Arrival::Link { nic, is_up } => self.bring(&Input::Link { nic, is_up }, is_idle),
        }
    }

    /// Gives the machine `input`. `is_idle`: it has slept until now, and first
    /// learns what time it is.
    fn bring(&mut self, input: &Input, is_idle: bool) -> Result<(), Error> {
        if is_idle {
            self.sample()?;
        }
        self.input(input)
    }

    /// Gives the machine what was typed, as far as it has room.
    fn give_typed(&mut self, is_idle: bool) -> Result<(), Error> {
        let count = self
            .machine
            .console_room()
            .min(self.typed.len())
            .min(log::INPUT_BYTES_MAX);
        if count == 0 {
            return Ok(());
        }
        let bytes = self.typed.drain(..count).collect();
        self.bring(&Input::Console(bytes), is_idle)
    }

    /// Gives the machine random bytes, if it wants some.
    fn give_entropy(&mut self, is_idle: bool) -> Result<(), Error> {
        if !self.machine.wants_entropy() {
            return Ok(());
        }
        let bytes = self.world.entropy().map_err(Error::Entropy)?;
        self.bring(&Input::Entropy(bytes.into()), is_idle)
    }

    fn sample(&mut self) -> Result<(), Error> {
        self.sampled_ns = self.busy_ns;
        let host_ns = self.world.now_ns();
        self.input(&Input::ClockSample { host_ns })
    }

    /// Writes `input` down, then gives it to the machine.
    fn input(&mut self, input: &Input) -> Result<(), Error> {
        self.tape
            .as_mut()
            .map_or(Ok(()), |tape| tape.input(self.machine, input))?;
        // What the machine refuses now it refuses at replay, too.
        self.machine.input(input);
        Ok(())
    }
}

/// Why a machine that stopped like this runs no further, and what it wrote to
/// the debug exit port; `None` if it does run on.
pub(crate) fn end_reason(stop: Stop) -> Option<(EndReason, Option<u32>)> {
    match stop {
        Stop::Reached
        | Stop::Missed
        | Stop::Disagreed
        | Stop::Idle { is_dead: false, .. }
        | Stop::DiskFailed { .. } => None,
        Stop::Idle { is_dead: true, .. } => Some((EndReason::Halted, None)),
        Stop::PoweredOff => Some((EndReason::PoweredOff, None)),
        Stop::Reset => Some((EndReason::Reset, None)),
        Stop::Shutdown => Some((EndReason::Crashed, None)),
        Stop::DebugExit(value) => Some((EndReason::PoweredOff, Some(value))),
    }
}

/// What to say of a disk that the host failed.
pub(crate) fn disk_error(machine: &Machine, disk: usize) -> Error {
    let reason = machine.disk_failure(disk).cloned();
    Error::Disk {
        disk,
        reason: reason.expect("a machine that stopped for a disk's failure tells it"),
    }
}

/// What to report after [`Stop::Disagreed`].
pub(crate) fn disagreed(machine: &Machine) -> Error {
    let disagreement = machine.disagreement().cloned();
    Error::Engines(Box::new(
        disagreement.expect("it stopped because the engines disagreed"),
    ))
}

/// Shows what the machine has printed.
pub(crate) fn show<S: crate::Screen + ?Sized>(
    machine: &mut Machine,
    screen: &mut S,
) -> Result<(), Error> {
    machine
        .take_output()
        .into_iter()
        .try_for_each(|output| screen.print(output.port, &output.bytes))
        .map_err(Error::Print)
}
