//! What the soft TLB has been filled from: the pages of paging-structure
//! entries that walks read, and what was derived from each.
//!
//! The law: while a translation read from a page may still be in the TLB, the
//! page bears `memory::flag::TABLE`, so that every store to it comes here. A
//! page may bear the flag for longer, which only costs time.

use memory::flag;
use x86::control::{cr4, pte};
use x86::{Linear, PAGE_BYTES, Physical};

use crate::Cpu;

/// What was derived from a page of entries.
#[derive(Clone, Copy, Debug, Default)]
struct Table {
    /// The epoch in which a walk last went through it.
    epoch: u64,
    /// The first linear address that its entries translate.
    base: u64,
    /// 1 for page tables, up to 4.
    level: u8,
    /// It was found at several places in this epoch: `base` and `level` tell
    /// of one only.
    shared: bool,
    /// Code was fetched through it in this epoch.
    fetch: bool,
    /// Stores since nothing is derived from it, up to [`STALE_WRITES_MAX`].
    stale_writes: u8,
}

/// A page is let go after so many stores to it while nothing was derived from
/// it: it has probably become something else. Fewer would unmark the live
/// tables of a process that a context switch has just made stale.
const STALE_WRITES_MAX: u8 = 8;

const CHUNK: usize = 512;

/// All pages of entries, by page number.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Counts total flushes of the TLB: what was derived earlier is gone.
    epoch: u64,
    chunks: Vec<Option<Box<[Table; CHUNK]>>>,
}

impl Default for Tables {
    fn default() -> Self {
        Tables {
            // No page is of this epoch before a walk has gone through it.
            epoch: 1,
            chunks: Vec::new(),
        }
    }
}

impl Tables {
    fn entry(&mut self, number: u64) -> &mut Table {
        let number = usize::try_from(number).expect("pages of RAM are host addresses");
        let chunk = number / CHUNK;
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let tables = self.chunks[chunk].get_or_insert_with(|| Box::new([Table::default(); CHUNK]));
        &mut tables[number % CHUNK]
    }

    /// A walk to a page that was entered in the TLB went through `number`.
    fn walked(&mut self, number: u64, level: u8, base: u64, fetch: bool) {
        let epoch = self.epoch;
        let table = self.entry(number);
        if table.epoch != epoch {
            *table = Table {
                epoch,
                base,
                level,
                ..Table::default()
            };
        }
        table.shared |= (table.base, table.level) != (base, level);
        table.fetch |= fetch;
    }
}

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
    /// Drops all translations. The code in execution may be elsewhere now.
    pub(crate) fn flush_translations(&mut self) {
        self.look = true;
        self.tlb.flush();
        self.tables.epoch += 1;
    }

    /// Drops all translations and all that is known of the pages they came
    /// from: after another state has been put in place of this one.
    pub(crate) fn forget_translations(&mut self) {
        self.tlb.flush();
        self.tables = Tables::default();
        let tables: Vec<u64> = self.ram.pages().with(flag::TABLE).collect();
        for number in tables {
            self.ram.pages().clear(number, flag::TABLE);
        }
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
        for (n, &old) in before.iter().enumerate().take(count) {
            let entry = Physical(first + n as u64 * entry_bytes);
            // Nothing is ever derived from an entry that is not present.
            if old & pte::P != 0 && old != self.load_entry(entry) {
                self.entry_changed(entry, old);
            }
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
        let number = entry.page_number();
        let epoch = self.tables.epoch;
        let table = self.tables.entry(number);
        if table.epoch != epoch {
            table.stale_writes += 1;
            if table.stale_writes >= STALE_WRITES_MAX {
                table.stale_writes = 0;
                self.ram.pages().clear(number, flag::TABLE);
            }
            return;
        }
        let table = *table;
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
        } else {
            self.tlb.flush_range(start, 1 << span_bits);
        }
    }

    /// Acts on a write to a page of entries of which nothing more is known.
    pub(crate) fn table_written_unseen(&mut self, at: Physical) {
        let epoch = self.tables.epoch;
        if self.tables.entry(at.page_number()).epoch == epoch {
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
