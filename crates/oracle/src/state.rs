//! What user code sees of a processor: registers before and after a case.

use crate::layout;

/// Bits of RFLAGS by their names in the manual (SDM vol. 1, 3.4.3).
pub mod flag {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Parity of the low byte.
    pub const PF: u64 = 1 << 2;
    /// Carry out of bit 3.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Trap after every instruction.
    pub const TF: u64 = 1 << 8;
    /// Interrupts enabled; always 1 in user code here.
    pub const IF: u64 = 1 << 9;
    /// String instructions go down.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume: set in the image that a fault pushes.
    pub const RF: u64 = 1 << 16;
    /// Unaligned data accesses fault.
    pub const AC: u64 = 1 << 18;
    /// CPUID exists: no meaning but that it can be changed.
    pub const ID: u64 = 1 << 21;

    /// The six flags that arithmetic sets.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
    /// The flags that a case may choose.
    pub const CHOOSABLE: u64 = ARITHMETIC | TF | DF | AC;
    /// Every flag with its name, for reading and printing.
    pub const NAMES: [(&str, u64); 13] = [
        ("CF", CF),
        ("PF", PF),
        ("AF", AF),
        ("ZF", ZF),
        ("SF", SF),
        ("TF", TF),
        ("IF", IF),
        ("DF", DF),
        ("OF", OF),
        ("NT", NT),
        ("RF", RF),
        ("AC", AC),
        ("ID", ID),
    ];
}

/// The general registers' indices in [`MachineState::gpr`], which are their encodings.
pub mod gpr {
    #![allow(missing_docs, reason = "each is the register of its name")]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;

    /// Names by index.
    pub const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
}

/// MXCSR bits that every x86-64 processor has; others are reserved, and setting one is a #GP.
pub const MXCSR_VALID: u32 = 0xffff;

/// The x87, MMX and SSE registers as `FXSAVE64` lays them out (SDM vol. 1, 10.5.1).
///
/// Bytes 416..512 are no register: they are zero, and are not compared.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct FxImage(pub [u8; 512]);

impl FxImage {
    /// As after `FNINIT` with MXCSR at its reset value and all registers zero.
    pub fn initial() -> Self {
        let mut image = Self([0; 512]);
        image.set_fcw(0x037f);
        image.set_mxcsr(0x1f80);
        image
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The x87 control word.
    pub fn fcw(&self) -> u16 {
        self.u16_at(0)
    }

    /// Sets the x87 control word.
    pub fn set_fcw(&mut self, value: u16) {
        self.put(0, &value.to_le_bytes());
    }

    /// The x87 status word.
    pub fn fsw(&self) -> u16 {
        self.u16_at(2)
    }

    /// Sets the x87 status word. ES and B follow from the flags and masks when it is loaded.
    pub fn set_fsw(&mut self, value: u16) {
        self.put(2, &value.to_le_bytes());
    }

    /// The abridged tag byte: bit i is set when *physical* register i is not empty.
    pub fn ftw(&self) -> u8 {
        self.0[4]
    }

    /// Sets the abridged tag byte.
    pub fn set_ftw(&mut self, value: u8) {
        self.0[4] = value;
    }

    /// The x87 opcode, instruction pointer and data pointer: bytes 6..24.
    pub fn pointers(&self) -> [u8; 18] {
        self.0[6..24].try_into().expect("18 bytes of a fixed image")
    }

    /// MXCSR.
    pub fn mxcsr(&self) -> u32 {
        u32::from_le_bytes(self.0[24..28].try_into().expect("4 bytes of a fixed image"))
    }

    /// Sets MXCSR; only bits of [`MXCSR_VALID`] can be loaded.
    pub fn set_mxcsr(&mut self, value: u32) {
        self.put(24, &value.to_le_bytes());
    }

    /// The ten bytes of ST(i), i below 8.
    pub fn st(&self, i: usize) -> [u8; 10] {
        let at = 32 + 16 * i;
        self.0[at..at + 10]
            .try_into()
            .expect("10 bytes of a fixed image")
    }

    /// Sets ST(i). The tag byte is the caller's to set.
    pub fn set_st(&mut self, i: usize, value: [u8; 10]) {
        self.put(32 + 16 * i, &value);
    }

    /// XMM register i, below 16.
    pub fn xmm(&self, i: usize) -> u128 {
        let at = 160 + 16 * i;
        u128::from_le_bytes(
            self.0[at..at + 16]
                .try_into()
                .expect("16 bytes of a fixed image"),
        )
    }

    /// Sets XMM register i.
    pub fn set_xmm(&mut self, i: usize, value: u128) {
        self.put(160 + 16 * i, &value.to_le_bytes());
    }

    /// Zeroes the bytes that are no register.
    pub fn clear_reserved(&mut self) {
        self.0[28..32].fill(0);
        for i in 0..8 {
            self.0[42 + 16 * i..48 + 16 * i].fill(0);
        }
        self.0[416..].fill(0);
    }
}

impl std::fmt::Debug for FxImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FxImage {{ ")?;
        for piece in crate::compare::fx_fields(self) {
            write!(f, "{}={} ", piece.0, piece.1)?;
        }
        write!(f, "}}")
    }
}

/// Every register that user code can read, before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MachineState {
    /// x87, MMX and SSE.
    pub fx: FxImage,
    /// The upper halves of the YMM registers.
    pub ymm_high: [u128; 16],
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15. In 32-bit code only the low halves of the
    /// first eight mean anything.
    pub gpr: [u64; 16],
    /// Linear address of the next instruction.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// FS.base; canonical.
    pub fs_base: u64,
    /// GS.base; canonical.
    pub gs_base: u64,
}

impl Default for MachineState {
    fn default() -> Self {
        let mut gpr = [0; 16];
        gpr[self::gpr::RSP] = layout::STACK_POINTER;
        Self {
            fx: FxImage::initial(),
            ymm_high: [0; 16],
            gpr,
            rip: layout::CODE_START,
            rflags: flag::IF | 2,
            fs_base: 0,
            gs_base: 0,
        }
    }
}
