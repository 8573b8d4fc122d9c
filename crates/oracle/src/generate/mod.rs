//! Cases by chance: any number of them from a seed, form by form.

mod encoding;
mod place;
mod values;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use crate::case::{Case, Mode};
use crate::forms::{self, Family, has_v3};
use crate::layout::{CODE, CODE_START, DATA, PAGE_BYTES, STACK_POINTER};
use crate::random::{Random, mix};
use crate::state::{FxImage, MXCSR_VALID, MachineState, flag, gpr};

/// An endless supply of cases that goes round and round the forms of some families.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    mode: Mode,
    forms: Vec<Code>,
    next: u64,
}

impl Generator {
    /// Goes through all forms of `families` in `mode`; `seed` determines every case.
    pub fn new(seed: u64, mode: Mode, families: &[Family]) -> Self {
        let forms = forms::forms(mode)
            .into_iter()
            .filter(|code| families.contains(&Family::of(*code)))
            .collect();
        Self {
            seed,
            mode,
            forms,
            next: 0,
        }
    }

    /// Only the forms whose name contains `part`, whatever the case of its letters.
    pub fn only(mut self, part: &str) -> Self {
        let part = part.to_lowercase();
        self.forms
            .retain(|code| format!("{code:?}").to_lowercase().contains(&part));
        self
    }

    /// How many forms there are to go through.
    pub fn form_count(&self) -> usize {
        self.forms.len()
    }

    /// Case number `number` of this seed, whatever was drawn before; `None` if chance gave no
    /// encoding of its form.
    pub fn case(&self, number: u64) -> Option<Case> {
        let index = usize::try_from(number % self.forms.len() as u64)
            .expect("an index of a slice in memory");
        let code = self.forms[index];
        let bits = self.mode.bits();
        // The form's own number counts, not its place, so that a case stays the same when other
        // forms come or go.
        let round = number / self.forms.len() as u64;
        let mut random = Random::new(mix(self.seed
            ^ mix(u64::from(bits) << 32 | code as u64)
            ^ mix(round)));
        let mut case = build(&mut random, code, self.mode)?;
        case.name = format!("{code:?} seed={} round={round} bits={bits}", self.seed);
        Some(case)
    }
}

impl Iterator for Generator {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        if self.forms.is_empty() {
            return None;
        }
        loop {
            let number = self.next;
            self.next += 1;
            if let Some(case) = self.case(number) {
                return Some(case);
            }
        }
    }
}

fn build(random: &mut Random, code: Code, mode: Mode) -> Option<Case> {
    let rip = code_place(random);
    let encoded = encoding::encode(random, code, mode, rip)?;
    let mut case = Case::new("", mode, &encoded.bytes);
    case.state = registers(random, mode);
    case.state.rip = rip;
    if Family::of(code) != Family::Integer {
        // Makers differ in which alignment an operand of 14, 16 or more bytes is checked for.
        case.state.rflags &= !flag::AC;
    }
    suit(random, &encoded.instruction, &mut case.state);
    place::operands(random, &encoded, &mut case);
    // The displacement may be another one now.
    let options = crate::case::decoder_options();
    let placed = iced_x86::Decoder::with_ip(mode.bits(), &case.code, rip, options).decode();
    if place::makers_differ(&placed, &case) {
        return None;
    }
    if mode == Mode::Compat {
        case.state
            .gpr
            .iter_mut()
            .take(8)
            .for_each(|value| *value &= 0xffff_ffff);
        case.state.gpr[8..].fill(0);
    }
    Some(case)
}

/// Mostly the middle of a page; now and then across two, or to the end of the last.
fn code_place(random: &mut Random) -> u64 {
    match random.below(64) {
        0 => CODE + PAGE_BYTES - random.below(16),
        1 => CODE + 2 * PAGE_BYTES - 1 - random.below(16),
        _ => CODE_START + random.below(256),
    }
}

fn registers(random: &mut Random, mode: Mode) -> MachineState {
    let mut state = MachineState::default();
    for value in &mut state.gpr {
        *value = values::integer(random);
    }
    state.gpr[gpr::RSP] = if random.one_in(24) {
        place::address(random, mode, 8)
    } else {
        STACK_POINTER + random.below(32) * 8 + if random.one_in(4) { random.below(8) } else { 0 }
    };
    for register in [gpr::RSI, gpr::RDI, gpr::RBX, gpr::RBP] {
        if !random.one_in(3) {
            state.gpr[register] = place::address(random, mode, 8);
        }
    }
    state.rflags |= random.draw() & flag::ARITHMETIC;
    if random.one_in(3) {
        state.rflags |= flag::DF;
    }
    if random.one_in(64) {
        state.rflags |= random.pick(&[flag::TF, flag::AC]);
    }
    if mode == Mode::Long {
        let base = |random: &mut Random| match random.below(3) {
            0 => 0,
            1 => DATA + random.below(4096),
            // Canonical, either half.
            _ => ((random.draw() << 16).cast_signed() >> 16).cast_unsigned(),
        };
        state.fs_base = base(random);
        state.gs_base = base(random);
    }
    state.fx = fx(random, mode);
    if has_v3() {
        for i in 0..if mode == Mode::Long { 16 } else { 8 } {
            state.ymm_high[i] = values::vector(random);
        }
    }
    state
}

