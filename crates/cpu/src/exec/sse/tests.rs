//! Faults of SSE and MMX instructions that user code on the host can't show.
//! Values and the other faults are the oracle's to judge.

use x86::control::{cr0, cr4, pte};
use x86::{Physical, gpr, vector};

use crate::rig::{CODE, Rig, WINDOW};
use crate::state::GPR_BLOCK;
use crate::{Bus, Flow, Trap, exec};

/// What code in these tests addresses by RBX.
const DATA: u64 = 0x2_0000;

const ADDPS: &[u8] = &[0x0f, 0x58, 0xc1];
const ADDPS_MEMORY: &[u8] = &[0x0f, 0x58, 0x03];
const DIVPS: &[u8] = &[0x0f, 0x5e, 0xc1];
const MOVAPS_STORE: &[u8] = &[0x0f, 0x29, 0x03];
const MOVUPS_STORE: &[u8] = &[0x0f, 0x11, 0x03];
const LDMXCSR: &[u8] = &[0x0f, 0xae, 0x13];
const PADDB_MMX: &[u8] = &[0x0f, 0xfc, 0xc1];
const MOVQ2DQ: &[u8] = &[0xf3, 0x0f, 0xd6, 0xc1];
const CVTPI2PD_MEMORY: &[u8] = &[0x66, 0x0f, 0x2a, 0x03];
const CLFLUSH: &[u8] = &[0x0f, 0xae, 0x3b];
/// SSE4A and AVX, which are not announced.
const MOVNTSD: &[u8] = &[0xf2, 0x0f, 0x2b, 0x03];
const VADDPS: &[u8] = &[0xc5, 0xf0, 0x58, 0xc2];

const NM: Flow = Err(Trap::fault(vector::NM));
const UD: Flow = Err(Trap::UD);

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.cpu.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT;
    rig.cpu.gpr[usize::from(gpr::RBX)] = DATA;
    rig
}

fn execute(rig: &mut Rig, code: &[u8]) -> Flow {
    rig.cpu.gpr[usize::from(GPR_BLOCK)] = CODE;
    let insn = iced_x86::Decoder::with_ip(64, code, 0, 0).decode();
    assert_eq!(insn.len(), code.len());
    let op = exec::lower(&insn, rig.cpu.model);
    let bus: &mut dyn Bus = &mut rig.board;
    (op.run)(&mut rig.cpu, bus, &op)
}

#[test]
fn control_registers_switch_sse_off() {
    let mut rig = rig();
    assert_eq!(execute(&mut rig, ADDPS), Ok(()));
    rig.cpu.cr0 |= cr0::TS;
    assert_eq!(execute(&mut rig, ADDPS), NM);
    rig.cpu.cr4 &= !cr4::OSFXSR;
    assert_eq!(execute(&mut rig, ADDPS), UD);
    rig.cpu.cr4 |= cr4::OSFXSR;
    rig.cpu.cr0 |= cr0::EM;
    assert_eq!(execute(&mut rig, ADDPS), UD);
}

#[test]
fn mmx_needs_no_osfxsr_unless_an_xmm_register_takes_part() {
    let mut rig = rig();
    rig.cpu.cr4 &= !cr4::OSFXSR;
    assert_eq!(execute(&mut rig, PADDB_MMX), Ok(()));
    assert_eq!((rig.cpu.fpu.used, rig.cpu.fpu.top), (0xff, 0));
    assert_eq!(execute(&mut rig, MOVQ2DQ), UD);
    rig.cpu.cr0 |= cr0::TS;
    assert_eq!(execute(&mut rig, PADDB_MMX), NM);
    rig.cpu.cr0 |= cr0::EM;
    assert_eq!(execute(&mut rig, PADDB_MMX), UD);
}

#[test]
fn a_pending_x87_exception_comes_before_mmx() {
    let mut rig = rig();
    rig.cpu.fpu.set_control(0x037e);
    rig.cpu.fpu.set_status(1);
    let mf = Err(Trap::fault(vector::MF));
    assert_eq!(execute(&mut rig, PADDB_MMX), mf);
    assert_eq!(execute(&mut rig, MOVQ2DQ), mf);
    assert_eq!(execute(&mut rig, CVTPI2PD_MEMORY), Ok(()));
}

#[test]
fn an_unmasked_exception_is_undefined_without_osxmmexcpt() {
    let mut rig = rig();
    rig.cpu.mxcsr = 0x1f00;
    assert_eq!(execute(&mut rig, DIVPS), Err(Trap::fault(vector::XM)));
    rig.cpu.cr4 &= !cr4::OSXMMEXCPT;
    assert_eq!(execute(&mut rig, DIVPS), UD);
    assert_eq!(rig.cpu.mxcsr, 0x1f01);
}

#[test]
fn misalignment_is_found_before_the_page() {
    let mut rig = rig();
    rig.cpu.gpr[usize::from(gpr::RBX)] = WINDOW + 8;
    assert_eq!(execute(&mut rig, ADDPS_MEMORY), Err(Trap::GP));
    assert_eq!(execute(&mut rig, MOVAPS_STORE), Err(Trap::GP));
    let page_fault = Err(Trap::with_code(vector::PF, 2));
    assert_eq!(execute(&mut rig, MOVUPS_STORE), page_fault);
    assert_eq!(rig.cpu.cr2, WINDOW + 8);
}

#[test]
fn a_store_across_pages_writes_both_or_nothing() {
    let mut rig = rig();
    rig.map(0, 0x10_0000, pte::P | pte::RW);
    rig.cpu.gpr[usize::from(gpr::RBX)] = WINDOW + 0xff8;
    rig.cpu.xmm[0] = u128::MAX;
    assert!(execute(&mut rig, MOVUPS_STORE).is_err());
    assert_eq!(rig.cpu.cr2, WINDOW + 0x1000);
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x10_0ff8)), 0);
    rig.map(1, 0x20_0000, pte::P | pte::RW);
    assert_eq!(execute(&mut rig, MOVUPS_STORE), Ok(()));
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x10_0ff8)), u64::MAX);
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x20_0000)), u64::MAX);
}

#[test]
fn reserved_bits_of_mxcsr_are_refused() {
    let mut rig = rig();
    rig.cpu.ram.store(Physical(DATA), 0x2_1f80_u32);
    assert_eq!(execute(&mut rig, LDMXCSR), Err(Trap::GP));
    assert_eq!(rig.cpu.mxcsr, 0x1f80);
    rig.cpu.ram.store(Physical(DATA), 0xffff_u32);
    assert_eq!(execute(&mut rig, LDMXCSR), Ok(()));
    assert_eq!(rig.cpu.mxcsr, 0xffff);
}

#[test]
fn a_flush_faults_but_reads_nothing() {
    let mut rig = rig();
    rig.cpu.gpr[usize::from(gpr::RBX)] = WINDOW;
    assert!(execute(&mut rig, CLFLUSH).is_err());
    rig.map(0, 0xfee0_0000, pte::P);
    assert_eq!(execute(&mut rig, CLFLUSH), Ok(()));
    assert!(rig.board.writes.is_empty());
}

#[test]
fn what_is_not_announced_does_not_exist() {
    let mut rig = rig();
    assert_eq!(execute(&mut rig, MOVNTSD), UD);
    assert_eq!(execute(&mut rig, VADDPS), UD);
}
