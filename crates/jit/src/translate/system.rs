//! Kernels' small change: PUSHF, POPF, CLI, STI, STAC, CLAC, SWAPGS, the bases of FS
//! and GS, the time-stamp counter, and reading a selector; and what else moves flags
//! as they are: LAHF, SAHF, CLD, STD.

use std::mem::offset_of;

use cpu::{Decoded, Segment, Space};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use x86::flags;

use super::Translator;
use super::memory::{Access, guest_number};
use crate::asm::{Alu, Condition, Mem};
use crate::cache::Mode;
use crate::flag::{self, Where};
use crate::frame::at;
use crate::register::{
    ACCUMULATOR, ADDRESS, COUNTER, DX, FLAGS, Home, Host, INDEX, LEFT_SHIFT, STACK, home,
};
use crate::site::Operand;

/// Whether it is one of these, and neither faults nor needs the helper.
pub(super) fn is_known(insn: &Instruction, mode: Mode) -> bool {
    match insn.mnemonic() {
        Mnemonic::Stac | Mnemonic::Clac => mode.smap,
        Mnemonic::Swapgs => is_kernel(mode),
        Mnemonic::Rdfsbase | Mnemonic::Rdgsbase => mode.bases,
        Mnemonic::Lahf | Mnemonic::Sahf | Mnemonic::Cld | Mnemonic::Std => true,
        _ => false,
    }
}

