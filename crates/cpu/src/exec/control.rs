//! Control and debug registers, and what drops translations: MOV to and from
//! CRn and DRn, CLTS, LMSW, SMSW, INVLPG, INVPCID, INVD, WBINVD.
//!
//! Dropping translations has no effect to speak of: the soft TLB always agrees
//! with the tables in memory (`tlb`).

use iced_x86::{Instruction, Mnemonic, Register};
use x86::control::{cr0, cr4, efer, pte};
use x86::{Linear, PAGE_BYTES, Physical, vector};

use super::advance;
use super::form::{Place, by_width, place};
use super::segment::{not_prevented, privileged};
use crate::debug::{dr6, dr7};
use crate::op::Handler;
use crate::segment::rights;
use crate::walk::{ADDRESS, PHYSICAL_BITS};
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let is = |n, which: fn(Register) -> bool| {
        place(insn, n) == Place::Register && which(insn.op_register(n))
    };
    match insn.mnemonic() {
        M::Mov if is(0, Register::is_cr) => Some(write_control),
        M::Mov if is(1, Register::is_cr) => Some(read_control),
        M::Mov if is(0, Register::is_dr) => Some(write_debug),
        M::Mov if is(1, Register::is_dr) => Some(read_debug),
        M::Clts => Some(clts),
        M::Lmsw if place(insn, 0) == Place::Memory => Some(lmsw_memory),
        M::Lmsw => Some(lmsw_register),
        M::Smsw if place(insn, 0) == Place::Memory => Some(smsw_memory),
        M::Smsw => by_width!(op.size, smsw),
        M::Invlpg => Some(invlpg),
        M::Invpcid => Some(invpcid),
        M::Invd | M::Wbinvd | M::Wbnoinvd => Some(write_back),
        _ => None,
    }
}

/// Whether `insn` changes translations or sizes, so that what follows it is
/// to be found anew.
pub(super) fn ends_block(insn: &Instruction) -> bool {
    let writes_control =
        insn.op_count() == 2 && place(insn, 0) == Place::Register && insn.op_register(0).is_cr();
    writes_control || insn.mnemonic() == Mnemonic::Lmsw
}

/// A general register at the width that moves to and from control and debug
/// registers have: by the mode, whatever the prefixes.
fn get(cpu: &Cpu, number: u8) -> u64 {
    if cpu.is_64() {
        cpu.get(number)
    } else {
        cpu.get::<u32>(number).into()
    }
}

fn set(cpu: &mut Cpu, number: u8, value: u64) {
    if cpu.is_64() {
        cpu.set(number, value);
    } else {
        cpu.set(number, value as u32);
    }
}

fn read_control(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let cr8 = u64::from(bus.task_priority());
    let value = match op.b {
        0 => cpu.cr0,
        2 => cpu.cr2,
        3 => cpu.cr3,
        4 => cpu.cr4,
        8 => cr8,
        _ => return Err(Trap::UD),
    };
    privileged(cpu)?;
    set(cpu, op.a, value);
    Ok(())
}

fn write_control(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    if !matches!(op.a, 0 | 2 | 3 | 4 | 8) {
        return Err(Trap::UD);
    }
    privileged(cpu)?;
    let value = get(cpu, op.b);
    match op.a {
        0 => cpu.set_cr0(value)?,
        2 => cpu.cr2 = value,
        3 => cpu.set_cr3(value)?,
        4 => cpu.set_cr4(value)?,
        _ if value > 15 => return Err(Trap::GP),
        _ => {
            bus.set_task_priority(value as u8);
            cpu.look = true;
        }
    }
    advance(cpu, bus, op)
}

const CR0_WRITABLE: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

const CR4_WRITABLE: u64 = cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::PCIDE
    | cr4::OSXSAVE
    | cr4::SMEP
    | cr4::SMAP;

/// Bits that must be 0 in a page-directory-pointer entry of PAE paging.
const PDPTE_RESERVED: u64 = 0x1e6 | !((1 << PHYSICAL_BITS) - 1);
/// In a value for CR3: keep what is cached for the new PCID.
const CR3_NO_FLUSH: u64 = 1 << 63;
/// The PCID in CR3.
const CR3_PCID: u64 = 0xfff;

