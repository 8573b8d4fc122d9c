//! Shifts, rotations and bit scans, whose flags differ between makes of
//! processors: here they come out as `cpu` defines them (docs/determinism.md).

use cpu::Decoded;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::Translator;
use super::memory::{Access, guest_number};
use crate::asm::{Alu, Mem, NearFix};
use crate::flag::Where;
use crate::frame::at;
use crate::register::{ADDRESS, COUNTER, Home, Host, INDEX, home};
use crate::routine::WITHOUT_AF;

/// Whether it is one of these, with operands that need no helper. A memory
/// operand may need it all the same.
pub(super) fn is_known(insn: &Instruction) -> bool {
    kind(insn).is_some()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A shift or rotation by an immediate.
    Immediate,
    /// SHL, SHR or SAR by CL, by its number in opcode 0xd3.
    ByCounter(u8),
    /// BSF or BSR, by its opcode.
    Scan(u8),
    /// SHLD or SHRD.
    Double(Double),
}

/// SHLD or SHRD of registers of 32 or 64 bits, of which one at least is held in the
/// host's.
#[derive(Clone, Copy, Debug)]
struct Double {
    left: bool,
    /// By CL otherwise.
    count: Option<u8>,
}

fn double(insn: &Instruction) -> Option<Double> {
    let left = match insn.mnemonic() {
        Mnemonic::Shld => true,
        Mnemonic::Shrd => false,
        _ => return None,
    };
    let bytes = operand_bytes(insn);
    if insn.op_kind(0) != OpKind::Register || bytes < 4 {
        return None;
    }
    let both = [insn.op_register(0), insn.op_register(1)];
    if both.map(|register| home(guest_number(register))) == [Home::Frame; 2] {
        return None;
    }
    if insn.op_kind(2) == OpKind::Register {
        return Some(Double { left, count: None });
    }
    let count = insn.immediate8() & if bytes == 8 { 63 } else { 31 };
    (count != 0).then_some(Double {
        left,
        count: Some(count),
    })
}

fn kind(insn: &Instruction) -> Option<Kind> {
    use Mnemonic as M;
    if let Some(double) = double(insn) {
        return Some(Kind::Double(double));
    }
    if insn.op_count() != 2 {
        return None;
    }
    let bytes = operand_bytes(insn);
    let is_wide = bytes >= 4;
    let mnemonic = insn.mnemonic();
    let (is_shift, number) = match mnemonic {
        M::Shl | M::Sal => (true, 4),
        M::Shr => (true, 5),
        M::Sar => (true, 7),
        M::Rol | M::Ror | M::Rcl | M::Rcr => (false, 0),
        M::Bsf if is_wide => return Some(Kind::Scan(0xbc)),
        M::Bsr if is_wide => return Some(Kind::Scan(0xbd)),
        _ => return None,
    };
    if let Some(count) = count(insn) {
        // Narrow ones have counts beyond the width.
        return (count != 0 && (is_wide || usize::from(count) < 8 * bytes))
            .then_some(Kind::Immediate);
    }
    let in_register = insn.op_kind(0) == OpKind::Register;
    (is_shift && is_wide && in_register && insn.op_register(1) == Register::CL)
        .then_some(Kind::ByCounter(number))
}

/// Length in bytes of the first operand.
pub(super) fn operand_bytes(insn: &Instruction) -> usize {
    match insn.op_kind(0) {
        OpKind::Register => insn.op_register(0).size(),
        _ => insn.memory_size().size(),
    }
}

/// By how much it shifts or rotates, if an immediate says it.
fn count(insn: &Instruction) -> Option<u8> {
    let mask = count_mask(operand_bytes(insn) == 8);
    (insn.op_kind(1) != OpKind::Register).then(|| insn.immediate8() & mask)
}

/// The bits of a count that count, of an operand of 64 bits or a shorter one.
fn count_mask(wide: bool) -> u8 {
    if wide { 63 } else { 31 }
}