/// Whether code runs at privilege level 0.
fn is_kernel(mode: Mode) -> bool {
    mode.space != Space::User
}

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
        let mode = self.key.mode;
        match decoded.insn.code() {
            Code::Pushfq => self.push_flags(decoded),
            Code::Popfq if is_kernel(mode) => self.pop_flags(decoded),
            Code::Cli if is_kernel(mode) => self.clear(flags::IF),
            Code::Cld => self.clear(flags::DF),
            Code::Std => self.set(flags::DF),
            Code::Lahf => self.flags_to_register(),
            Code::Sahf => self.flags_from_register(),
            Code::Sti if is_kernel(mode) => self.enable_interrupts(decoded),
            Code::Stac if mode.smap => self.set_space(Space::SupervisorAc),
            Code::Clac if mode.smap => self.set_space(Space::Supervisor),
            Code::Swapgs if is_kernel(mode) => self.swap_gs(),
            Code::Rdfsbase_r32 | Code::Rdfsbase_r64 if mode.bases => {
                self.read_base(&decoded.insn, at::FS_BASE);
            }
            Code::Rdgsbase_r32 | Code::Rdgsbase_r64 if mode.bases => {
                self.read_base(&decoded.insn, at::GS_BASE);
            }
            Code::Wrfsbase_r64 if mode.bases => self.write_base(decoded, at::FS_BASE),
            Code::Wrgsbase_r64 if mode.bases => self.write_base(decoded, at::GS_BASE),
            Code::Rdtsc | Code::Rdtscp => self.read_tsc(decoded),
            _ if decoded.insn.mnemonic() == Mnemonic::Mov => return self.read_selector(decoded),
            _ => return false,
        }
        true
    }

    /// STAC or CLAC: what follows has the rights of `space`. EFLAGS.AC is in step
    /// with it.
    fn set_space(&mut self, space: Space) {
        if self.key.mode.space == space {
            return;
        }
        let ac = bits(flags::AC);
        let change = if space == Space::SupervisorAc {
            ac
        } else {
            -ac
        };
        self.asm.load(ADDRESS, Mem::frame(at::REST));
        self.asm.lea(ADDRESS, Mem::base(ADDRESS, change));
        self.asm.store(Mem::frame(at::REST), ADDRESS);
        self.asm
            .store_constant(Mem::frame(at::SPACE), i32::from(space as u8));
        self.key.mode.space = space;
        // What leads to a window leads to one of these rights.
        self.has_windows = false;
    }

    fn swap_gs(&mut self) {
        self.asm.load(ADDRESS, Mem::frame(at::GS_BASE));
        self.asm.load(INDEX, Mem::frame(at::KERNEL_GS_BASE));
        self.asm.store(Mem::frame(at::GS_BASE), INDEX);
        self.asm.store(Mem::frame(at::KERNEL_GS_BASE), ADDRESS);
    }

    /// RDFSBASE or RDGSBASE, of the base in the frame at `base`.
    fn read_base(&mut self, insn: &Instruction, base: i32) {
        let register = insn.op_register(0);
        self.asm.load(ADDRESS, Mem::frame(base));
        if register.size() == 4 {
            self.asm.mov_32(ADDRESS, ADDRESS);
        }
        self.put(guest_number(register), ADDRESS);
    }

    /// WRFSBASE or WRGSBASE of 64 bits.
    fn write_base(&mut self, decoded: &Decoded, base: i32) {
        self.save_flags();
        self.clobber_flags();
        let value = self.in_host(decoded.insn.op_register(0), ADDRESS);
        let not_canonical = self.see_canonical(value);
        let slow = self.slow(decoded, Operand::None, false, vec![not_canonical]);
        self.asm.store(Mem::frame(base), value);
        self.resume(&slow);
    }

    /// RDTSC or RDTSCP, where the counter is a line over branches.
    fn read_tsc(&mut self, decoded: &Decoded) {
        self.save_flags();
        self.clobber_flags();
        self.asm
            .alu_memory_constant(Alu::Cmp, Mem::frame(at::TSC_RATE), 0);
        let unknown = self.asm.jcc(Condition::EQUAL);
        let slow = self.slow(decoded, Operand::None, false, vec![unknown]);
        self.asm.mov(INDEX, FLAGS);
        self.asm.load(FLAGS, Mem::frame(at::TSC_FROM));
        self.asm.mov(ADDRESS, INDEX);
        self.asm.sar(ADDRESS, LEFT_SHIFT);
        self.asm.sub(FLAGS, ADDRESS);
        self.asm.load(ADDRESS, Mem::frame(at::TSC_RATE));
        // RDX:RAX = RAX * RCX.
        self.asm.unary(true, 4, ADDRESS);
        self.asm.double_shift(true, false, (FLAGS, DX), Some(32));
        self.asm.alu_load(Alu::Add, FLAGS, Mem::frame(at::TSC_BASE));
        self.asm
            .alu_load(Alu::Add, FLAGS, Mem::frame(at::TSC_ADJUST));
        self.asm.mov_32(ACCUMULATOR, FLAGS);
        self.asm.mov(DX, FLAGS);
        self.asm.shr(DX, 32);
        self.asm.mov(FLAGS, INDEX);
        if decoded.insn.code() == Code::Rdtscp {
            self.asm.load_32(COUNTER, Mem::frame(at::TSC_AUX));
        }
        self.resume(&slow);
    }

    /// Sets guest register `guest` to `from`.
    fn put(&mut self, guest: u8, from: Host) {
        match home(guest) {
            Home::Host(to) => self.asm.mov(to, from),
            Home::Frame => self.asm.store(Mem::frame(at::gpr(guest)), from),
        }
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
        self.asm
            .alu_constant_32(Alu::And, ADDRESS, flag::LOW.into());
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
        self.asm.mov_32(ADDRESS, INDEX);
        self.asm.shl_32(ADDRESS, 8);
        self.asm.shr_32(INDEX, 11);
        self.asm.alu_constant_32(Alu::And, INDEX, 1);
        self.asm.or_32(ADDRESS, INDEX);
        self.asm.mov_16(FLAGS, ADDRESS);
        self.asm.lea(STACK, Mem::base(STACK, 8));
        self.flags = Where::Saved;
        self.resume(&slow);
    }

    /// Clears one of the flags that aren't arithmetic ones.
    fn clear(&mut self, flag: u64) {
        self.save_flags();
        self.clobber_flags();
        self.asm
            .alu_memory_constant(Alu::And, Mem::frame(at::REST), bits(!flag));
    }

    /// Sets one of them.
    fn set(&mut self, flag: u64) {
        self.save_flags();
        self.clobber_flags();
        self.asm
            .alu_memory_constant(Alu::Or, Mem::frame(at::REST), bits(flag));
    }

    /// LAHF: AH has the flags as they are saved.
    fn flags_to_register(&mut self) {
        self.save_flags();
        self.asm.mov_bh_ah();
    }

    /// SAHF: the overflow flag stays.
    fn flags_from_register(&mut self) {
        self.save_flags();
        self.clobber_flags();
        self.asm.mov_ah_bh();
        self.asm.and_ah(flag::LOW);
        self.asm.or_ah(flag::FIXED);
        self.flags = if self.visible {
            Where::Saved
        } else {
            Where::Dead
        };
    }

    /// Its shadow of one instruction is nothing to see where no interrupt waits.
    fn enable_interrupts(&mut self, decoded: &Decoded) {
        self.save_flags();
        self.clobber_flags();
        self.asm
            .alu_memory_constant(Alu::Cmp, Mem::frame(at::INTERRUPT), 0);
        let waits = self.asm.jcc(Condition::NOT_EQUAL);
        let slow = self.slow(decoded, Operand::None, false, vec![waits]);
        self.set(flags::IF);
        self.resume(&slow);
    }

    /// MOV from a segment register, to a general one or to memory.
    fn read_selector(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        let is_read =
            insn.op_kind(1) == OpKind::Register && insn.op_register(1).is_segment_register();
        if !is_read {
            return false;
        }
        match insn.op_kind(0) {
            OpKind::Register => {
                let guest = guest_number(insn.op_register(0));
                self.selector(insn, ADDRESS);
                match (insn.op_register(0).size(), home(guest)) {
                    (2, Home::Host(to)) => self.asm.mov_16(to, ADDRESS),
                    (2, Home::Frame) => self.asm.store_16(Mem::frame(at::gpr(guest)), ADDRESS),
                    _ => self.put(guest, ADDRESS),
                }
            }
            // A window would take both free registers.
            OpKind::Memory if !self.has_windows && Self::has_plain_address(insn) => {
                let access = Access {
                    bytes: 2,
                    write: true,
                    aligned: false,
                };
                let (mem, slow) = self.operand(decoded, access);
                self.selector(insn, INDEX);
                self.asm.store_16(mem, INDEX);
                self.resume(&slow);
            }
            _ => return false,
        }
        true
    }

    /// Loads the selector that `insn` reads.
    fn selector(&mut self, insn: &Instruction, to: Host) {
        let number = insn.op_register(1).number() * size_of::<Segment>();
        let place = number + offset_of!(Segment, selector);
        let disp = i32::try_from(place).expect("there are eight segments");
        self.asm.load(to, Mem::frame(at::SEGMENTS));
        self.asm.load_16(to, Mem::base(to, disp));
    }
}
