//! Random encodings of a form: prefixes and operands by chance, the opcode from iced's tables.

use iced_x86::{
    Code, ConstantOffsets, Decoder, EncodingKind, Instruction, MandatoryPrefix, OpCodeTableKind,
};

use crate::case::{Mode, decoder_options};
use crate::random::Random;

/// An encoding of the wanted form.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) instruction: Instruction,
    pub(super) offsets: ConstantOffsets,
}

/// Tries to encode `code`. Prefixes are thrown like dice, and what does not decode to `code` again
/// is thrown once more; `None` if it never does.
pub(super) fn encode(random: &mut Random, code: Code, mode: Mode, ip: u64) -> Option<Encoded> {
    (0..400).find_map(|_| attempt(random, code, mode, ip))
}

fn attempt(random: &mut Random, code: Code, mode: Mode, ip: u64) -> Option<Encoded> {
    let mut bytes = if code.op_code().encoding() == EncodingKind::VEX {
        let mut bytes = address_prefixes(random, mode);
        vex_prefix(random, code, mode, &mut bytes);
        bytes
    } else {
        let mut bytes = prefixes(random, code, mode);
        escape(code, &mut bytes);
        bytes
    };
    opcode(random, code, &mut bytes);
    bytes.extend((0..12).map(|_| random.byte()));
    if random.one_in(2) {
        // Immediates with all bits the same are the sign-extended edges.
        let byte = random.pick(&[0, 0xff, 0x7f, 0x80, 1]);
        let from = bytes.len() - 11;
        bytes[from..].fill(byte);
    }
    let mut decoder = Decoder::with_ip(mode.bits(), &bytes, ip, decoder_options());
    let instruction = decoder.decode();
    if instruction.code() != code {
        return None;
    }
    if makers_differ(&instruction, &bytes, mode) {
        return None;
    }
    let offsets = decoder.get_constant_offsets(&instruction);
    bytes.truncate(instruction.len());
    Some(Encoded {
        bytes,
        instruction,
        offsets,
    })
}

/// Encodings that Intel's processors, one of which is announced, take otherwise than AMD's.
fn makers_differ(instruction: &Instruction, bytes: &[u8], mode: Mode) -> bool {
    use iced_x86::{FlowControl, Mnemonic};
    let has = |prefix: fn(u8) -> bool| {
        bytes[..instruction.len()]
            .iter()
            .take_while(|byte| is_prefix(**byte, mode))
            .any(|byte| prefix(*byte))
    };
    let branches = !matches!(
        instruction.flow_control(),
        FlowControl::Next | FlowControl::Exception
    );
    // AMD: a 66 prefix makes a near branch of 64-bit code 16 bits wide.
    mode == Mode::Long && branches && has(|byte| byte == 0x66)
        // AMD: REX.B makes PAUSE an exchange with R8, as it does NOP.
        || instruction.mnemonic() == Mnemonic::Pause && has(|byte| byte & 0xf1 == 0x41)
        // AMD: with VEX.W in 32-bit code they don't exist.
        || mode == Mode::Compat
            && matches!(instruction.mnemonic(), Mnemonic::Vpextrd | Mnemonic::Vpinsrd)
            && vex_w(bytes)
}

/// Whether a VEX prefix of three bytes has W set.
fn vex_w(bytes: &[u8]) -> bool {
    let at = bytes.iter().position(|byte| *byte == 0xc4);
    at.is_some_and(|at| bytes[at + 2] & 0x80 != 0)
}

fn is_prefix(byte: u8, mode: Mode) -> bool {
    matches!(
        byte,
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
    ) || mode == Mode::Long && byte & 0xf0 == 0x40
}

/// Prefixes that change where a memory operand lies.
fn address_prefixes(random: &mut Random, mode: Mode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    if random.one_in(8) {
        bytes.push(0x67);
    }
    if random.one_in(6) {
        let segments: &[u8] = match mode {
            Mode::Long => &[0x64, 0x65, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e],
            // FS and GS are null in 32-bit code here.
            Mode::Compat => &[0x26, 0x2e, 0x36, 0x3e, 0x3e, 0x64],
        };
        bytes.push(random.pick(segments));
    }
    bytes
}

