//! The x87 unit's state in the form that the host saves and loads it in: the
//! 108 bytes of FNSAVE and FRSTOR (SDM volume 1, figure 8-9).

use cpu::Fpu;

/// The image. Reserved words are ones, as FNSAVE leaves them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Image {
    control: u32,
    status: u32,
    /// Two bits a register, by the registers' own numbers: 3 for an empty one.
    tags: u32,
    pointers: [u32; 4],
    /// ST(0) to ST(7), ten bytes each.
    registers: [[u8; 10]; 8],
}
const _: () = assert!(size_of::<Image>() == 108);

impl Image {
    /// Of `fpu`.
    pub(crate) fn of(fpu: &Fpu) -> Image {
        let tags = (0..8)
            .filter(|n| fpu.used >> n & 1 == 0)
            .fold(0xffff_0000, |tags, n| tags | 3 << (2 * n));
        let mut registers = [[0; 10]; 8];
        for (i, bytes) in (0u8..).zip(&mut registers) {
            *bytes = fpu.st(i).to_bytes();
        }
        Image {
            control: u32::from(fpu.control().0) | 0xffff_0000,
            status: u32::from(fpu.status()) | 0xffff_0000,
            tags,
            pointers: [0; 4],
            registers,
        }
    }

    /// Gives the registers, the tags, the control and the status word to `fpu`.
    pub(crate) fn give(&self, fpu: &mut Fpu) {
        let [low, high, ..] = self.control.to_le_bytes();
        fpu.set_control(u16::from_le_bytes([low, high]));
        let [low, high, ..] = self.status.to_le_bytes();
        fpu.set_status(u16::from_le_bytes([low, high]));
        for (i, bytes) in (0u8..).zip(&self.registers) {
            fpu.set_st(i, silicon::x87::F80::from_bytes(*bytes));
        }
        fpu.used = (0..8)
            .filter(|n| self.tags >> (2 * n) & 3 != 3)
            .fold(0, |used, n| used | 1 << n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use silicon::x87::F80;

    #[test]
    fn a_unit_comes_back_as_it_was() {
        let mut fpu = Fpu::default();
        fpu.set_status(0x2800);
        fpu.set_control(0x0c7f);
        fpu.set_st(2, F80::from_bytes([1, 2, 3, 4, 5, 6, 7, 0x88, 9, 0x40]));
        let mut other = Fpu::default();
        Image::of(&fpu).give(&mut other);
        assert_eq!(other, fpu);
    }
}
