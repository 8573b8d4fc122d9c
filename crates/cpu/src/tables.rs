//! What the soft TLB has been filled from: the pages of paging-structure
//! entries that walks read, and what was derived from each.
//!
//! The law: while a translation read from a page may still be in the TLB, or is
//! kept for an address space that isn't current ([`crate::spaces`]), the
//! page bears `memory::flag::TABLE`, so that every store to it comes here. A
//! page may bear the flag for longer, which only costs time.

use memory::flag;
use x86::control::{cr4, pte};
use x86::{Linear, PAGE_BYTES, Physical};

use crate::Cpu;
use crate::paging::is_storable;
use crate::spaces::{SpaceId, Spaces};
use crate::walk::ADDRESS;

/// What was derived from a page of entries.
#[derive(Clone, Copy, Debug, Default)]
struct Table {
    /// The address space in which a walk last went through it; 0 for one from which
    /// nothing is derived any more.
    space: SpaceId,
    /// The first linear address that its entries translate.
    base: u64,
    /// 1 for page tables, up to 4.
    level: u8,
    /// It was found at several places: `base` and `level` tell of one only.
    shared: bool,
    /// Code was fetched through it.
    fetch: bool,
    /// Stores since nothing is derived from it, up to [`STALE_WRITES_MAX`].
    stale_writes: u8,
}

/// A page is let go after so many stores to it while nothing is derived from
/// it: it has probably become something else. Fewer would unmark the tables of
/// a process that a context switch has just made stale.
const STALE_WRITES_MAX: u8 = 8;

impl Table {
    /// Whether what is derived from it is all of [`Table::space`]. (Of a top table's
    /// upper half the current one looks itself.)
    fn is_of_one_space(&self) -> bool {
        !self.shared && self.base >> 63 == 0
    }
}

const CHUNK: usize = 512;

/// All pages of entries, by page number.
#[derive(Debug)]
pub(crate) struct Tables {
    spaces: Spaces,
    /// The first address space since the last flush of everything.
    since: SpaceId,
    chunks: Vec<Option<Box<[Table; CHUNK]>>>,
}

impl Default for Tables {
    fn default() -> Self {
        let spaces = Spaces::default();
        Tables {
            since: spaces.current(),
            spaces,
            chunks: Vec::new(),
        }
    }
}

impl Tables {
    fn entry(&mut self, number: u64) -> &mut Table {
        entry(&mut self.chunks, number)
    }

    /// The page of entries `number`, if anything may be derived from it.
    fn live(&mut self, number: u64) -> Option<&mut Table> {
        let table = entry(&mut self.chunks, number);
        let is_live = if table.is_of_one_space() {
            self.spaces.has(table.space)
        } else {
            table.space >= self.since
        };
        is_live.then_some(table)
    }

    /// The same, after what is derived from it of an address space that isn't current
    /// has been given up. Kernels seldom change such a page, but when all is over and
    /// it becomes something else.
    fn live_here(&mut self, number: u64) -> Option<&mut Table> {
        let table = *self.entry(number);
        if table.is_of_one_space() && table.space != self.spaces.current() {
            self.spaces.give_up(table.space);
        }
        self.live(number)
    }

    /// A walk to a page that was entered in the TLB went through `number`.
    fn walked(&mut self, number: u64, level: u8, base: u64, fetch: bool) {
        let space = self.spaces.current();
        if let Some(table) = self.live_here(number) {
            table.shared |= (table.base, table.level) != (base, level);
            table.fetch |= fetch;
            table.space = space;
        } else {
            *self.entry(number) = Table {
                space,
                base,
                level,
                fetch,
                ..Table::default()
            };
        }
    }
}