impl Cpu {
    /// MOV to CR0 (SDM volume 3A, 2.5 and 11.8.5).
    pub(crate) fn set_cr0(&mut self, value: u64) -> Flow {
        // Real-address mode isn't there, so protection can't be left.
        let impossible = value >> 32 != 0
            || value & cr0::PE == 0
            || value & cr0::NW != 0 && value & cr0::CD == 0
            || value & cr0::PG == 0 && self.cr4 & cr4::PCIDE != 0;
        if impossible {
            return Err(Trap::GP);
        }
        let value = value & CR0_WRITABLE | cr0::ET;
        let changed = value ^ self.cr0;
        let cs_long = self.segments[usize::from(x86::seg::CS)].has(rights::L);
        let mut efer = self.efer;
        if changed & cr0::PG != 0 && efer & efer::LME != 0 {
            let entering = value & cr0::PG != 0;
            let pae = self.cr4 & cr4::PAE != 0;
            if cs_long || entering && (!pae || !self.tr.has(8)) {
                return Err(Trap::GP);
            }
            efer ^= efer::LMA;
        }
        let pae_paging = value & cr0::PG != 0 && self.cr4 & cr4::PAE != 0 && efer & efer::LMA == 0;
        if pae_paging && changed & (cr0::PG | cr0::CD | cr0::NW) != 0 {
            self.load_pdptes(self.cr3)?;
        }
        self.cr0 = value;
        self.efer = efer;
        if changed & (cr0::PG | cr0::WP) != 0 {
            self.flush_translations();
        }
        self.refresh();
        Ok(())
    }

    /// MOV to CR3.
    pub(crate) fn set_cr3(&mut self, value: u64) -> Flow {
        let pcide = self.cr4 & cr4::PCIDE != 0;
        let value = if pcide { value & !CR3_NO_FLUSH } else { value };
        if self.long_mode() && value & !(ADDRESS | (PAGE_BYTES - 1)) != 0 {
            return Err(Trap::GP);
        }
        if self.pae_paging() {
            self.load_pdptes(value)?;
            self.flush_translations();
        } else if (value ^ self.cr3) & ADDRESS != 0 {
            let top = |cr3: u64| Physical(cr3 & ADDRESS);
            self.change_top_table(top(self.cr3), top(value));
        }
        self.cr3 = value;
        self.look = true;
        Ok(())
    }

    /// MOV to CR4.
    pub(crate) fn set_cr4(&mut self, value: u64) -> Flow {
        let changed = value ^ self.cr4;
        let leaves_pae = value & cr4::PAE == 0 && self.long_mode();
        let enters_pcid =
            changed & value & cr4::PCIDE != 0 && (!self.long_mode() || self.cr3 & CR3_PCID != 0);
        if value & !CR4_WRITABLE != 0 || leaves_pae || enters_pcid {
            return Err(Trap::GP);
        }
        let formats = cr4::PSE | cr4::PAE;
        let becomes_pae = self.cr0 & cr0::PG != 0 && value & cr4::PAE != 0 && !self.long_mode();
        if becomes_pae && changed & (formats | cr4::PGE | cr4::SMEP) != 0 {
            self.load_pdptes(self.cr3)?;
        }
        self.cr4 = value;
        if changed & (formats | cr4::SMEP | cr4::SMAP) != 0 {
            self.flush_translations();
        }
        self.refresh();
        Ok(())
    }

    fn pae_paging(&self) -> bool {
        self.cr0 & cr0::PG != 0 && self.cr4 & cr4::PAE != 0 && !self.long_mode()
    }

    /// Loads the page-directory pointers of PAE paging from the table that
    /// `cr3` points at; all four, or `#GP(0)` and none.
    fn load_pdptes(&mut self, cr3: u64) -> Flow {
        let table = Physical(cr3 & 0xffff_ffe0);
        let mut entries = [0; 4];
        for (entry, n) in entries.iter_mut().zip(0u64..) {
            let at = table.plus(8 * n);
            // Outside of RAM all ones are read, which have reserved bits set.
            *entry = if self.ram.holds(at, 8) {
                self.ram.load(at)
            } else {
                u64::MAX
            };
            if *entry & pte::P != 0 && *entry & PDPTE_RESERVED != 0 {
                return Err(Trap::GP);
            }
        }
        self.pdpte = entries;
        Ok(())
    }
}

fn clts(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    privileged(cpu)?;
    cpu.cr0 &= !cr0::TS;
    Ok(())
}

fn lmsw_register(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    let value = cpu.get::<u16>(op.a);
    lmsw(cpu, bus, op, value)
}

fn lmsw_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    privileged(cpu)?;
    let value = cpu.load::<u16>(bus, op)?;
    lmsw(cpu, bus, op, value)
}

