//! Kernels' small change: PUSHF, POPF, CLI, STI, and reading a selector.

use std::mem::offset_of;

use cpu::{Decoded, Segment, Space};
use iced_x86::{Code, Mnemonic, OpKind};
use x86::flags;

use super::Translator;
use super::memory::guest_number;
use crate::asm::{Alu, Condition, Mem};
use crate::flag::Where;
use crate::frame::at;
use crate::register::{ADDRESS, FLAGS, Home, INDEX, STACK, home};
use crate::site::Operand;

/// What POPF may change without the helper, at privilege level 0: the
/// arithmetic flags, and IF.
const POPF_PLAIN: u64 =
    flags::TF | flags::DF | flags::NT | flags::AC | flags::ID | flags::IOPL | flags::RF | flags::VM;

/// A flag's bit in an immediate.
#[expect(
    clippy::cast_possible_truncation,
    reason = "flags lie below bit 31, or are a mask of those"
)]
const fn bits(flags: u64) -> i32 {
    flags as i32
}

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn system(&mut self, decoded: &Decoded) -> bool {
        match decoded.insn.code() {
            Code::Pushfq => self.push_flags(decoded),
            Code::Popfq if self.is_kernel() => self.pop_flags(decoded),
            Code::Cli if self.is_kernel() => self.disable_interrupts(),
            Code::Sti if self.is_kernel() => self.enable_interrupts(decoded),
            _ if decoded.insn.mnemonic() == Mnemonic::Mov => return self.read_selector(decoded),
            _ => return false,
        }
        true
    }

    /// Whether the block runs at privilege level 0.
    fn is_kernel(&self) -> bool {
        self.key.mode.space != Space::User as u8
    }

    fn push_flags(&mut self, decoded: &Decoded) {
        self.save_flags();
        self.clobber_flags();
        let (below, _, slow) = self.below_stack(decoded, false);
        self.asm.lea(ADDRESS, below);
        self.asm.store(Mem::frame(at::TEMP), ADDRESS);
        self.asm.load(INDEX, Mem::frame(at::REST));
        self.asm
            .alu_constant_32(Alu::And, INDEX, bits(!(flags::RF | flags::VM)));
        self.asm.movzx_ah_to_cx();
        self.asm.alu_constant_32(Alu::And, ADDRESS, 0xd5);
        self.asm.or_32(INDEX, ADDRESS);
        self.asm.movzx_8(ADDRESS, FLAGS);
        self.asm.shl_32(ADDRESS, 11);
        self.asm.or_32(INDEX, ADDRESS);
        self.asm.load(ADDRESS, Mem::frame(at::TEMP));
        self.asm.store(Mem::base(ADDRESS, 0), INDEX);
        self.asm.lea(STACK, Mem::base(STACK, -8));
        self.resume(&slow);
    }

    fn pop_flags(&mut self, decoded: &Decoded) {
        self.save_flags();
        self.asm.mov(ADDRESS, STACK);
        let mut jumps = self.look_up(self.read_word());
        self.asm.load(INDEX, Mem::base(ADDRESS, 0));
        self.asm.mov_32(ADDRESS, INDEX);
        self.asm.xor_load_32(ADDRESS, Mem::frame(at::REST));
        self.asm
            .alu_constant_32(Alu::And, ADDRESS, bits(POPF_PLAIN));
        jumps.push(self.asm.jcc(Condition::NOT_EQUAL));
        // Interrupts enabled while one waits: it is taken now.
        self.asm.test_constant_32(INDEX, bits(flags::IF));
        let disabled = self.asm.jcc(Condition::EQUAL);
        self.asm
            .alu_memory_constant(Alu::Cmp, Mem::frame(at::INTERRUPT), 0);
        jumps.push(self.asm.jcc(Condition::NOT_EQUAL));
        self.asm.bind(disabled);
        let slow = self.slow(decoded, Operand::Pop, false, jumps);
        self.asm
            .alu_memory_constant(Alu::And, Mem::frame(at::REST), bits(!flags::IF));
        self.asm.mov_32(ADDRESS, INDEX);
        self.asm.alu_constant_32(Alu::And, ADDRESS, bits(flags::IF));
        self.asm.or_memory(Mem::frame(at::REST), ADDRESS);
        // AH is the low byte, AL the overflow flag.
        self.asm.mov_32(FLAGS, INDEX);
        self.asm.shl_32(FLAGS, 8);
        self.asm.shr_32(INDEX, 11);
        self.asm.alu_constant_32(Alu::And, INDEX, 1);
        self.asm.or_32(FLAGS, INDEX);
        self.asm.lea(STACK, Mem::base(STACK, 8));
        self.flags = Where::Saved;
        self.resume(&slow);
    }

    fn disable_interrupts(&mut self) {
        self.save_flags();
        self.clobber_flags();
        self.asm
            .alu_memory_constant(Alu::And, Mem::frame(at::REST), bits(!flags::IF));
    }

    /// Its shadow of one instruction is nothing to see where no interrupt waits.
    fn enable_interrupts(&mut self, decoded: &Decoded) {
        self.save_flags();
        self.clobber_flags();
        self.asm
            .alu_memory_constant(Alu::Cmp, Mem::frame(at::INTERRUPT), 0);
        let waits = self.asm.jcc(Condition::NOT_EQUAL);
        let slow = self.slow(decoded, Operand::None, false, vec![waits]);
        self.asm
            .alu_memory_constant(Alu::Or, Mem::frame(at::REST), bits(flags::IF));
        self.resume(&slow);
    }

    /// MOV from a segment register to a general one.
    fn read_selector(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let is_read = insn.op_kind(0) == OpKind::Register
            && insn.op_kind(1) == OpKind::Register
            && insn.op_register(1).is_segment_register()
            && insn.op_register(0).is_gpr()
            && insn.op_register(0).size() >= 4;
        if !is_read {
            return false;
        }
        let number = insn.op_register(1).number() * size_of::<Segment>();
        let place = number + offset_of!(Segment, selector);
        let disp = i32::try_from(place).expect("there are eight segments");
        self.asm.load(ADDRESS, Mem::frame(at::SEGMENTS));
        self.asm.load_16(ADDRESS, Mem::base(ADDRESS, disp));
        let guest = guest_number(insn.op_register(0));
        match home(guest) {
            Home::Host(to) => self.asm.mov_32(to, ADDRESS),
            Home::Frame => self.asm.store(Mem::frame(at::gpr(guest)), ADDRESS),
        }
        true
    }
}
