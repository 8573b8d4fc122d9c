//! Stores to memory: FST, FSTP, FIST, FISTP, FISTTP, FBSTP.

use std::convert::identity;

use iced_x86::Code;
use silicon::x87::status::{C1, PE};
use silicon::x87::{self, Control, Done, F80};

use super::Operand;
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(code: Code) -> Option<Handler> {
    use Code as C;
    Some(match code {
        C::Fst_m32fp => store::<Single, false>,
        C::Fstp_m32fp => store::<Single, true>,
        C::Fst_m64fp => store::<Double, false>,
        C::Fstp_m64fp => store::<Double, true>,
        C::Fstp_m80fp => store::<Extended, true>,
        C::Fist_m16int => store::<Int16, false>,
        C::Fistp_m16int => store::<Int16, true>,
        C::Fist_m32int => store::<Int32, false>,
        C::Fistp_m32int => store::<Int32, true>,
        C::Fistp_m64int => store::<Int64, true>,
        C::Fisttp_m16int => store::<Truncated16, true>,
        C::Fisttp_m32int => store::<Truncated32, true>,
        C::Fisttp_m64int => store::<Truncated64, true>,
        C::Fbstp_m80bcd => store::<Decimal, true>,
        _ => return None,
    })
}

/// A format in memory.
trait Format {
    type Bits: Bits;
    /// The masked response to an empty register.
    const INDEFINITE: Self::Bits;
    fn convert(control: Control, value: F80) -> Done<Self::Bits>;
}

/// What is stored: a word or ten bytes.
trait Bits: Copy {
    fn store(self, cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow;
}

macro_rules! words {
    ($($word:ty)*) => {$(
        impl Bits for $word {
            fn store(self, cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
                cpu.store(bus, op, self)
            }
        }
    )*};
}
words!(u16 u32 u64);

impl Bits for [u8; 10] {
    fn store(self, cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
        cpu.store_80(bus, op, self)
    }
}

macro_rules! formats {
    ($($name:ident: $bits:ty = $convert:path, $as_bits:path, $indefinite:expr;)*) => {$(
        struct $name;
        impl Format for $name {
            type Bits = $bits;
            const INDEFINITE: $bits = $indefinite;
            fn convert(control: Control, value: F80) -> Done<$bits> {
                let Done { value, status } = $convert(control, value);
                Done { value: $as_bits(value), status }
            }
        }
    )*};
}

// The indefinite values are those of SDM volume 1, tables 4-1, 4-3 and 4-4.
formats! {
    Single: u32 = x87::to_f32, identity, 0xffc0_0000;
    Double: u64 = x87::to_f64, identity, 0xfff8_0000_0000_0000;
    Extended: [u8; 10] = unconverted, F80::to_bytes, [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
    Int16: u16 = x87::to_i16, i16::cast_unsigned, 1 << 15;
    Int32: u32 = x87::to_i32, i32::cast_unsigned, 1 << 31;
    Int64: u64 = x87::to_i64, i64::cast_unsigned, 1 << 63;
    Truncated16: u16 = x87::to_i16_truncated, i16::cast_unsigned, 1 << 15;
    Truncated32: u32 = x87::to_i32_truncated, i32::cast_unsigned, 1 << 31;
    Truncated64: u64 = x87::to_i64_truncated, i64::cast_unsigned, 1 << 63;
    Decimal: [u8; 10] = x87::to_bcd, identity, [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
}

fn unconverted(_: Control, value: F80) -> Done {
    Done { value, status: 0 }
}

/// Stores ST(0). An unmasked exception other than precision leaves memory and
/// stack alone: here the result would be lost, so overflow and underflow count
/// too (SDM volume 1, 8.5.4 and 8.5.5).
fn store<F: Format, const POP: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let control = cpu.fpu.control();
    let is_empty = cpu.fpu.is_empty(0);
    let (value, status) = if is_empty {
        (F::INDEFINITE, x87::status::IE)
    } else {
        let done = F::convert(control, cpu.fpu.st(0));
        (done.value, done.status)
    };
    let is_stored = control.unmasked(status & !PE) == 0;
    if is_stored {
        value.store(cpu, bus, op)?;
    } else {
        // Its place must be writable all the same.
        let bytes = size_of::<F::Bits>() as u64;
        let at = cpu.address(op, bytes, true)?;
        cpu.probe_write_slow(cpu.space, at, bytes, op.stack)?;
    }
    if is_empty {
        cpu.fpu.underflow();
    } else {
        cpu.fpu.complete(status, C1);
    }
    if is_stored && POP {
        cpu.fpu.pop();
    }
    cpu.x87_end(op, Operand::Memory);
    Ok(())
}
