//! Instructions that are emitted again as they are: the guest's registers
//! replaced by those of the host that hold them, the memory operand by the
//! address that the lookup gave.

use cpu::Decoded;
use iced_x86::{
    Encoder, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::Translator;
use super::memory::{Access, FORM, guest_number};
use crate::asm::{Asm, Mem};
use crate::frame::at;
use crate::register::{ADDRESS, Home, Host, INDEX, home, named};

/// Whether `insn` is LEA, whose memory operand is none.
pub(super) fn is_lea(insn: &Instruction) -> bool {
    insn.mnemonic() == Mnemonic::Lea
}

/// Whether translated code knows `insn`, or one of its kind, without the
/// helper. (With operands that it can't do, it is interpreted all the same.)
pub(super) fn is_known(insn: &Instruction) -> bool {
    takes_second_byte(insn)
        || has_plain_registers(insn)
            && (does_as_host(insn)
                || super::shift::is_known(insn)
                || super::multiply::is_known(insn))
}

/// Whether all register operands are general ones.
fn has_plain_registers(insn: &Instruction) -> bool {
    (0..insn.op_count())
        .all(|n| insn.op_kind(n) != OpKind::Register || insn.op_register(n).is_gpr())
}

/// The guest register that `insn` can't use where it is held, as a second byte is
/// among the operands: CH's or BH's, which has none there, or else another one, whose
/// number leaves no room for the encoding of second bytes.
fn displaced(insn: &Instruction) -> Option<u8> {
    if !has_second_byte(insn) {
        return None;
    }
    let registers = (0..insn.op_count())
        .filter(|&n| insn.op_kind(n) == OpKind::Register)
        .map(|n| insn.op_register(n));
    let has_none = |r: &Register| matches!(r, Register::CH | Register::BH);
    let is_far = |r: &Register| {
        let first = if r.size() == 1 { 4 } else { 8 };
        let has_second = matches!(r, Register::AH | Register::DH);
        !has_second && !matches!(home(guest_number(*r)), Home::Host(host) if host.0 < first)
    };
    let found = registers.clone().find(has_none);
    found
        .or_else(|| registers.clone().find(is_far))
        .map(guest_number)
}

/// Whether a register operand is AH, CH, DH or BH.
pub(super) fn has_second_byte(insn: &Instruction) -> bool {
    use Register as R;
    (0..insn.op_count()).any(|n| {
        insn.op_kind(n) == OpKind::Register
            && matches!(insn.op_register(n), R::AH | R::CH | R::DH | R::BH)
    })
}

/// Whether the host's instruction does what the guest's does, on every make:
/// no implicit register, and no undefined flag that could differ.
fn does_as_host(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        insn.mnemonic(),
        M::Mov
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Lea
            | M::Add
            | M::Or
            | M::Adc
            | M::Sbb
            | M::And
            | M::Sub
            | M::Xor
            | M::Cmp
            | M::Test
            | M::Inc
            | M::Dec
            | M::Neg
            | M::Not
            | M::Xchg
            | M::Xadd
            | M::Popcnt
            | M::Clc
            | M::Stc
            | M::Cmc
            | M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmove
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovne
            | M::Cmovno
            | M::Cmovnp
            | M::Cmovns
            | M::Cmovo
            | M::Cmovp
            | M::Cmovs
            | M::Seta
            | M::Setae
            | M::Setb
            | M::Setbe
            | M::Sete
            | M::Setg
            | M::Setge
            | M::Setl
            | M::Setle
            | M::Setne
            | M::Setno
            | M::Setnp
            | M::Setns
            | M::Seto
            | M::Setp
            | M::Sets
    ) || insn.mnemonic() == Mnemonic::Crc32
        // Of 16 bits it is undefined.
        || insn.mnemonic() == Mnemonic::Bswap && insn.op_register(0).size() > 2
        || is_bit_test(insn)
        || does_nothing(insn)
}

/// BT and its kin, where the bit lies in the operand itself.
fn is_bit_test(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(insn.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && (insn.op_kind(0) == OpKind::Register || insn.op_kind(1) != OpKind::Register)
}

/// Whether it does nothing at all.
fn does_nothing(insn: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        insn.mnemonic(),
        M::Nop
            | M::Pause
            | M::Endbr32
            | M::Endbr64
            | M::Lfence
            | M::Mfence
            | M::Sfence
            | M::Prefetchnta
            | M::Prefetcht0
            | M::Prefetcht1
            | M::Prefetcht2
            | M::Prefetchw
    )
}

