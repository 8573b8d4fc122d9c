//! Memory operands: the guest's address, and the host's by the fast TLB.

use cpu::Decoded;
use iced_x86::{Instruction, OpKind, Register};

use super::Translator;
use crate::asm::{Alu, Condition, Fix, Mem};
use crate::frame::at;
use crate::register::{ADDRESS, Home, Host, INDEX, home};
use crate::site::Operand;
use crate::tlb;

/// What an instruction does to its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Length in bytes, 1 to 32.
    pub(super) bytes: u8,
    /// Whether it is written.
    pub(super) write: bool,
    /// Whether its address must be a multiple of its length.
    pub(super) aligned: bool,
}

const PAGE: i32 = 4096;
/// From an entry's number to its place.
const ENTRY_SHIFT: u8 = 5;
const _: () = assert!(1 << ENTRY_SHIFT == size_of::<tlb::Entry>());

impl Translator<'_> {
    /// Whether [`Translator::address`] can compute the address of `insn`'s
    /// memory operand.
    pub(super) fn has_plain_address(insn: &Instruction) -> bool {
        let is_wide = |register: Register| {
            matches!(register, Register::None | Register::RIP) || register.is_gpr64()
        };
        let is_narrow = |register: Register| register == Register::None || register.is_gpr32();
        let (base, index) = (insn.memory_base(), insn.memory_index());
        let absolute_32 =
            base == Register::None && index == Register::None && insn.memory_displ_size() == 4;
        let narrow = is_narrow(base) && is_narrow(index) && !absolute_32;
        (is_wide(base) && is_wide(index)) || narrow && base != Register::EIP
    }

    /// Whether the segment of `insn`'s memory operand, if it has one, lets every
    /// access pass.
    pub(super) fn has_open_segment(&self, insn: &Instruction) -> bool {
        let has_memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
        if !self.key.mode.narrow || !has_memory {
            return true;
        }
        let [fs, gs] = self.key.mode.open;
        match insn.memory_segment() {
            Register::DS | Register::ES | Register::SS => true,
            Register::FS => fs,
            Register::GS => gs,
            _ => false,
        }
    }

    /// Computes the linear address of `insn`'s memory operand in `to`, which is
    /// free as [`INDEX`] is. Changes the host's flags where the segment is FS or
    /// GS.
    pub(super) fn address(&mut self, insn: &Instruction, to: Host) {
        self.effective_address(insn, to);
        let base = match insn.memory_segment() {
            Register::FS => at::FS_BASE,
            Register::GS => at::GS_BASE,
            _ => return,
        };
        self.asm.alu_load(Alu::Add, to, Mem::frame(base));
        if self.key.mode.narrow {
            self.asm.mov_32(to, to);
        }
    }

    /// The offset in its segment: what LEA gives. Uses [`INDEX`]; leaves flags
    /// alone.
    pub(super) fn effective_address(&mut self, insn: &Instruction, to: Host) {
        let (base, index) = (insn.memory_base(), insn.memory_index());
        let displacement = insn.memory_displacement64();
        if base == Register::RIP {
            // iced gives the target, relative to the start of the block.
            let offset = displacement.cast_signed() + self.offset;
            self.asm.load(to, Mem::frame(at::CODE_BASE));
            match i32::try_from(offset) {
                Ok(disp) => self.asm.lea(to, Mem::base(to, disp)),
                Err(_) => {
                    self.asm.constant(INDEX, offset.cast_unsigned());
                    self.asm.lea(to, Mem::indexed(Some(to), INDEX, 0, 0));
                }
            }
            return;
        }
        if base == Register::None && index == Register::None {
            let mask = if self.key.mode.narrow {
                u64::from(u32::MAX)
            } else {
                u64::MAX
            };
            self.asm.constant(to, displacement & mask);
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "sign-extended from 32 bits, or of a 32-bit address"
        )]
        let disp = displacement as u32 as i32;
        let base = (base != Register::None).then(|| self.in_host(base, to));
        let index = (index != Register::None).then(|| {
            let host = self.in_host(index, INDEX);
            (host, insn.memory_index_scale().trailing_zeros())
        });
        let narrow = insn.memory_base().is_gpr32() || insn.memory_index().is_gpr32();
        let mem = match (base, index) {
            (Some(base), None) if disp == 0 && !narrow => {
                self.asm.mov(to, base);
                return;
            }
            (Some(base), None) => Mem::base(base, disp),
            (base, Some((index, scale))) => {
                #[expect(clippy::cast_possible_truncation, reason = "0 to 3")]
                let scale = scale as u8;
                Mem::indexed(base, index, scale, disp)
            }
            (None, None) => unreachable!("seen to above"),
        };
        if narrow {
            self.asm.lea_32(to, mem);
        } else {
            self.asm.lea(to, mem);
        }
    }

    /// The host register that holds guest register `register`; `spare`, with
    /// its value, if none does.
    pub(super) fn in_host(&mut self, register: Register, spare: Host) -> Host {
        let number = guest_number(register);
        match home(number) {
            Home::Host(host) => host,
            Home::Frame => {
                self.asm.load(spare, Mem::frame(at::gpr(number)));
                spare
            }
        }
    }

    /// Turns the linear address in `rcx` into the host's, by the fast TLB.
    /// Returns the jumps to the slow way. The flags have been saved.
    pub(super) fn look_up(&mut self, access: Access) -> Vec<Fix> {
        let mut jumps = Vec::with_capacity(2);
        self.clobber_flags();
        if access.aligned {
            self.asm.test_low_byte(ADDRESS, access.bytes - 1);
            jumps.push(self.asm.jcc(Condition::NOT_EQUAL));
        }
        let space = usize::from(self.key.mode.space);
        let entry = |field: usize| {
            let offset = space * tlb::ENTRIES * size_of::<tlb::Entry>() + field;
            let disp = at::TLB + i32::try_from(offset).expect("the tables are small");
            Mem::indexed(Some(crate::register::FRAME), INDEX, 0, disp)
        };
        let tag = if access.write {
            std::mem::offset_of!(tlb::Entry, write)
        } else {
            std::mem::offset_of!(tlb::Entry, read)
        };
        let mask = i32::try_from((tlb::ENTRIES - 1) << ENTRY_SHIFT).expect("the table is small");
        self.asm.mov(INDEX, ADDRESS);
        self.asm.shr(INDEX, 12 - ENTRY_SHIFT);
        self.asm.alu_constant_32(Alu::And, INDEX, mask);
        self.asm.alu_load(Alu::Sub, ADDRESS, entry(tag));
        self.asm
            .alu_constant(Alu::Cmp, ADDRESS, PAGE - i32::from(access.bytes));
        jumps.push(self.asm.jcc(Condition::ABOVE));
        let host = std::mem::offset_of!(tlb::Entry, host);
        self.asm.alu_load(Alu::Add, ADDRESS, entry(host));
        jumps
    }

    /// The host address of `decoded`'s memory operand in `rcx`, and the way to
    /// the helper where that isn't known.
    pub(super) fn operand(&mut self, decoded: &Decoded, access: Access) -> super::Slow {
        self.save_flags();
        if matches!(decoded.insn.memory_segment(), Register::FS | Register::GS) {
            self.clobber_flags();
        }
        self.address(&decoded.insn, ADDRESS);
        let jumps = self.look_up(access);
        self.slow(decoded, Operand::Memory, false, jumps)
    }
}

/// The number of a general register of any width.
pub(super) fn guest_number(register: Register) -> u8 {
    u8::try_from(register.full_register().number()).expect("there are sixteen")
}
