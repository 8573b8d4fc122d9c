//! Functions of the stack's top: FCHS, FABS, FSQRT, FRNDINT, FSCALE, FPREM,
//! FXTRACT and the transcendental ones.

use iced_x86::Code;
use silicon::x87::status::{C0, C1, C2, C3};
use silicon::x87::{self, Control, Done, F80, Pair};

use super::Operand;
use crate::op::Handler;
use crate::{Cpu, Flow, Op};

pub(super) fn lower(code: Code) -> Option<Handler> {
    use Code as C;
    Some(match code {
        C::Fchs => |cpu, _, op| of_one(cpu, op, C1, |_, a| exact(a.negated())),
        C::Fabs => |cpu, _, op| of_one(cpu, op, C1, |_, a| exact(a.absolute())),
        C::Fsqrt => |cpu, _, op| of_one(cpu, op, C1, x87::fsqrt),
        C::Frndint => |cpu, _, op| of_one(cpu, op, C1, x87::frndint),
        C::F2xm1 => |cpu, _, op| of_one(cpu, op, C1, x87::f2xm1),
        C::Fsin => |cpu, _, op| of_one(cpu, op, C1 | C2, x87::fsin),
        C::Fcos => |cpu, _, op| of_one(cpu, op, C1 | C2, x87::fcos),
        C::Fscale => |cpu, _, op| of_two(cpu, op, C1, x87::fscale, Into::Top),
        C::Fprem => |cpu, _, op| of_two(cpu, op, C1 | C2, x87::fprem, Into::Remainder),
        C::Fprem1 => |cpu, _, op| of_two(cpu, op, C1 | C2, x87::fprem1, Into::Remainder),
        C::Fyl2x => |cpu, _, op| of_two(cpu, op, C1, x87::fyl2x, Into::Next),
        C::Fyl2xp1 => |cpu, _, op| of_two(cpu, op, C1, x87::fyl2xp1, Into::Next),
        C::Fpatan => |cpu, _, op| of_two(cpu, op, C1, x87::fpatan, Into::Next),
        C::Fptan => |cpu, _, op| pushing(cpu, op, C1 | C2, x87::fptan),
        C::Fsincos => |cpu, _, op| pushing(cpu, op, C1 | C2, x87::fsincos),
        C::Fxtract => |cpu, _, op| pushing(cpu, op, C1, |_, a| x87::fxtract(a)),
        _ => return None,
    })
}

fn exact(value: F80) -> Done {
    Done { value, status: 0 }
}

/// Replaces ST(0).
fn of_one(cpu: &mut Cpu, op: &Op, conditions: u16, run: fn(Control, F80) -> Done) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    fpu.update_status(conditions & C2, 0);
    let (value, is_done) = if fpu.is_empty(0) {
        (F80::INDEFINITE, fpu.underflow())
    } else {
        let done = run(fpu.control(), fpu.st(0));
        (done.value, fpu.complete(done.status, conditions))
    };
    if is_done {
        fpu.set_st(0, value);
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

/// Where a function of ST(0) and ST(1) puts its result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Into {
    /// In place of ST(0).
    Top,
    /// In place of ST(1), and ST(0) is popped.
    Next,
    /// In place of ST(0); if it is a number, C0 and C3 are of its quotient.
    Remainder,
}

fn of_two(
    cpu: &mut Cpu,
    op: &Op,
    conditions: u16,
    run: fn(Control, F80, F80) -> Done,
    into: Into,
) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    fpu.update_status(conditions & C2, 0);
    let (value, is_done) = if fpu.is_empty(0) || fpu.is_empty(1) {
        (F80::INDEFINITE, fpu.underflow())
    } else {
        let done = run(fpu.control(), fpu.st(0), fpu.st(1));
        let has_quotient = into == Into::Remainder && done.value.is_number();
        let conditions = conditions | if has_quotient { C0 | C3 } else { 0 };
        (done.value, fpu.complete(done.status, conditions))
    };
    if is_done {
        if into == Into::Next {
            fpu.pop();
        }
        fpu.set_st(0, value);
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

/// Replaces ST(0) and pushes. An argument out of range (C2) pushes nothing.
fn pushing(cpu: &mut Cpu, op: &Op, conditions: u16, run: fn(Control, F80) -> Done<Pair>) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let indefinite = Pair {
        replaced: F80::INDEFINITE,
        pushed: F80::INDEFINITE,
    };
    fpu.update_status(conditions & C2, 0);
    let (value, is_done, is_out_of_range) = if fpu.is_empty(0) {
        (indefinite, fpu.underflow(), false)
    } else if !fpu.is_empty(7) {
        (indefinite, fpu.overflow(), false)
    } else {
        let done = run(fpu.control(), fpu.st(0));
        let is_done = fpu.complete(done.status, conditions);
        (done.value, is_done, done.status & conditions & C2 != 0)
    };
    if is_done && !is_out_of_range {
        fpu.set_st(0, value.replaced);
        fpu.push(value.pushed);
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}
