//! The unit's protocol: what exceptions do to the stack, to memory and to the
//! next instruction. Values are the oracle's to judge.

use silicon::x87::F80;
use silicon::x87::status::{C0, C1, C2, C3, ES, IE, OE, PE, SF, ZE};
use x86::control::{cr0, pte};
use x86::{Physical, vector};

use crate::rig::{CODE, Rig, WINDOW};
use crate::state::GPR_BLOCK;
use crate::{Bus, Flow, Trap, exec};

const MF: Flow = Err(Trap::fault(vector::MF));
/// What code in these tests addresses by RBX, and RAX.
const DATA: u64 = 0x2_0000;

const FLD1: &[u8] = &[0xd9, 0xe8];
const FLDZ: &[u8] = &[0xd9, 0xee];
const FLDPI: &[u8] = &[0xd9, 0xeb];
const FDIVP: &[u8] = &[0xde, 0xf9];
const FMUL_ST0: &[u8] = &[0xd8, 0xc8];
const FNSTSW_AX: &[u8] = &[0xdf, 0xe0];
const FNCLEX: &[u8] = &[0xdb, 0xe2];
const FNOP: &[u8] = &[0xd9, 0xd0];
const WAIT: &[u8] = &[0x9b];
const FSTP_M32: &[u8] = &[0xd9, 0x1b];
const FSTP_M80: &[u8] = &[0xdb, 0x3b];
const FNSTENV: &[u8] = &[0xd9, 0x33];
const FLDENV: &[u8] = &[0xd9, 0x23];
const FNSAVE: &[u8] = &[0xdd, 0x33];
const FRSTOR: &[u8] = &[0xdd, 0x23];

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.cpu.gpr[3] = DATA;
    rig
}

/// Executes one instruction in 64-bit mode.
fn execute(rig: &mut Rig, code: &[u8]) -> Flow {
    rig.code(code);
    rig.cpu.gpr[usize::from(GPR_BLOCK)] = CODE;
    let insn = iced_x86::Decoder::with_ip(64, code, 0, 0).decode();
    assert_eq!(insn.len(), code.len());
    let op = exec::lower(&insn, rig.cpu.model);
    let bus: &mut dyn Bus = &mut rig.board;
    (op.run)(&mut rig.cpu, bus, &op)
}

fn execute_all(rig: &mut Rig, code: &[&[u8]]) {
    for insn in code {
        assert_eq!(execute(rig, insn), Ok(()), "{insn:x?}");
    }
}

#[test]
fn a_push_on_a_full_stack_gives_the_indefinite_or_nothing() {
    let mut rig = rig();
    execute_all(&mut rig, &[FLD1; 8]);
    assert_eq!(rig.cpu.fpu.status(), 0);
    execute_all(&mut rig, &[FLDPI]);
    assert_eq!(rig.cpu.fpu.status(), IE | SF | C1 | 7 << 11);
    assert_eq!(rig.cpu.fpu.st(0), F80::INDEFINITE);

    rig.cpu.fpu.set_status(0);
    rig.cpu.fpu.set_control(0x037e);
    let before = rig.cpu.fpu.clone();
    execute_all(&mut rig, &[FLDPI]);
    assert_eq!(rig.cpu.fpu.registers, before.registers);
    assert_eq!(rig.cpu.fpu.status() & !(0x8000 | ES), IE | SF | C1);
}

#[test]
fn an_empty_operand_gives_the_indefinite_and_pops_only_if_masked() {
    let mut rig = rig();
    execute_all(&mut rig, &[FLD1, FDIVP]);
    assert_eq!(rig.cpu.fpu.status(), IE | SF);
    assert_eq!(rig.cpu.fpu.st(0), F80::INDEFINITE);
    assert_eq!(rig.cpu.fpu.used, 1);

    execute_all(&mut rig, &[&[0xdb, 0xe3], FLD1]);
    rig.cpu.fpu.set_control(0x037e);
    execute_all(&mut rig, &[FDIVP]);
    assert_eq!(rig.cpu.fpu.st(0), F80::ONE);
    assert_eq!(rig.cpu.fpu.used, 0x80);
}

#[test]
fn an_unmasked_exception_is_delivered_by_the_next_waiting_instruction() {
    let mut rig = rig();
    rig.cpu.fpu.set_control(0x037b);
    execute_all(&mut rig, &[FLD1, FLDZ, FDIVP, FNSTSW_AX]);
    assert_eq!(rig.cpu.gpr[0], u64::from(ZE | ES | 0x8000 | 6 << 11));
    for waiting in [FLD1, FNOP, WAIT, FLDENV] {
        assert_eq!(execute(&mut rig, waiting), MF, "{waiting:x?}");
    }
    rig.cpu.cr0 &= !cr0::NE;
    assert_eq!(execute(&mut rig, WAIT), Ok(()));
    rig.cpu.cr0 |= cr0::NE;
    execute_all(&mut rig, &[FNCLEX, WAIT]);
    assert_eq!(rig.cpu.fpu.st(1), F80::ONE);
}

#[test]
fn an_unmasked_exception_sets_opcode_and_data_pointer() {
    let mut rig = rig();
    rig.cpu.fpu.set_control(0x037b);
    let divide_by_memory = &[0x48, 0xd8, 0x73, 0x10];
    execute_all(&mut rig, &[FLD1, divide_by_memory]);
    assert_eq!(rig.cpu.fpu.status() & ZE, ZE);
    assert_eq!(rig.cpu.fpu.instruction_pointer, CODE);
    assert_eq!(rig.cpu.fpu.data_pointer, DATA + 0x10);
    assert_eq!(rig.cpu.fpu.opcode, 0x073);
}