/// A guest register that an instruction uses in the place of a spare one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    guest: u8,
    host: Host,
    load: bool,
    store: bool,
}

/// An instruction in the host's registers.
pub(super) struct Rewritten {
    pub(super) host: Instruction,
    pub(super) bytes: Vec<u8>,
    loans: Vec<Loan>,
    /// Where the first operand is while it runs, if it is a register.
    target: Option<Host>,
    pub(super) access: Option<Access>,
}

impl Rewritten {
    pub(super) fn load(&self, asm: &mut Asm) {
        for loan in self.loans.iter().filter(|loan| loan.load) {
            match home(loan.guest) {
                Home::Host(host) => asm.mov(loan.host, host),
                Home::Frame => asm.load(loan.host, Mem::frame(at::gpr(loan.guest))),
            }
        }
    }

    pub(super) fn store(&self, asm: &mut Asm) {
        for loan in self.loans.iter().filter(|loan| loan.store) {
            match home(loan.guest) {
                Home::Host(host) => asm.mov(host, loan.host),
                Home::Frame => asm.store(Mem::frame(at::gpr(loan.guest)), loan.host),
            }
        }
    }
}

/// `insn` with the host's registers in place of the guest's, and `mem` in place of
/// its memory operand; the registers of `spare` are free. `None` if it has no such
/// form.
pub(super) fn rewrite(
    encoder: &mut Encoder,
    info: &mut InstructionInfoFactory,
    insn: &Instruction,
    mem: Mem,
    mut spare: &[Host],
) -> Option<Rewritten> {
    let mut host = *insn;
    let used = info.info_options(insn, InstructionInfoOptions::NO_REGISTER_USAGE);
    let mut loans: Vec<Loan> = Vec::new();
    let displaced = displaced(insn);
    if let Some(guest) = displaced {
        // `rcx` has a second byte and a small number, if it is free.
        let free = spare.iter().position(|&host| host == ADDRESS)?;
        loans.push(Loan {
            guest,
            host: ADDRESS,
            load: true,
            store: false,
        });
        spare = &spare[..free];
    }
    let (mut access, mut target) = (None, None);
    for n in 0..insn.op_count() {
        match insn.op_kind(n) {
            OpKind::Register => {
                let register = insn.op_register(n);
                if register.is_vector_register() || register.is_st() {
                    continue;
                }
                if !register.is_gpr() {
                    return None;
                }
                let guest = guest_number(register);
                let place = match home(guest) {
                    Home::Host(place) if displaced != Some(guest) => place,
                    _ => {
                        let known = loans.iter().position(|loan| loan.guest == guest);
                        let at = match known {
                            Some(at) => at,
                            None => {
                                let (&first, rest) = spare.split_first()?;
                                spare = rest;
                                loans.push(Loan {
                                    guest,
                                    host: first,
                                    load: false,
                                    store: false,
                                });
                                loans.len() - 1
                            }
                        };
                        let access = used.op_access(n);
                        let writes = !matches!(access, OpAccess::Read | OpAccess::CondRead);
                        loans[at].store |= writes;
                        // What is written in part, or perhaps, is kept else.
                        loans[at].load |= access != OpAccess::Write || register.size() < 4;
                        loans[at].host
                    }
                };
                if n == 0 {
                    target = Some(place);
                }
                host.set_op_register(n, named(place, register));
            }
            OpKind::Memory => {
                let bytes = u8::try_from(insn.memory_size().size()).ok()?;
                if bytes == 0 || !Translator::has_plain_address(insn) {
                    return None;
                }
                let write = !matches!(used.op_access(n), OpAccess::Read | OpAccess::CondRead);
                access = Some(Access {
                    bytes,
                    write,
                    aligned: false,
                });
            }
            OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => {}
            _ => return None,
        }
    }
    if access.is_some() {
        let register = |host: Host| named(host, Register::RAX);
        host.set_memory_base(mem.base.map_or(Register::None, register));
        let index = mem.index.map(|(index, _)| index);
        host.set_memory_index(index.map_or(Register::None, register));
        host.set_memory_index_scale(mem.index.map_or(1, |(_, scale)| 1 << scale));
        host.set_memory_displacement64(i64::from(mem.disp).cast_unsigned());
        // The encoder takes as many bytes as it needs.
        host.set_memory_displ_size(u32::from(mem.disp != 0));
        host.set_segment_prefix(Register::None);
        // One processor: nothing comes between a load and its store.
        host.set_has_lock_prefix(false);
    }
    let encoded = encoder.encode(&host, 0);
    // A failure leaves bytes, too.
    let bytes = encoder.take_buffer();
    encoded.ok()?;
    Some(Rewritten {
        host,
        bytes,
        loans,
        target,
        access,
    })
}

