//! Random programs: pieces of code all over some pages, that jump to one
//! another, patch one another, change the page tables under themselves, and
//! change their privilege level and mode.

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use oracle::case::Mode;
use oracle::forms::Family;
use oracle::generate::Generator;
use oracle::random::Random;
use x86::PAGE_BYTES;
use x86::control::{cr0, cr4, pte};

use super::kernel::{
    CODE, CODE_PAGES, DATA, ENTRIES, ENTRY_COUNT, HIGH, LARGE, PAGE_TABLES, PML4_A, PML4_B,
    STACK_0, STACK_3, sel,
};

/// Pieces in a page: the last may run on into the next.
const PIECES_EACH: u64 = 5;
const PIECES: u64 = PIECES_EACH * CODE_PAGES;
/// Where a page's first piece starts at the earliest, and their distance.
const FIRST: u64 = 640;
const DISTANCE: u64 = 700;
/// Bytes in a piece at most.
const PIECE_BYTES_MAX: usize = 600;

/// Instructions of every form, with the memory operand, if any, at one of a few
/// registers.
pub(crate) struct Pool {
    long: Vec<Instruction>,
    compat: Vec<Instruction>,
}

impl Pool {
    pub(crate) fn new(seed: u64) -> Pool {
        Pool {
            long: instructions(seed, Mode::Long),
            compat: instructions(seed, Mode::Compat),
        }
    }
}

fn instructions(seed: u64, mode: Mode) -> Vec<Instruction> {
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    // General ones are as frequent as all others.
    for (families, rounds) in [
        (&[Family::Integer][..], 6),
        (&[Family::Sse], 2),
        (&[Family::X87, Family::Mmx, Family::Avx], 1),
    ] {
        let generator = Generator::new(seed, mode, families);
        let count = generator.form_count() * rounds;
        let decoded = generator.take(count).map(|case| {
            let options = DecoderOptions::NONE;
            Decoder::with_ip(mode.bits(), &case.code, 0, options).decode()
        });
        all.extend(decoded.filter_map(|insn| tame(&mut random, insn, mode)));
    }
    all
}

/// The instruction with a memory operand that may exist; `None` for those that
/// the pieces have their own way of.
fn tame(random: &mut Random, mut insn: Instruction, mode: Mode) -> Option<Instruction> {
    use Register as R;
    let goes_on = matches!(insn.flow_control(), FlowControl::Next);
    let is_string = insn.is_string_instruction();
    if !goes_on || insn.is_privileged() || is_string || insn.mnemonic() == Mnemonic::Hlt {
        return None;
    }
    let writes_segment = (0..insn.op_count())
        .any(|n| insn.op_kind(n) == OpKind::Register && insn.op_register(n).is_segment_register());
    if writes_segment && !random.one_in(20) {
        return None;
    }
    if (0..insn.op_count()).any(|n| insn.op_kind(n) == OpKind::Memory) && !insn.is_vsib() {
        let bases: &[R] = match mode {
            Mode::Long => &[R::RBX, R::RSI, R::RDI, R::R10, R::R14, R::RSP, R::RBP],
            Mode::Compat => &[R::EBX, R::ESI, R::EDI, R::ESP],
        };
        insn.set_memory_base(random.pick(bases));
        insn.set_memory_index(R::None);
        insn.set_memory_index_scale(1);
        insn.set_memory_displ_size(1);
        insn.set_memory_displacement64(8 * random.below(9));
        if !random.one_in(8) {
            insn.set_segment_prefix(R::None);
        }
        if !random.one_in(8) && insn.memory_size().size() < 16 {
            // Aligned mostly.
            insn.set_memory_displacement64(random.below(64));
        }
    }
    Encoder::new(mode.bits()).encode(&insn, 0).ok()?;
    Some(insn)
}

/// A program in memory.
pub(crate) struct Program {
    /// All pages of code.
    pub(crate) code: Vec<u8>,
    /// The entries.
    pub(crate) entries: Vec<u64>,
}

