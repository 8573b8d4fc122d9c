//! The interpreter: the meaning of guest code. Complete, plain, and the judge
//! of every other engine.

use x86::flags;

use crate::block::{BlockId, Blocks};
use crate::interrupt::Event;
use crate::state::{CodeSize, GPR_BLOCK, Shadow};
use crate::tlb::Space;
use crate::{Bus, Cpu, Engine, Exit, Trap, Until};

/// Blocks found lately, by linear address.
const LATELY: usize = 1 << 12;

#[derive(Clone, Copy, Debug)]
struct Lately {
    rip: u64,
    space: Space,
    code_size: CodeSize,
    id: BlockId,
}

/// The reference engine.
#[derive(Debug)]
pub struct Interpreter {
    blocks: Blocks,
    lately: Box<[Option<Lately>; LATELY]>,
    /// What `lately` is good for: the TLB's fetch generation, the blocks'
    /// generation and the code segment's base.
    lately_key: (u64, u64, u64),
}

impl Default for Interpreter {
    fn default() -> Self {
        Self::new()
    }
}

impl Interpreter {
    /// An interpreter that has decoded nothing yet.
    pub fn new() -> Interpreter {
        let lately = vec![None; LATELY].into_boxed_slice();
        Interpreter {
            blocks: Blocks::default(),
            lately: lately.try_into().expect("the length is the type's"),
            lately_key: (0, 0, 0),
        }
    }

    /// Runs freely until `branches` have retired.
    fn free(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, branches: u64) -> Exit {
        loop {
            if cpu.branches >= branches {
                return Exit::Reached;
            }
            if cpu.look
                && let Some(exit) = self.look_around(cpu, bus)
            {
                return exit;
            }
            if cpu.look {
                // Something holds on: a trap flag, a shadow, a breakpoint.
                if let Err(exit) = self.one(cpu, bus) {
                    return exit;
                }
            } else if let Err(exit) = self.block(cpu, bus) {
                return exit;
            }
        }
    }

