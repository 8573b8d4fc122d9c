//! A bench for tests: a processor in 64-bit mode over hand-made tables, and a
//! board that only remembers.

use memory::Ram;
use x86::control::{cr0, cr4, efer, pte};
use x86::{Linear, Physical, gpr, seg};

use crate::segment::{Segment, rights};
use crate::{Bus, Cpu, Engine, Exit, Interpreter, Refused, Until};

pub(crate) const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
/// A page table for [`WINDOW`]'s 2 MiB.
pub(crate) const PT: u64 = 0x4000;
pub(crate) const GDT: u64 = 0x6000;
pub(crate) const IDT: u64 = 0x7000;
pub(crate) const TSS: u64 = 0x8000;
/// Code goes here.
pub(crate) const CODE: u64 = 0x1_0000;
/// Handler of vector n: `CODE_HANDLERS + 16 * n`, a HLT.
pub(crate) const HANDLERS: u64 = 0x1_8000;
/// Top of the stack; RSP0 of the TSS is [`STACK_0`], IST1 [`STACK_IST`].
pub(crate) const STACK: u64 = 0x3_0000;
pub(crate) const STACK_0: u64 = 0x4_0000;
pub(crate) const STACK_IST: u64 = 0x5_0000;
/// Linear addresses mapped by 4 KiB pages, one by one: [`Rig::map`].
pub(crate) const WINDOW: u64 = 0x40_0000;

/// Selectors in the rig's GDT.
pub(crate) mod sel {
    pub(crate) const CODE_0: u16 = 0x08;
    pub(crate) const DATA_0: u16 = 0x10;
    pub(crate) const CODE32_3: u16 = 0x1b;
    pub(crate) const DATA_3: u16 = 0x23;
    pub(crate) const CODE_3: u16 = 0x2b;
    pub(crate) const TSS: u16 = 0x30;
    pub(crate) const CODE32_0: u16 = 0x40;
}

/// A board without devices.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) interrupt: Option<u8>,
    pub(crate) nmi: bool,
    pub(crate) priority: u8,
    /// (port or address, size, value) of every write.
    pub(crate) writes: Vec<(u64, u8, u64)>,
}

impl Bus for Board {
    fn read(&mut self, _: &Ram, _: u64, at: Physical, _: u8) -> u64 {
        at.0
    }
    fn write(&mut self, _: &Ram, _: u64, at: Physical, size_bytes: u8, value: u64) {
        self.writes.push((at.0, size_bytes, value));
    }
    fn port_in(&mut self, _: &Ram, _: u64, port: u16, _: u8) -> u32 {
        u32::from(port).wrapping_mul(0x0101_0101)
    }
    fn port_out(&mut self, _: &Ram, _: u64, port: u16, size_bytes: u8, value: u32) {
        self.writes.push((port.into(), size_bytes, value.into()));
    }
    fn msr_read(&mut self, _: u64, number: u32) -> Result<u64, Refused> {
        if number == x86::msr::APIC_BASE {
            Ok(0xfee0_0900)
        } else {
            Err(Refused)
        }
    }
    fn msr_write(&mut self, _: u64, _: u32, _: u64) -> Result<(), Refused> {
        Err(Refused)
    }
    fn tsc(&mut self, now: u64) -> u64 {
        now * 10
    }
    fn task_priority(&self) -> u8 {
        self.priority
    }
    fn set_task_priority(&mut self, priority: u8) {
        self.priority = priority;
    }
    fn interrupt_waits(&self) -> bool {
        self.interrupt.is_some()
    }
    fn acknowledge(&mut self, _: u64) -> Option<u8> {
        self.interrupt.take()
    }
    fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }
    fn needs_attention(&self) -> bool {
        false
    }
}

pub(crate) struct Rig {
    pub(crate) cpu: Cpu,
    pub(crate) board: Board,
    pub(crate) engine: Interpreter,
}

