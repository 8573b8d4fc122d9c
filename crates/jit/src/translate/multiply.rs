//! MUL, IMUL, DIV, IDIV, CMPXCHG and the sign extensions of the accumulator:
//! instructions with registers of their own, or with flags that differ between
//! makes of processors.

use cpu::Decoded;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::Translator;
use super::cold::Slow;
use super::general::rewrite;
use super::memory::{Access, FORM};
use super::shift::operand_bytes;
use crate::asm::{Alu, Asm, Condition, Mem};
use crate::flag::Where;
use crate::frame::at;
use crate::register::{ACCUMULATOR, ADDRESS, DX, FLAGS, Host, INDEX};
use crate::site::Operand;

/// Whether it is one of these, and can't fault where it has no memory operand.
pub(super) fn is_known(insn: &Instruction) -> bool {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Imul if insn.op_count() > 1 => true,
        M::Mul | M::Imul => operand_bytes(insn) >= 4,
        M::Cbw | M::Cwde | M::Cdqe | M::Cdq | M::Cqo => true,
        _ => false,
    }
}

/// Opcode 0xf7's numbers of MUL and DIV.
const MUL: u8 = 4;
const DIV: u8 = 6;

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn multiply(&mut self, decoded: &Decoded) -> bool {
        use Mnemonic as M;
        let insn = &decoded.insn;
        match insn.mnemonic() {
            M::Imul if insn.op_count() > 1 => self.product(decoded),
            M::Mul => self.wide_product(decoded, MUL),
            M::Imul => self.wide_product(decoded, 5),
            M::Div => self.quotient(decoded, DIV),
            M::Idiv => self.quotient(decoded, 7),
            M::Cmpxchg => self.compare_exchange(decoded),
            M::Cbw => self.widen(1, 2),
            M::Cwde => self.widen(2, 4),
            M::Cdqe => self.widen(4, 8),
            M::Cdq => self.spread(false),
            M::Cqo => self.spread(true),
            _ => false,
        }
    }

    fn widen(&mut self, from: usize, to: usize) -> bool {
        self.asm.movsx(ACCUMULATOR, ACCUMULATOR, from, to);
        true
    }

    /// The accumulator's sign in all of `rdx`; no flags.
    fn spread(&mut self, wide: bool) -> bool {
        if matches!(self.flags, Where::Host | Where::HostWithoutAf) {
            self.asm.mov(ADDRESS, FLAGS);
            self.asm.mov(FLAGS, ACCUMULATOR);
            self.asm.spread_ax(wide);
            self.asm.mov(FLAGS, ADDRESS);
            return true;
        }
        self.clobber_flags();
        if wide {
            self.asm.mov(DX, ACCUMULATOR);
            self.asm.sar(DX, 63);
        } else {
            self.asm.mov_32(DX, ACCUMULATOR);
            self.asm.sar_32(DX, 31);
        }
        true
    }

    /// IMUL with two or three operands.
    fn product(&mut self, decoded: &Decoded) -> bool {
        let register = decoded.insn.op_register(0);
        self.again_with(decoded, false, |translator, result| {
            translator.product_flags(result, register.size());
        })
    }

    /// CF and OF as the host has them; SF, ZF and PF by `result`; AF 0.
    fn product_flags(&mut self, result: Host, bytes: usize) {
        if !self.visible {
            self.flags = Where::Dead;
            return;
        }
        self.asm.seto_al();
        self.asm.test(result, bytes);
        self.asm.lahf();
        self.asm.or_ah_al();
        self.flags = Where::Saved;
    }

    /// The operand of a one-operand instruction in a host register; and the way
    /// to the helper, if it lies in memory.
    fn single_operand(&mut self, decoded: &Decoded) -> Option<(Host, Option<Slow>)> {
        let insn = &decoded.insn;
        if insn.op_kind(0) == OpKind::Register {
            return Some((self.in_host(insn.op_register(0), INDEX), None));
        }
        if !Self::has_plain_address(insn) {
            return None;
        }
        let bytes = insn.memory_size().size();
        let access = Access {
            bytes: u8::try_from(bytes).expect("4 or 8"),
            write: false,
            aligned: false,
        };
        let (mem, slow) = self.operand(decoded, access);
        if bytes == 8 {
            self.asm.load(INDEX, mem);
        } else {
            self.asm.load_32(INDEX, mem);
        }
        Some((INDEX, Some(slow)))
    }

    /// An instruction that takes its operand from the host's `rax` and leaves its
    /// result there; it uses neither `rcx` nor memory that `rcx` leads to.
    fn by_ax(&mut self, instruction: impl FnOnce(&mut Asm)) {
        self.asm.mov(ADDRESS, FLAGS);
        self.asm.mov(FLAGS, ACCUMULATOR);
        instruction(&mut self.asm);
        self.asm.mov(ACCUMULATOR, FLAGS);
        self.asm.mov(FLAGS, ADDRESS);
    }

    fn wide_product(&mut self, decoded: &Decoded, number: u8) -> bool {
        let bytes = operand_bytes(&decoded.insn);
        if bytes < 4 {
            return false;
        }
        let Some((operand, slow)) = self.single_operand(decoded) else {
            return false;
        };
        let wide = bytes == 8;
        if number == MUL && !self.visible && self.routines.has_bmi2 {
            // One factor is in `rdx`, the other isn't.
            let other = if operand == DX {
                ACCUMULATOR
            } else {
                self.asm.mov(DX, ACCUMULATOR);
                operand
            };
            self.asm.mulx(wide, DX, ACCUMULATOR, other);
            self.flags = Where::Dead;
        } else {
            self.by_ax(|asm| asm.unary(wide, number, operand));
            self.product_flags(ACCUMULATOR, bytes);
        }
        if let Some(slow) = slow {
            self.resume(&slow);
        }
        true
    }

    /// DIV and IDIV, where it is plain that the quotient fits. The flags stay.
    fn quotient(&mut self, decoded: &Decoded, number: u8) -> bool {
        let bytes = operand_bytes(&decoded.insn);
        if bytes < 4 {
            return false;
        }
        let wide = bytes == 8;
        self.save_flags();
        let Some((divisor, in_memory)) = self.single_operand(decoded) else {
            return false;
        };
        self.clobber_flags();
        let jumps = if number == DIV {
            // The upper half is below the divisor.
            self.asm.cmp(wide, DX, divisor);
            vec![self.asm.jcc(Condition::ABOVE_OR_EQUAL)]
        } else {
            // The dividend is a sign extension, and the divisor neither 0 nor -1.
            if wide {
                self.asm.mov(ADDRESS, ACCUMULATOR);
                self.asm.sar(ADDRESS, 63);
            } else {
                self.asm.mov_32(ADDRESS, ACCUMULATOR);
                self.asm.sar_32(ADDRESS, 31);
            }
            self.asm.cmp(wide, ADDRESS, DX);
            let extended = self.asm.jcc(Condition::NOT_EQUAL);
            if wide {
                self.asm.lea(ADDRESS, Mem::base(divisor, 1));
                self.asm.alu_constant(Alu::Cmp, ADDRESS, 1);
            } else {
                self.asm.lea_32(ADDRESS, Mem::base(divisor, 1));
                self.asm.alu_constant_32(Alu::Cmp, ADDRESS, 1);
            }
            vec![extended, self.asm.jcc(Condition::BELOW_OR_EQUAL)]
        };
        let slow = self.slow(decoded, Operand::None, false, jumps);
        self.by_ax(|asm| asm.unary(wide, number, divisor));
        self.resume(&slow);
        if let Some(slow) = in_memory {
            self.resume(&slow);
        }
        true
    }

    /// CMPXCHG in memory; the host's `rax` is lent once the address is found.
    fn compare_exchange(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let source = insn.op_register(1);
        let plain = insn.op_kind(0) == OpKind::Memory
            && !matches!(
                source,
                Register::AH | Register::CH | Register::DH | Register::BH
            );
        if !plain {
            return false;
        }
        let Some(rewritten) = rewrite(&mut self.encoder, self.info, insn, FORM.0, FORM.1) else {
            return false;
        };
        let Some(access) = rewritten.access else {
            return false;
        };
        let access = Access {
            write: true,
            ..access
        };
        let slow = self.operand_by_tlb(decoded, access);
        rewritten.load(&mut self.asm);
        self.asm.store(Mem::frame(at::TEMP), FLAGS);
        self.asm.mov(FLAGS, ACCUMULATOR);
        self.asm.raw(&rewritten.bytes);
        self.asm.mov(ACCUMULATOR, FLAGS);
        self.asm.load(FLAGS, Mem::frame(at::TEMP));
        self.flags = Where::Host;
        self.flags_after();
        self.resume(&slow);
        true
    }
}
