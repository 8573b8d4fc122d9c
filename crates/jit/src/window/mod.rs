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
//! the [`Side`] may reach. Several programs have theirs at a time ([`Wall`]); the
//! table is that of the current address space.
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
//! left to the fast TLB ([`worth`]). A program's windows stay as long as its address
//! space has the same number ([`Cpu::address_space`]), current or not, the kernel's
//! as long as its half stays the same.

mod reserved;
mod wall;
mod worth;

use cpu::{Cpu, Dropped, Space};
use x86::Linear;

use self::reserved::Reserved;
use self::wall::Wall;
pub(crate) use self::worth::Terms;
use self::worth::{Life, Lives, Missing};
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
/// Windows of a wall: a program has its text, its heap, its libraries and its stack
/// in four chunks, or a few more; a kernel its text, all of memory, stacks, and what
/// it knows of pages.
const WINDOWS: usize = 16;
/// Programs that have windows at a time; of about as many the soft TLB keeps something.
const PROGRAMS: usize = 16;
/// After so many branches without it a program's windows may become another's: where
/// more programs than [`PROGRAMS`] take turns, some do without.
const IDLE: u64 = 1 << 28;

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
    pub(crate) const fn of(space: Space) -> Side {
        if space.is_user() {
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

    /// Pages shown at most, of programs by all of them together. Linux gives a process
    /// some 65,000 mappings, and what lies alone takes two.
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

/// All windows.
#[derive(Debug)]
pub(crate) struct Windows {
    /// `None`: the host gives no addresses for them, or has no BMI2.
    kernel: Option<Wall>,
    /// The programs'; as many as the host gives addresses for.
    programs: Vec<Wall>,
    /// The one of `programs` that is the current address space's.
    current: Option<usize>,
    /// The one that may become that, where there is none.
    next: Option<usize>,
    /// The current address space.
    space: u64,
    /// By [`Side`]: when windows begin and what they cost, how long the current
    /// address space has been there, and who has missed.
    terms: [Terms; 2],
    lives: [Life; 2],
    missing: [Missing; 2],
    others: Lives,
    /// How many pages were shown so far.
    shown: u64,
}

impl Windows {
    /// None open. `terms`: those of programs, and the kernel's.
    pub(crate) fn new(terms: [Terms; 2], has_bmi2: bool) -> Windows {
        let wall = |side| {
            let reserved = has_bmi2.then(Reserved::new).flatten()?;
            Some(Wall::new(side, reserved))
        };
        Windows {
            kernel: wall(Side::Kernel),
            programs: (0..PROGRAMS).map_while(|_| wall(Side::User)).collect(),
            current: None,
            next: None,
            space: 0,
            terms,
            lives: terms.map(|terms| Life::new(terms, 0)),
            missing: Default::default(),
            others: Lives::default(),
            shown: 0,
        }
    }

    /// The wall of `side`'s code, if it has one.
    fn wall(&mut self, side: Side) -> Option<&mut Wall> {
        match side {
            Side::User => self.programs.get_mut(self.current?),
            Side::Kernel => self.kernel.as_mut(),
        }
    }

    /// Whether there can be windows for the code in execution, and it is worth them.
    pub(crate) fn are_on(&self, cpu: &Cpu) -> bool {
        let side = Side::of(cpu.space);
        let can_be = match side {
            Side::User => self.current.or(self.next).is_some(),
            Side::Kernel => self.kernel.is_some(),
        };
        can_be && self.lives[side as usize].are_on(cpu.branches) && cpu.ram.file().is_some()
    }

    /// Counts that `site` in block `id` has missed.
    pub(crate) fn miss(&mut self, cpu: &Cpu, site: SiteId, id: BlockId) {
        self.missing[Side::of(cpu.space) as usize].miss(site, id, cpu.branches);
    }

    /// The blocks that had better have no windows, since the last call.
    pub(crate) fn take_roaming(&mut self) -> Vec<BlockId> {
        let [user, kernel] = &mut self.missing;
        let mut roaming = user.take_roaming();
        roaming.append(&mut kernel.take_roaming());
        roaming
    }

    /// All sites are forgotten.
    pub(crate) fn forget_sites(&mut self) {
        self.missing.iter_mut().for_each(Missing::forget_sites);
    }

    /// How many pages were shown so far.
    pub(crate) fn shown(&self) -> u64 {
        self.shown
    }

    /// Shows what the processor knows of `at`'s page, of the next where an access
    /// at `at` may reach into it, and of the neighbours that one mapping holds.
    pub(crate) fn fill(&mut self, region: &mut Region, cpu: &Cpu, at: Linear) {
        let side = Side::of(cpu.space);
        if side == Side::User {
            self.make_room(region);
        }
        if let Some(wall) = self.wall(side) {
            self.shown += wall.fill(region, cpu, at);
            self.pay(side, cpu.branches);
        }
    }

    /// Sees what the windows of `side`'s code have cost.
    fn pay(&mut self, side: Side, branches: u64) {
        let calls = self.wall(side).map_or(0, Wall::take_calls);
        if calls > 0 {
            self.lives[side as usize].spend(calls, branches);
        }
    }

    /// Sees that the current program has a wall, and that all together don't show too
    /// much.
    fn make_room(&mut self, region: &mut Region) {
        if self.current.is_none()
            && let Some(next) = self.next
        {
            self.programs[next].begin(region, self.space);
            self.current = Some(next);
        }
        let shown: usize = self.programs.iter().map(Wall::pages).sum();
        if shown + wall::FILL_MAX > Side::User.pages_max() {
            let others = self.programs.iter_mut().filter(|wall| !wall.is_up());
            others.for_each(|wall| wall.close(region));
        }
    }

    /// Notes that what `dropped` covers is no longer to be shown: not after
    /// [`Windows::settle`]. Where the address space is another now, so are the
    /// programs' windows.
    pub(crate) fn drop(&mut self, region: &mut Region, cpu: &Cpu, dropped: &Dropped) {
        if dropped.writes || !dropped.writes_to.is_empty() {
            let walls = self.programs.iter_mut().chain(&mut self.kernel);
            walls.for_each(|wall| wall.drop_writes(cpu, dropped));
        }
        if dropped.all {
            let kernel = Side::Kernel as usize;
            self.lives[kernel] = Life::new(self.terms[kernel], cpu.branches);
            let walls = self.programs.iter_mut();
            walls.for_each(|wall| wall.forget(region));
            self.current = None;
            self.next = self.oldest(cpu.branches);
        }
        if cpu.address_space() != self.space {
            self.enter(region, cpu.address_space(), cpu.branches);
        }
        for side in [Side::User, Side::Kernel] {
            if let Some(wall) = self.wall(side) {
                wall.drop(dropped);
            }
        }
    }

    /// Address space `space` is current from now on.
    fn enter(&mut self, region: &mut Region, space: u64, branches: u64) {
        let user = Side::User as usize;
        let (terms, life) = (self.terms[user], self.lives[user]);
        if let Some(wall) = self.wall(Side::User) {
            wall.take_down(region, branches);
            if !life.are_on(branches) {
                wall.forget(region);
            }
        }
        self.others.leave(self.space, life, branches);
        let again = self.others.enter(space, branches);
        self.lives[user] = again.unwrap_or_else(|| Life::new(terms, branches));
        self.space = space;
        self.current = self.programs.iter().position(|wall| wall.is_of(space));
        self.next = self.oldest(branches);
        if let Some(wall) = self.wall(Side::User) {
            wall.put_up(region);
        }
    }

    /// The programs' wall that was left first, if that may become another's.
    fn oldest(&self, branches: u64) -> Option<usize> {
        let walls = self.programs.iter().enumerate();
        let (oldest, wall) = walls.min_by_key(|(_, wall)| wall.left_at())?;
        let is_idle = |left_at: u64| branches.wrapping_sub(left_at) >= IDLE;
        wall.left_at().is_none_or(is_idle).then_some(oldest)
    }

    /// Stops showing to the code in execution what was dropped. To be called before
    /// such code that has windows goes on.
    pub(crate) fn settle(&mut self, region: &mut Region, cpu: &Cpu) {
        let side = Side::of(cpu.space);
        if let Some(wall) = self.wall(side) {
            wall.settle(region);
            self.pay(side, cpu.branches);
        }
    }

    /// Closes all windows, and makes the tables anew.
    pub(crate) fn reset(&mut self, region: &mut Region) {
        let walls = self.programs.iter_mut().chain(&mut self.kernel);
        walls.for_each(|wall| wall.forget(region));
        (self.current, self.space) = (None, 0);
        self.next = self.oldest(0);
        self.others = Lives::default();
        self.lives = self.terms.map(|terms| Life::new(terms, 0));
        for side in [Side::User, Side::Kernel] {
            let chunks = region.chunks(side);
            chunks[..USER_CHUNKS].fill(NONE);
            EDGES.into_iter().for_each(|chunk| chunks[chunk] = NONE);
        }
        self.forget_sites();
    }
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

    fn closed(region: &mut Region) -> Windows {
        let terms = Terms { age: 0, call: 0 };
        let mut windows = Windows::new([terms; 2], silicon::has_bmi2());
        windows.reset(region);
        windows
    }

    /// The wall of `side`'s code; a program gets one.
    fn wall<'a>(windows: &'a mut Windows, region: &mut Region, side: Side) -> Option<&'a mut Wall> {
        if side == Side::User && !windows.programs.is_empty() {
            windows.make_room(region);
        }
        windows.wall(side)
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
            let mut windows = closed(&mut region);
            let Some(wall) = wall(&mut windows, &mut region, side) else {
                return;
            };
            let base = Linear(base);
            let window = wall.window_of(&mut region, base).expect("one of many");
            assert_eq!(wall.window_of(&mut region, base), Some(window));
            let start = wall.reserved.start(window).as_ptr().addr() as u64;
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
        let mut windows = closed(&mut region);
        let bases = [
            0x1000u64,
            0x7f12_3456_7000,
            0xffff_8880_1234_5000,
            0xffff_ffff_8100_0000,
        ];
        for side in SIDES {
            let Some(wall) = wall(&mut windows, &mut region, side) else {
                return;
            };
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

    #[test]
    fn programs_have_windows_by_turns() {
        const BASE: u64 = 0x7f12_3456_7000;
        let mut region = Region::new().expect("memory");
        let mut windows = closed(&mut region);
        let mut seen = Vec::new();
        for space in [1, 2] {
            windows.enter(&mut region, space, space);
            assert!(faults(host(&mut region, Side::User, BASE, 0)));
            let Some(wall) = wall(&mut windows, &mut region, Side::User) else {
                return;
            };
            wall.window_of(&mut region, Linear(BASE));
            seen.push(host(&mut region, Side::User, BASE, 0));
        }
        assert_ne!(seen[0], seen[1]);
        windows.enter(&mut region, 3, 3);
        assert!(faults(host(&mut region, Side::User, BASE, 0)));
        for (space, before) in [(2, seen[1]), (1, seen[0])] {
            windows.enter(&mut region, space, 4);
            assert_eq!(host(&mut region, Side::User, BASE, 0), before);
        }
    }

    #[test]
    fn nobody_takes_the_windows_of_who_was_there_just_now() {
        let mut region = Region::new().expect("memory");
        let mut windows = closed(&mut region);
        if windows.programs.is_empty() {
            return;
        }
        for space in 1..=PROGRAMS as u64 {
            windows.enter(&mut region, space, space);
            windows.make_room(&mut region);
            assert!(windows.current.is_some());
        }
        let none = |windows: &Windows| windows.current.or(windows.next).is_none();
        windows.enter(&mut region, 100, 1000);
        assert!(none(&windows));
        windows.enter(&mut region, 101, 1000 + IDLE);
        assert!(!none(&windows));
        windows.make_room(&mut region);
        windows.enter(&mut region, 1, 1001 + IDLE);
        assert!(windows.current.is_none());
    }
}
