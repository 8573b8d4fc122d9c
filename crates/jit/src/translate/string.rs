//! REP STOS and REP MOVS that stay in their pages: two lookups at most, and the
//! host's own instruction. What goes further, or downwards, the helper does.

use cpu::Decoded;
use iced_x86::{Code, OpKind, Register};
use x86::{PAGE_BYTES, flags, gpr};

use super::Translator;
use super::memory::Access;
use crate::asm::{Alu, Condition, Fix, Mem};
use crate::frame::at;
use crate::register::{ACCUMULATOR, ADDRESS, COUNTER, FLAGS, Host, INDEX};
use crate::site::Operand;

/// `rsi` and `rdi` on both sides.
const SOURCE: Host = Host(6);
const TARGET: Host = Host(7);

#[expect(clippy::cast_possible_truncation, reason = "a page is small")]
const PAGE: i32 = PAGE_BYTES as i32;

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn string(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        // An element's length, as a scale.
        let (is_move, scale) = match insn.code() {
            Code::Stosb_m8_AL => (false, 0),
            Code::Stosd_m32_EAX => (false, 2),
            Code::Stosq_m64_RAX => (false, 3),
            Code::Movsb_m8_m8 => (true, 0),
            Code::Movsd_m32_m32 => (true, 2),
            Code::Movsq_m64_m64 => (true, 3),
            _ => return false,
        };
        let target = if self.key.mode.narrow {
            OpKind::MemoryESEDI
        } else {
            OpKind::MemoryESRDI
        };
        let is_plain = insn.has_rep_prefix()
            && insn.op0_kind() == target
            && !matches!(
                insn.memory_segment(),
                Register::CS | Register::FS | Register::GS
            );
        if !is_plain {
            return false;
        }
        self.save_flags();
        self.clobber_flags();
        let mut jumps = self.bounds();
        if self.key.mode.narrow {
            jumps.push(self.upper_halves(is_move));
        }
        jumps.push(self.page_end(TARGET, scale));
        if is_move {
            jumps.push(self.page_end(SOURCE, scale));
        }
        self.asm.mov(ADDRESS, TARGET);
        jumps.extend(self.look_up(byte(true)));
        let target = self.slow(decoded, Operand::Register(gpr::RDI), false, jumps);
        let source = is_move.then(|| {
            self.asm.store(Mem::frame(at::TEMP), ADDRESS);
            self.asm.mov(ADDRESS, SOURCE);
            let jumps = self.look_up(byte(false));
            self.slow(decoded, Operand::Register(gpr::RSI), false, jumps)
        });
        if is_move {
            self.move_string(scale);
        } else {
            self.store_string(scale);
        }
        self.asm.constant(COUNTER, 0);
        self.resume(&target);
        if let Some(source) = source {
            self.resume(&source);
        }
        true
    }

    /// Sees that it goes upwards, and not so far that a sum could overflow. Returns
    /// the jumps that are taken where it doesn't.
    fn bounds(&mut self) -> Vec<Fix> {
        #[expect(clippy::cast_possible_truncation, reason = "bit 10")]
        let down = flags::DF as i32;
        self.asm.load(INDEX, Mem::frame(at::REST));
        self.asm.test_constant_32(INDEX, down);
        let downwards = self.asm.jcc(Condition::NOT_EQUAL);
        self.asm.alu_constant(Alu::Cmp, COUNTER, PAGE);
        vec![downwards, self.asm.jcc(Condition::ABOVE)]
    }

    /// Sees that the registers' upper halves, which 32-bit code doesn't see, are zero.
    /// Returns the jump that is taken where they aren't.
    fn upper_halves(&mut self, is_move: bool) -> Fix {
        self.asm.mov(INDEX, COUNTER);
        self.asm.or(INDEX, TARGET);
        if is_move {
            self.asm.or(INDEX, SOURCE);
        }
        self.asm.shr(INDEX, 32);
        self.asm.jcc(Condition::NOT_EQUAL)
    }

    /// Sees that it stays in the page that `pointer` points into. Returns the jump
    /// that is taken where it doesn't.
    fn page_end(&mut self, pointer: Host, scale: u8) -> Fix {
        self.asm.mov_32(INDEX, pointer);
        self.asm.alu_constant_32(Alu::And, INDEX, PAGE - 1);
        self.asm
            .lea(INDEX, Mem::indexed(Some(INDEX), COUNTER, scale, 0));
        self.asm.alu_constant(Alu::Cmp, INDEX, PAGE);
        self.asm.jcc(Condition::ABOVE)
    }

    /// The target's host address is in `rcx`.
    fn store_string(&mut self, scale: u8) {
        self.asm.store(Mem::frame(at::TEMP), FLAGS);
        self.asm.mov(INDEX, TARGET);
        self.asm.mov(TARGET, ADDRESS);
        self.asm.mov(ADDRESS, COUNTER);
        self.asm.mov(FLAGS, ACCUMULATOR);
        self.asm.rep_stos(1 << scale);
        self.lea_word(TARGET, Mem::indexed(Some(INDEX), COUNTER, scale, 0));
        self.asm.load(FLAGS, Mem::frame(at::TEMP));
    }

    /// The source's host address is in `rcx`, the target's in the frame.
    fn move_string(&mut self, scale: u8) {
        for (n, pointer) in [SOURCE, TARGET].into_iter().enumerate() {
            self.asm.store(Mem::frame(at::pointer(n)), pointer);
        }
        self.asm.mov(SOURCE, ADDRESS);
        self.asm.load(TARGET, Mem::frame(at::TEMP));
        self.asm.mov(ADDRESS, COUNTER);
        self.asm.rep_movs(1 << scale);
        for (n, pointer) in [SOURCE, TARGET].into_iter().enumerate() {
            self.asm.load(pointer, Mem::frame(at::pointer(n)));
            self.lea_word(pointer, Mem::indexed(Some(pointer), COUNTER, scale, 0));
        }
    }
}

/// The first of all bytes that are accessed.
fn byte(write: bool) -> Access {
    Access {
        bytes: 1,
        write,
        aligned: false,
    }
}
