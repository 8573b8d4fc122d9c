//! BT and its kin in memory, with the bit's number in a register: it may lie
//! far from the operand.

use cpu::Decoded;
use iced_x86::{Mnemonic, OpKind};

use super::Translator;
use super::memory::Access;
use crate::asm::{Alu, Mem};
use crate::frame::at;
use crate::register::{ACCUMULATOR, ADDRESS, COUNTER, FLAGS, Home, INDEX, home};
use crate::site::Operand;

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn bit_string(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let opcode = match insn.mnemonic() {
            Mnemonic::Bt => 0xa3,
            Mnemonic::Bts => 0xab,
            Mnemonic::Btr => 0xb3,
            Mnemonic::Btc => 0xbb,
            _ => return false,
        };
        let is_string = insn.op_kind(0) == OpKind::Memory
            && insn.op_kind(1) == OpKind::Register
            && insn.op_register(1).size() >= 4
            && Self::has_plain_address(insn)
            // There the address wraps.
            && !self.key.mode.narrow;
        if !is_string {
            return false;
        }
        let number = insn.op_register(1);
        let wide = number.size() == 8;
        self.save_flags();
        self.clobber_flags();
        self.address(insn, ADDRESS);
        let host = self.in_host(number, INDEX);
        let (shift, bytes, scale) = if wide { (6, 8, 3) } else { (5, 4, 2) };
        if wide {
            self.asm.mov(INDEX, host);
        } else {
            self.asm.movsx(INDEX, host, 4, 8);
        }
        self.asm.sar(INDEX, shift);
        self.asm
            .lea(ADDRESS, Mem::indexed(Some(ADDRESS), INDEX, scale, 0));
        let jumps = self.look_up(Access {
            bytes,
            write: opcode != 0xa3,
            aligned: false,
        });
        let slow = self.slow(decoded, Operand::Memory, false, jumps);
        let host = self.in_host(number, INDEX);
        self.asm.mov(INDEX, host);
        self.asm.alu_constant_32(Alu::And, INDEX, (1 << shift) - 1);
        self.flags_before();
        self.asm
            .bit_memory(wide, opcode, Mem::base(ADDRESS, 0), INDEX);
        self.flags_after();
        self.resume(&slow);
        true
    }

    /// CMPXCHG16B: the host's own registers for it are lent.
    pub(super) fn compare_exchange_16(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if insn.mnemonic() != Mnemonic::Cmpxchg16b || !Self::has_plain_address(insn) {
            return false;
        }
        let slow = self.operand_by_tlb(
            decoded,
            Access {
                bytes: 16,
                write: true,
                aligned: true,
            },
        );
        let Home::Host(guest_bx) = home(3) else {
            unreachable!("rbx lives in a host register");
        };
        self.asm.mov(INDEX, ADDRESS);
        self.asm.store(Mem::frame(at::TEMP), FLAGS);
        self.asm.mov(FLAGS, ACCUMULATOR);
        self.asm.mov(ACCUMULATOR, guest_bx);
        self.asm.mov(ADDRESS, COUNTER);
        self.asm.compare_exchange_16(Mem::base(INDEX, 0));
        self.asm.mov(ACCUMULATOR, FLAGS);
        self.asm.load(FLAGS, Mem::frame(at::TEMP));
        // ZF tells; the other flags stay.
        self.merge_zero_flag();
        self.resume(&slow);
        true
    }
}
