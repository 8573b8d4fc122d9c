//! Windows: the guest's memory once more, in the host's own address space, so that
//! the host's MMU does for translated code what else a lookup would.
//!
//! The linear addresses are cut into chunks of 4 GiB. A chunk that code uses gets
//! a window: as much of the host's address space, in which the pages that the
//! processor's soft TLB knows are mapped, at the same offsets and with the same
//! rights. Linear address `a` is then found at host address `a + chunks[a >> 32]`,
//! by two instructions that touch no flags; 32-bit code has to do with the first
//! chunk only. What isn't mapped there faults; the signal's handler
//! ([`crate::fault`]) leads to the helper, which maps it.
//!
//! Programs and the kernel have windows of their own, with a table each: of what
//! the [`Side`] may reach.
//!
//! The law: by either table no linear address leads anywhere but into a window.
//! - A chunk of the lower half that has no window has [`NONE`], which leads from
//!   every address in it to one that isn't canonical. So have the two chunks from
//!   which a displacement may reach into the lower half.
//! - All others have 0. An address there is none that the host has for user
//!   code, or isn't canonical. Or they are where the other table has something;
//!   they are of addresses that are far from canonical ones then, and stay so.
//! - Around each window nothing is mapped for as far as a displacement reaches,
//!   so that it is enough to look at the chunk of a base register. (32-bit code
//!   computes its addresses, which wrap, before it looks.)
//!
//! And: a window shows nothing that the soft TLB has dropped ([`cpu::Dropped`])
//! when code that has windows goes on; and what has faulted has stored nothing that
//! the interpreter wouldn't, which does it again.
//!
//! A page costs some microseconds to show. So it is done only for address spaces
//! that have been there for a while, and code that reaches for ever new pages is
//! left to the fast TLB ([`worth`]). A change of the address space closes a
//! program's windows; the kernel's stay as long as its half stays the same.

mod reserved;
mod worth;

use std::collections::BTreeMap;
use std::io;

use cpu::{Cpu, Dropped, Space};
use x86::{Linear, PAGE_BYTES, Physical};

use self::reserved::{Place, Reserved};
use self::worth::Worth;
use crate::cache::BlockId;
use crate::frame::Region;
use crate::site::SiteId;

/// An address has so many bits within its chunk.
pub(crate) const CHUNK_BITS: u8 = 32;
const CHUNK_BYTES: u64 = 1 << CHUNK_BITS;
/// Chunks of all 64-bit addresses.
pub(crate) const CHUNKS: usize = 1 << (64 - CHUNK_BITS);
/// Chunks of the lower half of the canonical addresses.
const USER_CHUNKS: usize = 1 << (47 - CHUNK_BITS);
/// Length in bytes of the lower half of all addresses.
const LOW_BYTES: u64 = 1 << 63;
/// The other chunks from which a displacement reaches into those.
const EDGES: [usize; 2] = [USER_CHUNKS, CHUNKS - 1];
/// How far the tables of chunks are apart, in bytes: where one has something, the
/// other has it for addresses that aren't canonical.
const APART: usize = 1 << 20;
/// Length in bytes of both tables of chunks. All but a few of their pages are never
/// written, and take no memory.
pub(crate) const BYTES: usize = CHUNKS * size_of::<u64>() + APART;
/// What leads from every canonical address, and from those next to them, to one
/// that isn't canonical.
const NONE: u64 = 1 << 62;
/// Windows of a side: a program has its text, its heap, its libraries and its stack
/// in four chunks, or a few more; a kernel its text, all of memory, stacks, and what
/// it knows of pages.
const WINDOWS: usize = 16;
/// Pages that are shown with a neighbour at most, on either side.
const AROUND: usize = 128;
/// With more ranges to be hidden than this, everything is.
const DUE_MAX: usize = 1 << 12;
/// Length in bytes of the longest access.
const ACCESS_BYTES_MAX: u64 = 32;

/// Who sees through windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Programs: the lower half of the addresses.
    User,
    /// The kernel: both halves, of the lower what SMAP doesn't forbid it.
    Kernel,
}

impl Side {
    /// Of code with the rights of `space`.
    const fn of(space: Space) -> Side {
        if space.is_user() {
            Side::User
        } else {
            Side::Kernel
        }
    }

    /// The same, by the space's number.
    pub(crate) const fn of_number(space: u8) -> Side {
        if space == Space::User as u8 {
            Side::User
        } else {
            Side::Kernel
        }
    }

    /// Whose rights its windows show.
    const fn space(self) -> Space {
        match self {
            Side::User => Space::User,
            Side::Kernel => Space::Supervisor,
        }
    }

