//! The run loop: finds the translated block at `rip` and stays in translated
//! code as long as it can; code that is cold, and what holds on at every
//! instruction (traps, shadows, breakpoints), is interpreted.

use std::collections::BTreeSet;

use cpu::{Bus, Count, Cpu, Engine, Exit, Interpreter, Model, Next, Stepper, Until};
use x86::control::cr4;
use x86::{Linear, PAGE_BYTES, Physical};

use crate::cache::{BlockId, Blocks, Key, Mode, PARTS};
use crate::code::{self, Code};
use crate::fault;
use crate::flag::Where;
use crate::frame::Region;
use crate::register::LEFT_MAX;
use crate::routine::{Enter, Routines};
use crate::site::{Link, Site, SiteId, Sites};
use crate::slow::{Context, Left, see_dropped, slow, take_over};
use crate::statistics::Statistics;
use crate::tlb::Filled;
use crate::translate::{self, Line};
use crate::window::{Terms, Windows};

/// Why there is no translator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host gave no memory for code or tables.
    #[error(
        "the host gave no memory for translated code: use `--engine interp`, or allow executable mappings, and files of 128 MiB (`ulimit -f`)"
    )]
    Memory(#[from] std::io::Error),
}

/// The translating engine.
#[derive(Debug)]
pub struct Jit {
    interpreter: Interpreter,
    code: Code,
    routines: Routines,
    region: Region,
    blocks: Blocks,
    sites: Sites,
    filled: Filled,
    windows: Windows,
    /// Code that reaches for ever new pages, by where it starts: it has no windows.
    roaming: BTreeSet<Physical>,
    heat: Heat,
    statistics: Statistics,
    /// The mode that each part of the jump cache was last used in.
    modes: [Option<Mode>; PARTS],
}

impl Jit {
    /// A translator that has translated nothing yet.
    pub fn new() -> Result<Jit, Error> {
        Jit::with(code::BYTES, HOT, TERMS, silicon::has_bmi2())
    }

    /// One for tests: it translates whatever it can when it is first reached,
    /// into so little code memory that this is often full.
    pub fn eager() -> Result<Jit, Error> {
        Jit::with(EAGER_CODE_BYTES, 1, EAGER_TERMS, silicon::has_bmi2())
    }

    /// An eager one as it is on a host without BMI2.
    pub fn eager_without_bmi2() -> Result<Jit, Error> {
        Jit::with(EAGER_CODE_BYTES, 1, EAGER_TERMS, false)
    }

    fn with(code_bytes: usize, hot: u8, terms: [Terms; 2], has_bmi2: bool) -> Result<Jit, Error> {
        let mut code = Code::new(code_bytes)?;
        let routines = Routines::write(&mut code, has_bmi2);
        let mut region = Region::new()?;
        let filled = Filled::new(&mut region);
        fault::install();
        let mut windows = Windows::new(terms, has_bmi2);
        windows.reset(&mut region);
        let mut blocks = Blocks::default();
        blocks.reset_jumps(&mut region);
        blocks.reset(&mut region);
        Ok(Jit {
            interpreter: Interpreter::new(),
            code,
            routines,
            region,
            blocks,
            sites: Sites::default(),
            filled,
            windows,
            roaming: BTreeSet::new(),
            heat: Heat::new(hot),
            statistics: Statistics::default(),
            modes: [None; PARTS],
        })
    }

