//! The control group: control and status words, the environment, the whole
//! state, the stack's pointer and tags, WAIT (SDM volume 1, 8.1.10 and 8.3.11).

use iced_x86::Code;
use silicon::x87::{F80, status};
use x86::control::cr0;
use x86::{Linear, gpr};

use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(code: Code) -> Option<Handler> {
    use Code as C;
    Some(match code {
        C::Wait => wait,
        C::Fninit => initialise,
        C::Fnclex => clear,
        C::Fldcw_m2byte => load_control,
        C::Fnstcw_m2byte => store_control,
        C::Fnstsw_m2byte => store_status,
        C::Fnstsw_AX => status_to_ax,
        C::Fincstp => |cpu, _, _| rotate(cpu, 1),
        C::Fdecstp => |cpu, _, _| rotate(cpu, 7),
        C::Ffree_sti => free::<false>,
        C::Ffreep_sti => free::<true>,
        C::Fnop => |cpu, _, _| cpu.x87_begin(),
        // They did something on the 8087 and the 80287.
        C::Fneni | C::Fndisi | C::Fnsetpm => |cpu, _, _| cpu.x87_available(),
        C::Fnstenv_m14byte => store_environment::<u16>,
        C::Fnstenv_m28byte => store_environment::<u32>,
        C::Fldenv_m14byte => load_environment::<u16>,
        C::Fldenv_m28byte => load_environment::<u32>,
        C::Fnsave_m94byte => save::<u16>,
        C::Fnsave_m108byte => save::<u32>,
        C::Frstor_m94byte => restore::<u16>,
        C::Frstor_m108byte => restore::<u32>,
        _ => return None,
    })
}

fn wait(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    const BOTH: u64 = cr0::MP | cr0::TS;
    if cpu.cr0 & BOTH == BOTH {
        return Err(Trap::NM);
    }
    cpu.x87_deliver()
}

fn initialise(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.x87_available()?;
    cpu.fpu.initialise();
    Ok(())
}

/// FNCLEX: the condition codes, which the manual leaves undefined, stay.
fn clear(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.x87_available()?;
    cpu.fpu.update_status(status::EXCEPTIONS | status::SF, 0);
    Ok(())
}

fn load_control(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let value = cpu.load(bus, op)?;
    cpu.fpu.set_control(value);
    Ok(())
}

fn store_control(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_available()?;
    let value = cpu.fpu.control().0;
    cpu.store(bus, op, value)
}

fn store_status(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_available()?;
    let value = cpu.fpu.status();
    cpu.store(bus, op, value)
}

fn status_to_ax(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.x87_available()?;
    let value = cpu.fpu.status();
    let rax = &mut cpu.gpr[usize::from(gpr::RAX)];
    *rax = *rax & !0xffff | u64::from(value);
    Ok(())
}

/// FINCSTP, FDECSTP.
fn rotate(cpu: &mut Cpu, by: u8) -> Flow {
    cpu.x87_begin()?;
    cpu.fpu.rotate(by);
    cpu.fpu.update_status(status::C1, 0);
    Ok(())
}

/// FFREE, and FFREEP, which isn't in the manual but works everywhere.
fn free<const POP: bool>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    cpu.fpu.free(op.a);
    cpu.fpu.update_status(status::C1, 0);
    if POP {
        cpu.fpu.pop();
    }
    Ok(())
}

/// A field of the environment: two bytes in the 16-bit form, four in the
/// 32-bit form. Protected mode's layouts (SDM volume 1, figures 8-9 and 8-11):
/// there is no real mode here.
trait Field: Width {
    /// The seven fields, in order. In the 32-bit form the upper halves of the
    /// words are ones, as processors store them.
    fn fields(cpu: &Cpu) -> [Self; 7];
    /// FIP, FOP and FDP of the seven fields.
    fn pointers(fields: &[Self; 7]) -> (u64, u16, u64);
}

impl Field for u16 {
    fn fields(cpu: &Cpu) -> [u16; 7] {
        let fpu = &cpu.fpu;
        [
            fpu.control().0,
            fpu.status(),
            fpu.full_tags(),
            u16::truncate(fpu.instruction_pointer),
            0,
            u16::truncate(fpu.data_pointer),
            0,
        ]
    }

    fn pointers(fields: &[u16; 7]) -> (u64, u16, u64) {
        (u64::from(fields[3]), 0, u64::from(fields[5]))
    }
}

