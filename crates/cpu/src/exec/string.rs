//! MOVS, STOS, LODS, SCAS, CMPS, with and without REP.
//!
//! A repeated one can be stopped between any two iterations: its registers
//! then say how far it came, and it starts again where it stands. It counts a
//! branch whenever its counter becomes a multiple of 65,536 (`moment::Moment`).

use iced_x86::{Instruction, Mnemonic, OpKind};
use x86::{Linear, PAGE_BYTES, flags, gpr, seg};

use super::form::by_width;
use crate::op::{AddressSize, Handler, prefix};
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

/// Iterations between two branches at most.
pub(super) const STRIDE: u64 = 1 << 16;

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    // MOVSD and CMPSD are also names of SSE instructions.
    let is_string = (0..insn.op_count()).any(|n| {
        use OpKind as K;
        matches!(
            insn.op_kind(n),
            K::MemorySegSI
                | K::MemorySegESI
                | K::MemorySegRSI
                | K::MemoryESDI
                | K::MemoryESEDI
                | K::MemoryESRDI
        )
    });
    if !is_string {
        return None;
    }
    op.size = u8::try_from(insn.memory_size().size()).ok()?;
    let long = insn.code_size() == iced_x86::CodeSize::Code64;
    let source = insn.memory_segment();
    op.seg = source_segment(long, source);
    op.c = es(long);
    match insn.mnemonic() {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => by_width!(op.size, movs),
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => by_width!(op.size, stos),
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => by_width!(op.size, lods),
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => by_width!(op.size, scas),
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => by_width!(op.size, cmps),
        _ => None,
    }
}

fn es(long: bool) -> u8 {
    if long { seg::FLAT } else { seg::ES }
}

fn source_segment(long: bool, segment: iced_x86::Register) -> u8 {
    use iced_x86::Register as R;
    match segment {
        R::FS => seg::FS,
        R::GS => seg::GS,
        _ if long => seg::FLAT,
        R::ES => seg::ES,
        R::CS => seg::CS,
        R::SS => seg::SS,
        _ => seg::DS,
    }
}

/// An index or count register at the instruction's address size.
pub(super) fn register(cpu: &Cpu, op: &Op, number: u8) -> u64 {
    let value = cpu.gpr[usize::from(number)];
    value & op.address.last()
}

/// Sets an index or count register at the instruction's address size.
pub(super) fn set_register(cpu: &mut Cpu, op: &Op, number: u8, value: u64) {
    match op.address {
        AddressSize::Bits64 => cpu.set(number, value),
        AddressSize::Bits32 => cpu.set(number, u32::truncate(value)),
        AddressSize::Bits16 => cpu.set(number, u16::truncate(value)),
    }
}

/// Moves an index register past `elements` elements, in the direction of DF.
pub(super) fn advance_index<W: Width>(cpu: &mut Cpu, op: &Op, number: u8, elements: u64) {
    let bytes = W::BYTES.wrapping_mul(elements);
    let old = register(cpu, op, number);
    let new = if cpu.flags.has(flags::DF) {
        old.wrapping_sub(bytes)
    } else {
        old.wrapping_add(bytes)
    };
    set_register(cpu, op, number, new);
}

/// Whether a repetition goes on after an iteration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Enough,
}

/// Runs `bulk` or `once` under the repeat prefix. `bulk` does up to the given
/// number of iterations in one go and says how many (0: it can't); it is only
/// asked where no one wants to stop between them.
pub(super) fn repeat(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
    mut bulk: impl FnMut(&mut Cpu, u64) -> u64,
    mut once: impl FnMut(&mut Cpu, &mut dyn Bus) -> Flow<Next>,
) -> Flow {
    if op.prefix & (prefix::REPE | prefix::REPNE) == 0 {
        return once(cpu, bus).map(|_| ());
    }
    let mut count = register(cpu, op, gpr::RCX);
    if count == 0 {
        return Ok(());
    }
    loop {
        // Up to where the next branch is counted.
        let stride = (count - 1) % STRIDE + 1;
        let done = if cpu.step_repeats {
            0
        } else {
            bulk(cpu, stride)
        };
        let next = if done == 0 {
            once(cpu, bus)?
        } else {
            Next::Continue
        };
        count -= done.max(1);
        set_register(cpu, op, gpr::RCX, count);
        if count == 0 || next == Next::Enough {
            return Ok(());
        }
        if count.is_multiple_of(STRIDE) {
            cpu.branches += 1;
            return Err(Trap::AGAIN);
        }
        if cpu.look || cpu.step_repeats {
            return Err(Trap::AGAIN);
        }
    }
}

/// [`repeat`], of what can only be done an iteration at a time.
pub(super) fn repeat_singly(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
    once: impl FnMut(&mut Cpu, &mut dyn Bus) -> Flow<Next>,
) -> Flow {
    repeat(cpu, bus, op, |_, _| 0, once)
}

fn source<W: Width>(cpu: &Cpu, op: &Op) -> Flow<Linear> {
    cpu.string_address(op.seg, register(cpu, op, gpr::RSI), W::BYTES, false)
}

