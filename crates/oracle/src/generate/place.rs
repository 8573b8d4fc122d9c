//! Where memory operands lie: mostly in the data pages, sometimes across two pages, sometimes
//! where they must fault.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::encoding::Encoded;
use super::values;
use crate::case::{Case, Mode, PATCH_BYTES_MAX, Patch};
use crate::forms::Family;
use crate::layout::{CODE, DATA, PAGE_BYTES, READ_ONLY, STACK, STACK_POINTER};
use crate::random::Random;
use crate::state::{flag, gpr};
use crate::undefined::memory_address;

const DATA_END: u64 = DATA + 4 * PAGE_BYTES;

/// An address for an operand of `len` bytes.
pub(super) fn address(random: &mut Random, mode: Mode, len: u64) -> u64 {
    let near = random.below(len.max(1) + 8);
    match random.below(32) {
        0..=2 => DATA + PAGE_BYTES * (1 + random.below(3)) - near,
        3 => DATA_END - near,
        4 => DATA - near,
        5 => READ_ONLY + random.below(PAGE_BYTES - 16),
        6 => match mode {
            Mode::Long => {
                random.pick(&[1 << 63, 0x7fff_ffff_ffff, 0x8000_0000_0000, u64::MAX]) ^ near
            }
            Mode::Compat => u64::from(u32::MAX) ^ near,
        },
        7 => random.pick(&[CODE, 0, DATA_END + PAGE_BYTES, STACK - 4]) + near,
        8..=10 => DATA + 256 + random.below(3 * PAGE_BYTES),
        11..=13 => STACK_POINTER + 8 * random.below(32),
        _ => DATA + 256 + (random.below(3 * PAGE_BYTES) & !15),
    }
}

/// Chooses an address for the instruction's memory operand, makes its registers or displacement
/// give it, and lays something worth reading there and where the implied operands are.
pub(super) fn operands(random: &mut Random, encoded: &Encoded, case: &mut Case) {
    let instruction = &encoded.instruction;
    let explicit = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    if explicit {
        let len = (instruction.memory_size().size() as u64).max(1);
        let mut target = address(random, case.mode, len);
        if instruction.is_vsib() {
            indices(random, instruction, case);
        }
        let at_an_end = matches!(target >> 8, 0x7f_ffff_ffff | 0xff_ffff);
        if at_an_end && Family::of(instruction.code()) != Family::Integer {
            // Some read more than their operand, and fault if that ends beyond the last canonical
            // address of the lower half; and makers differ in what wraps at 4 GiB.
            target -= PAGE_BYTES;
        }
        aim(encoded, case, target);
        patch(random, case, target, len);
    }
    // What implied operands point at.
    for register in [gpr::RSP, gpr::RSI, gpr::RDI] {
        let address = case.state.gpr[register];
        if random.one_in(2) {
            patch(random, case, address, 16);
        }
    }
    if instruction.is_string_instruction() {
        strings(random, case);
    }
}

fn patch(random: &mut Random, case: &mut Case, address: u64, len: u64) {
    let len = usize::try_from(len).map_or(PATCH_BYTES_MAX, |len| len.min(PATCH_BYTES_MAX));
    let mut bytes = values::memory(random, len);
    if len == PATCH_BYTES_MAX && !random.one_in(4) {
        // Perhaps an FXRSTOR image: a valid MXCSR.
        bytes[26..28].fill(0);
    }
    case.patches.push(Patch { address, bytes });
}

/// A gather's indices, mostly small, and its mask, of which mostly all elements count.
fn indices(random: &mut Random, instruction: &Instruction, case: &mut Case) {
    // Makers differ in whether a trap comes between the elements.
    case.state.rflags &= !flag::TF;
    let wide = instruction.is_vsib64();
    let mut lanes = |small: fn(&mut Random) -> u64| -> [u128; 2] {
        std::array::from_fn(|_| {
            let bits = if wide { 64 } else { 32 };
            (0..128 / bits).fold(0, |lanes, lane| {
                let value = match random.below(16) {
                    0 => random.draw(),
                    _ => small(random),
                };
                let value = if wide { value } else { value & 0xffff_ffff };
                lanes | u128::from(value) << (bits * lane)
            })
        })
    };
    let index = lanes(|random| random.below(512).wrapping_sub(256));
    let mask = lanes(|random| random.draw() | 0x8000_0000_8000_0000);
    for (register, [low, high]) in [
        (instruction.memory_index(), index),
        (instruction.op2_register(), mask),
    ] {
        case.state.fx.set_xmm(register.number(), low);
        case.state.ymm_high[register.number()] = high;
    }
}

