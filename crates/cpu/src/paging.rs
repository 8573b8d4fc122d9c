//! The slow way of an access: all checks, accesses that cross pages, the
//! board where there is no RAM, and what the soft TLB is given for next time.

use memory::{Ram, flag};
use x86::{Linear, PAGE_BYTES, Physical, seg, vector};

use crate::tlb::{Leave, Space};
use crate::walk::{Access, Found};
use crate::{Bus, Cpu, Flow, Trap};

/// An access, translated: the part in its first page and the part in its
/// second, if it has one.
struct Span {
    first: Found,
    second: Option<Found>,
    /// Bytes in the first page.
    first_bytes: u64,
}

impl Span {
    /// Where byte `n` lies.
    fn byte(&self, n: u64) -> Physical {
        match &self.second {
            Some(second) if n >= self.first_bytes => second.physical.plus(n - self.first_bytes),
            _ => self.first.physical.plus(n),
        }
    }
}

impl Cpu {
    /// The writes to pages that hold code, since the last call. Writes to
    /// pages that hold translations are acted upon here.
    pub fn take_code_writes(&mut self) -> Vec<(Physical, u64)> {
        let mut writes = self.ram.take_watched_writes();
        writes.retain(|&(start, _)| {
            let flags = self.ram.pages().get(start.page_number());
            if flags & flag::TABLE != 0 {
                self.table_written_unseen(start);
            }
            flags & flag::ANY_CODE != 0
        });
        writes
    }

    /// The linear address of offset `rip` in the code segment.
    #[inline(always)]
    pub(crate) fn code_linear(&self, rip: u64) -> Flow<Linear> {
        if self.is_64() {
            return Ok(Linear(rip));
        }
        let cs = &self.segments[usize::from(seg::CS)];
        if rip > u64::from(cs.limit) {
            return Err(Trap::GP);
        }
        Ok(Linear(cs.base.wrapping_add(rip) & 0xffff_ffff))
    }

    /// The `bytes` (1, 2, 4 or 8) at `at`, with the rights of `space`.
    pub(crate) fn read_slow(
        &mut self,
        bus: &mut dyn Bus,
        space: Space,
        at: Linear,
        bytes: u8,
        stack: bool,
    ) -> Flow<u64> {
        let span = self.span(space, at, u64::from(bytes), stack, Access::Read)?;
        self.note_data_access(at, u64::from(bytes), false);
        self.remember(space, at, &span.first, Access::Read);
        if span.second.is_none() {
            return Ok(self.load_physical(bus, span.first.physical, bytes));
        }
        Ok((0..u64::from(bytes)).fold(0, |value, n| {
            value | self.load_physical(bus, span.byte(n), 1) << (8 * n)
        }))
    }

    /// Puts the low `bytes` (1, 2, 4 or 8) of `value` at `at`, with the rights
    /// of `space`.
    pub(crate) fn write_slow(
        &mut self,
        bus: &mut dyn Bus,
        space: Space,
        at: Linear,
        bytes: u8,
        stack: bool,
        value: u64,
    ) -> Flow {
        let span = self.span(space, at, u64::from(bytes), stack, Access::Write)?;
        self.note_data_access(at, u64::from(bytes), true);
        if span.second.is_none() {
            self.store_physical(bus, span.first.physical, bytes, value);
        } else {
            for n in 0..u64::from(bytes) {
                self.store_physical(bus, span.byte(n), 1, value >> (8 * n));
            }
        }
        // A store may have changed the very entries it was translated by:
        // what was found is remembered only if it surely still holds.
        if span.second.is_none() && !self.in_table(&span.first) {
            self.remember(space, at, &span.first, Access::Write);
        }
        Ok(())
    }

    /// Makes sure that `bytes` (up to a page) at `at` can be written.
    pub(crate) fn probe_write_slow(
        &mut self,
        space: Space,
        at: Linear,
        bytes: u64,
        stack: bool,
    ) -> Flow {
        self.span(space, at, bytes, stack, Access::Write)?;
        Ok(())
    }