    /// Where its table of chunks begins, in bytes from the first.
    pub(crate) const fn table_offset(self) -> usize {
        match self {
            Side::User => 0,
            Side::Kernel => APART,
        }
    }

    /// Pages shown at most. Linux gives a process some 65,000 mappings, and what
    /// lies alone takes two.
    const fn pages_max(self) -> usize {
        match self {
            Side::User => 24_000,
            Side::Kernel => 8_000,
        }
    }

    /// The chunk of an address that it may have a window for.
    fn chunk(self, at: u64) -> Option<usize> {
        let chunk = usize::try_from(at >> CHUNK_BITS).ok()?;
        let is_high = self == Side::Kernel && chunk >= CHUNKS - USER_CHUNKS;
        (chunk < USER_CHUNKS || is_high).then_some(chunk)
    }
}

/// What a window shows at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View {
    page: Physical,
    write: bool,
}

impl View {
    /// What is to be shown at `page` with the rights of `space`, as far as the
    /// processor knows.
    fn of(cpu: &Cpu, space: Space, page: Linear) -> Option<View> {
        let known = cpu.tlb.known(space, page)?;
        known.read.then_some(View {
            page: known.page,
            write: known.write,
        })
    }

    /// Whether one mapping can hold it and what is at the page after.
    fn goes_on_as(self, next: View) -> bool {
        self.page.plus(PAGE_BYTES) == next.page && self.write == next.write
    }
}

/// What is no longer to be shown.
#[derive(Debug)]
enum Due {
    /// Everything.
    All,
    Some {
        /// The pages in these ranges: the first page, and the length in bytes.
        ranges: Vec<(Linear, u64)>,
        /// As pages that may be stored to: these.
        writes: Vec<u64>,
    },
}

impl Default for Due {
    fn default() -> Self {
        Due::Some {
            ranges: Vec::new(),
            writes: Vec::new(),
        }
    }
}

/// An address space is worth windows when so many branches have retired in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// A program's half.
    pub(crate) program: u64,
    /// The kernel's, which all share.
    pub(crate) kernel: u64,
}

/// All windows.
#[derive(Debug)]
pub(crate) struct Windows([Wall; 2]);

impl Windows {
    /// None open.
    pub(crate) fn new(ages: Ages, has_bmi2: bool) -> Windows {
        let Ages { program, kernel } = ages;
        Windows([
            Wall::new(Side::User, program, has_bmi2),
            Wall::new(Side::Kernel, kernel, has_bmi2),
        ])
    }

    fn of(&mut self, space: Space) -> &mut Wall {
        &mut self.0[Side::of(space) as usize]
    }

    /// Whether there can be windows for the code in execution, and it is worth them.
    pub(crate) fn are_on(&self, cpu: &Cpu) -> bool {
        self.0[Side::of(cpu.space) as usize].is_on(cpu)
    }

    /// Counts that `site` in block `id` has missed.
    pub(crate) fn miss(&mut self, cpu: &Cpu, site: SiteId, id: BlockId) {
        self.of(cpu.space).worth.miss(site, id, cpu.branches);
    }

    /// The blocks that had better have no windows, since the last call.
    pub(crate) fn take_roaming(&mut self) -> Vec<BlockId> {
        let [user, kernel] = &mut self.0;
        let mut roaming = user.worth.take_roaming();
        roaming.append(&mut kernel.worth.take_roaming());
        roaming
    }

    /// All sites are forgotten.
    pub(crate) fn forget_sites(&mut self) {
        self.0.iter_mut().for_each(|wall| wall.worth.forget_sites());
    }

    /// How many pages were shown so far.
    pub(crate) fn shown(&self) -> u64 {
        self.0.iter().map(|wall| wall.shown).sum()
    }

    /// Shows what the processor knows of `at`'s page, of the next where an access
    /// at `at` may reach into it, and of the neighbours that one mapping holds.
    pub(crate) fn fill(&mut self, region: &mut Region, cpu: &Cpu, at: Linear) {
        self.of(cpu.space).fill(region, cpu, at);
    }

    /// Notes that what `dropped` covers is no longer to be shown: not after
    /// [`Windows::settle`]. `branches`: how many have retired.
    pub(crate) fn drop(&mut self, dropped: &Dropped, branches: u64) {
        self.0
            .iter_mut()
            .for_each(|wall| wall.drop(dropped, branches));
    }

    /// Stops showing to code with the rights of `space` what was dropped. To be
    /// called before such code that has windows goes on.
    pub(crate) fn settle(&mut self, region: &mut Region, space: Space) {
        self.of(space).settle(region);
    }

