//! The walk of the page tables (SDM volume 3A, chapter 4): 4-level, PAE and
//! 32-bit paging.
//!
//! Accessed bits are set as the walk goes down, as processors do: an entry
//! that was gone through is accessed even if a lower one faults. The last
//! entry's accessed and dirty bits are set only if the access is allowed.

use memory::flag;
use x86::control::{cr0, cr4, efer, pf, pte};
use x86::{Linear, PAGE_BYTES, Physical, vector};

use crate::tables::Step;
use crate::tlb::Space;
use crate::{Cpu, Flow, Trap};

/// Width of a physical address in bits; CPUID says the same.
pub(crate) const PHYSICAL_BITS: u32 = 46;
/// The bits of an entry that hold a physical address.
pub(crate) const ADDRESS: u64 = (1 << PHYSICAL_BITS) - PAGE_BYTES;
/// Bits 51 to [`PHYSICAL_BITS`], which must be 0.
const ADDRESS_RESERVED: u64 = (1 << 52) - (1 << PHYSICAL_BITS);
/// Bits 62 to 52, ignored with 4-level paging, reserved with PAE paging.
const PAE_RESERVED: u64 = (1 << 63) - (1 << 52);

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Fetch,
}

/// A translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Where the byte lies.
    pub(crate) physical: Physical,
    user: bool,
    writable: bool,
    executable: bool,
    /// The last entry says dirty: a store needs no further walk.
    pub(crate) dirty: bool,
    steps: [Step; 4],
    count: usize,
}

impl Found {
    fn unpaged(at: Linear) -> Found {
        Found {
            physical: Physical(at.0),
            user: true,
            writable: true,
            executable: true,
            dirty: true,
            steps: [Step::default(); 4],
            count: 0,
        }
    }

    /// The pages of entries that were gone through.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps[..self.count]
    }
}

impl Cpu {
    /// Translates `at`; sets accessed and dirty bits. `#PF` and CR2 where the
    /// access isn't allowed.
    pub(crate) fn walk(&mut self, space: Space, at: Linear, access: Access) -> Flow<Found> {
        if self.cr0 & cr0::PG == 0 {
            return Ok(Found::unpaged(at));
        }
        self.walk_tables(space, at, access).map_err(|code| {
            self.cr2 = at.0;
            Trap::with_code(vector::PF, code | self.access_code(space, access))
        })
    }

    /// The walk itself; an error has the fault code's P and RSVD bits.
    fn walk_tables(&mut self, space: Space, at: Linear, access: Access) -> Result<Found, u32> {
        let long = self.long_mode();
        let pae = self.cr4 & cr4::PAE != 0;
        let index_bits = if pae { 9 } else { 10 };
        let (mut level, mut table) = self.root(at)?;
        let mut found = Found::unpaged(at);
        loop {
            let span_bits = 12 + index_bits * (u32::from(level) - 1);
            let index = at.0 >> span_bits & ((1 << index_bits) - 1);
            let address = Physical(table.0 + index * self.entry_bytes());
            let in_ram = self.ram.holds(table, PAGE_BYTES);
            // No device answers a walk: outside of RAM it reads all ones.
            let entry = match (in_ram, pae) {
                (true, _) => self.load_entry(address),
                (false, true) => u64::MAX,
                (false, false) => u64::from(u32::MAX),
            };
            if entry & pte::P == 0 {
                return Err(0);
            }
            let leaf = level == 1 || entry & pte::PS != 0 && (pae || self.cr4 & cr4::PSE != 0);
            if entry & self.reserved(long, pae, level, leaf, span_bits) != 0 {
                return Err(pf::P | pf::RSVD);
            }
            found.user &= entry & pte::US != 0;
            found.writable &= entry & pte::RW != 0;
            found.executable &= !pae || entry & pte::NX == 0;
            let table_span = span_bits + index_bits;
            found.steps[found.count] = Step {
                table,
                level,
                // The top table serves both halves of the addresses.
                base: if level == 4 {
                    0
                } else {
                    at.0 >> table_span << table_span
                },
            };
            found.count += 1;
            if leaf {
                self.check_rights(&found, space, access)?;
                let dirty = if access == Access::Write { pte::D } else { 0 };
                if in_ram {
                    self.set_entry_bits(address, entry, pte::A | dirty);
                }
                found.dirty = (entry | dirty) & pte::D != 0;
                let offset = (1 << span_bits) - 1;
                found.physical = Physical(entry & ADDRESS & !offset | at.0 & offset);
                return Ok(found);
            }
            if in_ram {
                self.set_entry_bits(address, entry, pte::A);
            }
            table = Physical(entry & ADDRESS);
            level -= 1;
        }
    }

    /// Where the walk begins: a level and its table.
    fn root(&self, at: Linear) -> Result<(u8, Physical), u32> {
        if self.long_mode() {
            return Ok((4, Physical(self.cr3 & ADDRESS)));
        }
        if self.cr4 & cr4::PAE == 0 {
            return Ok((2, Physical(self.cr3 & 0xffff_f000)));
        }
        let pdpte = self.pdpte[(at.0 >> 30 & 3) as usize];
        if pdpte & pte::P == 0 {
            return Err(0);
        }
        Ok((2, Physical(pdpte & ADDRESS)))
    }

