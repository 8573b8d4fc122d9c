//! Memory by windows ([`crate::window`]). What leads from a base register to its
//! window is kept in [`INDEX`] as long as nothing else needs that: neighbouring
//! accesses off one base share it.

use cpu::Decoded;
use iced_x86::{Instruction, Mnemonic, OpAccess, OpKind, Register};

use super::Translator;
use super::cold::Missed;
use crate::asm::Mem;
use crate::frame::at;
use crate::register::{ADDRESS, FRAME, Host, INDEX};
use crate::window::Side;

/// What an address is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// A guest register of 64 bits.
    Register(Register),
    /// The page that the block lies in.
    Code,
    /// Whatever it is: 32-bit code has one window.
    Any,
}

/// What a base register may move by without another look at its chunk: all
/// instructions of a block together move it by less than there is room around a
/// window.
const LITTLE: u64 = 1 << 20;

impl Translator<'_> {
    /// The host register that holds `base`; `rcx`, with its value, if none does.
    fn base(&mut self, base: Base) -> Host {
        match base {
            Base::Register(register) => self.in_host(register, ADDRESS),
            Base::Code => {
                self.asm.load(ADDRESS, Mem::frame(at::CODE_BASE));
                ADDRESS
            }
            Base::Any => ADDRESS,
        }
    }

    /// Loads [`INDEX`] with what leads from the linear address in `base` to its
    /// window. Leaves flags alone.
    fn lead_to_window(&mut self, base: Host) {
        if self.key.mode.narrow {
            self.asm.load(INDEX, Mem::frame(at::chunks(Side::User)));
            return;
        }
        self.asm.shrx(INDEX, base, FRAME);
        let chunks = at::chunks(Side::of(self.key.mode.space));
        let to_host = Mem::indexed(Some(FRAME), INDEX, 3, chunks);
        self.asm.load(INDEX, to_host);
    }

    /// Sees that [`INDEX`] leads from `base`, which is in `host`, to its window, and
    /// notes that it does.
    fn keep_window(&mut self, base: Base, host: Host) {
        if self.window != Some(base) || !self.asm.has_kept_index() {
            self.lead_to_window(host);
            self.asm.keep_index();
            self.window = Some(base);
        }
    }

    /// Leads from `base` to its window again, with which [`INDEX`] was loaded before.
    pub(super) fn reload_window(&mut self, base: Base) {
        let host = self.base(base);
        self.lead_to_window(host);
    }

    /// What lies `disp` bytes from `base`, in its window. Uses [`INDEX`], and
    /// `rcx` where no host register holds the base. Leaves flags alone.
    pub(super) fn in_window(&mut self, base: Base, disp: i32) -> Mem {
        let host = self.base(base);
        self.keep_window(base, host);
        // The window has room around it for a displacement.
        Mem::indexed(Some(host), INDEX, 0, disp)
    }

    /// What lies at the linear address in `rcx`, in its window. Uses [`INDEX`];
    /// leaves flags alone.
    pub(super) fn address_in_window(&mut self) -> Mem {
        if self.key.mode.narrow {
            self.keep_window(Base::Any, ADDRESS);
        } else {
            self.lead_to_window(ADDRESS);
            self.window = None;
        }
        Mem::indexed(Some(ADDRESS), INDEX, 0, 0)
    }

    /// After the instructions of `done`: [`INDEX`] leads to the window of a base
    /// register that is still the same, or has moved by a little.
    pub(super) fn see_bases(&mut self, done: &[Decoded]) {
        if let Some(Base::Register(base)) = self.window
            && done
                .iter()
                .any(|decoded| self.may_move_far(&decoded.insn, base))
        {
            self.window = None;
        }
    }

    /// Whether `insn` may put into `base` anything but its value and a small
    /// number.
    fn may_move_far(&mut self, insn: &Instruction, base: Register) -> bool {
        let used = self.info.info(insn).used_registers();
        let is_written = used.iter().any(|used| {
            used.register().full_register() == base
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
        });
        let moves_stack = matches!(
            insn.mnemonic(),
            Mnemonic::Push | Mnemonic::Pop | Mnemonic::Call | Mnemonic::Ret
        );
        let pops_itself = insn.op_kind(0) == OpKind::Register
            && insn.op_register(0).full_register() == base
            && insn.mnemonic() == Mnemonic::Pop;
        let adds_little = matches!(insn.mnemonic(), Mnemonic::Add | Mnemonic::Sub)
            && insn.op_kind(0) == OpKind::Register
            && insn.op_register(0) == base
            && matches!(
                insn.op_kind(1),
                OpKind::Immediate8to64 | OpKind::Immediate32to64
            )
            && insn.immediate(1).cast_signed().unsigned_abs() <= LITTLE;
        let is_little = moves_stack && base == Register::RSP && !pops_itself || adds_little;
        is_written && !is_little
    }

    /// The access that comes next is made by a window.
    pub(super) fn faults_from_here(&self) -> Missed {
        Missed {
            jumps: Vec::new(),
            faults: Some((self.asm.here(), None)),
        }
    }

    /// Base and displacement, where nothing else makes the address of `insn`'s
    /// memory operand.
    pub(super) fn plain_base(&self, insn: &Instruction) -> Option<(Base, i32)> {
        if matches!(insn.memory_segment(), Register::FS | Register::GS)
            || insn.memory_index() != Register::None
        {
            return None;
        }
        let displacement = insn.memory_displacement64().cast_signed();
        let base = insn.memory_base();
        let (base, disp) = if base == Register::RIP {
            (Base::Code, displacement + self.offset)
        } else if base.is_gpr64() {
            (Base::Register(base), displacement)
        } else {
            return None;
        };
        Some((base, i32::try_from(disp).ok()?))
    }
}