impl Rig {
    /// 64-bit mode, ring 0, the first 4 MiB mapped one to one for everyone,
    /// the 2 MiB after them page by page; an IDT whose handlers halt.
    pub(crate) fn new() -> Rig {
        let mut cpu = Cpu::new(Ram::new(16 << 20).expect("a small mapping"));
        let all = pte::P | pte::RW | pte::US;
        let ram = &cpu.ram;
        ram.store(Physical(PML4), PDPT | all);
        ram.store(Physical(PML4 + 511 * 8), PDPT | all);
        ram.store(Physical(PDPT), PD | all);
        ram.store(Physical(PD), all | pte::PS);
        ram.store(Physical(PD + 8), 0x20_0000 | all | pte::PS);
        ram.store(Physical(PD + 16), PT | all);
        let gdt: [u64; 9] = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0x0000_8900_0000_0067 | TSS << 16,
            0,
            0x00cf_9b00_0000_ffff,
        ];
        for (n, descriptor) in (0u64..).zip(gdt) {
            ram.store(Physical(GDT + 8 * n), descriptor);
        }
        ram.store(Physical(TSS + 4), STACK_0);
        ram.store(Physical(TSS + 36), STACK_IST);
        for vector in 0..256 {
            ram.store(Physical(HANDLERS + 16 * vector), 0xf4u8);
        }
        cpu.gdtr = Segment::table(GDT, 9 * 8 - 1);
        cpu.idtr = Segment::table(IDT, 0xfff);
        cpu.tr = Segment {
            selector: sel::TSS,
            base: TSS,
            limit: 0x67,
            rights: rights::P | 0xb,
        };
        cpu.cr0 |= cr0::PG | cr0::WP;
        cpu.cr4 = cr4::PAE | cr4::PGE | cr4::DE;
        cpu.cr3 = PML4;
        cpu.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
        cpu.gpr[usize::from(gpr::RSP)] = STACK;
        cpu.rip = CODE;
        let mut rig = Rig {
            cpu,
            board: Board::default(),
            engine: Interpreter::new(),
        };
        (0..=255).for_each(|vector| rig.gate(vector, 0xe, 0, 0));
        rig.at_level(0);
        rig
    }

    /// Sets an IDT entry to its default handler.
    pub(crate) fn gate(&mut self, vector: u8, kind: u64, dpl: u64, ist: u64) {
        let handler = HANDLERS + 16 * u64::from(vector);
        let low = handler & 0xffff
            | u64::from(sel::CODE_0) << 16
            | ist << 32
            | kind << 40
            | dpl << 45
            | 1 << 47
            | (handler >> 16 & 0xffff) << 48;
        let at = IDT + 16 * u64::from(vector);
        self.cpu.ram.store(Physical(at), low);
        self.cpu.ram.store(Physical(at + 8), handler >> 32);
    }

    /// Continues in 64-bit code at privilege level `cpl`, 0 or 3.
    pub(crate) fn at_level(&mut self, cpl: u8) {
        let (code, data) = if cpl == 0 {
            (sel::CODE_0, sel::DATA_0)
        } else {
            (sel::CODE_3, sel::DATA_3)
        };
        let dpl = u16::from(cpl) << 5;
        let flat = rights::S | rights::P | rights::G | rights::ACCESSED | rights::RW | dpl;
        let make = |selector, rights| Segment {
            selector,
            base: 0,
            limit: u32::MAX,
            rights,
        };
        for segment in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
            self.cpu.segments[usize::from(segment)] = make(data, flat | rights::DB);
        }
        self.cpu.segments[usize::from(seg::CS)] = make(code, flat | rights::CODE | rights::L);
        self.cpu.cpl = cpl;
        self.cpu.refresh();
    }

    /// Continues in 32-bit protected mode without paging, ring 0, with an IDT
    /// of 32-bit gates.
    pub(crate) fn protected(&mut self) {
        self.cpu.cr0 &= !cr0::PG;
        self.cpu.efer = 0;
        self.cpu.tr.limit = 0x67;
        for vector in 0..256u64 {
            let handler = HANDLERS + 16 * vector;
            let gate = handler & 0xffff
                | u64::from(sel::CODE32_0) << 16
                | 0x8e00 << 32
                | (handler >> 16) << 48;
            self.cpu.ram.store(Physical(IDT + 8 * vector), gate);
        }
        let flat = rights::S | rights::P | rights::G | rights::ACCESSED | rights::RW | rights::DB;
        self.cpu.segments[usize::from(seg::CS)] = Segment {
            selector: sel::CODE32_0,
            base: 0,
            limit: u32::MAX,
            rights: flat | rights::CODE,
        };
        self.cpu.flush_translations();
        self.cpu.refresh();
    }

    /// Maps the window's page `number` to the physical page `to`.
    pub(crate) fn map(&mut self, number: u64, to: u64, bits: u64) {
        self.cpu.ram.store(Physical(PT + 8 * number), to | bits);
    }

    /// The window's page-table entry `number`.
    pub(crate) fn entry(&self, number: u64) -> u64 {
        self.cpu.ram.load(Physical(PT + 8 * number))
    }

    /// Puts code at [`CODE`] and continues there.
    pub(crate) fn code(&mut self, code: &[u8]) {
        self.cpu.ram.write(Physical(CODE), code).expect("it is RAM");
        self.cpu.rip = CODE;
    }

    /// Runs until HLT or shutdown, at most a thousand branches.
    pub(crate) fn run(&mut self) -> Exit {
        self.cpu.halted = false;
        let until = Until::Branches(self.cpu.branches + 1000);
        self.engine.run(&mut self.cpu, &mut self.board, until)
    }

    /// Executes one instruction.
    pub(crate) fn step(&mut self) -> Exit {
        self.engine.run(&mut self.cpu, &mut self.board, Until::Step)
    }

    /// The vector whose handler halted.
    pub(crate) fn vector(&self) -> u8 {
        assert!(self.cpu.halted, "at {:#x}", self.cpu.rip);
        u8::try_from((self.cpu.rip - 1 - HANDLERS) / 16).expect("a handler")
    }

    /// The number `n` places above the stack pointer.
    pub(crate) fn stacked(&self, n: u64) -> u64 {
        let at = self.cpu.gpr[usize::from(gpr::RSP)] + 8 * n;
        self.cpu.ram.load(Physical(at))
    }

    /// Reads as the code in execution would.
    pub(crate) fn read(&mut self, at: u64) -> crate::Flow<u64> {
        self.cpu.read(&mut self.board, Linear(at), false)
    }

    /// Writes as the code in execution would.
    pub(crate) fn write(&mut self, at: u64, value: u64) -> crate::Flow {
        self.cpu.write(&mut self.board, Linear(at), false, value)
    }
}
