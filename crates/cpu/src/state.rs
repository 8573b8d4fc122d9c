//! The processor's state.

use memory::Ram;
use moment::Moment;
use x86::control::{cr0, efer};
use x86::{gpr, seg};

use crate::Model;
use crate::flags::Flags;
use crate::fpu::Fpu;
use crate::segment::{Segment, rights};
use crate::tables::Tables;
use crate::tlb::{Space, Tlb};

/// In [`Cpu::gpr`]: always 0, so that an address without a base or an index
/// is computed like any other.
pub(crate) const GPR_ZERO: u8 = 16;
/// In [`Cpu::gpr`]: the instruction pointer at the start of the block in
/// execution, the base of RIP-relative addresses and of branch targets.
pub const GPR_BLOCK: u8 = 17;
/// A power of two above the last, so that a masked index needs no check.
pub(crate) const GPR_COUNT: usize = 32;

/// What `RIP` points at, by the code segment's L and D bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodeSize {
    /// 16-bit code.
    Bits16 = 16,
    /// 32-bit code.
    Bits32 = 32,
    /// 64-bit mode.
    Bits64 = 64,
}

/// What may have to be seen to before the next instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// Nothing is held off.
    #[default]
    None,
    /// After STI: no interrupt before the end of the next instruction.
    Sti,
    /// After MOV SS or POP SS: no interrupt and no debug trap either.
    MovSs,
}

/// A processor: its architectural state, its memory and what it knows of it.
#[derive(Debug)]
pub struct Cpu {
    /// General-purpose registers 0 to 15, [`GPR_ZERO`] and [`GPR_BLOCK`].
    pub gpr: [u64; GPR_COUNT],
    /// The next instruction's offset in the code segment. While a block is
    /// executing it is stale: see [`Cpu::next_rip`].
    pub rip: u64,
    /// RFLAGS.
    pub flags: Flags,
    /// Transfers of control retired since the start.
    pub branches: u64,
    /// The engine is to look around before the next instruction: an
    /// interrupt, a trap, a shadow, changed code or the board may want
    /// something. Set freely; cleared by the engine alone.
    pub look: bool,
    /// Whose rights memory accesses have now. Follows from CPL, CR4.SMAP, CR0.AM
    /// and EFLAGS.AC: [`Cpu::refresh`].
    pub space: Space,
    /// Follows from CS and EFER.LMA: [`Cpu::refresh`].
    pub code_size: CodeSize,
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
    /// ES, CS, SS, DS, FS, GS, [`seg::FLAT`], and one that nothing names, so
    /// that a masked index needs no check.
    pub segments: [Segment; 8],

    /// Recent translations.
    pub tlb: Tlb,
    /// Where they were read from.
    pub(crate) tables: Tables,
    /// Guest memory.
    pub ram: Ram,

    /// XMM registers: the lower halves of the YMM registers.
    pub xmm: [u128; 16],
    /// The upper halves of the YMM registers, which only VEX-encoded
    /// instructions and the XSAVE family reach.
    pub ymm_high: [u128; 16],
    /// SSE control and status.
    pub mxcsr: u32,
    /// The x87 unit, which the MMX registers alias.
    pub fpu: Fpu,
    /// Extended control register 0.
    pub xcr0: u64,

    /// CR0.
    pub cr0: u64,
    /// CR2: the linear address of the last page fault.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// Extended feature enables.
    pub efer: u64,
    /// Page-directory pointers, loaded with CR3 under PAE paging.
    pub pdpte: [u64; 4],
    /// DR0 to DR3, (4 and 5 unused), DR6, DR7.
    pub dr: [u64; 8],
    /// Global descriptor table register.
    pub gdtr: Segment,
    /// Interrupt descriptor table register.
    pub idtr: Segment,
    /// Local descriptor table register.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,

    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_SYSENTER_CS, _ESP, _EIP.
    pub sysenter: [u64; 3],
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// IA32_TSC_ADJUST, in ticks.
    pub tsc_adjust: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// IA32_MTRR_DEF_TYPE: stored, without effect, as there are no caches.
    pub mtrr_def_type: u64,
    /// IA32_SPEC_CTRL: stored, without effect.
    pub spec_ctrl: u64,

    /// What CPUID says of the time-stamp counter's frequency. From the
    /// machine's configuration; never changes while it runs.
    pub tsc_hz: u64,
    /// Which instructions exist. From the machine's configuration; never
    /// changes while it runs.
    pub model: Model,

    /// What the last instruction holds off.
    pub shadow: Shadow,
    /// After HLT, until an interrupt.
    pub halted: bool,
    /// A repeated string instruction at `rip` has begun and not ended.
    pub in_repeat: bool,
    /// A single-step trap follows the instruction in execution: TF as it was
    /// before, unless the instruction says otherwise (INT n, SYSCALL, SYSRET).
    /// Means nothing between instructions.
    pub(crate) single_step: bool,
    /// Repeated string instructions are to stop after each iteration.
    pub step_repeats: bool,
    /// Non-maskable interrupts are held off until IRET.
    pub nmi_blocked: bool,
    /// Debug conditions met by the instruction in execution, as bits of DR6;
    /// delivered as `#DB` at its end.
    pub pending_debug: u64,
}

