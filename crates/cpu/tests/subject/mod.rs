//! An engine as a subject of the oracle: a machine with nothing in it but a processor, the
//! oracle's pages at its linear addresses, and a kernel that only halts.
//!
//! Memory: the kernel's tables and stack lie in low RAM and are mapped in the upper half of the
//! linear addresses, out of user code's reach; behind them lie the oracle's regions.

#![allow(
    clippy::cast_possible_truncation,
    reason = "offsets in 4 MiB of RAM, and error codes of 32 bits"
)]

use std::collections::BTreeMap;

use cpu::segment::rights;
use cpu::{Bus, Cpu, Engine, Flags, Refused, Segment, Shadow, Until};
use memory::Ram;
use oracle::case::{Case, Change, End, Fault, Mode, Outcome, STEPS_MAX, Subject};
use oracle::compare::{differences, report};
use oracle::layout::{CODE, PAGE_BYTES, REGIONS, baseline, selector};
use oracle::state::{FxImage, MachineState, gpr};
use oracle::undefined::open;
use x86::control::{cr0, cr4, efer, pte};
use x86::{Physical, seg};

const RAM_BYTES: u64 = 4 << 20;
/// Where the kernel's half of linear addresses begins; offset there = physical address.
const KERNEL: u64 = 0xffff_8000_0000_0000;
const PML4: u64 = 0x1000;
const GDT: u64 = 0x2000;
const IDT: u64 = 0x3000;
const TSS: u64 = 0x4000;
/// Handlers, sixteen bytes each: `hlt`.
const HANDLERS: u64 = 0x5000;
const STACK_TOP: u64 = 0x8000;
/// The first page for lower page tables.
const TABLES: u64 = 0x1_0000;
/// The first page of the oracle's regions.
const PAGES: u64 = 0x10_0000;

const KERNEL_CS: u16 = 0x10;
const KERNEL_SS: u16 = 0x18;
const TASK: u16 = 0x40;

/// How the engine is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Instruction by instruction.
    Steps,
    /// From branch to branch, as it does when nobody looks.
    Free,
}

/// The board: nothing answers.
pub(crate) struct NoBoard;

impl Bus for NoBoard {
    fn read(&mut self, _: &Ram, _: u64, _: Physical, _: u8) -> u64 {
        u64::MAX
    }
    fn write(&mut self, _: &Ram, _: u64, _: Physical, _: u8, _: u64) {}
    fn port_in(&mut self, _: &Ram, _: u64, _: u16, _: u8) -> u32 {
        u32::MAX
    }
    fn port_out(&mut self, _: &Ram, _: u64, _: u16, _: u8, _: u32) {}
    fn msr_read(&mut self, _: u64, _: u32) -> Result<u64, Refused> {
        Err(Refused)
    }
    fn msr_write(&mut self, _: u64, _: u32, _: u64) -> Result<(), Refused> {
        Err(Refused)
    }
    fn tsc(&mut self, now: u64) -> u64 {
        now
    }
    fn task_priority(&self) -> u8 {
        0
    }
    fn set_task_priority(&mut self, _: u8) {}
    fn interrupt_waits(&self) -> bool {
        false
    }
    fn acknowledge(&mut self, _: u64) -> Option<u8> {
        None
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn needs_attention(&self) -> bool {
        false
    }
}

/// An engine, asked to run in one way.
pub(crate) struct Processor<E> {
    name: &'static str,
    way: Way,
    pub(crate) cpu: Cpu,
    pub(crate) engine: E,
    /// What RAM holds from [`PAGES`] on when a case starts.
    before: Vec<u8>,
}

impl<E: Engine> Processor<E> {
    /// `name`: the engine's, in reports.
    pub(crate) fn new(name: &'static str, engine: E, way: Way) -> Self {
        let ram = Ram::new(RAM_BYTES).expect("4 MiB can be had");
        let mut cpu = Cpu::new(ram);
        build_kernel(&cpu.ram);
        let before = build_pages(&cpu.ram);
        cpu.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
        cpu.cr3 = PML4;
        cpu.cr4 =
            cr4::PAE | cr4::PGE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::FSGSBASE | cr4::OSXSAVE;
        cpu.efer = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        cpu.gdtr = Segment::table(KERNEL + GDT, 0x4f);
        cpu.idtr = Segment::table(KERNEL + IDT, 0xfff);
        cpu.tr = Segment {
            selector: TASK,
            base: KERNEL + TSS,
            limit: 0x67,
            rights: rights::P | 0xb,
        };
        cpu.xcr0 = 7;
        cpu.model = cpu::Model::V3;
        Self {
            name,
            way,
            cpu,
            engine,
            before,
        }
    }

