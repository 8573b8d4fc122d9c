//! PUSH, POP and LEAVE of words.

use cpu::Decoded;
use iced_x86::{Code, Mnemonic, OpKind, Register};

use super::Translator;
use super::cold::Slow;
use super::memory::{Access, guest_number};
use crate::asm::Mem;
use crate::frame::at;
use crate::register::{ADDRESS, GUEST_RSP, Home, Host, INDEX, STACK, home};
use crate::site::Operand;

const BASE_POINTER: Host = Host(5);

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn stack(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let moved = insn.stack_pointer_increment().unsigned_abs();
        let is_word = moved == u32::from(self.word_bytes());
        match insn.code() {
            Code::Leaveq => self.leave_frame(decoded),
            Code::Leaved if self.key.mode.narrow => self.leave_frame(decoded),
            _ if !is_word => false,
            _ if insn.mnemonic() == Mnemonic::Push => self.push(decoded),
            _ if insn.mnemonic() == Mnemonic::Pop => self.pop(decoded),
            _ => false,
        }
    }

    fn push(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if insn.op_kind(0) == OpKind::Memory {
            return self.push_memory(decoded);
        }
        let value = match insn.op_kind(0) {
            OpKind::Register if self.is_word(insn.op_register(0)) => None,
            OpKind::Immediate8to64
            | OpKind::Immediate32to64
            | OpKind::Immediate8to32
            | OpKind::Immediate32 => Some(insn.immediate(0)),
            _ => return false,
        };
        let (below, spare, slow) = self.below_stack(decoded, false);
        match value {
            Some(value) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "of 32 bits, or sign-extended"
                )]
                let value = value as u32;
                if self.key.mode.narrow {
                    self.asm.store_constant_32(below, value);
                } else {
                    self.asm.store_constant(below, value.cast_signed());
                }
            }
            None => {
                let from = self.in_host(insn.op_register(0), spare);
                self.store_word(below, from);
            }
        }
        self.move_stack(-1, 0);
        self.resume(&slow);
        true
    }

    fn push_memory(&mut self, decoded: &Decoded) -> bool {
        let bytes = decoded.insn.memory_size().size();
        if bytes != usize::from(self.word_bytes()) || !Self::has_plain_address(&decoded.insn) {
            return false;
        }
        let (mem, loaded) = self.operand(decoded, self.read_word());
        self.load_word(INDEX, mem);
        self.asm.store(Mem::frame(at::TEMP), INDEX);
        let (below, spare, pushed) = self.below_stack(decoded, false);
        self.asm.load(spare, Mem::frame(at::TEMP));
        self.store_word(below, spare);
        self.move_stack(-1, 0);
        self.resume(&loaded);
        self.resume(&pushed);
        true
    }

    /// The word below the stack pointer, to be written; a host register that is
    /// free beside it; and the way to the helper. Without windows the flags are
    /// saved.
    pub(super) fn below_stack(&mut self, decoded: &Decoded, is_last: bool) -> (Mem, Host, Slow) {
        let access = Access {
            write: true,
            ..self.read_word()
        };
        let below = self.reach(Register::RSP, -i32::from(access.bytes), access);
        let slow = self.slow(decoded, Operand::Push, is_last, below.missed);
        (below.mem, below.spare, slow)
    }

    fn pop(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let register = insn.op_register(0);
        if insn.op_kind(0) != OpKind::Register || !self.is_word(register) {
            return false;
        }
        let top = self.reach(Register::RSP, 0, self.read_word());
        let slow = self.slow(decoded, Operand::Pop, false, top.missed);
        let number = guest_number(register);
        self.pop_to(number, top.mem, top.spare);
        if number != GUEST_RSP {
            self.move_stack(1, 0);
        }
        self.resume(&slow);
        true
    }

    /// Loads guest register `number` from the stack, by way of `spare`.
    fn pop_to(&mut self, number: u8, from: Mem, spare: Host) {
        match home(number) {
            Home::Host(to) => self.load_word(to, from),
            Home::Frame => {
                self.load_word(spare, from);
                self.asm.store(Mem::frame(at::gpr(number)), spare);
            }
        }
    }

    fn leave_frame(&mut self, decoded: &Decoded) -> bool {
        let saved = self.reach(Register::RBP, 0, self.read_word());
        let operand = Operand::Register(guest_number(Register::RBP));
        let slow = self.slow(decoded, operand, false, saved.missed);
        self.load_word(saved.spare, saved.mem);
        let above = self.word_at(BASE_POINTER, 1);
        self.lea_word(STACK, above);
        self.mov_word(BASE_POINTER, saved.spare);
        self.resume(&slow);
        true
    }

    /// A run of PUSHes, or of POPs and the RET after them, with one lookup for
    /// all. Returns how many instructions it has done; 0: there is no run.
    pub(super) fn stack_run(&mut self, line: &[Decoded], ended: bool) -> usize {
        let code = if self.key.mode.narrow {
            [Code::Push_r32, Code::Pop_r32, Code::Retnd]
        } else {
            [Code::Push_r64, Code::Pop_r64, Code::Retnq]
        };
        let count = |code| line.iter().take_while(|d| is_plain(d, code)).count();
        let pushes = count(code[0]);
        if pushes > 1 {
            let run = &line[..pushes.min(RUN_MAX)];
            self.push_run(run);
            return run.len();
        }
        let pops = count(code[1]);
        let run = &line[..pops.min(RUN_MAX)];
        let ret = line
            .get(run.len())
            .filter(|d| ended && run.len() + 1 == line.len() && d.insn.code() == code[2]);
        if run.len() + usize::from(ret.is_some()) < 2 {
            return 0;
        }
        self.pop_run(run, ret);
        run.len() + usize::from(ret.is_some())
    }

    fn push_run(&mut self, run: &[Decoded]) {
        let count = words(run.len());
        let access = Access {
            write: true,
            ..self.read_words(count)
        };
        let lowest = self.reach(Register::RSP, -i32::from(access.bytes), access);
        let slow = self.slow_run(run.to_vec(), lowest.missed);
        // In their order: where one of them faults, nothing is stored of those after it.
        for (n, decoded) in (0..).zip(run) {
            let from = self.in_host(decoded.insn.op_register(0), lowest.spare);
            let place = self.words_bytes(i32::from(count) - 1 - n);
            self.store_word(lowest.mem.plus(place), from);
        }
        self.move_stack(-i32::from(count), 0);
        self.resume(&slow);
    }

    fn pop_run(&mut self, run: &[Decoded], ret: Option<&Decoded>) {
        let popped = i32::from(words(run.len()));
        let count = words(run.len() + usize::from(ret.is_some()));
        if ret.is_some() {
            self.save_flags();
        }
        let top = self.reach(Register::RSP, 0, self.read_words(count));
        let all = run.iter().chain(ret).cloned().collect();
        let slow = self.slow_run(all, top.missed);
        for (n, decoded) in (0..).zip(run) {
            let from = top.mem.plus(self.words_bytes(n));
            self.pop_to(guest_number(decoded.insn.op_register(0)), from, top.spare);
        }
        let target = top.mem.plus(self.words_bytes(popped));
        match ret {
            Some(decoded) => {
                self.load_word(ADDRESS, target);
                self.move_stack(popped, 0);
                self.return_to_address(decoded, 0);
            }
            None => {
                self.move_stack(popped, 0);
                self.resume(&slow);
            }
        }
    }
}

/// Instructions of a run at most.
const RUN_MAX: usize = 8;

fn words(count: usize) -> u8 {
    u8::try_from(count).expect("RUN_MAX is small")
}

/// Whether it is this PUSH or POP of a register, not the stack pointer's own.
fn is_plain(decoded: &Decoded, code: Code) -> bool {
    let insn = &decoded.insn;
    insn.code() == code && guest_number(insn.op_register(0)) != GUEST_RSP
}
