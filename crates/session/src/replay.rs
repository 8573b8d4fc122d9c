//! Replay: a machine fed from a log, and checked against it all the way.
//!
//! The machine runs freely to each event's branch count, then by steps to its
//! exact moment; there it must be as the log says, and then gets what the
//! event brings. It never waits: time that the guest slept is skipped. The
//! first difference ends the replay.

use std::collections::VecDeque;

use log::{Body, EndReason, Event, Placed, Reader, Tail};
use machine::{Backing, Count, EngineKind, Images, Machine, Stop, Until};
use moment::Moment;

use crate::live::{disagreed, disk_error, end_reason, show};
use crate::registers::View;
use crate::{
    Checks, Difference, Divergence, Error, Flip, Instead, Recording, Suspects, Watcher, When, door,
};

/// Branches between two looks at what the guest printed.
const STRETCH_BRANCHES: u64 = 2_000_000;
/// How many events a divergence shows.
const BEFORE_MAX: usize = 8;

/// How to replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Where to stop.
    pub until: When,
    /// What runs the guest.
    pub engine: EngineKind,
    /// How much is checked.
    pub checks: Checks,
    /// A bit to flip.
    pub flip: Option<Flip>,
}

/// How a replay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At the recording's end, as recorded.
    Complete(EndReason),
    /// At the last event of a recording that was cut off, as recorded.
    CutOff(Option<Tail>),
    /// At the place that was asked for.
    Stopped,
    /// It is not what was recorded.
    Diverged(Box<Divergence>),
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How it ended.
    pub outcome: Outcome,
    /// Where.
    pub moment: Moment,
    /// Guest time since the start.
    pub guest_ns: u64,
    /// Events that agreed.
    pub events: u64,
    /// Of these, checks of the whole machine.
    pub epochs: u64,
    /// Bytes that went out.
    pub output_bytes: u64,
    /// Names and values of all registers, where it ended.
    pub registers: Vec<(String, u128)>,
    /// Where the engine's time went.
    pub counts: Vec<Count>,
}

/// Replays `recording` and checks it. `disks` are the contents that its
/// machine's disks had at the start; the guest's writes to them are its own
/// again.
pub fn replay(
    recording: &Recording,
    options: Options,
    disks: Vec<Box<dyn Backing>>,
    watcher: &mut dyn Watcher,
) -> Result<Replayed, Error> {
    recording.config().check_revision()?;
    let images = recording.images()?;
    let dir = recording.layout().dir();
    let reader = Reader::open(dir)?;
    recording.check_manifest(reader.manifest())?;
    // What can't be read ends the replay when it gets there.
    let end = Reader::open(dir)?.map_while(Result::ok).last();
    let mut machine = Machine::new(recording.config(), &images, options.engine)?;
    machine.insert_disks(disks)?;
    let layout = recording.registers();
    if let Some(name) = layout.unknown() {
        return Err(Error::UnknownRegister(name.to_owned()));
    }
    let registers = View::new(layout, &machine);
    Replay {
        machine: &mut machine,
        images,
        watcher,
        registers,
        options,
        flip: options.flip,
        end: end.map(|placed| placed.event.moment),
        number: 0,
        epochs: 0,
        agreed: None,
        agreed_fully: None,
        agreed_output_bytes: 0,
        before: VecDeque::new(),
    }
    .run(reader)
}

struct Replay<'a> {
    machine: &'a mut Machine,
    /// What the machine starts from again after a reset.
    images: Images,
    watcher: &'a mut dyn Watcher,
    registers: View,
    options: Options,
    flip: Option<Flip>,
    /// The last event's moment.
    end: Option<Moment>,
    /// The number of the next event.
    number: u64,
    epochs: u64,
    agreed: Option<Moment>,
    agreed_fully: Option<Moment>,
    agreed_output_bytes: u64,
    before: VecDeque<(u64, Event)>,
}

/// Where a stretch of replay led.
enum Passage {
    /// To the event's moment.
    There,
    /// To the place that was asked for, before that.
    Stopped,
    /// Somewhere else.
    Astray(Instead),
}

