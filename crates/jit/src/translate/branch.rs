//! The ends of blocks: near jumps, calls and returns. Direct ones are linked with
//! their targets, in other pages with their far entries; where the target is
//! computed they go by the jump cache.

use cpu::Decoded;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use x86::PAGE_BYTES;

use super::cold::Cold;
use super::{ONE_LEFT, Translator};
use crate::asm::{Alu, Condition, Fix, Mem};
use crate::cache::JUMPS_EACH;
use crate::flag::Where;
use crate::frame::at;
use crate::register::{ADDRESS, FLAGS, FRAME, INDEX};
use crate::site::Operand;

impl Translator<'_> {
    /// The block's last instruction.
    pub(super) fn branch(&mut self, decoded: &Decoded) -> bool {
        use Mnemonic as M;
        let insn = &decoded.insn;
        let is_direct = match insn.op_kind(0) {
            OpKind::NearBranch64 => true,
            OpKind::NearBranch32 => self.key.mode.narrow,
            _ => false,
        };
        match insn.mnemonic() {
            M::Jmp if is_direct => self.go(target(insn), true),
            M::Call if is_direct => self.call(decoded),
            M::Jmp if insn.is_jmp_near_indirect() => return self.jump_indirect(decoded),
            M::Call if insn.is_call_near_indirect() => return self.call_indirect(decoded),
            M::Ret => return self.ret(decoded),
            _ if is_direct && insn.is_jcc_short_or_near() => self.jump_if(decoded),
            _ => return false,
        }
        true
    }

    /// Where the page offset `from_block` bytes from the block's start is, if it
    /// lies in the page.
    fn in_page(&self, from_block: i64) -> Option<u16> {
        let offset = self.offset.wrapping_add(from_block);
        u16::try_from(offset)
            .ok()
            .filter(|&offset| u64::from(offset) < PAGE_BYTES)
    }

    /// Goes on `from_block` bytes from the block's start.
    pub(super) fn go(&mut self, from_block: i64, is_branch: bool) {
        let Some(target) = self.in_page(from_block) else {
            if !is_branch {
                self.uncount();
            }
            self.far(self.offset.wrapping_add(from_block));
            return;
        };
        let jump = self.asm.jmp();
        self.cold.push(Cold::Link {
            jump,
            target: i64::from(target),
            is_far: false,
            flags: at_exit(self.flags),
            is_branch,
        });
    }

    /// Takes back a branch in advance that the far entry will count.
    fn uncount(&mut self) {
        self.asm.lea(FLAGS, Mem::base(FLAGS, ONE_LEFT));
    }

    /// Jumps to another page, `offset` bytes from the start of this one.
    pub(super) fn far(&mut self, offset: i64) {
        self.save_flags();
        self.asm.load(ADDRESS, Mem::frame(at::CODE_BASE));
        // A jump reaches 2 GiB from its own end, so a little more from here.
        match i32::try_from(offset) {
            Ok(disp) => self.lea_word(ADDRESS, Mem::base(ADDRESS, disp)),
            Err(_) => {
                self.asm.constant(INDEX, offset.cast_unsigned());
                let sum = Mem::indexed(Some(ADDRESS), INDEX, 0, 0);
                self.lea_word(ADDRESS, sum);
            }
        }
        let jump = self.asm.jmp();
        self.cold.push(Cold::Link {
            jump,
            target: offset,
            is_far: true,
            flags: Where::Saved,
            is_branch: true,
        });
    }

    fn jump_entry(&self, field: i32) -> Mem {
        let part = self.key.mode.part() * JUMPS_EACH * size_of::<crate::cache::Jump>();
        let part = i32::try_from(part).expect("the tables are small");
        Mem::indexed(Some(FRAME), INDEX, 3, at::JUMPS + part + field)
    }

    /// Looks in the jump cache for the linear address in `rcx`. Returns the jump
    /// that is taken if it isn't there. The flags have been saved.
    fn find_jump(&mut self) -> Fix {
        self.clobber_flags();
        self.asm.mov_32(INDEX, ADDRESS);
        let mask = i32::try_from(JUMPS_EACH - 1).expect("the tables are small");
        self.asm.alu_constant_32(Alu::And, INDEX, mask);
        self.asm.lea(INDEX, Mem::indexed(Some(INDEX), INDEX, 0, 0));
        let target = self.jump_entry(0);
        self.asm.alu_load(Alu::Cmp, ADDRESS, target);
        self.asm.jcc(Condition::NOT_EQUAL)
    }

    /// Goes to what [`Translator::find_jump`] has found.
    fn take_jump(&mut self) {
        let code = self.jump_entry(8);
        self.asm.jmp_memory(code);
    }

    fn jump_if(&mut self, decoded: &Decoded) {
        let insn = &decoded.insn;
        self.flags_before();
        // iced counts the conditions from 1, in the order of their encoding.
        let condition = Condition(insn.condition_code() as u8 - 1);
        let jump = self.asm.jcc(condition);
        let (flags, taken) = (at_exit(self.flags), target(insn));
        self.cold.push(match self.in_page(taken) {
            Some(target) => Cold::Link {
                jump,
                target: i64::from(target),
                is_far: false,
                flags,
                is_branch: true,
            },
            None => Cold::Far {
                jump,
                offset: self.offset.wrapping_add(taken),
                flags: self.flags,
            },
        });
        self.go(i64::from(decoded.op.end), true);
    }

    /// Pushes the address of the next instruction.
    fn push_return(&mut self, decoded: &Decoded) {
        let (below, spare, _) = self.below_stack(decoded, true);
        let next = self.offset + i64::from(decoded.op.end);
        let disp = i32::try_from(next).expect("two pages at most");
        self.asm.load(spare, Mem::frame(at::CODE_BASE));
        self.asm.lea(spare, Mem::base(spare, disp));
        self.store_word(below, spare);
        self.move_stack(-1, 0);
    }

    fn call(&mut self, decoded: &Decoded) {
        self.push_return(decoded);
        self.go(target(&decoded.insn), true);
    }

    /// The target of an indirect jump in `rcx`.
    fn load_target(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        match insn.op_kind(0) {
            OpKind::Register if self.is_word(insn.op_register(0)) => {
                self.save_flags();
                let host = self.in_host(insn.op_register(0), ADDRESS);
                self.mov_word(ADDRESS, host);
            }
            OpKind::Memory
                if insn.memory_size().size() == usize::from(self.word_bytes())
                    && Self::has_plain_address(insn) =>
            {
                self.save_flags();
                let (mem, _) = self.operand(decoded, self.read_word());
                self.load_word(ADDRESS, mem);
            }
            _ => return false,
        }
        true
    }

    fn jump_indirect(&mut self, decoded: &Decoded) -> bool {
        if !self.load_target(decoded) {
            return false;
        }
        let miss = self.find_jump();
        // The interpreter's way finds a target that isn't canonical.
        self.slow(decoded, Operand::None, true, vec![miss]);
        self.take_jump();
        true
    }

    fn call_indirect(&mut self, decoded: &Decoded) -> bool {
        if !self.load_target(decoded) {
            return false;
        }
        self.clobber_flags();
        if !self.key.mode.narrow {
            let not_canonical = self.see_canonical(ADDRESS);
            self.slow(decoded, Operand::None, true, vec![not_canonical]);
        }
        self.asm.store(Mem::frame(at::TEMP), ADDRESS);
        self.push_return(decoded);
        self.asm.load(ADDRESS, Mem::frame(at::TEMP));
        let miss = self.find_jump();
        self.asm.bind_to(miss, self.routines.lost);
        self.take_jump();
        true
    }

    fn ret(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        use iced_x86::Code as C;
        let released = match insn.code() {
            C::Retnq => 0,
            C::Retnd if self.key.mode.narrow => 0,
            C::Retnq_imm16 => i32::from(insn.immediate16()),
            C::Retnd_imm16 if self.key.mode.narrow => i32::from(insn.immediate16()),
            _ => return false,
        };
        self.save_flags();
        let top = self.reach(Register::RSP, 0, self.read_word());
        self.slow(decoded, Operand::Pop, true, top.missed);
        self.load_word(ADDRESS, top.mem);
        self.return_to_address(decoded, released);
        true
    }

    /// The end of a RET, with the target in `rcx`.
    pub(super) fn return_to_address(&mut self, decoded: &Decoded, released: i32) {
        // The interpreter's way finds a target that isn't canonical.
        let miss = self.find_jump();
        self.slow(decoded, Operand::Pop, true, vec![miss]);
        self.move_stack(1, released);
        self.take_jump();
    }
}

/// A direct target, from the block's start.
fn target(insn: &Instruction) -> i64 {
    let target = insn.near_branch_target();
    if insn.op_kind(0) == OpKind::NearBranch32 {
        #[expect(clippy::cast_possible_truncation, reason = "it has 32 bits")]
        let target = target as u32;
        return i64::from(target.cast_signed());
    }
    target.cast_signed()
}

/// Where the next block is told that the flags are.
fn at_exit(flags: Where) -> Where {
    match flags {
        Where::Both | Where::Dead => Where::Saved,
        flags => flags,
    }
}