/// Sets the low four bits of CR0; PE can be set, not cleared.
fn lmsw(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op, value: u16) -> Flow {
    privileged(cpu)?;
    let low = u64::from(value & 15) | cpu.cr0 & cr0::PE;
    cpu.set_cr0(cpu.cr0 & !15 | low)?;
    advance(cpu, bus, op)
}

fn smsw<W: Width>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    not_prevented(cpu)?;
    cpu.set(op.a, W::truncate(cpu.cr0));
    Ok(())
}

fn smsw_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    not_prevented(cpu)?;
    let value = cpu.cr0 as u16;
    cpu.store(bus, op, value)
}

/// The number of the debug register meant: 4 and 5 are other names of 6 and
/// 7, or nothing (CR4.DE).
fn debug_register(cpu: &mut Cpu, number: u8) -> Flow<usize> {
    let number = match number {
        4 | 5 if cpu.cr4 & cr4::DE != 0 => return Err(Trap::UD),
        4 | 5 => number + 2,
        0..=7 => number,
        _ => return Err(Trap::UD),
    };
    privileged(cpu)?;
    if cpu.dr[7] & dr7::GD != 0 {
        cpu.pending_debug |= dr6::BD;
        return Err(Trap::fault(vector::DB));
    }
    Ok(usize::from(number))
}

fn read_debug(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let number = debug_register(cpu, op.b)?;
    let value = cpu.dr[number];
    set(cpu, op.a, value);
    Ok(())
}

fn write_debug(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    let number = debug_register(cpu, op.a)?;
    let value = get(cpu, op.b);
    if number >= 6 && value >> 32 != 0 {
        return Err(Trap::GP);
    }
    cpu.dr[number] = match number {
        6 => value & dr6::WRITABLE | dr6::FIXED,
        7 => value & dr7::WRITABLE | dr7::FIXED,
        _ => value,
    };
    if number != 6 {
        // Pages with a data breakpoint are to be seen at every access.
        cpu.flush_translations();
    }
    Ok(())
}

fn invlpg(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    privileged(cpu)
}

/// SDM volume 2A, INVPCID: the checks of its operands are all that can be
/// seen of it.
fn invpcid(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    privileged(cpu)?;
    let kind = get(cpu, op.a);
    let at = cpu.address(op, 16, false)?;
    let pcid = cpu.read::<u64>(bus, at, op.stack)?;
    let address = cpu.read::<u64>(bus, at.plus(8), op.stack)?;
    let pcid_off = cpu.cr4 & cr4::PCIDE == 0 && pcid != 0;
    let refused = match kind {
        0 => pcid > CR3_PCID || pcid_off || !Linear(address).is_canonical(),
        1 => pcid > CR3_PCID || pcid_off,
        2 | 3 => false,
        _ => true,
    };
    if refused { Err(Trap::GP) } else { Ok(()) }
}

/// Caches are not modelled: there is nothing to write back.
fn write_back(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    privileged(cpu)
}

#[cfg(test)]
mod tests {
    use x86::control::{cr0, cr4, pte};
    use x86::{Physical, gpr, vector};

    use crate::rig::{CODE, PML4, Rig, WINDOW};
    use crate::{Space, Trap};

    /// mov cr3, rax; nop
    const LOAD_CR3: &[u8] = &[0x0f, 0x22, 0xd8, 0x90];

    #[test]
    fn a_new_cr3_takes_effect_with_the_next_instruction() {
        let mut rig = Rig::new();
        // The same code elsewhere, seen through other tables at the same place.
        for page in [0x1000u64, 0x2000, 0x3000] {
            let mut bytes = [0; 4096];
            let ram = &rig.cpu.ram;
            ram.read(Physical(page), &mut bytes).expect("it is RAM");
            ram.write(Physical(0x60_0000 + page), &bytes)
                .expect("it is RAM");
        }
        let all = pte::P | pte::RW | pte::US;
        let ram = &rig.cpu.ram;
        ram.store(Physical(0x60_1000), 0x60_2000 | all);
        ram.store(Physical(0x60_2000), 0x60_3000 | all);
        ram.store(Physical(0x60_3000), 0x80_0000 | all | pte::PS);
        // There: hlt
        ram.store(Physical(0x80_0000 + CODE + 3), 0xf4u8);
        rig.cpu.gpr[0] = 0x60_1000;
        // Here the same place would be: ud2
        rig.code(&[0x0f, 0x22, 0xd8, 0x0f, 0x0b]);
        rig.run();
        assert_eq!(rig.cpu.rip, CODE + 4);
    }

