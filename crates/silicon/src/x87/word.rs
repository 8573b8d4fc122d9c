//! The control word and the bits of the status word (SDM volume 1, 8.1.3 and 8.1.5).

/// Bits of the status word.
pub mod status {
    /// Invalid operation.
    pub const IE: u16 = 1 << 0;
    /// Denormal operand.
    pub const DE: u16 = 1 << 1;
    /// Zero divide.
    pub const ZE: u16 = 1 << 2;
    /// Overflow.
    pub const OE: u16 = 1 << 3;
    /// Underflow.
    pub const UE: u16 = 1 << 4;
    /// Precision: the result is not exact.
    pub const PE: u16 = 1 << 5;
    /// Stack fault, beside IE.
    pub const SF: u16 = 1 << 6;
    /// Error summary: an unmasked exception is pending.
    pub const ES: u16 = 1 << 7;
    /// Condition code 0.
    pub const C0: u16 = 1 << 8;
    /// Condition code 1: rounded up, or overflow (not underflow) of the stack.
    pub const C1: u16 = 1 << 9;
    /// Condition code 2.
    pub const C2: u16 = 1 << 10;
    /// Where TOP begins.
    pub const TOP_SHIFT: u32 = 11;
    /// The number of the register that is ST(0).
    pub const TOP: u16 = 7 << TOP_SHIFT;
    /// Condition code 3.
    pub const C3: u16 = 1 << 14;
    /// Busy: a copy of ES.
    pub const B: u16 = 1 << 15;
    /// The six exceptions; their masks have the same places in the control word.
    pub const EXCEPTIONS: u16 = IE | DE | ZE | OE | UE | PE;
    /// The four condition codes.
    pub const CONDITIONS: u16 = C0 | C1 | C2 | C3;
}

/// The x87 control word, as the guest set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control(pub u16);

/// Rounding control, in the encoding of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// Towards zero.
    Zero,
}

impl Rounding {
    /// Whether a negative or positive inexact value is rounded away from zero, where the direction alone decides.
    pub(super) fn is_away_from_zero(self, negative: bool) -> bool {
        match self {
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Nearest | Rounding::Zero => false,
        }
    }
}

impl Control {
    /// After FNINIT: everything masked, 64-bit precision, to the nearest.
    pub const DEFAULT: Control = Control(0x037f);

    /// How results are rounded.
    pub fn rounding(self) -> Rounding {
        match (self.0 >> 10) & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }

    /// Those of `exceptions` (status-word bits) that the guest unmasked.
    pub fn unmasked(self, exceptions: u16) -> u16 {
        exceptions & !self.0 & status::EXCEPTIONS
    }

    /// The word the host computes under: the guest's rounding and precision, its masks for overflow and underflow
    /// (they change the result), all else masked.
    pub(super) fn for_host(self) -> u16 {
        use status::{DE, IE, PE, ZE};
        (self.0 & 0x0f18) | IE | DE | ZE | PE | 0x40
    }
}

impl Default for Control {
    fn default() -> Self {
        Control::DEFAULT
    }
}
