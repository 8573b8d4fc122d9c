//! LDMXCSR, STMXCSR, the fences and CLFLUSH.
//!
//! One processor's loads and stores take place in order, and memory has no
//! cache, so fences and flushes do nothing; CLFLUSH still translates.

use iced_x86::{Instruction, Mnemonic};
use silicon::mxcsr;

use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Ldmxcsr => ldmxcsr,
        M::Stmxcsr => stmxcsr,
        M::Lfence | M::Mfence | M::Sfence => fence,
        M::Clflush => clflush,
        _ => return None,
    })
}

fn ldmxcsr(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let value = cpu.load::<u32>(bus, op)?;
    if value & !mxcsr::EXISTING != 0 {
        return Err(Trap::GP);
    }
    cpu.mxcsr = value;
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let value = cpu.mxcsr;
    cpu.store(bus, op, value)
}

fn fence(_: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    Ok(())
}

fn clflush(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    // It faults as a load of the byte does (SDM volume 2, `CLFLUSH`), but a
    // device sees nothing.
    let at = cpu.address(op, 1, false)?;
    cpu.probe_read_slow(cpu.space, at, 1, op.stack)
}
