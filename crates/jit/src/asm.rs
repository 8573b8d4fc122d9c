//! A small assembler for the code around the guest's own instructions.
//!
//! Operands are 64 bits wide unless a function's name says otherwise. Jumps
//! are always of the 32-bit form, so that they can be bound later or patched.
//! Encodings: SDM volume 2, chapter 2.

use crate::register::{FRAME, Host, INDEX};

/// A memory operand of host code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mem {
    pub(crate) base: Option<Host>,
    /// And the shift of its scale.
    pub(crate) index: Option<(Host, u8)>,
    pub(crate) disp: i32,
}

impl Mem {
    /// `[base + disp]`.
    pub(crate) const fn base(base: Host, disp: i32) -> Mem {
        Mem {
            base: Some(base),
            index: None,
            disp,
        }
    }

    /// `[rsp + disp]`: a word of the frame.
    pub(crate) const fn frame(disp: i32) -> Mem {
        Mem::base(FRAME, disp)
    }

    /// What lies `bytes` bytes further.
    pub(crate) const fn plus(self, bytes: i32) -> Mem {
        Mem {
            disp: self.disp + bytes,
            ..self
        }
    }

    /// `[base + index << scale + disp]`. The index is not `rsp`.
    pub(crate) const fn indexed(base: Option<Host>, index: Host, scale: u8, disp: i32) -> Mem {
        Mem {
            base,
            index: Some((index, scale)),
            disp,
        }
    }
}

/// The place of a jump's 32-bit displacement.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Fix {
    at: usize,
    section: Section,
}

/// Where code goes: what is often executed lies together, apart from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// What is often executed.
    Hot,
    /// What is rare.
    Cold,
}

/// The condition code of a jump (SDM volume 1, appendix B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition(pub(crate) u8);

impl Condition {
    pub(crate) const EQUAL: Condition = Condition(4);
    pub(crate) const NOT_EQUAL: Condition = Condition(5);
    pub(crate) const ABOVE: Condition = Condition(7);
    pub(crate) const BELOW: Condition = Condition(2);
    pub(crate) const BELOW_OR_EQUAL: Condition = Condition(6);
    pub(crate) const ABOVE_OR_EQUAL: Condition = Condition(3);
}

/// An arithmetic operation, by its number in opcodes 0x00 to 0x3f and 0x81.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Cmp = 7,
}

/// Code in the making, for two places in code memory.
#[derive(Debug)]
pub(crate) struct Asm {
    /// The section that code goes to at present, and its place.
    section: Section,
    origin: u32,
    bytes: Vec<u8>,
    /// The place and the code of the other section.
    other: (u32, Vec<u8>),
    /// Whether [`INDEX`] may have changed since [`Asm::keep_index`] was last
    /// called.
    index_changed: bool,
}

/// Registers and memory operands alike, in an encoding's place for either.
enum Rm {
    Register(Host),
    Memory(Mem),
}

impl Asm {
    /// No code yet, to be placed at the offsets `hot` and `cold`.
    pub(crate) fn new(hot: u32, cold: u32) -> Asm {
        Asm {
            section: Section::Hot,
            origin: hot,
            bytes: Vec::with_capacity(1024),
            other: (cold, Vec::with_capacity(1024)),
            index_changed: true,
        }
    }

    /// From now on code goes to `section`.
    pub(crate) fn go_to(&mut self, section: Section) {
        if section != self.section {
            self.section = section;
            std::mem::swap(&mut self.origin, &mut self.other.0);
            std::mem::swap(&mut self.bytes, &mut self.other.1);
        }
    }

