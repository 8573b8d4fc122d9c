//! Moves, arithmetic, shifts, bits and strings.

use super::{Asm, Mem, Rm};
use crate::register::{Host, INDEX};

/// An arithmetic operation, by its number in opcodes 0x00 to 0x3f and 0x81.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Cmp = 7,
}

impl Asm {
    /// `mov to, from`; nothing if they are one.
    pub(crate) fn mov(&mut self, to: Host, from: Host) {
        if to != from {
            self.encode(true, &[0x89], from.0, &Rm::Register(to), false);
        }
    }

    /// `mov to, from` of 32 bits, which clears the upper half.
    pub(crate) fn mov_32(&mut self, to: Host, from: Host) {
        self.encode(false, &[0x89], from.0, &Rm::Register(to), false);
    }

    /// `mov to, [from]`.
    pub(crate) fn load(&mut self, to: Host, from: Mem) {
        self.encode(true, &[0x8b], to.0, &Rm::Memory(from), false);
    }

    /// `mov to, [from]` of 32 bits.
    pub(crate) fn load_32(&mut self, to: Host, from: Mem) {
        self.encode(false, &[0x8b], to.0, &Rm::Memory(from), false);
    }

    /// `mov [to], from`.
    pub(crate) fn store(&mut self, to: Mem, from: Host) {
        self.encode(true, &[0x89], from.0, &Rm::Memory(to), false);
    }

    /// `mov [to], from` of 16 bits.
    pub(crate) fn store_16(&mut self, to: Mem, from: Host) {
        self.bytes.push(0x66);
        self.encode(false, &[0x89], from.0, &Rm::Memory(to), false);
    }

    /// `mov [to], from` of 32 bits.
    pub(crate) fn store_32(&mut self, to: Mem, from: Host) {
        self.encode(false, &[0x89], from.0, &Rm::Memory(to), false);
    }

    /// `mov qword [to], value`, sign-extended.
    pub(crate) fn store_constant(&mut self, to: Mem, value: i32) {
        self.encode(true, &[0xc7], 0, &Rm::Memory(to), false);
        self.raw(&value.to_le_bytes());
    }

    /// `mov dword [to], value`.
    pub(crate) fn store_constant_32(&mut self, to: Mem, value: u32) {
        self.encode(false, &[0xc7], 0, &Rm::Memory(to), false);
        self.raw(&value.to_le_bytes());
    }

