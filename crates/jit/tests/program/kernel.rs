//! The kernel under random programs: tables, and handlers that bring a program
//! which has faulted back to code.
//!
//! ```text
//! 0x1000  page tables A: PML4, PDPT, PD, PT      0xc000  tables B: PDPT, PD, PT
//! 0x5000  PML4 of tables B                       0x6000  GDT, IDT, TSS
//! 0x9000  handlers                               0xa000  the handlers' words
//! 0xb000  entries of the program                 0x10000 code  0x20000 data
//! 0x30000 stacks
//! ```
//!
//! Each page is mapped where it lies, all RAM again at [`HIGH`], and by a large
//! page at [`LARGE`]. Tables B exchange some pages of code and of data; both
//! map the upper half alike.

use cpu::segment::rights;
use cpu::{Cpu, Segment};
use memory::Ram;
use x86::control::{cr0, cr4, efer, pte};
use x86::{PAGE_BYTES, Physical, gpr, seg};

/// Length in bytes of RAM.
pub(crate) const RAM_BYTES: u64 = 1 << 20;
/// All RAM again, in the upper half.
pub(crate) const HIGH: u64 = 0xffff_ff80_0000_0000;
/// All RAM again, in a large page that goes on beyond it.
pub(crate) const LARGE: u64 = 0x20_0000;
/// CR3 of tables A.
pub(crate) const PML4_A: u64 = 0x1000;
/// CR3 of tables B.
pub(crate) const PML4_B: u64 = 0x5000;
/// The page tables of A and B.
pub(crate) const PAGE_TABLES: [u64; 2] = [0x4000, 0xe000];
/// Linear addresses of the entries of a program, 64 of 8 bytes.
pub(crate) const ENTRIES: u64 = 0xb000;
/// How many entries there are.
pub(crate) const ENTRY_COUNT: u64 = 64;
/// First byte of [`CODE_PAGES`] pages of code.
pub(crate) const CODE: u64 = 0x1_0000;
/// How many pages of code there are, and as many of data.
pub(crate) const CODE_PAGES: u64 = 8;
/// First byte of the pages of data.
pub(crate) const DATA: u64 = 0x2_0000;
/// Top of the stack at privilege level 0.
pub(crate) const STACK_0: u64 = 0x3_4000;
/// Top of the stack at privilege level 3.
pub(crate) const STACK_3: u64 = 0x3_6000;

/// Selectors.
pub(crate) mod sel {
    pub(crate) const CODE_0: u16 = 0x08;
    pub(crate) const DATA_0: u16 = 0x10;
    pub(crate) const CODE32_3: u16 = 0x1b;
    pub(crate) const DATA_3: u16 = 0x23;
    pub(crate) const CODE_3: u16 = 0x2b;
    pub(crate) const TSS: u16 = 0x30;
    pub(crate) const CODE32_0: u16 = 0x40;
}

const GDT: u64 = 0x6000;
const IDT: u64 = 0x7000;
const TSS: u64 = 0x8000;
const HANDLERS: u64 = 0x9000;
const COMMON: u64 = HANDLERS + 0x400;
const INTERRUPTED: u64 = HANDLERS + 0x300;
/// The stack of exceptions' handlers, of interrupts at level 3, of NMIs.
const STACKS: [u64; 3] = [0x3_1000, 0x3_5000, 0x3_2000];

