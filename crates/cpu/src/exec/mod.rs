//! What each instruction does. One file a family; each offers `lower`, which
//! knows its family's instructions and gives what executes them.

mod alu;
mod avx;
mod bits;
mod bmi;
mod branch;
mod control;
mod decimal;
mod event;
mod exchange;
mod far;
mod flag;
mod form;
mod mmx;
mod mov;
mod msr;
mod multiply;
mod port;
mod save;
mod segment;
mod shift;
mod sse;
mod stack;
mod string;
mod syscall;
mod x87;

use iced_x86::{FlowControl, Instruction, Mnemonic};

use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Model, Op, Trap};

/// `insn`, ready to execute on `model`. What no family knows is not announced:
/// `#UD`.
pub(crate) fn lower(insn: &Instruction, model: Model) -> Op {
    let mut op = Op::of(insn, undefined);
    if insn.is_invalid() {
        return op;
    }
    type Lower = fn(&Instruction, &mut Op) -> Option<Handler>;
    const FAMILIES: &[Lower] = &[
        alu::lower,
        mov::lower,
        branch::lower,
        stack::lower,
        shift::lower,
        bits::lower,
        multiply::lower,
        exchange::lower,
        string::lower,
        flag::lower,
        decimal::lower,
        x87::lower,
        mmx::lower,
        sse::lower,
        save::lower,
        event::lower,
        segment::lower,
        syscall::lower,
        far::lower,
        control::lower,
        msr::lower,
        port::lower,
    ];
    /// Those of x86-64-v3 alone.
    const FAMILIES_V3: &[Lower] = &[bmi::lower, avx::lower];
    let families: &[&[Lower]] = match model {
        Model::V2 => &[FAMILIES],
        Model::V3 => &[FAMILIES, FAMILIES_V3],
    };
    let mut families = families.iter().copied().flatten();
    if let Some(run) = families.find_map(|lower| lower(insn, &mut op)) {
        op.run = run;
    }
    op
}

/// Whether a block ends with `insn`: after it execution may go on elsewhere,
/// or under other rights, sizes or translations. Handlers of such
/// instructions set `rip` themselves.
pub(crate) fn ends_block(insn: &Instruction) -> bool {
    if insn.is_invalid() {
        return true;
    }
    insn.flow_control() != FlowControl::Next
        || matches!(insn.mnemonic(), Mnemonic::Hlt)
        || control::ends_block(insn)
}

/// The end of a block that was cut: goes on at offset `end`.
pub(crate) fn fall_through(end: u16) -> Op {
    let mut op = Op::of(&Instruction::default(), advance);
    op.end = end;
    op
}

/// Sets `rip` to the next instruction.
pub(crate) fn advance(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.rip = cpu.next_rip(op);
    Ok(())
}

/// An instruction that doesn't exist here.
pub(crate) fn undefined(_: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    Err(Trap::UD)
}