/// The page of entries `number`.
fn entry(chunks: &mut Vec<Option<Box<[Table; CHUNK]>>>, number: u64) -> &mut Table {
    let number = usize::try_from(number).expect("pages of RAM are host addresses");
    let chunk = number / CHUNK;
    if chunks.len() <= chunk {
        chunks.resize(chunk + 1, None);
    }
    let tables = chunks[chunk].get_or_insert_with(|| Box::new([Table::default(); CHUNK]));
    &mut tables[number % CHUNK]
}

/// The level of the top table of 4-level paging.
const TOP: u8 = 4;

/// A page of entries that a walk read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Step {
    /// The page.
    pub(crate) table: Physical,
    /// 1 for page tables, up to 4.
    pub(crate) level: u8,
    /// The first linear address that the page's entries translate.
    pub(crate) base: u64,
}

impl Cpu {
    /// The number of the current address space. As long as one has the same, what was
    /// found in its lower half holds, but for what was dropped while it was current,
    /// and for leaves to store.
    pub fn address_space(&self) -> u64 {
        self.tables.spaces.current()
    }

    /// Drops all translations. The code in execution may be elsewhere now.
    pub(crate) fn flush_translations(&mut self) {
        self.look = true;
        self.tlb.flush();
        self.tables.spaces.forget();
        self.tables.since = self.tables.spaces.current();
    }

    /// Drops what a change of the top table from `old` to `new` invalidates.
    /// Kernels map themselves in the upper half of every one alike: where the
    /// halves are equal to the bit, the translations through them are too.
    pub(crate) fn change_top_table(&mut self, old: Physical, new: Physical) {
        if !self.long_mode() || !self.upper_halves_equal(old, new) {
            self.flush_translations();
            return;
        }
        let Some(&mut table) = self.tables.live(old.page_number()) else {
            self.flush_translations();
            return;
        };
        if table.shared {
            self.flush_translations();
            return;
        }
        let low = self.tlb.take_low();
        let low = self.tables.spaces.change(old, low, new);
        self.tlb.put_low(low, |page| is_storable(&self.ram, page));
        // From now on the upper half follows from the new table.
        let step = Step {
            table: new,
            level: TOP,
            base: 0,
        };
        self.watch_table(step, table.fetch);
    }

    fn upper_halves_equal(&self, old: Physical, new: Physical) -> bool {
        let mut halves = [[0; PAGE_BYTES as usize / 2]; 2];
        let both = [old, new].into_iter().zip(&mut halves);
        let read = both.map(|(table, half)| self.ram.read(table.plus(PAGE_BYTES / 2), half));
        read.fold(true, |all, read| all & read.is_ok()) && halves[0] == halves[1]
    }

    /// Drops all translations and all that is known of the pages they came
    /// from: after another state has been put in place of this one.
    pub(crate) fn forget_translations(&mut self) {
        self.flush_translations();
        self.tables.chunks.clear();
        let tables: Vec<u64> = self.ram.pages().with(flag::TABLE).collect();
        for number in tables {
            self.ram.pages().clear(number, flag::TABLE);
        }
    }

    /// After pages became clean: the next store to each is seen.
    pub fn see_stores(&mut self) {
        self.tlb.flush_writes(|page| is_storable(&self.ram, page));
    }

    /// Watches the page of `step`, from which an entry of the TLB is derived.
    pub(crate) fn watch_table(&mut self, step: Step, fetch: bool) {
        let number = step.table.page_number();
        self.tables.walked(number, step.level, step.base, fetch);
        if self.ram.pages().get(number) & flag::TABLE == 0 {
            self.ram.pages().set(number, flag::TABLE);
            self.tlb.flush_writes_to(step.table);
        }
    }

