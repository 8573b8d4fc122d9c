//! SSE to SSE4.2 on XMM registers, and AVX, AVX2, FMA and F16C, while they are on
//! and MXCSR masks every exception: the guest's registers and its MXCSR are then
//! in the host's. Not here are those whose results differ between makes of
//! processors, gathers, and all that touch the MMX registers.

use cpu::Decoded;
use iced_x86::{CpuidFeature, EncodingKind, Instruction, Mnemonic, OpKind};

use super::general::has_second_byte;
use super::memory::Access;
use super::{Translator, text};
use crate::asm::{Alu, Condition, Mem};
use crate::cache::Mode;
use crate::register::{ADDRESS, INDEX};
use crate::site::Operand;

/// Exception masks of MXCSR, and its bits that must be 0.
#[expect(clippy::cast_possible_wrap, reason = "a mask of 32 bits")]
const MXCSR_CHECKED: i32 = 0xffff_1f80_u32 as i32;
/// All masked.
const MXCSR_MASKED: i32 = 0x1f80;

/// Whether translated code has it, where SIMD is on.
pub(super) fn is_known(insn: &Instruction, mode: Mode) -> bool {
    let exists = match insn.encoding() {
        EncodingKind::Legacy => mode.simd && insn.cpuid_features().iter().all(is_sse),
        EncodingKind::VEX => mode.avx && insn.cpuid_features().iter().all(is_avx),
        _ => false,
    };
    exists && (is_control(insn, mode) || touches_vectors(insn) && !differs(insn))
}

/// Whether it stores or loads MXCSR, or clears all upper halves: 32-bit code
/// would have to keep those of registers 8 to 15.
fn is_control(insn: &Instruction, mode: Mode) -> bool {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Stmxcsr | M::Ldmxcsr | M::Vstmxcsr | M::Vldmxcsr => true,
        M::Vzeroupper | M::Vzeroall => !mode.narrow,
        _ => false,
    }
}

fn is_sse(feature: &CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::SSE | F::SSE2 | F::SSE3 | F::SSSE3 | F::SSE4_1 | F::SSE4_2
    )
}

fn is_avx(feature: &CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(feature, F::AVX | F::AVX2 | F::FMA | F::F16C)
}

fn touches_vectors(insn: &Instruction) -> bool {
    let mut any = false;
    for n in 0..insn.op_count() {
        if insn.op_kind(n) == OpKind::Register {
            let register = insn.op_register(n);
            if register.is_mm() {
                return false;
            }
            any |= register.is_vector_register();
        }
    }
    any
}

/// Whether its result differs between makes, or it has memory or registers beyond its
/// operands that the host's has elsewhere. (VCVTPS2PH has set MXCSR on some when its store faults.)
fn differs(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        insn.mnemonic(),
        M::Rcpps
            | M::Vrcpps
            | M::Rcpss
            | M::Vrcpss
            | M::Rsqrtps
            | M::Vrsqrtps
            | M::Rsqrtss
            | M::Vrsqrtss
            | M::Dpps
            | M::Vdpps
            | M::Dppd
            | M::Vdppd
            | M::Maskmovdqu
            | M::Vmaskmovdqu
    ) || insn.mnemonic() == M::Vcvtps2ph && insn.op_kind(0) == OpKind::Memory
}

/// Whether its memory operand must be aligned: SSE's of 16 bytes, but for moves that
/// say otherwise, and text; AVX's where moves say so.
fn is_aligned(insn: &Instruction) -> bool {
    use Mnemonic as M;
    match insn.encoding() {
        EncodingKind::Legacy => {
            insn.memory_size().size() == 16
                && !text::is_known(insn)
                && !matches!(
                    insn.mnemonic(),
                    M::Movups | M::Movupd | M::Movdqu | M::Lddqu
                )
        }
        _ => matches!(
            insn.mnemonic(),
            M::Vmovaps
                | M::Vmovapd
                | M::Vmovdqa
                | M::Vmovntps
                | M::Vmovntpd
                | M::Vmovntdq
                | M::Vmovntdqa
        ),
    }
}

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn simd(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if !is_known(insn, self.key.mode) {
            return false;
        }
        if matches!(insn.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr) {
            return self.load_mxcsr(decoded);
        }
        if has_second_byte(insn) {
            return false;
        }
        self.text(decoded) || self.again(decoded, is_aligned(insn))
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