impl Field for u32 {
    fn fields(cpu: &Cpu) -> [u32; 7] {
        const ONES: u32 = 0xffff_0000;
        let fpu = &cpu.fpu;
        [
            ONES | u32::from(fpu.control().0),
            ONES | u32::from(fpu.status()),
            ONES | u32::from(fpu.full_tags()),
            u32::truncate(fpu.instruction_pointer),
            u32::from(fpu.opcode) << 16,
            u32::truncate(fpu.data_pointer),
            ONES,
        ]
    }

    fn pointers(fields: &[u32; 7]) -> (u64, u16, u64) {
        let opcode = u16::truncate(u64::from(fields[4]) >> 16) & 0x7ff;
        (u64::from(fields[3]), opcode, u64::from(fields[5]))
    }
}

/// Makes sure that `bytes` at `at` can be written. A fault in the first page
/// comes before the address of the last byte is looked at.
fn probe(cpu: &mut Cpu, op: &Op, at: Linear, bytes: u64) -> Flow {
    cpu.probe_write_slow(cpu.space, at, 1, op.stack)?;
    cpu.probe_write_slow(cpu.space, at, bytes, op.stack)
}

/// Writes the seven fields at `at`, which is known to be writable.
fn write_fields<W: Field>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, at: Linear) -> Flow {
    let fields = W::fields(cpu);
    let mut place = at;
    for field in fields {
        cpu.write(bus, place, op.stack, field)?;
        place = place.plus(W::BYTES);
    }
    Ok(())
}

fn read_fields<W: Field>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, at: Linear) -> Flow<[W; 7]> {
    let mut fields = [W::default(); 7];
    let mut place = at;
    for field in &mut fields {
        *field = cpu.read(bus, place, op.stack)?;
        place = place.plus(W::BYTES);
    }
    Ok(fields)
}

fn set_fields<W: Field>(cpu: &mut Cpu, fields: &[W; 7]) {
    let word = |n: usize| u16::truncate(fields[n].zero_extend());
    let (instruction_pointer, opcode, data_pointer) = W::pointers(fields);
    let fpu = &mut cpu.fpu;
    fpu.set_control(word(0));
    fpu.set_status(word(1));
    fpu.set_full_tags(word(2));
    fpu.instruction_pointer = instruction_pointer;
    fpu.opcode = opcode;
    fpu.data_pointer = data_pointer;
}

/// FNSTENV: afterwards all exceptions are masked.
fn store_environment<W: Field>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_available()?;
    let bytes = 7 * W::BYTES;
    let at = cpu.address(op, bytes, true)?;
    probe(cpu, op, at, bytes)?;
    write_fields::<W>(cpu, bus, op, at)?;
    let masked = cpu.fpu.control().0 | status::EXCEPTIONS;
    cpu.fpu.set_control(masked);
    Ok(())
}

fn load_environment<W: Field>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let at = cpu.address(op, 7 * W::BYTES, false)?;
    let fields = read_fields::<W>(cpu, bus, op, at)?;
    set_fields(cpu, &fields);
    Ok(())
}

/// They are stored and loaded in words: with alignment checking on, FSAVE and
/// FRSTOR want no more than their environment does (SDM volume 3A, table 6-7).
const REGISTERS_BYTES: u64 = 80;

/// FNSAVE: the environment, then ST(0) to ST(7); afterwards as FNINIT.
fn save<W: Field>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_available()?;
    let bytes = 7 * W::BYTES + REGISTERS_BYTES;
    let at = cpu.address(op, bytes, true)?;
    probe(cpu, op, at, bytes)?;
    write_fields::<W>(cpu, bus, op, at)?;
    let mut place = at.plus(7 * W::BYTES);
    for i in 0..8 {
        for word in cpu.fpu.st(i).to_bytes().as_chunks().0 {
            cpu.write(bus, place, op.stack, u16::from_le_bytes(*word))?;
            place = place.plus(2);
        }
    }
    cpu.fpu.initialise();
    Ok(())
}

fn restore<W: Field>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.x87_begin()?;
    let at = cpu.address(op, 7 * W::BYTES + REGISTERS_BYTES, false)?;
    let fields = read_fields::<W>(cpu, bus, op, at)?;
    let mut registers = [F80::ZERO; 8];
    let mut place = at.plus(7 * W::BYTES);
    for register in &mut registers {
        let mut bytes = [0; 10];
        for word in bytes.as_chunks_mut().0 {
            *word = cpu.read::<u16>(bus, place, op.stack)?.to_le_bytes();
            place = place.plus(2);
        }
        *register = F80::from_bytes(bytes);
    }
    set_fields(cpu, &fields);
    let top = cpu.fpu.top;
    registers.rotate_right(usize::from(top));
    cpu.fpu.registers = registers;
    Ok(())
}
