//! The interpreter: the meaning of guest code. Complete, plain, and the judge
//! of every other engine.

use x86::{Physical, flags};

use crate::block::Blocks;
use crate::debug::dr6;
use crate::engine::{Count, Stepper};
use crate::interrupt::Event;
use crate::state::{GPR_BLOCK, Shadow};
use crate::{Bus, Cpu, Engine, Exit, Trap, Until};

/// What follows a look around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing holds on: a block at a time.
    Block,
    /// A trap flag, a shadow or a breakpoint holds on: one instruction.
    One,
    /// An interrupt or a trap was delivered, which is a branch: look again.
    Delivered,
    /// The engine returns.
    Stop(Exit),
}

/// The reference engine.
#[derive(Debug, Default)]
pub struct Interpreter {
    blocks: Blocks,
}

impl Interpreter {
    /// An interpreter that has decoded nothing yet.
    pub fn new() -> Interpreter {
        Interpreter::default()
    }

    fn look_around(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Next {
        self.see_writes(cpu);
        self.see_to(cpu, bus)
    }

    /// Sees to whatever wants something before the next instruction, now that
    /// [`Interpreter::see_writes`] has been called.
    pub fn see_to(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Next {
        cpu.look = false;
        if bus.needs_attention() {
            cpu.look = true;
            return Next::Stop(Exit::Attention);
        }
        if cpu.pending_debug != 0 && cpu.shadow != Shadow::MovSs {
            return self.deliver(cpu, bus, x86::vector::DB, None, Event::Exception);
        }
        if cpu.shadow != Shadow::None {
            cpu.in_repeat = false;
            return Next::One;
        }
        if !cpu.nmi_blocked && bus.take_nmi() {
            cpu.halted = false;
            cpu.nmi_blocked = true;
            return self.deliver(cpu, bus, x86::vector::NMI, None, Event::External);
        }
        if bus.interrupt_waits() {
            // Where IF holds it off, whatever sets IF asks for a look.
            if cpu.flags.has(flags::IF) {
                cpu.halted = false;
                if let Some(vector) = bus.acknowledge(cpu.branches) {
                    return self.deliver(cpu, bus, vector, None, Event::External);
                }
            }
        }
        if cpu.halted {
            cpu.look = true;
            return Next::Stop(Exit::Halted);
        }
        cpu.in_repeat = false;
        if steps(cpu) { Next::One } else { Next::Block }
    }

    /// Whether [`Interpreter::see_writes`] and [`Interpreter::see_to`] would find
    /// nothing to do, and an engine may go on with the next block, after an
    /// instruction that has neither raised an NMI nor opened the way for one. Then
    /// `cpu.look` is lowered.
    pub fn is_calm(cpu: &mut Cpu, bus: &dyn Bus) -> bool {
        let waits = bus.needs_attention()
            || cpu.pending_debug != 0
            || cpu.shadow != Shadow::None
            || cpu.halted
            || cpu.flags.has(flags::IF) && bus.interrupt_waits()
            || cpu.ram.has_watched_writes();
        if waits || steps(cpu) {
            return false;
        }
        cpu.look = false;
        cpu.in_repeat = false;
        true
    }

    /// Acts on writes to code since the last call, and returns them, as (first
    /// byte, length in bytes), for an engine that keeps code of its own.
    pub fn see_writes(&mut self, cpu: &mut Cpu) -> Vec<(Physical, u64)> {
        let writes = cpu.take_code_writes();
        for &(start, bytes) in &writes {
            self.blocks.invalidate(cpu, start, bytes);
        }
        writes
    }

    fn deliver(
        &mut self,
        cpu: &mut Cpu,
        bus: &mut dyn Bus,
        vector: u8,
        code: Option<u32>,
        event: Event,
    ) -> Next {
        match cpu.deliver(bus, vector, code, event) {
            Ok(()) => Next::Delivered,
            Err(_) => Next::Stop(Exit::Shutdown),
        }
    }

    /// What an instruction that did not simply complete leads to. `rip` is
    /// the instruction's own.
    pub fn trap(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, trap: Trap) -> Result<(), Exit> {
        if trap == Trap::AGAIN {
            cpu.in_repeat = true;
            cpu.look = true;
            return Ok(());
        }
        let Some((vector, code)) = trap.exception() else {
            return Err(Exit::Shutdown);
        };
        cpu.shadow = Shadow::None;
        match self.deliver(cpu, bus, vector, code, Event::Exception) {
            Next::Stop(exit) => Err(exit),
            _ => Ok(()),
        }
    }

    /// Executes a block, or the part of it before something wants a look.
    #[inline(always)]
    pub fn block(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit> {
        let span = match self.blocks.find(cpu) {
            Ok(span) => span,
            Err(trap) => return self.trap(cpu, bus, trap),
        };
        let rip = cpu.rip;
        cpu.gpr[usize::from(GPR_BLOCK)] = rip;
        let mut ops = self.blocks.ops(span).iter();
        while let Some(op) = ops.next() {
            if let Err(trap) = (op.run)(cpu, bus, op) {
                cpu.rip = rip.wrapping_add(u64::from(op.end - u16::from(op.len))) & cpu.rip_mask();
                return self.trap(cpu, bus, trap);
            }
            if cpu.look {
                // The last op has set `rip` itself.
                if !ops.as_slice().is_empty() {
                    cpu.rip = rip.wrapping_add(u64::from(op.end)) & cpu.rip_mask();
                }
                break;
            }
        }
        Ok(())
    }

    /// Executes one instruction, or one iteration of a repeated one. A debug
    /// trap after it is a delivery of its own.
    pub fn one(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit> {
        let shadow = cpu.shadow;
        cpu.single_step = cpu.flags.has(flags::TF);
        if shadow != Shadow::MovSs
            && let Some(hit) = cpu.instruction_breakpoint()
        {
            cpu.pending_debug = hit;
            return self.trap(cpu, bus, Trap::fault(x86::vector::DB));
        }
        let span = match self.blocks.find(cpu) {
            Ok(span) => span,
            Err(trap) => return self.trap(cpu, bus, trap),
        };
        let ops = self.blocks.ops(span);
        let op = &ops[0];
        let is_last = ops.len() == 1;
        let rip = cpu.rip;
        cpu.gpr[usize::from(GPR_BLOCK)] = rip;
        cpu.step_repeats = true;
        // RF is good for one instruction; IRET may set it anew. A fault saves
        // it as set whatever it is.
        cpu.flags.rest &= !flags::RF;
        let done = (op.run)(cpu, bus, op);
        cpu.step_repeats = false;
        cpu.look = true;
        match done {
            Ok(()) if !is_last => cpu.rip = rip.wrapping_add(u64::from(op.end)) & cpu.rip_mask(),
            Ok(()) => {}
            Err(trap) => {
                // INT has moved it before it finds that its gate is closed.
                cpu.rip = rip;
                self.trap(cpu, bus, trap)?;
            }
        }
        if done.is_ok() || done == Err(Trap::AGAIN) {
            if cpu.shadow == shadow {
                cpu.shadow = Shadow::None;
            }
            if done.is_err() && cpu.breakpoints_armed() {
                // Its breakpoint was for the first iteration only.
                cpu.flags.rest |= flags::RF;
            }
            if cpu.single_step {
                cpu.pending_debug |= dr6::BS;
            }
        }
        Ok(())
    }
}

impl Stepper for Interpreter {
    fn free(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, branches: u64) -> Exit {
        loop {
            if cpu.branches >= branches {
                return Exit::Reached;
            }
            let next = if cpu.look {
                self.look_around(cpu, bus)
            } else {
                Next::Block
            };
            let done = match next {
                Next::Block => self.block(cpu, bus),
                Next::One => self.one(cpu, bus),
                Next::Delivered => Ok(()),
                Next::Stop(exit) => Err(exit),
            };
            if let Err(exit) = done {
                return exit;
            }
        }
    }

    fn step(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit> {
        match self.look_around(cpu, bus) {
            Next::Block | Next::One => self.one(cpu, bus),
            Next::Delivered => Ok(()),
            Next::Stop(exit) => Err(exit),
        }
    }
}

impl Engine for Interpreter {
    fn run(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, until: Until) -> Exit {
        self.run_until(cpu, bus, until)
    }

    fn reset(&mut self) {
        *self = Interpreter::new();
    }

    fn counts(&self) -> Vec<Count> {
        Vec::new()
    }
}

/// Whether something may be to be told after each instruction.
fn steps(cpu: &Cpu) -> bool {
    cpu.flags.has(flags::TF) || cpu.flags.has(flags::RF) || cpu.breakpoints_armed()
}