fn destination<W: Width>(cpu: &Cpu, op: &Op, write: bool) -> Flow<Linear> {
    cpu.string_address(op.c, register(cpu, op, gpr::RDI), W::BYTES, write)
}

/// Where the element at index register `number` lies, and how many from there
/// upwards, `count` at most, lie in the same page one behind the other. `None`: not
/// even that one does, the direction is down, or addresses wrap or meet a limit.
fn span<W: Width>(
    cpu: &Cpu,
    op: &Op,
    (segment, number): (u8, u8),
    count: u64,
    write: bool,
) -> Option<(Linear, u64)> {
    if cpu.flags.has(flags::DF) {
        return None;
    }
    let address = |offset| cpu.string_address(segment, offset, W::BYTES, write).ok();
    let offset = register(cpu, op, number);
    let at = address(offset)?;
    let count = count.min((PAGE_BYTES - at.offset()) / W::BYTES);
    let before_last = count.checked_sub(1)? * W::BYTES;
    let last = offset.checked_add(before_last)?;
    let is_straight = last <= op.address.last() && address(last)? == at.plus(before_last);
    is_straight.then_some((at, count))
}

fn movs<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    repeat(
        cpu,
        bus,
        op,
        |cpu, count| movs_bulk::<W>(cpu, op, count).unwrap_or(0),
        |cpu, bus| {
            let at = source::<W>(cpu, op)?;
            let value = cpu.read::<W>(bus, at, op.seg == seg::SS)?;
            let at = destination::<W>(cpu, op, true)?;
            cpu.write(bus, at, false, value)?;
            advance_index::<W>(cpu, op, gpr::RSI, 1);
            advance_index::<W>(cpu, op, gpr::RDI, 1);
            Ok(Next::Continue)
        },
    )
}

fn movs_bulk<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> Option<u64> {
    let (from, count) = span::<W>(cpu, op, (op.seg, gpr::RSI), count, false)?;
    let (to, count) = span::<W>(cpu, op, (op.c, gpr::RDI), count, true)?;
    let bytes = count * W::BYTES;
    let from = cpu.tlb.read(cpu.space, from, bytes)?;
    let to = cpu.tlb.write(cpu.space, to, bytes)?;
    // An upward copy onto itself repeats what it has just written: left to
    // the single steps.
    if to.0 > from.0 && to.0 < from.0 + bytes {
        return None;
    }
    cpu.ram.copy(from, to, bytes);
    advance_index::<W>(cpu, op, gpr::RSI, count);
    advance_index::<W>(cpu, op, gpr::RDI, count);
    Some(count)
}

fn stos<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<W>(gpr::RAX);
    repeat(
        cpu,
        bus,
        op,
        |cpu, count| stos_bulk(cpu, op, count, value).unwrap_or(0),
        |cpu, bus| {
            let at = destination::<W>(cpu, op, true)?;
            cpu.write(bus, at, false, value)?;
            advance_index::<W>(cpu, op, gpr::RDI, 1);
            Ok(Next::Continue)
        },
    )
}

fn stos_bulk<W: Width>(cpu: &mut Cpu, op: &Op, count: u64, value: W) -> Option<u64> {
    let (to, count) = span::<W>(cpu, op, (op.c, gpr::RDI), count, true)?;
    let to = cpu.tlb.write(cpu.space, to, count * W::BYTES)?;
    cpu.ram.fill(to, value, count);
    advance_index::<W>(cpu, op, gpr::RDI, count);
    Some(count)
}

fn lods<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    repeat_singly(cpu, bus, op, |cpu, bus| {
        let at = source::<W>(cpu, op)?;
        let value = cpu.read::<W>(bus, at, op.seg == seg::SS)?;
        cpu.set(gpr::RAX, value);
        advance_index::<W>(cpu, op, gpr::RSI, 1);
        Ok(Next::Continue)
    })
}

/// Compares, and tells whether the prefix asks for more.
fn compare<W: Width>(cpu: &mut Cpu, op: &Op, a: W, b: W) -> Next {
    cpu.flags.sub(a, b, a.minus(b));
    let wanted = op.prefix & prefix::REPE != 0;
    if cpu.flags.zf() == wanted {
        Next::Continue
    } else {
        Next::Enough
    }
}

fn scas<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    repeat_singly(cpu, bus, op, |cpu, bus| {
        let at = destination::<W>(cpu, op, false)?;
        let value = cpu.read::<W>(bus, at, false)?;
        advance_index::<W>(cpu, op, gpr::RDI, 1);
        let accumulator = cpu.get::<W>(gpr::RAX);
        Ok(compare(cpu, op, accumulator, value))
    })
}

fn cmps<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    repeat_singly(cpu, bus, op, |cpu, bus| {
        let at = source::<W>(cpu, op)?;
        let a = cpu.read::<W>(bus, at, op.seg == seg::SS)?;
        let at = destination::<W>(cpu, op, false)?;
        let b = cpu.read::<W>(bus, at, false)?;
        advance_index::<W>(cpu, op, gpr::RSI, 1);
        advance_index::<W>(cpu, op, gpr::RDI, 1);
        Ok(compare(cpu, op, a, b))
    })
}
