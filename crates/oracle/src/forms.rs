//! Which instruction forms the generator goes through, and which it leaves out and why.

use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic};

use crate::case::{Mode, decoder_options};

/// A group of forms that are tested, and reported, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// General registers and memory.
    Integer,
    /// XMM registers.
    Sse,
    /// The x87 unit.
    X87,
    /// MM registers.
    Mmx,
    /// YMM and XMM registers, in VEX encodings.
    Avx,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 5] = [
        Family::Integer,
        Family::Sse,
        Family::X87,
        Family::Mmx,
        Family::Avx,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Family::Integer => "integer",
            Family::Sse => "sse",
            Family::X87 => "x87",
            Family::Mmx => "mmx",
            Family::Avx => "avx",
        }
    }

    /// The family of a form.
    pub fn of(code: Code) -> Family {
        let features = code.cpuid_features();
        let any = |wanted: &[CpuidFeature]| features.iter().any(|f| wanted.contains(f));
        use CpuidFeature as F;
        if any(&[F::AVX, F::AVX2, F::FMA, F::F16C]) {
            Family::Avx
        } else if any(&[F::FPU, F::FPU287, F::FPU387]) || matches!(code.mnemonic(), Mnemonic::Wait)
        {
            Family::X87
        } else if uses_mmx(code) {
            Family::Mmx
        } else if any(&[
            F::SSE,
            F::SSE2,
            F::SSE3,
            F::SSSE3,
            F::SSE4_1,
            F::SSE4_2,
            F::FXSR,
        ]) && !matches!(code.mnemonic(), Mnemonic::Crc32)
        {
            Family::Sse
        } else {
            Family::Integer
        }
    }
}

fn uses_mmx(code: Code) -> bool {
    use iced_x86::OpCodeOperandKind as K;
    code.cpuid_features().contains(&CpuidFeature::MMX)
        || code
            .op_code()
            .op_kinds()
            .iter()
            .any(|kind| matches!(kind, K::mm_reg | K::mm_rm | K::mm_or_mem))
}

/// The features that the machine's CPUID announces and that have user-mode instructions.
const ANNOUNCED: [CpuidFeature; 36] = {
    use CpuidFeature as F;
    [
        F::INTEL8086,
        F::INTEL186,
        F::INTEL286,
        F::INTEL386,
        F::INTEL486,
        F::X64,
        F::CMOV,
        F::CX8,
        F::CMPXCHG16B,
        F::POPCNT,
        F::PAUSE,
        F::MULTIBYTENOP,
        F::FSGSBASE,
        F::CLFSH,
        F::FXSR,
        F::FPU,
        F::FPU287,
        F::FPU387,
        F::MMX,
        F::SSE,
        F::SSE2,
        F::SSE3,
        F::SSSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::INTEL8086_ONLY,
        F::CPUID,
        F::XSAVE,
        F::BMI1,
        F::BMI2,
        F::LZCNT,
        F::MOVBE,
        F::AVX,
        F::AVX2,
        F::FMA,
        F::F16C,
    ]
};

/// Whether the host's processor has what x86-64-v3 adds; without, those forms are left out.
pub fn has_v3() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("f16c")
        && std::is_x86_feature_detected!("lzcnt")
        && std::is_x86_feature_detected!("movbe")
}

/// Whether a form is one that x86-64-v3 adds.
pub fn is_v3(code: Code) -> bool {
    use CpuidFeature as F;
    code.op_code().encoding() == EncodingKind::VEX
        || code
            .cpuid_features()
            .iter()
            .any(|f| matches!(f, F::BMI1 | F::LZCNT | F::MOVBE))
}

