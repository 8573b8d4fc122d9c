//! What pushes: FLD, FILD, FBLD and the constants. And what moves between
//! registers: FXCH, FST and FSTP to a register, FCMOVcc.

use iced_x86::Code;
use silicon::x87::{self, Constant, Done, F80, status};

use super::Operand;
use crate::fpu::Fpu;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(code: Code) -> Option<Handler> {
    use Code as C;
    Some(match code {
        C::Fld_m32fp => |cpu, bus, op| memory::<u32>(cpu, bus, op, x87::from_f32),
        C::Fld_m64fp => |cpu, bus, op| memory::<u64>(cpu, bus, op, x87::from_f64),
        C::Fild_m16int => {
            |cpu, bus, op| memory::<u16>(cpu, bus, op, |n| x87::from_i16(n.cast_signed()))
        }
        C::Fild_m32int => {
            |cpu, bus, op| memory::<u32>(cpu, bus, op, |n| x87::from_i32(n.cast_signed()))
        }
        C::Fild_m64int => {
            |cpu, bus, op| memory::<u64>(cpu, bus, op, |n| x87::from_i64(n.cast_signed()))
        }
        C::Fld_m80fp => |cpu, bus, op| ten_bytes(cpu, bus, op, F80::from_bytes),
        C::Fbld_m80bcd => |cpu, bus, op| ten_bytes(cpu, bus, op, x87::from_bcd),
        C::Fld_sti => register,
        C::Fld1 => |cpu, _, op| constant(cpu, op, Constant::One),
        C::Fldl2t => |cpu, _, op| constant(cpu, op, Constant::Log2Of10),
        C::Fldl2e => |cpu, _, op| constant(cpu, op, Constant::Log2OfE),
        C::Fldpi => |cpu, _, op| constant(cpu, op, Constant::Pi),
        C::Fldlg2 => |cpu, _, op| constant(cpu, op, Constant::Log10Of2),
        C::Fldln2 => |cpu, _, op| constant(cpu, op, Constant::LnOf2),
        C::Fldz => |cpu, _, op| constant(cpu, op, Constant::Zero),
        C::Fxch_st0_sti | C::Fxch_st0_sti_DDC8 | C::Fxch_st0_sti_DFC8 => exchange,
        C::Fst_sti => to_register::<false>,
        C::Fstpnce_sti => to_register_unchecked,
        C::Fstp_sti | C::Fstp_sti_DFD0 | C::Fstp_sti_DFD8 => to_register::<true>,
        C::Fcmovb_st0_sti => conditional::<0x2>,
        C::Fcmovnb_st0_sti => conditional::<0x3>,
        C::Fcmove_st0_sti => conditional::<0x4>,
        C::Fcmovne_st0_sti => conditional::<0x5>,
        C::Fcmovbe_st0_sti => conditional::<0x6>,
        C::Fcmovnbe_st0_sti => conditional::<0x7>,
        C::Fcmovu_st0_sti => conditional::<0xa>,
        C::Fcmovnu_st0_sti => conditional::<0xb>,
        _ => return None,
    })
}

fn exact(value: F80) -> Done {
    Done { value, status: 0 }
}

/// Pushes what `value` gives, which sees the unit as it is before.
fn push(fpu: &mut Fpu, value: impl FnOnce(&mut Fpu) -> Done) {
    if !fpu.is_empty(7) {
        if fpu.overflow() {
            fpu.push(F80::INDEFINITE);
        }
        return;
    }
    let done = value(fpu);
    // Unlike elsewhere, an unmasked denormal operand doesn't keep the value
    // back: it is loaded, normalised, and the exception waits.
    if fpu.complete(done.status, status::C1) || done.status & status::IE == 0 {
        fpu.push(done.value);
    }
}

fn memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, run: fn(W) -> Done) -> Flow {
    cpu.x87_begin()?;
    let from = cpu.load::<W>(bus, op)?;
    push(&mut cpu.fpu, |_| run(from));
    cpu.x87_end(op, Operand::Memory);
    Ok(())
}

fn ten_bytes(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, run: fn([u8; 10]) -> F80) -> Flow {
    cpu.x87_begin()?;
    let from = cpu.load_80(bus, op)?;
    push(&mut cpu.fpu, |_| exact(run(from)));
    cpu.x87_end(op, Operand::Memory);
    Ok(())
}

fn constant(cpu: &mut Cpu, op: &Op, which: Constant) -> Flow {
    cpu.x87_begin()?;
    push(&mut cpu.fpu, |fpu| {
        exact(x87::constant(fpu.control(), which))
    });
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

/// FLD ST(i).
fn register(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    if fpu.is_empty(op.a) {
        if fpu.underflow() {
            fpu.push(F80::INDEFINITE);
        }
    } else {
        push(fpu, |fpu| exact(fpu.st(op.a)));
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

fn exchange(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let is_done = if fpu.is_empty(0) || fpu.is_empty(op.b) {
        fpu.underflow()
    } else {
        fpu.complete(0, status::C1)
    };
    if is_done {
        let of = |i| {
            if fpu.is_empty(i) {
                F80::INDEFINITE
            } else {
                fpu.st(i)
            }
        };
        let (top, other) = (of(0), of(op.b));
        fpu.set_st(op.b, top);
        fpu.set_st(0, other);
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

/// FST ST(i), FSTP ST(i).
fn to_register<const POP: bool>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let (value, is_done) = if fpu.is_empty(0) {
        (F80::INDEFINITE, fpu.underflow())
    } else {
        (fpu.st(0), fpu.complete(0, status::C1))
    };
    if is_done {
        fpu.set_st(op.a, value);
        if POP {
            fpu.pop();
        }
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

/// FSTPNCE, D9 D8, which isn't in the manual: FSTP ST(i), but an empty ST(0) is
/// only popped.
fn to_register_unchecked(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    if !cpu.fpu.is_empty(0) {
        return to_register::<true>(cpu, bus, op);
    }
    cpu.fpu.update_status(status::C1, 0);
    cpu.fpu.pop();
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

fn conditional<const CONDITION: u8>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let holds = cpu.flags.condition::<CONDITION>();
    let fpu = &mut cpu.fpu;
    if fpu.is_empty(0) || fpu.is_empty(op.b) {
        if fpu.underflow() {
            fpu.set_st(0, F80::INDEFINITE);
        }
    } else if holds {
        fpu.set_st(0, fpu.st(op.b));
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}
