//! Translation: from a block of guest instructions to host code.
//!
//! A block becomes its entries and its body, and elsewhere the code for what is
//! rare: the ways to the helper and the jumps that aren't linked yet. One file a
//! kind of instruction; what none of them knows the interpreter executes.

mod bit;
mod bmi;
mod branch;
mod cold;
mod general;
mod memory;
mod moves;
mod multiply;
mod shift;
mod simd;
mod stack;
mod string;
mod system;
mod text;
mod window;
mod word;
mod x87;

use cpu::{Decoded, Space};
use iced_x86::{Encoder, InstructionInfoFactory, Mnemonic, OpKind};
use x86::{PAGE_BYTES, Physical};

use self::cold::Cold;
use self::window::Base;
use crate::asm::{Alu, Asm, Condition, Mem, Section};
use crate::cache::{Block, BlockId, Entries, FarEntry, Key, Second};
use crate::code::{Code, Offset};
use crate::flag::{Effect, Where, visible};
use crate::frame::at;
use crate::mapped;
use crate::register::{ADDRESS, FLAGS, INDEX, LEFT_SHIFT};
use crate::routine::{Routines, WITHOUT_AF};
use crate::site::{Operand, Site, SiteId, Sites};

/// Length in bytes of a block's host code at most: 64 instructions, each with
/// its way to the helper, take far less.
pub(crate) const CODE_BYTES_MAX: usize = 64 << 10;

/// One of the branches left, in [`FLAGS`].
const ONE_LEFT: i32 = 1 << LEFT_SHIFT;

/// Guest code to be translated.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) insns: Vec<Decoded>,
    /// The last one ends the block; otherwise execution goes on behind it.
    pub(crate) ended: bool,
    /// Of the one instruction that goes on in another page: where that lies, and
    /// its number among the pages that may be mapped.
    pub(crate) second: Option<(Physical, mapped::Number)>,
    /// It reaches for ever new pages: the fast TLB is better for it than windows.
    pub(crate) roams: bool,
    /// It is found from another page: its own page's number among those that may be
    /// mapped.
    pub(crate) far: Option<mapped::Number>,
}

/// Translates the block `line`, which is to be number `id`, and places it.
pub(crate) fn translate(
    key: Key,
    id: BlockId,
    line: &Line,
    code: &mut Code,
    sites: &mut Sites,
    routines: &Routines,
) -> Block {
    let second = line.second;
    let ended = line.ended;
    // A kernel whose user pages are open reaches for those, most of the time.
    let is_open = key.mode.space == Space::SupervisorAc;
    let has_windows = key.mode.windowed && !line.roams && !is_open;
    let far = line.far;
    let line = &line.insns[..];
    let mut info = InstructionInfoFactory::new();
    let effects: Vec<Effect> = line.iter().map(|d| Effect::of(&d.insn)).collect();
    let exits: Vec<bool> = line.iter().map(|d| may_exit(d, key)).collect();
    let mut translator = Translator {
        asm: Asm::new(code.next(Section::Hot), code.next(Section::Cold)),
        key,
        id,
        // A page's offset.
        offset: i64::try_from(key.start.0 % PAGE_BYTES).expect("below a page"),
        flags: key.flags,
        cold: Vec::new(),
        ahead: None,
        has_windows,
        window: None,
        sites,
        routines,
        encoder: Encoder::new(64),
        info: &mut info,
        visible: false,
        effect: Effect {
            reads: 0,
            writes: 0,
        },
    };
    let entries = translator.entries(
        far,
        second.map(|(_, number)| number),
        line.iter().any(|d| simd::is_known(&d.insn, key.mode)),
        line.iter().any(|d| x87::is_known(&d.insn)),
    );
    let seen = visible(&effects, &exits);
    let mut n = 0;
    while let Some(decoded) = line.get(n) {
        translator.effect = effects[n];
        translator.visible = seen[n];
        let is_last = ended && n + 1 == line.len();
        let mut done = translator.stack_run(&line[n..], ended);
        if done == 0 {
            done = translator.move_run(&line[n..]);
        }
        if done == 0 {
            translator.instruction(decoded, is_last);
        }
        let done = done.max(1);
        translator.see_bases(&line[n..n + done]);
        n += done;
    }
    if !ended {
        let end = line.last().map_or(0, |d| i64::from(d.op.end));
        translator.go(end, false);
    }
    translator.cold();
    code.place(&translator.asm);
    let bytes = line.last().map_or(0, |d| u64::from(d.op.end));
    let in_page = PAGE_BYTES - key.start.0 % PAGE_BYTES;
    Block {
        key,
        bytes: bytes.min(in_page),
        second: second.map(|(page, number)| Second {
            page,
            number,
            bytes: bytes - in_page,
        }),
        entries,
        incoming: Vec::new(),
        next: None,
    }
}

