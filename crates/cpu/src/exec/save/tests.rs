//! The XSAVE family by its own rules: the host, which has more state
//! components, can't be the judge.

use silicon::x87::F80;
use x86::control::{cr0, cr4};
use x86::{Physical, gpr, vector};

use crate::rig::{CODE, Rig};
use crate::state::GPR_BLOCK;
use crate::{Bus, Flow, Model, Trap, exec};

/// What code in these tests addresses by RBX.
const AREA: u64 = 0x2_0000;
const STALE: u64 = 0x5a5a_5a5a_5a5a_5a5a;
const BV: u64 = AREA + 512;
const COMP: u64 = AREA + 520;

const FXSAVE: &[u8] = &[0x0f, 0xae, 0x03];
const FXSAVE64: &[u8] = &[0x48, 0x0f, 0xae, 0x03];
const FXRSTOR: &[u8] = &[0x0f, 0xae, 0x0b];
const XSAVE: &[u8] = &[0x0f, 0xae, 0x23];
const XRSTOR: &[u8] = &[0x0f, 0xae, 0x2b];
const XSAVEOPT: &[u8] = &[0x0f, 0xae, 0x33];
const XSAVEC: &[u8] = &[0x0f, 0xc7, 0x23];
const XGETBV: &[u8] = &[0x0f, 0x01, 0xd0];
const XSETBV: &[u8] = &[0x0f, 0x01, 0xd1];

/// Everything enabled and requested, and an area of stale bytes.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.cpu.cr4 |= cr4::OSFXSR | cr4::OSXSAVE;
    rig.cpu.xcr0 = 3;
    rig.cpu.gpr[usize::from(gpr::RBX)] = AREA;
    rig.cpu.gpr[usize::from(gpr::RAX)] = 3;
    for offset in (0..1024).step_by(8) {
        rig.cpu.ram.store(Physical(AREA + offset), STALE);
    }
    rig
}

