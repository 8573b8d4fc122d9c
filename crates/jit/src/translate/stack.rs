//! PUSH, POP and LEAVE of 64-bit operands.

use cpu::Decoded;
use iced_x86::{Code, Mnemonic, OpKind, Register};

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
            Mnemonic::Leave if insn.code() == Code::Leaveq => self.leave_frame(decoded),
            _ => false,
        }
    }

    fn push(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if insn.op_kind(0) == OpKind::Memory {
            return self.push_memory(decoded);
        }
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

    fn push_memory(&mut self, decoded: &Decoded) -> bool {
        if decoded.insn.memory_size().size() != 8 || !Self::has_plain_address(&decoded.insn) {
            return false;
        }
        let loaded = self.operand(decoded, WORD);
        self.asm.load(INDEX, Mem::base(ADDRESS, 0));
        self.asm.store(Mem::frame(at::TEMP), INDEX);
        let pushed = self.below_stack(decoded, false);
        self.asm.load(INDEX, Mem::frame(at::TEMP));
        self.asm.store(Mem::base(ADDRESS, 0), INDEX);
        self.asm.lea(STACK, Mem::base(STACK, -8));
        self.resume(&loaded);
        self.resume(&pushed);
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

    /// A run of PUSHes, or of POPs and the RET after them, with one lookup for
    /// all. Returns how many instructions it has done; 0: there is no run.
    pub(super) fn stack_run(&mut self, line: &[Decoded], ended: bool) -> usize {
        let pushes = line.iter().take_while(|d| is_plain_push(d)).count();
        if pushes > 1 {
            let run = &line[..pushes.min(RUN_MAX)];
            self.push_run(run);
            return run.len();
        }
        let pops = line.iter().take_while(|d| is_plain_pop(d)).count();
        let run = &line[..pops.min(RUN_MAX)];
        let ret = line
            .get(run.len())
            .filter(|d| ended && run.len() + 1 == line.len() && d.insn.code() == Code::Retnq);
        if run.len() + usize::from(ret.is_some()) < 2 {
            return 0;
        }
        self.pop_run(run, ret);
        run.len() + usize::from(ret.is_some())
    }

    fn push_run(&mut self, run: &[Decoded]) {
        let bytes = run_bytes(run.len());
        self.save_flags();
        self.asm.lea(ADDRESS, Mem::base(STACK, -i32::from(bytes)));
        let jumps = self.look_up(Access {
            bytes,
            write: true,
            ..WORD
        });
        let sites = run
            .iter()
            .map(|d| self.slow_site(d, Operand::Push, false))
            .collect();
        let slow = self.slow_run(sites, jumps);
        for (n, decoded) in run.iter().rev().enumerate() {
            let from = self.in_host(decoded.insn.op_register(0), INDEX);
            self.asm.store(word(n), from);
        }
        self.asm.lea(STACK, Mem::base(STACK, -i32::from(bytes)));
        self.resume(&slow);
    }

    fn pop_run(&mut self, run: &[Decoded], ret: Option<&Decoded>) {
        let popped = run_bytes(run.len());
        self.save_flags();
        self.asm.mov(ADDRESS, STACK);
        let jumps = self.look_up(Access {
            bytes: run_bytes(run.len() + usize::from(ret.is_some())),
            ..WORD
        });
        let mut sites: Vec<_> = run
            .iter()
            .map(|d| self.slow_site(d, Operand::Pop, false))
            .collect();
        sites.extend(ret.map(|d| self.slow_site(d, Operand::Pop, true)));
        let slow = self.slow_run(sites, jumps);
        for (n, decoded) in run.iter().enumerate() {
            let number = guest_number(decoded.insn.op_register(0));
            match home(number) {
                Home::Host(to) => self.asm.load(to, word(n)),
                Home::Frame => {
                    self.asm.load(INDEX, word(n));
                    self.asm.store(Mem::frame(at::gpr(number)), INDEX);
                }
            }
        }
        self.asm.lea(STACK, Mem::base(STACK, i32::from(popped)));
        match ret {
            Some(decoded) => {
                self.asm.load(ADDRESS, word(run.len()));
                self.return_to_address(decoded, Vec::new(), 0);
            }
            None => self.resume(&slow),
        }
    }
}

/// Instructions of a run at most.
const RUN_MAX: usize = 8;

fn run_bytes(count: usize) -> u8 {
    u8::try_from(8 * count).expect("RUN_MAX is small")
}

/// The word number `n` from the address in `rcx`.
fn word(n: usize) -> Mem {
    Mem::base(ADDRESS, i32::from(run_bytes(n)))
}

fn is_plain_push(decoded: &Decoded) -> bool {
    decoded.insn.code() == Code::Push_r64 && !names_stack_pointer(decoded)
}

fn is_plain_pop(decoded: &Decoded) -> bool {
    decoded.insn.code() == Code::Pop_r64 && !names_stack_pointer(decoded)
}

/// Whether a PUSH or POP moves the stack pointer's own value.
fn names_stack_pointer(decoded: &Decoded) -> bool {
    decoded.insn.op_register(0) == Register::RSP
}
