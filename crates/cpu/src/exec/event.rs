//! INT n, INT3, INTO, INT1, HLT, and the flags that decide what interrupts:
//! CLI, STI, PUSHF, POPF, STAC, CLAC.

use iced_x86::{Code, Instruction, Mnemonic};
use x86::{flags, vector};

use super::advance;
use super::segment::privileged;
use crate::interrupt::Event;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flags, Flow, Op, Shadow, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Int => {
            op.a = insn.immediate8();
            int
        }
        M::Int3 => {
            op.a = vector::BP;
            int
        }
        M::Into => {
            op.a = vector::OF;
            into
        }
        M::Int1 => int1,
        M::Hlt => hlt,
        M::Cli => cli,
        M::Sti => sti,
        M::Stac => set_ac::<true>,
        M::Clac => set_ac::<false>,
        _ => match insn.code() {
            Code::Pushfw => pushf::<u16>,
            Code::Pushfd => pushf::<u32>,
            Code::Pushfq => pushf::<u64>,
            Code::Popfw => popf::<u16>,
            Code::Popfd => popf::<u32>,
            Code::Popfq => popf::<u64>,
            _ => return None,
        },
    })
}

fn int(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.rip = cpu.next_rip(op);
    // Its handler isn't stepped into.
    cpu.single_step = false;
    cpu.enter(bus, op.a, None, Event::Software)
}

/// Counts a branch only if it is taken.
fn into(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if cpu.flags.of() {
        int(cpu, bus, op)
    } else {
        advance(cpu, bus, op)
    }
}

fn int1(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.rip = cpu.next_rip(op);
    cpu.single_step = false;
    cpu.enter(bus, vector::DB, None, Event::Int1)
}

fn hlt(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    privileged(cpu)?;
    cpu.halted = true;
    cpu.look = true;
    advance(cpu, bus, op)
}

/// The I/O privilege level.
pub(super) fn iopl(cpu: &Cpu) -> u8 {
    ((cpu.flags.rest & flags::IOPL) >> 12) as u8
}

fn may_change_if(cpu: &Cpu) -> Flow {
    if cpu.cpl <= iopl(cpu) {
        Ok(())
    } else {
        Err(Trap::GP)
    }
}

fn cli(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    may_change_if(cpu)?;
    cpu.flags.rest &= !flags::IF;
    Ok(())
}

fn sti(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    may_change_if(cpu)?;
    if !cpu.flags.has(flags::IF) {
        cpu.flags.rest |= flags::IF;
        cpu.shadow = Shadow::Sti;
        cpu.look = true;
    }
    Ok(())
}

fn set_ac<const ON: bool>(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    if cpu.cpl != 0 {
        return Err(Trap::UD);
    }
    if ON {
        cpu.flags.rest |= flags::AC;
    } else {
        cpu.flags.rest &= !flags::AC;
    }
    cpu.refresh_rights();
    Ok(())
}

fn pushf<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    let image = cpu.flags.value() & !(flags::VM | flags::RF);
    cpu.push(bus, W::truncate(image))
}

fn popf<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    let image = cpu.pop::<W>(bus)?;
    set_flags(cpu, image.zero_extend(), W::BYTES, 0);
    Ok(())
}

/// Loads from `image`, of `bytes`, the flags that the privilege level may
/// change, and those in `more` (SDM volume 2B, POPF).
pub(super) fn set_flags(cpu: &mut Cpu, image: u64, bytes: u64, more: u64) {
    let mut mask = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT | more;
    if bytes > 2 {
        mask |= flags::AC | flags::ID;
    }
    if cpu.cpl <= iopl(cpu) {
        mask |= flags::IF;
    }
    if cpu.cpl == 0 {
        mask |= flags::IOPL;
    }
    let old = cpu.flags.value();
    let new = old & !mask & !flags::RF | image & mask;
    cpu.flags = Flags::new(new);
    if (old ^ new) & flags::AC != 0 {
        cpu.refresh_rights();
    }
    cpu.look |= new & !old & flags::IF != 0 || new & (flags::TF | flags::RF) != 0;
}
