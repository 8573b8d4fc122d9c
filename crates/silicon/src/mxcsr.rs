//! MXCSR: running an instruction under the guest's rounding, and turning what
//! it raised into the guest's flags or exception (SDM volume 1, 10.2.3, 11.5).
//!
//! The host's instruction runs with every exception masked and every flag
//! clear; what the processor would have done with the guest's masks follows
//! from the flags it raised. Two things need care, both in the cold path:
//! conditions found before the computation (#I, #D, #Z) hide those found after
//! it (#O, #U, #P); and an unmasked underflow is raised by an exact tiny result
//! too, which a masked one is not.

/// Invalid operation.
pub const IE: u32 = 1 << 0;
/// Denormal operand.
pub const DE: u32 = 1 << 1;
/// Division by zero.
pub const ZE: u32 = 1 << 2;
/// Overflow.
pub const OE: u32 = 1 << 3;
/// Underflow.
pub const UE: u32 = 1 << 4;
/// Inexact result.
pub const PE: u32 = 1 << 5;
/// Every status flag.
pub const FLAGS: u32 = 0x3f;
/// Denormal operands are taken as zeros.
pub const DAZ: u32 = 1 << 6;
/// Every exception mask, in the order of the flags from bit 7.
pub const MASKS: u32 = FLAGS << MASK_SHIFT;
/// The rounding mode: 0 nearest, 1 down, 2 up, 3 towards zero.
pub const ROUNDING: u32 = 3 << 13;
/// Tiny results become zeros while underflow is masked.
pub const FTZ: u32 = 1 << 15;
/// The bits that exist: `MXCSR_MASK` in an FXSAVE image. A set bit outside
/// makes LDMXCSR, FXRSTOR and XRSTOR fault with #GP.
pub const EXISTING: u32 = 0xffff;
/// After reset, and in the initial state of XSAVE: everything masked.
pub const INITIAL: u32 = 0x1f80;

const MASK_SHIFT: u32 = 7;
/// Found before the computation.
const BEFORE: u32 = IE | DE | ZE;

/// The host's own MXCSR while Rust code runs. The language lets no one change
/// it, so it need not be read to be restored.
pub(crate) static HOST: u32 = INITIAL;

/// An exception was raised that the guest's MXCSR doesn't mask: nothing is
/// written but MXCSR's flags, and the instruction faults with #XM (#UD while
/// `CR4.OSXMMEXCPT` is clear).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmasked;

/// A result, or the guest's exception.
pub type Result<T> = std::result::Result<T, Unmasked>;

/// The exceptions that `mxcsr` doesn't mask, in the places of their flags.
#[inline]
pub(crate) fn unmasked(mxcsr: u32) -> u32 {
    !(mxcsr >> MASK_SHIFT) & FLAGS
}

/// What the host's MXCSR is to be while the guest's instruction runs.
#[inline(always)]
pub(crate) fn control(mxcsr: u32) -> u32 {
    let flush = if unmasked(mxcsr) & UE != 0 { FTZ } else { 0 };
    mxcsr & (DAZ | ROUNDING | FTZ) & !flush | MASKS
}

/// Merges what an instruction `raised` with everything masked into the guest's
/// MXCSR. `exact` gives what it would have raised after the computation with
/// the guest's masks; it is asked only if that can differ.
#[inline(always)]
pub(crate) fn settle(mxcsr: &mut u32, raised: u32, exact: impl FnOnce(u32) -> u32) -> Result<()> {
    if *mxcsr & MASKS == MASKS {
        *mxcsr |= raised & FLAGS;
        return Ok(());
    }
    settle_unmasked(mxcsr, raised & FLAGS, exact)
}

#[cold]
fn settle_unmasked(mxcsr: &mut u32, raised: u32, exact: impl FnOnce(u32) -> u32) -> Result<()> {
    let unmasked = unmasked(*mxcsr);
    if raised & unmasked & BEFORE != 0 {
        *mxcsr |= raised & BEFORE;
        return Err(Unmasked);
    }
    let raised = if unmasked & (OE | UE) != 0 {
        raised & BEFORE | exact(*mxcsr)
    } else {
        raised
    };
    *mxcsr |= raised;
    if raised & unmasked == 0 {
        Ok(())
    } else {
        Err(Unmasked)
    }
}

/// Runs `f` for each of `L` lanes of one instruction, as if all lanes were
/// computed at once: a condition that one lane finds before its computation,
/// and that isn't masked, hides what the others find after theirs.
#[inline(always)]
pub fn each<const L: usize>(
    mxcsr: &mut u32,
    mut f: impl FnMut(usize, &mut u32) -> Result<u128>,
) -> Result<[u128; L]> {
    let mut lanes = [0; L];
    if L == 1 || *mxcsr & MASKS == MASKS {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = f(i, mxcsr)?;
        }
        return Ok(lanes);
    }
    let (mut raised, mut faults) = (0, false);
    for (i, lane) in lanes.iter_mut().enumerate() {
        let mut own = *mxcsr & !FLAGS;
        match f(i, &mut own) {
            Ok(value) => *lane = value,
            Err(Unmasked) => faults = true,
        }
        raised |= own & FLAGS;
    }
    if raised & unmasked(*mxcsr) & BEFORE != 0 {
        raised &= BEFORE;
    }
    *mxcsr |= raised;
    if faults { Err(Unmasked) } else { Ok(lanes) }
}

/// The instructions in between run with the MXCSR at `{control}`, which then
/// holds what they raised; the host's is back afterwards.
macro_rules! under_guest_mxcsr {
    ($control:ident, [$($instruction:expr),+], $($operands:tt)*) => {
        ::std::arch::asm!(
            "ldmxcsr [{control}]",
            $($instruction,)+
            "stmxcsr [{control}]",
            "ldmxcsr [rip + {host}]",
            control = in(reg) &raw mut $control,
            host = sym $crate::mxcsr::HOST,
            $($operands)*
        )
    };
}
pub(crate) use under_guest_mxcsr;