impl Translator<'_> {
    /// A shift, rotation or bit scan.
    pub(super) fn shift(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        match kind(insn) {
            None => false,
            Some(Kind::Immediate) => self.shift_immediate(decoded),
            Some(Kind::ByCounter(number)) => self.shift_by_counter(insn, number),
            Some(Kind::Scan(opcode)) => self.scan(decoded, opcode),
            Some(Kind::Double(double)) => self.double_shift(insn, double),
        }
    }

    fn shift_immediate(&mut self, decoded: &Decoded) -> bool {
        use Mnemonic as M;
        let is_shift = matches!(decoded.insn.mnemonic(), M::Shl | M::Sal | M::Shr | M::Sar);
        if !self.again(decoded, false) {
            return false;
        }
        if is_shift && self.flags == Where::Host {
            self.flags = Where::HostWithoutAf;
        }
        true
    }

    /// A shift or rotation by more than 1, which is to leave OF as `cpu` does: the
    /// code of one by so much less 1, and of one by 1. For by more than 1 each
    /// make of processors has an OF of its own; `cpu` has that of the last bit's step.
    pub(super) fn in_two_steps(&mut self, host: &Instruction) -> Option<Vec<u8>> {
        use Mnemonic as M;
        let differs = matches!(
            host.mnemonic(),
            M::Shl | M::Sal | M::Shr | M::Rol | M::Ror | M::Rcl | M::Rcr
        );
        if !differs || !self.visible {
            return None;
        }
        let count = count(host)?;
        if count < 2 {
            return None;
        }
        let mut step = *host;
        for count in [count - 1, 1] {
            step.set_immediate8(count);
            self.encoder
                .encode(&step, 0)
                .expect("bug: it was encoded with another count");
        }
        Some(self.encoder.take_buffer())
    }

    fn shift_by_counter(&mut self, insn: &Instruction, number: u8) -> bool {
        let register = insn.op_register(0);
        let wide = register.size() == 8;
        let guest = guest_number(register);
        // Before anything is written: the target may be what counts.
        let target = self.in_host(register, INDEX);
        if self.visible {
            let zero = self.load_count(target, wide);
            // In two steps, for OF.
            self.asm.lea(ADDRESS, Mem::base(ADDRESS, -1));
            self.asm.shift_by_cl(wide, number, target);
            self.asm.shift_by_one(wide, number, target);
            self.asm.lahf();
            self.asm.seto_al();
            self.asm.and_ah(WITHOUT_AF);
            self.asm.bind_near(zero);
            self.flags = Where::Saved;
        } else {
            self.asm.mov(ADDRESS, COUNTER);
            self.asm.shift_by_cl(wide, number, target);
            self.flags = Where::Dead;
        }
        self.give(guest, target);
        true
    }

    /// Loads the count into `rcx`. Returns the jump that is taken where it is 0, which
    /// changes no flag, but clears the upper half of a target of 32 bits.
    fn load_count(&mut self, target: Host, wide: bool) -> NearFix {
        self.save_flags();
        self.clobber_flags();
        self.asm.mov(ADDRESS, COUNTER);
        if !wide {
            self.asm.mov_32(target, target);
        }
        let mask = count_mask(wide).into();
        self.asm.alu_constant_32(Alu::And, ADDRESS, mask);
        self.asm.jrcxz()
    }

    fn double_shift(&mut self, insn: &Instruction, double: Double) -> bool {
        let Double { left, count } = double;
        let (register, source) = (insn.op_register(0), insn.op_register(1));
        let wide = register.size() == 8;
        // One of them at most is not in the host's registers.
        let target = self.in_host(register, INDEX);
        let source = self.in_host(source, INDEX);
        let zero = match (count, self.visible) {
            (Some(_), _) => None,
            (None, true) => Some(self.load_count(target, wide)),
            (None, false) => {
                self.asm.mov(ADDRESS, COUNTER);
                None
            }
        };
        if self.visible && left {
            self.asm.store(Mem::frame(at::TEMP), target);
        }
        self.asm.double_shift(wide, left, (target, source), count);
        if self.visible {
            self.double_shift_flags(target, left, wide);
            self.flags = Where::Saved;
        } else {
            self.flags = Where::Dead;
        }
        if let Some(zero) = zero {
            self.asm.bind_near(zero);
        }
        self.give(guest_number(register), target);
        true
    }

    /// All flags are the host's but AF, which is 0, and OF: whether SHLD has changed
    /// the sign of what is in the frame, or whether the two top bits differ after SHRD.
    fn double_shift_flags(&mut self, target: Host, left: bool, wide: bool) {
        if left {
            self.asm.load(ADDRESS, Mem::frame(at::TEMP));
        } else {
            self.asm.mov(ADDRESS, target);
        }
        self.asm.lahf();
        if left {
            self.asm.xor(ADDRESS, target);
        }
        // The top bit into CF, and in OF whether the next one differs.
        if wide {
            self.asm.shl(ADDRESS, 1);
        } else {
            self.asm.shl_32(ADDRESS, 1);
        }
        if left {
            self.asm.setc_al();
        } else {
            self.asm.seto_al();
        }
        self.asm.and_ah(WITHOUT_AF);
    }

    /// Stores a guest register that lives in the frame.
    pub(super) fn give(&mut self, guest: u8, from: Host) {
        if home(guest) == Home::Frame {
            self.asm.store(Mem::frame(at::gpr(guest)), from);
        }
    }

    fn scan(&mut self, decoded: &Decoded, opcode: u8) -> bool {
        let insn = &decoded.insn;
        let register = insn.op_register(0);
        let wide = register.size() == 8;
        let guest = guest_number(register);
        let slow = if insn.op_kind(1) == OpKind::Memory {
            if !Self::has_plain_address(insn) {
                return false;
            }
            let access = Access {
                bytes: if wide { 8 } else { 4 },
                write: false,
                aligned: false,
            };
            let (mem, slow) = self.operand(decoded, access);
            if wide {
                self.asm.load(INDEX, mem);
            } else {
                self.asm.load_32(INDEX, mem);
            }
            self.save_flags();
            self.clobber_flags();
            self.asm.scan(wide, opcode, INDEX, INDEX);
            Some(slow)
        } else {
            self.save_flags();
            self.clobber_flags();
            let source = self.in_host(insn.op_register(1), INDEX);
            self.asm.scan(wide, opcode, INDEX, source);
            None
        };
        // A source of 0 leaves the target as it is, all of it.
        let target = self.in_host(register, ADDRESS);
        self.asm.cmovnz(target, INDEX);
        self.give(guest, target);
        self.merge_zero_flag();
        if let Some(slow) = slow {
            self.resume(&slow);
        }
        true
    }

    /// Of the saved flags all stay but ZF, which is the host's. Uses `rcx`.
    pub(super) fn merge_zero_flag(&mut self) {
        if self.visible {
            // LAHF's place of it is bit 6.
            self.asm.setz_cl();
            self.asm.shl_32(ADDRESS, 6);
            self.asm.and_ah(!0x40);
            self.asm.or_ah_cl();
            self.flags = Where::Saved;
        } else {
            self.flags = Where::Dead;
        }
    }
}