    /// The bits that must be 0 in an entry (SDM volume 3A, 4.3 to 4.5).
    fn reserved(&self, long: bool, pae: bool, level: u8, leaf: bool, span_bits: u32) -> u64 {
        // A large page's address has no bits below its size. Bit 12 is PAT.
        let large = if leaf && level > 1 {
            (1 << span_bits) - (1 << 13)
        } else {
            0
        };
        if !pae {
            // Without PSE-36 the bits for a wider address are reserved.
            return large;
        }
        let top = if level == 4 { pte::PS } else { 0 };
        let nx = if self.efer & efer::NXE == 0 {
            pte::NX
        } else {
            0
        };
        let wide = if long { 0 } else { PAE_RESERVED };
        ADDRESS_RESERVED | large | top | nx | wide
    }

    /// Whether the rights suffice (SDM volume 3A, 4.6).
    fn check_rights(&self, found: &Found, space: Space, access: Access) -> Result<(), u32> {
        if self.allows(found, space, access) {
            Ok(())
        } else {
            Err(pf::P)
        }
    }

    /// As [`Cpu::check_rights`]. The soft TLB asks for other accesses than
    /// the one that was walked for.
    pub(crate) fn allows(&self, found: &Found, space: Space, access: Access) -> bool {
        if self.cr0 & cr0::PG == 0 {
            return true;
        }
        if space.is_user() {
            return found.user
                && match access {
                    Access::Read => true,
                    Access::Write => found.writable,
                    Access::Fetch => found.executable,
                };
        }
        let smap = self.cr4 & cr4::SMAP != 0 && space != Space::SupervisorAc;
        let smep = self.cr4 & cr4::SMEP != 0;
        match access {
            Access::Read => !(found.user && smap),
            Access::Write => !(found.user && smap) && (found.writable || self.cr0 & cr0::WP == 0),
            Access::Fetch => found.executable && !(found.user && smep),
        }
    }

    /// The bits of a fault code that tell of the access.
    fn access_code(&self, space: Space, access: Access) -> u32 {
        let nxe = self.efer & efer::NXE != 0 && self.cr4 & cr4::PAE != 0;
        let tells_fetches = nxe || self.cr4 & cr4::SMEP != 0;
        let kind = match access {
            Access::Write => pf::W,
            Access::Fetch if tells_fetches => pf::I,
            _ => 0,
        };
        kind | if space.is_user() { pf::U } else { 0 }
    }

    /// Sets accessed and dirty bits in the entry at `at`. No translation
    /// follows from them, so none is dropped; code may lie there all the same.
    fn set_entry_bits(&mut self, at: Physical, entry: u64, bits: u64) {
        if entry & bits == bits {
            return;
        }
        // All of them are in the low byte.
        self.ram.store(at, (entry | bits) as u8);
        let number = at.page_number();
        self.ram.pages().set(number, flag::DIRTY);
        if self.ram.pages().get(number) & flag::ANY_CODE != 0 {
            self.ram.note_write(at, 1);
            self.look = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use x86::control::{cr0, cr4, pte};
    use x86::{Linear, Physical};

    use crate::Trap;
    use crate::rig::Rig;
    use crate::tlb::Space;
    use crate::walk::Access;

    #[test]
    fn thirty_two_bit_paging_has_small_and_large_pages() {
        let mut rig = Rig::new();
        let cpu = &mut rig.cpu;
        cpu.efer = 0;
        cpu.cr4 = cr4::PSE;
        cpu.cr3 = 0x10_0000;
        cpu.ram.store(Physical(0x10_0000), 0x10_1000u32 | 3);
        cpu.ram.store(Physical(0x10_1004), 0x20_0000u32 | 3);
        cpu.ram.store(Physical(0x10_0004), 0x40_0000u32 | 0x83);
        cpu.ram.store(Physical(0x10_0008), 0x2000u32 | 0x83);
        let mut walk = |at| cpu.walk(Space::Supervisor, Linear(at), Access::Read);
        assert_eq!(walk(0x1234).map(|f| f.physical), Ok(Physical(0x20_0234)));
        let large = walk(0x41_2345).map(|f| f.physical);
        assert_eq!(large, Ok(Physical(0x41_2345)));
        let reserved = walk(0x80_0000).map(|f| f.physical);
        assert_eq!(reserved, Err(Trap::with_code(x86::vector::PF, 9)));
    }

    #[test]
    fn pae_paging_starts_from_the_loaded_pointers() {
        let mut rig = Rig::new();
        let cpu = &mut rig.cpu;
        cpu.efer = 0;
        cpu.pdpte[3] = 0x10_0000 | pte::P;
        cpu.ram.store(Physical(0x10_0008), 0x20_0000u64 | 0x83);
        let mut walk = |at| cpu.walk(Space::Supervisor, Linear(at), Access::Write);
        let mapped = walk(0xc020_1234).map(|f| f.physical);
        assert_eq!(mapped, Ok(Physical(0x20_1234)));
        let missing = walk(0x4000_0000).map(|f| f.physical);
        assert_eq!(missing, Err(Trap::with_code(x86::vector::PF, 2)));
        assert_eq!(cpu.ram.load::<u64>(Physical(0x10_0008)), 0x20_00e3);
    }

    #[test]
    fn without_paging_linear_is_physical() {
        let mut rig = Rig::new();
        rig.cpu.cr0 &= !cr0::PG;
        let found = rig.cpu.walk(Space::User, Linear(0x1234), Access::Fetch);
        assert_eq!(found.map(|f| f.physical), Ok(Physical(0x1234)));
    }

    #[test]
    fn gigabyte_pages_are_the_third_levels_leaves() {
        let mut rig = Rig::new();
        let cpu = &mut rig.cpu;
        cpu.ram.store(Physical(0x2008), 0x4000_0000u64 | 0x87);
        let found = cpu.walk(Space::User, Linear(0x5234_5678), Access::Read);
        assert_eq!(found.map(|f| f.physical), Ok(Physical(0x5234_5678)));
    }
}
