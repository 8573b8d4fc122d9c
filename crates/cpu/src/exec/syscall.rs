//! SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM volume 2B; volume 3A, 5.8.7-8).
//!
//! They load flat segments whatever the descriptor tables hold.

use iced_x86::{Instruction, Mnemonic};
use x86::control::efer;
use x86::{Linear, flags, gpr, seg};

use super::segment::{flat_segment, privileged};
use crate::debug::dr6;
use crate::op::Handler;
use crate::segment::rights;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, _: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Syscall => syscall,
        M::Sysretq => sysret::<true>,
        M::Sysret => sysret::<false>,
        M::Sysenter => sysenter,
        M::Sysexitq => sysexit::<true>,
        M::Sysexit => sysexit::<false>,
        _ => return None,
    })
}

/// What RFLAGS keeps of R11 at SYSRET.
const SYSRET_FLAGS: u64 = 0x3c_7fd7;

/// Goes to flat segments at privilege level `cpl`: `code` with the size bits
/// `size`, and the stack segment `stack`.
fn go(cpu: &mut Cpu, code: u16, stack: u16, size: u16, cpl: u8) {
    cpu.segments[usize::from(seg::CS)] = flat_segment(code, rights::CODE | size, cpl);
    cpu.segments[usize::from(seg::SS)] = flat_segment(stack, rights::DB, cpl);
    cpu.cpl = cpl;
    cpu.branches += 1;
    cpu.refresh();
}

/// SYSCALL and SYSRET trap by TF as they leave it, not as they found it (SDM
/// volume 2B, SYSRET): even where nobody stepped up to them.
fn trap_if_stepped(cpu: &mut Cpu) {
    cpu.single_step = cpu.flags.has(flags::TF);
    if cpu.single_step {
        cpu.pending_debug |= dr6::BS;
        cpu.look = true;
    }
}

fn syscall(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    if cpu.efer & efer::SCE == 0 || !cpu.is_64() {
        return Err(Trap::UD);
    }
    let next = cpu.next_rip(op);
    let saved = cpu.flags.value();
    cpu.gpr[usize::from(gpr::RCX)] = next;
    cpu.gpr[11] = saved;
    cpu.flags = crate::Flags::new(saved & !cpu.fmask & !flags::RF);
    cpu.rip = cpu.lstar;
    // The kernel decides by FMASK whether a single-step trap follows.
    trap_if_stepped(cpu);
    let code = (cpu.star >> 32) as u16 & !3;
    go(cpu, code, code.wrapping_add(8), rights::L, 0);
    Ok(())
}

fn sysret<const LONG: bool>(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    if cpu.efer & efer::SCE == 0 || !cpu.is_64() {
        return Err(Trap::UD);
    }
    privileged(cpu)?;
    let rcx = cpu.gpr[usize::from(gpr::RCX)];
    if LONG && !Linear(rcx).is_canonical() {
        return Err(Trap::GP);
    }
    cpu.rip = if LONG { rcx } else { rcx & 0xffff_ffff };
    cpu.flags = crate::Flags::new(cpu.gpr[11] & SYSRET_FLAGS);
    trap_if_stepped(cpu);
    let base = (cpu.star >> 48) as u16;
    let (code, size) = if LONG {
        (base.wrapping_add(16), rights::L)
    } else {
        (base, rights::DB)
    };
    go(cpu, code | 3, base.wrapping_add(8) | 3, size, 3);
    Ok(())
}

/// The selector base in IA32_SYSENTER_CS; `#GP(0)` if it isn't set up.
fn sysenter_base(cpu: &Cpu) -> Flow<u16> {
    let base = cpu.sysenter[0] as u16;
    if base & !3 == 0 {
        return Err(Trap::GP);
    }
    Ok(base & !3)
}

fn sysenter(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let base = sysenter_base(cpu)?;
    cpu.flags.rest &= !(flags::VM | flags::IF | flags::RF);
    let (size, mask) = if cpu.long_mode() {
        (rights::L, u64::MAX)
    } else {
        (rights::DB, 0xffff_ffff)
    };
    cpu.gpr[usize::from(gpr::RSP)] = cpu.sysenter[1] & mask;
    cpu.rip = cpu.sysenter[2] & mask;
    go(cpu, base, base.wrapping_add(8), size, 0);
    Ok(())
}