    /// Sees to whatever wants something before the next instruction.
    fn look_around(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Next {
        let writes = self.interpreter.see_writes(cpu);
        self.see_writes(cpu, &writes);
        self.interpreter.see_to(cpu, bus)
    }

    /// The translated block at `rip`: translated now, if the code has become
    /// hot; linked with the jump that led here.
    fn find(&mut self, cpu: &mut Cpu, pending: Option<(SiteId, Link)>) -> Option<BlockId> {
        let mode = Mode::of(cpu)?.with_windows(self.windows.are_on(cpu));
        let last = &mut self.modes[mode.part()];
        if *last != Some(mode) {
            *last = Some(mode);
            self.blocks.empty_jumps(&mut self.region);
        }
        let linear = Linear(cpu.rip);
        if is_near_the_edge(mode, linear) {
            return None;
        }
        // Where it can't be fetched the interpreter has the fault.
        let start = cpu.fetch_address(linear).ok()??;
        // Windows may have come or gone since that jump was taken. Code without
        // them doesn't lead to code with them but by way of `enter`.
        let pending = pending.filter(|(_, link)| link.windowed == mode.windowed);
        let flags = pending.map_or(Where::Saved, |(_, link)| link.flags);
        let key = Key { start, mode, flags };
        let is_near = pending.is_some_and(|(_, link)| !link.is_far);
        let is_far = flags == Where::Saved && !is_near;
        let id = match self.blocks.find(key) {
            Some(id) => id,
            None => self.translate(cpu, key, linear, is_far)?,
        };
        self.see_second_page(cpu, id, linear)?;
        if is_far {
            let Some(entry) =
                self.blocks
                    .far_entry(&mut self.region, &mut self.code, &self.routines, id, linear)
            else {
                self.clear(cpu);
                return None;
            };
            if pending.is_none() {
                let code = self.code.address(entry);
                self.blocks.fill_jump(&mut self.region, mode, linear, code);
            }
        }
        if let Some((site, link)) = pending
            // Making room may have dropped the jump.
            && self.blocks.get(link.from).is_some()
        {
            self.blocks.link(&mut self.code, site, link, id);
        }
        Some(id)
    }

    /// Block `id`, found at `linear`, may have a second page: it is executed only
    /// where that is mapped behind the first, which is noted here.
    fn see_second_page(&mut self, cpu: &mut Cpu, id: BlockId, linear: Linear) -> Option<()> {
        let Some(second) = self.blocks.get(id)?.second else {
            return Some(());
        };
        let linear = linear.page().plus(PAGE_BYTES);
        if cpu.fetch_address(linear).ok()?? == second.page {
            let Jit { blocks, region, .. } = self;
            blocks.mapped.note(region, second.number, linear);
            return Some(());
        }
        // It will be translated anew.
        self.blocks
            .remove(&mut self.code, &self.sites, &self.routines, id);
        None
    }

    /// The guest code at `start`, which is mapped at `linear`.
    fn line(&mut self, cpu: &mut Cpu, key: Key, linear: Linear) -> Option<Line> {
        let roams = self.roaming.contains(&key.start);
        let (insns, ended) = cpu::straight_line(cpu, key.start);
        if !insns.is_empty() {
            return Some(Line {
                insns,
                ended,
                second: None,
                roams,
                far: None,
            });
        }
        // Its first instruction goes on in the next page.
        let page = cpu.fetch_address(linear.page().plus(PAGE_BYTES)).ok()??;
        if page == key.start.page() {
            // A page is known at one place at a time only: the block would never
            // find it at both.
            return None;
        }
        let (decoded, ended) = cpu::crossing(cpu, key.start, page)?;
        let number = self.blocks.mapped.number(page, key.mode.space)?;
        Some(Line {
            insns: vec![decoded],
            ended,
            second: Some((page, number)),
            roams,
            far: None,
        })
    }

    /// `is_far`: it is found from another page.
    fn translate(
        &mut self,
        cpu: &mut Cpu,
        key: Key,
        linear: Linear,
        is_far: bool,
    ) -> Option<BlockId> {
        if !self.heat.is_hot(key.start) {
            return None;
        }
        let mut line = self.line(cpu, key, linear)?;
        if is_far {
            line.far = self.blocks.mapped.number(key.start, key.mode.space);
        }
        if !self.code.has_room(translate::CODE_BYTES_MAX) {
            self.clear(cpu);
            // The jump that led here is gone; so is the need for its flags.
            return None;
        }
        let id = self.blocks.next();
        let begin = self.code.used();
        let block = translate::translate(
            key,
            id,
            &line,
            &mut self.code,
            &mut self.sites,
            &self.routines,
        );
        self.statistics.blocks += 1;
        self.statistics.instructions += line.insns.len() as u64;
        self.statistics.code_bytes += (self.code.used() - begin) as u64;
        Some(self.blocks.insert(cpu, block))
    }

    /// Runs translated code from block `id` on. Returns the jump by which it
    /// was left, where that can be linked.
    fn enter(
        &mut self,
        cpu: &mut Cpu,
        bus: &mut dyn Bus,
        id: BlockId,
        until: u64,
    ) -> Result<Option<(SiteId, Link)>, Exit> {
        let until = until.min(cpu.branches.saturating_add(LEFT_MAX));
        let block = self.blocks.get(id).expect("it was just found");
        let (mode, entry) = (block.key.mode, block.entries.plain);
        if mode.windowed {
            self.windows.settle(&mut self.region, cpu);
        }
        let start = self.code.address(entry);
        self.code.make_ready();
        // SAFETY: `Routines::write` put a function of this type there.
        let enter: Enter = unsafe {
            std::mem::transmute::<*mut u8, Enter>(self.code.address(self.routines.enter).as_ptr())
        };
        let frame = self.region.frame();
        let tsc = tsc_line(cpu, bus, until);
        let xmm = (&raw mut cpu.xmm).cast::<u8>();
        let ymm_high = match cpu.model {
            Model::V2 => std::ptr::null_mut(),
            Model::V3 => (&raw mut cpu.ymm_high).cast::<u8>(),
        };
        let mxcsr = (&raw mut cpu.mxcsr).cast::<u8>();
        let segments = (&raw const cpu.segments).cast::<u8>();
        let mut context = Context {
            cpu,
            bus,
            frame,
            region: &mut self.region,
            blocks: &mut self.blocks,
            filled: &mut self.filled,
            windows: &mut self.windows,
            sites: &self.sites,
            statistics: &mut self.statistics,
            until,
            mode,
            modes: &self.modes,
            left: Left::BySite,
        };
        // The guest's x87 unit is in the processor's state.
        context.frame().x87_absent = 1;
        context.give_back();
        let code_base = context.cpu.rip & !(PAGE_BYTES - 1);
        let context_address = (&raw mut context).cast::<u8>();
        let frame_now = context.frame();
        frame_now.code_base = code_base;
        frame_now.simd_absent = 1;
        frame_now.host_mxcsr = HOST_MXCSR;
        (frame_now.tsc_from, frame_now.tsc_rate, frame_now.tsc_base) = tsc;
        // lint: addresses for translated code; the guest never sees them
        frame_now.helper = (slow as *const ()).expose_provenance() as u64;
        // lint: as above
        frame_now.context = context_address.expose_provenance() as u64;
        // lint: as above
        frame_now.xmm = xmm.expose_provenance() as u64;
        // lint: as above
        frame_now.ymm_high = ymm_high.expose_provenance() as u64;
        // lint: as above
        frame_now.mxcsr = mxcsr.expose_provenance() as u64;
        // lint: as above
        frame_now.segments = segments.expose_provenance() as u64;
        let code = self.code.address(0);
        // lint: where faults are looked for; the guest never sees it
        let code = code.as_ptr().addr() as u64;
        // SAFETY: `start` is the entry of a block translated for this mode, the
        // frame is as it expects it, and the context outlives the call. Nothing
        // that the context borrows is used before the call returns, but by the
        // helper.
        let run = || unsafe { enter(frame.as_ptr(), start.as_ptr()) };
        fault::with_ways(code, &self.sites.ways, run);
        let left = context.left;
        self.statistics.stays += 1;
        self.see_roaming();
        match left {
            Left::BySite => Ok(self.left_by_site(cpu, until)),
            Left::Complete => {
                self.statistics.left += 1;
                Ok(None)
            }
            Left::Trapped(trap) => {
                self.statistics.traps += 1;
                self.interpreter.trap(cpu, bus, trap).map(|()| None)
            }
        }
    }

    /// Brings the processor's state up to date after translated code was left
    /// by a site's own jump.
    fn left_by_site(&mut self, cpu: &mut Cpu, until: u64) -> Option<(SiteId, Link)> {
        // SAFETY: translated code has been left, and nobody else holds a
        // reference to the frame.
        let frame = unsafe { self.region.frame().as_ref() };
        take_over(cpu, frame, until);
        let base = frame.code_base;
        #[expect(clippy::cast_possible_truncation, reason = "it was stored as 32 bits")]
        let site = frame.site as SiteId;
        let (target, is_branch, link, left) = match *self.sites.get(site) {
            Site::Link(link) => (
                base.wrapping_add(link.target.cast_unsigned()),
                link.is_branch,
                Some((site, link)),
                &mut self.statistics.links,
            ),
            Site::Stop { offset } => (
                base.wrapping_add(u64::from(offset)),
                false,
                None,
                &mut self.statistics.stops,
            ),
            Site::Indirect => (frame.temp, true, None, &mut self.statistics.far),
            Site::Slow { .. } | Site::LoadX87 => {
                unreachable!("bug: a slow site doesn't leave by itself")
            }
        };
        *left += 1;
        cpu.rip = target & cpu.rip_mask();
        // A fall into another page has taken the one back that is counted here:
        // for a moment the count may have been below 0.
        cpu.branches = cpu.branches.wrapping_add(u64::from(is_branch));
        link
    }

    /// Blocks that reach for ever new pages will be translated anew, without
    /// windows.
    fn see_roaming(&mut self) {
        for id in self.windows.take_roaming() {
            if let Some(block) = self.blocks.get(id) {
                self.roaming.insert(block.key.start);
                self.blocks
                    .remove(&mut self.code, &self.sites, &self.routines, id);
            }
        }
    }

    /// Drops what writes to code make stale.
    fn see_writes(&mut self, cpu: &mut Cpu, writes: &[(Physical, u64)]) {
        let mut any = false;
        for &write in writes {
            any |= self
                .blocks
                .invalidate(cpu, &mut self.code, &self.sites, &self.routines, write);
        }
        self.statistics.invalidations += u64::from(any);
    }

    /// Drops what the processor's soft TLB has dropped.
    fn see_dropped(&mut self, cpu: &mut Cpu) {
        see_dropped(
            cpu,
            &mut self.region,
            &mut self.filled,
            &mut self.windows,
            &mut self.blocks,
            &mut self.statistics,
        );
    }

    /// Drops all translated code.
    fn clear(&mut self, cpu: &mut Cpu) {
        self.statistics.clears += 1;
        self.statistics.sites_go(&self.sites);
        self.blocks.clear(cpu, &mut self.region);
        self.sites.clear();
        self.windows.forget_sites();
        self.code.clear();
    }
}

/// What RDTSC needs of [`cpu::TscLine`]: see [`crate::frame::Frame::tsc_from`]. The
/// slope is 0 where only the interpreter can tell, or it is a fault.
fn tsc_line(cpu: &Cpu, bus: &dyn Bus, until: u64) -> (u64, u64, u64) {
    if cpu.cr4 & cr4::TSD != 0 {
        return (0, 0, 0);
    }
    bus.tsc_line(until).map_or((0, 0, 0), |line| {
        let from = until.wrapping_sub(line.base_branches).wrapping_sub(1);
        (from, line.rate, line.base)
    })
}

/// MXCSR while Rust code runs.
const HOST_MXCSR: u64 = 0x1f80;

/// The last page that 32-bit code may lie in.
const LAST_PAGE_32: u64 = (1 << 32) - PAGE_BYTES;

/// Whether a direct jump from `at`'s page might leave the canonical addresses,
/// or what is pushed of a call there the 32-bit ones: translated code doesn't
/// check that. Code there is interpreted.
fn is_near_the_edge(mode: Mode, at: Linear) -> bool {
    if mode.narrow {
        return at.page().0 == LAST_PAGE_32;
    }
    const EDGE: u64 = 1 << 47;
    // Direct jumps reach 2 GiB.
    const REACH: u64 = (1 << 31) + 2 * PAGE_BYTES;
    at.0.wrapping_sub(EDGE - REACH) < REACH || at.0.wrapping_sub(EDGE.wrapping_neg()) < REACH
}

impl Stepper for Jit {
    fn free(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, until: u64) -> Exit {
        // The last jump, if the block that it goes to is to be linked with it.
        let mut pending = None;
        loop {
            if cpu.branches >= until {
                return Exit::Reached;
            }
            if cpu.look {
                pending = None;
                match self.look_around(cpu, bus) {
                    Next::Block => {}
                    Next::One => match self.interpreter.one(cpu, bus) {
                        Ok(()) => continue,
                        Err(exit) => return exit,
                    },
                    Next::Delivered => continue,
                    Next::Stop(exit) => return exit,
                }
            }
            self.see_dropped(cpu);
            let found = self.find(cpu, pending.take());
            // After the search: a page that it begins to watch may be one that
            // the fast TLB lets the block itself store to.
            self.see_dropped(cpu);
            let done = match found {
                Some(id) => self.enter(cpu, bus, id, until),
                None => {
                    self.statistics.interpreted += 1;
                    self.interpreter.block(cpu, bus).map(|()| None)
                }
            };
            match done {
                Ok(link) => pending = link,
                Err(exit) => return exit,
            }
        }
    }