/// What all exceptions come to, with vector, error code, RIP, CS, RFLAGS, RSP
/// and SS on the stack. A word at 0xa000 makes the chances. Now and then the
/// page of a page fault is mapped, and the instruction tried again; else it
/// goes on at one of the program's entries, now and then at another privilege
/// level; and mostly without TF.
#[rustfmt::skip]
const HANDLER: &[u8] = &[
    0x50, // push %rax
    0x51, // push %rcx
    0x52, // push %rdx
    0x48, 0x8b, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, // mov 0xa000,%rax
    0x48, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, // imul $0x19660d,%rax,%rax
    0x48, 0x05, 0x5f, 0xf3, 0x6e, 0x3c, // add $0x3c6ef35f,%rax
    0x48, 0x89, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, // mov %rax,0xa000
    0x48, 0xff, 0x04, 0x25, 0x08, 0xa0, 0x00, 0x00, // incq 0xa008
    0x48, 0xc1, 0xe8, 0x10, // shr $0x10,%rax
    0xa8, 0x03, // test $0x3,%al
    0x74, 0x07, // je 1f
    0x48, 0x0f, 0xba, 0x74, 0x24, 0x38, 0x08, // btrq $0x8,0x38(%rsp)
    0x83, 0x7c, 0x24, 0x18, 0x0e, // cmpl $0xe,0x18(%rsp)
    0x75, 0x38, // jne redirect
    0xa8, 0x04, // test $0x4,%al
    0x74, 0x34, // je redirect
    0x0f, 0x20, 0xd1, // mov %cr2,%rcx
    0x48, 0x81, 0xf9, 0x00, 0x00, 0x04, 0x00, // cmp $0x40000,%rcx
    0x73, 0x28, // jae redirect
    0x48, 0x81, 0xf9, 0x00, 0x00, 0x01, 0x00, // cmp $0x10000,%rcx
    0x72, 0x1f, // jb redirect
    0x48, 0xc1, 0xe9, 0x0c, // shr $0xc,%rcx
    0x48, 0x89, 0xca, // mov %rcx,%rdx
    0x48, 0xc1, 0xe2, 0x0c, // shl $0xc,%rdx
    0x48, 0x83, 0xca, 0x07, // or $0x7,%rdx
    0x48, 0x89, 0x14, 0xcd, 0x00, 0x40, 0x00, 0x00, // mov %rdx,0x4000(,%rcx,8)
    0x0f, 0x20, 0xd1, // mov %cr2,%rcx
    0x0f, 0x01, 0x39, // invlpg (%rcx)
    0xeb, 0x55, // jmp out
    0x89, 0xc1, // mov %eax,%ecx
    0xc1, 0xe9, 0x08, // shr $0x8,%ecx
    0x83, 0xe1, 0x3f, // and $0x3f,%ecx
    0x48, 0x8b, 0x0c, 0xcd, 0x00, 0xb0, 0x00, 0x00, // mov 0xb000(,%rcx,8),%rcx
    0x48, 0x89, 0x4c, 0x24, 0x28, // mov %rcx,0x28(%rsp)
    0x24, 0x70, // and $0x70,%al
    0x3c, 0x10, // cmp $0x10,%al
    0x75, 0x1b, // jne 2f
    0x48, 0xc7, 0x44, 0x24, 0x30, 0x08, 0x00, 0x00, 0x00, // movq $0x8,0x30(%rsp)
    0x48, 0xc7, 0x44, 0x24, 0x40, 0x00, 0x40, 0x03, 0x00, // movq $0x34000,0x40(%rsp)
    0x48, 0xc7, 0x44, 0x24, 0x48, 0x10, 0x00, 0x00, 0x00, // movq $0x10,0x48(%rsp)
    0x3c, 0x20, // cmp $0x20,%al
    0x75, 0x1b, // jne out
    0x48, 0xc7, 0x44, 0x24, 0x30, 0x2b, 0x00, 0x00, 0x00, // movq $0x2b,0x30(%rsp)
    0x48, 0xc7, 0x44, 0x24, 0x40, 0x00, 0x60, 0x03, 0x00, // movq $0x36000,0x40(%rsp)
    0x48, 0xc7, 0x44, 0x24, 0x48, 0x23, 0x00, 0x00, 0x00, // movq $0x23,0x48(%rsp)
    0x5a, // pop %rdx
    0x59, // pop %rcx
    0x58, // pop %rax
    0x48, 0x83, 0xc4, 0x10, // add $0x10,%rsp
    0x48, 0xcf, // iretq
];

/// Whether the processor pushes an error code.
fn has_error_code(vector: u64) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

/// A processor about to run the program whose pages of code and entries lie in
/// RAM already.
pub(crate) fn boot(ram: Ram) -> Cpu {
    tables(&ram);
    descriptors(&ram);
    handlers(&ram);
    let mut cpu = Cpu::new(ram);
    cpu.gdtr = Segment::table(GDT, 9 * 8 - 1);
    cpu.idtr = Segment::table(IDT, 0xfff);
    cpu.tr = Segment {
        selector: sel::TSS,
        base: TSS,
        limit: 0x67,
        rights: rights::P | 0xb,
    };
    cpu.cr0 |= cr0::PG | cr0::WP | cr0::MP;
    cpu.cr3 = PML4_A;
    cpu.cr4 = cr4::PAE
        | cr4::PGE
        | cr4::DE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT
        | cr4::FSGSBASE
        | cr4::OSXSAVE;
    cpu.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
    cpu.xcr0 = 7;
    cpu.star = u64::from(sel::CODE32_3) << 48 | u64::from(sel::CODE_0) << 32;
    cpu.fmask = 0x100;
    cpu.gpr[usize::from(gpr::RSP)] = STACK_0;
    let flat = rights::S | rights::P | rights::G | rights::ACCESSED | rights::RW;
    let make = |selector, rights| Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights,
    };
    for segment in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        cpu.segments[usize::from(segment)] = make(sel::DATA_0, flat | rights::DB);
    }
    cpu.segments[usize::from(seg::CS)] = make(sel::CODE_0, flat | rights::CODE | rights::L);
    cpu.refresh();
    cpu
}

