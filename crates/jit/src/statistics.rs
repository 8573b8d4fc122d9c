//! Where guest time goes: counts that are kept only where translated code is
//! left anyway, so that they cost nothing in it.

use std::collections::BTreeMap;

use cpu::{Count, Dropped};
use iced_x86::Code;

use crate::site::{Operand, Site, SiteId, Sites};

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Stays in translated code.
    pub(crate) stays: u64,
    /// Blocks that the interpreter executed because they were cold or can't be
    /// translated.
    pub(crate) interpreted: u64,
    /// Blocks translated, and their guest instructions and bytes of host code.
    pub(crate) blocks: u64,
    pub(crate) instructions: u64,
    pub(crate) code_bytes: u64,
    /// Code memory was cleared.
    pub(crate) clears: u64,
    /// Writes that made translated blocks stale.
    pub(crate) invalidations: u64,
    /// Stays that ended at a jump that wasn't linked yet.
    pub(crate) links: u64,
    /// Stays that ended at a jump whose target the jump cache did not know, or
    /// whose page was mapped elsewhere.
    pub(crate) far: u64,
    /// How often the helper found the next block itself.
    pub(crate) went_on: u64,
    /// Stays that ended because the branch count was reached.
    pub(crate) stops: u64,
    /// Stays that the helper ended.
    pub(crate) left: u64,
    /// Stays that ended with a fault or an interruption of a repetition.
    pub(crate) traps: u64,
    /// Changes of mappings: of everything, of the lower half, of ranges.
    pub(crate) dropped: [u64; 3],
    /// How often each site called for the helper, by its number.
    hits: Vec<u32>,
    /// The same of sites that are gone, by what they called for.
    past: BTreeMap<Called, u64>,
}

/// What the helper was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Called {
    /// The fast TLB did not know the page.
    Miss,
    /// A RET, whose target the jump cache did not know.
    Return,
    /// An instruction, by its number in `Code`.
    Instruction(u16),
}

impl Statistics {
    /// `site` has called for the helper.
    pub(crate) fn hit(&mut self, site: SiteId) {
        let site = site as usize;
        if self.hits.len() <= site {
            self.hits.resize(site + 1, 0);
        }
        self.hits[site] = self.hits[site].saturating_add(1);
    }

    /// The processor's soft TLB has dropped something.
    pub(crate) fn dropped(&mut self, dropped: &Dropped) {
        self.dropped[0] += u64::from(dropped.all);
        self.dropped[1] += u64::from(dropped.low || dropped.left);
        self.dropped[2] += dropped.ranges.len() as u64;
    }

    /// The sites are about to be forgotten.
    pub(crate) fn sites_go(&mut self, sites: &Sites) {
        self.past = self.calls(sites);
        self.hits.clear();
    }

    fn calls(&self, sites: &Sites) -> BTreeMap<Called, u64> {
        let mut calls = self.past.clone();
        for (site, &hits) in sites.iter().zip(&self.hits) {
            if let Site::Slow {
                operand,
                code,
                is_last,
                ..
            } = site
            {
                let called = match operand {
                    Operand::None => Called::Instruction(*code as u16),
                    Operand::Pop if *is_last => Called::Return,
                    _ => Called::Miss,
                };
                *calls.entry(called).or_default() += u64::from(hits);
            }
        }
        calls
    }

    /// All counts, with what they count. `shown`: pages shown in windows.
    pub(crate) fn counts(&self, sites: &Sites, shown: u64) -> Vec<Count> {
        let count = |what: &str, count: u64| Count {
            what: what.to_owned(),
            count,
        };
        let mut counts = vec![
            count("blocks interpreted", self.interpreted),
            count("blocks translated", self.blocks),
            count("instructions translated", self.instructions),
            count("bytes of host code", self.code_bytes),
            count("code memory cleared", self.clears),
            count("writes to translated code", self.invalidations),
            count("mappings dropped: all", self.dropped[0]),
            count("mappings dropped: lower half", self.dropped[1]),
            count("mappings dropped: ranges", self.dropped[2]),
            count("pages shown in windows", shown),
            count("stays in translated code", self.stays),
            count("gone on with another block by the helper", self.went_on),
            count("left: jump not linked yet", self.links),
            count("left: computed jump not known", self.far),
            count("left: branch count reached", self.stops),
            count("left: by an instruction", self.left),
            count("left: fault", self.traps),
        ];
        let mut calls: Vec<_> = self.calls(sites).into_iter().collect();
        calls.sort_by_key(|&(_, hits)| std::cmp::Reverse(hits));
        for (called, hits) in calls.into_iter().filter(|&(_, hits)| hits > 0) {
            let what = match called {
                Called::Miss => "helper: page not known".to_owned(),
                Called::Return => "helper: return not known".to_owned(),
                Called::Instruction(number) => {
                    let code = Code::try_from(usize::from(number));
                    format!("helper: {:?}", code.unwrap_or(Code::INVALID))
                }
            };
            counts.push(Count { what, count: hits });
        }
        counts
    }
}