#[test]
fn the_task_switched_and_emulation_bits_make_the_unit_unavailable() {
    let mut rig = rig();
    rig.cpu.cr0 |= cr0::TS;
    for insn in [FLD1, FNSTSW_AX, FNSTENV, FNCLEX] {
        assert_eq!(execute(&mut rig, insn), Err(Trap::NM), "{insn:x?}");
    }
    assert_eq!(execute(&mut rig, WAIT), Ok(()));
    rig.cpu.cr0 |= cr0::MP;
    assert_eq!(execute(&mut rig, WAIT), Err(Trap::NM));
    rig.cpu.cr0 = rig.cpu.cr0 & !cr0::TS | cr0::EM;
    assert_eq!(execute(&mut rig, FLD1), Err(Trap::NM));
    assert_eq!(execute(&mut rig, WAIT), Ok(()));
}

#[test]
fn an_unmasked_overflow_wraps_the_exponent_of_a_register_and_stops_a_store() {
    let mut rig = rig();
    rig.cpu.fpu.set_control(0x0377);
    rig.cpu.fpu.push(F80::MAX);
    rig.cpu.ram.store(Physical(DATA), 0x1234_5678_u32);
    execute_all(&mut rig, &[FSTP_M32]);
    assert_eq!(rig.cpu.ram.load::<u32>(Physical(DATA)), 0x1234_5678);
    assert_eq!(rig.cpu.fpu.status() & OE, OE);
    assert_eq!(rig.cpu.fpu.st(0), F80::MAX);

    execute_all(&mut rig, &[FNCLEX, FMUL_ST0]);
    assert_eq!(rig.cpu.fpu.status() & (OE | PE | ES), OE | PE | ES);
    let exponent = i32::from(rig.cpu.fpu.st(0).biased_exponent());
    assert_eq!(exponent, 16383 + 2 * 16384 - 1 - 24576);
}

#[test]
fn a_store_that_faults_leaves_unit_and_memory_as_they_were() {
    let mut rig = rig();
    rig.map(0, 0x80_0000, pte::P | pte::RW | pte::US);
    rig.cpu.gpr[3] = WINDOW + 0xffc;
    execute_all(&mut rig, &[FLDPI]);
    let before = rig.cpu.fpu.clone();
    for insn in [FSTP_M80, FNSAVE, FNSTENV] {
        assert!(execute(&mut rig, insn).is_err());
        assert_eq!(rig.cpu.fpu, before);
        assert_eq!(rig.cpu.ram.load::<u32>(Physical(0x80_0ffc)), 0);
    }
}

#[test]
fn saved_state_comes_back() {
    for prefix in [&[][..], &[0x66]] {
        let with_prefix = |code: &[u8]| [prefix, code].concat();
        let mut rig = rig();
        rig.cpu.fpu.set_control(0x0b3f);
        execute_all(&mut rig, &[FLD1, FLDZ, FLDPI, FDIVP]);
        let mut before = rig.cpu.fpu.clone();
        before.instruction_pointer &= 0xffff;
        rig.cpu.fpu.instruction_pointer &= 0xffff;
        execute_all(&mut rig, &[&with_prefix(FNSAVE)]);
        assert_eq!(rig.cpu.fpu.used, 0);
        assert_eq!(rig.cpu.fpu.control().0, 0x037f);
        rig.cpu.fpu.registers = [F80::ZERO; 8];
        execute_all(&mut rig, &[&with_prefix(FRSTOR)]);
        assert_eq!(rig.cpu.fpu, before);

        execute_all(&mut rig, &[&with_prefix(FNSTENV)]);
        assert_eq!(rig.cpu.fpu.control().0, 0x0b7f);
        execute_all(&mut rig, &[&with_prefix(FLDENV)]);
        assert_eq!(rig.cpu.fpu, before);
    }
}

#[test]
fn the_environment_lies_as_the_manual_draws_it() {
    let mut rig = rig();
    execute_all(&mut rig, &[FLD1, FNSTENV]);
    let word = |n: u64| rig.cpu.ram.load::<u32>(Physical(DATA + 4 * n));
    let words: Vec<u32> = (0..7).map(word).collect();
    let code = u32::try_from(CODE).expect("it is low");
    let expected = [
        0xffff_037f,
        0xffff_3800,
        0xffff_3fff,
        code,
        0,
        0,
        0xffff_0000,
    ];
    assert_eq!(words, expected);
}

#[test]
fn an_empty_register_is_examined_as_empty_and_compares_unordered() {
    let mut rig = rig();
    execute_all(&mut rig, &[&[0xd9, 0xe5]]);
    assert_eq!(rig.cpu.fpu.status(), C3 | C0);
    execute_all(&mut rig, &[&[0xde, 0xd9]]);
    assert_eq!(rig.cpu.fpu.status(), C3 | C2 | C0 | IE | SF | 2 << 11);
}

#[test]
fn an_argument_out_of_range_pushes_nothing() {
    let mut rig = rig();
    rig.cpu.fpu.push(F80::MAX);
    execute_all(&mut rig, &[&[0xd9, 0xf2]]);
    assert_eq!(rig.cpu.fpu.status(), C2 | 7 << 11);
    assert_eq!(rig.cpu.fpu.st(0), F80::MAX);
}