/// Which page table B maps at `page`: neighbours are exchanged.
fn exchanged(page: u64) -> u64 {
    let first = CODE / PAGE_BYTES;
    match page - first.min(page) {
        2..4 | 16..20 => page ^ 1,
        _ => page,
    }
}

/// The rights of a page by its number.
fn rights_of(page: u64) -> u64 {
    let open = pte::P | pte::RW | pte::US;
    match page {
        0xb => pte::P | pte::US,
        0x10..0x30 | 0x35 => open,
        _ => pte::P | pte::RW,
    }
}

fn tables(ram: &Ram) {
    let all = pte::P | pte::RW | pte::US;
    let store = |at, value: u64| ram.store(Physical(at), value);
    let table = |top: u64, [pdpt, pd, pt]: [u64; 3], place: fn(u64) -> u64| {
        store(top, pdpt | all);
        store(top + 511 * 8, 0x2000 | all);
        store(pdpt, pd | all);
        store(pd, pt | all);
        store(pd + 8, all | pte::PS);
        for page in 0..RAM_BYTES / PAGE_BYTES {
            let global = if page % 2 == 0 { pte::G } else { 0 };
            let entry = (place(page) * PAGE_BYTES) | rights_of(page) | global;
            store(pt + 8 * page, entry);
        }
    };
    table(PML4_A, [0x2000, 0x3000, PAGE_TABLES[0]], |page| page);
    table(PML4_B, [0xc000, 0xd000, PAGE_TABLES[1]], exchanged);
}

fn descriptors(ram: &Ram) {
    let gdt: [u64; 9] = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0x0000_8b00_0000_0067 | TSS << 16,
        0,
        0x00cf_9b00_0000_ffff,
    ];
    for (n, descriptor) in (0u64..).zip(gdt) {
        ram.store(Physical(GDT + 8 * n), descriptor);
    }
    let [exceptions, level_0, nmi] = STACKS;
    ram.store(Physical(TSS + 4), level_0);
    ram.store(Physical(TSS + 36), exceptions);
    ram.store(Physical(TSS + 44), nmi);
    for vector in 0..0x90 {
        let (handler, ist) = match vector {
            2 => (INTERRUPTED, 2),
            0..32 => (HANDLERS + 16 * vector, 1),
            0x81.. => (HANDLERS + 16 * 20, 0),
            _ => (INTERRUPTED, 0),
        };
        let dpl = if matches!(vector, 3 | 4 | 0x80..) {
            3
        } else {
            0
        };
        let low = handler & 0xffff
            | u64::from(sel::CODE_0) << 16
            | ist << 32
            | (0x8e | dpl << 5) << 40
            | (handler >> 16 & 0xffff) << 48;
        ram.store(Physical(IDT + 16 * vector), low);
        ram.store(Physical(IDT + 16 * vector + 8), handler >> 32);
    }
}

fn handlers(ram: &Ram) {
    let write = |at, bytes: &[u8]| ram.write(Physical(at), bytes).expect("it is RAM");
    for vector in 0..32 {
        let at = HANDLERS + 16 * vector;
        let mut code = Vec::new();
        if !has_error_code(vector) {
            code.extend([0x6a, 0]); // push $0
        }
        code.extend([0x6a, u8::try_from(vector).expect("below 32")]); // push $vector
        let distance = COMMON - (at + code.len() as u64 + 5);
        code.push(0xe9); // jmp common
        code.extend(u32::try_from(distance).expect("a page").to_le_bytes());
        write(at, &code);
    }
    write(COMMON, HANDLER);
    // incq 0xa010; iretq
    write(
        INTERRUPTED,
        &[0x48, 0xff, 0x04, 0x25, 0x10, 0xa0, 0, 0, 0x48, 0xcf],
    );
}
