//! What the manual leaves open, case by case: there the silicon is no judge.
//!
//! An engine still has to give one answer, the same everywhere (`docs/determinism.md`); that is
//! for its own tests. Here it is only said which bits of an outcome are not compared, and why.

use std::ops::Range;

use iced_x86::{Decoder, Instruction, Mnemonic, OpKind, Register, RflagsBits};

use crate::case::{Case, decoder_options};
use crate::layout;
use crate::state::{FxImage, flag, gpr};

/// What of an outcome is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Bits of RFLAGS.
    pub flags: u64,
    /// Registers as bits, RAX lowest.
    pub gprs: u16,
    /// Bits of the x87 status word.
    pub fsw: u16,
    /// Bits of the x87 status word that are open too if the silicon reports an invalid operation.
    pub fsw_if_invalid: u16,
    /// All of the x87 unit.
    pub x87: bool,
    /// How far ST(0) and ST(1) may be off, in units of the last place; for transcendental
    /// functions, where makers differ.
    pub st_ulps: u64,
    /// How far a lane of an XMM result may be off, as a part of it: for the approximations.
    pub approximate: bool,
    /// Which fault it is, if it is one: the order in which operands are read.
    pub fault: bool,
    /// Where in its page a page fault lies: blocks are probed in any order.
    pub fault_offset: bool,
    /// Memory, by linear address.
    pub memory: Vec<Range<u64>>,
}

/// What the manual leaves open about a case.
///
/// For a case of several instructions, flags that any of them leaves open are open at the end:
/// good enough for the short ones there are.
pub fn open(case: &Case) -> Open {
    let mut open = Open {
        flags: flag::RF,
        ..Open::default()
    };
    let mut decoder = Decoder::with_ip(
        case.mode.bits(),
        &case.code,
        case.state.rip,
        decoder_options(),
    );
    while decoder.can_decode() {
        let instruction = decoder.decode();
        open.flags |= flags(&instruction, case);
        registers(&instruction, case, &mut open);
        x87(&instruction, case, &mut open);
    }
    open
}

fn flags(instruction: &Instruction, case: &Case) -> u64 {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr => {
            shift_flags(instruction, case)
        }
        M::Shld | M::Shrd => double_shift_flags(instruction, case),
        _ => from_iced(instruction.rflags_undefined()),
    }
}

/// SDM vol. 2, SAL/SAR/SHL/SHR and RCL/RCR/ROL/ROR: nothing changes when the count is 0, OF is
/// defined for 1 only, CF for a shift by less than the size.
fn shift_flags(instruction: &Instruction, case: &Case) -> u64 {
    use Mnemonic as M;
    let bits = operand_bits(instruction);
    let count = count(instruction, 1, case) & if bits == 64 { 0x3f } else { 0x1f };
    if count == 0 {
        return 0;
    }
    let mut open = if count == 1 { 0 } else { flag::OF };
    if matches!(instruction.mnemonic(), M::Shl | M::Sal | M::Shr | M::Sar) {
        open |= flag::AF;
        if count >= bits && instruction.mnemonic() != M::Sar {
            open |= flag::CF;
        }
    }
    open
}

/// SDM vol. 2, SHLD and SHRD: with a count beyond the operand's size all is open, the result too.
fn double_shift_flags(instruction: &Instruction, case: &Case) -> u64 {
    let bits = operand_bits(instruction);
    match count(instruction, 2, case) & if bits == 64 { 0x3f } else { 0x1f } {
        0 => 0,
        1 => flag::AF,
        n if n <= bits => flag::AF | flag::OF,
        _ => flag::ARITHMETIC,
    }
}

fn operand_bits(instruction: &Instruction) -> u64 {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size() as u64 * 8,
        _ => instruction.memory_size().size() as u64 * 8,
    }
}

fn count(instruction: &Instruction, operand: u32, case: &Case) -> u64 {
    match instruction.op_kind(operand) {
        OpKind::Register => case.state.gpr[gpr::RCX] & 0xff,
        _ => instruction.immediate(operand),
    }
}