/// The way into the block at `start`, whose page is `number`, from other pages, for
/// a block that has none of its own. It expects the linear address in `rcx`, where the guest's flags are saved.
pub(crate) fn far_entry(
    start: Physical,
    number: mapped::Number,
    branch: Offset,
    code: &mut Code,
    routines: &Routines,
) -> FarEntry {
    let mut asm = Asm::new(code.next(Section::Hot), code.next(Section::Cold));
    let entry = asm.here();
    let offset = i32::try_from(start.0 % PAGE_BYTES).expect("an offset in a page");
    come_from_afar(&mut asm, offset, number, routines);
    asm.jmp_to(branch);
    code.place(&asm);
    FarEntry {
        entry,
        page: number,
    }
}

/// What a far entry does before it counts the branch: the linear address in `rcx`
/// must be `offset` bytes from where page `number` is mapped.
fn come_from_afar(asm: &mut Asm, offset: i32, number: mapped::Number, routines: &Routines) {
    asm.lea(INDEX, Mem::base(ADDRESS, -offset));
    asm.alu_load(Alu::Cmp, INDEX, Mem::frame(at::mapped(number)));
    asm.jcc_to(Condition::NOT_EQUAL, routines.lost);
    asm.store(Mem::frame(at::CODE_BASE), INDEX);
}

/// Length in bytes of a far entry at most.
pub(crate) const FAR_ENTRY_BYTES_MAX: usize = 64;

/// Whether translated code may be left at an instruction before it is done.
fn may_exit(decoded: &Decoded, key: Key) -> bool {
    let insn = &decoded.insn;
    let touches_memory =
        (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory) && !general::is_lea(insn);
    let is_known = general::is_known(insn)
        || simd::is_known(insn, key.mode)
        || bmi::is_known(insn, key.mode)
        || system::is_known(insn, key.mode)
        || key.mode.x87 && x87::is_known(insn);
    touches_memory || !is_known
}

struct Translator<'a> {
    asm: Asm,
    key: Key,
    id: BlockId,
    /// Where the block starts, from the start of the page.
    offset: i64,
    /// Where the guest's flags are, at the present place.
    flags: Where,
    cold: Vec<Cold>,
    /// Of `cold`, whose access by a window is still ahead.
    ahead: Option<usize>,
    /// Whether memory is reached by windows at present.
    has_windows: bool,
    /// Whose window [`INDEX`] leads to, unless it has changed.
    window: Option<Base>,
    sites: &'a mut Sites,
    routines: &'a Routines,
    encoder: Encoder,
    info: &'a mut InstructionInfoFactory,
    /// Whether anyone may see the flags as the present instruction leaves them.
    visible: bool,
    /// What the present instruction does to the flags.
    effect: Effect,
}

