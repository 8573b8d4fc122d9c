//! The windows of the kernel or of a program, and what they show.

use std::collections::BTreeMap;
use std::io;

use cpu::{Cpu, Dropped, Space};
use x86::{Linear, PAGE_BYTES, Physical};

use super::reserved::{Place, Reserved};
use super::{CHUNK_BITS, CHUNK_BYTES, LOW_BYTES, NONE, Side, WINDOWS};
use crate::frame::Region;

/// Pages that are shown with a neighbour at most, on either side.
const AROUND: usize = 128;
/// Pages that a miss shows at most.
pub(super) const FILL_MAX: usize = 2 * (2 * AROUND + 2);
/// With more ranges to be hidden than this, everything is.
const DUE_MAX: usize = 1 << 12;
/// Length in bytes of the longest access.
const ACCESS_BYTES_MAX: u64 = 32;

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

/// The windows of the kernel, or of a program.
#[derive(Debug)]
pub(super) struct Wall {
    side: Side,
    /// The program's address space; 0: nobody's.
    space: u64,
    /// Whether the side's table is that of these windows.
    is_up: bool,
    /// The branch count at which it was last taken down; `None`: nobody's.
    left_at: Option<u64>,
    pub(super) reserved: Reserved,
    /// The chunk that each window shows.
    chunks: [Option<usize>; WINDOWS],
    /// What is shown, by linear page.
    views: BTreeMap<u64, View>,
    /// The linear pages that may be stored to, by physical page. Some may not
    /// any more.
    writable: BTreeMap<u64, Vec<u64>>,
    due: Due,
    /// Calls of the host's since [`Wall::take_calls`].
    calls: u64,
}

impl Wall {
    /// None open. The kernel's is always up.
    pub(super) fn new(side: Side, reserved: Reserved) -> Wall {
        Wall {
            side,
            space: 0,
            is_up: side == Side::Kernel,
            left_at: None,
            reserved,
            chunks: [None; WINDOWS],
            views: BTreeMap::new(),
            writable: BTreeMap::new(),
            due: Due::default(),
            calls: 0,
        }
    }

    /// How often the host has shown or hidden something since the last call.
    pub(super) fn take_calls(&mut self) -> u64 {
        std::mem::take(&mut self.calls)
    }