/// Why a form that is announced is not put before the silicon; `None` if it is.
pub fn left_out(code: Code) -> Option<&'static str> {
    use Mnemonic as M;
    let mnemonic = code.mnemonic();
    let form = code.op_code();
    if form.is_privileged() || form.must_be_cpl0() || form.is_input_output() {
        return match mnemonic {
            M::Hlt | M::Cli | M::Sti | M::In | M::Out => None,
            M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => None,
            _ => Some("privileged: always #GP in user code, which a readable case shows"),
        };
    }
    match mnemonic {
        M::Cpuid | M::Rdtsc | M::Rdtscp | M::Rdpmc | M::Xgetbv => {
            Some("the answer is the host's own")
        }
        M::Sgdt | M::Sidt | M::Sldt | M::Smsw | M::Str => {
            Some("with UMIP the host's kernel invents the answer")
        }
        M::Lar | M::Lsl | M::Verr | M::Verw => Some("looks into the host's descriptor table"),
        M::Syscall | M::Sysenter | M::Sysret | M::Sysexit | M::Iret | M::Iretd | M::Iretq => {
            Some("enters or leaves a kernel")
        }
        M::Retf | M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => {
            Some("loads a segment from the host's descriptor table")
        }
        M::Mov | M::Pop if loads_segment(code) => {
            Some("loads a segment from the host's descriptor table")
        }
        M::Call | M::Jmp if is_far(code) => {
            Some("loads a segment from the host's descriptor table")
        }
        M::Xsave | M::Xsave64 | M::Xrstor | M::Xrstor64 => {
            Some("the image follows from the host's XCR0 and its tracking of states in use")
        }
        M::Int1 => Some("its trap looks like the end of a step"),
        M::Int => {
            Some("what a vector does follows from the host's gates; readable cases show some")
        }
        M::Reservednop if code.op_code().op_code() == 0x0d => {
            Some("a NOP of Intel's processors, undefined with a register on AMD's")
        }
        M::Push
            if matches!(
                code,
                Code::Pushd_ES
                    | Code::Pushd_CS
                    | Code::Pushd_SS
                    | Code::Pushd_DS
                    | Code::Pushd_FS
                    | Code::Pushd_GS
            ) =>
        {
            Some("Intel's processors store 16 bits, AMD's 32")
        }
        M::Movsxd if code == Code::Movsxd_r16_rm16 => Some("AMD's processors read 32 bits"),
        M::Fstpnce => Some("an undocumented alias of FSTP"),
        M::Ud0 => Some("processors differ in whether it takes a ModRM byte"),
        M::Wrfsbase | M::Rdfsbase | M::Wrgsbase | M::Rdgsbase => None,
        _ => None,
    }
}

fn loads_segment(code: Code) -> bool {
    use iced_x86::OpCodeOperandKind as K;
    matches!(
        code.op_code().op0_kind(),
        K::seg_reg | K::es | K::cs | K::ss | K::ds | K::fs | K::gs
    )
}

fn is_far(code: Code) -> bool {
    use iced_x86::FlowControl;
    let mut instruction = iced_x86::Instruction::new();
    instruction.set_code(code);
    matches!(
        instruction.flow_control(),
        FlowControl::Call
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectCall
            | FlowControl::IndirectBranch
    ) && (instruction.is_jmp_far()
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far()
        || instruction.is_call_far_indirect())
}

/// The forms for the silicon in a mode, in the order of their numbers.
pub fn forms(mode: Mode) -> Vec<Code> {
    Code::values()
        .filter(|code| {
            let form = code.op_code();
            matches!(form.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
                && (has_v3() || !is_v3(*code))
                && form.is_instruction()
                && !form.fwait()
                && form.is_available_in_mode(mode.bits())
                // Not a near branch with a 66 prefix in 64-bit code, which only AMD's processors cut
                // to 16 bits: the one announced is Intel's.
                && (mode == Mode::Compat || form.intel_decoder64())
                && (form.decoder_option() == 0 || form.decoder_option() & decoder_options() != 0)
                && code.cpuid_features().iter().all(|f| ANNOUNCED.contains(f))
                && left_out(*code).is_none()
        })
        .collect()
}