impl Program {
    /// The program of `random`.
    pub(crate) fn new(random: &mut Random, pool: &Pool) -> Program {
        let starts: Vec<u64> = (0..PIECES)
            .map(|n| {
                let (page, place) = (n / PIECES_EACH, n % PIECES_EACH);
                let spread = if place == PIECES_EACH - 1 { 650 } else { 64 };
                let offset = FIRST + DISTANCE * place + random.below(spread);
                CODE + page * PAGE_BYTES + offset.min(PAGE_BYTES - 3)
            })
            .collect();
        let mut code = vec![0xcc; (CODE_PAGES * PAGE_BYTES) as usize];
        for &start in &starts {
            let mut piece = Piece {
                random,
                pool,
                starts: &starts,
                start,
                bytes: Vec::new(),
            };
            piece.write();
            let at = (start - CODE) as usize;
            let end = code.len().min(at + piece.bytes.len());
            code[at..end].copy_from_slice(&piece.bytes[..end - at]);
        }
        let entries = (0..ENTRY_COUNT).map(|_| anywhere(random, &starts));
        let entries = entries.collect();
        Program { code, entries }
    }
}

/// The linear address of a piece, by any of its mappings.
fn anywhere(random: &mut Random, starts: &[u64]) -> u64 {
    let alias = match random.below(8) {
        0 | 1 => HIGH,
        2 => LARGE,
        _ => 0,
    };
    alias.wrapping_add(random.pick(starts))
}

struct Piece<'a> {
    random: &'a mut Random,
    pool: &'a Pool,
    starts: &'a [u64],
    start: u64,
    bytes: Vec<u8>,
}

