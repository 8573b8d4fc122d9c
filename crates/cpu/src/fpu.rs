//! The x87 unit's state (SDM volume 1, 8.1), which the MMX registers share.
//!
//! The law: a register's tag says only whether it is empty; FSTENV's finer
//! tags, the summary bits ES and B, and TOP's place in the status word follow
//! from the rest and are never kept.
//!
//! Pointers: FIP is set by every instruction that isn't of the control group;
//! FDP and FOP only by one that raises an unmasked exception (announced by
//! CPUID.7.0:EBX\[6\], and P4's FOP rule, SDM volume 1, 8.1.9.1); FCS and FDS are
//! always zero (CPUID.7.0:EBX\[13\]).

use silicon::x87::{Control, F80, Kind, status};

/// Control-word bits that can be set; bit 6 reads as one.
const CONTROL_WRITABLE: u16 = 0x1f3f;
const CONTROL_FIXED: u16 = 0x0040;
/// Status-word bits that are kept as they are.
const STATUS_KEPT: u16 = status::EXCEPTIONS | status::SF | status::CONDITIONS;

/// The part of an FXSAVE or XSAVE image that is the x87 unit's: the first 160
/// bytes, of which bytes 24 to 31 are MXCSR and its mask.
pub(crate) const IMAGE_BYTES: usize = 160;
/// Where MXCSR lies in the image: four bytes, then its mask.
const IMAGE_MXCSR: std::ops::Range<usize> = 24..32;

/// The x87 unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fpu {
    /// The registers R0 to R7, by their own numbers and not by the stack's.
    pub registers: [F80; 8],
    /// Bit n is set if Rn is in use: the abridged tag word of FXSAVE.
    pub used: u8,
    /// The number of the register that is ST(0), 0 to 7.
    pub top: u8,
    /// Offset of the last instruction that wasn't of the control group.
    pub instruction_pointer: u64,
    /// Offset of the memory operand of the last instruction that raised an
    /// unmasked exception.
    pub data_pointer: u64,
    /// That instruction's opcode, 11 bits.
    pub opcode: u16,
    control: u16,
    /// [`STATUS_KEPT`] alone.
    status: u16,
}

/// As FNINIT leaves it, with the registers and pointers zero: also XRSTOR's
/// initial state.
impl Default for Fpu {
    fn default() -> Self {
        Fpu {
            registers: [F80::ZERO; 8],
            used: 0,
            top: 0,
            instruction_pointer: 0,
            data_pointer: 0,
            opcode: 0,
            control: Control::DEFAULT.0,
            status: 0,
        }
    }
}

impl Fpu {
    /// The control word.
    pub fn control(&self) -> Control {
        Control(self.control)
    }

    /// Sets the control word; reserved bits keep their fixed values.
    pub fn set_control(&mut self, value: u16) {
        self.control = value & CONTROL_WRITABLE | CONTROL_FIXED;
    }

    /// The status word, whole.
    pub fn status(&self) -> u16 {
        let summary = if self.is_pending() {
            status::ES | status::B
        } else {
            0
        };
        self.status | u16::from(self.top) << status::TOP_SHIFT | summary
    }

    /// Sets the status word and so TOP; the summary bits of `value` are
    /// ignored.
    pub fn set_status(&mut self, value: u16) {
        self.status = value & STATUS_KEPT;
        self.top = (value >> status::TOP_SHIFT).to_le_bytes()[0] & 7;
    }

    /// Whether an unmasked exception waits for the next waiting instruction.
    pub fn is_pending(&self) -> bool {
        self.control().unmasked(self.status) != 0
    }

    /// Sets the bits of the status word that `mask` names.
    pub(crate) fn update_status(&mut self, mask: u16, bits: u16) {
        debug_assert_eq!(mask & !STATUS_KEPT, 0);
        self.status = self.status & !mask | bits & mask;
    }

    /// FNINIT: the registers and pointers: the former stay, the latter don't.
    pub(crate) fn initialise(&mut self) {
        *self = Fpu {
            registers: self.registers,
            ..Fpu::default()
        };
    }

    fn physical(&self, i: u8) -> usize {
        usize::from(self.top.wrapping_add(i) & 7)
    }

    /// ST(i), used or not.
    pub fn st(&self, i: u8) -> F80 {
        self.registers[self.physical(i)]
    }

    /// Whether ST(i) is empty.
    pub fn is_empty(&self, i: u8) -> bool {
        self.used >> self.physical(i) & 1 == 0
    }

    /// Sets ST(i), which is then in use.
    pub fn set_st(&mut self, i: u8, value: F80) {
        let number = self.physical(i);
        self.registers[number] = value;
        self.used |= 1 << number;
    }

    /// Empties ST(i); its content stays.
    pub(crate) fn free(&mut self, i: u8) {
        self.used &= !(1 << self.physical(i));
    }

    /// Moves TOP down and sets the new ST(0).
    pub(crate) fn push(&mut self, value: F80) {
        self.rotate(7);
        self.set_st(0, value);
    }

    /// Empties ST(0) and moves TOP up.
    pub(crate) fn pop(&mut self) {
        self.free(0);
        self.rotate(1);
    }

    /// Moves TOP up by `by`, modulo 8.
    pub(crate) fn rotate(&mut self, by: u8) {
        self.top = self.top.wrapping_add(by) & 7;
    }

    /// The tag word with two bits a register, as FSTENV stores it: 0 valid,
    /// 1 zero, 2 special, 3 empty.
    pub fn full_tags(&self) -> u16 {
        (0..8).fold(0, |tags, number| {
            let tag = match self.registers[number].kind() {
                _ if self.used >> number & 1 == 0 => 3,
                Kind::Normal => 0,
                Kind::Zero => 1,
                _ => 2,
            };
            tags | tag << (2 * number)
        })
    }

