//! RDMSR, WRMSR, RDTSC, RDTSCP, RDPMC, CPUID.

use iced_x86::{Instruction, Mnemonic};
use x86::control::{cr0, cr4, efer};
use x86::{Linear, gpr, msr, seg};

use super::segment::privileged;
use crate::op::Handler;
use crate::{Bus, Cpu, Flow, Op, Trap, cpuid};

pub(super) fn lower(insn: &Instruction, _: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Rdmsr => rdmsr,
        M::Wrmsr => wrmsr,
        M::Rdtsc => rdtsc,
        M::Rdtscp => rdtscp,
        M::Rdpmc => rdpmc,
        M::Cpuid => cpuid_,
        _ => return None,
    })
}

/// EDX:EAX.
fn pair(cpu: &Cpu) -> u64 {
    let low = cpu.get::<u32>(gpr::RAX);
    let high = cpu.get::<u32>(gpr::RDX);
    u64::from(high) << 32 | u64::from(low)
}

fn set_pair(cpu: &mut Cpu, value: u64) {
    cpu.set(gpr::RAX, value as u32);
    cpu.set(gpr::RDX, (value >> 32) as u32);
}

fn rdmsr(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    privileged(cpu)?;
    let number = cpu.get::<u32>(gpr::RCX);
    let value = read(cpu, bus, number)?;
    set_pair(cpu, value);
    Ok(())
}

fn wrmsr(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    privileged(cpu)?;
    let number = cpu.get::<u32>(gpr::RCX);
    let value = pair(cpu);
    write(cpu, bus, number, value)
}

/// IA32_ARCH_CAPABILITIES: none of the speculation faults, so that a kernel
/// need not pay for their mitigation (Intel's "CPUID enumeration and
/// architectural MSRs"): RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO,
/// IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO,
/// PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO.
const ARCH_CAPABILITIES: u64 = 1 << 0
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;

/// IA32_BIOS_SIGN_ID: revision 1 of a microcode that can't be updated.
const MICROCODE: u64 = 1 << 32;
/// IA32_FEATURE_CONTROL: locked with nothing enabled.
const FEATURE_CONTROL: u64 = 1;
const EFER_WRITABLE: u64 = efer::SCE | efer::LME | efer::NXE;
/// IBRS and BHI_DIS_S: there is no prediction for them to restrict.
const SPEC_CTRL_WRITABLE: u64 = 1 << 0 | 1 << 10;
/// IA32_MTRR_DEF_TYPE: type, fixed ranges enabled, enabled.
const MTRR_DEF_TYPE_WRITABLE: u64 = 0xcff;

fn is_board(number: u32) -> bool {
    matches!(
        number,
        msr::APIC_BASE | msr::X2APIC_FIRST..=msr::X2APIC_LAST
    )
}

fn read(cpu: &mut Cpu, bus: &mut dyn Bus, number: u32) -> Flow<u64> {
    Ok(match number {
        msr::TSC => tsc(cpu, bus),
        msr::TSC_ADJUST => cpu.tsc_adjust,
        msr::PLATFORM_ID | msr::MCG_CAP | msr::MCG_STATUS | msr::DEBUGCTL | msr::MTRRCAP => 0,
        msr::FEATURE_CONTROL => FEATURE_CONTROL,
        msr::BIOS_SIGN_ID => MICROCODE,
        msr::SPEC_CTRL => cpu.spec_ctrl,
        msr::ARCH_CAPABILITIES => ARCH_CAPABILITIES,
        msr::SYSENTER_CS..=msr::SYSENTER_EIP => cpu.sysenter[(number - msr::SYSENTER_CS) as usize],
        msr::MISC_ENABLE => cpu.misc_enable,
        msr::PAT => cpu.pat,
        msr::MTRR_DEF_TYPE => cpu.mtrr_def_type,
        msr::EFER => cpu.efer,
        msr::STAR => cpu.star,
        msr::LSTAR => cpu.lstar,
        msr::CSTAR => cpu.cstar,
        msr::FMASK => cpu.fmask,
        msr::FS_BASE => cpu.segments[usize::from(seg::FS)].base,
        msr::GS_BASE => cpu.segments[usize::from(seg::GS)].base,
        msr::KERNEL_GS_BASE => cpu.kernel_gs_base,
        msr::TSC_AUX => cpu.tsc_aux,
        msr::TSC_DEADLINE => {
            let deadline = bus.msr_read(cpu.branches, number).or(Err(Trap::GP))?;
            if deadline == 0 {
                0
            } else {
                deadline.wrapping_add(cpu.tsc_adjust)
            }
        }
        number if is_board(number) => {
            let value = bus.msr_read(cpu.branches, number);
            cpu.after_bus(bus);
            value.or(Err(Trap::GP))?
        }
        _ => return Err(Trap::GP),
    })
}