/// Runs of equal bytes at both ends, so that comparisons go on for a while.
fn strings(random: &mut Random, case: &mut Case) {
    let bytes: Vec<u8> = (0..PATCH_BYTES_MAX)
        .map(|_| if random.one_in(24) { 1 } else { 0 })
        .collect();
    let back = PATCH_BYTES_MAX as u64 / 2;
    for register in [gpr::RSI, gpr::RDI] {
        let mut bytes = bytes.clone();
        if random.one_in(2) {
            bytes[PATCH_BYTES_MAX / 2 + random.below(16) as usize] ^= 0x80;
        }
        let address = case.state.gpr[register].wrapping_sub(back);
        case.patches.push(Patch { address, bytes });
    }
    if random.one_in(2) {
        case.state.gpr[gpr::RAX] = 0;
    }
}

/// Makes the memory operand's address be `target`, as far as its form allows.
fn aim(encoded: &Encoded, case: &mut Case, target: u64) {
    let instruction = &encoded.instruction;
    let offset = target.wrapping_sub(segment_base(instruction, case));
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let scale = u64::from(instruction.memory_index_scale());
    let displacement = instruction.memory_displacement64();
    match (number(base), number(index)) {
        (Some(base), Some(index)) if base == index => {
            case.state.gpr[base] = offset.wrapping_sub(displacement) / (scale + 1);
        }
        (Some(base), Some(index)) => {
            let scaled = case.state.gpr[index].wrapping_mul(scale);
            case.state.gpr[base] = offset.wrapping_sub(displacement).wrapping_sub(scaled);
        }
        (Some(base), None) => case.state.gpr[base] = offset.wrapping_sub(displacement),
        (None, Some(index)) => case.state.gpr[index] = offset.wrapping_sub(displacement) / scale,
        (None, None) => {
            let relative = matches!(base, Register::RIP | Register::EIP);
            let from = if relative { instruction.next_ip() } else { 0 };
            write_displacement(encoded, case, offset.wrapping_sub(from));
        }
    }
}

/// Whether the offset in FS or GS is not canonical though the linear address is, or the other way
/// round: AMD's processors look at both, the manual speaks of the latter.
pub(super) fn makers_differ(instruction: &Instruction, case: &Case) -> bool {
    use Mnemonic as M;
    let base = segment_base(instruction, case);
    let linear = match (memory_address(instruction, case), instruction.mnemonic()) {
        (Some(linear), M::Bt | M::Bts | M::Btr | M::Btc) => {
            // A bit string: the operand is only where it begins.
            let offset = number(instruction.op1_register()).map_or(0, |n| case.state.gpr[n]);
            linear.wrapping_add((offset.cast_signed() >> 3).cast_unsigned() & !7)
        }
        (Some(linear), _) => linear,
        (None, M::Maskmovq | M::Maskmovdqu) => case.state.gpr[gpr::RDI].wrapping_add(base),
        // A string instruction's source.
        (None, _) => case.state.gpr[gpr::RSI].wrapping_add(base),
    };
    let is_canonical = |value: u64| ((value << 16).cast_signed() >> 16).cast_unsigned() == value;
    // Each element of a gather has an offset of its own.
    base != 0 && instruction.is_vsib() && linear >> 40 != 0
        || base != 0 && is_canonical(linear) != is_canonical(linear.wrapping_sub(base))
        || loads_misaligned_mode(instruction, case)
}

/// Whether it would load bit 17 of MXCSR, AMD's misaligned exception mask, reserved on Intel's.
fn loads_misaligned_mode(instruction: &Instruction, case: &Case) -> bool {
    let offset = match instruction.mnemonic() {
        Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr => 2,
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => 26,
        _ => return false,
    };
    memory_address(instruction, case)
        .is_some_and(|start| case.byte_before(start.wrapping_add(offset)) & 2 != 0)
}

fn segment_base(instruction: &Instruction, case: &Case) -> u64 {
    match (instruction.memory_segment(), case.mode) {
        (Register::FS, Mode::Long) => case.state.fs_base,
        (Register::GS, Mode::Long) => case.state.gs_base,
        _ => 0,
    }
}

fn number(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

fn write_displacement(encoded: &Encoded, case: &mut Case, displacement: u64) {
    if encoded.offsets.has_displacement() {
        let (at, len) = (
            encoded.offsets.displacement_offset(),
            encoded.offsets.displacement_size(),
        );
        case.code[at..at + len].copy_from_slice(&displacement.to_le_bytes()[..len]);
    }
}