impl Cpu {
    /// A processor after RESET as far as it is ours: 64-bit code cannot run
    /// until a loader has set the rest (protected mode, paging off, flat
    /// 32-bit segments, as Multiboot leaves a machine).
    pub fn new(ram: Ram) -> Cpu {
        let flat = |selector, kind| Segment {
            selector,
            base: 0,
            limit: u32::MAX,
            rights: kind | rights::S | rights::P | rights::DB | rights::G | rights::ACCESSED,
        };
        let data = flat(0x10, rights::RW);
        let code = flat(0x08, rights::RW | rights::CODE);
        let none = Segment {
            selector: 0,
            base: 0,
            limit: u32::MAX,
            rights: 0,
        };
        Cpu {
            gpr: [0; GPR_COUNT],
            rip: 0,
            flags: Flags::new(x86::flags::FIXED),
            branches: 0,
            look: true,
            space: Space::Supervisor,
            code_size: CodeSize::Bits32,
            cpl: 0,
            segments: [data, code, data, data, data, data, none, none],
            tlb: Tlb::new(),
            tables: Tables::default(),
            ram,
            xmm: [0; 16],
            ymm_high: [0; 16],
            mxcsr: 0x1f80,
            fpu: Fpu::default(),
            xcr0: 1,
            cr0: cr0::PE | cr0::ET | cr0::NE,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            pdpte: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            gdtr: Segment::table(0, 0xffff),
            idtr: Segment::table(0, 0xffff),
            ldtr: Segment {
                rights: rights::P | 2,
                limit: 0xffff,
                ..Segment::default()
            },
            tr: Segment {
                rights: rights::P | 0xb,
                limit: 0xffff,
                ..Segment::default()
            },
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            sysenter: [0; 3],
            pat: 0x0007_0406_0007_0406,
            tsc_aux: 0,
            tsc_adjust: 0,
            // Fast strings; no branch trace, no precise event sampling.
            misc_enable: 0x1801,
            mtrr_def_type: 0x806,
            spec_ctrl: 0,
            tsc_hz: 1_000_000_000,
            model: Model::V2,
            shadow: Shadow::None,
            halted: false,
            in_repeat: false,
            single_step: false,
            step_repeats: false,
            nmi_blocked: false,
            pending_debug: 0,
        }
    }

    /// Where the run is. Valid between instructions, as engines leave it.
    pub fn moment(&self) -> Moment {
        let rcx = if self.in_repeat {
            self.gpr[usize::from(gpr::RCX)]
        } else {
            0
        };
        Moment {
            branches: self.branches,
            pc: self.rip,
            rcx,
        }
    }

    /// Brings up to date what follows from other registers. Whoever changes
    /// CS, CPL, CR0, CR4, EFER or EFLAGS.AC calls this before the next access.
    pub fn refresh(&mut self) {
        let cs = &self.segments[usize::from(seg::CS)];
        self.code_size = if self.long_mode() && cs.has(rights::L) {
            CodeSize::Bits64
        } else if cs.has(rights::DB) {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        };
        self.refresh_rights();
        self.look = true;
    }

    /// The part of [`Cpu::refresh`] that follows from EFLAGS.AC too, for
    /// whoever changes nothing else.
    pub(crate) fn refresh_rights(&mut self) {
        let aligned = self.cr0 & cr0::AM != 0 && self.flags.has(x86::flags::AC);
        self.space = if self.cpl == 3 && aligned {
            Space::UserAc
        } else if self.cpl == 3 {
            Space::User
        } else if self.cr4 & x86::control::cr4::SMAP != 0 && self.flags.has(x86::flags::AC) {
            Space::SupervisorAc
        } else {
            Space::Supervisor
        };
    }

    /// Whether IA-32e mode is active (64-bit or compatibility).
    #[inline(always)]
    pub fn long_mode(&self) -> bool {
        self.efer & efer::LMA != 0
    }

    /// Whether the code in execution is 64-bit.
    #[inline(always)]
    pub fn is_64(&self) -> bool {
        self.code_size == CodeSize::Bits64
    }

    /// The stack pointer's mask: 64, 32 or 16 bits.
    #[inline(always)]
    pub fn stack_mask(&self) -> u64 {
        if self.is_64() {
            u64::MAX
        } else if self.segments[usize::from(seg::SS)].has(rights::DB) {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// The instruction pointer's mask: 64 bits in 64-bit mode, else 32.
    #[inline(always)]
    pub fn rip_mask(&self) -> u64 {
        if self.is_64() { u64::MAX } else { 0xffff_ffff }
    }
}
