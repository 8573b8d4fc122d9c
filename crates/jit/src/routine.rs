//! The routines that all translated code shares: the way in, the ways out, and
//! the ways to the helper and back.

use crate::asm::{Alu, Asm, Condition, Mem, Section};
use crate::code::{Code, Offset};
use crate::flag::Where;
use crate::frame::at;
use crate::register::{ADDRESS, FLAGS, FRAME, Host, pinned};
use crate::site::INDIRECT;
use crate::slow::After;

/// Host registers that a called function leaves as they were (System V ABI),
/// `rsp` apart.
const CALLEE_SAVED: [Host; 6] = [Host(3), Host(5), Host(12), Host(13), Host(14), Host(15)];
/// First and second argument of a called function.
const ARGUMENT: [Host; 2] = [Host(7), Host(6)];
/// LAHF's place of AF, out of AH.
pub(crate) const WITHOUT_AF: u8 = 0xef;

/// The way in, by its host address: takes the frame and the code to run.
pub(crate) type Enter = unsafe extern "C" fn(*mut crate::frame::Frame, *const u8);

/// Where the routines lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routines {
    /// [`Enter`].
    pub(crate) enter: Offset,
    /// Leaves translated code; by where the guest's flags are.
    leave: [Offset; 3],
    /// Calls the helper and returns; by where the guest's flags are. After it
    /// they are both saved and in the host's.
    slow: [Offset; 3],
    /// Brings the guest's SIMD registers into the host's. Changes nothing else.
    pub(crate) load_simd: Offset,
    /// Leaves at a jump to the address in `rcx`, whose block isn't known. The
    /// guest's flags are saved.
    pub(crate) lost: Offset,
    /// Whether the host has BMI2.
    pub(crate) has_bmi2: bool,
}

/// The place of `flags` in the tables of [`Routines`].
fn row(flags: Where) -> usize {
    match flags {
        Where::Host => 0,
        Where::HostWithoutAf => 1,
        // What can't be seen may be anything.
        Where::Saved | Where::Both | Where::Dead => 2,
    }
}

impl Routines {
    /// The way out.
    pub(crate) fn leave(&self, flags: Where) -> Offset {
        self.leave[row(flags)]
    }

    /// The way to the helper.
    pub(crate) fn slow(&self, flags: Where) -> Offset {
        self.slow[row(flags)]
    }

