//! Decimal adjustment and BOUND, which exist outside of 64-bit mode only: DAA,
//! DAS, AAA, AAS, AAM, AAD. Their pseudocode is the manual's (SDM volume 2A).

use iced_x86::{Instruction, Mnemonic};
use x86::{gpr, vector};

use crate::op::{HIGH_BYTE, Handler};
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

const AL: u8 = gpr::RAX;
const AH: u8 = HIGH_BYTE | gpr::RAX;

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Daa => daa,
        M::Das => das,
        M::Aaa => aaa,
        M::Aas => aas,
        M::Aam => aam,
        M::Aad => aad,
        M::Bound if op.size == 2 => bound::<u16>,
        M::Bound => bound::<u32>,
        _ => return None,
    })
}

fn daa(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    adjust(cpu, u8::wrapping_add, false);
    Ok(())
}

fn das(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    // Here alone the lower digit's own borrow counts.
    let borrows = cpu.get::<u8>(AL) < 6;
    adjust(cpu, u8::wrapping_sub, borrows);
    Ok(())
}

fn adjust(cpu: &mut Cpu, apply: fn(u8, u8) -> u8, low_carries: bool) {
    let old = cpu.get::<u8>(AL);
    let low = old & 15 > 9 || cpu.flags.af();
    let high = old > 0x99 || cpu.flags.cf();
    let value = if low { apply(old, 6) } else { old };
    let value = if high { apply(value, 0x60) } else { value };
    cpu.set(AL, value);
    cpu.flags
        .set_result(value, high || low && low_carries, false, low);
}

fn aaa(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    ascii_adjust(cpu, u16::wrapping_add);
    Ok(())
}

fn aas(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    ascii_adjust(cpu, u16::wrapping_sub);
    Ok(())
}

fn ascii_adjust(cpu: &mut Cpu, apply: fn(u16, u16) -> u16) {
    let adjusts = cpu.get::<u8>(AL) & 15 > 9 || cpu.flags.af();
    let ax = cpu.get::<u16>(gpr::RAX);
    let value = if adjusts { apply(ax, 0x106) } else { ax };
    cpu.set(gpr::RAX, value & 0xff0f);
    cpu.flags
        .set_result(value as u8 & 15, adjusts, false, adjusts);
}

fn aam(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let base = u8::truncate(op.imm);
    let value = cpu.get::<u8>(AL);
    let high = value.checked_div(base).ok_or(Trap::fault(vector::DE))?;
    let low = value % base;
    cpu.set(AH, high);
    cpu.set(AL, low);
    cpu.flags.logic(low);
    Ok(())
}

fn aad(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let high = cpu.get::<u8>(AH).wrapping_mul(u8::truncate(op.imm));
    let low = cpu.get::<u8>(AL).wrapping_add(high);
    cpu.set(gpr::RAX, u16::from(low));
    cpu.flags.logic(low);
    Ok(())
}

/// `#BR` if the signed index lies outside of the two bounds in memory.
fn bound<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let at = cpu.address(op, W::BYTES, false)?;
    let lower = cpu.read::<W>(bus, at, op.stack)?;
    let at = cpu.address_of_part(op, W::BYTES, W::BYTES, false)?;
    let upper = cpu.read::<W>(bus, at, op.stack)?;
    let signed = |value: W| value.sign_extend().cast_signed();
    let index = signed(cpu.get::<W>(op.a));
    if (signed(lower)..=signed(upper)).contains(&index) {
        Ok(())
    } else {
        Err(Trap::fault(vector::BR))
    }
}