impl Translator<'_> {
    /// An instruction that the host does as the guest would.
    pub(super) fn general(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if takes_second_byte(insn) {
            return self.second_byte(insn);
        }
        if !does_as_host(insn) || !has_plain_registers(insn) {
            return false;
        }
        if does_nothing(insn) {
            return true;
        }
        if is_lea(insn) {
            return self.lea(insn);
        }
        self.again(decoded, false)
    }

    /// Emits an instruction again. `aligned`: its memory operand must be. False,
    /// and nothing emitted, if it has no form for the host.
    pub(super) fn again(&mut self, decoded: &Decoded, aligned: bool) -> bool {
        self.again_with(decoded, aligned, |translator, _| translator.flags_after())
    }

    /// The same, with what sets the flags after it, while the result is where
    /// the instruction put it: in that register, if its first operand is one.
    pub(super) fn again_with(
        &mut self,
        decoded: &Decoded,
        aligned: bool,
        flags: impl FnOnce(&mut Self, Host),
    ) -> bool {
        let insn = &decoded.insn;
        let has_memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory);
        // What leads to a window stays in the index, if it can.
        let forms = if has_memory {
            [self.form(insn), FORM]
        } else {
            [(FORM.0, &[ADDRESS, INDEX][..]), FORM]
        };
        let common = common_form(insn);
        let mut found = None;
        for (form, spare) in forms {
            found = rewrite(&mut self.encoder, self.info, &common, form, spare).map(|r| (r, form));
            if found.is_some() {
                break;
            }
        }
        let Some((rewritten, form)) = found else {
            return false;
        };
        let slow = rewritten.access.map(|access| {
            let access = Access { aligned, ..access };
            self.operand_at(decoded, access, form)
        });
        self.flags_before();
        rewritten.load(&mut self.asm);
        match self.in_two_steps(&rewritten.host) {
            Some(bytes) => self.asm.raw(&bytes),
            None => self.asm.raw(&rewritten.bytes),
        }
        rewritten.store(&mut self.asm);
        flags(self, rewritten.target.unwrap_or(INDEX));
        if let Some(slow) = slow {
            self.resume(&slow);
        }
        true
    }

    fn lea(&mut self, insn: &Instruction) -> bool {
        if !Self::has_plain_address(insn) {
            return false;
        }
        let to = insn.op_register(0);
        let number = guest_number(to);
        let Home::Host(host) = home(number) else {
            if to.size() == 2 {
                return false;
            }
            self.effective_address(insn, ADDRESS);
            if to.size() == 4 {
                self.asm.mov_32(ADDRESS, ADDRESS);
            }
            self.asm.store(Mem::frame(at::gpr(number)), ADDRESS);
            return true;
        };
        match to.size() {
            8 | 4 => {
                self.effective_address(insn, ADDRESS);
                if to.size() == 8 {
                    self.asm.mov(host, ADDRESS);
                } else {
                    self.asm.mov_32(host, ADDRESS);
                }
                true
            }
            _ => false,
        }
    }

    /// MOVZX of AH to BH: by way of `ch`, since the destination's encoding may
    /// leave no room for a second byte.
    fn second_byte(&mut self, insn: &Instruction) -> bool {
        let from = insn.op_register(1);
        let full = Register::RAX + (from as u32 - Register::AH as u32);
        let host = self.in_host(full, ADDRESS);
        self.asm.mov(ADDRESS, host);
        self.asm.movzx_second_byte_of_cx();
        let number = guest_number(insn.op_register(0));
        match home(number) {
            Home::Host(to) => self.asm.mov_32(to, ADDRESS),
            Home::Frame => self.asm.store(Mem::frame(at::gpr(number)), ADDRESS),
        }
        true
    }
}

