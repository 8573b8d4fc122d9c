//! The places where translated code calls for Rust code: each has a number,
//! which translated code leaves in the frame.

use cpu::Op;
use iced_x86::Code;

use crate::cache::BlockId;
use crate::code::Offset;
use crate::fault::Way;
use crate::flag::Where;

/// A site's number.
pub(crate) type SiteId = u32;

/// Which address an instruction looked up in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// None: the interpreter executes it always.
    None,
    /// Its memory operand's.
    Memory,
    /// The word below the stack pointer.
    Push,
    /// The word at the stack pointer.
    Pop,
    /// The word at this guest register.
    Register(u8),
}

/// A place where translated code calls for Rust code.
#[derive(Clone, Debug)]
pub(crate) enum Site {
    /// The interpreter executes this instruction.
    Slow {
        /// The instruction.
        op: Op,
        /// Which encoding it is.
        code: Code,
        /// The block that it is in.
        block: BlockId,
        /// Where its block starts, from the start of the page.
        block_offset: u16,
        /// What it looked up.
        operand: Operand,
        /// By a window, not by the fast TLB.
        by_window: bool,
        /// It ends its block: it sets `rip` itself.
        is_last: bool,
    },
    /// A jump to a block that it isn't linked with yet.
    Link(Link),
    /// The branch count is reached at the start of the block at this offset.
    Stop {
        /// From the start of the page.
        offset: u16,
    },
    /// The guest's x87 unit is to be brought into the host's.
    LoadX87,
    /// A jump to the address in [`crate::frame::Frame::temp`], whose block isn't
    /// known, or isn't mapped there any more: the first site of all.
    Indirect,
}

/// A jump that can be linked with the block it goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// The block that it is in.
    pub(crate) from: BlockId,
    /// Where it goes, from the start of the page.
    pub(crate) target: i64,
    /// To another page: by the block's far entry.
    pub(crate) is_far: bool,
    /// Where the guest's flags are.
    pub(crate) flags: Where,
    /// Whether that has windows.
    pub(crate) windowed: bool,
    /// Whether a branch retires.
    pub(crate) is_branch: bool,
    /// Its displacement.
    pub(crate) jump: Offset,
    /// Where it goes while it isn't linked.
    pub(crate) stub: Offset,
}

/// All sites since code memory was last cleared.
#[derive(Debug)]
pub(crate) struct Sites {
    all: Vec<Site>,
    /// Where faults in windows go on, ascending.
    pub(crate) ways: Vec<Way>,
}

/// The one [`Site::Indirect`].
pub(crate) const INDIRECT: SiteId = 0;

impl Default for Sites {
    fn default() -> Sites {
        Sites {
            all: vec![Site::Indirect],
            ways: Vec::new(),
        }
    }
}

impl Sites {
    /// The number that the next site gets.
    pub(crate) fn next(&self) -> SiteId {
        SiteId::try_from(self.all.len()).expect("code memory is full long before")
    }

    /// Adds a site.
    pub(crate) fn add(&mut self, site: Site) -> SiteId {
        let id = self.next();
        self.all.push(site);
        id
    }

    /// Site `id`.
    pub(crate) fn get(&self, id: SiteId) -> &Site {
        &self.all[id as usize]
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Site> {
        self.all.iter()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Sites::default();
    }
}