/// As [`rig`], with both components in use.
fn rig_in_use() -> Rig {
    let mut rig = rig();
    rig.cpu.fpu.push(F80::ONE);
    rig.cpu.xmm[15] = 15;
    rig.cpu.mxcsr = 0x1fa0;
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

fn at(rig: &Rig, address: u64) -> u64 {
    rig.cpu.ram.load(Physical(address))
}

fn header(rig: &Rig, values: [u64; 8]) {
    for (offset, value) in (0..).step_by(8).zip(values) {
        rig.cpu.ram.store::<u64>(Physical(BV + offset), value);
    }
}

#[test]
fn fxsave_leaves_what_is_not_its_own() {
    let mut rig = rig_in_use();
    assert_eq!(execute(&mut rig, FXSAVE64), Ok(()));
    assert_eq!(at(&rig, AREA + 24), 0xffff_0000_1fa0);
    assert_eq!(at(&rig, AREA + 160 + 15 * 16), 15);
    assert_eq!(at(&rig, AREA + 416), STALE);
    assert_eq!(at(&rig, AREA + 504), STALE);
}

#[test]
fn xsave_writes_all_that_is_requested_and_keeps_other_bits() {
    let mut rig = rig();
    rig.cpu.gpr[usize::from(gpr::RAX)] = 2;
    rig.cpu.fpu.push(F80::ONE);
    assert_eq!(execute(&mut rig, XSAVE), Ok(()));
    assert_eq!(at(&rig, AREA), STALE, "the x87 unit was not requested");
    assert_eq!(at(&rig, AREA + 24), 0xffff_0000_1f80);
    assert_eq!(at(&rig, AREA + 160), 0, "initial registers are written");
    assert_eq!(at(&rig, BV), STALE & !2);
    assert_eq!(at(&rig, COMP), STALE);
}

#[test]
fn xsaveopt_writes_only_what_is_in_use() {
    let mut rig = rig();
    rig.cpu.fpu.push(F80::ONE);
    assert_eq!(execute(&mut rig, XSAVEOPT), Ok(()));
    assert_eq!(at(&rig, AREA), 0x80_3800_037f);
    assert_eq!(at(&rig, AREA + 24), 0xffff_0000_1f80);
    assert_eq!(at(&rig, AREA + 160), STALE);
    assert_eq!(at(&rig, BV), STALE & !3 | 1);
}

#[test]
fn xsavec_counts_mxcsr_as_sse_state() {
    let mut rig = rig();
    assert_eq!(execute(&mut rig, XSAVEC), Ok(()));
    assert_eq!(at(&rig, AREA + 24), STALE);
    assert_eq!((at(&rig, BV), at(&rig, COMP)), (0, 1 << 63 | 3));

    rig.cpu.mxcsr = 0x1fa0;
    assert_eq!(execute(&mut rig, XSAVEC), Ok(()));
    assert_eq!(at(&rig, AREA + 24), 0xffff_0000_1fa0);
    assert_eq!((at(&rig, BV), at(&rig, COMP)), (2, 1 << 63 | 3));
    assert_eq!(at(&rig, BV + 16), STALE, "the rest of the header stays");
}

#[test]
fn what_is_saved_is_restored() {
    for (save, restore) in [(FXSAVE, FXRSTOR), (XSAVE, XRSTOR), (XSAVEC, XRSTOR)] {
        let mut rig = rig_in_use();
        header(&rig, [0; 8]);
        assert_eq!(execute(&mut rig, save), Ok(()));
        let saved = (rig.cpu.fpu.clone(), rig.cpu.xmm, rig.cpu.mxcsr);
        rig.cpu.fpu = Default::default();
        rig.cpu.xmm = [7; 16];
        rig.cpu.mxcsr = 0x1f80;
        assert_eq!(execute(&mut rig, restore), Ok(()));
        assert_eq!((rig.cpu.fpu.clone(), rig.cpu.xmm, rig.cpu.mxcsr), saved);
    }
}

#[test]
fn an_absent_component_is_initialised_and_mxcsr_by_the_format() {
    let mut rig = rig_in_use();
    header(&rig, [0; 8]);
    rig.cpu.ram.store(Physical(AREA + 24), 0x1234_u32);
    assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
    assert!(rig.cpu.fpu.is_initial());
    assert_eq!(rig.cpu.xmm, [0; 16]);
    assert_eq!(rig.cpu.mxcsr, 0x1234, "the standard format loads it");

    header(&rig, [0, 1 << 63 | 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
    assert_eq!(rig.cpu.mxcsr, 0x1f80, "the compacted one initialises it");
}

#[test]
fn a_component_that_is_not_requested_stays() {
    let mut rig = rig_in_use();
    header(&rig, [0; 8]);
    rig.cpu.gpr[usize::from(gpr::RAX)] = 1;
    let (xmm, mxcsr) = (rig.cpu.xmm, rig.cpu.mxcsr);
    assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
    assert!(rig.cpu.fpu.is_initial());
    assert_eq!((rig.cpu.xmm, rig.cpu.mxcsr), (xmm, mxcsr));
}

#[test]
fn a_header_that_is_not_valid_restores_nothing() {
    let bad = [
        [4, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [2, 1 << 63 | 1, 0, 0, 0, 0, 0, 0],
        [0, 1 << 63 | 4, 0, 0, 0, 0, 0, 0],
        [0, 1 << 63 | 3, 0, 0, 0, 0, 0, 1],
    ];
    for values in bad {
        let mut rig = rig_in_use();
        header(&rig, values);
        let before = (rig.cpu.fpu.clone(), rig.cpu.xmm, rig.cpu.mxcsr);
        assert_eq!(execute(&mut rig, XRSTOR), Err(Trap::GP), "{values:x?}");
        assert_eq!((rig.cpu.fpu, rig.cpu.xmm, rig.cpu.mxcsr), before);
    }
    let mut rig = rig();
    header(&rig, [0, 0, 0, 1, 0, 0, 0, 0]);
    rig.cpu.ram.store(Physical(AREA + 24), 0_u32);
    assert_eq!(
        execute(&mut rig, XRSTOR),
        Ok(()),
        "bytes 63 to 24 are ignored"
    );
}

#[test]
fn reserved_bits_of_mxcsr_restore_nothing() {
    for restore in [FXRSTOR, XRSTOR] {
        let mut rig = rig_in_use();
        header(&rig, [3, 0, 0, 0, 0, 0, 0, 0]);
        let xmm = rig.cpu.xmm;
        rig.cpu.ram.store(Physical(AREA + 24), 0x1_0000_u32);
        assert_eq!(execute(&mut rig, restore), Err(Trap::GP));
        assert_eq!(rig.cpu.xmm, xmm);
    }
}

#[test]
fn faults_come_by_priority() {
    let nm = Err(Trap::fault(vector::NM));
    let mut rig = rig();
    rig.cpu.gpr[usize::from(gpr::RBX)] = AREA + 16;
    assert_eq!(execute(&mut rig, FXSAVE), Ok(()));
    assert_eq!(
        execute(&mut rig, XSAVE),
        Err(Trap::GP),
        "64 bytes of alignment"
    );
    rig.cpu.cr0 |= cr0::TS;
    assert_eq!(execute(&mut rig, XSAVE), nm);
    assert_eq!(execute(&mut rig, FXSAVE), nm);
    rig.cpu.cr0 |= cr0::EM;
    assert_eq!(execute(&mut rig, FXSAVE), Err(Trap::UD));
    rig.cpu.cr4 &= !cr4::OSXSAVE;
    assert_eq!(execute(&mut rig, XSAVE), Err(Trap::UD));
    assert_eq!(execute(&mut rig, XGETBV), Err(Trap::UD));
}

#[test]
fn xcr0_takes_what_exists_and_only_from_the_kernel() {
    let mut rig = rig();
    let set = |rig: &mut Rig, value| {
        rig.cpu.gpr[usize::from(gpr::RAX)] = value;
        execute(rig, XSETBV)
    };
    assert_eq!(set(&mut rig, 1), Ok(()));
    for value in [0, 2, 7] {
        assert_eq!(set(&mut rig, value), Err(Trap::GP));
    }
    assert_eq!(rig.cpu.xcr0, 1);
    rig.cpu.cpl = 3;
    assert_eq!(set(&mut rig, 3), Err(Trap::GP));
}

#[test]
fn xgetbv_tells_what_is_in_use() {
    let mut rig = rig();
    rig.cpu.xmm[0] = 1;
    rig.cpu.gpr[usize::from(gpr::RCX)] = 1;
    assert_eq!(execute(&mut rig, XGETBV), Ok(()));
    assert_eq!(rig.cpu.gpr[usize::from(gpr::RAX)], 2);
    rig.cpu.gpr[usize::from(gpr::RCX)] = 2;
    assert_eq!(execute(&mut rig, XGETBV), Err(Trap::GP));
}

/// As [`rig_in_use`], on x86-64-v3 with all three components in use.
fn rig_with_avx() -> Rig {
    let mut rig = rig_in_use();
    rig.cpu.model = Model::V3;
    rig.cpu.xcr0 = 7;
    rig.cpu.gpr[usize::from(gpr::RAX)] = 7;
    rig.cpu.ymm_high[15] = 16;
    rig
}

const YMM_HIGH: u64 = AREA + 576;

#[test]
fn upper_halves_lie_behind_the_header_in_both_formats() {
    for save in [XSAVE, XSAVEC] {
        let mut rig = rig_with_avx();
        header(&rig, [0; 8]);
        assert_eq!(execute(&mut rig, save), Ok(()));
        assert_eq!(at(&rig, BV), 7);
        assert_eq!(at(&rig, YMM_HIGH), 0);
        assert_eq!(at(&rig, YMM_HIGH + 15 * 16), 16);
        assert_eq!(at(&rig, YMM_HIGH + 256), STALE);
        rig.cpu.ymm_high = [7; 16];
        assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
        assert_eq!((rig.cpu.ymm_high[0], rig.cpu.ymm_high[15]), (0, 16));
    }
}

#[test]
fn upper_halves_that_are_not_in_use_are_neither_saved_nor_restored() {
    let mut rig = rig_with_avx();
    rig.cpu.ymm_high = [0; 16];
    header(&rig, [0; 8]);
    assert_eq!(execute(&mut rig, XSAVEOPT), Ok(()));
    assert_eq!((at(&rig, BV), at(&rig, YMM_HIGH)), (3, STALE));
    rig.cpu.ymm_high = [7; 16];
    assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
    assert_eq!(rig.cpu.ymm_high, [0; 16]);
}

#[test]
fn mxcsr_goes_with_the_upper_halves_in_the_standard_format_alone() {
    let mut rig = rig_with_avx();
    header(&rig, [0; 8]);
    rig.cpu.gpr[usize::from(gpr::RAX)] = 4;
    let xmm = rig.cpu.xmm;
    assert_eq!(execute(&mut rig, XSAVE), Ok(()));
    assert_eq!(at(&rig, AREA + 24), 0xffff_0000_1fa0);
    assert_eq!(at(&rig, AREA + 160), STALE);
    rig.cpu.mxcsr = 0x1f80;
    assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
    assert_eq!((rig.cpu.mxcsr, rig.cpu.xmm), (0x1fa0, xmm));

    rig.cpu.mxcsr = 0x1f80;
    header(&rig, [4, 1 << 63 | 4, 0, 0, 0, 0, 0, 0]);
    assert_eq!(execute(&mut rig, XRSTOR), Ok(()));
    assert_eq!(rig.cpu.mxcsr, 0x1f80);
}

#[test]
fn upper_halves_are_enabled_with_the_lower_ones_alone() {
    let mut rig = rig_with_avx();
    for (value, expected) in [(5, Err(Trap::GP)), (7, Ok(())), (15, Err(Trap::GP))] {
        rig.cpu.gpr[usize::from(gpr::RAX)] = value;
        assert_eq!(execute(&mut rig, XSETBV), expected);
    }
    rig.cpu.gpr[usize::from(gpr::RCX)] = 1;
    assert_eq!(execute(&mut rig, XGETBV), Ok(()));
    assert_eq!(rig.cpu.gpr[usize::from(gpr::RAX)], 7);
}