    /// Stores the low `bytes` (1, 2, 4 or 8) of `value` in a page that bears
    /// [`flag::TABLE`], and drops what was derived from the entries changed.
    pub(crate) fn store_in_table(&mut self, at: Physical, bytes: u8, value: u64) {
        let entry_bytes = self.entry_bytes();
        let first = at.0 & !(entry_bytes - 1);
        let last = (at.0 + u64::from(bytes) - 1) & !(entry_bytes - 1);
        let count = ((last - first) / entry_bytes + 1) as usize;
        let mut before = [0; 3];
        for (n, old) in before.iter_mut().enumerate().take(count) {
            *old = self.load_entry(Physical(first + n as u64 * entry_bytes));
        }
        self.store_bytes(at, bytes, value);
        if self.tables.live_here(at.page_number()).is_none() {
            self.count_stale_write(at.page_number());
            return;
        }
        for (n, &old) in before.iter().enumerate().take(count) {
            let entry = Physical(first + n as u64 * entry_bytes);
            // Nothing is ever derived from an entry that is not present.
            if old & pte::P != 0 && old != self.load_entry(entry) {
                self.entry_changed(entry, old);
            }
        }
    }

    /// Lets go of a page from which nothing is derived, after some stores.
    fn count_stale_write(&mut self, number: u64) {
        let table = self.tables.entry(number);
        table.stale_writes += 1;
        if table.stale_writes >= STALE_WRITES_MAX {
            table.stale_writes = 0;
            self.ram.pages().clear(number, flag::TABLE);
        }
    }

    /// Puts the low `bytes` (1, 2, 4 or 8) of `value` in RAM.
    pub(crate) fn store_bytes(&mut self, at: Physical, bytes: u8, value: u64) {
        match bytes {
            1 => self.ram.store(at, value as u8),
            2 => self.ram.store(at, value as u16),
            4 => self.ram.store(at, value as u32),
            _ => self.ram.store(at, value),
        }
    }

    /// Length in bytes of a paging-structure entry.
    pub(crate) fn entry_bytes(&self) -> u64 {
        if self.cr4 & cr4::PAE != 0 { 8 } else { 4 }
    }

    /// The entry at `at`, which is RAM.
    pub(crate) fn load_entry(&self, at: Physical) -> u64 {
        if self.cr4 & cr4::PAE != 0 {
            self.ram.load::<u64>(at)
        } else {
            u64::from(self.ram.load::<u32>(at))
        }
    }

    /// Drops what was derived from the entry at `entry`, which was `old`.
    fn entry_changed(&mut self, entry: Physical, old: u64) {
        let Some(&mut table) = self.tables.live(entry.page_number()) else {
            return;
        };
        if table.shared {
            self.flush_translations();
            return;
        }
        let index_bits = if self.entry_bytes() == 8 { 9 } else { 10 };
        let span_bits = 12 + index_bits * (u32::from(table.level) - 1);
        let index = (entry.0 % PAGE_BYTES) / self.entry_bytes();
        let start = Linear(sign_extend_48(
            self.long_mode(),
            table.base.wrapping_add(index << span_bits),
        ));
        let fetch = table.fetch && old & pte::NX == 0;
        // It may be this very block's page.
        self.look |= fetch;
        if table.level == 1 {
            self.tlb.flush_page(start);
            return;
        }
        self.tlb.flush_range(start, 1 << span_bits);
        // Nothing is derived any more from the table that it pointed at, if
        // only this entry did: not one of another address space.
        let below = Physical(old & ADDRESS);
        let current = self.tables.spaces.current();
        if old & pte::PS == 0
            && self.ram.holds(below, PAGE_BYTES)
            && let Some(table) = self.tables.live(below.page_number())
            && !table.shared
            && (table.space == current || !table.is_of_one_space())
            && table.base == start.0
        {
            table.space = 0;
        }
    }

    /// Acts on a write to a page of entries of which nothing more is known.
    pub(crate) fn table_written_unseen(&mut self, at: Physical) {
        if self.tables.live_here(at.page_number()).is_some() {
            self.flush_translations();
        }
    }
}