    /// Makes sure that `bytes` (up to a page) at `at` can be read.
    pub(crate) fn probe_read_slow(
        &mut self,
        space: Space,
        at: Linear,
        bytes: u64,
        stack: bool,
    ) -> Flow {
        self.span(space, at, bytes, stack, Access::Read)?;
        Ok(())
    }

    /// Where the instruction byte at linear address `at` lies; `None` where it
    /// is no RAM.
    pub fn fetch_address(&mut self, at: Linear) -> Flow<Option<Physical>> {
        if let Some(physical) = self.tlb.fetch(self.space, at) {
            return Ok(Some(physical));
        }
        if self.long_mode() && !at.is_canonical() {
            return Err(Trap::GP);
        }
        let found = self.walk(self.space, at, Access::Fetch)?;
        self.remember(self.space, at, &found, Access::Fetch);
        let page = found.physical.page();
        Ok(self.ram.holds(page, PAGE_BYTES).then_some(found.physical))
    }

    /// Translates all of an access, or faults as the first part that can't be.
    fn span(
        &mut self,
        space: Space,
        at: Linear,
        bytes: u64,
        stack: bool,
        access: Access,
    ) -> Flow<Span> {
        let last = at.plus(bytes - 1);
        if self.long_mode() && !(at.is_canonical() && last.is_canonical()) {
            return Err(if stack { Trap::SS } else { Trap::GP });
        }
        if space == Space::UserAc && !is_aligned(at, bytes) {
            return Err(Trap::with_code(vector::AC, 0));
        }
        let first_bytes = bytes.min(PAGE_BYTES - at.offset());
        let first = self.walk(space, at, access)?;
        let second = if first_bytes < bytes {
            // Linear addresses of 32-bit code wrap.
            let wraps = !self.is_64() && at.0 <= 0xffff_ffff;
            let mask = if wraps { 0xffff_ffff } else { u64::MAX };
            let page = Linear(last.page().0 & mask);
            Some(self.walk(space, page, access)?)
        } else {
            None
        };
        Ok(Span {
            first,
            second,
            first_bytes,
        })
    }

    /// Gives the soft TLB what is known of `at`'s page after an access of kind
    /// `access` was allowed and made.
    fn remember(&mut self, space: Space, at: Linear, found: &Found, access: Access) {
        let page = found.physical.page();
        if !self.ram.holds(page, PAGE_BYTES) {
            return;
        }
        let fetch = access == Access::Fetch;
        let data = space != Space::UserAc && !self.data_breakpoint_on_page(at);
        if !(fetch || data) {
            return;
        }
        for &step in found.steps() {
            self.watch_table(step, fetch);
        }
        let storable = found.dirty && is_storable(&self.ram, page);
        let leave = Leave {
            read: data && self.allows(found, space, Access::Read),
            write: data && storable && self.allows(found, space, Access::Write),
            fetch,
        };
        self.tlb.enter(space, at, page, leave);
    }

    /// Whether `found` lies in a page of entries.
    fn in_table(&self, found: &Found) -> bool {
        self.ram.pages().get(found.physical.page_number()) & flag::TABLE != 0
            || found
                .steps()
                .iter()
                .any(|step| step.table == found.physical.page())
    }

    /// The `bytes` (1, 2, 4 or 8) at `at`, all in one page.
    fn load_physical(&mut self, bus: &mut dyn Bus, at: Physical, bytes: u8) -> u64 {
        if self.ram.holds(at, u64::from(bytes)) {
            return match bytes {
                1 => self.ram.load::<u8>(at).into(),
                2 => self.ram.load::<u16>(at).into(),
                4 => self.ram.load::<u32>(at).into(),
                _ => self.ram.load::<u64>(at),
            };
        }
        let value = bus.read(&self.ram, self.branches, at, bytes);
        self.after_bus(bus);
        if bytes == 8 {
            value
        } else {
            value & ((1 << (8 * bytes)) - 1)
        }
    }