    /// Whether it is that of address space `space`.
    pub(super) fn is_of(&self, space: u64) -> bool {
        self.space == space
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// The branch count at which it was last taken down; `None`: nobody's.
    pub(super) fn left_at(&self) -> Option<u64> {
        self.left_at
    }

    /// How many pages are shown.
    pub(super) fn pages(&self) -> usize {
        self.views.len()
    }

    /// Is that of address space `space` from now on, which is the current one.
    pub(super) fn begin(&mut self, region: &mut Region, space: u64) {
        self.close(region);
        self.space = space;
        self.is_up = true;
    }

    /// Its address space is the current one now.
    pub(super) fn put_up(&mut self, region: &mut Region) {
        self.is_up = true;
        for window in 0..WINDOWS {
            self.tell(region, window);
        }
    }

    /// Its address space is no longer the current one, at this branch count.
    pub(super) fn take_down(&mut self, region: &mut Region, branches: u64) {
        for chunk in self.chunks.into_iter().flatten() {
            region.chunks(self.side)[chunk] = NONE;
        }
        self.is_up = false;
        self.left_at = Some(branches);
    }

    /// Shows what the processor knows of `at`'s page and those around. Returns how
    /// many pages that were.
    pub(super) fn fill(&mut self, region: &mut Region, cpu: &Cpu, at: Linear) -> u64 {
        let first = at.page();
        let last = at.plus(ACCESS_BYTES_MAX - 1).page();
        let mut shown = self.fill_around(region, cpu, first);
        if last != first {
            shown += self.fill_around(region, cpu, last);
        }
        shown as u64
    }

    fn fill_around(&mut self, region: &mut Region, cpu: &Cpu, page: Linear) -> usize {
        let Some((first, views)) = self.wanted_around(cpu, page) else {
            return 0;
        };
        if self.views.len() + views.len() > self.side.pages_max() {
            self.close(region);
        }
        let Some(window) = self.window_of(region, first) else {
            return 0;
        };
        if self.show(cpu, window, first, &views).is_err() {
            // The host has no more mappings to give.
            self.close(region);
            return 0;
        }
        views.len()
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
    pub(super) fn window_of(&mut self, region: &mut Region, page: Linear) -> Option<usize> {
        let chunk = self.side.chunk(page.0)?;
        let has = |wanted| self.chunks.iter().position(|&chunk| chunk == wanted);
        if let Some(window) = has(Some(chunk)) {
            return Some(window);
        }
        let window = has(None)?;
        self.chunks[window] = Some(chunk);
        self.tell(region, window);
        Some(window)
    }

    /// Enters `window`, if it is in use, in the table.
    fn tell(&self, region: &mut Region, window: usize) {
        if let Some(chunk) = self.chunks[window] {
            let start = self.reserved.start(window);
            // lint: what translated code adds to an address; the guest never sees it
            let host = start.as_ptr().addr() as u64;
            region.chunks(self.side)[chunk] = host.wrapping_sub((chunk as u64) << CHUNK_BITS);
        }
    }

    /// Shows `views`, which one mapping can hold, from `first` on.
    fn show(&mut self, cpu: &Cpu, window: usize, first: Linear, views: &[View]) -> io::Result<()> {
        let place = Place {
            window,
            offset: first.0 % CHUNK_BYTES,
            bytes: views.len() as u64 * PAGE_BYTES,
        };
        let View { page, write } = views[0];
        if let Some(file) = cpu.ram.file() {
            self.calls += 1;
            self.reserved.show(place, file, page, write)?;
        }
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
    /// everything. Leaves to store apart; to be called of those that are up.
    pub(super) fn drop(&mut self, dropped: &Dropped) {
        let Due::Some { ranges, .. } = &mut self.due else {
            return;
        };
        let low = dropped.low || self.side == Side::Kernel && dropped.left;
        if dropped.all || low && self.side == Side::User {
            self.due = Due::All;
            return;
        }
        if self.views.is_empty() {
            return;
        }
        if low {
            ranges.push((Linear(0), LOW_BYTES));
        }
        ranges.extend_from_slice(&dropped.ranges);
        if ranges.len() > DUE_MAX {
            self.due = Due::All;
        }
    }

    /// The same of the leaves to store, which go in every address space.
    pub(super) fn drop_writes(&mut self, cpu: &Cpu, dropped: &Dropped) {
        let Due::Some { writes, .. } = &mut self.due else {
            return;
        };
        if dropped.writes {
            self.writable.retain(|&physical, pages| {
                let stays = cpu::is_storable(&cpu.ram, Physical(physical));
                if !stays {
                    writes.append(pages);
                }
                stays
            });
        }
        for physical in &dropped.writes_to {
            writes.extend(self.writable.remove(&physical.0).into_iter().flatten());
        }
        if writes.len() > self.side.pages_max() + DUE_MAX {
            self.due = Due::All;
        }
    }

    /// Stops showing what was dropped.
    pub(super) fn settle(&mut self, region: &mut Region) {
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
            if let Some(place) = self.place(run) {
                self.calls += 1;
                self.reserved.protect(place)?;
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
            if let Some(place) = self.place(run) {
                self.calls += 1;
                self.reserved.hide(place)?;
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

    /// Closes all windows; a program's are nobody's.
    pub(super) fn forget(&mut self, region: &mut Region) {
        self.close(region);
        self.space = 0;
        self.is_up = self.side == Side::Kernel;
        self.left_at = None;
    }

    /// Closes all windows.
    pub(super) fn close(&mut self, region: &mut Region) {
        for (window, chunk) in self.chunks.iter_mut().enumerate() {
            if let Some(chunk) = chunk.take() {
                if self.is_up {
                    region.chunks(self.side)[chunk] = NONE;
                }
                let hidden = self.reserved.hide(Place::whole(window));
                hidden.expect("one mapping takes the place of many");
            }
        }
        self.views.clear();
        self.writable.clear();
        self.due = Due::default();
    }
}

/// Whether page `b` follows page `a` in the same chunk.
fn are_neighbours(a: &u64, b: &u64) -> bool {
    a + PAGE_BYTES == *b && a >> CHUNK_BITS == b >> CHUNK_BITS
}
