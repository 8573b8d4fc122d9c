//! When AVX instructions exist, and what only a kernel could set up. Values and
//! the other faults are the oracle's to judge.

use x86::control::{cr0, cr4, pte};
use x86::{Physical, gpr, vector};

use crate::rig::{CODE, Rig, WINDOW};
use crate::state::GPR_BLOCK;
use crate::{Bus, Flow, Model, Trap, exec};

const VADDPS: &[u8] = &[0xc5, 0xf4, 0x58, 0xc2];
const VZEROUPPER: &[u8] = &[0xc5, 0xf8, 0x77];
const VDIVPS: &[u8] = &[0xc5, 0xf4, 0x5e, 0xc2];
const VMOVUPS_STORE: &[u8] = &[0xc5, 0xfc, 0x11, 0x03];
const VMOVAPS_STORE: &[u8] = &[0xc5, 0xfc, 0x29, 0x03];
const VPADDD_128: &[u8] = &[0xc5, 0xf1, 0xfe, 0xc2];
const VMASKMOVPS_STORE: &[u8] = &[0xc4, 0xe2, 0x75, 0x2e, 0x03];
const VPGATHERDD: &[u8] = &[0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8b];
const ADDPS: &[u8] = &[0x0f, 0x58, 0xc1];

const UD: Flow = Err(Trap::UD);

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.cpu.model = Model::V3;
    rig.cpu.cr4 |= cr4::OSFXSR | cr4::OSXSAVE | cr4::OSXMMEXCPT;
    rig.cpu.xcr0 = 7;
    rig.cpu.gpr[usize::from(gpr::RBX)] = WINDOW;
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
fn xcr0_and_control_registers_switch_avx_off() {
    let mut rig = rig();
    // EM and OSFXSR are SSE's alone.
    rig.cpu.cr0 |= cr0::EM;
    rig.cpu.cr4 &= !cr4::OSFXSR;
    assert_eq!(execute(&mut rig, VADDPS), Ok(()));
    rig.cpu.cr0 |= cr0::TS;
    assert_eq!(execute(&mut rig, VZEROUPPER), Err(Trap::fault(vector::NM)));
    rig.cpu.xcr0 = 3;
    assert_eq!(execute(&mut rig, VZEROUPPER), UD, "before #NM");
    rig.cpu.xcr0 = 7;
    rig.cpu.cr4 &= !cr4::OSXSAVE;
    assert_eq!(execute(&mut rig, VADDPS), UD);
}

#[test]
fn the_lower_level_has_no_vex_encoding() {
    let mut rig = rig();
    rig.cpu.model = Model::V2;
    for code in [VADDPS, VZEROUPPER, VMOVUPS_STORE, VPGATHERDD] {
        assert_eq!(execute(&mut rig, code), UD);
    }
}

#[test]
fn every_form_that_is_announced_is_known() {
    use iced_x86::{Code, CpuidFeature as F, EncodingKind, Instruction, OpKind, Register};
    let is_announced = |feature: &F| {
        let known = [F::AVX, F::AVX2, F::FMA, F::F16C, F::BMI1, F::BMI2];
        known.contains(feature)
    };
    let forms = Code::values().filter(|code| {
        code.op_code().encoding() == EncodingKind::VEX
            && code.cpuid_features().iter().all(is_announced)
    });
    let mut count = 0;
    for code in forms {
        let form = code.op_code();
        let mut insn = Instruction::default();
        insn.set_code(code);
        for n in 0..form.op_count() {
            let kind = form.op_kind(n);
            let text = format!("{kind:?}");
            if text.starts_with("imm8") {
                insn.set_op_kind(n, OpKind::Immediate8);
            } else if text.starts_with("mem") {
                insn.set_op_kind(n, OpKind::Memory);
            } else if text == "seg_rDI" {
                insn.set_op_kind(n, OpKind::MemorySegRDI);
            } else {
                let register = match &text[..3] {
                    "ymm" => Register::YMM1,
                    "xmm" => Register::XMM1,
                    "r32" => Register::EAX,
                    _ => Register::RAX,
                };
                insn.set_op_kind(n, OpKind::Register);
                insn.set_op_register(n, register);
            }
        }
        let op = exec::lower(&insn, Model::V3);
        let known = !std::ptr::fn_addr_eq(op.run, exec::undefined as crate::op::Handler);
        assert!(known, "{code:?}");
        count += 1;
    }
    assert!(count > 600, "{count} forms");
}