    pub(crate) fn load(&mut self, case: &Case) {
        let (cpu, state) = (&mut self.cpu, &case.state);
        for (i, value) in state.gpr.iter().enumerate() {
            cpu.gpr[i] = *value;
        }
        cpu.rip = state.rip;
        cpu.flags = Flags::new(state.rflags);
        cpu.cpl = 3;
        let flat = |selector, kind| Segment {
            selector,
            base: 0,
            limit: u32::MAX,
            rights: kind
                | rights::S
                | rights::DPL
                | rights::P
                | rights::G
                | rights::RW
                | rights::ACCESSED,
        };
        let data = flat(selector::FLAT_DATA, rights::DB);
        let code = match case.mode {
            Mode::Long => flat(selector::CODE_64, rights::CODE | rights::L),
            Mode::Compat => flat(selector::CODE_32, rights::CODE | rights::DB),
        };
        let null = |base| Segment {
            base,
            ..Segment::default()
        };
        for (number, segment) in [
            (seg::ES, data),
            (seg::CS, code),
            (seg::SS, data),
            (seg::DS, data),
            (seg::FS, null(state.fs_base)),
            (seg::GS, null(state.gs_base)),
        ] {
            cpu.segments[usize::from(number)] = segment;
        }
        load_fx(cpu, &state.fx);
        cpu.ymm_high = state.ymm_high;
        cpu.shadow = Shadow::None;
        cpu.halted = false;
        cpu.in_repeat = false;
        cpu.pending_debug = 0;
        cpu.dr[6] = 0xffff_0ff0;
        cpu.cr2 = 0;
        cpu.refresh();
        for (address, bytes) in case.pieces() {
            self.lay(address, bytes);
        }
    }

    /// Writes bytes where they fall on something present, and notes them as being there before.
    fn lay(&mut self, start: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            if let Some(at) = physical(start.wrapping_add(i as u64)) {
                self.before[(at - PAGES) as usize] = *byte;
                self.cpu
                    .ram
                    .write(Physical(at), &[*byte])
                    .expect("the pages lie in RAM");
            }
        }
    }

    fn go(&mut self, case: &Case) -> End {
        // What is behind the code must stop it, or it can't run freely.
        let disturbed = case
            .patches
            .iter()
            .any(|p| p.address.wrapping_add(64).wrapping_sub(CODE) < 0x2100);
        let free = self.way == Way::Free && !disturbed;
        for _ in 0..STEPS_MAX {
            let until = if free {
                Until::Branches(self.cpu.branches + 1)
            } else {
                Until::Step
            };
            if self.engine.run(&mut self.cpu, &mut NoBoard, until) == cpu::Exit::Shutdown {
                return End::Lost("it shut down");
            }
            if self.cpu.cpl == 0 {
                return self.take_fault(case);
            }
            if self.cpu.pending_debug == 0
                && self.cpu.rip.wrapping_sub(case.state.rip) >= case.code.len() as u64
            {
                return End::Left;
            }
        }
        End::Endless
    }

    /// In the kernel's handler: takes the exception and its frame off the stack, and puts the
    /// registers that it saved back, so that the processor is seen as the handler sees it.
    fn take_fault(&mut self, case: &Case) -> End {
        let vector = u8::try_from((self.cpu.rip - KERNEL - HANDLERS) / 16).expect("256 handlers");
        let mut at = Physical(self.cpu.gpr[gpr::RSP] - KERNEL);
        let mut pop = || {
            let value = self.cpu.ram.load::<u64>(at);
            at = at.plus(8);
            value
        };
        let error = if matches!(vector, 8 | 10..=14 | 17 | 21) {
            pop() as u32
        } else {
            0
        };
        let (rip, _cs, rflags, rsp, _ss) = (pop(), pop(), pop(), pop(), pop());
        self.cpu.rip = rip;
        self.cpu.gpr[gpr::RSP] = rsp;
        self.cpu.flags = Flags::new(rflags);
        let address = (vector == 14).then_some(self.cpu.cr2);
        let filler = rip.wrapping_sub(1);
        if vector == 3 && filler.wrapping_sub(case.state.rip) >= case.code.len() as u64 {
            // It ran into the breakpoints around the code.
            self.cpu.rip = filler;
            return End::Left;
        }
        if vector == 14 && error & 0x10 != 0 && rip == case.code_end() && self.way == Way::Free {
            // No filler: the code ends with its region.
            return End::Left;
        }
        End::Fault(Fault {
            vector,
            error,
            address,
        })
    }