    /// Writes the routines into code memory, for ever.
    pub(crate) fn write(code: &mut Code, has_bmi2: bool) -> Routines {
        let mut asm = Asm::new(code.next(Section::Hot), code.next(Section::Cold));
        let enter = asm.here();
        write_enter(&mut asm);

        let load_simd = asm.here();
        move_simd(&mut asm, 8, Direction::In);
        asm.ret();
        let save_simd = asm.here();
        move_simd(&mut asm, 8, Direction::Out);
        asm.ret();

        let leave_stored = asm.here();
        write_leave(&mut asm, save_simd);
        let leave_saved = asm.here();
        move_registers(&mut asm, 0, Direction::Out);
        asm.jmp_to(leave_stored);

        let lost = asm.here();
        asm.store(Mem::frame(at::TEMP), ADDRESS);
        asm.store_constant_32(Mem::frame(at::SITE), INDIRECT);
        asm.jmp_to(leave_saved);

        let slow_saved = asm.here();
        write_slow(&mut asm, leave_stored);

        let save_and_go = |asm: &mut Asm, to: [Offset; 2]| {
            let mut ways = [0; 2];
            for (way, target) in ways.iter_mut().zip(to) {
                *way = asm.here();
                asm.lahf();
                asm.seto_al();
                asm.jmp_to(target);
            }
            ways
        };
        let [leave_host, slow_host] = save_and_go(&mut asm, [leave_saved, slow_saved]);
        let strip = |asm: &mut Asm, target: Offset| {
            let way = asm.here();
            asm.lahf();
            asm.seto_al();
            asm.and_ah(WITHOUT_AF);
            asm.jmp_to(target);
            way
        };
        let leave_without_af = strip(&mut asm, leave_saved);
        let slow_without_af = strip(&mut asm, slow_saved);

        code.place(&asm);
        code.keep();
        Routines {
            enter,
            leave: [leave_host, leave_without_af, leave_saved],
            slow: [slow_host, slow_without_af, slow_saved],
            load_simd,
            lost,
            has_bmi2,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the frame into host registers.
    In,
    /// From host registers into the frame.
    Out,
}

/// A word of the frame while `rsp` stands `below` bytes below it.
fn word(disp: i32, below: i32) -> Mem {
    Mem::frame(disp + below)
}

fn move_registers(asm: &mut Asm, below: i32, direction: Direction) {
    let flags = (at::FLAGS, FLAGS);
    let registers = pinned().map(|(guest, host)| (at::gpr(guest), host));
    for (disp, host) in registers.chain([flags]) {
        match direction {
            Direction::In => asm.load(host, word(disp, below)),
            Direction::Out => asm.store(word(disp, below), host),
        }
    }
}

/// Moves XMM registers, the upper halves of the YMM registers if the guest has
/// them, and MXCSR. Uses `rcx`; leaves flags alone.
fn move_simd(asm: &mut Asm, below: i32, direction: Direction) {
    asm.load(ADDRESS, word(at::XMM, below));
    for n in 0..16u8 {
        let place = Mem::base(ADDRESS, 16 * i32::from(n));
        match direction {
            Direction::In => asm.load_xmm(n, place),
            Direction::Out => asm.store_xmm(place, n),
        }
    }
    asm.load(ADDRESS, word(at::YMM_HIGH, below));
    let absent = asm.jrcxz();
    move_ymm_high(asm, direction);
    asm.bind_near(absent);
    asm.load(ADDRESS, word(at::MXCSR, below));
    match direction {
        Direction::In => {
            asm.ldmxcsr(Mem::base(ADDRESS, 0));
            asm.store_constant(word(at::SIMD_ABSENT, below), 0);
        }
        Direction::Out => {
            asm.stmxcsr(Mem::base(ADDRESS, 0));
            asm.ldmxcsr(word(at::HOST_MXCSR, below));
        }
    }
}

/// Moves the upper halves of the YMM registers, from or to where `rcx` points,
/// which it changes.
fn move_ymm_high(asm: &mut Asm, direction: Direction) {
    // The middle of them, so that one byte reaches all.
    asm.lea(ADDRESS, Mem::base(ADDRESS, 128));
    for (n, disp) in (0..16).zip((-128..=i8::MAX).step_by(16)) {
        match direction {
            Direction::In => asm.load_ymm_high(n, disp),
            Direction::Out => asm.store_ymm_high(disp, n),
        }
    }
    if direction == Direction::Out {
        // SSE instructions of ours would be slow beside upper halves in use.
        asm.zero_upper_halves();
    }
}

/// Puts the saved flags into the host's, and leaves them saved.
fn load_flags(asm: &mut Asm, below: i32) {
    asm.add_al(0x7f);
    asm.sahf();
    asm.load(FLAGS, word(at::FLAGS, below));
}

/// Saves the x87 unit, if it is the guest's, and leaves the host's own: empty.
fn save_x87(asm: &mut Asm, below: i32) {
    asm.alu_memory_constant(Alu::Cmp, word(at::X87_ABSENT, below), 0);
    let absent = asm.jcc(Condition::NOT_EQUAL);
    asm.save_x87(word(at::X87, below));
    asm.bind(absent);
}

fn write_enter(asm: &mut Asm) {
    for register in CALLEE_SAVED {
        asm.push(register);
    }
    asm.store(Mem::base(ARGUMENT[0], at::HOST_RSP), FRAME);
    asm.mov(FRAME, ARGUMENT[0]);
    asm.store(Mem::frame(at::TEMP), ARGUMENT[1]);
    move_registers(asm, 0, Direction::In);
    load_flags(asm, 0);
    asm.jmp_memory(Mem::frame(at::TEMP));
}

/// Leaves, with the registers stored already.
fn write_leave(asm: &mut Asm, save_simd: Offset) {
    asm.alu_memory_constant(Alu::Cmp, Mem::frame(at::SIMD_ABSENT), 0);
    let absent = asm.jcc(Condition::NOT_EQUAL);
    asm.call_to(save_simd);
    asm.store_constant(Mem::frame(at::SIMD_ABSENT), 1);
    asm.bind(absent);
    save_x87(asm, 0);
    asm.load(FRAME, Mem::frame(at::HOST_RSP));
    for register in CALLEE_SAVED.into_iter().rev() {
        asm.pop(register);
    }
    asm.ret();
}

/// Takes what the helper has given back.
fn take_state(asm: &mut Asm, below: i32) {
    asm.alu_memory_constant(Alu::Cmp, word(at::SIMD_ABSENT, below), 0);
    let absent = asm.jcc(Condition::NOT_EQUAL);
    move_simd(asm, below, Direction::In);
    asm.bind(absent);
    asm.alu_memory_constant(Alu::Cmp, word(at::X87_ABSENT, below), 0);
    let absent = asm.jcc(Condition::NOT_EQUAL);
    asm.load_x87(word(at::X87, below));
    asm.bind(absent);
    move_registers(asm, below, Direction::In);
    load_flags(asm, below);
}

/// Called by translated code, so that `rsp` stands 8 below the frame.
fn write_slow(asm: &mut Asm, leave_stored: Offset) {
    move_registers(asm, 8, Direction::Out);
    // From here on the stack is aligned as calls want it.
    asm.push(FLAGS);
    asm.alu_memory_constant(Alu::Cmp, word(at::SIMD_ABSENT, 16), 0);
    let absent = asm.jcc(Condition::NOT_EQUAL);
    move_simd(asm, 16, Direction::Out);
    asm.bind(absent);
    save_x87(asm, 16);
    asm.load(ARGUMENT[0], word(at::CONTEXT, 16));
    asm.call_memory(word(at::HELPER, 16));
    let adjust = |asm: &mut Asm, bytes: i32| asm.lea(FRAME, Mem::frame(bytes));
    adjust(asm, 8);
    asm.alu_constant_32(Alu::Cmp, FLAGS, After::Leave as i32);
    let leaving = asm.jcc(Condition::EQUAL);
    let going_on = asm.jcc(Condition::ABOVE);
    take_state(asm, 8);
    asm.ret();
    asm.bind(going_on);
    adjust(asm, 8);
    take_state(asm, 0);
    asm.load(ADDRESS, Mem::frame(at::TEMP));
    asm.jmp_memory(Mem::frame(at::GO_ON));
    asm.bind(leaving);
    // What the helper has stored is what counts: leave without storing again.
    adjust(asm, 8);
    asm.store_constant(Mem::frame(at::SIMD_ABSENT), 1);
    asm.store_constant(Mem::frame(at::X87_ABSENT), 1);
    asm.jmp_to(leave_stored);
}