/// Whether it is MOVZX of AH to BH to a register of 32 bits or more.
fn takes_second_byte(insn: &Instruction) -> bool {
    use Register as R;
    insn.mnemonic() == Mnemonic::Movzx
        && insn.op_kind(1) == OpKind::Register
        && matches!(insn.op_register(1), R::AH | R::CH | R::DH | R::BH)
        && insn.op_register(0).size() >= 4
}

/// The common form of instructions that take the accumulator only, or that
/// 64-bit code doesn't have.
fn common_form(insn: &Instruction) -> Instruction {
    use iced_x86::Code as C;
    let code = match insn.code() {
        C::Mov_AL_moffs8 => C::Mov_r8_rm8,
        C::Mov_AX_moffs16 => C::Mov_r16_rm16,
        C::Mov_EAX_moffs32 => C::Mov_r32_rm32,
        C::Mov_RAX_moffs64 => C::Mov_r64_rm64,
        C::Mov_moffs8_AL => C::Mov_rm8_r8,
        C::Mov_moffs16_AX => C::Mov_rm16_r16,
        C::Mov_moffs32_EAX => C::Mov_rm32_r32,
        C::Mov_moffs64_RAX => C::Mov_rm64_r64,
        C::Inc_r16 => C::Inc_rm16,
        C::Inc_r32 => C::Inc_rm32,
        C::Dec_r16 => C::Dec_rm16,
        C::Dec_r32 => C::Dec_rm32,
        // The accumulator's short forms, and XCHG's.
        C::Add_AL_imm8 => C::Add_rm8_imm8,
        C::Or_AL_imm8 => C::Or_rm8_imm8,
        C::Adc_AL_imm8 => C::Adc_rm8_imm8,
        C::Sbb_AL_imm8 => C::Sbb_rm8_imm8,
        C::And_AL_imm8 => C::And_rm8_imm8,
        C::Sub_AL_imm8 => C::Sub_rm8_imm8,
        C::Xor_AL_imm8 => C::Xor_rm8_imm8,
        C::Cmp_AL_imm8 => C::Cmp_rm8_imm8,
        C::Test_AL_imm8 => C::Test_rm8_imm8,
        C::Add_AX_imm16 => C::Add_rm16_imm16,
        C::Or_AX_imm16 => C::Or_rm16_imm16,
        C::Adc_AX_imm16 => C::Adc_rm16_imm16,
        C::Sbb_AX_imm16 => C::Sbb_rm16_imm16,
        C::And_AX_imm16 => C::And_rm16_imm16,
        C::Sub_AX_imm16 => C::Sub_rm16_imm16,
        C::Xor_AX_imm16 => C::Xor_rm16_imm16,
        C::Cmp_AX_imm16 => C::Cmp_rm16_imm16,
        C::Test_AX_imm16 => C::Test_rm16_imm16,
        C::Add_EAX_imm32 => C::Add_rm32_imm32,
        C::Or_EAX_imm32 => C::Or_rm32_imm32,
        C::Adc_EAX_imm32 => C::Adc_rm32_imm32,
        C::Sbb_EAX_imm32 => C::Sbb_rm32_imm32,
        C::And_EAX_imm32 => C::And_rm32_imm32,
        C::Sub_EAX_imm32 => C::Sub_rm32_imm32,
        C::Xor_EAX_imm32 => C::Xor_rm32_imm32,
        C::Cmp_EAX_imm32 => C::Cmp_rm32_imm32,
        C::Test_EAX_imm32 => C::Test_rm32_imm32,
        C::Add_RAX_imm32 => C::Add_rm64_imm32,
        C::Or_RAX_imm32 => C::Or_rm64_imm32,
        C::Adc_RAX_imm32 => C::Adc_rm64_imm32,
        C::Sbb_RAX_imm32 => C::Sbb_rm64_imm32,
        C::And_RAX_imm32 => C::And_rm64_imm32,
        C::Sub_RAX_imm32 => C::Sub_rm64_imm32,
        C::Xor_RAX_imm32 => C::Xor_rm64_imm32,
        C::Cmp_RAX_imm32 => C::Cmp_rm64_imm32,
        C::Test_RAX_imm32 => C::Test_rm64_imm32,
        C::Xchg_r16_AX => C::Xchg_rm16_r16,
        C::Xchg_r32_EAX => C::Xchg_rm32_r32,
        C::Xchg_r64_RAX => C::Xchg_rm64_r64,
        other => other,
    };
    let mut common = *insn;
    common.set_code(code);
    common
}
