//! FCOM, FUCOM, FICOM, FTST, FXAM, and the forms that set EFLAGS or pop.

use iced_x86::Code;
use silicon::x87::status::{C0, C1, C2, C3, EXCEPTIONS};
use silicon::x87::{self, F80};
use x86::flags;

use super::Operand;
use crate::fpu::Fpu;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// What a comparison of two registers gives, as `silicon` has it.
type Compare = fn(F80, F80) -> u16;

const CONDITIONS: u16 = C0 | C1 | C2 | C3;
/// What stands for "unordered".
const UNORDERED: u16 = C0 | C2 | C3;

pub(super) fn lower(code: Code, op: &mut Op) -> Option<Handler> {
    use Code as C;
    Some(match code {
        C::Fcom_st0_sti | C::Fcom_st0_sti_DCD0 => |cpu, _, op| registers(cpu, op, x87::fcom, 0),
        C::Fcomp_st0_sti | C::Fcomp_st0_sti_DCD8 | C::Fcomp_st0_sti_DED0 => {
            |cpu, _, op| registers(cpu, op, x87::fcom, 1)
        }
        C::Fucom_st0_sti => |cpu, _, op| registers(cpu, op, x87::fucom, 0),
        C::Fucomp_st0_sti => |cpu, _, op| registers(cpu, op, x87::fucom, 1),
        C::Fcompp => {
            op.b = 1;
            |cpu, _, op| registers(cpu, op, x87::fcom, 2)
        }
        C::Fucompp => {
            op.b = 1;
            |cpu, _, op| registers(cpu, op, x87::fucom, 2)
        }
        C::Fcom_m32fp => |cpu, bus, op| memory::<u32>(cpu, bus, op, x87::fcom_f32, 0),
        C::Fcomp_m32fp => |cpu, bus, op| memory::<u32>(cpu, bus, op, x87::fcom_f32, 1),
        C::Fcom_m64fp => |cpu, bus, op| memory::<u64>(cpu, bus, op, x87::fcom_f64, 0),
        C::Fcomp_m64fp => |cpu, bus, op| memory::<u64>(cpu, bus, op, x87::fcom_f64, 1),
        C::Ficom_m16int => |cpu, bus, op| memory::<u16>(cpu, bus, op, with_i16, 0),
        C::Ficomp_m16int => |cpu, bus, op| memory::<u16>(cpu, bus, op, with_i16, 1),
        C::Ficom_m32int => |cpu, bus, op| memory::<u32>(cpu, bus, op, with_i32, 0),
        C::Ficomp_m32int => |cpu, bus, op| memory::<u32>(cpu, bus, op, with_i32, 1),
        C::Ftst => test,
        C::Fxam => examine,
        C::Fcomi_st0_sti => |cpu, _, op| to_flags(cpu, op, x87::fcom, 0),
        C::Fcomip_st0_sti => |cpu, _, op| to_flags(cpu, op, x87::fcom, 1),
        C::Fucomi_st0_sti => |cpu, _, op| to_flags(cpu, op, x87::fucom, 0),
        C::Fucomip_st0_sti => |cpu, _, op| to_flags(cpu, op, x87::fucom, 1),
        _ => return None,
    })
}

fn with_i16(value: F80, other: u16) -> u16 {
    x87::fcom_i16(value, other.cast_signed())
}

fn with_i32(value: F80, other: u32) -> u16 {
    x87::fcom_i32(value, other.cast_signed())
}

/// Compares ST(0) and ST(b), then pops `pops` times.
fn registers(cpu: &mut Cpu, op: &Op, run: Compare, pops: u8) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let other = (!fpu.is_empty(op.b)).then(|| fpu.st(op.b));
    compare(fpu, pops, |value| other.map(|other| run(value, other)));
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

fn memory<W: Width>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
    run: fn(F80, W) -> u16,
    pops: u8,
) -> Flow {
    cpu.x87_begin()?;
    let other = cpu.load::<W>(bus, op)?;
    compare(&mut cpu.fpu, pops, |value| Some(run(value, other)));
    cpu.x87_end(op, Operand::Memory);
    Ok(())
}

/// FTST.
fn test(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    compare(&mut cpu.fpu, 0, |value| Some(x87::ftst(value)));
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

/// Sets the condition codes from `run` of ST(0), which gives `None` where its
/// other operand is empty. They are set whatever is unmasked, as processors do
/// it; the manual has them unchanged by an unmasked invalid operation.
fn compare(fpu: &mut Fpu, pops: u8, run: impl FnOnce(F80) -> Option<u16>) {
    let outcome = if fpu.is_empty(0) {
        None
    } else {
        run(fpu.st(0))
    };
    let is_done = match outcome {
        Some(bits) => fpu.complete(bits, C1),
        None => fpu.underflow(),
    };
    fpu.update_status(CONDITIONS, outcome.unwrap_or(UNORDERED));
    if is_done {
        (0..pops).for_each(|_| fpu.pop());
    }
}

/// FCOMI and its like: ZF, PF and CF are C3, C2 and C0, whatever is unmasked;
/// the condition codes stay, but for C1 on a stack fault.
fn to_flags(cpu: &mut Cpu, op: &Op, run: Compare, pops: u8) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let (bits, is_done) = if fpu.is_empty(0) || fpu.is_empty(op.b) {
        (UNORDERED, fpu.underflow())
    } else {
        let bits = run(fpu.st(0), fpu.st(op.b));
        let c1 = fpu.status() & C1;
        let is_done = fpu.complete(bits & EXCEPTIONS, 0);
        fpu.update_status(C1, c1);
        (bits, is_done)
    };
    if is_done {
        (0..pops).for_each(|_| fpu.pop());
    }
    let flag = |condition, flag| if bits & condition != 0 { flag } else { 0 };
    let value = flag(C3, flags::ZF) | flag(C2, flags::PF) | flag(C0, flags::CF);
    cpu.flags.set_arithmetic(value);
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

fn examine(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let examined = fpu.st(0).examined();
    // The sign counts of an empty register too.
    let bits = if fpu.is_empty(0) {
        C3 | C0 | examined & C1
    } else {
        examined
    };
    fpu.update_status(CONDITIONS, bits);
    cpu.x87_end(op, Operand::Register);
    Ok(())
}
