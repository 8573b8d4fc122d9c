//! PCMPISTRI and its kin: text in XMM registers or memory is looked through. Their
//! index goes to the host's `ecx`, the lengths come from its `rax` and `rdx`.

use cpu::Decoded;
use iced_x86::{Instruction, Mnemonic};

use super::Translator;
use super::general::rewrite;
use super::memory::FORM;
use crate::register::{ACCUMULATOR, ADDRESS, COUNTER, FLAGS, INDEX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    /// The lengths are in registers; otherwise text ends at a zero.
    explicit: bool,
    /// The result is an index; otherwise a mask in XMM0.
    index: bool,
}

fn kind(insn: &Instruction) -> Option<Kind> {
    use Mnemonic as M;
    let (explicit, index) = match insn.mnemonic() {
        M::Pcmpistri | M::Vpcmpistri => (false, true),
        M::Pcmpistrm | M::Vpcmpistrm => (false, false),
        M::Pcmpestri | M::Pcmpestri64 | M::Vpcmpestri | M::Vpcmpestri64 => (true, true),
        M::Pcmpestrm | M::Pcmpestrm64 | M::Vpcmpestrm | M::Vpcmpestrm64 => (true, false),
        _ => return None,
    };
    Some(Kind { explicit, index })
}

/// Whether it is one of these.
pub(super) fn is_known(insn: &Instruction) -> bool {
    kind(insn).is_some()
}

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn text(&mut self, decoded: &Decoded) -> bool {
        let Some(Kind { explicit, index }) = kind(&decoded.insn) else {
            return false;
        };
        if explicit {
            return self.explicit_text(decoded, index);
        }
        self.again_with(decoded, false, |translator, _| {
            translator.text_found(index);
        })
    }

    /// What is in memory is read before the host's `rax` is lent.
    fn explicit_text(&mut self, decoded: &Decoded, index: bool) -> bool {
        let (mem, spare) = FORM;
        let found = rewrite(&mut self.encoder, self.info, &decoded.insn, mem, spare);
        let Some(rewritten) = found else {
            return false;
        };
        let slow = rewritten.access.map(|access| {
            let slow = self.operand_at(decoded, access, mem);
            // All sixteen bytes are there, or the helper is called.
            self.asm.load(INDEX, mem);
            self.asm.load(INDEX, mem.plus(8));
            slow
        });
        self.asm.mov(INDEX, FLAGS);
        self.asm.mov(FLAGS, ACCUMULATOR);
        self.asm.raw(&rewritten.bytes);
        self.asm.mov(FLAGS, INDEX);
        self.text_found(index);
        if let Some(slow) = slow {
            self.resume(&slow);
        }
        true
    }

    /// The host has looked through text.
    fn text_found(&mut self, index: bool) {
        if index {
            self.asm.mov_32(COUNTER, ADDRESS);
        }
        self.flags_after();
    }
}