impl Piece<'_> {
    fn write(&mut self) {
        // Others patch this: add $imm32, %eax.
        self.put(&[0x05]);
        let addend = self.random.draw();
        self.put_32(addend);
        if !self.random.one_in(4) {
            self.pointers();
        }
        for _ in 0..2 + self.random.below(9) {
            if self.bytes.len() > PIECE_BYTES_MAX - 120 {
                break;
            }
            match self.random.below(16) {
                0..11 => self.any(),
                11 => self.string(),
                12 => self.patch(),
                13 => self.back(),
                _ => self.system(),
            }
        }
        self.end();
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The low 32 bits of `value`.
    fn put_32(&mut self, value: u64) {
        self.bytes.extend(&value.to_le_bytes()[..4]);
    }

    /// The linear address of what comes next.
    fn here(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// mov $value, %register
    fn set(&mut self, register: u8, value: u64) {
        if value >> 32 == 0 {
            if register >= 8 {
                self.put(&[0x41]);
            }
            self.put(&[0xb8 | register & 7]);
            self.put_32(value);
        } else {
            self.put(&[0x48 | register >> 3, 0xb8 | register & 7]);
            self.put(&value.to_le_bytes());
        }
    }

    /// Points some registers at memory.
    fn pointers(&mut self) {
        for register in [3, 6, 7, 10, 14] {
            if self.random.one_in(3) {
                continue;
            }
            let at = self.pointer();
            self.set(register, at);
        }
        if self.random.one_in(3) {
            let (zero, three) = (STACK_0 - 0x100, STACK_3 - 0x100);
            let at = self.random.pick(&[zero, three, three + LARGE]);
            self.set(4, at);
        }
    }

    fn pointer(&mut self) -> u64 {
        let offset = match self.random.below(4) {
            0 => PAGE_BYTES - self.random.below(40),
            1 => 16 * self.random.below(200),
            _ => self.random.below(PAGE_BYTES - 100),
        };
        let page = self.random.below(CODE_PAGES) * PAGE_BYTES;
        match self.random.below(24) {
            0..12 => DATA + page + offset,
            12..15 => DATA + page + offset + LARGE,
            15..18 => HIGH + DATA + page + offset,
            // Code, by any way.
            18 => CODE + page + offset,
            19 => LARGE + CODE + page + offset,
            20 => HIGH + self.random.pick(self.starts),
            // Page-table entries of code and data.
            21 => PAGE_TABLES[0] + 8 * (16 + self.random.below(24)),
            // Nothing.
            22 => 0x4000_0000 + offset,
            _ => self
                .random
                .pick(&[0x0000_8000_0000_0000, 0x0000_7fff_ffff_fffc, 0]),
        }
    }

    /// Some instruction.
    fn any(&mut self) {
        let mut insn = self.random.pick(&self.pool.long);
        if insn.memory_base() == Register::RIP {
            insn.set_memory_displacement64(DATA + self.random.below(0x7000));
        }
        let mut encoder = Encoder::new(64);
        if encoder.encode(&insn, self.here()).is_ok() {
            let bytes = encoder.take_buffer();
            self.put(&bytes);
        }
    }

    /// A string instruction, mostly repeated.
    fn string(&mut self) {
        if self.random.one_in(2) {
            let (source, target) = (self.pointer(), self.pointer());
            self.set(6, source);
            self.set(7, target);
        }
        let opcode = self.random.pick(&[
            0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xa6, 0xa7, 0x6e, 0x6c,
        ]);
        let mut count = self.random.below(40);
        if self.random.one_in(6) && matches!(opcode, 0xac | 0xae) {
            // Beyond the count at which a branch is counted.
            count = 65_500 + self.random.below(100_000);
            self.set(6, LARGE);
            self.set(7, LARGE);
        }
        self.set(1, count);
        self.set(2, 0x510);
        let direction = self.random.pick(&[0xfc, 0xfc, 0xfd]);
        self.put(&[direction]);
        let prefix = self.random.pick(&[0xf3, 0xf3, 0xf2, 0x66, 0x48]);
        if matches!(prefix, 0xf3 | 0xf2) && self.random.one_in(2) {
            self.put(&[prefix, 0x48, opcode]);
        } else {
            self.put(&[prefix, opcode]);
        }
        self.put(&[0xfc]);
    }

    /// Patches code: another piece's first instruction, or what comes next here.
    fn patch(&mut self) {
        let value = self.random.draw();
        let alias = self.random.pick(&[0, 0, LARGE]);
        match self.random.below(4) {
            0 => {
                let target = self.random.pick(self.starts) + alias;
                // movl $value, target + 1
                self.put(&[0xc7, 0x04, 0x25]);
                self.put_32(target + 1);
                self.put_32(value);
            }
            1 => {
                let target = self.random.pick(self.starts) + alias;
                // add, sub, xor or cmp: movb $opcode, target
                let opcode = self.random.pick(&[0x05, 0x2d, 0x35, 0x3d]);
                self.put(&[0xc6, 0x04, 0x25]);
                self.put_32(target);
                self.put(&[opcode]);
            }
            2 => {
                let target = HIGH + self.random.pick(self.starts) + 1;
                self.set(3, target);
                // mov %eax, (%rbx)
                self.put(&[0x89, 0x03]);
            }
            _ => {
                // The immediate of the instruction after next.
                let target = self.here() + 11 + 2 + alias;
                self.put(&[0xc7, 0x04, 0x25]);
                self.put_32(target);
                self.put_32(value);
                // nop; add $imm32, %eax
                self.put(&[0x90, 0x05]);
                self.put_32(0);
            }
        }
    }

    /// A loop of some turns; now and then back into the middle of something.
    fn back(&mut self) {
        let turns = 1 + self.random.below(6);
        self.set(13, turns);
        let mut target = self.here();
        if self.random.one_in(8) {
            target -= self.random.below(self.bytes.len() as u64);
        }
        self.any();
        self.any();
        // dec %r13; jnz target
        self.near(&[0x49, 0xff, 0xcd, 0x0f, 0x85], target);
    }

    /// What needs level 0, mostly, or changes how things are.
    fn system(&mut self) {
        match self.random.below(22) {
            // invlpg (%rbx)
            0 => self.put(&[0x0f, 0x01, 0x3b]),
            // mov %cr3, %rax; mov %rax, %cr3
            1 => self.put(&[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]),
            2 => {
                let top = self.random.pick(&[PML4_A, PML4_B]);
                self.set(0, top);
                self.put(&[0x0f, 0x22, 0xd8]);
            }
            3 => {
                let bit = self.random.pick(&[
                    cr4::PGE,
                    cr4::PGE,
                    cr4::SMAP,
                    cr4::OSFXSR,
                    cr4::DE,
                    cr4::TSD,
                    cr4::FSGSBASE,
                    cr4::OSXMMEXCPT,
                ]);
                // mov %cr4, %rax; xor $bit, %eax; mov %rax, %cr4
                self.put(&[0x0f, 0x20, 0xe0, 0x35]);
                self.put_32(bit);
                self.put(&[0x0f, 0x22, 0xe0]);
            }
            4 => {
                let bit = self
                    .random
                    .pick(&[cr0::WP, cr0::WP, cr0::TS, cr0::AM, cr0::EM, cr0::MP]);
                // mov %cr0, %rax; xor $bit, %eax; mov %rax, %cr0
                self.put(&[0x0f, 0x20, 0xc0, 0x35]);
                self.put_32(bit);
                self.put(&[0x0f, 0x22, 0xc0]);
            }
            5..9 => self.entry(),
            // stac, clac
            9 => {
                let opcode = self.random.pick(&[0xca, 0xcb]);
                self.put(&[0x0f, 0x01, opcode]);
            }
            10 => {
                // TF, IF, DF, AC, RF, or none of them.
                let bit = self
                    .random
                    .pick(&[0x200, 0x200, 0x100, 0x400, 0x4_0000, 0x1_0000, 0x8d5]);
                let other = self.random.pick(&[0, 0x200, 0x4_0000]);
                // push $flags; popfq
                self.put(&[0x68]);
                self.put_32(2 | bit | other);
                self.put(&[0x9d]);
            }
            // sti, cli, clts
            11 => self.put(&[0xfb]),
            12 => {
                let code: &[u8] = self.random.pick(&[&[0xfa], &[0x0f, 0x06]]);
                self.put(code);
            }
            13 => self.breakpoint(),
            // wrgsbase %rbx; wrfsbase %rbx; rdgsbase %rax; rdfsbase %r10; rdfsbase %eax;
            // swapgs; mov %gs, %ax; mov %fs, (%rbx)
            14 => {
                let code: &[u8] = self.random.pick(&[
                    &[0xf3, 0x48, 0x0f, 0xae, 0xdb],
                    &[0xf3, 0x48, 0x0f, 0xae, 0xd3],
                    &[0xf3, 0x48, 0x0f, 0xae, 0xc8],
                    &[0xf3, 0x49, 0x0f, 0xae, 0xc2],
                    &[0xf3, 0x0f, 0xae, 0xc0],
                    &[0x0f, 0x01, 0xf8],
                    &[0x66, 0x8c, 0xe8],
                    &[0x8c, 0x23],
                ]);
                self.put(code);
            }
            15 => {
                let bit = self.random.pick(&[0x800, 1]);
                self.set(1, 0xc000_0080);
                // rdmsr; xor $bit, %eax; wrmsr
                self.put(&[0x0f, 0x32, 0x35]);
                self.put_32(bit);
                self.put(&[0x0f, 0x30]);
            }
            // rdtsc; rdtscp; cpuid
            16 => {
                let code: &[u8] =
                    self.random
                        .pick(&[&[0x0f, 0x31], &[0x0f, 0x01, 0xf9], &[0x0f, 0xa2]]);
                self.put(code);
            }
            17 | 18 => self.port(),
            19 => {
                let value = self
                    .random
                    .pick(&[0x1f80, 0x1f80, 0x9fc0, 0x7f80, 0x1f00, 0x3fbf]);
                // push $value; ldmxcsr (%rsp); pop %rax
                self.put(&[0x68]);
                self.put_32(value);
                self.put(&[0x0f, 0xae, 0x14, 0x24, 0x58]);
            }
            _ => {
                let vector = self.random.pick(&[0x80, 0x80, 0x81, 3, 4, 32]);
                self.put(&[0xcd, vector]);
            }
        }
    }

    /// Changes a page-table entry of a page of code or data.
    fn entry(&mut self) {
        let table = self.random.pick(&PAGE_TABLES);
        let n = self.random.below(16);
        let page = if n < 8 { CODE } else { DATA } / PAGE_BYTES + n % 8;
        let first = if n < 8 { CODE } else { DATA };
        let mut target = first + self.random.below(8) * PAGE_BYTES;
        if self.random.one_in(2) {
            target = page * PAGE_BYTES;
        } else if self.random.one_in(16) {
            target = self.random.pick(&[0xfed0_0000, PAGE_TABLES[0], CODE]);
        }
        let rights = self.random.pick(&[
            pte::P | pte::RW | pte::US,
            pte::P | pte::RW | pte::US | pte::A | pte::D | pte::G,
            pte::P | pte::US,
            pte::P | pte::US | pte::A,
            pte::P | pte::RW,
            pte::P | pte::RW | pte::US | pte::NX,
            0,
        ]);
        let at = table + 8 * page + self.random.pick(&[0, 0, LARGE]);
        self.set(0, target | rights);
        // mov %rax, at
        self.put(&[0x48, 0x89, 0x04, 0x25]);
        self.put_32(at);
        if self.random.one_in(2) {
            let linear = page * PAGE_BYTES;
            self.set(3, linear);
            // invlpg (%rbx)
            self.put(&[0x0f, 0x01, 0x3b]);
        }
    }

    fn breakpoint(&mut self) {
        let at = match self.random.below(2) {
            0 => self.random.pick(self.starts) + self.random.below(2) * 5,
            _ => self.pointer(),
        };
        self.set(0, at);
        let number = self.random.pick(&[0, 1]);
        // mov %rax, %dr0 or %dr1
        self.put(&[0x0f, 0x23, 0xc0 | number << 3]);
        let control = self.random.pick(&[
            0x0000_0400,
            0x0000_0401,
            0x0011_0405,
            0x00f1_0405,
            0x00d0_0404,
            0x000d_0401,
        ]);
        self.set(0, control);
        // mov %rax, %dr7
        self.put(&[0x0f, 0x23, 0xf8]);
    }

    /// Reaches the board, which may write to code or ask for an interrupt.
    fn port(&mut self) {
        let port = self.random.pick(&[0x500, 0x500, 0x501, 0x510]);
        let value = self.random.draw() >> 32;
        self.set(2, port);
        self.set(0, value);
        let opcode = self.random.pick(&[0xef, 0xee, 0xed]);
        self.put(&[opcode]);
    }

    /// Where control goes from here.
    fn end(&mut self) {
        let target = self.random.pick(self.starts);
        match self.random.below(20) {
            0..4 => self.near(&[0xe9], target),
            4..8 => {
                let condition = 0x80 | self.random.byte() & 15;
                self.near(&[0x0f, condition], target);
                let target = self.random.pick(self.starts);
                self.near(&[0xe9], target);
            }
            8 | 9 => {
                self.near(&[0xe8], target);
                self.any();
                let target = self.random.pick(self.starts);
                self.near(&[0xe9], target);
            }
            // ret, mostly of a call; ret $8
            10 => self.put(&[0xc3]),
            11 => self.put(&[0xc2, 8, 0]),
            12 | 13 => {
                // and $63, %ecx; jmp or call *ENTRIES(,%rcx,8)
                let call = self.random.pick(&[0x14, 0x24]);
                self.put(&[0x83, 0xe1, 0x3f, 0xff, call, 0xcd]);
                self.put_32(ENTRIES);
                self.near(&[0xe9], target);
            }
            14 => {
                let entry = ENTRIES + 8 * self.random.below(ENTRY_COUNT);
                // mov entry, %rax; push %rax; ret
                self.put(&[0x48, 0x8b, 0x04, 0x25]);
                self.put_32(entry);
                self.put(&[0x50, 0xc3]);
            }
            15 => {
                let entry = anywhere(self.random, self.starts);
                self.set(0, entry);
                // jmp or call *%rax
                let opcode = self.random.pick(&[0xe0, 0xd0]);
                self.put(&[0xff, opcode]);
            }
            16 => self.change_level(target),
            17 => self.system_call(target),
            18 => self.narrow(target),
            _ => {
                // A loop that ends by a flag, or doesn't; jrcxz; hlt.
                match self.random.below(3) {
                    0 => self.put(&[0xf4]),
                    1 => self.put(&[0xe3, 0x02]),
                    _ => self.put(&[0xe2, 0xfe]),
                }
                self.near(&[0xe9], target);
            }
        }
    }

    /// A near jump with a 32-bit distance.
    fn near(&mut self, opcode: &[u8], target: u64) {
        self.put(opcode);
        let next = self.here() + 4;
        self.put_32(target.wrapping_sub(next));
    }

    /// IRETQ to level 0 or 3.
    fn change_level(&mut self, target: u64) {
        let (code, data, stack) = if self.random.one_in(3) {
            (sel::CODE_0, sel::DATA_0, STACK_0)
        } else {
            (sel::CODE_3, sel::DATA_3, STACK_3 - 0x80)
        };
        let flags = self
            .random
            .pick(&[0x202, 0x202, 0x2, 0x1_0202, 0x302, 0x4_0202]);
        for value in [data.into(), stack, flags, code.into(), target] {
            // push $value
            self.put(&[0x68]);
            self.put_32(value);
        }
        self.put(&[0x48, 0xcf]);
    }

    /// SYSCALL or SYSRET.
    fn system_call(&mut self, target: u64) {
        if self.random.one_in(2) {
            // syscall
            self.put(&[0x0f, 0x05]);
            self.near(&[0xe9], target);
            return;
        }
        self.set(1, target);
        let flags = self.random.pick(&[0x202, 0x2, 0x302]);
        self.set(11, flags);
        // mov stack, %rsp; sysretq
        self.set(4, STACK_3 - 0x40);
        self.put(&[0x48, 0x0f, 0x07]);
    }

    /// Some 32-bit code, and back to 64-bit code.
    fn narrow(&mut self, target: u64) {
        let (narrow, wide) = if self.random.one_in(2) {
            (sel::CODE32_3, sel::CODE_3)
        } else {
            (sel::CODE32_0, sel::CODE_0)
        };
        self.load_segments();
        // push $narrow; push $next; lretq
        self.put(&[0x68]);
        self.put_32(narrow.into());
        self.put(&[0x68]);
        let next = self.here() + 4 + 2;
        self.put_32(next);
        self.put(&[0x48, 0xcb]);
        // mov $turns, %ecx
        self.put(&[0xb9]);
        let turns = self.random.below(4);
        self.put_32(turns);
        let again = self.here();
        self.narrow_instructions();
        if self.random.one_in(2) {
            // call over the jump; jmp behind the routine; push %eax; pop %ebx; ret
            self.put(&[0xe8, 2, 0, 0, 0, 0xeb, 3, 0x50, 0x5b, 0xc3]);
            self.narrow_instructions();
        }
        // loop
        let back = again.wrapping_sub(self.here() + 2);
        self.put(&[0xe2, back as u8]);
        // ljmp $wide, $target
        self.put(&[0xea]);
        self.put_32(target);
        self.put(&wide.to_le_bytes());
    }

    /// Data segments that 32-bit code can use, mostly; FS and GS now and then.
    fn load_segments(&mut self) {
        if self.random.one_in(4) {
            return;
        }
        // mov $data, %eax; mov %eax, %ds; mov %eax, %es
        self.put(&[0xb8]);
        self.put_32(sel::DATA_3.into());
        self.put(&[0x8e, 0xd8, 0x8e, 0xc0]);
        for into in [0xe0, 0xe8] {
            if self.random.one_in(2) {
                // mov %eax, %fs or %gs
                self.put(&[0x8e, into]);
            }
        }
    }

    fn narrow_instructions(&mut self) {
        for _ in 0..1 + self.random.below(5) {
            let insn = self.random.pick(&self.pool.compat);
            let mut encoder = Encoder::new(32);
            if encoder.encode(&insn, self.here()).is_ok() {
                let bytes = encoder.take_buffer();
                self.put(&bytes);
            }
        }
    }
}

/// The text of `code` at `at`, for reports.
pub(crate) fn text(code: &[u8], at: u64, bits: u32) -> String {
    use iced_x86::Formatter;
    let mut formatter = iced_x86::GasFormatter::new();
    let mut text = String::new();
    for insn in Decoder::with_ip(bits, code, at, DecoderOptions::NONE)
        .into_iter()
        .take(12)
    {
        text.push_str(&format!("\n    {:x}  ", insn.ip()));
        formatter.format(&insn, &mut text);
        if insn.code() == Code::INVALID {
            break;
        }
    }
    text
}