impl Replay<'_> {
    fn run(mut self, mut reader: Reader) -> Result<Replayed, Error> {
        let outcome = self.follow(&mut reader)?;
        show(self.machine, self.watcher)?;
        self.registers.look(self.machine);
        Ok(Replayed {
            outcome,
            moment: self.machine.moment(),
            guest_ns: self.machine.now_ns(),
            events: self.number,
            epochs: self.epochs,
            output_bytes: self.machine.output_bytes(),
            registers: self.registers.pairs(),
            counts: self.machine.engine_counts(),
        })
    }

    fn follow(&mut self, reader: &mut Reader) -> Result<Outcome, Error> {
        for placed in reader.by_ref() {
            let placed = placed?;
            let differences = match self.advance(placed.event.moment)? {
                Passage::There if self.options.until == When::Event(self.number) => {
                    return Ok(Outcome::Stopped);
                }
                Passage::There => self.differences(&placed.event),
                Passage::Stopped => return Ok(Outcome::Stopped),
                Passage::Astray(instead) => {
                    vec![Difference::Moment {
                        expected: placed.event.moment,
                        found: self.machine.moment(),
                        instead,
                    }]
                }
            };
            if !differences.is_empty() {
                return Ok(Outcome::Diverged(Box::new(
                    self.divergence(&placed, differences),
                )));
            }
            self.agree(placed.event);
        }
        if self.options.until != When::End {
            let end = self.machine.moment();
            return Err(Error::NoSuchPlace {
                place: self.options.until,
                end,
            });
        }
        Ok(match reader.ended() {
            Some(reason) => Outcome::Complete(reason),
            None => Outcome::CutOff(reader.tail().cloned()),
        })
    }

    /// Runs to `target`, or to where the user wants to stop, if that comes
    /// first.
    fn advance(&mut self, target: Moment) -> Result<Passage, Error> {
        loop {
            let now = self.machine.moment();
            if self.is_where_to_stop(now) {
                return Ok(Passage::Stopped);
            }
            if self.flip.is_some_and(|flip| now.branches >= flip.branches) {
                self.flip
                    .take()
                    .map_or(Ok(()), |flip| flip.act(self.machine))?;
            }
            if now == target {
                return Ok(Passage::There);
            }
            let stop = self.machine.run(self.next_stop(now, target));
            show(self.machine, self.watcher)?;
            let now = self.machine.moment();
            self.watcher
                .progress(now.branches, self.end.map_or(0, |end| end.branches));
            let instead = match stop {
                Stop::Reached => continue,
                Stop::DiskFailed { disk } => return Err(disk_error(self.machine, disk)),
                _ if now == target => continue,
                Stop::Idle {
                    deadline_ns: Some(ns),
                    is_dead: false,
                } if now.branches < target.branches => {
                    self.machine.idle_to(ns);
                    continue;
                }
                // The recording goes on behind the reset, so the recorder has
                // started the machine again.
                Stop::Reset if now.branches < target.branches => {
                    self.machine.restart(&self.images)?;
                    continue;
                }
                Stop::Idle { is_dead: false, .. } => Instead::Slept,
                Stop::Disagreed => return Err(disagreed(self.machine)),
                Stop::Missed if self.is_past_place(now) => {
                    return Err(Error::Passed {
                        place: self.options.until,
                        passed: now,
                    });
                }
                stop => {
                    end_reason(stop).map_or(Instead::Passed, |(reason, _)| Instead::Ended(reason))
                }
            };
            return Ok(Passage::Astray(instead));
        }
    }

    /// How far to run now on the way to `target`.
    fn next_stop(&self, now: Moment, target: Moment) -> Until {
        let mut limit = now.branches.saturating_add(STRETCH_BRANCHES);
        if let Some(flip) = self.flip {
            limit = limit.min(flip.branches);
        }
        match self.options.until {
            When::Branches(branches) => limit = limit.min(branches),
            When::Time { ns } => {
                limit = limit.min(self.machine.branches_at(ns).max(now.branches + 1))
            }
            When::At { branches, pc } => {
                let place = Moment {
                    branches,
                    pc,
                    rcx: 0,
                };
                let comes_first =
                    branches < target.branches || (branches == target.branches && pc <= target.pc);
                if comes_first && branches <= limit {
                    return Until::Moment(place);
                }
            }
            When::End | When::Event(_) => {}
        }
        if limit < target.branches {
            Until::Branches(limit)
        } else {
            Until::Moment(target)
        }
    }

    fn is_where_to_stop(&self, now: Moment) -> bool {
        match self.options.until {
            When::End | When::Event(_) => false,
            When::Branches(branches) => now.branches >= branches,
            When::At { branches, pc } => now.branches == branches && now.pc == pc,
            When::Time { ns } => self.machine.now_ns() >= ns,
        }
    }

    /// Whether the run has passed the branch count of the place asked for
    /// without coming to its program counter.
    fn is_past_place(&self, now: Moment) -> bool {
        matches!(self.options.until, When::At { branches, .. } if now.branches >= branches)
    }

    /// What at this moment is not as `event` says.
    fn differences(&mut self, event: &Event) -> Vec<Difference> {
        self.registers.look(self.machine);
        let mut differences = Vec::new();
        if let Body::Epoch {
            registers: expected,
            ..
        }
        | Body::Registers { bytes: expected } = &event.body
        {
            let named = self.registers.differences(expected);
            differences.extend(named.into_iter().map(Difference::Register));
        }
        let found = self.registers.check();
        if differences.is_empty() && found != event.check {
            differences.push(Difference::Check {
                expected: event.check,
                found,
            });
        }
        match &event.body {
            Body::Epoch {
                memory,
                devices,
                output,
                output_bytes,
                ..
            } => {
                let (found, suspects) = self.digest_memory(event.moment);
                if *memory != found {
                    differences.push(Difference::Memory {
                        expected: *memory,
                        found,
                        suspects,
                    });
                }
                let found = self.machine.digest_devices();
                if *devices != found {
                    differences.push(Difference::Devices {
                        expected: *devices,
                        found,
                    });
                }
                let found_bytes = self.machine.output_bytes();
                if *output != self.machine.digest_output() || *output_bytes != found_bytes {
                    differences.push(Difference::Output {
                        from_byte: self.agreed_output_bytes,
                        expected_bytes: *output_bytes,
                        found_bytes,
                    });
                }
            }
            Body::End { reason } => differences.extend(self.end_difference(*reason)),
            Body::Clock { .. } | Body::Input { .. } | Body::Registers { .. } => {}
        }
        differences
    }

    /// A digest of memory: of what was written since the last; of all of it if
    /// that was asked for, and at the end. And where to look, should it differ.
    fn digest_memory(&mut self, now: Moment) -> (seal::Digest, Suspects) {
        let all = self.options.checks == Checks::Full || self.end == Some(now);
        Suspects::digest_memory(self.machine, all)
    }

    fn end_difference(&mut self, expected: EndReason) -> Option<Difference> {
        // What the world did to the recorder is no doing of the machine's.
        if matches!(
            expected,
            EndReason::Stopped | EndReason::LogFailed | EndReason::DiskFailed
        ) {
            return None;
        }
        // A machine that has ended runs no further, and says so.
        let next = self.machine.moment().branches + 1;
        let found = end_reason(self.machine.run(Until::Branches(next))).map(|(reason, _)| reason);
        (found != Some(expected)).then_some(Difference::End { expected, found })
    }

    /// All of `event` agrees: gives the machine what it brings.
    fn agree(&mut self, event: Event) {
        self.agreed = Some(event.moment);
        if let Body::Epoch { output_bytes, .. } = event.body {
            self.epochs += 1;
            self.agreed_fully = Some(event.moment);
            self.agreed_output_bytes = output_bytes;
        }
        if let Some(input) = door::input(&event.body) {
            self.machine.input(&input);
        }
        if self.before.len() == BEFORE_MAX {
            self.before.pop_front();
        }
        self.before.push_back((self.number, event));
        self.number += 1;
    }

    fn divergence(&self, placed: &Placed, differences: Vec<Difference>) -> Divergence {
        Divergence {
            moment: self.machine.moment(),
            event: self.number,
            place: placed.place,
            differences,
            agreed: self.agreed,
            agreed_fully: self.agreed_fully,
            before: self.before.iter().cloned().collect(),
        }
    }
}
