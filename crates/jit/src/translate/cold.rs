//! The code for what is rare: the ways to the helper and back, and the jumps that
//! aren't linked yet. It is placed apart from the rest of its block, and reached by
//! jumps, or by faults where an access is made by a window.

use cpu::{Decoded, Space};
use iced_x86::Mnemonic;

use super::Translator;
use super::window::Base;
use crate::asm::{Fix, Section};
use crate::code::Offset;
use crate::fault::Way;
use crate::flag::{Effect, Where};
use crate::site::{Link, Operand, Site, SiteId};

/// Code that is rare, to be placed behind the block.
pub(super) enum Cold {
    /// The helper executes an instruction.
    Slow {
        missed: Missed,
        site: SiteId,
        /// Where the flags are when it is missed.
        flags: Where,
        /// Where translated code goes on; `None`: it is left.
        resume: Option<Resume>,
    },
    /// Of PUSHes, POPs and the RET behind them, or of moves, for which one lookup
    /// was made in vain, each has a lookup of its own.
    Run {
        missed: Missed,
        run: Vec<Decoded>,
        flags: Where,
        /// [`crate::cache::Mode::space`] there.
        space: Space,
        /// Where translated code goes on; `None` behind a RET.
        resume: Option<Resume>,
    },
    /// A jump that is not linked yet.
    Link {
        jump: Fix,
        target: i64,
        is_far: bool,
        flags: Where,
        is_branch: bool,
    },
    /// A conditional jump to another page.
    Far {
        jump: Fix,
        offset: i64,
        flags: Where,
    },
}

/// Where translated code goes on, and what it expects there.
pub(super) struct Resume {
    at: Offset,
    flags: Where,
    window: Option<Base>,
}

/// How code for what is rare is reached.
pub(super) struct Missed {
    pub(super) jumps: Vec<Fix>,
    /// By faults, too, from here to there: where an access is made by a window.
    /// `None` as end: up to the end of the block.
    pub(super) faults: Option<(Offset, Option<Offset>)>,
}

impl From<Vec<Fix>> for Missed {
    fn from(jumps: Vec<Fix>) -> Missed {
        Missed {
            jumps,
            faults: None,
        }
    }
}

/// A way to the helper.
pub(super) struct Slow(usize);

impl Translator<'_> {
    /// The helper does what `decoded` is, where one of `jumps` is taken. The
    /// flags are saved there.
    pub(super) fn slow(
        &mut self,
        decoded: &Decoded,
        operand: Operand,
        is_last: bool,
        missed: impl Into<Missed>,
    ) -> Slow {
        let missed = missed.into();
        let site = self.slow_site(decoded, operand, missed.faults.is_some(), is_last);
        let n = self.cold.len();
        let flags = if missed.faults.is_some() {
            self.ahead = Some(n);
            self.flags
        } else {
            Where::Saved
        };
        self.cold.push(Cold::Slow {
            missed,
            site,
            flags,
            resume: None,
        });
        Slow(n)
    }

    /// The instructions of `run` have a lookup each, where the one for all is
    /// made in vain.
    pub(super) fn slow_run(&mut self, run: Vec<Decoded>, missed: Missed) -> Slow {
        self.cold.push(Cold::Run {
            missed,
            run,
            flags: self.flags,
            space: self.key.mode.space,
            resume: None,
        });
        Slow(self.cold.len() - 1)
    }

    /// After the helper has done it, translated code goes on here.
    pub(super) fn resume(&mut self, slow: &Slow) {
        self.ahead = None;
        let at = self.asm.here();
        let (Cold::Slow { missed, resume, .. } | Cold::Run { missed, resume, .. }) =
            &mut self.cold[slow.0]
        else {
            unreachable!("a jump has no way back");
        };
        *resume = Some(Resume {
            at,
            flags: self.flags,
            window: self.window.filter(|_| self.asm.has_kept_index()),
        });
        if let Some((_, end)) = &mut missed.faults {
            *end = Some(at);
        }
    }

    /// The code for what is rare.
    pub(super) fn cold(&mut self) {
        let end = self.asm.here();
        self.has_windows = false;
        self.asm.go_to(Section::Cold);
        for cold in std::mem::take(&mut self.cold) {
            match cold {
                Cold::Slow {
                    missed,
                    site,
                    flags,
                    resume,
                } => {
                    self.arrive(missed, end);
                    self.flags = flags;
                    self.call_helper(site);
                    self.go_on(resume);
                }
                Cold::Run {
                    missed,
                    run,
                    flags,
                    space,
                    resume,
                } => {
                    self.key.mode.space = space;
                    let is_fault = missed.faults.is_some();
                    self.arrive(missed, end);
                    self.flags = flags;
                    self.effect = Effect {
                        reads: 0,
                        writes: 0,
                    };
                    for decoded in &run {
                        if is_fault {
                            self.by_helper(decoded);
                        } else {
                            self.instruction(decoded, decoded.insn.mnemonic() == Mnemonic::Ret);
                        }
                    }
                    self.go_on(resume);
                }
                Cold::Link {
                    jump,
                    target,
                    is_far,
                    flags,
                    is_branch,
                } => {
                    self.asm.bind(jump);
                    let site = self.sites.add(Site::Link(Link {
                        from: self.id,
                        target,
                        is_far,
                        flags,
                        windowed: self.key.mode.windowed,
                        is_branch,
                        jump: self.asm.offset_of(jump),
                        stub: self.asm.here(),
                    }));
                    self.leave(site, flags);
                }
                Cold::Far {
                    jump,
                    offset,
                    flags,
                } => {
                    self.asm.bind(jump);
                    self.flags = flags;
                    self.far(offset);
                }
            }
        }
        // Those that far jumps and runs have added.
        if !self.cold.is_empty() {
            self.cold();
        }
    }

    /// Code for what is rare goes on at `resume`, as that expects it.
    fn go_on(&mut self, resume: Option<Resume>) {
        let Some(Resume { at, flags, window }) = resume else {
            return;
        };
        self.flags_to(flags);
        if let Some(base) = window {
            self.reload_window(base);
        }
        self.asm.jmp_to(at);
    }

    /// Code for what is rare begins here. The block's other code ends at `end`.
    fn arrive(&mut self, missed: Missed, end: Offset) {
        missed
            .jumps
            .into_iter()
            .for_each(|jump| self.asm.bind(jump));
        if let Some((from, to)) = missed.faults {
            self.sites.ways.push(Way {
                start: from,
                end: to.unwrap_or(end),
                to: self.asm.here(),
            });
        }
    }
}