fn write(cpu: &mut Cpu, bus: &mut dyn Bus, number: u32, value: u64) -> Flow {
    match number {
        msr::TSC => cpu.tsc_adjust = value.wrapping_sub(bus.tsc(cpu.branches)),
        msr::TSC_ADJUST => cpu.tsc_adjust = value,
        // Nothing is loaded, nothing predicted.
        msr::BIOS_SIGN_ID => {}
        msr::PRED_CMD if value & !1 == 0 => {}
        msr::MCG_STATUS | msr::DEBUGCTL if value == 0 => {}
        msr::SPEC_CTRL if value & !SPEC_CTRL_WRITABLE == 0 => cpu.spec_ctrl = value,
        msr::SYSENTER_CS => cpu.sysenter[0] = value & 0xffff_ffff,
        msr::SYSENTER_ESP => cpu.sysenter[1] = canonical(value)?,
        msr::SYSENTER_EIP => cpu.sysenter[2] = canonical(value)?,
        msr::MISC_ENABLE => cpu.misc_enable = value,
        msr::PAT if is_pat(value) => cpu.pat = value,
        msr::MTRR_DEF_TYPE if value & !MTRR_DEF_TYPE_WRITABLE == 0 => cpu.mtrr_def_type = value,
        msr::EFER => set_efer(cpu, value)?,
        msr::STAR => cpu.star = value,
        msr::LSTAR => cpu.lstar = canonical(value)?,
        msr::CSTAR => cpu.cstar = canonical(value)?,
        msr::FMASK if value >> 32 == 0 => cpu.fmask = value,
        msr::FS_BASE => cpu.segments[usize::from(seg::FS)].base = canonical(value)?,
        msr::GS_BASE => cpu.segments[usize::from(seg::GS)].base = canonical(value)?,
        msr::KERNEL_GS_BASE => cpu.kernel_gs_base = canonical(value)?,
        msr::TSC_AUX if value >> 32 == 0 => cpu.tsc_aux = value,
        msr::TSC_DEADLINE => {
            // The board counts without the adjustment; 0 disarms.
            let deadline = match value {
                0 => 0,
                value => value.wrapping_sub(cpu.tsc_adjust).max(1),
            };
            write_board(cpu, bus, number, deadline)?;
        }
        number if is_board(number) => write_board(cpu, bus, number, value)?,
        _ => return Err(Trap::GP),
    }
    Ok(())
}

fn write_board(cpu: &mut Cpu, bus: &mut dyn Bus, number: u32, value: u64) -> Flow {
    let written = bus.msr_write(cpu.branches, number, value);
    cpu.after_bus(bus);
    written.or(Err(Trap::GP))
}

fn canonical(value: u64) -> Flow<u64> {
    if Linear(value).is_canonical() {
        Ok(value)
    } else {
        Err(Trap::GP)
    }
}