impl Translator<'_> {
    /// The ways in.
    fn entries(
        &mut self,
        far: Option<mapped::Number>,
        second: Option<mapped::Number>,
        has_simd: bool,
        has_x87: bool,
    ) -> Entries {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an offset in a page"
        )]
        let offset = self.offset as u16;
        self.asm.go_to(Section::Cold);
        let mut stop = self.asm.here();
        let site = self.sites.add(Site::Stop { offset });
        self.leave(site, self.flags);
        self.asm.go_to(Section::Hot);
        if self.flags != Where::Saved {
            // JECXZ doesn't reach far.
            let near = self.asm.here();
            self.asm.jmp_to(stop);
            stop = near;
        }
        // Here it falls into the way from its own page.
        let far = far.map(|page| {
            let entry = self.asm.here();
            come_from_afar(&mut self.asm, i32::from(offset), page, self.routines);
            FarEntry { entry, page }
        });
        let branch = self.asm.here();
        self.count(stop);
        let plain = self.asm.here();
        if let Some(number) = second {
            self.see_second_page(number, site);
        }
        if has_simd {
            self.asm.load(ADDRESS, Mem::frame(at::SIMD_ABSENT));
            let present = self.asm.jrcxz();
            self.asm.call_to(self.routines.load_simd);
            self.asm.bind_near(present);
        }
        if has_x87 && self.key.mode.x87 {
            self.enter_x87();
        }
        Entries { far, branch, plain }
    }

    /// Counts a branch; goes to `stop` if it was the last.
    fn count(&mut self, stop: Offset) {
        if self.flags == Where::Saved {
            self.asm.alu_constant(Alu::Sub, FLAGS, ONE_LEFT);
            self.asm.jcc_to(Condition::BELOW, stop);
            return;
        }
        // No flag is touched. What comes above those left makes no difference.
        if self.routines.has_bmi2 {
            self.asm.rorx(ADDRESS, FLAGS, LEFT_SHIFT);
        } else {
            self.asm.store(Mem::frame(at::TEMP), FLAGS);
            let left = at::TEMP + i32::from(LEFT_SHIFT) / 8;
            self.asm.load_32(ADDRESS, Mem::frame(left));
        }
        self.asm.lea(FLAGS, Mem::base(FLAGS, -ONE_LEFT));
        self.asm.jecxz_to(stop);
    }

    /// Goes on only while page `number` is mapped behind the block's own; leaves
    /// at `site` otherwise.
    fn see_second_page(&mut self, number: mapped::Number, site: SiteId) {
        self.save_flags();
        self.clobber_flags();
        self.asm.load(INDEX, Mem::frame(at::CODE_BASE));
        let page = i32::try_from(PAGE_BYTES).expect("a page is small");
        self.asm.lea(INDEX, Mem::base(INDEX, page));
        self.asm
            .alu_load(Alu::Cmp, INDEX, Mem::frame(at::mapped(number)));
        let elsewhere = self.asm.jcc(Condition::NOT_EQUAL);
        self.asm.go_to(Section::Cold);
        self.asm.bind(elsewhere);
        self.leave(site, Where::Saved);
        self.asm.go_to(Section::Hot);
    }

    fn instruction(&mut self, decoded: &Decoded, is_last: bool) {
        let done = if !self.has_open_segment(&decoded.insn) {
            false
        } else if is_last {
            self.branch(decoded)
        } else {
            self.general(decoded)
                || self.shift(decoded)
                || self.multiply(decoded)
                || self.stack(decoded)
                || self.system(decoded)
                || self.string(decoded)
                || self.bit_string(decoded)
                || self.compare_exchange_16(decoded)
                || self.bmi(decoded)
                || self.simd(decoded)
                || self.x87(decoded)
        };
        if !done {
            self.interpret(decoded, is_last);
        }
    }

    /// The interpreter executes the instruction, always.
    fn interpret(&mut self, decoded: &Decoded, is_last: bool) {
        let site = self.slow_site(decoded, Operand::None, false, is_last);
        self.call_helper(site);
    }

    fn call_helper(&mut self, site: SiteId) {
        self.asm.store_constant_32(Mem::frame(at::SITE), site);
        self.asm.call_to(self.routines.slow(self.flags));
        self.flags = Where::Both;
    }

    /// The helper executes a PUSH, a POP or a RET, which windows were missed for.
    fn by_helper(&mut self, decoded: &Decoded) {
        let (operand, is_last) = match decoded.insn.mnemonic() {
            Mnemonic::Push => (Operand::Push, false),
            mnemonic => (Operand::Pop, mnemonic == Mnemonic::Ret),
        };
        let site = self.slow_site(decoded, operand, true, is_last);
        self.call_helper(site);
    }

    fn slow_site(
        &mut self,
        decoded: &Decoded,
        operand: Operand,
        by_window: bool,
        is_last: bool,
    ) -> SiteId {
        let block_offset = u16::try_from(self.offset).expect("an offset in a page");
        self.sites.add(Site::Slow {
            op: decoded.op.clone(),
            code: decoded.insn.code(),
            block: self.id,
            block_offset,
            operand,
            by_window,
            is_last,
        })
    }

    /// Leaves translated code at `site`.
    fn leave(&mut self, site: SiteId, flags: Where) {
        self.asm.store_constant_32(Mem::frame(at::SITE), site);
        self.asm.jmp_to(self.routines.leave(flags));
    }

    /// Saves the flags, so that the host's may be used.
    fn save_flags(&mut self) {
        match self.flags {
            Where::Host => {
                self.asm.lahf();
                self.asm.seto_al();
                self.flags = Where::Both;
            }
            Where::HostWithoutAf => {
                self.asm.lahf();
                self.asm.seto_al();
                self.asm.and_ah(WITHOUT_AF);
                self.flags = Where::Saved;
            }
            Where::Saved | Where::Both | Where::Dead => {}
        }
    }

    /// The host's flags have been used for something else.
    fn clobber_flags(&mut self) {
        if self.flags == Where::Both {
            self.flags = Where::Saved;
        }
        debug_assert!(!matches!(self.flags, Where::Host | Where::HostWithoutAf));
    }

    /// Brings the flags to where code that goes on elsewhere expects them.
    fn flags_to(&mut self, place: Where) {
        match (self.flags, place) {
            (_, Where::Dead) => {}
            (_, Where::Saved) => self.save_flags(),
            (Where::Saved, Where::Host | Where::HostWithoutAf | Where::Both) => {
                self.asm.add_al(0x7f);
                self.asm.sahf();
                self.asm.seto_al();
            }
            (_, Where::Both) => self.save_flags(),
            (_, Where::Host | Where::HostWithoutAf) => {}
        }
    }

    /// Brings the flags into the host's. They stay saved, unless the present
    /// instruction writes any.
    fn restore_flags(&mut self) {
        if self.flags == Where::Saved {
            self.asm.add_al(0x7f);
            self.asm.sahf();
            if self.effect.writes == 0 {
                self.asm.seto_al();
                self.flags = Where::Both;
            } else {
                self.flags = Where::Host;
            }
        }
    }

    /// Before the present instruction, which is about to run on the host's
    /// flags: brings there what it reads or leaves alone.
    fn flags_before(&mut self) {
        let Effect { reads, writes } = self.effect;
        let keeps_some = writes != 0 && !self.effect.is_complete() && self.visible;
        if reads != 0 || keeps_some {
            self.restore_flags();
            let place = self.flags;
            if let Some(n) = self.ahead
                && let Cold::Slow { flags, .. } = &mut self.cold[n]
            {
                *flags = place;
            }
        }
    }

    /// After the present instruction, which has run on the host's flags.
    fn flags_after(&mut self) {
        if self.effect.writes == 0 {
            return;
        }
        let af_is_stale = self.flags == Where::HostWithoutAf
            && self.effect.writes & iced_x86::RflagsBits::AF == 0;
        self.flags = match (self.visible, af_is_stale) {
            (false, _) => Where::Dead,
            (true, true) => Where::HostWithoutAf,
            (true, false) => Where::Host,
        };
    }
}

#[cfg(test)]
mod tests;
