//! What the manual leaves open, case by case: there the silicon is no judge.
//!
//! An engine still has to give one answer, the same everywhere (`docs/determinism.md`); that is
//! for its own tests. Here it is only said which bits of an outcome are not compared, and why.

use std::ops::Range;

use iced_x86::{
    Decoder, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register, RflagsBits,
};

use crate::case::{Case, End, Mode, Outcome, decoder_options};
use crate::layout;
use crate::state::{FxImage, MachineState, flag, gpr};

/// What of an outcome is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Bits of RFLAGS.
    pub flags: u64,
    /// Registers as bits, RAX lowest.
    pub gprs: u16,
    /// Upper halves of registers, as bits, RAX lowest.
    pub upper_halves: u16,
    /// Bits of the x87 status word.
    pub fsw: u16,
    /// Bits of the x87 status word that are open too if the silicon reports an invalid operation.
    pub fsw_if_invalid: u16,
    /// All of the x87 unit.
    pub x87: bool,
    /// Which x87 register is the top of the stack.
    pub top: bool,
    /// Whether an x87 store is refused for its address or for the exception that it raises.
    pub refusal: bool,
    /// MXCSR.
    pub mxcsr: bool,
    /// Bits of vector registers.
    pub vectors: Vec<VectorBits>,
    /// Which NaN an XMM result holds, by the width of a lane in bits, if it is one.
    pub nan: Option<u32>,
    /// How far ST(0) and ST(1) may be off, in units of the last place; for transcendental
    /// functions, where makers differ.
    pub st_ulps: u64,
    /// How far a lane of an XMM result may be off, as a part of it: for the approximations.
    pub approximate: bool,
    /// Which fault it is, if it is one: the order in which operands are read.
    pub fault: bool,
    /// Whether an access is refused by the segment's limit or by what comes after it.
    pub limit: bool,
    /// By less than how many bytes the address of a page fault may differ: blocks are probed in
    /// any order, and what a mask leaves out may not be.
    pub fault_span: u64,
    /// Memory, by linear address.
    pub memory: Vec<Range<u64>>,
}

/// Bits of a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorBits {
    /// Its number.
    pub register: usize,
    /// Of its lower half, which is the XMM register.
    pub low: u128,
    /// Of its upper half.
    pub high: u128,
}

/// What the manual leaves open about a case that came out as `expected` on the silicon.
///
/// For a case of several instructions, flags that any of them leaves open are open at the end:
/// good enough for the short ones there are.
pub fn open(case: &Case, expected: &Outcome) -> Open {
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
        registers(&instruction, case, expected.end, &mut open);
        x87(&instruction, case, &mut open);
        numbers(&instruction, &mut open);
        if instruction.ip() == expected.state.rip && is_access_fault(expected.end) {
            after_fault(&instruction, case, &expected.state, &mut open);
        }
    }
    open.refusal &= expected.state.fx.fsw() & SUMMARY != 0;
    open
}

/// Whether it is an exception that an access to memory raises.
pub(crate) fn is_access_fault(end: End) -> bool {
    matches!(end, End::Fault(fault) if matches!(fault.vector, 12 | 13 | 14 | 17))
}

/// Which NaN: the sums of DPPS and DPPD may be made in any order.
fn numbers(instruction: &Instruction, open: &mut Open) {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Dpps | M::Vdpps => open.nan = Some(32),
        M::Dppd | M::Vdppd => open.nan = Some(64),
        _ => {}
    }
}

/// What differs between makes when `instruction` faults at an access, with the registers `found`.
fn after_fault(instruction: &Instruction, case: &Case, found: &MachineState, open: &mut Open) {
    use Mnemonic as M;
    // SDM vol. 3, 5.3: beyond 4 GiB it is the limit or what lies at 0, as a processor likes.
    open.limit = case.mode == Mode::Compat && wraps(instruction, found);
    if case.state.rflags & flag::AC != 0 && is_not_canonical(instruction, found) {
        // Alignment is looked at before or after.
        open.fault = true;
    }
    match instruction.mnemonic() {
        // The first byte, or the first that the mask takes in.
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => {
            // And where that is: its address may have wrapped around.
            open.fault = true;
        }
        M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq => open.fault_span = 32,
        // Some of it may have been stored.
        M::Fbstp | M::Fstp if instruction.memory_size().size() == 10 => {
            result_is_open(instruction, case, open);
        }
        // The return address was written before the target was found not to be canonical.
        M::Call if case.mode == Mode::Long => {
            let end = found.gpr[gpr::RSP];
            open.memory.push(end.wrapping_sub(8)..end);
        }
        _ => {}
    }
    // A store of an MMX register makes the x87 unit an MMX unit first.
    open.top |= instruction.op0_kind() == OpKind::Memory && instruction.op1_register().is_mm();
    if instruction.is_vsib() {
        after_gather(instruction, open);
    }
}

