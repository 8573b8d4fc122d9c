//! IN, OUT, INS, OUTS (SDM volume 1, chapter 19).

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use x86::{gpr, seg};

use super::event::iopl;
use super::string::{Next, advance_index, register, repeat_singly};
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    macro_rules! by_port_width {
        ($size:expr, $handler:ident) => {
            match $size {
                1 => Some($handler::<u8> as Handler),
                2 => Some($handler::<u16> as Handler),
                _ => Some($handler::<u32> as Handler),
            }
        };
    }
    let by_register =
        |n| insn.op_kind(n) == OpKind::Register && insn.op_register(n) == Register::DX;
    match insn.mnemonic() {
        M::In => {
            op.c = u8::from(by_register(1));
            by_port_width!(insn.op_register(0).size(), in_)
        }
        M::Out => {
            op.c = u8::from(by_register(0));
            by_port_width!(insn.op_register(1).size(), out)
        }
        M::Insb | M::Insw | M::Insd => {
            let long = insn.code_size() == iced_x86::CodeSize::Code64;
            op.seg = if long { seg::FLAT } else { seg::ES };
            by_port_width!(insn.memory_size().size(), ins)
        }
        M::Outsb | M::Outsw | M::Outsd => by_port_width!(insn.memory_size().size(), outs),
        _ => None,
    }
}

/// The port: DX if `c` says so, else the immediate.
fn port(cpu: &Cpu, op: &Op) -> u16 {
    if op.c != 0 {
        cpu.get(gpr::RDX)
    } else {
        op.imm as u16 & 0xff
    }
}

/// Whether the program may use `bytes` ports from `port`: by its level, or by
/// the TSS's bit map.
fn check(cpu: &mut Cpu, bus: &mut dyn Bus, port: u16, bytes: u64) -> Flow {
    if cpu.cpl <= iopl(cpu) {
        return Ok(());
    }
    let limit = u64::from(cpu.tr.limit);
    // A 16-bit TSS has no map.
    if !cpu.tr.has(8) || limit < 103 {
        return Err(Trap::GP);
    }
    let word = |cpu: &mut Cpu, bus: &mut dyn Bus, offset: u64| {
        let at = cpu.table_linear(cpu.tr.base.wrapping_add(offset));
        cpu.read_system::<u16>(bus, at)
    };
    let map = u64::from(word(cpu, bus, 102)?);
    let offset = map + u64::from(port) / 8;
    if offset + 1 > limit {
        return Err(Trap::GP);
    }
    let bits = u64::from(word(cpu, bus, offset)?) >> (port % 8);
    if bits & ((1 << bytes) - 1) != 0 {
        return Err(Trap::GP);
    }
    Ok(())
}

fn read_port<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, port: u16) -> W {
    cpu.note_port_access(port, W::BYTES);
    let value = bus.port_in(&cpu.ram, cpu.branches, port, W::BYTES as u8);
    cpu.after_bus(bus);
    W::truncate(value.into())
}

fn write_port<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, port: u16, value: W) {
    cpu.note_port_access(port, W::BYTES);
    // At most 32 bits wide.
    let value = value.zero_extend() as u32;
    bus.port_out(&cpu.ram, cpu.branches, port, W::BYTES as u8, value);
    cpu.after_bus(bus);
}

fn in_<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let port = port(cpu, op);
    check(cpu, bus, port, W::BYTES)?;
    let value = read_port::<W>(cpu, bus, port);
    cpu.set(gpr::RAX, value);
    Ok(())
}

fn out<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let port = port(cpu, op);
    check(cpu, bus, port, W::BYTES)?;
    let value = cpu.get::<W>(gpr::RAX);
    write_port(cpu, bus, port, value);
    Ok(())
}