    #[test]
    fn reserved_bits_of_cr3_are_refused_and_bit_63_is_not_kept() {
        let mut rig = Rig::new();
        rig.cpu.gpr[0] = PML4 | 1 << 46;
        rig.code(LOAD_CR3);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
        assert_eq!(rig.cpu.set_cr3(PML4 | 1 << 63), Err(Trap::GP));
        rig.cpu.set_cr4(rig.cpu.cr4 | cr4::PCIDE).expect("allowed");
        rig.cpu.set_cr3(PML4 | 5 | 1 << 63).expect("allowed");
        assert_eq!(rig.cpu.cr3, PML4 | 5);
    }

    #[test]
    fn impossible_modes_are_refused() {
        let mut rig = Rig::new();
        let cpu = &mut rig.cpu;
        assert_eq!(cpu.set_cr0(cpu.cr0 & !cr0::PE), Err(Trap::GP));
        assert_eq!(cpu.set_cr0(cpu.cr0 & !cr0::PG), Err(Trap::GP));
        assert_eq!(cpu.set_cr0(cpu.cr0 | cr0::NW), Err(Trap::GP));
        assert_eq!(cpu.set_cr4(cpu.cr4 & !cr4::PAE), Err(Trap::GP));
        assert_eq!(cpu.set_cr4(cpu.cr4 | cr4::VME), Err(Trap::GP));
        cpu.cr3 |= 1;
        assert_eq!(cpu.set_cr4(cpu.cr4 | cr4::PCIDE), Err(Trap::GP));
    }

    #[test]
    fn write_protection_follows_cr0_at_once() {
        let mut rig = Rig::new();
        rig.map(0, 0x80_0000, pte::P);
        let cpu = &mut rig.cpu;
        cpu.set_cr0(cpu.cr0 & !cr0::WP).expect("allowed");
        rig.write(WINDOW, 1).expect("not protected");
        let cpu = &mut rig.cpu;
        cpu.set_cr0(cpu.cr0 | cr0::WP).expect("allowed");
        assert!(rig.write(WINDOW, 1).is_err());
    }

    #[test]
    fn pae_pointers_with_reserved_bits_are_refused_whole() {
        let mut rig = Rig::new();
        rig.protected();
        let cpu = &mut rig.cpu;
        cpu.ram.store(Physical(0x9000), 0x2001u64);
        cpu.ram.store(Physical(0x9008), 0x2003u64);
        cpu.cr3 = 0x9000;
        assert_eq!(cpu.set_cr0(cpu.cr0 | cr0::PG), Err(Trap::GP));
        assert_eq!(cpu.pdpte, [0; 4]);
        cpu.ram.store(Physical(0x9008), 0u64);
        assert_eq!(cpu.set_cr0(cpu.cr0 | cr0::PG), Ok(()));
        assert_eq!(cpu.pdpte, [0x2001, 0, 0, 0]);
    }

    #[test]
    fn smap_and_ac_choose_whose_rights_count() {
        let mut rig = Rig::new();
        rig.cpu.set_cr4(rig.cpu.cr4 | cr4::SMAP).expect("allowed");
        // stac; clac
        rig.code(&[0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca]);
        rig.cpu.ram.store(Physical(0x3000), 0x83u64);
        rig.step();
        assert_eq!(rig.cpu.space, Space::SupervisorAc);
        rig.step();
        assert_eq!(rig.cpu.space, Space::Supervisor);
    }

    #[test]
    fn debug_registers_are_guarded() {
        let mut rig = Rig::new();
        rig.cpu.dr[7] |= 1 << 13;
        // mov rax, dr0
        rig.code(&[0x0f, 0x21, 0xc0]);
        rig.run();
        assert_eq!(rig.vector(), vector::DB);
        assert_eq!(rig.cpu.dr[6], 0xffff_2ff0);
        assert_eq!(rig.cpu.dr[7], 0x400);
        // mov rax, dr4: with CR4.DE it isn't there.
        rig.code(&[0x0f, 0x21, 0xe0]);
        rig.run();
        assert_eq!(rig.vector(), vector::UD);
    }

    #[test]
    fn invpcid_checks_its_operands() {
        let mut rig = Rig::new();
        rig.cpu.gpr[usize::from(gpr::RCX)] = 0x2_0000;
        // invpcid rax, [rcx]; hlt
        let code = [0x66, 0x0f, 0x38, 0x82, 0x01, 0xf4];
        rig.code(&code);
        rig.run();
        assert_eq!(rig.cpu.rip, CODE + 6);
        rig.cpu.gpr[0] = 4;
        rig.code(&code);
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
    }
}