    fn step(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Result<(), Exit> {
        match self.look_around(cpu, bus) {
            Next::Block | Next::One => self.interpreter.one(cpu, bus),
            Next::Delivered => Ok(()),
            Next::Stop(exit) => Err(exit),
        }
    }
}

impl Engine for Jit {
    fn run(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, until: Until) -> Exit {
        self.run_until(cpu, bus, until)
    }

    fn reset(&mut self) {
        self.interpreter.reset();
        self.blocks.reset(&mut self.region);
        self.sites.clear();
        self.windows.forget_sites();
        self.code.clear();
        self.filled.reset(&mut self.region);
        self.windows.reset(&mut self.region);
        self.roaming.clear();
        self.heat.clear();
    }

    fn counts(&self) -> Vec<Count> {
        self.statistics.counts(&self.sites, self.windows.shown())
    }
}

/// How often code was found that is not translated, by where it starts.
#[derive(Debug)]
struct Heat {
    counts: Vec<u8>,
    /// Code is translated when it is reached for this time without a
    /// translation.
    hot: u8,
}

/// A power of two.
const HEATS: usize = 1 << 16;
/// [`Heat::hot`] of a translator in use.
const HOT: u8 = 3;
/// On what terms programs have windows, and the kernel: all of its code is translated
/// anew for them, so that a start is better without.
const TERMS: [Terms; 2] = [
    Terms {
        age: 1 << 22,
        call: 1 << 13,
    },
    Terms {
        age: 1 << 29,
        call: 0,
    },
];
/// The same of an eager translator.
const EAGER_TERMS: [Terms; 2] = [Terms { age: 100, call: 0 }; 2];
/// Length in bytes of an eager translator's code memory: some hundred blocks.
const EAGER_CODE_BYTES: usize = 512 << 10;

impl Heat {
    fn new(hot: u8) -> Heat {
        let counts = vec![0; HEATS];
        Heat { counts, hot }
    }

    /// Forgets all counts.
    fn clear(&mut self) {
        self.counts.fill(0);
    }

    /// Counts one more time, and says whether that makes it hot.
    fn is_hot(&mut self, start: Physical) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "masked to the low bits")]
        let heat = &mut self.counts[(start.0 ^ start.0 >> 16) as usize % HEATS];
        *heat = heat.saturating_add(1);
        *heat >= self.hot
    }
}