#[test]
fn an_xmm_result_clears_the_upper_half_but_sses_does_not() {
    let mut rig = rig();
    rig.cpu.ymm_high[0] = 1;
    assert_eq!(execute(&mut rig, ADDPS), Ok(()));
    assert_eq!(rig.cpu.ymm_high[0], 1);
    assert_eq!(execute(&mut rig, VPADDD_128), Ok(()));
    assert_eq!(rig.cpu.ymm_high[0], 0);
}

#[test]
fn an_unmasked_exception_writes_no_register() {
    let mut rig = rig();
    rig.cpu.mxcsr = 0x1d00;
    rig.cpu.ymm_high[0] = 5;
    // 0/0 in the upper half alone: the lower one divides one by one.
    let ones = 0x3f80_0000_3f80_0000_3f80_0000_3f80_0000;
    (rig.cpu.xmm[1], rig.cpu.xmm[2]) = (ones, ones);
    assert_eq!(execute(&mut rig, VDIVPS), Err(Trap::fault(vector::XM)));
    assert_eq!(rig.cpu.mxcsr, 0x1d01);
    assert_eq!((rig.cpu.xmm[0], rig.cpu.ymm_high[0]), (0, 5));
    rig.cpu.cr4 &= !cr4::OSXMMEXCPT;
    assert_eq!(execute(&mut rig, VDIVPS), UD);
}

#[test]
fn a_store_across_pages_writes_both_or_nothing() {
    let mut rig = rig();
    rig.map(0, 0x10_0000, pte::P | pte::RW);
    rig.cpu.gpr[usize::from(gpr::RBX)] = WINDOW + 0xff0;
    (rig.cpu.xmm[0], rig.cpu.ymm_high[0]) = (1, 2);
    let page_fault = Err(Trap::with_code(vector::PF, 2));
    assert_eq!(execute(&mut rig, VMOVAPS_STORE), Err(Trap::GP));
    assert_eq!(execute(&mut rig, VMOVUPS_STORE), page_fault);
    assert_eq!(rig.cpu.cr2, WINDOW + 0x1000);
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x10_0ff0)), 0);
    rig.map(1, 0x20_0000, pte::P | pte::RW);
    assert_eq!(execute(&mut rig, VMOVUPS_STORE), Ok(()));
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x10_0ff0)), 1);
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x20_0000)), 2);
}

#[test]
fn a_masked_store_touches_only_what_it_stores() {
    let mut rig = rig();
    rig.map(0, 0x10_0000, pte::P | pte::RW);
    rig.cpu.gpr[usize::from(gpr::RBX)] = WINDOW + 0xff0;
    // The four singles in the first page.
    (rig.cpu.xmm[0], rig.cpu.ymm_high[0]) = (1, 2);
    rig.cpu.xmm[1] = u128::MAX;
    assert_eq!(execute(&mut rig, VMASKMOVPS_STORE), Ok(()));
    assert_eq!(rig.cpu.ram.load::<u64>(Physical(0x10_0ff0)), 1);
    rig.cpu.ymm_high[1] = 1 << 127;
    assert!(execute(&mut rig, VMASKMOVPS_STORE).is_err());
    assert_eq!(rig.cpu.cr2, WINDOW + 0x100c);
}

#[test]
fn a_gather_goes_on_where_it_faulted() {
    let mut rig = rig();
    rig.map(0, 0x10_0000, pte::P);
    for n in 0..8 {
        rig.cpu
            .ram
            .store(Physical(0x10_0000 + 4 * n), 100 + n as u32);
        rig.cpu
            .ram
            .store(Physical(0x20_0000 + 4 * n), 200 + n as u32);
    }
    // Elements 0 and 2 in the first page, 5 in the second, which isn't there.
    (rig.cpu.xmm[1], rig.cpu.ymm_high[1]) = (1 | 2 << 64, 0x401 << 32);
    (rig.cpu.xmm[2], rig.cpu.ymm_high[2]) = (1 << 31 | 1 << 95, 1 << 63);
    (rig.cpu.xmm[0], rig.cpu.ymm_high[0]) = (0, 7 << 96);
    assert!(execute(&mut rig, VPGATHERDD).is_err());
    assert_eq!(rig.cpu.cr2, WINDOW + 0x1004);
    assert_eq!(rig.cpu.xmm[0], 101 | 102 << 64);
    assert_eq!((rig.cpu.xmm[2], rig.cpu.ymm_high[2]), (0, 1 << 63));
    rig.map(1, 0x20_0000, pte::P);
    assert_eq!(execute(&mut rig, VPGATHERDD), Ok(()));
    assert_eq!(rig.cpu.ymm_high[0], 201 << 32 | 7 << 96);
    assert_eq!((rig.cpu.xmm[2], rig.cpu.ymm_high[2]), (0, 0));
}
