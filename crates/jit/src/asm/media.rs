//! Vector registers, the x87 unit, and their control registers.

use super::{Asm, Mem, Rm};

impl Asm {
    /// `movups to, [from]`.
    pub(crate) fn load_xmm(&mut self, to: u8, from: Mem) {
        self.encode(false, &[0x0f, 0x10], to, &Rm::Memory(from), false);
    }

    /// `movups [to], from`.
    pub(crate) fn store_xmm(&mut self, to: Mem, from: u8) {
        self.encode(false, &[0x0f, 0x11], from, &Rm::Memory(to), false);
    }

    /// `vinsertf128 to, to, [rcx + disp], 1`.
    pub(crate) fn load_ymm_high(&mut self, to: u8, disp: i8) {
        self.move_ymm_high(0x18, to, to, disp);
    }

    /// `vextractf128 [rcx + disp], from, 1`.
    pub(crate) fn store_ymm_high(&mut self, disp: i8, from: u8) {
        self.move_ymm_high(0x19, from, 0, disp);
    }

    /// VEX.256.66.0F3A.W0, with a memory operand at `rcx`.
    fn move_ymm_high(&mut self, opcode: u8, register: u8, first: u8, disp: i8) {
        let not_r = if register < 8 { 0x80 } else { 0 };
        let not_first = (!first & 15) << 3;
        let mod_rm = 0x41 | (register & 7) << 3;
        let [disp] = disp.to_le_bytes();
        self.raw(&[0xc4, not_r | 0x63, not_first | 5, opcode, mod_rm, disp, 1]);
    }

    /// `vzeroupper`.
    pub(crate) fn zero_upper_halves(&mut self) {
        self.raw(&[0xc5, 0xf8, 0x77]);
    }

    /// `ldmxcsr [from]`.
    pub(crate) fn ldmxcsr(&mut self, from: Mem) {
        self.encode(false, &[0x0f, 0xae], 2, &Rm::Memory(from), false);
    }

    /// `stmxcsr [to]`.
    pub(crate) fn stmxcsr(&mut self, to: Mem) {
        self.encode(false, &[0x0f, 0xae], 3, &Rm::Memory(to), false);
    }

    /// `frstor [from]`.
    pub(crate) fn load_x87(&mut self, from: Mem) {
        self.encode(false, &[0xdd], 4, &Rm::Memory(from), false);
    }

    /// `fnsave [to]`.
    pub(crate) fn save_x87(&mut self, to: Mem) {
        self.encode(false, &[0xdd], 6, &Rm::Memory(to), false);
    }

    /// `fldcw [from]`.
    pub(crate) fn load_x87_control(&mut self, from: Mem) {
        self.encode(false, &[0xd9], 5, &Rm::Memory(from), false);
    }

    /// `fnstsw ax`.
    pub(crate) fn x87_status_to_ax(&mut self) {
        self.raw(&[0xdf, 0xe0]);
    }
}
