//! Translated blocks, by where they come from; the links between them; and the
//! jump cache, by which translated code finds the target of a jump whose target
//! is computed.
//!
//! The law: a block is executed only while memory holds what it was translated
//! from, and while its page is mapped where the code that reached it expects
//! it. Its page is watched (`memory::flag::TRANSLATED`). A block that is rightly
//! in execution links rightly within its page; to another page links and the
//! jump cache lead by a block's far entry, which looks where that page is mapped
//! ([`Mapped`]). The far entry of a block that is gone leads nowhere.

use std::collections::BTreeMap;

use cpu::segment::rights;
use cpu::{CodeSize, Cpu, Model, Segment, Space};
use memory::flag;
use x86::control::{cr0, cr4, efer};
use x86::{Linear, Physical, seg};

use crate::code::{Code, Offset};
use crate::flag::Where;
use crate::frame::Region;
use crate::mapped::{Mapped, Number};
use crate::routine::Routines;
use crate::site::{Link, Site, SiteId, Sites};
use crate::translate;

/// A block's number.
pub(crate) type BlockId = u32;

/// What translated code takes for granted of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mode {
    /// Whose rights memory accesses have. Never [`Space::UserAc`].
    pub(crate) space: Space,
    pub(crate) model: Model,
    /// 32-bit code of a program under a 64-bit kernel, in segments that begin at
    /// 0 and let every access pass.
    pub(crate) narrow: bool,
    /// Whether FS and GS let every access pass, as they do in 64-bit code.
    pub(crate) open: [bool; 2],
    /// SSE instructions execute, and raise nothing.
    pub(crate) simd: bool,
    /// The same of AVX instructions. Never without SSE.
    pub(crate) avx: bool,
    /// The same of x87 instructions.
    pub(crate) x87: bool,
    /// EFLAGS.AC opens user pages to the kernel, whose code this is (SMAP).
    pub(crate) smap: bool,
    /// RDFSBASE and its kin execute.
    pub(crate) bases: bool,
    /// Memory is reached by windows ([`crate::window`]). It is the engine's
    /// choice, and right in any state of the processor.
    pub(crate) windowed: bool,
}

/// MXCSR's exception masks.
const MXCSR_MASKS: u32 = 0x1f80;
/// The x87 control word's.
const X87_MASKS: u16 = 0x3f;

impl Mode {
    /// Of `cpu`, without windows; `None` where code isn't translated.
    pub(crate) fn of(cpu: &Cpu) -> Option<Mode> {
        let level = matches!(cpu.cpl, 0 | 3);
        if cpu.space == Space::UserAc || !level {
            return None;
        }
        let (narrow, open) = match cpu.code_size {
            CodeSize::Bits64 => (false, [true; 2]),
            CodeSize::Bits32 if is_plain_32(cpu) => (
                true,
                [seg::FS, seg::GS].map(|number| is_open(&cpu.segments[usize::from(number)])),
            ),
            _ => return None,
        };
        let on = cpu.cr0 & (cr0::EM | cr0::TS) | !cpu.cr4 & cr4::OSFXSR == 0;
        let simd = on && cpu.mxcsr & MXCSR_MASKS == MXCSR_MASKS;
        Some(Mode {
            space: cpu.space,
            model: cpu.model,
            narrow,
            open,
            simd,
            avx: simd && cpu.model == Model::V3 && cpu.avx_is_on(),
            x87: cpu.cr0 & (cr0::EM | cr0::TS) == 0 && cpu.fpu.control().0 & X87_MASKS == X87_MASKS,
            smap: cpu.cpl == 0 && cpu.cr4 & cr4::SMAP != 0,
            bases: !narrow && cpu.cr4 & cr4::FSGSBASE != 0,
            windowed: false,
        })
    }

    /// The same with windows, if they are `on`.
    pub(crate) fn with_windows(self, on: bool) -> Mode {
        Mode {
            windowed: on,
            ..self
        }
    }

    /// Length in bytes of what one PUSH or CALL stores.
    pub(crate) fn word_bytes(self) -> u8 {
        if self.narrow { 4 } else { 8 }
    }

    /// The part of the jump cache that is for it, and for the modes that differ
    /// from it in nothing but what seldom changes: those don't share it at a
    /// time.
    pub(crate) fn part(self) -> usize {
        // A kernel that has windows goes on having them.
        let windowed = self.windowed && self.space == Space::User;
        match (self.narrow, windowed) {
            (false, false) => self.space as usize,
            (true, false) => NARROW_PART,
            (false, true) => WINDOWED_PART,
            (true, true) => NARROW_WINDOWED_PART,
        }
    }
}

