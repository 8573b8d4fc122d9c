//! Runs of moves off one base register: fields of one structure, words of one
//! stack frame, a copy's loads and then its stores. They have one lookup for
//! all, as PUSHes and POPs have; where it fails, each has its own. With windows
//! there is nothing to share but what is kept anyway.

use cpu::Decoded;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::general::{self, Rewritten, rewrite};
use super::memory::{Access, FORM};
use super::{Translator, simd};

/// Length in bytes at most of what a run touches.
const SPAN_MAX: i64 = 128;

impl Translator<'_> {
    /// A run of moves. Returns how many instructions it has done; 0: there is
    /// none.
    pub(super) fn move_run(&mut self, line: &[Decoded]) -> usize {
        let first = line.first().filter(|_| !self.has_windows);
        let Some(base) = first.and_then(|first| self.base_of_move(&first.insn)) else {
            return 0;
        };
        let (mut low, mut high, mut write) = (i64::MAX, i64::MIN, false);
        let mut count = 0;
        for decoded in line {
            let insn = &decoded.insn;
            if self.base_of_move(insn) != Some(base) {
                break;
            }
            let start = insn.memory_displacement64().cast_signed();
            let end = start + i64::try_from(insn.memory_size().size()).expect("32 at most");
            if high.max(end) - low.min(start) > SPAN_MAX {
                break;
            }
            (low, high) = (low.min(start), high.max(end));
            write |= insn.op_kind(0) == OpKind::Memory;
            count += 1;
            let moves_base =
                insn.op_kind(0) == OpKind::Register && insn.op_register(0).full_register() == base;
            if moves_base {
                break;
            }
        }
        let run = &line[..count];
        let again: Option<Vec<Rewritten>> = run.iter().map(|d| self.from(d, low)).collect();
        match again {
            Some(again) if count > 1 => {
                let bytes = u8::try_from(high - low).expect("SPAN_MAX is small");
                let access = Access {
                    bytes,
                    write,
                    aligned: false,
                };
                self.moves(run, &again, (base, low), access);
                count
            }
            _ => 0,
        }
    }

    /// `decoded` for the host, its memory operand relative to `rcx`, which holds
    /// the place `low` bytes from the base register.
    fn from(&mut self, decoded: &Decoded, low: i64) -> Option<Rewritten> {
        let disp = decoded.insn.memory_displacement64().cast_signed() - low;
        let (mem, spare) = FORM;
        let mem = mem.plus(i32::try_from(disp).ok()?);
        rewrite(&mut self.encoder, self.info, &decoded.insn, mem, spare)
    }

    fn moves(
        &mut self,
        run: &[Decoded],
        again: &[Rewritten],
        (base, low): (Register, i64),
        access: Access,
    ) {
        let low = i32::try_from(low).expect("a displacement of 32 bits");
        let lowest = self.reach(base, low, access);
        let slow = self.slow_run(run.to_vec(), lowest.missed);
        for rewritten in again {
            rewritten.load(&mut self.asm);
            self.asm.raw(&rewritten.bytes);
            rewritten.store(&mut self.asm);
        }
        self.resume(&slow);
    }

    /// The base register of a move from or to memory, if that alone and a
    /// displacement make its address.
    fn base_of_move(&self, insn: &Instruction) -> Option<Register> {
        use Mnemonic as M;
        let has_memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
        let base = insn.memory_base();
        let is_plain = has_memory
            && base.is_gpr64()
            && insn.memory_index() == Register::None
            && !matches!(insn.memory_segment(), Register::FS | Register::GS);
        let is_move = match insn.mnemonic() {
            M::Mov | M::Movzx | M::Movsx | M::Movsxd => {
                general::is_known(insn) && !general::has_second_byte(insn)
            }
            M::Movups | M::Movdqu | M::Movss | M::Movsd | M::Movq | M::Movd => {
                simd::is_known(insn, self.key.mode)
            }
            _ => false,
        };
        (is_plain && is_move).then_some(base)
    }
}