    /// Closes all windows, and makes the tables anew.
    pub(crate) fn reset(&mut self, region: &mut Region) {
        self.0.iter_mut().for_each(|wall| wall.reset(region));
    }
}

/// The windows of one side.
#[derive(Debug)]
struct Wall {
    side: Side,
    /// `None`: the host gives none, or has no BMI2.
    reserved: Option<Reserved>,
    /// The chunk that each window shows.
    chunks: [Option<usize>; WINDOWS],
    /// What is shown, by linear page.
    views: BTreeMap<u64, View>,
    /// The linear pages that may be stored to, by physical page. Some may not
    /// any more.
    writable: BTreeMap<u64, Vec<u64>>,
    due: Due,
    worth: Worth,
    /// How many pages were shown so far.
    shown: u64,
}

impl Wall {
    fn new(side: Side, age: u64, has_bmi2: bool) -> Wall {
        Wall {
            side,
            reserved: has_bmi2.then(Reserved::new).flatten(),
            chunks: [None; WINDOWS],
            views: BTreeMap::new(),
            writable: BTreeMap::new(),
            due: Due::default(),
            worth: Worth::new(age),
            shown: 0,
        }
    }

    fn is_on(&self, cpu: &Cpu) -> bool {
        self.reserved.is_some() && self.worth.are_on(cpu.branches) && cpu.ram.file().is_some()
    }

    fn fill(&mut self, region: &mut Region, cpu: &Cpu, at: Linear) {
        let first = at.page();
        let last = at.plus(ACCESS_BYTES_MAX - 1).page();
        self.fill_around(region, cpu, first);
        if last != first {
            self.fill_around(region, cpu, last);
        }
    }

    fn fill_around(&mut self, region: &mut Region, cpu: &Cpu, page: Linear) {
        let Some((first, views)) = self.wanted_around(cpu, page) else {
            return;
        };
        if self.views.len() + views.len() > self.side.pages_max() {
            self.close(region);
        }
        if let Some(window) = self.window_of(region, first)
            && self.show(cpu, window, first, &views).is_err()
        {
            // The host has no more mappings to give.
            self.close(region);
        }
    }

    /// What is to be shown at `page` and isn't, and at its neighbours in the same
    /// chunk as far as one mapping can hold them; and the first of these pages.
    fn wanted_around(&self, cpu: &Cpu, page: Linear) -> Option<(Linear, Vec<View>)> {
        let wanted = |page: Linear| {
            let view = View::of(cpu, self.side.space(), page)?;
            (self.views.get(&page.0) != Some(&view)).then_some(view)
        };
        let begins_chunk = |page: Linear| page.0.is_multiple_of(CHUNK_BYTES);
        let mut views = vec![wanted(page)?];
        let mut first = page;
        while views.len() <= AROUND && !begins_chunk(first) {
            let before = Linear(first.0 - PAGE_BYTES);
            match wanted(before) {
                Some(view) if view.goes_on_as(views[views.len() - 1]) => views.push(view),
                _ => break,
            }
            first = before;
        }
        views.reverse();
        let mut next = page.plus(PAGE_BYTES);
        while views.len() <= 2 * AROUND && !begins_chunk(next) {
            match wanted(next) {
                Some(view) if views[views.len() - 1].goes_on_as(view) => views.push(view),
                _ => break,
            }
            next = next.plus(PAGE_BYTES);
        }
        Some((first, views))
    }

    /// The window of `page`'s chunk; opened, if there is one left.
    fn window_of(&mut self, region: &mut Region, page: Linear) -> Option<usize> {
        let chunk = self.side.chunk(page.0)?;
        let has = |wanted| self.chunks.iter().position(|&chunk| chunk == wanted);
        if let Some(window) = has(Some(chunk)) {
            return Some(window);
        }
        let window = has(None)?;
        self.chunks[window] = Some(chunk);
        let start = self.reserved.as_ref()?.start(window);
        // lint: what translated code adds to an address; the guest never sees it
        let host = start.as_ptr().addr() as u64;
        region.chunks(self.side)[chunk] = host.wrapping_sub((chunk as u64) << CHUNK_BITS);
        Some(window)
    }

    /// Shows `views`, which one mapping can hold, from `first` on.
    fn show(&mut self, cpu: &Cpu, window: usize, first: Linear, views: &[View]) -> io::Result<()> {
        let place = Place {
            window,
            offset: first.0 % CHUNK_BYTES,
            bytes: views.len() as u64 * PAGE_BYTES,
        };
        let View { page, write } = views[0];
        if let (Some(reserved), Some(file)) = (&self.reserved, cpu.ram.file()) {
            reserved.show(place, file, page, write)?;
        }
        self.shown += views.len() as u64;
        for (n, &view) in (0u64..).zip(views) {
            let linear = first.plus(n * PAGE_BYTES).0;
            self.views.insert(linear, view);
            if write {
                let pages = self.writable.entry(view.page.0).or_default();
                if !pages.contains(&linear) {
                    pages.push(linear);
                }
            }
        }
        Ok(())
    }

