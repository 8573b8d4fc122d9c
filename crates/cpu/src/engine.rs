//! What runs guest code: the interface that the interpreter, the JIT and, one
//! day, a hardware engine fill.

use moment::Moment;

use crate::{Bus, Cpu};

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After the branch that makes the count reach this (at once if it has),
    /// before the next instruction and before any interrupt is taken there.
    Branches(u64),
    /// At exactly this moment, found in two phases: freely to its branch count,
    /// then by steps to its program counter and `rcx`.
    Moment(Moment),
    /// After one instruction, or one iteration of a repeated one, or one
    /// delivery of an interrupt.
    Step,
}

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for has been reached.
    Reached,
    /// The moment asked for has been passed: the branch count is beyond it, or
    /// the code between two branches never came to its program counter.
    Missed,
    /// The processor is halted and no interrupt waits.
    Halted,
    /// [`Bus::needs_attention`] is up.
    Attention,
    /// A triple fault: the processor has shut down.
    Shutdown,
}

/// How often something happened in an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// Runs guest code, exactly.
pub trait Engine {
    /// Runs until `until`, or until something else stops it.
    fn run(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, until: Until) -> Exit;

    /// Forgets everything derived from the processor's state or from memory:
    /// after another state has been put in their place.
    fn reset(&mut self);

    /// Where time went, in the order in which to tell it. Empty if the engine
    /// counts nothing.
    fn counts(&self) -> Vec<Count>;
}

/// An engine that runs by the two phases: freely to a branch count, then by
/// steps.
pub trait Stepper {
    /// Runs freely until `branches` have retired.
    fn free(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, branches: u64) -> Exit;

    /// Delivers what waits, or executes one instruction.
    fn step(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit>;

    /// [`Engine::run`] of such an engine.
    fn run_until(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, until: Until) -> Exit {
        cpu.look = true;
        match until {
            Until::Branches(branches) => self.free(cpu, bus, branches),
            Until::Step => {
                let done = self.step(cpu, bus);
                done.map_or_else(|exit| exit, |()| Exit::Reached)
            }
            Until::Moment(moment) => {
                let exit = self.free(cpu, bus, moment.branches);
                if exit != Exit::Reached {
                    return exit;
                }
                loop {
                    if cpu.moment() == moment {
                        return Exit::Reached;
                    }
                    if cpu.branches > moment.branches {
                        return Exit::Missed;
                    }
                    if let Err(exit) = self.step(cpu, bus) {
                        return exit;
                    }
                }
            }
        }
    }
}