    fn state(&self, case: &Case) -> MachineState {
        let cpu = &self.cpu;
        let mut gpr: [u64; 16] = std::array::from_fn(|i| cpu.gpr[i]);
        if case.mode == Mode::Compat {
            gpr.iter_mut().for_each(|value| *value &= 0xffff_ffff);
        }
        MachineState {
            fx: fx(cpu),
            ymm_high: cpu.ymm_high,
            gpr,
            rip: cpu.rip,
            rflags: cpu.flags.value(),
            fs_base: cpu.segments[usize::from(seg::FS)].base,
            gs_base: cpu.segments[usize::from(seg::GS)].base,
        }
    }

    /// Finds what memory the case changed, and puts it back.
    pub(crate) fn changes(&mut self, case: &Case) -> Vec<Change> {
        let mut found = Vec::new();
        let mut first = 0;
        for region in &REGIONS {
            let len = region.len_bytes() as usize;
            let at = Physical(PAGES + first as u64);
            let before = &self.before[first..first + len];
            let mut now = vec![0; len];
            self.cpu
                .ram
                .read(at, &mut now)
                .expect("the pages lie in RAM");
            for (i, (now, was)) in now.chunks_exact(8).zip(before.chunks_exact(8)).enumerate() {
                if now != was {
                    let value = u64::from_le_bytes(now.try_into().expect("chunks of eight"));
                    found.push(Change {
                        address: region.start + 8 * i as u64,
                        value,
                    });
                }
            }
            if now != before {
                self.cpu
                    .ram
                    .write(at, before)
                    .expect("the pages lie in RAM");
            }
            first += len;
        }
        for (start, bytes) in case.pieces() {
            let plain: Vec<u8> = (0..bytes.len() as u64)
                .map(|i| baseline_byte(start.wrapping_add(i)))
                .collect();
            self.lay(start, &plain);
        }
        found
    }
}

/// What came of a number of cases.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Cases that both subjects could judge.
    pub(crate) judged: u64,
    /// Reports of cases in which they differ, by form.
    pub(crate) wrong: BTreeMap<String, Vec<String>>,
}

impl Verdict {
    /// Runs `cases` on `expected` and on `subjects`, and adds what differs.
    pub(crate) fn add(
        &mut self,
        cases: &[Case],
        judge: &mut dyn Subject,
        subjects: &mut [&mut dyn Subject],
    ) {
        let expected = judge.run_all(cases);
        for (case, expected) in cases.iter().zip(&expected) {
            if matches!(expected.end, End::Lost(_)) {
                continue;
            }
            self.judged += 1;
            for subject in subjects.iter_mut() {
                let got = subject.run(case);
                let found = differences(case, expected, &got, &open(case, expected));
                if !found.is_empty() {
                    let form = case.name.split(' ').next().unwrap_or_default().to_owned();
                    let text = format!("{}: {}", subject.name(), report(case, &found));
                    self.wrong.entry(form).or_default().push(text);
                }
            }
        }
    }

    /// What differs, the first report of each form, or nothing.
    pub(crate) fn text(&self) -> Option<String> {
        if self.wrong.is_empty() {
            return None;
        }
        let forms: Vec<String> = self
            .wrong
            .iter()
            .map(|(form, reports)| format!("{form} {}", reports.len()))
            .collect();
        let mut text = format!(
            "of {} cases, {} forms differ from the silicon: {}\nThe first of each:\n",
            self.judged,
            forms.len(),
            forms.join(", ")
        );
        for reports in self.wrong.values() {
            text.push_str(&reports[0]);
            text.push('\n');
        }
        Some(text)
    }
}

impl<E: Engine> Subject for Processor<E> {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, case: &Case) -> Outcome {
        self.load(case);
        let end = self.go(case);
        Outcome {
            end,
            state: self.state(case),
            changes: self.changes(case),
        }
    }
}

fn baseline_byte(address: u64) -> u8 {
    baseline(address & !7).to_le_bytes()[(address & 7) as usize]
}

/// Where a byte of the oracle's regions lies in RAM.
fn physical(linear: u64) -> Option<u64> {
    let mut first = PAGES;
    for region in &REGIONS {
        if linear >= region.start && linear < region.end() {
            return Some(first + linear - region.start);
        }
        first += region.len_bytes();
    }
    None
}