fn from_iced(bits: u32) -> u64 {
    [
        (RflagsBits::OF, flag::OF),
        (RflagsBits::SF, flag::SF),
        (RflagsBits::ZF, flag::ZF),
        (RflagsBits::AF, flag::AF),
        (RflagsBits::CF, flag::CF),
        (RflagsBits::PF, flag::PF),
    ]
    .iter()
    .filter(|(iced, _)| bits & iced != 0)
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn registers(instruction: &Instruction, case: &Case, open: &mut Open) {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Shld | M::Shrd if double_shift_flags(instruction, case) == flag::ARITHMETIC => {
            result_is_open(instruction, case, open);
        }
        // Intel: the upper half of a 32-bit destination may or may not be zeroed when the source
        // is 0, the rest stays (and is said to be undefined).
        M::Bsf | M::Bsr => {}
        // Even one maker's processors read one or the other first, with and without a prefix.
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => open.fault = true,
        // The push, or the target that is not canonical; the operand's bytes that can't be fetched,
        // or the instruction itself; the first byte of a block, or its last, which may have wrapped.
        M::Call | M::Ud1 | M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64 => open.fault = true,
        // Restarted, it loads them all again.
        M::Popa | M::Popad if !layout::is_present(case.state.gpr[gpr::RSP] & 0xffff_ffff, 32) => {
            open.gprs = !(1 << gpr::RSP);
        }
        M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss => open.approximate = true,
        M::Vrcpps | M::Vrcpss | M::Vrsqrtps | M::Vrsqrtss => open.approximate = true,
        _ => {}
    }
}

fn result_is_open(instruction: &Instruction, case: &Case, open: &mut Open) {
    match instruction.op0_kind() {
        OpKind::Register => open.gprs |= 1 << instruction.op0_register().full_register().number(),
        _ => {
            if let Some(start) = memory_address(instruction, case) {
                open.memory
                    .push(start..start.wrapping_add(instruction.memory_size().size() as u64));
            }
        }
    }
}

/// The linear address of the explicit memory operand.
pub fn memory_address(instruction: &Instruction, case: &Case) -> Option<u64> {
    let operand =
        (0..instruction.op_count()).find(|n| instruction.op_kind(*n) == OpKind::Memory)?;
    instruction.virtual_address(operand, 0, |register, _, _| {
        Some(match register {
            // A gather's: as if the index were 0.
            register if register.is_vector_register() => 0,
            Register::FS => case.state.fs_base,
            Register::GS => case.state.gs_base,
            Register::ES | Register::CS | Register::SS | Register::DS => 0,
            register => {
                let value = case.state.gpr[register.full_register().number()];
                match register.size() {
                    // XLAT's index.
                    1 => value & 0xff,
                    2 => value & 0xffff,
                    4 => value & 0xffff_ffff,
                    _ => value,
                }
            }
        })
    })
}

fn x87(instruction: &Instruction, case: &Case, open: &mut Open) {
    use Mnemonic as M;
    open.fault_offset = matches!(
        instruction.mnemonic(),
        M::Fnstenv | M::Fnsave | M::Fldenv | M::Frstor
    );
    // The instruction and data pointers: AMD's processors save them only while an exception is
    // pending, and newer Intel ones no selectors.
    let pointers = match instruction.mnemonic() {
        M::Fnstenv | M::Fnsave if operand_size_16(instruction) => 6..14,
        M::Fnstenv | M::Fnsave => 12..28,
        // And MXCSR_MASK, at 28.
        M::Fxsave | M::Fxsave64 => 6..32,
        _ => 0..0,
    };
    if let (false, Some(start)) = (pointers.is_empty(), memory_address(instruction, case)) {
        open.memory
            .push(start.wrapping_add(pointers.start)..start.wrapping_add(pointers.end));
        if matches!(instruction.mnemonic(), M::Fxsave | M::Fxsave64) {
            // Reserved bytes, which Intel's processors leave alone or zero.
            open.memory
                .push(start.wrapping_add(416)..start.wrapping_add(512));
        }
    }
    x87_status(instruction, case, open);
}