    /// The offset in code memory of what comes next.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block is far below 4 GiB"
    )]
    pub(crate) fn here(&self) -> u32 {
        self.origin + self.bytes.len() as u32
    }

    /// All code of `section` so far.
    pub(crate) fn bytes(&self, section: Section) -> &[u8] {
        if section == self.section {
            &self.bytes
        } else {
            &self.other.1
        }
    }

    /// From now on it is noted whether [`INDEX`] may have changed.
    pub(crate) fn keep_index(&mut self) {
        self.index_changed = false;
    }

    /// Whether [`INDEX`] is as it was when [`Asm::keep_index`] was last called.
    pub(crate) fn has_kept_index(&self) -> bool {
        !self.index_changed
    }

    /// Code from elsewhere, which leaves [`INDEX`] alone or says so.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// REX, opcode, ModRM, SIB and displacement. `bytes_wide`: an 8-bit
    /// register operand, whose `spl` to `dil` need a REX prefix.
    fn encode(&mut self, wide: bool, opcode: &[u8], reg: u8, rm: &Rm, bytes_wide: bool) {
        // An operand that is only read counts, too.
        self.index_changed |= reg == INDEX.0;
        let (base, index) = match rm {
            Rm::Register(host) => {
                self.index_changed |= *host == INDEX;
                (host.0, 0)
            }
            Rm::Memory(mem) => (
                mem.base.map_or(0, |b| b.0),
                mem.index.map_or(0, |(i, _)| i.0),
            ),
        };
        let rex = 0x40
            | u8::from(wide) << 3
            | (reg >> 3 & 1) << 2
            | (index >> 3 & 1) << 1
            | base >> 3 & 1;
        if rex != 0x40 || bytes_wide {
            self.bytes.push(rex);
        }
        self.raw(opcode);
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Register(host) => self.bytes.push(0xc0 | reg | host.0 & 7),
            Rm::Memory(mem) => self.encode_memory(reg, mem),
        }
    }

    fn encode_memory(&mut self, reg: u8, mem: &Mem) {
        let Some(base) = mem.base else {
            // No base: a 32-bit displacement always, and a SIB byte, since
            // without one it would be relative to RIP.
            let (index, scale) = mem.index.map_or((4, 0), |(i, s)| (i.0 & 7, s));
            self.raw(&[reg | 4, scale << 6 | index << 3 | 5]);
            self.raw(&mem.disp.to_le_bytes());
            return;
        };
        let short = i8::try_from(mem.disp);
        let mode = match (mem.disp, short) {
            (0, _) if base.0 & 7 != 5 => 0,
            (_, Ok(_)) => 0x40,
            _ => 0x80,
        };
        if mem.index.is_some() || base.0 & 7 == 4 {
            let (index, scale) = mem.index.map_or((4, 0), |(i, s)| (i.0 & 7, s));
            self.raw(&[mode | reg | 4, scale << 6 | index << 3 | base.0 & 7]);
        } else {
            self.bytes.push(mode | reg | base.0 & 7);
        }
        match (mode, short) {
            (0, _) => {}
            (0x40, Ok(disp)) => self.raw(&disp.to_le_bytes()),
            _ => self.raw(&mem.disp.to_le_bytes()),
        }
    }

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

    fn encode_short(&mut self, wide: bool, opcode: u8, register: Host) {
        self.index_changed |= register == INDEX;
        let rex = 0x40 | u8::from(wide) << 3 | register.0 >> 3;
        if rex != 0x40 {
            self.bytes.push(rex);
        }
        self.bytes.push(opcode | register.0 & 7);
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

    /// `shl a, count`.
    pub(crate) fn shl(&mut self, a: Host, count: u8) {
        self.encode(true, &[0xc1], 4, &Rm::Register(a), false);
        self.bytes.push(count);
    }

    /// `shl a, count` of 32 bits.
    pub(crate) fn shl_32(&mut self, a: Host, count: u8) {
        self.encode(false, &[0xc1], 4, &Rm::Register(a), false);
        self.bytes.push(count);
    }

    /// `shr a, count`.
    pub(crate) fn shr(&mut self, a: Host, count: u8) {
        self.encode(true, &[0xc1], 5, &Rm::Register(a), false);
        self.bytes.push(count);
    }

    /// `shr a, count` of 32 bits.
    pub(crate) fn shr_32(&mut self, a: Host, count: u8) {
        self.encode(false, &[0xc1], 5, &Rm::Register(a), false);
        self.bytes.push(count);
    }

    /// `sar a, count`.
    pub(crate) fn sar(&mut self, a: Host, count: u8) {
        self.encode(true, &[0xc1], 7, &Rm::Register(a), false);
        self.bytes.push(count);
    }

    /// `sar a, count` of 32 bits.
    pub(crate) fn sar_32(&mut self, a: Host, count: u8) {
        self.encode(false, &[0xc1], 7, &Rm::Register(a), false);
        self.bytes.push(count);
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

    /// `setz cl`.
    pub(crate) fn setz_cl(&mut self) {
        self.raw(&[0x0f, 0x94, 0xc1]);
    }

    /// `or ah, cl`.
    pub(crate) fn or_ah_cl(&mut self) {
        self.raw(&[0x08, 0xcc]);
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

    /// `movzx ecx, ah`.
    pub(crate) fn movzx_ah_to_cx(&mut self) {
        self.raw(&[0x0f, 0xb6, 0xcc]);
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

    /// `mov to, from` of 16 bits.
    pub(crate) fn mov_16(&mut self, to: Host, from: Host) {
        self.bytes.push(0x66);
        self.encode(false, &[0x89], from.0, &Rm::Register(to), false);
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

    /// `push a`.
    pub(crate) fn push(&mut self, a: Host) {
        self.encode_short(false, 0x50, a);
    }

    /// `pop a`.
    pub(crate) fn pop(&mut self, a: Host) {
        self.encode_short(false, 0x58, a);
    }

    /// `ret`.
    pub(crate) fn ret(&mut self) {
        self.bytes.push(0xc3);
    }

    /// `call [target]`.
    pub(crate) fn call_memory(&mut self, target: Mem) {
        self.encode(false, &[0xff], 2, &Rm::Memory(target), false);
    }

    /// `jmp [target]`.
    pub(crate) fn jmp_memory(&mut self, target: Mem) {
        self.encode(false, &[0xff], 4, &Rm::Memory(target), false);
    }

    /// `jmp`, to be bound.
    pub(crate) fn jmp(&mut self) -> Fix {
        self.bytes.push(0xe9);
        self.displacement()
    }

    /// `jcc`, to be bound.
    pub(crate) fn jcc(&mut self, condition: Condition) -> Fix {
        self.raw(&[0x0f, 0x80 | condition.0]);
        self.displacement()
    }

    /// `jmp` to offset `target` in code memory.
    pub(crate) fn jmp_to(&mut self, target: u32) {
        let fix = self.jmp();
        self.bind_to(fix, target);
    }

    /// `jcc` to offset `target` in code memory.
    pub(crate) fn jcc_to(&mut self, condition: Condition, target: u32) {
        let fix = self.jcc(condition);
        self.bind_to(fix, target);
    }

    /// `call` to offset `target` in code memory.
    pub(crate) fn call_to(&mut self, target: u32) {
        self.index_changed = true;
        self.bytes.push(0xe8);
        let fix = self.displacement();
        self.bind_to(fix, target);
    }

    /// `jrcxz`, to a place within 127 bytes that is bound by [`Asm::bind_near`].
    pub(crate) fn jrcxz(&mut self) -> NearFix {
        self.raw(&[0xe3, 0]);
        NearFix(self.bytes.len() - 1)
    }

    /// `jecxz` to offset `target` in code memory, at most 128 bytes back.
    pub(crate) fn jecxz_to(&mut self, target: u32) {
        self.raw(&[0x67, 0xe3, 0]);
        let distance = i64::from(target) - i64::from(self.here());
        let distance = i8::try_from(distance).expect("bug: the target of a JECXZ is too far");
        let last = self.bytes.len() - 1;
        self.bytes[last] = distance.to_le_bytes()[0];
    }

    /// Makes a `jrcxz` go here.
    pub(crate) fn bind_near(&mut self, fix: NearFix) {
        let distance = self.bytes.len() - (fix.0 + 1);
        let distance = i8::try_from(distance).expect("bug: the target of a JRCXZ is too far");
        self.bytes[fix.0] = distance.to_le_bytes()[0];
    }

    fn displacement(&mut self) -> Fix {
        self.raw(&[0; 4]);
        Fix {
            at: self.bytes.len() - 4,
            section: self.section,
        }
    }

    /// Makes a jump go here.
    pub(crate) fn bind(&mut self, fix: Fix) {
        self.bind_to(fix, self.here());
    }

    /// Makes a jump go to offset `target` in code memory.
    pub(crate) fn bind_to(&mut self, fix: Fix, target: u32) {
        let from = self.offset_of(fix) + 4;
        let displacement = target.wrapping_sub(from);
        let bytes = if fix.section == self.section {
            &mut self.bytes
        } else {
            &mut self.other.1
        };
        bytes[fix.at..fix.at + 4].copy_from_slice(&displacement.to_le_bytes());
    }

    /// The offset in code memory of a jump's displacement.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block is far below 4 GiB"
    )]
    pub(crate) fn offset_of(&self, fix: Fix) -> u32 {
        let origin = if fix.section == self.section {
            self.origin
        } else {
            self.other.0
        };
        origin + fix.at as u32
    }
}

/// The place of a jump's 8-bit displacement.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct NearFix(usize);

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};

    use super::*;

    fn text(asm: &Asm) -> Vec<String> {
        let mut decoder = Decoder::with_ip(64, asm.bytes(Section::Hot), 0, DecoderOptions::NONE);
        let mut formatter = GasFormatter::new();
        let mut lines = Vec::new();
        for insn in &mut decoder {
            let mut line = String::new();
            formatter.format(&insn, &mut line);
            lines.push(line.replace("  ", ""));
        }
        lines
    }

    #[test]
    fn every_kind_of_address_decodes_as_it_was_meant() {
        let mut asm = Asm::new(0, 0x8000);
        asm.load(Host(15), Mem::frame(8));
        asm.load(Host(1), Mem::base(Host(13), 0));
        asm.load(Host(1), Mem::base(Host(12), 0));
        asm.load(Host(1), Mem::base(Host(5), 0x1234));
        asm.lea(Host(1), Mem::indexed(Some(Host(4)), Host(15), 3, 0x1000));
        asm.lea(Host(1), Mem::indexed(None, Host(12), 2, -1));
        asm.lea_32(Host(9), Mem::indexed(Some(Host(13)), Host(8), 1, 0));
        asm.shrx(Host(15), Host(5), FRAME);
        asm.shrx(Host(1), Host(13), Host(9));
        asm.rorx(Host(1), Host(0), 16);
        asm.rorx(Host(15), Host(12), 63);
        asm.mulx(true, Host(2), Host(3), Host(15));
        asm.mulx(false, Host(9), Host(12), Host(6));
        assert_eq!(
            text(&asm),
            [
                "mov 8(%rsp),%r15",
                "mov (%r13),%rcx",
                "mov (%r12),%rcx",
                "mov 0x1234(%rbp),%rcx",
                "lea 0x1000(%rsp,%r15,8),%rcx",
                "lea -1(,%r12,4),%rcx",
                "lea (%r13,%r8,2),%r9d",
                "shrx %rsp,%rbp,%r15",
                "shrx %r9,%r13,%rcx",
                "rorx $0x10,%rax,%rcx",
                "rorx $0x3F,%r12,%r15",
                "mulx %r15,%rbx,%rdx",
                "mulx %esi,%r12d,%r9d",
            ]
        );
    }

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

    #[test]
    fn jumps_go_where_they_are_bound() {
        let mut asm = Asm::new(0x1000, 0x8000);
        let forward = asm.jcc(Condition::ABOVE);
        let near = asm.jrcxz();
        asm.jmp_to(0x1000);
        asm.bind_near(near);
        asm.bind(forward);
        assert_eq!(
            text(&asm),
            ["ja 0x000000000000000D", "jrcxz 0x000000000000000D", "jmp 0"]
        );
    }
}
