//! SSE to SSE4.2 on XMM registers, while they are on and MXCSR masks every
//! exception: the guest's registers and its MXCSR are then in the host's. Not
//! here are those whose results differ between makes of processors, and all
//! that touch the MMX registers.

use cpu::Decoded;
use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic, OpKind, Register};

use super::Translator;
use super::memory::Access;
use crate::asm::{Alu, Condition, Mem};
use crate::register::{ADDRESS, INDEX};
use crate::site::Operand;

/// Exception masks of MXCSR, and its bits that must be 0.
#[expect(clippy::cast_possible_wrap, reason = "a mask of 32 bits")]
const MXCSR_CHECKED: i32 = 0xffff_1f80_u32 as i32;
/// All masked.
const MXCSR_MASKED: i32 = 0x1f80;

/// Whether translated code has it, where SIMD is on.
pub(super) fn is_known(insn: &Instruction) -> bool {
    is_control(insn)
        || insn.encoding() == EncodingKind::Legacy
            && insn.cpuid_features().iter().all(is_sse)
            && touches_xmm(insn)
            && !differs(insn)
}

/// Whether it stores or loads MXCSR.
fn is_control(insn: &Instruction) -> bool {
    matches!(insn.code(), Code::Stmxcsr_m32 | Code::Ldmxcsr_m32)
}

fn is_sse(feature: &CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::SSE | F::SSE2 | F::SSE3 | F::SSSE3 | F::SSE4_1 | F::SSE4_2
    )
}

fn touches_xmm(insn: &Instruction) -> bool {
    let mut any = false;
    for n in 0..insn.op_count() {
        if insn.op_kind(n) == OpKind::Register {
            let register = insn.op_register(n);
            if register.is_mm() {
                return false;
            }
            any |= register.is_xmm();
        }
    }
    any
}

/// Whether its result differs between makes, or it has registers or memory
/// beyond its operands.
fn differs(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        insn.mnemonic(),
        M::Rcpps
            | M::Rcpss
            | M::Rsqrtps
            | M::Rsqrtss
            | M::Dpps
            | M::Dppd
            | M::Maskmovdqu
            | M::Pcmpestri
            | M::Pcmpestri64
            | M::Pcmpestrm
            | M::Pcmpestrm64
            | M::Pcmpistri
            | M::Pcmpistrm
    )
}

/// Whether a memory operand of 16 bytes may lie anywhere.
fn lies_anywhere(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        insn.mnemonic(),
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu
    )
}

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn simd(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if !self.key.mode.simd || !is_known(insn) {
            return false;
        }
        if insn.code() == Code::Ldmxcsr_m32 {
            return self.load_mxcsr(decoded);
        }
        let has_second_byte = (0..insn.op_count()).any(|n| {
            insn.op_kind(n) == OpKind::Register
                && matches!(
                    insn.op_register(n),
                    Register::AH | Register::CH | Register::DH | Register::BH
                )
        });
        if has_second_byte {
            return false;
        }
        let aligned = insn.memory_size().size() == 16 && !lies_anywhere(insn);
        self.again(decoded, aligned)
    }

    /// LDMXCSR of a value that masks every exception and has no bit that must
    /// be 0.
    fn load_mxcsr(&mut self, decoded: &Decoded) -> bool {
        if !Self::has_plain_address(&decoded.insn) {
            return false;
        }
        self.save_flags();
        self.address(&decoded.insn, ADDRESS);
        let mut jumps = self.look_up(Access {
            bytes: 4,
            write: false,
            aligned: false,
        });
        self.asm.load_32(INDEX, Mem::base(ADDRESS, 0));
        self.asm.alu_constant_32(Alu::And, INDEX, MXCSR_CHECKED);
        self.asm.alu_constant_32(Alu::Cmp, INDEX, MXCSR_MASKED);
        jumps.push(self.asm.jcc(Condition::NOT_EQUAL));
        let slow = self.slow(decoded, Operand::Memory, false, jumps);
        self.asm.ldmxcsr(Mem::base(ADDRESS, 0));
        self.resume(&slow);
        true
    }
}
