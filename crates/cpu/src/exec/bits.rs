//! BT, BTS, BTR, BTC, BSF, BSR, POPCNT, CRC32.
//!
//! After BT and its kin only CF is defined; the rest stays. After BSF and BSR
//! only ZF is, and with a zero source the destination stays, as both makes
//! have it. The others are as docs/determinism.md says.

use iced_x86::{Instruction, Mnemonic};

use super::form::{Place, by_width, places};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Bt => lower_test::<Look>(insn, op),
        M::Bts => lower_test::<Set>(insn, op),
        M::Btr => lower_test::<Reset>(insn, op),
        M::Btc => lower_test::<Complement>(insn, op),
        M::Bsf => lower_scan::<Forward>(insn, op),
        M::Bsr => lower_scan::<Reverse>(insn, op),
        M::Popcnt => lower_scan::<Count>(insn, op),
        M::Crc32 => lower_crc(insn),
        _ => None,
    }
}

/// What happens to the tested bit.
trait Change {
    const KEEPS: bool = true;
    fn apply(value: u64, bit: u64) -> u64;
}
struct Look;
struct Set;
struct Reset;
struct Complement;
impl Change for Look {
    const KEEPS: bool = false;
    fn apply(value: u64, _: u64) -> u64 {
        value
    }
}
impl Change for Set {
    fn apply(value: u64, bit: u64) -> u64 {
        value | bit
    }
}
impl Change for Reset {
    fn apply(value: u64, bit: u64) -> u64 {
        value & !bit
    }
}
impl Change for Complement {
    fn apply(value: u64, bit: u64) -> u64 {
        value ^ bit
    }
}

fn lower_test<C: Change>(insn: &Instruction, op: &Op) -> Option<Handler> {
    match places(insn) {
        (Place::Register, Place::Immediate) => by_width!(op.size, test_register_immediate, C),
        (Place::Register, _) => by_width!(op.size, test_register_register, C),
        (Place::Memory, Place::Immediate) => by_width!(op.size, test_memory_immediate, C),
        (Place::Memory, _) => by_width!(op.size, test_memory_register, C),
        _ => None,
    }
}

#[inline(always)]
fn test_bit<C: Change, W: Width>(cpu: &mut Cpu, value: W, index: u64) -> W {
    let bit = 1 << (index & u64::from(W::BITS - 1));
    let value = value.zero_extend();
    cpu.flags.set_cf(value & bit != 0);
    W::truncate(C::apply(value, bit))
}

#[inline(always)]
fn test_register<C: Change, W: Width>(cpu: &mut Cpu, op: &Op, index: u64) -> Flow {
    let value = cpu.get::<W>(op.a);
    let result = test_bit::<C, W>(cpu, value, index);
    if C::KEEPS {
        cpu.set(op.a, result);
    }
    Ok(())
}

fn test_register_immediate<C: Change, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    test_register::<C, W>(cpu, op, op.imm)
}

fn test_register_register<C: Change, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let index = cpu.get::<W>(op.b).zero_extend();
    test_register::<C, W>(cpu, op, index)
}

fn test_memory_immediate<C: Change, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if C::KEEPS {
        cpu.modify::<W>(bus, op, |cpu, value| test_bit::<C, W>(cpu, value, op.imm))
    } else {
        let value = cpu.load::<W>(bus, op)?;
        test_bit::<C, W>(cpu, value, op.imm);
        Ok(())
    }
}

/// The bit string may reach beyond the operand, in both directions.
fn test_memory_register<C: Change, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let index = cpu.get::<W>(op.b).sign_extend().cast_signed();
    let words = index.div_euclid(i64::from(W::BITS));
    let displacement = words.wrapping_mul(i64::from(W::BITS / 8)).cast_unsigned();
    let at = cpu.address_plus(op, displacement, W::BYTES, C::KEEPS)?;
    if C::KEEPS {
        cpu.probe_write::<W>(at, op.stack)?;
    }
    let value = cpu.read::<W>(bus, at, op.stack)?;
    let result = test_bit::<C, W>(cpu, value, index.cast_unsigned());
    if C::KEEPS {
        cpu.write(bus, at, op.stack, result)?;
    }
    Ok(())
}

/// A function of one source that sets flags.
trait Scan {
    /// The result; `None` leaves the destination as it is.
    fn apply<W: Width>(cpu: &mut Cpu, source: W) -> Option<u32>;
}
struct Forward;
struct Reverse;
struct Count;

#[inline(always)]
fn scan_flags<W: Width>(cpu: &mut Cpu, source: W) {
    let zero = if source == W::default() {
        x86::flags::ZF
    } else {
        0
    };
    cpu.flags.update_arithmetic(x86::flags::ZF, zero);
}

impl Scan for Forward {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, source: W) -> Option<u32> {
        scan_flags(cpu, source);
        (source != W::default()).then(|| source.zero_extend().trailing_zeros())
    }
}
impl Scan for Reverse {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, source: W) -> Option<u32> {
        scan_flags(cpu, source);
        (source != W::default()).then(|| source.zero_extend().ilog2())
    }
}
impl Scan for Count {
    #[inline(always)]
    fn apply<W: Width>(cpu: &mut Cpu, source: W) -> Option<u32> {
        let zero = if source == W::default() {
            x86::flags::ZF
        } else {
            0
        };
        cpu.flags.set_arithmetic(zero);
        Some(source.zero_extend().count_ones())
    }
}

fn lower_scan<S: Scan>(insn: &Instruction, op: &Op) -> Option<Handler> {
    match places(insn).1 {
        Place::Memory => by_width!(op.size, scan_memory, S),
        _ => by_width!(op.size, scan_register, S),
    }
}

#[inline(always)]
fn scan<S: Scan, W: Width>(cpu: &mut Cpu, op: &Op, source: W) -> Flow {
    if let Some(result) = S::apply(cpu, source) {
        cpu.set(op.a, W::truncate(u64::from(result)));
    }
    Ok(())
}

fn scan_register<S: Scan, W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.get::<W>(op.b);
    scan::<S, W>(cpu, op, source)
}

fn scan_memory<S: Scan, W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.load::<W>(bus, op)?;
    scan::<S, W>(cpu, op, source)
}

fn lower_crc(insn: &Instruction) -> Option<Handler> {
    match places(insn).1 {
        Place::Memory => by_width!(insn.memory_size().size(), crc_memory),
        _ => by_width!(insn.op_register(1).size(), crc_register),
    }
}

/// CRC-32C (polynomial 0x11EDC6F41) over the bytes of `source`, reflected.
#[inline(always)]
fn crc<W: Width>(cpu: &mut Cpu, op: &Op, source: W) -> Flow {
    const REFLECTED: u32 = 0x82f6_3b78;
    let mut remainder = cpu.get::<u32>(op.a);
    for byte in &source.zero_extend().to_le_bytes()[..W::BYTES as usize] {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = remainder >> 1 ^ if remainder & 1 != 0 { REFLECTED } else { 0 };
        }
    }
    cpu.set(op.a, remainder);
    Ok(())
}

fn crc_register<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.get::<W>(op.b);
    crc(cpu, op, source)
}

fn crc_memory<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let source = cpu.load::<W>(bus, op)?;
    crc(cpu, op, source)
}
