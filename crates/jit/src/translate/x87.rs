//! The x87 unit, while it is on and its control word masks every exception: the
//! guest's stack is then in the host's. Not here are the functions whose results
//! differ between makes of processors, the environment's instructions, and MMX.

use cpu::Decoded;
use iced_x86::{Code, Instruction, Mnemonic};

use super::Translator;
use super::memory::Access;
use crate::asm::{Alu, Condition, Mem};
use crate::flag::Where;
use crate::frame::at;
use crate::register::{ACCUMULATOR, ADDRESS, FLAGS, INDEX};
use crate::site::Site;

/// Whether translated code has it, where the unit is on.
pub(super) fn is_known(insn: &Instruction) -> bool {
    kind(insn).is_some()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The host does the same.
    Plain,
    /// The same, and it is of the control group: FIP stays.
    Control,
    LoadControl,
    StatusToAx,
    /// Nothing can wait for it.
    Wait,
}

fn kind(insn: &Instruction) -> Option<Kind> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Fadd
        | M::Faddp
        | M::Fiadd
        | M::Fsub
        | M::Fsubp
        | M::Fisub
        | M::Fsubr
        | M::Fsubrp
        | M::Fisubr
        | M::Fmul
        | M::Fmulp
        | M::Fimul
        | M::Fdiv
        | M::Fdivp
        | M::Fidiv
        | M::Fdivr
        | M::Fdivrp
        | M::Fidivr
        | M::Fabs
        | M::Fchs
        | M::Fsqrt
        | M::Frndint
        | M::Fscale
        | M::Fld
        | M::Fild
        | M::Fld1
        | M::Fldz
        | M::Fldpi
        | M::Fldl2e
        | M::Fldl2t
        | M::Fldlg2
        | M::Fldln2
        | M::Fst
        | M::Fstp
        | M::Fist
        | M::Fistp
        | M::Fisttp
        | M::Fxch
        | M::Fcom
        | M::Fcomp
        | M::Fcompp
        | M::Fucom
        | M::Fucomp
        | M::Fucompp
        | M::Ficom
        | M::Ficomp
        | M::Ftst
        | M::Fxam => Kind::Plain,
        // What C1 is after these differs between makes, where `silicon` says so.
        M::Fcomi
        | M::Fcomip
        | M::Fucomi
        | M::Fucomip
        | M::Fcmovb
        | M::Fcmovnb
        | M::Fcmove
        | M::Fcmovne
        | M::Fcmovbe
        | M::Fcmovnbe
        | M::Fcmovu
        | M::Fcmovnu
            if silicon::x87::comparisons_keep_c1() =>
        {
            Kind::Plain
        }
        M::Fnstcw => Kind::Control,
        M::Fldcw => Kind::LoadControl,
        M::Fnstsw if insn.code() == Code::Fnstsw_AX => Kind::StatusToAx,
        M::Fnstsw => Kind::Control,
        M::Wait => Kind::Wait,
        _ => return None,
    })
}

/// Exception masks of the control word, and its bits that must be 0.
const CONTROL_CHECKED: i32 = 0xe0bf;
/// All masked.
const CONTROL_MASKED: i32 = 0x3f;

impl Translator<'_> {
    /// At the start of a block that has x87 instructions: brings the guest's
    /// unit into the host's.
    pub(super) fn enter_x87(&mut self) {
        self.asm.load(ADDRESS, Mem::frame(at::X87_ABSENT));
        let present = self.asm.jrcxz();
        let site = self.sites.add(Site::LoadX87);
        self.asm.store_constant_32(Mem::frame(at::SITE), site);
        self.asm.call_to(self.routines.slow(self.flags));
        self.asm.bind_near(present);
    }

    /// One of these instructions.
    pub(super) fn x87(&mut self, decoded: &Decoded) -> bool {
        let insn = &decoded.insn;
        if !self.key.mode.x87 {
            return false;
        }
        match kind(insn) {
            None => return false,
            Some(Kind::Wait) => {}
            Some(Kind::Plain) => {
                let windows = self.has_windows;
                // Of these ten bytes Intel's processors store those before a page
                // that faults.
                self.has_windows &= insn.code() != Code::Fstp_m80fp;
                let done = self.again(decoded, false);
                self.has_windows = windows;
                if !done {
                    return false;
                }
                // After it: a fault leaves the pointer of the one before.
                self.set_x87_pointer(decoded);
            }
            Some(Kind::Control) => return self.again(decoded, false),
            Some(Kind::LoadControl) => return self.load_control(decoded),
            Some(Kind::StatusToAx) => self.status_to_ax(),
        }
        true
    }

    /// FIP becomes the instruction's own address.
    fn set_x87_pointer(&mut self, decoded: &Decoded) {
        let start = self.offset + i64::from(decoded.op.end) - i64::from(decoded.op.len);
        let disp = i32::try_from(start).expect("an offset in a page");
        self.asm.load(ADDRESS, Mem::frame(at::CODE_BASE));
        self.asm.lea(ADDRESS, Mem::base(ADDRESS, disp));
        self.asm.store(Mem::frame(at::X87_POINTER), ADDRESS);
    }

    fn load_control(&mut self, decoded: &Decoded) -> bool {
        if !Self::has_plain_address(&decoded.insn) {
            return false;
        }
        self.save_flags();
        self.address(&decoded.insn, ADDRESS);
        let mut jumps = self.look_up(Access {
            bytes: 2,
            write: false,
            aligned: false,
        });
        self.asm.load_16(INDEX, Mem::base(ADDRESS, 0));
        self.asm.alu_constant_32(Alu::And, INDEX, CONTROL_CHECKED);
        self.asm.alu_constant_32(Alu::Cmp, INDEX, CONTROL_MASKED);
        jumps.push(self.asm.jcc(Condition::NOT_EQUAL));
        let slow = self.slow(decoded, crate::site::Operand::Memory, false, jumps);
        self.asm.load_x87_control(Mem::base(ADDRESS, 0));
        self.resume(&slow);
        true
    }

    fn status_to_ax(&mut self) {
        let saved = matches!(self.flags, Where::Saved | Where::Both);
        if saved {
            self.asm.store(Mem::frame(at::TEMP), FLAGS);
        }
        self.asm.x87_status_to_ax();
        self.asm.mov_16(ACCUMULATOR, FLAGS);
        if saved {
            self.asm.load(FLAGS, Mem::frame(at::TEMP));
        }
    }
}
