//! A decoded instruction, ready to execute.

use iced_x86::{Instruction, OpKind, Register};
use x86::seg;

use crate::state::{GPR_BLOCK, GPR_ZERO};
use crate::{Bus, Cpu, Flow};

/// Executes one instruction. Registers and flags change only if it returns
/// `Ok` (or where the manual lets a fault leave them changed).
pub type Handler = fn(&mut Cpu, &mut dyn Bus, &Op) -> Flow;

/// How an address is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSize {
    /// Offset modulo 2^16.
    Bits16,
    /// Offset modulo 2^32.
    Bits32,
    /// 64-bit mode's default.
    Bits64,
}

impl AddressSize {
    /// The last offset there is, of which all bits are ones.
    #[inline(always)]
    pub(crate) fn last(self) -> u64 {
        match self {
            AddressSize::Bits16 => u16::MAX.into(),
            AddressSize::Bits32 => u32::MAX.into(),
            AddressSize::Bits64 => u64::MAX,
        }
    }
}

/// Marks AH, CH, DH and BH among 8-bit register numbers.
pub(crate) const HIGH_BYTE: u8 = 0x20;

/// A decoded instruction. Positions are relative to the start of its block,
/// so that a block is good for every linear address its page is mapped at.
#[derive(Clone, Debug)]
pub struct Op {
    /// What executes it.
    pub run: Handler,
    /// An immediate, sign-extended as the instruction says; for near branches
    /// the target relative to the start of the block.
    pub imm: u64,
    /// Displacement of the memory operand, sign-extended. RIP-relative ones
    /// are relative to the start of the block, with base [`GPR_BLOCK`].
    pub disp: u64,
    /// Offset of the next instruction from the start of the block.
    pub end: u16,
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// Base register of the memory operand.
    pub base: u8,
    /// Index register of the memory operand.
    pub index: u8,
    /// Log 2 of the index's scale.
    pub scale: u8,
    /// Segment of the memory operand; [`seg::FLAT`] where it has base 0 and
    /// no limit.
    pub seg: u8,
    /// Whether an access faults as a stack access (`#SS`, not `#GP`).
    pub stack: bool,
    /// How the memory operand's address is computed.
    pub address: AddressSize,
    /// 64-bit code and a 64-bit address: nothing about it needs a check but
    /// the translation.
    pub quick: bool,
    /// Number of the first operand's register.
    pub a: u8,
    /// Number of the second operand's register.
    pub b: u8,
    /// Number of the third operand's register.
    pub c: u8,
    /// Operand size in bytes: 1, 2, 4 or 8 (of the memory or first operand).
    pub size: u8,
    /// Bits of [`prefix`].
    pub prefix: u8,
}

/// Bits of [`Op::prefix`].
pub(crate) mod prefix {
    /// F3, on a string instruction.
    pub(crate) const REPE: u8 = 1 << 0;
    /// F2, on a string instruction.
    pub(crate) const REPNE: u8 = 1 << 1;
    /// F0.
    pub(crate) const LOCK: u8 = 1 << 2;
}

impl Op {
    /// The operands of `insn`, which was decoded with its offset from the
    /// block's start as its IP. `run` is for the caller to choose.
    pub fn of(insn: &Instruction, run: Handler) -> Op {
        let mut op = Op {
            run,
            imm: 0,
            disp: insn.memory_displacement64(),
            end: insn.next_ip() as u16,
            len: insn.len() as u8,
            base: GPR_ZERO,
            index: GPR_ZERO,
            scale: insn.memory_index_scale().trailing_zeros() as u8,
            seg: seg::FLAT,
            stack: false,
            address: AddressSize::Bits64,
            quick: false,
            a: 0,
            b: 0,
            c: 0,
            size: 0,
            prefix: 0,
        };
        if insn.has_rep_prefix() {
            op.prefix |= prefix::REPE;
        }
        if insn.has_repne_prefix() {
            op.prefix |= prefix::REPNE;
        }
        if insn.has_lock_prefix() {
            op.prefix |= prefix::LOCK;
        }
        op.size = operand_size(insn);
        op.read_memory_operand(insn);
        let register = |n| match insn.op_kind(n) {
            OpKind::Register => register_number(insn.op_register(n)),
            _ => 0,
        };
        let count = insn.op_count();
        op.a = if count > 0 { register(0) } else { 0 };
        op.b = if count > 1 { register(1) } else { 0 };
        op.c = if count > 2 { register(2) } else { 0 };
        // Last: ENTER's level takes the second register's place.
        op.read_immediates(insn);
        op
    }

    /// The immediate of an instruction that has eight bits of it.
    #[inline(always)]
    pub fn imm8(&self) -> u8 {
        self.imm.to_le_bytes()[0]
    }