    /// Takes from a full tag word which registers are empty; the rest of it
    /// follows from the registers.
    pub(crate) fn set_full_tags(&mut self, tags: u16) {
        self.used = (0..8).fold(0, |used, number| {
            used | u8::from(tags >> (2 * number) & 3 != 3) << number
        });
    }

    /// MMn.
    pub fn mmx(&self, number: u8) -> u64 {
        self.registers[usize::from(number & 7)].mantissa
    }

    /// Sets MMn: the exponent and sign become all ones (SDM volume 1, 9.5.2).
    /// Goes with [`Fpu::enter_mmx`].
    pub fn set_mmx(&mut self, number: u8, value: u64) {
        self.registers[usize::from(number & 7)] = F80 {
            mantissa: value,
            sign_exp: 0xffff,
        };
    }

    /// What every MMX instruction but EMMS does: all registers in use, TOP 0.
    pub fn enter_mmx(&mut self) {
        self.used = 0xff;
        self.top = 0;
    }

    /// EMMS: all registers empty. TOP becomes 0, as after any MMX instruction.
    pub fn leave_mmx(&mut self) {
        self.used = 0;
        self.top = 0;
    }

    /// Whether nothing differs from [`Fpu::default`]: XINUSE\[0\] is clear.
    pub fn is_initial(&self) -> bool {
        *self == Fpu::default()
    }

    /// The unit's part of an FXSAVE image (SDM volume 1, table 10-2; FXSAVE's
    /// tables in volume 2A). `wide`: REX.W, pointers of 64 bits. Reserved
    /// bytes, FCS and FDS are zero, and so is MXCSR's place.
    pub(crate) fn image(&self, wide: bool) -> [u8; IMAGE_BYTES] {
        let mut image = [0; IMAGE_BYTES];
        image[0..2].copy_from_slice(&self.control.to_le_bytes());
        image[2..4].copy_from_slice(&self.status().to_le_bytes());
        image[4] = self.used;
        image[6..8].copy_from_slice(&self.opcode.to_le_bytes());
        let pointer_bytes = if wide { 8 } else { 4 };
        for (at, pointer) in [(8, self.instruction_pointer), (16, self.data_pointer)] {
            image[at..at + pointer_bytes].copy_from_slice(&pointer.to_le_bytes()[..pointer_bytes]);
        }
        for i in 0..8 {
            let at = 32 + 16 * usize::from(i);
            image[at..at + 10].copy_from_slice(&self.st(i).to_bytes());
        }
        debug_assert_eq!(image[IMAGE_MXCSR], [0; 8]);
        image
    }

    /// Takes the state from an FXSAVE image; no content is invalid. `wide`:
    /// REX.W.
    pub(crate) fn set_image(&mut self, image: &[u8; IMAGE_BYTES], wide: bool) {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let pointer = |at: usize| {
            let mut bytes = [0; 8];
            let count = if wide { 8 } else { 4 };
            bytes[..count].copy_from_slice(&image[at..at + count]);
            u64::from_le_bytes(bytes)
        };
        self.set_control(word(0));
        self.set_status(word(2));
        self.used = image[4];
        self.opcode = word(6) & 0x7ff;
        self.instruction_pointer = pointer(8);
        self.data_pointer = pointer(16);
        for i in 0..8 {
            let at = 32 + 16 * usize::from(i);
            let mut bytes = [0; 10];
            bytes.copy_from_slice(&image[at..at + 10]);
            let number = self.physical(i);
            self.registers[number] = F80::from_bytes(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_content() -> Fpu {
        let mut fpu = Fpu::default();
        fpu.set_control(0x1234);
        fpu.set_status(0x7bff & !0x80);
        for number in 0_u8..8 {
            fpu.registers[usize::from(number)] = F80 {
                mantissa: u64::from(number) * 0x1111_1111_1111_1111,
                sign_exp: 0x3fff + u16::from(number),
            };
        }
        fpu.used = 0b1010_0110;
        fpu.instruction_pointer = 0x1234_5678_9abc;
        fpu.data_pointer = 0xdcba_8765_4321;
        fpu.opcode = 0x123;
        fpu
    }

    #[test]
    fn an_image_gives_back_the_state_it_was_made_of() {
        let fpu = with_content();
        let mut restored = Fpu::default();
        restored.set_image(&fpu.image(true), true);
        assert_eq!(restored, fpu);
    }

    #[test]
    fn the_stack_wraps_around() {
        let mut fpu = Fpu::default();
        for n in 0..8 {
            assert!(fpu.is_empty(7));
            fpu.push(F80 {
                mantissa: n,
                sign_exp: 1,
            });
        }
        assert_eq!((fpu.top, fpu.used), (0, 0xff));
        assert_eq!(fpu.st(7).mantissa, 0);
        fpu.pop();
        assert!(fpu.is_empty(7) && !fpu.is_empty(0));
        assert_eq!(fpu.st(0).mantissa, 6);
    }

    #[test]
    fn summary_bits_follow_from_flags_and_masks() {
        let mut fpu = Fpu::default();
        fpu.set_status(status::ZE);
        assert_eq!(fpu.status(), status::ZE);
        fpu.set_control(!status::ZE);
        assert_eq!(fpu.status(), status::ZE | status::ES | status::B);
    }

    #[test]
    fn full_tags_follow_from_the_registers() {
        let mut fpu = Fpu::default();
        assert_eq!(fpu.full_tags(), 0xffff);
        fpu.push(F80::ONE);
        fpu.push(F80::ZERO);
        fpu.push(F80::INFINITY);
        assert_eq!(fpu.full_tags(), 0b0001_1011_1111_1111);
        fpu.set_full_tags(0x5555);
        assert_eq!(fpu.used, 0xff);
    }
}