    /// Notes that what `dropped` covers is no longer to be shown: not after
    /// [`Wall::settle`]. A process that ends drops page after page, and then
    /// everything.
    fn drop(&mut self, dropped: &Dropped, branches: u64) {
        let low = dropped.low || dropped.left;
        if dropped.all || low && self.side == Side::User {
            self.worth.begin(branches);
            self.due = Due::All;
            return;
        }
        let Due::Some { ranges, writes } = &mut self.due else {
            return;
        };
        if self.views.is_empty() {
            return;
        }
        if low {
            ranges.push((Linear(0), LOW_BYTES));
        }
        ranges.extend_from_slice(&dropped.ranges);
        if dropped.writes {
            self.writable.clear();
            let shown = self.views.iter().filter(|(_, view)| view.write);
            writes.extend(shown.map(|(&page, _)| page));
        }
        for physical in &dropped.writes_to {
            writes.extend(self.writable.remove(&physical.0).into_iter().flatten());
        }
        if ranges.len() > DUE_MAX || writes.len() > self.side.pages_max() + DUE_MAX {
            self.due = Due::All;
        }
    }

    /// Stops showing what was dropped.
    fn settle(&mut self, region: &mut Region) {
        if let Due::Some { ranges, writes } = &self.due
            && ranges.is_empty()
            && writes.is_empty()
        {
            return;
        }
        // Cutting a mapping makes two, and the host may have no more to give.
        let done = match std::mem::take(&mut self.due) {
            Due::All => None,
            Due::Some { ranges, writes } => self.take_back(&ranges, writes).ok(),
        };
        if done.is_none() {
            self.close(region);
        }
    }

    fn take_back(&mut self, ranges: &[(Linear, u64)], mut writes: Vec<u64>) -> io::Result<()> {
        for &(start, bytes) in ranges {
            self.hide(start.0, bytes)?;
        }
        writes.sort_unstable();
        writes.dedup();
        writes.retain(|page| self.views.get(page).is_some_and(|view| view.write));
        self.protect(&writes)
    }

    /// Lets `pages`, which are shown, no longer be stored to. They ascend.
    fn protect(&mut self, pages: &[u64]) -> io::Result<()> {
        for run in pages.chunk_by(are_neighbours) {
            if let (Some(place), Some(reserved)) = (self.place(run), &self.reserved) {
                reserved.protect(place)?;
            }
        }
        for page in pages {
            self.views
                .entry(*page)
                .and_modify(|view| view.write = false);
        }
        Ok(())
    }

    /// Shows nothing in `start..start + bytes` any more.
    fn hide(&mut self, start: u64, bytes: u64) -> io::Result<()> {
        let last = start.saturating_add(bytes - 1);
        let pages: Vec<u64> = self
            .views
            .range(start..=last)
            .map(|(&page, _)| page)
            .collect();
        for run in pages.chunk_by(are_neighbours) {
            if let (Some(place), Some(reserved)) = (self.place(run), &self.reserved) {
                reserved.hide(place)?;
            }
        }
        for page in pages {
            self.views.remove(&page);
        }
        Ok(())
    }

    /// Where `run` is, pages that are shown, one behind the other.
    fn place(&self, run: &[u64]) -> Option<Place> {
        let chunk = self.side.chunk(*run.first()?);
        let window = self.chunks.iter().position(|&shown| shown == chunk)?;
        Some(Place {
            window,
            offset: run[0] % CHUNK_BYTES,
            bytes: run.len() as u64 * PAGE_BYTES,
        })
    }

    /// Closes all windows.
    fn close(&mut self, region: &mut Region) {
        for (window, chunk) in self.chunks.iter_mut().enumerate() {
            if let (Some(chunk), Some(reserved)) = (chunk.take(), &self.reserved) {
                region.chunks(self.side)[chunk] = NONE;
                let hidden = reserved.hide(Place::whole(window));
                hidden.expect("one mapping takes the place of many");
            }
        }
        self.views.clear();
        self.writable.clear();
        self.due = Due::default();
    }