    /// Puts the low `bytes` (1, 2, 4 or 8) of `value` at `at`, all in one page.
    fn store_physical(&mut self, bus: &mut dyn Bus, at: Physical, bytes: u8, value: u64) {
        if !self.ram.holds(at, u64::from(bytes)) {
            bus.write(&self.ram, self.branches, at, bytes, value);
            self.after_bus(bus);
            return;
        }
        let number = at.page_number();
        let flags = self.ram.pages().get(number);
        if flags & flag::ANY_CODE != 0 {
            self.ram.note_write(at, u64::from(bytes));
            self.look = true;
        }
        if flags & flag::TABLE != 0 {
            self.store_in_table(at, bytes, value);
        } else {
            self.store_bytes(at, bytes, value);
        }
        self.ram.pages().set(number, flag::DIRTY);
    }

    /// After the board was reached: it may have raised an interrupt, written
    /// to memory, or want to be seen to.
    pub(crate) fn after_bus(&mut self, bus: &mut dyn Bus) {
        self.look |=
            bus.interrupt_waits() || bus.needs_attention() || self.ram.has_watched_writes();
    }
}

/// Whether `page` of RAM may be stored to without another look.
pub fn is_storable(ram: &Ram, page: Physical) -> bool {
    let flags = ram.pages().get(page.page_number());
    flags & flag::DIRTY != 0 && flags & flag::WATCHED == 0
}

/// Whether an operand of `bytes` is aligned, as `#AC` sees it (SDM volume 3A,
/// table 6-7). Of other operands than these the parts are looked at, when they
/// are accessed.
fn is_aligned(at: Linear, bytes: u64) -> bool {
    let alignment = match bytes {
        2 | 4 | 8 | 16 => bytes,
        // An extended number.
        10 => 8,
        _ => 1,
    };
    at.0.is_multiple_of(alignment)
}

#[cfg(test)]
mod tests {
    use x86::control::{cr0, cr4, pte};
    use x86::{Physical, flags};

    use crate::Trap;
    use crate::rig::{PT, Rig, WINDOW};

    const RW: u64 = pte::P | pte::RW | pte::US;
    const RAM: u64 = 0x80_0000;

    fn fault(code: u32) -> Trap {
        Trap::with_code(x86::vector::PF, code)
    }

    #[test]
    fn a_walk_sets_accessed_and_dirty_bits_as_needed() {
        let mut rig = Rig::new();
        rig.map(0, RAM, RW);
        rig.read(WINDOW).expect("mapped");
        assert_eq!(rig.entry(0), RAM | RW | pte::A);
        rig.write(WINDOW, 5).expect("writable");
        assert_eq!(rig.entry(0), RAM | RW | pte::A | pte::D);
        assert_eq!(rig.cpu.ram.load::<u64>(Physical(RAM)), 5);
    }

    #[test]
    fn a_store_to_a_table_takes_effect_at_once() {
        let mut rig = Rig::new();
        rig.map(0, RAM, RW);
        rig.map(1, PT, RW);
        rig.write(WINDOW, 5).expect("writable");
        rig.write(WINDOW + 0x1000, (RAM + 0x1000) | RW)
            .expect("the table is mapped");
        assert_eq!(rig.read(WINDOW), Ok(0));
        rig.write(WINDOW + 0x1000, 0).expect("the table is mapped");
        assert_eq!(rig.read(WINDOW), Err(fault(0)));
        assert_eq!(rig.cpu.cr2, WINDOW);
        assert_eq!(rig.write(WINDOW, 0), Err(fault(2)));
    }

    #[test]
    fn clearing_accessed_and_dirty_bits_makes_the_next_access_set_them() {
        let mut rig = Rig::new();
        rig.map(0, RAM, RW);
        rig.map(1, PT, RW);
        rig.write(WINDOW, 5).expect("writable");
        rig.write(WINDOW + 0x1000, RAM | RW).expect("mapped");
        rig.write(WINDOW, 6).expect("writable");
        assert_eq!(rig.entry(0), RAM | RW | pte::A | pte::D);
    }

    #[test]
    fn a_foreign_write_to_a_table_takes_effect_before_the_next_instruction() {
        let mut rig = Rig::new();
        rig.map(0, RAM, RW);
        rig.read(WINDOW).expect("mapped");
        rig.cpu.ram.write(Physical(PT), &[0]).expect("it is RAM");
        assert!(rig.cpu.take_code_writes().is_empty());
        assert_eq!(rig.read(WINDOW), Err(fault(0)));
    }