fn fx(random: &mut Random, mode: Mode) -> FxImage {
    let mut image = FxImage::initial();
    for i in 0..if mode == Mode::Long { 16 } else { 8 } {
        image.set_xmm(i, values::vector(random));
    }
    let chance = random.draw() as u32;
    image.set_mxcsr(match random.below(4) {
        0 => 0x1f80,
        // Everything masked: rounding, flags, FTZ and DAZ by chance.
        1 | 2 => {
            chance & 0x6000
                | 0x1f80
                | if random.one_in(3) { chance & 0x8040 } else { 0 }
                | if random.one_in(2) { chance & 0x3f } else { 0 }
        }
        _ => chance & MXCSR_VALID & if random.one_in(2) { !0x3f } else { !0 },
    });
    let chance = random.draw();
    let fcw = match random.below(4) {
        0 => 0x037f,
        1 | 2 => 0x007f | chance as u16 & 0x0f00,
        _ => 0x0040 | chance as u16 & 0x0f3f,
    };
    let mut fsw = (chance >> 16) as u16 & 0x7f00;
    if random.one_in(4) {
        fsw |= (chance >> 32) as u16 & 0x7f;
        if !random.one_in(4) {
            // No exception is pending.
            fsw &= fcw | !0x3f;
        }
    }
    if fsw & !fcw & 0x3f != 0 {
        fsw |= 0x8080;
    }
    image.set_fcw(fcw);
    image.set_fsw(fsw);
    image.set_ftw(random.pick(&[0xff, 0xff, 0xff, 0, (chance >> 48) as u8]));
    for i in 0..8 {
        image.set_st(i, values::extended(random));
    }
    image
}

/// Makes registers fit the instruction, so that most cases get past its first check.
fn suit(random: &mut Random, instruction: &Instruction, state: &mut MachineState) {
    use Mnemonic as M;
    let small = random.below(24);
    match instruction.mnemonic() {
        M::Div | M::Idiv if !random.one_in(4) => {
            // A high half below the divisor, mostly.
            let high = random.pick(&[0, 0, 1, u64::MAX, small]);
            state.gpr[gpr::RDX] = high;
            state.gpr[gpr::RAX] = state.gpr[gpr::RAX] & !0xff00 | (high & 0xff) << 8;
        }
        M::Loop | M::Loope | M::Loopne | M::Jrcxz | M::Jecxz | M::Jcxz => {
            state.gpr[gpr::RCX] = random.pick(&[0, 1, 2, 1 << 32, 1 << 16, small]);
        }
        M::Shl
        | M::Sal
        | M::Shr
        | M::Sar
        | M::Rol
        | M::Ror
        | M::Rcl
        | M::Rcr
        | M::Shld
        | M::Shrd => {
            state.gpr[gpr::RCX] = state.gpr[gpr::RCX] & !0xff
                | random.pick(&[0, 1, small, 31, 32, 33, 63, 64, 8, 16]);
        }
        M::Bt | M::Bts | M::Btr | M::Btc if instruction.op0_kind() == OpKind::Memory => {
            let register = instruction.op1_register();
            if instruction.op1_kind() == OpKind::Register && register != Register::None {
                let offset = random.below(4096).wrapping_sub(2048);
                state.gpr[register.full_register().number()] = offset;
            }
        }
        M::Pcmpestri | M::Pcmpestrm | M::Pcmpestri64 | M::Pcmpestrm64 => {
            let length = |random: &mut Random| random.below(40).wrapping_sub(20);
            state.gpr[gpr::RAX] = length(random);
            state.gpr[gpr::RDX] = length(random);
        }
        M::Cmpxchg16b | M::Cmpxchg8b | M::Cmpxchg if random.one_in(2) => state.gpr[gpr::RAX] = 0,
        _ => {}
    }
    if instruction.is_string_instruction() {
        state.gpr[gpr::RCX] = match random.below(8) {
            0 => 0,
            1 => 1,
            // The counter's upper part does not count with a 67 prefix.
            2 => small | random.draw() << 32,
            _ => small,
        };
    }
}
