//! The double extended-precision format (SDM volume 1, 4.2.2 and table 8-3).

use super::status;

/// An 80-bit register's content. Every pattern is a value, also those the SDM calls unsupported.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct F80 {
    /// The significand, with the integer bit (bit 63) explicit.
    pub mantissa: u64,
    /// Bit 15: the sign; bits 14 to 0: the exponent, biased by 16383.
    pub sign_exp: u16,
}

// The host's `fld tbyte ptr` reads ten bytes: mantissa, then sign and exponent.
const _: () = assert!(std::mem::offset_of!(F80, sign_exp) == 8);

/// What a pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plus or minus zero.
    Zero,
    /// Exponent zero, also with the integer bit set (pseudo-denormal).
    Denormal,
    /// An ordinary number.
    Normal,
    /// Plus or minus infinity.
    Infinity,
    /// Not a number; quiet.
    Quiet,
    /// Not a number; signalling.
    Signalling,
    /// Integer bit clear with an exponent that isn't zero: an invalid operand since the 387.
    Unsupported,
}

const SIGN: u16 = 0x8000;
const INTEGER_BIT: u64 = 1 << 63;
const QUIET_BIT: u64 = 1 << 62;

impl F80 {
    /// Plus zero.
    pub const ZERO: F80 = F80 {
        mantissa: 0,
        sign_exp: 0,
    };
    /// One.
    pub const ONE: F80 = F80 {
        mantissa: INTEGER_BIT,
        sign_exp: 0x3fff,
    };
    /// Plus infinity.
    pub const INFINITY: F80 = F80 {
        mantissa: INTEGER_BIT,
        sign_exp: 0x7fff,
    };
    /// The default NaN, the masked answer to an invalid operation ("real indefinite").
    pub const INDEFINITE: F80 = F80 {
        mantissa: INTEGER_BIT | QUIET_BIT,
        sign_exp: 0xffff,
    };
    /// The largest finite number.
    pub const MAX: F80 = F80 {
        mantissa: u64::MAX,
        sign_exp: 0x7ffe,
    };

    /// The biased exponent, 0 to 0x7fff.
    pub fn biased_exponent(self) -> u16 {
        self.sign_exp & !SIGN
    }

    /// Whether the sign bit is set.
    pub fn is_negative(self) -> bool {
        self.sign_exp & SIGN != 0
    }

    /// The same with the given sign.
    pub fn with_sign(self, negative: bool) -> F80 {
        let sign = if negative { SIGN } else { 0 };
        F80 {
            mantissa: self.mantissa,
            sign_exp: self.biased_exponent() | sign,
        }
    }

    /// FCHS: the other sign, whatever the value.
    pub fn negated(self) -> F80 {
        F80 {
            mantissa: self.mantissa,
            sign_exp: self.sign_exp ^ SIGN,
        }
    }

    /// FABS: the sign cleared, whatever the value.
    pub fn absolute(self) -> F80 {
        self.with_sign(false)
    }

    /// What the pattern stands for.
    pub fn kind(self) -> Kind {
        match (self.biased_exponent(), self.mantissa) {
            (0, 0) => Kind::Zero,
            (0, _) => Kind::Denormal,
            (_, m) if m & INTEGER_BIT == 0 => Kind::Unsupported,
            (0x7fff, INTEGER_BIT) => Kind::Infinity,
            (0x7fff, m) if m & QUIET_BIT == 0 => Kind::Signalling,
            (0x7fff, _) => Kind::Quiet,
            _ => Kind::Normal,
        }
    }

    /// Whether an operation takes the value as a number: no NaN and no unsupported pattern.
    pub fn is_number(self) -> bool {
        matches!(
            self.kind(),
            Kind::Zero | Kind::Denormal | Kind::Normal | Kind::Infinity
        )
    }

    /// The class that FXAM reports in C3, C2 and C0, with the sign in C1, for a register that isn't empty.
    pub fn examined(self) -> u16 {
        use status::{C0, C1, C2, C3};
        let class = match self.kind() {
            Kind::Unsupported => 0,
            Kind::Quiet | Kind::Signalling => C0,
            Kind::Normal => C2,
            Kind::Infinity => C2 | C0,
            Kind::Zero => C3,
            Kind::Denormal => C3 | C2,
        };
        class | if self.is_negative() { C1 } else { 0 }
    }

    /// The ten bytes as they lie in memory.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.mantissa.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sign_exp.to_le_bytes());
        bytes
    }

    /// From the ten bytes as they lie in memory.
    pub fn from_bytes(bytes: [u8; 10]) -> F80 {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        F80 {
            mantissa: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            sign_exp: u16::from_le_bytes([i, j]),
        }
    }
}