    #[test]
    fn a_store_that_crosses_into_a_missing_page_changes_nothing() {
        let mut rig = Rig::new();
        rig.map(0, RAM, RW);
        rig.write(WINDOW + 0xff8, 7).expect("writable");
        assert_eq!(rig.write(WINDOW + 0xffc, u64::MAX), Err(fault(2)));
        assert_eq!(rig.cpu.cr2, WINDOW + 0x1000);
        assert_eq!(rig.read(WINDOW + 0xff8), Ok(7));
        rig.map(1, RAM + 0x3000, RW);
        rig.write(WINDOW + 0xffc, 0x1122_3344_5566_7788)
            .expect("both are mapped");
        assert_eq!(rig.read(WINDOW + 0xffc), Ok(0x1122_3344_5566_7788));
        assert_eq!(rig.cpu.ram.load::<u32>(Physical(RAM + 0x3000)), 0x1122_3344);
    }

    #[test]
    fn rights_follow_the_level_wp_smap_and_ac() {
        let mut rig = Rig::new();
        rig.map(0, RAM, pte::P | pte::US);
        rig.map(1, RAM, pte::P | pte::RW);
        assert_eq!(rig.write(WINDOW, 0), Err(fault(3)));
        rig.cpu.cr0 &= !cr0::WP;
        assert_eq!(rig.write(WINDOW, 0), Ok(()));
        rig.cpu.cr0 |= cr0::WP;
        rig.cpu.cr4 |= cr4::SMAP;
        rig.cpu.flush_translations();
        assert_eq!(rig.read(WINDOW), Err(fault(1)));
        rig.cpu.flags.rest |= flags::AC;
        rig.cpu.refresh();
        assert_eq!(rig.read(WINDOW), Ok(0));
        rig.at_level(3);
        assert_eq!(rig.read(WINDOW), Ok(0));
        assert_eq!(rig.read(WINDOW + 0x1000), Err(fault(5)));
        assert_eq!(rig.write(WINDOW, 0), Err(fault(7)));
    }

    #[test]
    fn reserved_bits_are_told_apart_from_rights() {
        let mut rig = Rig::new();
        rig.map(0, RAM | 1 << 46, RW);
        assert_eq!(rig.read(WINDOW), Err(fault(9)));
        rig.map(0, RAM | 1 << 52, RW);
        assert_eq!(rig.read(WINDOW), Ok(0));
        rig.cpu.efer &= !x86::control::efer::NXE;
        rig.map(1, RAM | pte::NX, RW);
        assert_eq!(rig.read(WINDOW + 0x1000), Err(fault(9)));
    }

    #[test]
    fn addresses_that_are_not_canonical_fault_before_any_walk() {
        let mut rig = Rig::new();
        assert_eq!(rig.read(1 << 47), Err(Trap::GP));
        assert_eq!(rig.read((1 << 47) - 4), Err(Trap::GP));
        assert_eq!(
            rig.cpu
                .read::<u64>(&mut rig.board, x86::Linear(1 << 47), true),
            Err(Trap::SS)
        );
    }

    #[test]
    fn alignment_is_checked_at_level_3_where_asked_for() {
        let mut rig = Rig::new();
        rig.map(0, RAM, RW);
        rig.at_level(3);
        rig.read(WINDOW + 1).expect("not asked for");
        rig.cpu.cr0 |= cr0::AM;
        rig.cpu.flags.rest |= flags::AC;
        rig.cpu.refresh();
        rig.read(WINDOW).expect("aligned");
        let misaligned = Trap::with_code(x86::vector::AC, 0);
        assert_eq!(rig.read(WINDOW + 1), Err(misaligned));
        assert_eq!(rig.write(WINDOW + 4, 0), Err(misaligned));
    }

    #[test]
    fn what_is_no_memory_goes_to_the_board() {
        let mut rig = Rig::new();
        rig.map(0, 0xfed0_0000, RW);
        assert_eq!(rig.read(WINDOW + 8), Ok(0xfed0_0008));
        rig.write(WINDOW + 8, 3).expect("mapped");
        assert_eq!(rig.board.writes, [(0xfed0_0008, 8, 3)]);
    }
}
