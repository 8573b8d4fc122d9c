//! Memory operands: the guest's address, and the host's by the fast TLB.

use cpu::Decoded;
use iced_x86::{FlowControl, Instruction, OpKind, Register};

use super::Translator;
use super::cold::{Missed, Slow};
use super::window::Base;
use crate::asm::{Alu, Condition, Fix, Mem};
use crate::frame::at;
use crate::register::{ADDRESS, FRAME, Home, Host, INDEX, home};
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
    /// free as [`INDEX`] is. Leaves flags alone.
    pub(super) fn address(&mut self, insn: &Instruction, to: Host) {
        self.effective_address(insn, to);
        let base = match insn.memory_segment() {
            Register::FS => at::FS_BASE,
            Register::GS => at::GS_BASE,
            _ => return,
        };
        self.asm.load(INDEX, Mem::frame(base));
        self.asm.lea(to, Mem::indexed(Some(to), INDEX, 0, 0));
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

    /// Sees that the linear address in `at` is canonical: its upper 17 bits are all
    /// equal. Returns the jump that is taken where it isn't. Uses [`INDEX`]; the
    /// flags have been saved.
    pub(super) fn see_canonical(&mut self, at: Host) -> Fix {
        self.asm.mov(INDEX, at);
        self.asm.shl(INDEX, 16);
        self.asm.sar(INDEX, 16);
        self.asm.cmp(true, INDEX, at);
        self.asm.jcc(Condition::NOT_EQUAL)
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
        let space = self.key.mode.space as usize;
        let entry = |field: usize| {
            let offset = space * tlb::ENTRIES * size_of::<tlb::Entry>() + field;
            let disp = at::TLB + i32::try_from(offset).expect("the tables are small");
            Mem::indexed(Some(FRAME), INDEX, 0, disp)
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

    /// What lies `disp` bytes from the linear address in guest register `base`, by
    /// a window or the fast TLB, and how it is missed. Uses both free registers,
    /// of which one is left.
    pub(super) fn reach(&mut self, base: Register, disp: i32, access: Access) -> Reached {
        if self.has_windows && !self.key.mode.narrow {
            let mem = self.in_window(Base::Register(base), disp);
            return Reached {
                mem,
                spare: ADDRESS,
                missed: self.faults_from_here(),
            };
        }
        if !self.has_windows {
            self.save_flags();
        }
        let base = self.in_host(base, ADDRESS);
        if disp == 0 {
            self.mov_word(ADDRESS, base);
        } else {
            self.lea_word(ADDRESS, Mem::base(base, disp));
        }
        let missed = if self.has_windows {
            let mem = self.address_in_window();
            self.asm.lea(ADDRESS, mem);
            self.faults_from_here()
        } else {
            self.look_up(access).into()
        };
        Reached {
            mem: Mem::base(ADDRESS, 0),
            spare: INDEX,
            missed,
        }
    }

    /// How `insn`'s memory operand will be written in host code, and the host
    /// registers that are free beside it.
    pub(super) fn form(&self, insn: &Instruction) -> (Mem, &'static [Host]) {
        if !self.has_windows {
            return FORM;
        }
        let (base, disp) = match self.plain_base(insn) {
            Some((Base::Register(register), disp)) => match home(guest_number(register)) {
                Home::Host(host) => (host, disp),
                Home::Frame => (ADDRESS, disp),
            },
            Some((Base::Code, disp)) => (ADDRESS, disp),
            Some((Base::Any, _)) | None => (ADDRESS, 0),
        };
        let spare: &[Host] = if base == ADDRESS { &[] } else { &[ADDRESS] };
        (Mem::indexed(Some(base), INDEX, 0, disp), spare)
    }

    /// Makes `decoded`'s memory operand lie at `form`, which is what
    /// [`Translator::form`] gave or [`FORM`]; and the way to the helper where that
    /// can't be. Without windows the flags are saved.
    pub(super) fn operand_at(&mut self, decoded: &Decoded, access: Access, form: Mem) -> Slow {
        if !self.has_windows {
            return self.operand_by_tlb(decoded, access);
        }
        let mem = match self.plain_base(&decoded.insn) {
            Some((base, disp)) => self.in_window(base, disp),
            None => {
                self.address(&decoded.insn, ADDRESS);
                self.address_in_window()
            }
        };
        if form.index.is_none() {
            self.asm.lea(ADDRESS, mem);
        }
        let missed = self.faults_from_here();
        self.slow(decoded, Operand::Memory, ends_block(decoded), missed)
    }

    /// Where `decoded`'s memory operand lies, and the way to the helper where that
    /// isn't known. Uses both free registers. Without windows the flags are saved.
    pub(super) fn operand(&mut self, decoded: &Decoded, access: Access) -> (Mem, Slow) {
        let (form, _) = self.form(&decoded.insn);
        let slow = self.operand_at(decoded, access, form);
        (form, slow)
    }

    /// Puts the host address of `decoded`'s memory operand into `rcx`, by the fast
    /// TLB; and the way to the helper where that isn't known. The flags are saved.
    pub(super) fn operand_by_tlb(&mut self, decoded: &Decoded, access: Access) -> Slow {
        self.save_flags();
        self.address(&decoded.insn, ADDRESS);
        let jumps = self.look_up(access);
        self.slow(decoded, Operand::Memory, ends_block(decoded), jumps)
    }
}

/// Whether `decoded` is a jump or a call.
fn ends_block(decoded: &Decoded) -> bool {
    decoded.insn.flow_control() != FlowControl::Next
}

/// A memory operand that can be accessed.
pub(super) struct Reached {
    pub(super) mem: Mem,
    /// A host register that is free beside it.
    pub(super) spare: Host,
    pub(super) missed: Missed,
}

/// A memory operand whose host address is in `rcx`, and what is free beside it.
pub(super) const FORM: (Mem, &[Host]) = (Mem::base(ADDRESS, 0), &[INDEX]);

/// The number of a general register of any width.
pub(super) fn guest_number(register: Register) -> u8 {
    u8::try_from(register.full_register().number()).expect("there are sixteen")
}
