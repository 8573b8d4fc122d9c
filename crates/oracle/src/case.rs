//! A case: an instruction and everything it starts from; and what came of it.

use crate::layout;
use crate::state::MachineState;

/// The longest code of a case, in bytes.
pub const CODE_BYTES_MAX: usize = 64;
/// The longest patch, in bytes.
pub const PATCH_BYTES_MAX: usize = 64;
/// The most patches of a case.
pub const PATCHES_MAX: usize = 16;
/// A case that has not ended after so many steps ends with [`End::Endless`].
///
/// A repeated string instruction may count each turn as a step, so counts stay well below.
pub const STEPS_MAX: u32 = 1000;

/// In which mode the code runs; always at CPL 3 with paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 64-bit mode.
    Long,
    /// Compatibility mode with a 32-bit code segment.
    Compat,
}

impl Mode {
    /// The bitness that a decoder wants.
    pub fn bits(self) -> u32 {
        match self {
            Mode::Long => 64,
            Mode::Compat => 32,
        }
    }
}

/// Bytes that replace the baseline at an address before the code runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Linear address of the first byte; bytes that fall on nothing present are dropped.
    pub address: u64,
    /// What lies there; at most [`PATCH_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// An instruction, or a few, and everything they start from.
///
/// The code is laid at `state.rip`, over whatever the baseline and the patches put there. It runs
/// until RIP is outside the code, or a fault, or [`STEPS_MAX`] steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it comes from: a name in a file, or a seed and number.
    pub name: String,
    /// 64-bit or 32-bit code.
    pub mode: Mode,
    /// The code, at most [`CODE_BYTES_MAX`]. What falls past the region's end is dropped, so that
    /// an instruction can be made to run into a page that is not there.
    pub code: Vec<u8>,
    /// Registers before.
    pub state: MachineState,
    /// Memory before, where it differs from the baseline; later ones win.
    pub patches: Vec<Patch>,
}

impl Case {
    /// A case with default registers and memory.
    pub fn new(name: impl Into<String>, mode: Mode, code: &[u8]) -> Self {
        Self {
            name: name.into(),
            mode,
            code: code.to_vec(),
            state: MachineState::default(),
            patches: Vec::new(),
        }
    }

    /// The address after the last byte of code.
    pub fn code_end(&self) -> u64 {
        self.state.rip.wrapping_add(self.code.len() as u64)
    }

    /// The code as text, one instruction after another, in AT&T syntax.
    pub fn disassembly(&self) -> String {
        use iced_x86::Formatter;
        let mut decoder = iced_x86::Decoder::with_ip(
            self.mode.bits(),
            &self.code,
            self.state.rip,
            decoder_options(),
        );
        let mut formatter = iced_x86::GasFormatter::new();
        let mut text = String::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if !text.is_empty() {
                text.push_str("; ");
            }
            formatter.format(&instruction, &mut text);
        }
        text
    }

    /// The forms of the code's instructions.
    pub fn forms(&self) -> impl Iterator<Item = iced_x86::Code> {
        let bits = self.mode.bits();
        let mut decoder =
            iced_x86::Decoder::with_ip(bits, &self.code, self.state.rip, decoder_options());
        std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode().code()))
    }

    /// All patches, and last the code, as pairs of address and bytes.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.patches
            .iter()
            .map(|p| (p.address, p.bytes.as_slice()))
            .chain(std::iter::once((self.state.rip, self.code.as_slice())))
    }

    /// The byte at a present `address` before the code runs.
    pub fn byte_before(&self, address: u64) -> u8 {
        let mut byte = layout::baseline(address & !7).to_le_bytes()[(address & 7) as usize];
        for (start, bytes) in self.pieces() {
            if let Some(b) = usize::try_from(address.wrapping_sub(start))
                .ok()
                .and_then(|i| bytes.get(i))
            {
                byte = *b;
            }
        }
        byte
    }
}

/// How instructions are decoded everywhere here: as this CPU would, no more.
pub fn decoder_options() -> u32 {
    iced_x86::DecoderOptions::NONE
}

/// An exception as its handler sees it (SDM vol. 3, chapter 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// 0 for #DE to 19 for #XM.
    pub vector: u8,
    /// The error code; 0 for exceptions that have none.
    pub error: u32,
    /// CR2, for a #PF.
    pub address: Option<u64>,
}

/// Names of exception vectors, by number.
pub const VECTOR_NAMES: [&str; 20] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS", "#GP",
    "#PF", "", "#MF", "#AC", "#MC", "#XM",
];

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match VECTOR_NAMES.get(usize::from(self.vector)) {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "vector {}", self.vector)?,
        }
        if matches!(self.vector, 10..=14 | 17) {
            write!(f, " error={:#x}", self.error)?;
        }
        match self.address {
            Some(address) => write!(f, " cr2={address:#x}"),
            None => Ok(()),
        }
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// RIP left the code.
    Left,
    /// An exception. Registers are as its handler finds them; RIP is the one pushed.
    Fault(Fault),
    /// [`STEPS_MAX`] steps, and still inside.
    Endless,
    /// A system call: the silicon's cell refuses these. No subject agrees or disagrees with it.
    SystemCall,
    /// The subject was lost while running it (the cell died); carries why.
    Lost(&'static str),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Left => write!(f, "ran to its end"),
            End::Fault(fault) => write!(f, "{fault}"),
            End::Endless => write!(f, "did not end within {STEPS_MAX} steps"),
            End::SystemCall => write!(f, "made a system call"),
            End::Lost(why) => write!(f, "was lost: {why}"),
        }
    }
}

/// Eight bytes of memory that a case changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Change {
    /// Linear address, a multiple of eight.
    pub address: u64,
    /// What lies there afterwards.
    pub value: u64,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Registers after.
    pub state: MachineState,
    /// Memory that differs from before, by rising address.
    pub changes: Vec<Change>,
}

/// Something that runs cases: the silicon, or an engine.
pub trait Subject {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Runs one case.
    fn run(&mut self, case: &Case) -> Outcome;

    /// Runs many, in order. Each starts from its own state only, whatever came before.
    fn run_all(&mut self, cases: &[Case]) -> Vec<Outcome> {
        cases.iter().map(|case| self.run(case)).collect()
    }
}