/// Whether `cpu`'s 32-bit code is such as [`Mode::narrow`] says.
fn is_plain_32(cpu: &Cpu) -> bool {
    let code = &cpu.segments[usize::from(seg::CS)];
    let data = [seg::DS, seg::ES, seg::SS].map(|number| &cpu.segments[usize::from(number)]);
    cpu.cpl == 3
        && cpu.efer & efer::LMA != 0
        && code.base == 0
        && code.is_whole()
        && data
            .iter()
            .all(|segment| segment.base == 0 && is_open(segment))
}

/// Whether a data segment lets every access pass; used as a stack, it is one of
/// 32 bits.
fn is_open(segment: &Segment) -> bool {
    segment.has(rights::S | rights::P | rights::RW | rights::DB)
        && !segment.has(rights::CODE)
        && segment.is_whole()
}

/// What a block is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Where its first byte lies.
    pub(crate) start: Physical,
    pub(crate) mode: Mode,
    /// Where it expects the guest's flags.
    pub(crate) flags: Where,
}

/// A block's entries, in code memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    /// From another page, with the linear address in `rcx`: sees that the page
    /// is mapped there, sets [`crate::frame::Frame::code_base`], then counts a
    /// branch. Made when it is first needed.
    pub(crate) far: Option<FarEntry>,
    /// Counts the branch that led here.
    pub(crate) branch: Offset,
    /// Counts nothing.
    pub(crate) plain: Offset,
}

/// A block's entry from other pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FarEntry {
    pub(crate) entry: Offset,
    /// Its page's number in [`Mapped`].
    pub(crate) page: Number,
}

/// The part of a block in its second page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Second {
    /// Where the page lies.
    pub(crate) page: Physical,
    /// Its number in [`Mapped`].
    pub(crate) number: Number,
    /// Length in bytes of the part.
    pub(crate) bytes: u64,
}

/// A translated block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) key: Key,
    /// Length in bytes of the guest's code, as far as it lies in its first page.
    pub(crate) bytes: u64,
    /// The rest, of the one instruction that goes on in another page. The block
    /// itself looks whether that page is mapped behind the first.
    pub(crate) second: Option<Second>,
    pub(crate) entries: Entries,
    /// The links that lead here.
    pub(crate) incoming: Vec<SiteId>,
    /// The next block of its list in [`Blocks::by_key`].
    pub(crate) next: Option<BlockId>,
}

/// An entry of the jump cache.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jump {
    /// The linear address; [`NOWHERE`]: none.
    target: u64,
    /// The host address of the block's far entry.
    code: u64,
}
const _: () = assert!(size_of::<Jump>() == 16);

/// Entries of the jump cache for one mode: one for each value of the low 18
/// bits of an address.
pub(crate) const JUMPS_EACH: usize = 1 << 18;
/// A part for each space that code runs in, one for 32-bit code, and one each for
/// such code of programs that has windows.
pub(crate) const PARTS: usize = 6;
const NARROW_PART: usize = 3;
const WINDOWED_PART: usize = 4;
const NARROW_WINDOWED_PART: usize = 5;
/// All entries of the jump cache.
pub(crate) const JUMPS: usize = JUMPS_EACH * PARTS;
/// Length in bytes of the jump cache.
pub(crate) const JUMPS_BYTES: usize = JUMPS * size_of::<Jump>();
/// The target of an empty entry: 0, which only the first entry could hold, and
/// there a value that has another entry.
const fn nowhere(index: usize) -> u64 {
    if index == 0 { 1 } else { 0 }
}

/// Filled entries remembered at most; with more, all are emptied, filled or not.
const FILLED_MAX: usize = 1 << 16;

/// After so many writes beside its blocks a page has probably become data, and
/// its blocks are dropped: while it is watched, each store there takes the slow
/// way.
const BESIDE_MAX: u8 = 32;

/// A power of two.
const RECENT: usize = 1 << 14;
/// Lists of blocks by their keys; a power of two.
const LISTS: usize = 1 << 17;

/// A block that was found lately.
#[derive(Clone, Copy, Debug)]
struct Recent {
    key: Key,
    id: BlockId,
}

/// All translated blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Option<Block>>,
    /// The first block of each list.
    by_key: Vec<Option<BlockId>>,
    by_page: BTreeMap<u64, Vec<BlockId>>,
    recent: Vec<Option<Recent>>,
    /// Writes to a page beside its blocks, since one was last added or dropped.
    beside: BTreeMap<u64, u8>,
    /// The jump cache's filled entries, some of them several times.
    filled: Vec<usize>,
    /// Where the blocks' pages are mapped.
    pub(crate) mapped: Mapped,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            blocks: Vec::new(),
            by_key: vec![None; LISTS],
            by_page: BTreeMap::new(),
            recent: vec![None; RECENT],
            beside: BTreeMap::new(),
            filled: Vec::new(),
            mapped: Mapped::default(),
        }
    }
}

