//! Where the guest's arithmetic flags are while translated code runs.
//!
//! Mostly they are in the host's own flags, as the guest's instruction left
//! them. The lookup before a memory access needs those, so before it they are
//! saved in `rax`; and brought back before an instruction that reads them, or
//! that leaves some of them alone. Where each is known at translation time.
//!
//! Flags must be exact wherever translated code can be left: a fault or an
//! interrupt shows them. An instruction whose flags nobody can see before they
//! are all written anew leaves them dead, and saves the work.

use iced_x86::{Instruction, Mnemonic, RflagsBits};

/// Where the guest's arithmetic flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Where {
    /// In the host's flags.
    Host,
    /// In the host's flags, but AF is 0 whatever the host's says: after shifts,
    /// where makes of processors differ.
    HostWithoutAf,
    /// Saved in `rax`.
    Saved,
    /// In the host's flags and saved too.
    Both,
    /// Nowhere: they are written before anyone can see them.
    Dead,
}

/// The five of them that LAHF gives, as bits of AH.
pub(crate) const LOW: u8 = 0xd5;
/// The bit of AH that is always 1.
pub(crate) const FIXED: u8 = 1 << 1;

/// All six arithmetic flags.
pub(crate) const ARITHMETIC: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// What an instruction does to the arithmetic flags, as [`RflagsBits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The flags it reads.
    pub(crate) reads: u32,
    /// The flags it writes, those the manual leaves undefined included.
    pub(crate) writes: u32,
}

impl Effect {
    /// Of `insn`.
    pub(crate) fn of(insn: &Instruction) -> Effect {
        // The manual has these depend on a count that may be 0.
        let by_register = matches!(
            insn.mnemonic(),
            Mnemonic::Shl
                | Mnemonic::Sal
                | Mnemonic::Shr
                | Mnemonic::Sar
                | Mnemonic::Rol
                | Mnemonic::Ror
                | Mnemonic::Rcl
                | Mnemonic::Rcr
                | Mnemonic::Shld
                | Mnemonic::Shrd
        ) && !is_immediate(insn);
        let reads = insn.rflags_read() | if by_register { ARITHMETIC } else { 0 };
        // Some flags that the manual leaves undefined stay as they were here.
        let writes = match insn.mnemonic() {
            Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Cmpxchg16b => RflagsBits::ZF,
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => RflagsBits::CF,
            Mnemonic::Div | Mnemonic::Idiv => 0,
            _ => insn.rflags_modified(),
        };
        Effect {
            reads: reads & ARITHMETIC,
            writes: writes & ARITHMETIC,
        }
    }

    /// Whether nothing of what was there before stays.
    pub(crate) fn is_complete(self) -> bool {
        self.writes == ARITHMETIC && self.reads == 0
    }
}

fn is_immediate(insn: &Instruction) -> bool {
    use iced_x86::OpKind;
    matches!(
        insn.op_kind(insn.op_count() - 1),
        OpKind::Immediate8 | OpKind::Immediate8_2nd
    )
}

/// For each instruction, whether someone may see the flags as it leaves them:
/// the next that reads them, or that may leave translated code, comes before
/// all are written anew. `exits` says of each whether it may.
pub(crate) fn visible(effects: &[Effect], exits: &[bool]) -> Vec<bool> {
    let mut visible = vec![true; effects.len()];
    let mut seen = true;
    for n in (0..effects.len()).rev() {
        visible[n] = seen;
        if exits[n] || effects[n].reads != 0 {
            seen = true;
        } else if effects[n].is_complete() {
            seen = false;
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Effect = Effect {
        reads: 0,
        writes: ARITHMETIC,
    };
    const NONE: Effect = Effect {
        reads: 0,
        writes: 0,
    };
    const CARRY_IN: Effect = Effect {
        reads: RflagsBits::CF,
        writes: ARITHMETIC,
    };

    #[test]
    fn flags_are_dead_between_two_complete_writes() {
        let visible = visible(&[ALL, NONE, ALL], &[false; 3]);
        assert_eq!(visible, [false, false, true]);
    }

    #[test]
    fn a_reader_or_an_exit_sees_them() {
        assert!(visible(&[ALL, CARRY_IN, ALL], &[false; 3])[0]);
        assert!(visible(&[ALL, ALL], &[false, true])[0]);
    }
}