    fn read_memory_operand(&mut self, insn: &Instruction) {
        use OpKind as K;
        let long = insn.code_size() == iced_x86::CodeSize::Code64;
        let string = |kind| match kind {
            K::MemorySegSI | K::MemorySegDI | K::MemoryESDI => Some(AddressSize::Bits16),
            K::MemorySegESI | K::MemorySegEDI | K::MemoryESEDI => Some(AddressSize::Bits32),
            K::MemorySegRSI | K::MemorySegRDI | K::MemoryESRDI => Some(AddressSize::Bits64),
            _ => None,
        };
        let kinds = (0..insn.op_count()).map(|n| insn.op_kind(n));
        if let Some(size) = kinds.clone().find_map(string) {
            self.address = size;
        } else if kinds.clone().any(|kind| kind == K::Memory) {
            self.read_addressing(insn);
        } else if !long {
            // LEAVE, XLAT and the like: their implied operands' size.
            self.address = AddressSize::Bits32;
        }
        let segment = insn.memory_segment();
        if segment != Register::None {
            let number = register_number(segment);
            self.seg = if long && number < seg::FS {
                seg::FLAT
            } else {
                number
            };
            self.stack = if long {
                // There a prefix that names SS, DS, ES or CS has no meaning.
                let is_stack = matches!(
                    insn.memory_base(),
                    Register::RSP | Register::RBP | Register::ESP | Register::EBP
                );
                is_stack && number < seg::FS
            } else {
                segment == Register::SS
            };
        }
        self.quick = long && self.address == AddressSize::Bits64;
    }

    fn read_addressing(&mut self, insn: &Instruction) {
        let base = insn.memory_base();
        let index = insn.memory_index();
        // A vector of indices says nothing of the address's size.
        let general = [base, index]
            .into_iter()
            .find(|register| *register != Register::None && !register.is_vector_register());
        let widest = general.unwrap_or(Register::None);
        self.address = match widest {
            Register::None => match insn.memory_displ_size() {
                2 => AddressSize::Bits16,
                8 => AddressSize::Bits64,
                _ => AddressSize::Bits32,
            },
            Register::RIP => AddressSize::Bits64,
            Register::EIP => AddressSize::Bits32,
            register => match register.size() {
                2 => AddressSize::Bits16,
                4 => AddressSize::Bits32,
                _ => AddressSize::Bits64,
            },
        };
        self.base = match base {
            Register::None => GPR_ZERO,
            // iced gives the target, relative to the IP it decoded at.
            Register::RIP | Register::EIP => GPR_BLOCK,
            register => register_number(register),
        };
        self.index = if index == Register::None {
            GPR_ZERO
        } else {
            register_number(index)
        };
    }

    fn read_immediates(&mut self, insn: &Instruction) {
        use OpKind as K;
        for n in 0..insn.op_count() {
            match insn.op_kind(n) {
                K::NearBranch16 | K::NearBranch32 | K::NearBranch64 => {
                    self.imm = insn.near_branch_target();
                }
                K::FarBranch16 => {
                    self.imm = u64::from(insn.far_branch16());
                    self.disp = u64::from(insn.far_branch_selector());
                }
                K::FarBranch32 => {
                    self.imm = u64::from(insn.far_branch32());
                    self.disp = u64::from(insn.far_branch_selector());
                }
                // The second immediate of ENTER, EXTRQ and INSERTQ.
                K::Immediate8_2nd => self.b = insn.immediate8_2nd(),
                K::Immediate8
                | K::Immediate16
                | K::Immediate32
                | K::Immediate64
                | K::Immediate8to16
                | K::Immediate8to32
                | K::Immediate8to64
                | K::Immediate32to64 => self.imm = insn.immediate(n),
                _ => {}
            }
        }
    }
}

/// The number a register has in an encoding, with [`HIGH_BYTE`] for AH to BH.
fn register_number(register: Register) -> u8 {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            HIGH_BYTE | (register as u8 - Register::AH as u8)
        }
        Register::None | Register::RIP | Register::EIP => 0,
        // iced counts SPL to R15L on from BH.
        register if register.is_gpr8() => register.full_register().number() as u8,
        register => register.number() as u8,
    }
}

/// Size in bytes of the operand that gives the instruction its width.
fn operand_size(insn: &Instruction) -> u8 {
    let bytes = if insn.op_count() == 0 {
        0
    } else if insn.op_kind(0) == OpKind::Register {
        insn.op_register(0).size()
    } else {
        insn.memory_size().size()
    };
    u8::try_from(bytes).unwrap_or(0)
}
