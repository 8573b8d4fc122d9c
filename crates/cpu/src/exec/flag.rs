//! CLC, STC, CMC, CLD, STD, LAHF, SAHF, SALC. (Those that touch more than the
//! arithmetic and direction flags are with the system's instructions.)

use iced_x86::{Instruction, Mnemonic};
use x86::{flags, gpr};

use crate::op::{HIGH_BYTE, Handler};
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction, _: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Clc => clc,
        M::Stc => stc,
        M::Cmc => cmc,
        M::Cld => cld,
        M::Std => std_,
        M::Lahf => lahf,
        M::Sahf => sahf,
        M::Salc => salc,
        _ => return None,
    })
}

fn clc(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.flags.set_cf(false);
    Ok(())
}

fn stc(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.flags.set_cf(true);
    Ok(())
}

fn cmc(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let cf = cpu.flags.cf();
    cpu.flags.set_cf(!cf);
    Ok(())
}

fn cld(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.flags.rest &= !flags::DF;
    Ok(())
}

fn std_(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.flags.rest |= flags::DF;
    Ok(())
}

const AH: u8 = HIGH_BYTE | gpr::RAX;

fn lahf(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    // The low byte of RFLAGS: all that AH can hold.
    let low = (cpu.flags.arithmetic() | flags::FIXED) as u8;
    cpu.set(AH, low);
    Ok(())
}

fn sahf(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let value = u64::from(cpu.get::<u8>(AH));
    cpu.flags.update_arithmetic(flags::ARITHMETIC & 0xff, value);
    Ok(())
}

fn salc(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let value = if cpu.flags.cf() { 0xffu8 } else { 0 };
    cpu.set(gpr::RAX, value);
    Ok(())
}