/// The two or three bytes of VEX (SDM vol. 2, 2.3.5). A field that a form doesn't fix is thrown.
fn vex_prefix(random: &mut Random, code: Code, mode: Mode, bytes: &mut Vec<u8>) {
    let form = code.op_code();
    let map = match form.table() {
        OpCodeTableKind::T0F => 1,
        OpCodeTableKind::T0F38 => 2,
        _ => 3,
    };
    let pp = match form.mandatory_prefix() {
        MandatoryPrefix::P66 => 1,
        MandatoryPrefix::PF3 => 2,
        MandatoryPrefix::PF2 => 3,
        _ => 0,
    };
    let chance = random.byte();
    let w = match form.is_wig() || form.is_wig32() && mode == Mode::Compat {
        true => u32::from(chance & 1),
        false => form.w(),
    };
    let l = match form.is_lig() {
        true => u32::from(chance >> 1 & 1),
        false => form.l(),
    };
    // All ones where it names no register; and in 32-bit code its top bit is one.
    let mut vvvv = if chance & 4 != 0 { 0xf } else { chance >> 4 };
    // R, X and B, inverted; in 32-bit code clear bits there would mean LDS and LES.
    let mut rxb = random.byte() & 7;
    if mode == Mode::Compat {
        vvvv |= 8;
        rxb = 7;
    }
    let low = vvvv << 3 | (l as u8) << 2 | pp;
    if map == 1 && w == 0 && rxb & 3 == 3 && chance & 8 != 0 {
        bytes.extend([0xc5, rxb >> 2 << 7 | low]);
    } else {
        bytes.extend([0xc4, rxb << 5 | map, (w as u8) << 7 | low]);
    }
}

fn prefixes(random: &mut Random, code: Code, mode: Mode) -> Vec<u8> {
    let form = code.op_code();
    let mut bytes = address_prefixes(random, mode);
    if form.can_use_lock_prefix() && random.one_in(4) {
        bytes.push(0xf0);
    }
    let wants_66 = match form.operand_size() {
        16 => !random.one_in(8),
        _ => random.one_in(16),
    };
    match form.mandatory_prefix() {
        MandatoryPrefix::P66 => bytes.push(0x66),
        MandatoryPrefix::PF3 => bytes.push(0xf3),
        MandatoryPrefix::PF2 => bytes.push(0xf2),
        MandatoryPrefix::PNP => {}
        _ if form.can_use_rep_prefix() && random.one_in(3) => bytes.push(0xf3),
        _ if form.can_use_repne_prefix() && random.one_in(3) => bytes.push(0xf2),
        _ => {}
    }
    if wants_66 && form.mandatory_prefix() != MandatoryPrefix::P66 {
        bytes.push(0x66);
    }
    let wants_w = form.operand_size() == 64 && !form.default_op_size64();
    if mode == Mode::Long && (wants_w || random.one_in(2)) {
        let rex = 0x40 | random.byte() & 7 | if wants_w || random.one_in(8) { 8 } else { 0 };
        bytes.push(rex);
    }
    bytes
}

fn escape(code: Code, bytes: &mut Vec<u8>) {
    match code.op_code().table() {
        OpCodeTableKind::T0F => bytes.push(0x0f),
        OpCodeTableKind::T0F38 => bytes.extend([0x0f, 0x38]),
        OpCodeTableKind::T0F3A => bytes.extend([0x0f, 0x3a]),
        _ => {}
    }
}

fn opcode(random: &mut Random, code: Code, bytes: &mut Vec<u8>) {
    let form = code.op_code();
    let number = form.op_code();
    if form.op_code_len() == 2 {
        // Two bytes, the second of them a ModRM with all its bits fixed.
        bytes.extend([(number >> 8) as u8, number as u8]);
        // Registers in the low bits of the second byte (`fadd st, st(i)`).
        if has_sti(code) {
            let last = bytes.len() - 1;
            bytes[last] |= random.byte() & 7;
        }
        return;
    }
    let in_opcode = form.op_kinds().iter().any(|kind| {
        use iced_x86::OpCodeOperandKind as K;
        matches!(
            kind,
            K::r8_opcode | K::r16_opcode | K::r32_opcode | K::r64_opcode
        )
    });
    bytes.push(number as u8 | if in_opcode { random.byte() & 7 } else { 0 });
    let mut modrm = random.byte();
    if random.one_in(4) {
        modrm |= 0xc0;
    } else if modrm >= 0xc0 {
        modrm &= 0x3f;
    }
    if form.is_group() {
        modrm = modrm & 0xc7 | (form.group_index() as u8) << 3;
    }
    if form.is_rm_group() {
        modrm = modrm & 0xf8 | form.rm_group_index() as u8;
    }
    if form.op_kinds().iter().any(is_vector_indexed) {
        // In memory, with SIB.
        modrm = (modrm & 0x38 | 4) | random.pick(&[0, 0x40, 0x80]);
    }
    bytes.push(modrm);
}

fn is_vector_indexed(kind: &iced_x86::OpCodeOperandKind) -> bool {
    use iced_x86::OpCodeOperandKind as K;
    matches!(
        kind,
        K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y
    )
}

fn has_sti(code: Code) -> bool {
    use iced_x86::OpCodeOperandKind as K;
    code.op_code().op_kinds().contains(&K::sti_opcode)
}
