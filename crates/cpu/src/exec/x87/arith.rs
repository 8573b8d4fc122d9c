//! FADD, FSUB, FMUL, FDIV and their reversed, integer and popping forms.

use iced_x86::Code;
use silicon::x87::{self, Control, Done, F80, status};

use super::Operand;
use crate::fpu::Fpu;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

/// An operation with all its second operands.
trait Operation {
    const F80: fn(Control, F80, F80) -> Done;
    const F32: fn(Control, F80, u32) -> Done;
    const F64: fn(Control, F80, u64) -> Done;
    const I16: fn(Control, F80, i16) -> Done;
    const I32: fn(Control, F80, i32) -> Done;
}

macro_rules! operations {
    ($($name:ident: $f80:ident $f32:ident $f64:ident $i16:ident $i32:ident;)*) => {$(
        struct $name;
        impl Operation for $name {
            const F80: fn(Control, F80, F80) -> Done = x87::$f80;
            const F32: fn(Control, F80, u32) -> Done = x87::$f32;
            const F64: fn(Control, F80, u64) -> Done = x87::$f64;
            const I16: fn(Control, F80, i16) -> Done = x87::$i16;
            const I32: fn(Control, F80, i32) -> Done = x87::$i32;
        }
    )*};
}

operations! {
    Add: fadd fadd_f32 fadd_f64 fadd_i16 fadd_i32;
    Mul: fmul fmul_f32 fmul_f64 fmul_i16 fmul_i32;
    Sub: fsub fsub_f32 fsub_f64 fsub_i16 fsub_i32;
    SubR: fsubr fsubr_f32 fsubr_f64 fsubr_i16 fsubr_i32;
    Div: fdiv fdiv_f32 fdiv_f64 fdiv_i16 fdiv_i32;
    DivR: fdivr fdivr_f32 fdivr_f64 fdivr_i16 fdivr_i32;
}

pub(super) fn lower(code: Code) -> Option<Handler> {
    use Code as C;
    Some(match code {
        C::Fadd_m32fp => f32::<Add>,
        C::Fmul_m32fp => f32::<Mul>,
        C::Fsub_m32fp => f32::<Sub>,
        C::Fsubr_m32fp => f32::<SubR>,
        C::Fdiv_m32fp => f32::<Div>,
        C::Fdivr_m32fp => f32::<DivR>,
        C::Fadd_m64fp => f64::<Add>,
        C::Fmul_m64fp => f64::<Mul>,
        C::Fsub_m64fp => f64::<Sub>,
        C::Fsubr_m64fp => f64::<SubR>,
        C::Fdiv_m64fp => f64::<Div>,
        C::Fdivr_m64fp => f64::<DivR>,
        C::Fiadd_m16int => i16::<Add>,
        C::Fimul_m16int => i16::<Mul>,
        C::Fisub_m16int => i16::<Sub>,
        C::Fisubr_m16int => i16::<SubR>,
        C::Fidiv_m16int => i16::<Div>,
        C::Fidivr_m16int => i16::<DivR>,
        C::Fiadd_m32int => i32::<Add>,
        C::Fimul_m32int => i32::<Mul>,
        C::Fisub_m32int => i32::<Sub>,
        C::Fisubr_m32int => i32::<SubR>,
        C::Fidiv_m32int => i32::<Div>,
        C::Fidivr_m32int => i32::<DivR>,
        C::Fadd_st0_sti | C::Fadd_sti_st0 => registers::<Add, false>,
        C::Fmul_st0_sti | C::Fmul_sti_st0 => registers::<Mul, false>,
        C::Fsub_st0_sti | C::Fsub_sti_st0 => registers::<Sub, false>,
        C::Fsubr_st0_sti | C::Fsubr_sti_st0 => registers::<SubR, false>,
        C::Fdiv_st0_sti | C::Fdiv_sti_st0 => registers::<Div, false>,
        C::Fdivr_st0_sti | C::Fdivr_sti_st0 => registers::<DivR, false>,
        C::Faddp_sti_st0 => registers::<Add, true>,
        C::Fmulp_sti_st0 => registers::<Mul, true>,
        C::Fsubp_sti_st0 => registers::<Sub, true>,
        C::Fsubrp_sti_st0 => registers::<SubR, true>,
        C::Fdivp_sti_st0 => registers::<Div, true>,
        C::Fdivrp_sti_st0 => registers::<DivR, true>,
        _ => return None,
    })
}

/// ST(a) becomes the operation of it and ST(b).
fn registers<O: Operation, const POP: bool>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let fpu = &mut cpu.fpu;
    let source = fpu.st(op.b);
    let is_done = if fpu.is_empty(op.b) {
        without_operand(fpu, op.a)
    } else {
        operate(fpu, op.a, |control, value| (O::F80)(control, value, source))
    };
    if is_done && POP {
        fpu.pop();
    }
    cpu.x87_end(op, Operand::Register);
    Ok(())
}

fn f32<O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    memory::<u32>(cpu, bus, op, O::F32)
}

fn f64<O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    memory::<u64>(cpu, bus, op, O::F64)
}

fn i16<O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    memory::<u16>(cpu, bus, op, |control, value, source| {
        (O::I16)(control, value, source.cast_signed())
    })
}

fn i32<O: Operation>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    memory::<u32>(cpu, bus, op, |control, value, source| {
        (O::I32)(control, value, source.cast_signed())
    })
}

/// ST(0) becomes the operation of it and the memory operand.
fn memory<W: Width>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
    run: fn(Control, F80, W) -> Done,
) -> Flow {
    cpu.x87_begin()?;
    let source = cpu.load::<W>(bus, op)?;
    operate(&mut cpu.fpu, 0, |control, value| {
        run(control, value, source)
    });
    cpu.x87_end(op, Operand::Memory);
    Ok(())
}

/// Replaces ST(i) by `run` of it. False if an unmasked exception forbids it.
fn operate(fpu: &mut Fpu, i: u8, run: impl FnOnce(Control, F80) -> Done) -> bool {
    if fpu.is_empty(i) {
        return without_operand(fpu, i);
    }
    let done = run(fpu.control(), fpu.st(i));
    if !fpu.complete(done.status, status::C1) {
        return false;
    }
    fpu.set_st(i, done.value);
    true
}

fn without_operand(fpu: &mut Fpu, i: u8) -> bool {
    let is_masked = fpu.underflow();
    if is_masked {
        fpu.set_st(i, F80::INDEFINITE);
    }
    is_masked
}