    /// Closes all windows, and makes the table anew.
    fn reset(&mut self, region: &mut Region) {
        self.close(region);
        self.worth.begin(0);
        self.worth.forget_sites();
        let chunks = region.chunks(self.side);
        chunks[..USER_CHUNKS].fill(NONE);
        EDGES.into_iter().for_each(|chunk| chunks[chunk] = NONE);
    }
}

/// Whether page `b` follows page `a` in the same chunk.
fn are_neighbours(a: &u64, b: &u64) -> bool {
    a + PAGE_BYTES == *b && a >> CHUNK_BITS == b >> CHUNK_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As far as an instruction's displacement and small steps of its base reach.
    const REACH: u64 = (1 << 31) + (1 << 28);

    const SIDES: [Side; 2] = [Side::User, Side::Kernel];

    /// Where `side`'s code would go for an address `offset` bytes from `base`.
    fn host(region: &mut Region, side: Side, base: u64, offset: u64) -> u64 {
        let to_window = region.chunks(side)[(base >> CHUNK_BITS) as usize];
        base.wrapping_add(to_window).wrapping_add(offset)
    }

    /// Whether the host has nothing for user code there, whatever it has mapped.
    fn faults(at: u64) -> bool {
        at >> 47 != 0
    }

    fn edges() -> impl Iterator<Item = u64> {
        let chunks = (0..64).map(|bit| 1u64 << bit);
        chunks.flat_map(|at| [at.wrapping_sub(1), at, at + 1, at.wrapping_neg(), !at])
    }

    fn closed(region: &mut Region) -> [Wall; 2] {
        SIDES.map(|side| {
            let mut wall = Wall::new(side, 0, silicon::has_bmi2());
            wall.reset(region);
            wall
        })
    }

    #[test]
    fn without_a_window_every_address_faults() {
        let mut region = Region::new().expect("memory");
        closed(&mut region);
        for (side, base) in SIDES
            .iter()
            .flat_map(|&side| edges().map(move |at| (side, at)))
        {
            for offset in [0, 1, REACH, REACH.wrapping_neg(), 1u64.wrapping_neg()] {
                let at = host(&mut region, side, base, offset);
                assert!(faults(at), "{side:?} {base:#x} {offset:#x} {at:#x}");
            }
        }
    }

    #[test]
    fn what_is_beside_a_window_is_its_guard() {
        for (side, base) in [
            (Side::User, 0x7f12_3456_7000),
            (Side::Kernel, 0x7f12_3456_7000),
            (Side::Kernel, 0xffff_8880_1234_5000),
            (Side::Kernel, 0xffff_ffff_8100_0000),
        ] {
            let mut region = Region::new().expect("memory");
            let wall = &mut closed(&mut region)[side as usize];
            if wall.reserved.is_none() {
                return;
            }
            let base = Linear(base);
            let window = wall.window_of(&mut region, base).expect("one of many");
            assert_eq!(wall.window_of(&mut region, base), Some(window));
            let start = wall.reserved.as_ref().expect("as above").start(window);
            let start = start.as_ptr().addr() as u64;
            let low = base.0 & !(CHUNK_BYTES - 1);
            let last = low + (CHUNK_BYTES - 1);
            for at in [low, base.0, last] {
                assert_eq!(host(&mut region, side, at, 0), start + (at - low));
            }
            let before = host(&mut region, side, low, REACH.wrapping_neg());
            let after = host(&mut region, side, last, REACH);
            assert!(before > start - reserved::GUARD_BYTES);
            assert!(after < start + CHUNK_BYTES + reserved::GUARD_BYTES);
            wall.close(&mut region);
            assert!(faults(host(&mut region, side, base.0, 0)));
        }
    }

    /// Each table is seen by the other's code where that has addresses that aren't
    /// canonical.
    #[test]
    fn the_other_side_s_windows_are_out_of_reach() {
        let mut region = Region::new().expect("memory");
        let mut walls = closed(&mut region);
        let bases = [
            0x1000u64,
            0x7f12_3456_7000,
            0xffff_8880_1234_5000,
            0xffff_ffff_8100_0000,
        ];
        for wall in &mut walls {
            for base in bases {
                wall.window_of(&mut region, Linear(base));
            }
        }
        let apart = (APART / size_of::<u64>()) as u64 * CHUNK_BYTES;
        for (side, base) in SIDES
            .iter()
            .flat_map(|&side| bases.map(move |at| (side, at)))
        {
            for there in [base.wrapping_add(apart), base.wrapping_sub(apart)] {
                for offset in [0, REACH, REACH.wrapping_neg()] {
                    let at = host(&mut region, side, there, offset);
                    assert!(faults(at), "{side:?} {there:#x} {offset:#x} {at:#x}");
                }
            }
        }
    }
}