fn store(ram: &Ram, at: u64, value: u64) {
    ram.store(Physical(at), value);
}

fn build_kernel(ram: &Ram) {
    // Linux's selectors: 0x10 and 0x18 the kernel's, 0x23 32-bit code, 0x2b data, 0x33 64-bit code.
    for (index, descriptor) in [
        (2, 0x00af_9b00_0000_ffff),
        (3, 0x00cf_9300_0000_ffff),
        (4, 0x00cf_fb00_0000_ffff),
        (5, 0x00cf_f300_0000_ffff),
        (6, 0x00af_fb00_0000_ffff_u64),
    ] {
        store(ram, GDT + 8 * index, descriptor);
    }
    assert_eq!(KERNEL_SS, 0x18);
    let base = KERNEL + TSS;
    store(
        ram,
        GDT + u64::from(TASK),
        0x67 | (base & 0xff_ffff) << 16 | 0x8b << 40 | (base >> 24 & 0xff) << 56,
    );
    store(ram, GDT + u64::from(TASK) + 8, base >> 32);
    for vector in 0..256 {
        let handler = KERNEL + HANDLERS + 16 * vector;
        // User code may INT 3, 4 and 0x80.
        let dpl = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let low = handler & 0xffff
            | u64::from(KERNEL_CS) << 16
            | (0x8e | dpl << 5) << 40
            | (handler >> 16 & 0xffff) << 48;
        store(ram, IDT + 16 * vector, low);
        store(ram, IDT + 16 * vector + 8, handler >> 32);
        store(ram, HANDLERS + 16 * vector, 0xf4);
    }
    // RSP0, at offset 4; no I/O bitmap.
    ram.write(Physical(TSS + 4), &(KERNEL + STACK_TOP).to_le_bytes())
        .expect("the TSS lies in RAM");
    ram.write(Physical(TSS + 0x66), &0x68_u16.to_le_bytes())
        .expect("the TSS lies in RAM");
}

/// Fills the oracle's pages and maps everything; returns what the pages hold.
fn build_pages(ram: &Ram) -> Vec<u8> {
    let mut tables = TABLES;
    for page in 0..STACK_TOP / PAGE_BYTES {
        let at = page * PAGE_BYTES;
        map(ram, &mut tables, KERNEL + at, at, pte::P | pte::RW);
    }
    let mut held = Vec::new();
    for region in &REGIONS {
        let mut bits = pte::P | pte::US;
        if region.rights.write {
            bits |= pte::RW;
        }
        if !region.rights.execute {
            bits |= pte::NX;
        }
        for address in (region.start..region.end()).step_by(8) {
            let at = PAGES + held.len() as u64;
            if address % PAGE_BYTES == 0 {
                map(ram, &mut tables, address, at, bits);
            }
            store(ram, at, baseline(address));
            held.extend(baseline(address).to_le_bytes());
        }
    }
    held
}

fn map(ram: &Ram, tables: &mut u64, linear: u64, physical: u64, bits: u64) {
    let mut table = PML4;
    for shift in [39, 30, 21] {
        let at = table + 8 * (linear >> shift & 0x1ff);
        let entry = ram.load::<u64>(Physical(at));
        table = entry & 0xf_f000 | entry & 0xff_0000;
        if entry == 0 {
            table = *tables;
            *tables += PAGE_BYTES;
            store(ram, at, table | pte::P | pte::RW | pte::US);
        }
    }
    store(ram, table + 8 * (linear >> 12 & 0x1ff), physical | bits);
}

fn load_fx(cpu: &mut Cpu, image: &FxImage) {
    for i in 0..16 {
        cpu.xmm[i] = image.xmm(i);
    }
    cpu.mxcsr = image.mxcsr();
    cpu.fpu.set_control(image.fcw());
    cpu.fpu.set_status(image.fsw());
    for i in 0..8 {
        cpu.fpu
            .set_st(i, silicon::x87::F80::from_bytes(image.st(usize::from(i))));
    }
    cpu.fpu.used = image.ftw();
}

fn fx(cpu: &Cpu) -> FxImage {
    let mut image = FxImage::initial();
    for i in 0..16 {
        image.set_xmm(i, cpu.xmm[i]);
    }
    image.set_mxcsr(cpu.mxcsr);
    image.set_fcw(cpu.fpu.control().0);
    image.set_fsw(cpu.fpu.status());
    image.set_ftw(cpu.fpu.used);
    for i in 0..8 {
        image.set_st(usize::from(i), cpu.fpu.st(i).to_bytes());
    }
    image
}
