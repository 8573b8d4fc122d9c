//! PUSH, POP and LEAVE of 64-bit operands.

use cpu::Decoded;
use iced_x86::{Mnemonic, OpKind, Register};

use super::Translator;
use super::memory::{Access, guest_number};
use crate::asm::Mem;
use crate::frame::at;
use crate::register::{ADDRESS, GUEST_RSP, Home, Host, INDEX, STACK, home};
use crate::site::Operand;

const BASE_POINTER: Host = Host(5);

pub(super) const WORD: Access = Access {
    bytes: 8,
    write: false,
    aligned: false,
};

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn stack(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let is_wide = insn.stack_pointer_increment().unsigned_abs() == 8;
        match insn.mnemonic() {
            Mnemonic::Push if is_wide => self.push(decoded),
            Mnemonic::Pop if is_wide => self.pop(decoded),
            Mnemonic::Leave if insn.code() == iced_x86::Code::Leaveq => self.leave_frame(decoded),
            _ => false,
        }
    }

    fn push(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let value = match insn.op_kind(0) {
            OpKind::Register if insn.op_register(0).is_gpr64() => None,
            OpKind::Immediate8to64 | OpKind::Immediate32to64 => {
                Some(insn.immediate(0).cast_signed())
            }
            _ => return false,
        };
        let slow = self.below_stack(decoded, false);
        match value {
            Some(value) => {
                let value = i32::try_from(value).expect("sign-extended from 32 bits");
                self.asm.store_constant(Mem::base(ADDRESS, 0), value);
            }
            None => {
                let from = self.in_host(insn.op_register(0), INDEX);
                self.asm.store(Mem::base(ADDRESS, 0), from);
            }
        }
        self.asm.lea(STACK, Mem::base(STACK, -8));
        self.resume(&slow);
        true
    }

    /// The host address of the word below the stack pointer in `rcx`, to be
    /// written.
    pub(super) fn below_stack(&mut self, decoded: &Decoded, is_last: bool) -> super::Slow {
        self.save_flags();
        self.asm.lea(ADDRESS, Mem::base(STACK, -8));
        let jumps = self.look_up(Access {
            write: true,
            ..WORD
        });
        self.slow(decoded, Operand::Push, is_last, jumps)
    }

    fn pop(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let register = insn.op_register(0);
        if insn.op_kind(0) != OpKind::Register || !register.is_gpr64() {
            return false;
        }
        self.save_flags();
        self.asm.mov(ADDRESS, STACK);
        let jumps = self.look_up(WORD);
        let slow = self.slow(decoded, Operand::Pop, false, jumps);
        let number = guest_number(register);
        match home(number) {
            Home::Host(to) => self.asm.load(to, Mem::base(ADDRESS, 0)),
            Home::Frame => {
                self.asm.load(INDEX, Mem::base(ADDRESS, 0));
                self.asm.store(Mem::frame(at::gpr(number)), INDEX);
            }
        }
        if number != GUEST_RSP {
            self.asm.lea(STACK, Mem::base(STACK, 8));
        }
        self.resume(&slow);
        true
    }

    fn leave_frame(&mut self, decoded: &Decoded) -> bool {
        self.save_flags();
        self.asm.mov(ADDRESS, BASE_POINTER);
        let jumps = self.look_up(WORD);
        let slow = self.slow(
            decoded,
            Operand::Register(guest_number(Register::RBP)),
            false,
            jumps,
        );
        self.asm.lea(STACK, Mem::base(BASE_POINTER, 8));
        self.asm.load(BASE_POINTER, Mem::base(ADDRESS, 0));
        self.resume(&slow);
        true
    }
}
