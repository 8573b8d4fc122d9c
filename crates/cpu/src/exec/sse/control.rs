//! LDMXCSR, STMXCSR, the fences and CLFLUSH.
//!
//! One processor's loads and stores take place in order, and memory has no
//! cache, so fences and flushes do nothing; CLFLUSH still translates.

use iced_x86::{Instruction, Mnemonic};
use silicon::mxcsr;

use super::Encoding;
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(in crate::exec) fn lower<E: Encoding>(insn: &Instruction) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Ldmxcsr | M::Vldmxcsr => ldmxcsr::<E>,
        M::Stmxcsr | M::Vstmxcsr => stmxcsr::<E>,
        M::Lfence | M::Mfence | M::Sfence => fence,
        M::Clflush => clflush,
        _ => return None,
    })
}

fn ldmxcsr<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let value = cpu.load::<u32>(bus, op)?;
    if value & !mxcsr::EXISTING != 0 {
        return Err(Trap::GP);
    }
    cpu.mxcsr = value;
    Ok(())
}

fn stmxcsr<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
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
