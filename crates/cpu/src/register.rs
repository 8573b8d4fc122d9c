//! General-purpose registers at their several widths (SDM volume 1, 3.4.1).

use crate::Cpu;
use crate::op::HIGH_BYTE;
use crate::width::Width;

impl Cpu {
    /// The register with number `number` (and [`HIGH_BYTE`]) of an operand.
    #[inline(always)]
    pub(crate) fn get<W: Width>(&self, number: u8) -> W {
        let value = self.gpr[usize::from(number & 31)];
        if W::BITS == 8 && number & HIGH_BYTE != 0 {
            W::truncate(value >> 8)
        } else {
            W::truncate(value)
        }
    }

    /// Sets a register: 32 bits clear the upper half, 16 and 8 keep the rest.
    #[inline(always)]
    pub(crate) fn set<W: Width>(&mut self, number: u8, value: W) {
        let register = &mut self.gpr[usize::from(number & 31)];
        let value = value.zero_extend();
        *register = match W::BITS {
            8 if number & HIGH_BYTE != 0 => *register & !0xff00 | value << 8,
            8 => *register & !0xff | value,
            16 => *register & !0xffff | value,
            _ => value,
        };
    }
}