    /// `mov to, value`, in the shortest form.
    pub(crate) fn constant(&mut self, to: Host, value: u64) {
        if let Ok(value) = u32::try_from(value) {
            self.encode_short(false, 0xb8, to);
            self.raw(&value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value.cast_signed()) {
            self.encode(true, &[0xc7], 0, &Rm::Register(to), false);
            self.raw(&value.to_le_bytes());
        } else {
            self.encode_short(true, 0xb8, to);
            self.raw(&value.to_le_bytes());
        }
    }

    /// `lea to, from`: no flags.
    pub(crate) fn lea(&mut self, to: Host, from: Mem) {
        self.encode(true, &[0x8d], to.0, &Rm::Memory(from), false);
    }

    /// `lea to, from` of 32 bits.
    pub(crate) fn lea_32(&mut self, to: Host, from: Mem) {
        self.encode(false, &[0x8d], to.0, &Rm::Memory(from), false);
    }

    /// `op a, [b]`.
    pub(crate) fn alu_load(&mut self, op: Alu, a: Host, b: Mem) {
        self.encode(true, &[(op as u8) << 3 | 3], a.0, &Rm::Memory(b), false);
    }

    /// `op a, value`.
    pub(crate) fn alu_constant(&mut self, op: Alu, a: Host, value: i32) {
        self.alu_immediate(true, op, &Rm::Register(a), value);
    }

    /// `op a, value` of 32 bits.
    pub(crate) fn alu_constant_32(&mut self, op: Alu, a: Host, value: i32) {
        self.alu_immediate(false, op, &Rm::Register(a), value);
    }

    /// `op [a], value`.
    pub(crate) fn alu_memory_constant(&mut self, op: Alu, a: Mem, value: i32) {
        self.alu_immediate(true, op, &Rm::Memory(a), value);
    }

    fn alu_immediate(&mut self, wide: bool, op: Alu, a: &Rm, value: i32) {
        if let Ok(value) = i8::try_from(value) {
            self.encode(wide, &[0x83], op as u8, a, false);
            self.raw(&value.to_le_bytes());
        } else {
            self.encode(wide, &[0x81], op as u8, a, false);
            self.raw(&value.to_le_bytes());
        }
    }

    /// `test a, a`, of `bytes` bytes: 1, 2, 4 or 8.
    pub(crate) fn test(&mut self, a: Host, bytes: usize) {
        if bytes == 2 {
            self.bytes.push(0x66);
        }
        let opcode = if bytes == 1 { 0x84 } else { 0x85 };
        self.encode(bytes == 8, &[opcode], a.0, &Rm::Register(a), bytes == 1);
    }

    /// `test a, value` of the low byte. `a` is `rax` to `rbx`.
    pub(crate) fn test_low_byte(&mut self, a: Host, value: u8) {
        self.encode(false, &[0xf6], 0, &Rm::Register(a), false);
        self.bytes.push(value);
    }

    /// The shift with this number in opcode 0xc1.
    fn shift(&mut self, wide: bool, number: u8, a: Host, count: u8) {
        self.encode(wide, &[0xc1], number, &Rm::Register(a), false);
        self.bytes.push(count);
    }

    /// `shl a, count`.
    pub(crate) fn shl(&mut self, a: Host, count: u8) {
        self.shift(true, 4, a, count);
    }

    /// `shl a, count` of 32 bits.
    pub(crate) fn shl_32(&mut self, a: Host, count: u8) {
        self.shift(false, 4, a, count);
    }

    /// `shr a, count`.
    pub(crate) fn shr(&mut self, a: Host, count: u8) {
        self.shift(true, 5, a, count);
    }

    /// `shr a, count` of 32 bits.
    pub(crate) fn shr_32(&mut self, a: Host, count: u8) {
        self.shift(false, 5, a, count);
    }

    /// `sar a, count`.
    pub(crate) fn sar(&mut self, a: Host, count: u8) {
        self.shift(true, 7, a, count);
    }

    /// `sar a, count` of 32 bits.
    pub(crate) fn sar_32(&mut self, a: Host, count: u8) {
        self.shift(false, 7, a, count);
    }

    /// `movzx ecx, ch`.
    pub(crate) fn movzx_second_byte_of_cx(&mut self) {
        self.raw(&[0x0f, 0xb6, 0xcd]);
    }

    /// `movsx to, from` of the low `from_bytes` (1, 2 or 4) bytes, to
    /// `to_bytes` (2, 4 or 8) bytes.
    pub(crate) fn movsx(&mut self, to: Host, from: Host, from_bytes: usize, to_bytes: usize) {
        if to_bytes == 2 {
            self.bytes.push(0x66);
        }
        let opcode: &[u8] = match from_bytes {
            1 => &[0x0f, 0xbe],
            2 => &[0x0f, 0xbf],
            _ => &[0x63],
        };
        let bytes_wide = from_bytes == 1;
        self.encode(to_bytes == 8, opcode, to.0, &Rm::Register(from), bytes_wide);
    }

    /// An operation with one operand in opcode 0xf7 (MUL 4, IMUL 5, DIV 6, IDIV
    /// 7), of 32 or 64 bits.
    pub(crate) fn unary(&mut self, wide: bool, number: u8, a: Host) {
        self.encode(wide, &[0xf7], number, &Rm::Register(a), false);
    }

    /// A shift by `cl` in opcode 0xd3 (SHL 4, SHR 5, SAR 7), of 32 or 64 bits.
    pub(crate) fn shift_by_cl(&mut self, wide: bool, number: u8, a: Host) {
        self.encode(wide, &[0xd3], number, &Rm::Register(a), false);
    }

    /// A shift by 1 in opcode 0xd1 (SHL 4, SHR 5, SAR 7), of 32 or 64 bits.
    pub(crate) fn shift_by_one(&mut self, wide: bool, number: u8, a: Host) {
        self.encode(wide, &[0xd1], number, &Rm::Register(a), false);
    }

    /// `shld` or `shrd a, b` by `count`, or else by `cl`, of 32 or 64 bits.
    pub(crate) fn double_shift(
        &mut self,
        wide: bool,
        left: bool,
        (a, b): (Host, Host),
        count: Option<u8>,
    ) {
        let opcode = if left { 0xa4 } else { 0xac } | u8::from(count.is_none());
        self.encode(wide, &[0x0f, opcode], b.0, &Rm::Register(a), false);
        self.bytes.extend(count);
    }

    /// `sub a, b`.
    pub(crate) fn sub(&mut self, a: Host, b: Host) {
        self.encode(true, &[0x2b], a.0, &Rm::Register(b), false);
    }

    /// `xor a, b`.
    pub(crate) fn xor(&mut self, a: Host, b: Host) {
        self.encode(true, &[0x33], a.0, &Rm::Register(b), false);
    }

    /// BSF (0xbc) or BSR (0xbd), of 32 or 64 bits.
    pub(crate) fn scan(&mut self, wide: bool, opcode: u8, to: Host, from: Host) {
        self.encode(wide, &[0x0f, opcode], to.0, &Rm::Register(from), false);
    }

    /// `cmovnz to, from`.
    pub(crate) fn cmovnz(&mut self, to: Host, from: Host) {
        self.encode(true, &[0x0f, 0x45], to.0, &Rm::Register(from), false);
    }

    /// `cqo` or `cdq`.
    pub(crate) fn spread_ax(&mut self, wide: bool) {
        if wide {
            self.bytes.push(0x48);
        }
        self.bytes.push(0x99);
    }

    /// `cmp a, b` of 32 or 64 bits.
    pub(crate) fn cmp(&mut self, wide: bool, a: Host, b: Host) {
        self.encode(wide, &[0x3b], a.0, &Rm::Register(b), false);
    }

    /// `shrx to, from, count`: no flags (BMI2). Of `count` the low six bits count.
    pub(crate) fn shrx(&mut self, to: Host, from: Host, count: Host) {
        self.index_changed |= to == INDEX;
        let (r, b) = (!to.0 << 4 & 0x80, !from.0 << 2 & 0x20);
        let v = !count.0 << 3 & 0x78;
        let modrm = 0xc0 | (to.0 & 7) << 3 | from.0 & 7;
        self.raw(&[0xc4, r | 0x40 | b | 2, 0x83 | v, 0xf7, modrm]);
    }

    /// `rorx to, from, count`: no flags (BMI2).
    pub(crate) fn rorx(&mut self, to: Host, from: Host, count: u8) {
        self.index_changed |= to == INDEX;
        let (r, b) = (!to.0 << 4 & 0x80, !from.0 << 2 & 0x20);
        let modrm = 0xc0 | (to.0 & 7) << 3 | from.0 & 7;
        self.raw(&[0xc4, r | 0x40 | b | 3, 0xfb, 0xf0, modrm, count]);
    }

    /// `mulx high, low, by`, of `rdx`: no flags (BMI2).
    pub(crate) fn mulx(&mut self, wide: bool, high: Host, low: Host, by: Host) {
        let (r, b) = (!high.0 << 4 & 0x80, !by.0 << 2 & 0x20);
        let (w, v) = (u8::from(wide) << 7, !low.0 << 3 & 0x78);
        let modrm = 0xc0 | (high.0 & 7) << 3 | by.0 & 7;
        self.raw(&[0xc4, r | 0x40 | b | 2, w | v | 3, 0xf6, modrm]);
    }

    /// `movzx to, from` of the low byte. `from` is `rax` to `rbx`.
    pub(crate) fn movzx_8(&mut self, to: Host, from: Host) {
        self.encode(false, &[0x0f, 0xb6], to.0, &Rm::Register(from), false);
    }

    /// `movzx to, [from]` of 16 bits.
    pub(crate) fn load_16(&mut self, to: Host, from: Mem) {
        self.encode(false, &[0x0f, 0xb7], to.0, &Rm::Memory(from), false);
    }

    /// `or to, from` of 32 bits.
    pub(crate) fn or_32(&mut self, to: Host, from: Host) {
        self.encode(false, &[0x0b], to.0, &Rm::Register(from), false);
    }

    /// `or to, from`.
    pub(crate) fn or(&mut self, to: Host, from: Host) {
        self.encode(true, &[0x0b], to.0, &Rm::Register(from), false);
    }

    /// `or [to], from`.
    pub(crate) fn or_memory(&mut self, to: Mem, from: Host) {
        self.encode(true, &[0x09], from.0, &Rm::Memory(to), false);
    }

    /// `xor to, [from]` of 32 bits.
    pub(crate) fn xor_load_32(&mut self, to: Host, from: Mem) {
        self.encode(false, &[0x33], to.0, &Rm::Memory(from), false);
    }

    /// `test a, value` of 32 bits.
    pub(crate) fn test_constant_32(&mut self, a: Host, value: i32) {
        self.encode(false, &[0xf7], 0, &Rm::Register(a), false);
        self.raw(&value.to_le_bytes());
    }

    /// `bt`, `bts`, `btr` or `btc` `[a], number`, by the opcode's second byte.
    pub(crate) fn bit_memory(&mut self, wide: bool, opcode: u8, a: Mem, number: Host) {
        self.encode(wide, &[0x0f, opcode], number.0, &Rm::Memory(a), false);
    }

    /// `cmpxchg16b [a]`.
    pub(crate) fn compare_exchange_16(&mut self, a: Mem) {
        self.encode(true, &[0x0f, 0xc7], 1, &Rm::Memory(a), false);
    }

    /// `rep stos` of elements of 1, 4 or 8 bytes.
    pub(crate) fn rep_stos(&mut self, bytes: usize) {
        self.string(0xaa, bytes);
    }

    /// `rep movs` of elements of 1, 4 or 8 bytes.
    pub(crate) fn rep_movs(&mut self, bytes: usize) {
        self.string(0xa4, bytes);
    }

    /// A repeated string instruction, by its opcode for bytes.
    fn string(&mut self, opcode: u8, bytes: usize) {
        match bytes {
            1 => self.raw(&[0xf3, opcode]),
            4 => self.raw(&[0xf3, opcode | 1]),
            _ => self.raw(&[0xf3, 0x48, opcode | 1]),
        }
    }

    /// `mov to, from` of 16 bits.
    pub(crate) fn mov_16(&mut self, to: Host, from: Host) {
        self.bytes.push(0x66);
        self.encode(false, &[0x89], from.0, &Rm::Register(to), false);
    }

    /// `push a`.
    pub(crate) fn push(&mut self, a: Host) {
        self.encode_short(false, 0x50, a);
    }

    /// `pop a`.
    pub(crate) fn pop(&mut self, a: Host) {
        self.encode_short(false, 0x58, a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::tests::text;

    #[test]
    fn constants_take_the_shortest_form_that_holds_them() {
        let mut asm = Asm::new(0, 0x8000);
        asm.constant(Host(1), 5);
        asm.constant(Host(9), u64::MAX);
        asm.constant(Host(1), 1 << 40);
        asm.alu_constant(Alu::Cmp, Host(1), 4088);
        asm.alu_constant_32(Alu::And, Host(15), 0x1ffe0);
        asm.test(Host(6), 1);
        asm.test(Host(9), 2);
        assert_eq!(
            text(&asm),
            [
                "mov $5,%ecx",
                "mov $0xFFFFFFFFFFFFFFFF,%r9",
                "movabs $0x10000000000,%rcx",
                "cmp $0xFF8,%rcx",
                "and $0x1FFE0,%r15d",
                "test %sil,%sil",
                "test %r9w,%r9w",
            ]
        );
    }
}
