//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST; INC, DEC, NEG, NOT.

use iced_x86::{Instruction, Mnemonic};

use super::form::{Place, by_width, places};
use crate::flags::Flags;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// A two-operand operation.
trait Binary {
    /// Whether the result is kept: not so for CMP and TEST.
    const KEEPS: bool = true;
    fn apply<W: Width>(flags: &mut Flags, a: W, b: W) -> W;
}

macro_rules! binary {
    ($name:ident, $keeps:expr, |$flags:ident, $a:ident, $b:ident| $body:expr) => {
        struct $name;
        impl Binary for $name {
            const KEEPS: bool = $keeps;
            #[inline(always)]
            fn apply<W: Width>($flags: &mut Flags, $a: W, $b: W) -> W {
                $body
            }
        }
    };
}

#[inline(always)]
fn logic<W: Width>(flags: &mut Flags, result: W) -> W {
    flags.logic(result);
    result
}

#[inline(always)]
fn add<W: Width>(flags: &mut Flags, a: W, b: W, carry: u64) -> W {
    let result = a.plus(b).plus(W::truncate(carry));
    flags.add(a, b, result);
    result
}

#[inline(always)]
fn subtract<W: Width>(flags: &mut Flags, a: W, b: W, borrow: u64) -> W {
    let result = a.minus(b).minus(W::truncate(borrow));
    flags.sub(a, b, result);
    result
}

binary!(Add, true, |flags, a, b| add(flags, a, b, 0));
binary!(Or, true, |flags, a, b| logic(flags, a | b));
binary!(Adc, true, |flags, a, b| add(
    flags,
    a,
    b,
    u64::from(flags.cf())
));
binary!(Sbb, true, |flags, a, b| subtract(
    flags,
    a,
    b,
    u64::from(flags.cf())
));
binary!(And, true, |flags, a, b| logic(flags, a & b));
binary!(Sub, true, |flags, a, b| subtract(flags, a, b, 0));
binary!(Xor, true, |flags, a, b| logic(flags, a ^ b));
binary!(Cmp, false, |flags, a, b| subtract(flags, a, b, 0));
binary!(Test, false, |flags, a, b| logic(flags, a & b));

/// A one-operand operation.
trait Unary {
    fn apply<W: Width>(flags: &mut Flags, a: W) -> W;
}

macro_rules! unary {
    ($name:ident, |$flags:ident, $a:ident| $body:expr) => {
        struct $name;
        impl Unary for $name {
            #[inline(always)]
            fn apply<W: Width>($flags: &mut Flags, $a: W) -> W {
                $body
            }
        }
    };
}

unary!(Inc, |flags, a| {
    let carry = flags.cf();
    let result = add(flags, a, W::truncate(1), 0);
    flags.set_cf(carry);
    result
});
unary!(Dec, |flags, a| {
    let carry = flags.cf();
    let result = subtract(flags, a, W::truncate(1), 0);
    flags.set_cf(carry);
    result
});
unary!(Neg, |flags, a| subtract(flags, W::default(), a, 0));
unary!(Not, |_flags, a| !a);

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    match insn.mnemonic() {
        Mnemonic::Add => lower_binary::<Add>(insn, op),
        Mnemonic::Or => lower_binary::<Or>(insn, op),
        Mnemonic::Adc => lower_binary::<Adc>(insn, op),
        Mnemonic::Sbb => lower_binary::<Sbb>(insn, op),
        Mnemonic::And => lower_binary::<And>(insn, op),
        Mnemonic::Sub => lower_binary::<Sub>(insn, op),
        Mnemonic::Xor => lower_binary::<Xor>(insn, op),
        Mnemonic::Cmp => lower_binary::<Cmp>(insn, op),
        Mnemonic::Test => lower_binary::<Test>(insn, op),
        Mnemonic::Inc => lower_unary::<Inc>(insn, op),
        Mnemonic::Dec => lower_unary::<Dec>(insn, op),
        Mnemonic::Neg => lower_unary::<Neg>(insn, op),
        Mnemonic::Not => lower_unary::<Not>(insn, op),
        _ => None,
    }
}

fn lower_binary<B: Binary>(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    match places(insn) {
        (Place::Register, Place::Register) => by_width!(op.size, register_register, B),
        (Place::Register, Place::Immediate) => by_width!(op.size, register_immediate, B),
        (Place::Register, Place::Memory) => by_width!(op.size, register_memory, B),
        (Place::Memory, Place::Register) => by_width!(op.size, memory_register, B),
        (Place::Memory, Place::Immediate) => by_width!(op.size, memory_immediate, B),
        _ => None,
    }
}

fn lower_unary<U: Unary>(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    match places(insn).0 {
        Place::Register => by_width!(op.size, unary_register, U),
        Place::Memory => by_width!(op.size, unary_memory, U),
        _ => None,
    }
}

fn register_register<B: Binary, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let (a, b) = (cpu.get::<W>(op.a), cpu.get::<W>(op.b));
    let result = B::apply(&mut cpu.flags, a, b);
    if B::KEEPS {
        cpu.set(op.a, result);
    }
    Ok(())
}

fn register_immediate<B: Binary, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let a = cpu.get::<W>(op.a);
    let result = B::apply(&mut cpu.flags, a, W::truncate(op.imm));
    if B::KEEPS {
        cpu.set(op.a, result);
    }
    Ok(())
}

fn register_memory<B: Binary, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.with_load::<W>(bus, op, |cpu, b| {
        let a = cpu.get::<W>(op.a);
        let result = B::apply(&mut cpu.flags, a, b);
        if B::KEEPS {
            cpu.set(op.a, result);
        }
    })
}

fn memory_register<B: Binary, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let b = cpu.get::<W>(op.b);
    memory_value::<B, W>(cpu, bus, op, b)
}

fn memory_immediate<B: Binary, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    memory_value::<B, W>(cpu, bus, op, W::truncate(op.imm))
}

#[inline(always)]
fn memory_value<B: Binary, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, b: W) -> Flow {
    if B::KEEPS {
        cpu.modify(bus, op, |cpu, a| B::apply(&mut cpu.flags, a, b))
    } else {
        cpu.with_load::<W>(bus, op, |cpu, a| {
            B::apply(&mut cpu.flags, a, b);
        })
    }
}

fn unary_register<U: Unary, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let a = cpu.get::<W>(op.a);
    let result = U::apply(&mut cpu.flags, a);
    cpu.set(op.a, result);
    Ok(())
}

fn unary_memory<U: Unary, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.modify::<W>(bus, op, |cpu, a| U::apply(&mut cpu.flags, a))
}
