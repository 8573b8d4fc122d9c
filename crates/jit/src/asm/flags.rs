//! The host's flags, to and from `rax`.

use super::Asm;

impl Asm {
    /// `setz cl`.
    pub(crate) fn setz_cl(&mut self) {
        self.raw(&[0x0f, 0x94, 0xc1]);
    }

    /// `or ah, cl`.
    pub(crate) fn or_ah_cl(&mut self) {
        self.raw(&[0x08, 0xcc]);
    }

    /// `movzx ecx, ah`.
    pub(crate) fn movzx_ah_to_cx(&mut self) {
        self.raw(&[0x0f, 0xb6, 0xcc]);
    }

    /// `lahf`.
    pub(crate) fn lahf(&mut self) {
        self.bytes.push(0x9f);
    }

    /// `sahf`.
    pub(crate) fn sahf(&mut self) {
        self.bytes.push(0x9e);
    }

    /// `seto al`.
    pub(crate) fn seto_al(&mut self) {
        self.raw(&[0x0f, 0x90, 0xc0]);
    }

    /// `setc al`.
    pub(crate) fn setc_al(&mut self) {
        self.raw(&[0x0f, 0x92, 0xc0]);
    }

    /// `mov al, 0`.
    pub(crate) fn zero_al(&mut self) {
        self.raw(&[0xb0, 0]);
    }

    /// `add al, value`.
    pub(crate) fn add_al(&mut self, value: u8) {
        self.raw(&[0x04, value]);
    }

    /// `and ah, value`.
    pub(crate) fn and_ah(&mut self, value: u8) {
        self.raw(&[0x80, 0xe4, value]);
    }

    /// `or ah, value`.
    pub(crate) fn or_ah(&mut self, value: u8) {
        self.raw(&[0x80, 0xcc, value]);
    }

    /// `mov bh, ah`.
    pub(crate) fn mov_bh_ah(&mut self) {
        self.raw(&[0x88, 0xe7]);
    }

    /// `mov ah, bh`.
    pub(crate) fn mov_ah_bh(&mut self) {
        self.raw(&[0x88, 0xfc]);
    }

    /// `or ah, al`.
    pub(crate) fn or_ah_al(&mut self) {
        self.raw(&[0x08, 0xc4]);
    }
}
