//! A log in the making: writes down what happens to a machine.

use log::{Body, EndReason, Event, Writer};
use machine::{Input, Machine};

use crate::registers::View;
use crate::storing::Storing;
use crate::{Checks, Error, door};

/// The log of a machine that runs live.
#[derive(Debug)]
pub(crate) struct Tape {
    writer: Writer,
    registers: View,
    checks: Checks,
    /// What a replay needs besides the log.
    storing: Storing,
    events: u64,
}

impl Tape {
    pub(crate) fn new(writer: Writer, registers: View, checks: Checks, storing: Storing) -> Tape {
        Tape {
            writer,
            registers,
            checks,
            storing,
            events: 0,
        }
    }

    /// Whether what stands beside the log could be written, as far as is known.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        self.storing.look()
    }

    /// Writes that `input` arrives now, before the machine has it.
    pub(crate) fn input(&mut self, machine: &Machine, input: &Input) -> Result<(), Error> {
        self.push(machine, door::body(input))?;
        if self.checks == Checks::Full {
            let bytes = self.registers.bytes().to_vec();
            self.push(machine, Body::Registers { bytes })?;
        }
        Ok(())
    }

    /// Writes a check of the whole machine.
    pub(crate) fn epoch(&mut self, machine: &mut Machine) -> Result<(), Error> {
        self.registers.look(machine);
        let body = Body::Epoch {
            registers: self.registers.bytes().to_vec(),
            memory: machine.digest_memory(),
            devices: machine.digest_devices(),
            output: machine.digest_output(),
            output_bytes: machine.output_bytes(),
        };
        self.push(machine, body)
    }

    /// Writes a last check and why the recording ends; returns when all is on
    /// disk.
    pub(crate) fn end(mut self, machine: &mut Machine, reason: EndReason) -> Result<u64, Error> {
        // A disk request that the host left undone is done in a replay: of
        // memory and devices nothing can be said then.
        if reason != EndReason::DiskFailed {
            self.epoch(machine)?;
        }
        self.push(machine, Body::End { reason })?;
        self.storing.finish()?;
        self.writer.close()?;
        Ok(self.events)
    }

    fn push(&mut self, machine: &Machine, body: Body) -> Result<(), Error> {
        self.registers.look(machine);
        self.events += 1;
        self.writer.push(Event {
            moment: machine.moment(),
            vcpu: 0,
            check: self.registers.check(),
            body,
        })?;
        Ok(())
    }
}