impl Blocks {
    /// The number that the next block gets.
    pub(crate) fn next(&self) -> BlockId {
        BlockId::try_from(self.blocks.len()).expect("code memory is full long before")
    }

    /// The block `id`.
    pub(crate) fn get(&self, id: BlockId) -> Option<&Block> {
        self.blocks[id as usize].as_ref()
    }

    /// The block with this key.
    pub(crate) fn find(&mut self, key: Key) -> Option<BlockId> {
        let slot = slot(key);
        if let Some(recent) = self.recent[slot]
            && recent.key == key
        {
            return Some(recent.id);
        }
        let mut next = self.by_key[list(key)];
        while let Some(id) = next {
            let block = self.blocks[id as usize].as_ref();
            let block = block.expect("a list holds no block that is gone");
            if block.key == key {
                self.recent[slot] = Some(Recent { key, id });
                return Some(id);
            }
            next = block.next;
        }
        None
    }

    /// Adds a block, and watches its pages.
    pub(crate) fn insert(&mut self, cpu: &mut Cpu, mut block: Block) -> BlockId {
        let id = self.next();
        block.next = self.by_key[list(block.key)].replace(id);
        let second = block.second.map(|second| second.page);
        for page in [Some(block.key.start.page()), second].into_iter().flatten() {
            let number = page.page_number();
            self.by_page.entry(number).or_default().push(id);
            self.beside.remove(&number);
            if cpu.ram.pages().get(number) & flag::TRANSLATED == 0 {
                cpu.ram.pages().set(number, flag::TRANSLATED);
                cpu.tlb.flush_writes_to(page);
            }
        }
        self.blocks.push(Some(block));
        id
    }

    /// Lets the jump of `site` go straight to block `to`, which has a far entry
    /// if the link needs one.
    pub(crate) fn link(&mut self, code: &mut Code, site: SiteId, link: Link, to: BlockId) {
        let Some(block) = &mut self.blocks[to as usize] else {
            return;
        };
        let entries = block.entries;
        let entry = match (link.is_far, link.is_branch) {
            (true, _) => entries.far.expect("it was made before").entry,
            (false, true) => entries.branch,
            (false, false) => entries.plain,
        };
        code.patch(link.jump, entry);
        block.incoming.push(site);
    }

    /// Block `id` is found at `linear` now: its far entry, made if need be.
    /// `None`: there are too many pages, or there is no room for it.
    pub(crate) fn far_entry(
        &mut self,
        region: &mut Region,
        code: &mut Code,
        routines: &Routines,
        id: BlockId,
        linear: Linear,
    ) -> Option<Offset> {
        let block = self.blocks[id as usize].as_mut()?;
        let Block { key, entries, .. } = block;
        let far = if let Some(far) = entries.far {
            far
        } else {
            let page = self.mapped.number(key.start, key.mode.space)?;
            if !code.has_room(translate::FAR_ENTRY_BYTES_MAX) {
                return None;
            }
            let far = translate::far_entry(key.start, page, entries.branch, code, routines);
            *entries.far.insert(far)
        };
        self.mapped.note(region, far.page, linear);
        Some(far.entry)
    }

    /// Drops the blocks that have bytes in `start..start + bytes`, which lie in
    /// one page. Returns whether there were any.
    pub(crate) fn invalidate(
        &mut self,
        cpu: &mut Cpu,
        code: &mut Code,
        sites: &Sites,
        routines: &Routines,
        (start, bytes): (Physical, u64),
    ) -> bool {
        let end = start.0 + bytes;
        let number = start.page_number();
        let Some(ids) = self.by_page.get_mut(&number) else {
            return false;
        };
        let blocks = &self.blocks;
        // Those that another page's writes have dropped.
        ids.retain(|id| blocks[*id as usize].is_some());
        let touched = |id: &BlockId| {
            let block = blocks[*id as usize].as_ref();
            block.is_some_and(|block| block.overlaps(start.0, end))
        };
        let (mut gone, mut left): (Vec<BlockId>, Vec<BlockId>) =
            ids.iter().partition(|id| touched(id));
        if gone.is_empty() && !left.is_empty() {
            let beside = self.beside.entry(number).or_default();
            *beside += 1;
            if *beside < BESIDE_MAX {
                return false;
            }
            std::mem::swap(&mut gone, &mut left);
        }
        self.beside.remove(&number);
        if left.is_empty() {
            self.by_page.remove(&number);
            cpu.ram.pages().clear(number, flag::TRANSLATED);
        } else {
            self.by_page.insert(number, left);
        }
        gone.into_iter()
            .for_each(|id| self.remove(code, sites, routines, id));
        true
    }