/// Whether each of the eight types exists (SDM volume 3A, 11.12.2).
fn is_pat(value: u64) -> bool {
    let types = value.to_le_bytes();
    types.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

fn set_efer(cpu: &mut Cpu, value: u64) -> Flow {
    let changed = (value ^ cpu.efer) & EFER_WRITABLE;
    let reserved = value & !(EFER_WRITABLE | efer::LMA) != 0;
    if reserved || changed & efer::LME != 0 && cpu.cr0 & cr0::PG != 0 {
        return Err(Trap::GP);
    }
    cpu.efer ^= changed;
    if changed & efer::NXE != 0 {
        cpu.flush_translations();
    }
    cpu.refresh();
    Ok(())
}

fn tsc(cpu: &Cpu, bus: &mut dyn Bus) -> u64 {
    bus.tsc(cpu.branches).wrapping_add(cpu.tsc_adjust)
}

/// RDTSC and RDTSCP above privilege level 0 only if CR4 lets them.
fn tsc_allowed(cpu: &Cpu) -> Flow {
    if cpu.cr4 & cr4::TSD != 0 {
        privileged(cpu)
    } else {
        Ok(())
    }
}

fn rdtsc(cpu: &mut Cpu, bus: &mut dyn Bus, _: &Op) -> Flow {
    tsc_allowed(cpu)?;
    let value = tsc(cpu, bus);
    set_pair(cpu, value);
    Ok(())
}

fn rdtscp(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    rdtsc(cpu, bus, op)?;
    let auxiliary = cpu.tsc_aux as u32;
    cpu.set(gpr::RCX, auxiliary);
    Ok(())
}

/// There are no performance counters, so every index is wrong.
fn rdpmc(_: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    Err(Trap::GP)
}

fn cpuid_(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    let leaf = cpu.get::<u32>(gpr::RAX);
    let subleaf = cpu.get::<u32>(gpr::RCX);
    let [eax, ebx, ecx, edx] = cpuid::leaf(cpu, leaf, subleaf);
    cpu.set(gpr::RAX, eax);
    cpu.set(gpr::RBX, ebx);
    cpu.set(gpr::RCX, ecx);
    cpu.set(gpr::RDX, edx);
    Ok(())
}

#[cfg(test)]
mod tests {
    use x86::control::{cr4, efer};
    use x86::{gpr, msr, vector};

    use crate::rig::Rig;

    fn write(rig: &mut Rig, number: u32, value: u64) {
        rig.cpu.gpr[usize::from(gpr::RCX)] = number.into();
        rig.cpu.gpr[usize::from(gpr::RAX)] = value & 0xffff_ffff;
        rig.cpu.gpr[usize::from(gpr::RDX)] = value >> 32;
        rig.code(&[0x0f, 0x30, 0xf4]);
        rig.run();
    }

    fn read(rig: &mut Rig, number: u32) -> u64 {
        rig.cpu.gpr[usize::from(gpr::RCX)] = number.into();
        rig.code(&[0x0f, 0x32, 0xf4]);
        rig.run();
        rig.cpu.gpr[usize::from(gpr::RDX)] << 32 | rig.cpu.gpr[usize::from(gpr::RAX)]
    }

    #[test]
    fn what_is_written_is_read() {
        let mut rig = Rig::new();
        for number in [msr::LSTAR, msr::STAR, msr::GS_BASE, msr::KERNEL_GS_BASE] {
            write(&mut rig, number, 0xffff_8000_1234_5678);
            assert_eq!(read(&mut rig, number), 0xffff_8000_1234_5678);
        }
        assert_eq!(read(&mut rig, msr::APIC_BASE), 0xfee0_0900);
    }

    #[test]
    fn what_is_not_there_or_not_allowed_faults() {
        let mut rig = Rig::new();
        for (number, value) in [
            (0x1234_5678, 0),
            (msr::LSTAR, 1 << 47),
            (msr::EFER, 1 << 63),
            (msr::EFER, efer::SCE | efer::NXE),
            (msr::PAT, 2),
            (msr::ARCH_CAPABILITIES, 0),
        ] {
            write(&mut rig, number, value);
            assert_eq!(rig.vector(), vector::GP, "{number:#x}");
        }
    }

    #[test]
    fn the_time_stamp_counter_can_be_set() {
        let mut rig = Rig::new();
        write(&mut rig, msr::TSC, 5_000_000);
        let adjust = read(&mut rig, msr::TSC_ADJUST);
        assert_eq!(adjust.wrapping_add(rig.cpu.branches * 10), 5_000_000);
        rig.code(&[0x0f, 0x31, 0xf4]);
        rig.run();
        assert_eq!(rig.cpu.gpr[usize::from(gpr::RAX)], 5_000_000);
        rig.cpu.cr4 |= cr4::TSD;
        rig.at_level(3);
        rig.code(&[0x0f, 0x31, 0xf4]);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
    }
}