fn ins<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let port = cpu.get::<u16>(gpr::RDX);
    check(cpu, bus, port, W::BYTES)?;
    repeat_singly(cpu, bus, op, |cpu, bus| {
        let offset = register(cpu, op, gpr::RDI);
        let at = cpu.string_address(op.seg, offset, W::BYTES, true)?;
        // What is read from a device can't be put back.
        cpu.probe_write::<W>(at, false)?;
        let value = read_port::<W>(cpu, bus, port);
        cpu.write(bus, at, false, value)?;
        advance_index::<W>(cpu, op, gpr::RDI, 1);
        Ok(Next::Continue)
    })
}

fn outs<W: Width>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let port = cpu.get::<u16>(gpr::RDX);
    check(cpu, bus, port, W::BYTES)?;
    repeat_singly(cpu, bus, op, |cpu, bus| {
        let offset = register(cpu, op, gpr::RSI);
        let at = cpu.string_address(op.seg, offset, W::BYTES, false)?;
        let value = cpu.read::<W>(bus, at, op.stack)?;
        write_port(cpu, bus, port, value);
        advance_index::<W>(cpu, op, gpr::RSI, 1);
        Ok(Next::Continue)
    })
}

#[cfg(test)]
mod tests {
    use x86::control::pte;
    use x86::{Physical, gpr, vector};

    use crate::rig::{CODE, Rig, TSS, WINDOW};

    #[test]
    fn ports_are_read_and_written_at_every_width() {
        let mut rig = Rig::new();
        rig.cpu.gpr[usize::from(gpr::RDX)] = 0x3f8;
        // in al, 0x60; out dx, al; in eax, dx; out 0x70, eax; hlt
        rig.code(&[0xe4, 0x60, 0xee, 0xed, 0xe7, 0x70, 0xf4]);
        rig.run();
        let value = (0x3f8 * 0x0101_0101u64) & 0xffff_ffff;
        assert_eq!(rig.board.writes, [(0x3f8, 1, 0x60), (0x70, 4, value)]);
    }

    #[test]
    fn at_level_3_the_bit_map_decides() {
        let mut rig = Rig::new();
        rig.cpu.tr.limit = 0x67 + 0x80;
        rig.cpu.ram.store(Physical(TSS + 102), 0x68u16);
        rig.cpu.ram.store(Physical(TSS + 0x68 + 0xc), 0x02u8);
        rig.at_level(3);
        // in al, 0x60; in al, 0x61
        rig.code(&[0xe4, 0x60, 0xe4, 0x61]);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
        assert_eq!(rig.stacked(1), CODE + 2);
        // in ax, 0x60 touches both
        rig.at_level(3);
        rig.code(&[0x66, 0xe5, 0x60]);
        rig.run();
        assert_eq!(rig.stacked(1), CODE);
    }

    #[test]
    fn repeated_output_goes_through_memory_in_order() {
        let mut rig = Rig::new();
        rig.map(0, 0x80_0000, pte::P | pte::RW | pte::US);
        rig.write(WINDOW, 0x0403_0201).expect("mapped");
        rig.cpu.gpr[usize::from(gpr::RSI)] = WINDOW;
        rig.cpu.gpr[usize::from(gpr::RCX)] = 3;
        rig.cpu.gpr[usize::from(gpr::RDX)] = 0x70;
        // rep outsb; hlt
        rig.code(&[0xf3, 0x6e, 0xf4]);
        rig.run();
        let expected = [(0x70, 1, 1), (0x70, 1, 2), (0x70, 1, 3)];
        assert_eq!(rig.board.writes, expected);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RSI)], WINDOW + 3);
    }

    #[test]
    fn input_that_has_nowhere_to_go_is_not_taken() {
        let mut rig = Rig::new();
        rig.cpu.gpr[usize::from(gpr::RDI)] = WINDOW;
        rig.cpu.gpr[usize::from(gpr::RDX)] = 0x60;
        // insb
        rig.code(&[0x6c]);
        rig.run();
        assert_eq!(rig.vector(), vector::PF);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RDI)], WINDOW);
    }
}