fn sysexit<const LONG: bool>(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let base = sysenter_base(cpu)?;
    privileged(cpu)?;
    let rip = cpu.gpr[usize::from(gpr::RDX)];
    let rsp = cpu.gpr[usize::from(gpr::RCX)];
    if LONG && !(Linear(rip).is_canonical() && Linear(rsp).is_canonical()) {
        return Err(Trap::GP);
    }
    let (mask, code, size) = if LONG {
        (u64::MAX, base.wrapping_add(32), rights::L)
    } else {
        (0xffff_ffff, base.wrapping_add(16), rights::DB)
    };
    cpu.rip = rip & mask;
    cpu.gpr[usize::from(gpr::RSP)] = rsp & mask;
    go(cpu, code | 3, code.wrapping_add(8) | 3, size, 3);
    Ok(())
}

#[cfg(test)]
mod tests {
    use x86::{flags, gpr, seg, vector};

    use crate::CodeSize;
    use crate::rig::{CODE, Rig, sel};

    fn rig() -> Rig {
        let mut rig = Rig::new();
        rig.cpu.star = u64::from(sel::CODE_0) << 32 | u64::from(sel::CODE32_3) << 48;
        rig.cpu.lstar = CODE + 0x100;
        rig.cpu.fmask = flags::IF | flags::TF;
        rig
    }

    #[test]
    fn syscall_and_sysret_go_to_the_kernel_and_back() {
        let mut rig = rig();
        rig.at_level(3);
        rig.cpu.flags.rest |= flags::IF;
        rig.code(&[0x0f, 0x05]);
        rig.step();
        assert_eq!(rig.cpu.rip, CODE + 0x100);
        assert_eq!(rig.cpu.cpl, 0);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RCX)], CODE + 2);
        assert_eq!(rig.cpu.gpr[11], flags::FIXED | flags::IF);
        assert!(!rig.cpu.flags.has(flags::IF));
        assert_eq!(rig.cpu.segments[usize::from(seg::SS)].selector, sel::DATA_0);
        // sysretq
        rig.code(&[0x48, 0x0f, 0x07]);
        rig.step();
        assert_eq!(rig.cpu.rip, CODE + 2);
        assert_eq!(rig.cpu.cpl, 3);
        assert!(rig.cpu.flags.has(flags::IF));
        assert_eq!(rig.cpu.segments[usize::from(seg::CS)].selector, sel::CODE_3);
        assert_eq!(rig.cpu.branches, 2);
    }

    #[test]
    fn sysret_without_rex_returns_to_compatibility_mode() {
        let mut rig = rig();
        rig.cpu.gpr[usize::from(gpr::RCX)] = CODE;
        rig.code(&[0x0f, 0x07]);
        rig.step();
        assert_eq!(rig.cpu.code_size, CodeSize::Bits32);
        let cs = rig.cpu.segments[usize::from(seg::CS)].selector;
        assert_eq!(cs, sel::CODE32_3);
    }

    #[test]
    fn a_step_that_sysret_switches_on_traps_before_the_next_instruction() {
        let mut rig = rig();
        rig.cpu.gpr[usize::from(gpr::RCX)] = CODE + 3;
        rig.cpu.gpr[11] = flags::FIXED | flags::TF;
        // sysretq; nop
        rig.code(&[0x48, 0x0f, 0x07, 0x90]);
        rig.run();
        assert_eq!(rig.vector(), vector::DB);
        assert_eq!(rig.stacked(0), CODE + 3);
    }

    #[test]
    fn sysret_to_an_address_that_is_not_canonical_faults_in_the_kernel() {
        let mut rig = rig();
        rig.cpu.gpr[usize::from(gpr::RCX)] = 1 << 47;
        rig.code(&[0x48, 0x0f, 0x07]);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
        assert_eq!(rig.stacked(2), u64::from(sel::CODE_0));
    }

    #[test]
    fn sysenter_and_sysexit_use_their_own_selectors() {
        let mut rig = rig();
        rig.cpu.sysenter = [sel::CODE_0.into(), 0x9000, CODE + 0x100];
        rig.at_level(3);
        rig.code(&[0x0f, 0x34]);
        rig.step();
        assert_eq!(rig.cpu.rip, CODE + 0x100);
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RSP)], 0x9000);
        assert_eq!(rig.cpu.cpl, 0);
        rig.cpu.gpr[usize::from(gpr::RDX)] = CODE + 7;
        rig.cpu.gpr[usize::from(gpr::RCX)] = 0x5000;
        // sysexitq
        rig.code(&[0x48, 0x0f, 0x35]);
        rig.step();
        assert_eq!(rig.cpu.rip, CODE + 7);
        assert_eq!(rig.cpu.cpl, 3);
        assert_eq!(rig.cpu.segments[usize::from(seg::CS)].selector, sel::CODE_3);
    }
}