/// Condition codes that the manual leaves open, or where the maker of the silicon at hand and
/// Intel, whose processor is announced, differ.
fn x87_status(instruction: &Instruction, case: &Case, open: &mut Open) {
    use Mnemonic as M;
    let fx = &case.state.fx;
    // Invalid operation and denormal operand: reported before anything else happens.
    let early_are_masked = fx.fcw() & 3 == 3;
    let is_special = |i: usize| fx.st(i)[9] & 0x7f == 0x7f && fx.st(i)[8] == 0xff;
    match instruction.mnemonic() {
        M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip => {
            // C1 is "cleared if the stack underflows" and else either cleared or left alone.
            open.fsw |= C1;
            if !early_are_masked {
                // As for FCOM.
                open.flags |= flag::ARITHMETIC;
            }
        }
        M::Fcmovb
        | M::Fcmovbe
        | M::Fcmove
        | M::Fcmovnb
        | M::Fcmovnbe
        | M::Fcmovne
        | M::Fcmovnu
        | M::Fcmovu
        | M::Ffree
        | M::Ffreep => open.fsw |= C1,
        // Set, or left alone, where an exception is to be reported.
        M::Fcom
        | M::Fcomp
        | M::Fcompp
        | M::Fucom
        | M::Fucomp
        | M::Fucompp
        | M::Ficom
        | M::Ficomp
        | M::Ftst
            if !early_are_masked =>
        {
            open.fsw |= C0 | C2 | C3;
        }
        // Both of an empty source (C1 clear) and a full stack (C1 set).
        M::Fld if instruction.op0_kind() == OpKind::Register => open.fsw |= C1,
        // An unmasked denormal operand: Intel leaves the stack alone, AMD pushes.
        M::Fld if fx.fcw() & 2 == 0 => open.x87 = true,
        M::Fprem | M::Fprem1 => {
            open.fsw_if_invalid = C0 | C1 | C2 | C3;
            if !early_are_masked {
                open.fsw |= C0 | C1 | C2 | C3;
            }
            if is_special(0) || is_special(1) {
                // No quotient to tell the low bits of.
                open.fsw |= C0 | C1 | C3;
            }
        }
        M::Fsin
        | M::Fcos
        | M::Fsincos
        | M::Fptan
        | M::Fpatan
        | M::F2xm1
        | M::Fyl2x
        | M::Fyl2xp1 => {
            open.st_ulps = 1;
            // C1 says whether the last place was rounded up; whether a result was exact at all is
            // seen differently, and so whether a tiny one underflowed.
            open.fsw |= C1 | PRECISION | UNDERFLOW;
            if instruction.mnemonic() == M::Fyl2x {
                // Reported or not beside a division by zero.
                open.fsw |= DENORMAL;
            }
            if fx.fcw() & (PRECISION | UNDERFLOW) != PRECISION | UNDERFLOW {
                open.fsw |= SUMMARY;
            }
            if !early_are_masked {
                open.fsw |= C2;
            }
            open.fsw_if_invalid = C2;
            open.x87 = out_of_domain(instruction.mnemonic(), fx);
        }
        _ => {}
    }
}

const DENORMAL: u16 = 1 << 1;
const UNDERFLOW: u16 = 1 << 4;
const PRECISION: u16 = 1 << 5;
/// ES and B.
const SUMMARY: u16 = 0x8080;
const C0: u16 = 1 << 8;
const C1: u16 = 1 << 9;
const C2: u16 = 1 << 10;
const C3: u16 = 1 << 14;

/// SDM vol. 2, F2XM1 and FYL2XP1: beyond -1..1 the result is undefined; and for the latter
/// already beyond about -0.29..0.41.
fn out_of_domain(mnemonic: Mnemonic, fx: &FxImage) -> bool {
    let exponent = u16::from_le_bytes([fx.st(0)[8], fx.st(0)[9]]) & 0x7fff;
    match mnemonic {
        Mnemonic::F2xm1 => exponent >= 0x3fff,
        Mnemonic::Fyl2xp1 => exponent >= 0x3ffd,
        _ => false,
    }
}

fn operand_size_16(instruction: &Instruction) -> bool {
    use iced_x86::Code;
    matches!(
        instruction.code(),
        Code::Fnstenv_m14byte | Code::Fnsave_m94byte
    )
}
