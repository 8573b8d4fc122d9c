//! What x86-64-v3 adds to general registers: BMI1, BMI2, LZCNT and MOVBE. The
//! flags that the manual leaves undefined come out as `cpu` defines them
//! (docs/determinism.md).

use cpu::{Decoded, Model};
use iced_x86::{Instruction, Mnemonic};

use super::Translator;
use crate::cache::Mode;
use crate::flag::Where;
use crate::register::Host;

/// Which flags an instruction leaves.
#[derive(Clone, Copy, Debug)]
enum Flags {
    /// All as they were.
    Kept,
    /// Those of TEST with the result.
    OfResult,
    /// CF is the instruction's own, OF and AF are 0, the others the result's.
    OfResultAndCarry,
    /// CF and ZF are the instruction's own, the others 0.
    OfCount,
}

fn flags_of(insn: &Instruction) -> Option<Flags> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Mulx | M::Pdep | M::Pext | M::Rorx | M::Sarx | M::Shlx | M::Shrx | M::Movbe => {
            Flags::Kept
        }
        M::Andn | M::Bextr => Flags::OfResult,
        M::Bzhi | M::Blsi | M::Blsr | M::Blsmsk => Flags::OfResultAndCarry,
        M::Tzcnt | M::Lzcnt => Flags::OfCount,
        _ => return None,
    })
}

/// Whether it is one of these, on a processor that has them.
pub(super) fn is_known(insn: &Instruction, mode: Mode) -> bool {
    mode.model == Model::V3 && flags_of(insn).is_some()
}

/// What LAHF gives of CF and ZF, and of the bit that is always 1.
const CARRY_AND_ZERO: u8 = 0x43;

impl Translator<'_> {
    /// One of these instructions.
    pub(super) fn bmi(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if !is_known(insn, self.key.mode) {
            return false;
        }
        let Some(flags) = flags_of(insn) else {
            return false;
        };
        self.again_with(decoded, false, |translator, result| {
            translator.set_flags(flags, result, insn.op_register(0).size())
        })
    }

    /// Sets the flags of a result of so many bytes, which is in this register.
    fn set_flags(&mut self, flags: Flags, result: Host, bytes: usize) {
        self.flags_after();
        if self.flags == Where::Dead {
            return;
        }
        match flags {
            Flags::Kept => {}
            Flags::OfResult => self.asm.test(result, bytes),
            Flags::OfResultAndCarry => {
                self.asm.setc_al();
                self.asm.test(result, bytes);
                self.asm.lahf();
                self.asm.or_ah_al();
                self.asm.zero_al();
                self.flags = Where::Saved;
            }
            Flags::OfCount => {
                self.asm.lahf();
                self.asm.and_ah(CARRY_AND_ZERO);
                self.asm.zero_al();
                self.flags = Where::Saved;
            }
        }
    }
}