    /// Sees to whatever wants something before the next instruction. Leaves
    /// `cpu.look` set if the next instruction is to be executed alone.
    fn look_around(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Option<Exit> {
        cpu.look = false;
        self.see_writes(cpu);
        if bus.needs_attention() {
            cpu.look = true;
            return Some(Exit::Attention);
        }
        if cpu.shadow != Shadow::None {
            cpu.look = true;
            cpu.in_repeat = false;
            return None;
        }
        if !cpu.nmi_blocked && bus.take_nmi() {
            cpu.halted = false;
            cpu.nmi_blocked = true;
            return self.deliver(cpu, bus, x86::vector::NMI, None, Event::External);
        }
        if bus.interrupt_waits() {
            // Until it is taken, every boundary is looked at.
            if cpu.flags.has(flags::IF) {
                cpu.halted = false;
                if let Some(vector) = bus.acknowledge(cpu.branches) {
                    return self.deliver(cpu, bus, vector, None, Event::External);
                }
            }
        }
        if cpu.halted {
            cpu.look = true;
            return Some(Exit::Halted);
        }
        cpu.in_repeat = false;
        cpu.look |= cpu.flags.has(flags::TF) || cpu.breakpoints_armed();
        None
    }

    /// Acts on writes to code by others than the instruction stream.
    fn see_writes(&mut self, cpu: &mut Cpu) {
        for (start, bytes) in cpu.take_code_writes() {
            self.blocks.invalidate(cpu, start, bytes);
        }
    }

    fn deliver(
        &mut self,
        cpu: &mut Cpu,
        bus: &mut dyn Bus,
        vector: u8,
        code: Option<u32>,
        event: Event,
    ) -> Option<Exit> {
        cpu.in_repeat = false;
        cpu.look = true;
        match cpu.deliver(bus, vector, code, event) {
            Ok(()) => None,
            Err(_) => Some(Exit::Shutdown),
        }
    }

    /// What an instruction that did not simply complete leads to. `rip` is
    /// the instruction's own.
    fn trap(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, trap: Trap) -> Result<(), Exit> {
        if trap == Trap::AGAIN {
            cpu.in_repeat = true;
            cpu.look = true;
            return Ok(());
        }
        let Some((vector, code)) = trap.exception() else {
            return Err(Exit::Shutdown);
        };
        cpu.shadow = Shadow::None;
        self.deliver(cpu, bus, vector, code, Event::Exception)
            .map_or(Ok(()), Err)
    }

    /// The block at `rip`.
    #[inline(always)]
    fn find(&mut self, cpu: &mut Cpu) -> Result<BlockId, Trap> {
        let cs_base = cpu.segments[usize::from(x86::seg::CS)].base;
        let key = (cpu.tlb.fetch_generation(), self.blocks.generation, cs_base);
        if key != self.lately_key {
            self.lately.fill(None);
            self.lately_key = key;
        }
        let slot = (cpu.rip ^ cpu.rip >> 12) as usize % LATELY;
        if let Some(found) = self.lately[slot]
            && found.rip == cpu.rip
            && found.space == cpu.space
            && found.code_size == cpu.code_size
        {
            return Ok(found.id);
        }
        self.find_slowly(cpu, slot)
    }

    #[cold]
    fn find_slowly(&mut self, cpu: &mut Cpu, slot: usize) -> Result<BlockId, Trap> {
        let id = self.blocks.at_rip(cpu)?;
        let block = self.blocks.get(id).expect("it was just found");
        if block.second_page.is_none() {
            let (rip, space, code_size) = (cpu.rip, cpu.space, cpu.code_size);
            self.lately[slot] = Some(Lately {
                rip,
                space,
                code_size,
                id,
            });
        }
        Ok(id)
    }

    /// Executes a block, or the part of it before something wants a look.
    #[inline(always)]
    fn block(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit> {
        let id = match self.find(cpu) {
            Ok(id) => id,
            Err(trap) => return self.trap(cpu, bus, trap),
        };
        let block = self.blocks.get(id).expect("found blocks exist");
        let rip = cpu.rip;
        cpu.gpr[usize::from(GPR_BLOCK)] = rip;
        let mut stopped = None;
        for op in &block.ops {
            if let Err(trap) = (op.run)(cpu, bus, op) {
                cpu.rip = rip.wrapping_add(u64::from(op.end - u16::from(op.len))) & cpu.rip_mask();
                stopped = Some(trap);
                break;
            }
            if cpu.look {
                // The last op has set `rip` itself.
                if !std::ptr::eq(op, &block.ops[block.ops.len() - 1]) {
                    cpu.rip = rip.wrapping_add(u64::from(op.end)) & cpu.rip_mask();
                }
                break;
            }
        }
        match stopped {
            None => Ok(()),
            Some(trap) => self.trap(cpu, bus, trap),
        }
    }

    /// Executes one instruction, or one iteration of a repeated one, and
    /// whatever trap follows it.
    fn one(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit> {
        let shadow = cpu.shadow;
        let single_step = cpu.flags.has(flags::TF);
        if shadow != Shadow::MovSs
            && let Some(hit) = cpu.instruction_breakpoint()
        {
            cpu.pending_debug = hit;
            return self.trap(cpu, bus, Trap::fault(x86::vector::DB));
        }
        let id = match self.find(cpu) {
            Ok(id) => id,
            Err(trap) => return self.trap(cpu, bus, trap),
        };
        let block = self.blocks.get(id).expect("found blocks exist");
        let op = &block.ops[0];
        let is_last = block.ops.len() == 1;
        let rip = cpu.rip;
        cpu.gpr[usize::from(GPR_BLOCK)] = rip;
        cpu.step_repeats = true;
        let done = (op.run)(cpu, bus, op);
        cpu.step_repeats = false;
        cpu.look = true;
        match done {
            Ok(()) if !is_last => cpu.rip = rip.wrapping_add(u64::from(op.end)) & cpu.rip_mask(),
            Ok(()) => {}
            Err(trap) => self.trap(cpu, bus, trap)?,
        }
        if done.is_ok() || done == Err(Trap::AGAIN) {
            if cpu.shadow == shadow {
                cpu.shadow = Shadow::None;
            }
            cpu.flags.rest &= !flags::RF;
            if single_step {
                cpu.pending_debug |= 1 << 14;
            }
            if cpu.pending_debug != 0 && cpu.shadow != Shadow::MovSs {
                return self.trap(cpu, bus, Trap::fault(x86::vector::DB));
            }
        }
        Ok(())
    }
}

impl Engine for Interpreter {
    fn run(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, until: Until) -> Exit {
        cpu.look = true;
        match until {
            Until::Branches(branches) => self.free(cpu, bus, branches),
            Until::Step => {
                if let Some(exit) = self.look_around(cpu, bus) {
                    return exit;
                }
                self.one(cpu, bus)
                    .map_or_else(|exit| exit, |()| Exit::Reached)
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
                    if let Some(exit) = self.look_around(cpu, bus) {
                        return exit;
                    }
                    if cpu.branches == moment.branches
                        && let Err(exit) = self.one(cpu, bus)
                    {
                        return exit;
                    }
                }
            }
        }
    }

    fn reset(&mut self) {
        *self = Interpreter::new();
    }
}
