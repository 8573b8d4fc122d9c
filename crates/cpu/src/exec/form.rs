//! Where an instruction's operands are, and the choice of a handler by that
//! and by width.

use iced_x86::{Instruction, OpKind};

/// A kind of operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Register,
    Memory,
    Immediate,
    None,
}

/// Where operand `n` is.
pub(super) fn place(insn: &Instruction, n: u32) -> Place {
    if n >= insn.op_count() {
        return Place::None;
    }
    match insn.op_kind(n) {
        OpKind::Register => Place::Register,
        OpKind::Memory => Place::Memory,
        OpKind::Immediate8
        | OpKind::Immediate8_2nd
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Place::Immediate,
        _ => Place::None,
    }
}

/// Where the first two operands are.
pub(super) fn places(insn: &Instruction) -> (Place, Place) {
    (place(insn, 0), place(insn, 1))
}

/// The instance of a handler for an operand size in bytes; `None` for others.
macro_rules! by_width {
    ($size:expr, $handler:ident $(, $generic:ty)*) => {
        match $size {
            1 => Some($handler::<$($generic,)* u8> as $crate::op::Handler),
            2 => Some($handler::<$($generic,)* u16> as $crate::op::Handler),
            4 => Some($handler::<$($generic,)* u32> as $crate::op::Handler),
            8 => Some($handler::<$($generic,)* u64> as $crate::op::Handler),
            _ => None,
        }
    };
}

/// The instance of a handler for a condition code, 0 to 15.
macro_rules! by_condition {
    ($code:expr, $handler:ident $(, $generic:ty)*) => {{
        const TABLE: [$crate::op::Handler; 16] = [
            $handler::<0 $(, $generic)*>,
            $handler::<1 $(, $generic)*>,
            $handler::<2 $(, $generic)*>,
            $handler::<3 $(, $generic)*>,
            $handler::<4 $(, $generic)*>,
            $handler::<5 $(, $generic)*>,
            $handler::<6 $(, $generic)*>,
            $handler::<7 $(, $generic)*>,
            $handler::<8 $(, $generic)*>,
            $handler::<9 $(, $generic)*>,
            $handler::<10 $(, $generic)*>,
            $handler::<11 $(, $generic)*>,
            $handler::<12 $(, $generic)*>,
            $handler::<13 $(, $generic)*>,
            $handler::<14 $(, $generic)*>,
            $handler::<15 $(, $generic)*>,
        ];
        Some(TABLE[usize::from($code & 15)])
    }};
}

pub(super) use {by_condition, by_width};

/// The condition code of a Jcc, SETcc or CMOVcc: the low four bits of its
/// opcode.
pub(super) fn condition(insn: &Instruction) -> Option<u8> {
    use iced_x86::ConditionCode as C;
    Some(match insn.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
        C::None => return None,
    })
}