/// In long mode the canonical form of a 48-bit linear address.
fn sign_extend_48(long: bool, at: u64) -> u64 {
    if long {
        ((at << 16).cast_signed() >> 16).cast_unsigned()
    } else {
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x86::control::{cr0, cr4, pte};
    use x86::{Linear, Physical, flags};

    use crate::Flow;
    use crate::rig::{PML4, PT, Rig, WINDOW};

    /// Pages of RAM that the tables may point at: two of them are tables.
    const TARGETS: [u64; 7] = [0x80_0000, 0x80_1000, PT, PT_2, 0x3000, 0x2000, 0xfed0_0000];
    /// A second page table, for the third entry of the page directory.
    const PT_2: u64 = 0x5000;
    /// What an entry is that has been used for everything.
    const USED: u64 = pte::P | pte::RW | pte::US | pte::A | pte::D;
    const RIGHTS: [u64; 7] = [
        0,
        pte::P,
        pte::P | pte::US,
        pte::P | pte::RW,
        pte::P | pte::RW | pte::US,
        USED,
        pte::P | pte::US | pte::NX,
    ];
    /// The window again, through the last entry of the top table.
    const ALIAS: u64 = 0xffff_ff80_0000_0000 + WINDOW;

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Read(u64),
        Write(u64, u64),
        Fetch(u64),
        /// A store by the guest, through its mapping of all RAM.
        Store {
            entry: u64,
            value: u64,
            bytes: u8,
        },
        /// A store by a device.
        Foreign {
            entry: u64,
            value: u64,
        },
        Level(u8),
        Ac(bool),
        Root(u64),
        Wp(bool),
    }
    /// Another top table: at first with the same upper half, and nothing of
    /// the window.
    const PML4_2: u64 = 0x9000;
    /// Top tables with the same upper half and a lower half of their own, but for the
    /// second page table; behind each its tables of the other levels.
    const OWN: [u64; 2] = [0x10_0000, 0x10_4000];

    fn entry() -> impl Strategy<Value = u64> {
        prop_oneof![
            (0..4u64).prop_map(|n| PT + 8 * n),
            (0..4u64).prop_map(|n| PT_2 + 8 * n),
            Just(0x3000 + 16),
            Just(0x3000 + 24),
            Just(PML4_2),
            Just(PML4_2 + 511 * 8),
            Just(PML4 + 511 * 8),
            (own(), 0..4u64).prop_map(|(top, n)| top + 0x3000 + 8 * n),
            (own(), 2..4u64).prop_map(|(top, n)| top + 0x2000 + 8 * n),
            (own(), Just(511)).prop_map(|(top, n)| top + 8 * n),
        ]
    }

    fn own() -> impl Strategy<Value = u64> {
        prop::sample::select(&OWN)
    }

    fn value() -> impl Strategy<Value = u64> {
        let (targets, rights) = (
            prop::sample::select(&TARGETS),
            prop::sample::select(&RIGHTS),
        );
        (targets, rights).prop_map(|(to, rights)| to | rights)
    }

    fn place() -> impl Strategy<Value = u64> {
        let page = prop_oneof![0..4u64, 512..516u64];
        let base = prop_oneof![Just(WINDOW), Just(ALIAS)];
        let offset = prop_oneof![Just(0u64), Just(8), Just(0xffc)];
        (base, page, offset).prop_map(|(base, page, offset)| base + 4096 * page + offset)
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => place().prop_map(Act::Read),
            4 => (place(), value()).prop_map(|(at, value)| Act::Write(at, value)),
            2 => place().prop_map(Act::Fetch),
            4 => (entry(), value(), prop::sample::select(&[1u8, 4, 8]))
                .prop_map(|(entry, value, bytes)| Act::Store { entry, value, bytes }),
            1 => (entry(), value()).prop_map(|(entry, value)| Act::Foreign { entry, value }),
            1 => prop_oneof![Just(0u8), Just(3)].prop_map(Act::Level),
            1 => any::<bool>().prop_map(Act::Ac),
            2 => prop_oneof![Just(PML4), Just(PML4_2)].prop_map(Act::Root),
            4 => own().prop_map(Act::Root),
            1 => any::<bool>().prop_map(Act::Wp),
        ]
    }

    fn rig() -> Rig {
        let mut rig = Rig::new();
        rig.cpu.cr4 |= cr4::SMAP;
        let all = pte::P | pte::RW | pte::US;
        let ram = &rig.cpu.ram;
        // The low RAM is the kernel's, and maps all tables for its stores.
        ram.store(Physical(0x3000), pte::P | pte::RW | pte::PS);
        ram.store(Physical(0x3000 + 24), PT_2 | all);
        // Both top tables have been used: all their entries are accessed.
        let used = 0x2000 | all | pte::A;
        for at in [PML4, PML4 + 511 * 8, PML4_2, PML4_2 + 511 * 8] {
            ram.store(Physical(at), used);
        }
        for top in OWN {
            let tables = [top, top + 0x1000, top + 0x2000];
            for table in tables {
                ram.store(Physical(table), (table + 0x1000) | all | pte::A);
            }
            ram.store(Physical(top + 511 * 8), used);
            let entries = [
                pte::P | pte::RW | pte::PS,
                0,
                (top + 0x3000) | all,
                PT_2 | all,
            ];
            for (n, entry) in (0u64..).zip(entries) {
                ram.store(Physical(top + 0x2000 + 8 * n), entry);
            }
        }
        rig
    }

    fn perform(rig: &mut Rig, act: Act) -> Flow<u64> {
        match act {
            Act::Read(at) => rig.read(at),
            Act::Write(at, value) => rig.write(at, value).map(|()| 0),
            Act::Fetch(at) => {
                let found = rig.cpu.fetch_address(Linear(at))?;
                Ok(found.map_or(u64::MAX, |at| at.0))
            }
            Act::Store {
                entry,
                value,
                bytes,
            } => {
                let (cpu, board) = (&mut rig.cpu, &mut rig.board);
                match bytes {
                    1 => cpu.write(board, Linear(entry), false, value as u8)?,
                    4 => cpu.write(board, Linear(entry), false, value as u32)?,
                    _ => cpu.write(board, Linear(entry), false, value)?,
                }
                Ok(0)
            }
            Act::Foreign { entry, value } => {
                let bytes = value.to_le_bytes();
                rig.cpu
                    .ram
                    .write(Physical(entry), &bytes)
                    .expect("it is RAM");
                rig.cpu.take_code_writes();
                Ok(0)
            }
            Act::Level(level) => {
                rig.at_level(level);
                Ok(0)
            }
            Act::Ac(on) => {
                let rest = &mut rig.cpu.flags.rest;
                *rest = *rest & !flags::AC | if on { flags::AC } else { 0 };
                rig.cpu.refresh();
                Ok(0)
            }
            Act::Root(table) => rig.cpu.set_cr3(table).map(|()| 0),
            Act::Wp(on) => {
                let wp = if on { cr0::WP } else { 0 };
                rig.cpu.set_cr0(rig.cpu.cr0 & !cr0::WP | wp).map(|()| 0)
            }
        }
    }

    /// Acts in the address spaces that have tables of their own.
    fn act_in_own() -> impl Strategy<Value = Act> {
        let page = prop_oneof![0..2u64, 512..514u64];
        let place = page.prop_map(|page| WINDOW + 4096 * page);
        let value = (
            prop::sample::select(&[0x80_0000, 0x80_1000, PT_2, OWN[0] + 0x3000]),
            prop::sample::select(&[0, USED]),
        )
            .prop_map(|(to, rights)| if rights == 0 { 0 } else { to | rights });
        let entry = prop_oneof![
            4 => (own(), 0..2u64).prop_map(|(top, n)| top + 0x3000 + 8 * n),
            1 => (0..2u64).prop_map(|n| PT_2 + 8 * n),
            1 => own().prop_map(|top| top + 0x2000 + 8 * 3),
        ];
        // Of two address spaces, one may have the other's page directory.
        let directory = own().prop_map(|top| (top + 0x2000) | USED);
        let directory = prop_oneof![1 => Just(0), 3 => directory];
        let store = prop_oneof![
            4 => (entry, value.clone()),
            1 => (own().prop_map(|top| top + 0x1000), directory),
        ];
        prop_oneof![
            6 => own().prop_map(Act::Root),
            6 => place.clone().prop_map(Act::Read),
            6 => (place.clone(), value).prop_map(|(at, value)| Act::Write(at, value)),
            1 => place.prop_map(Act::Fetch),
            2 => store.clone().prop_map(|(entry, value)| Act::Store { entry, value, bytes: 8 }),
            1 => store.prop_map(|(entry, value)| Act::Foreign { entry, value }),
        ]
    }

    /// Does `acts` with what the soft TLB knows, and without.
    fn compare(mut with: Rig, mut without: Rig, acts: Vec<Act>) -> Result<(), TestCaseError> {
        for (n, act) in acts.into_iter().enumerate() {
            without.cpu.forget_translations();
            let (found, expected) = (perform(&mut with, act), perform(&mut without, act));
            with.cpu.tlb.take_dropped();
            prop_assert_eq!(found, expected, "act {}: {:x?}", n, act);
            prop_assert_eq!(with.cpu.cr2, without.cpu.cr2);
            let own = OWN
                .into_iter()
                .flat_map(|top| [0, 1, 2, 3].map(|n| top + n * 0x1000));
            let others = [PML4, PML4_2, 0x2000, 0x3000, PT, PT_2, 0x80_0000, 0x80_1000];
            for page in own.chain(others) {
                let content = |rig: &Rig| {
                    let mut bytes = vec![0; 4096];
                    let read = rig.cpu.ram.read(Physical(page), &mut bytes);
                    read.expect("it is RAM");
                    bytes
                };
                let same = content(&with) == content(&without);
                prop_assert!(same, "page {:#x} after act {}: {:x?}", page, n, act);
            }
        }
        let dirty = (with.cpu.ram.take_dirty(), without.cpu.ram.take_dirty());
        prop_assert_eq!(dirty.0, dirty.1);
        Ok(())
    }

    /// In the first of the address spaces with tables of their own.
    fn in_own() -> Rig {
        let mut rig = rig();
        rig.cpu.cr4 &= !cr4::SMAP;
        rig.cpu.refresh();
        perform(&mut rig, Act::Root(OWN[0])).expect("it is allowed");
        rig
    }

    #[test]
    fn a_table_that_one_address_space_lets_go_of_may_be_kept_by_another() {
        const AT: u64 = WINDOW + 512 * 4096;
        let store = |entry, value| Act::Store {
            entry,
            value,
            bytes: 8,
        };
        let acts = [
            store(PT_2, 0x80_1000 | USED),
            Act::Read(AT),
            Act::Root(OWN[1]),
            store(OWN[1] + 0x3000 + 8, PT_2 | USED),
            // The second page of the window is the table.
            Act::Read(WINDOW + 4096),
            store(OWN[1] + 0x2000 + 8 * 3, 0),
            Act::Write(WINDOW + 4096, 0),
            Act::Root(OWN[0]),
            Act::Read(AT),
        ];
        compare(in_own(), in_own(), acts.to_vec()).expect("the soft TLB is not seen");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_soft_tlb_cannot_be_seen(acts in prop::collection::vec(act(), 1..60)) {
            compare(rig(), rig(), acts)?;
        }

        #[test]
        fn what_is_kept_of_address_spaces_cannot_be_seen(
            acts in prop::collection::vec(act_in_own(), 1..100),
        ) {
            compare(in_own(), in_own(), acts)?;
        }
    }
}