/// A gather that faults: what is left of the mask is kept, or made all ones, and what lies above
/// the 128 bits that it uses is kept or cleared.
fn after_gather(instruction: &Instruction, open: &mut Open) {
    use Mnemonic as M;
    let signs = match instruction.mnemonic() {
        M::Vgatherdps | M::Vgatherqps | M::Vpgatherdd | M::Vpgatherqd => {
            0x8000_0000_8000_0000_8000_0000_8000_0000
        }
        _ => 1 << 127 | 1 << 63,
    };
    let (target, mask) = (instruction.op0_register(), instruction.op2_register());
    let upper_is_free = target.is_xmm();
    open.vectors = vec![
        VectorBits {
            register: mask.number(),
            low: !signs,
            high: if upper_is_free { u128::MAX } else { !signs },
        },
        VectorBits {
            register: target.number(),
            low: 0,
            high: if upper_is_free { u128::MAX } else { 0 },
        },
    ];
}

/// Whether 32-bit code reaches beyond 4 GiB with an access of `instruction`, which has come as far
/// as `found`.
fn wraps(instruction: &Instruction, found: &MachineState) -> bool {
    // Of a bit string and a gather it isn't told where.
    is_bit_string(instruction)
        || instruction.is_vsib()
        || any_access(instruction, found, false, |start, bytes| {
            (start & 0xffff_ffff) + bytes > 1 << 32
        })
}

fn is_bit_string(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && instruction.op_kind(1) == OpKind::Register
}

/// Whether an access of `instruction` touches what is no linear address.
fn is_not_canonical(instruction: &Instruction, found: &MachineState) -> bool {
    any_access(instruction, found, true, |start, bytes| {
        let end = start.wrapping_add(bytes - 1);
        [start, end].map(|at| (at.cast_signed() << 16 >> 16) != at.cast_signed()) != [false; 2]
    })
}

/// Whether `is` is true of the start and the length in bytes of an access of `instruction`, which
/// has come as far as `found`; without the segments' bases unless `linear`.
fn any_access(
    instruction: &Instruction,
    found: &MachineState,
    linear: bool,
    is: impl Fn(u64, u64) -> bool,
) -> bool {
    let mut factory = InstructionInfoFactory::new();
    factory.info(instruction).used_memory().iter().any(|used| {
        let start = used.virtual_address(0, |register, _, _| {
            Some(match register {
                Register::FS if linear => found.fs_base,
                Register::GS if linear => found.gs_base,
                register if register.is_segment_register() => 0,
                register => register_value(register, found),
            })
        });
        // Not told of one that is repeated.
        let bytes = used
            .memory_size()
            .size()
            .max(instruction.memory_size().size());
        start.is_some_and(|start| is(start, bytes.max(1) as u64))
    })
}

fn register_value(register: Register, state: &MachineState) -> u64 {
    let value = state.gpr[register.full_register().number()];
    match register.size() {
        // XLAT's index.
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
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

fn registers(instruction: &Instruction, case: &Case, end: End, open: &mut Open) {
    use Mnemonic as M;
    let is_fault = matches!(end, End::Fault(_));
    let is_repeated = instruction.is_string_instruction()
        && (instruction.has_rep_prefix() || instruction.has_repne_prefix());
    if is_fault && is_repeated {
        // SDM vol. 2, REP: as they were before the instruction; or after the last turn. Of those
        // that write any.
        open.flags |= from_iced(instruction.rflags_modified());
    }
    let is_short = (0..instruction.op_count()).any(|n| {
        matches!(
            instruction.op_kind(n),
            OpKind::MemoryESEDI | OpKind::MemorySegESI
        )
    });
    if is_repeated && is_short && case.mode == Mode::Long {
        // With addresses of 32 bits, before the first turn: already cleared or not yet.
        let none = case.state.gpr[gpr::RCX] & 0xffff_ffff == 0;
        if none || is_access_fault(end) {
            open.upper_halves = 1 << gpr::RCX | 1 << gpr::RSI | 1 << gpr::RDI;
        }
    }
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
        // Beyond the one bound, or the other that can't be read.
        M::Call | M::Ud1 | M::Bound | M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64 => {
            open.fault = true
        }
        // Converted, and an exception found, before the address is looked at; or after.
        M::Vcvtps2ph if is_fault && instruction.op0_kind() == OpKind::Memory => {
            open.fault = true;
            open.mxcsr = true;
        }
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
            register => register_value(register, &case.state),
        })
    })
}

fn x87(instruction: &Instruction, case: &Case, open: &mut Open) {
    use Mnemonic as M;
    if matches!(
        instruction.mnemonic(),
        M::Fnstenv | M::Fnsave | M::Fldenv | M::Frstor
    ) {
        open.fault_span = 108;
    }
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
        // Refused for the address, or before that for what is to be stored.
        M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp | M::Fbstp => {
            open.refusal = fx.fsw() & SUMMARY == 0;
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