    /// Drops block `id`.
    pub(crate) fn remove(
        &mut self,
        code: &mut Code,
        sites: &Sites,
        routines: &Routines,
        id: BlockId,
    ) {
        let Some(block) = self.blocks[id as usize].take() else {
            return;
        };
        for site in block.incoming {
            if let Site::Link(link) = sites.get(site)
                && self.blocks[link.from as usize].is_some()
            {
                code.patch(link.jump, link.stub);
            }
        }
        if let Some(far) = block.entries.far {
            code.divert(far.entry, routines.lost);
        }
        self.leave_list(block.key, id, block.next);
        let slot = slot(block.key);
        if self.recent[slot].is_some_and(|recent| recent.id == id) {
            self.recent[slot] = None;
        }
    }

    /// Takes block `id`, behind which `next` comes, out of its list.
    fn leave_list(&mut self, key: Key, id: BlockId, next: Option<BlockId>) {
        let first = &mut self.by_key[list(key)];
        if *first == Some(id) {
            *first = next;
            return;
        }
        let mut before = *first;
        while let Some(other) = before {
            let block = self.blocks[other as usize].as_mut();
            let block = block.expect("a list holds no block that is gone");
            if block.next == Some(id) {
                block.next = next;
                return;
            }
            before = block.next;
        }
    }

    /// Drops all blocks.
    pub(crate) fn clear(&mut self, cpu: &mut Cpu, region: &mut Region) {
        for &number in self.by_page.keys() {
            cpu.ram.pages().clear(number, flag::TRANSLATED);
        }
        self.reset(region);
    }

    /// Forgets all blocks, whatever their pages' flags are.
    pub(crate) fn reset(&mut self, region: &mut Region) {
        self.empty_jumps(region);
        self.mapped.clear(region);
        *self = Blocks::default();
    }

    /// Empties the jump cache, filled or not.
    pub(crate) fn reset_jumps(&mut self, region: &mut Region) {
        self.filled.clear();
        for (n, jump) in region.jumps().iter_mut().enumerate() {
            let target = nowhere(n % JUMPS_EACH);
            *jump = Jump { target, code: 0 };
        }
    }

    /// Lets computed jumps to `target` find the code at `code`.
    pub(crate) fn fill_jump(
        &mut self,
        region: &mut Region,
        mode: Mode,
        target: Linear,
        code: std::ptr::NonNull<u8>,
    ) {
        let index = mode.part() * JUMPS_EACH + jump_index(target.0);
        let jump = &mut region.jumps()[index];
        if jump.target != target.0 && self.filled.len() < FILLED_MAX {
            self.filled.push(index);
        }
        *jump = Jump {
            target: target.0,
            // lint: where translated code jumps to; the guest never sees it
            code: code.as_ptr().addr() as u64,
        };
    }

    /// The host address at which computed jumps to `target` find its code.
    pub(crate) fn jump(region: &mut Region, mode: Mode, target: Linear) -> Option<u64> {
        let jump = region.jumps()[mode.part() * JUMPS_EACH + jump_index(target.0)];
        (jump.target == target.0).then_some(jump.code)
    }

    /// Empties the jump cache.
    pub(crate) fn empty_jumps(&mut self, region: &mut Region) {
        if self.filled.len() >= FILLED_MAX {
            self.reset_jumps(region);
        }
        let jumps = region.jumps();
        for index in self.filled.drain(..) {
            jumps[index].target = nowhere(index % JUMPS_EACH);
        }
    }
}

impl Block {
    /// Whether it has bytes in `start..end`.
    fn overlaps(&self, start: u64, end: u64) -> bool {
        let first = self.key.start.0;
        let in_second = self
            .second
            .is_some_and(|second| second.page.0 < end && start < second.page.0 + second.bytes);
        first < end && start < first + self.bytes || in_second
    }
}

/// Where in [`Blocks::recent`] a block is looked for.
fn slot(key: Key) -> usize {
    mix(key) % RECENT
}

/// Which list of [`Blocks::by_key`] a block is in.
fn list(key: Key) -> usize {
    mix(key) % LISTS
}

/// A number whose low bits depend on all that often differs between keys.
#[expect(clippy::cast_possible_truncation, reason = "masked to the low bits")]
fn mix(key: Key) -> usize {
    let mode = (key.mode.space as u64) << 1 | u64::from(key.mode.windowed);
    let salt = mode << 3 | key.flags as u64;
    (key.start.0 ^ key.start.0 >> 10 ^ salt << 9) as usize
}

/// Where in a part of the jump cache a target is looked for.
#[expect(clippy::cast_possible_truncation, reason = "masked to the low bits")]
fn jump_index(target: u64) -> usize {
    target as usize % JUMPS_EACH
}
