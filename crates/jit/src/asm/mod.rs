//! A small assembler for the code around the guest's own instructions.
//!
//! Operands are 64 bits wide unless a function's name says otherwise. Jumps
//! are always of the 32-bit form, so that they can be bound later or patched.
//! Encodings: SDM volume 2, chapter 2.

mod flags;
mod flow;
mod general;
mod media;

pub(crate) use self::flow::{Condition, Fix, NearFix};
pub(crate) use self::general::Alu;
use crate::register::{FRAME, Host, INDEX};

/// A memory operand of host code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mem {
    pub(crate) base: Option<Host>,
    /// And the shift of its scale.
    pub(crate) index: Option<(Host, u8)>,
    pub(crate) disp: i32,
}

impl Mem {
    /// `[base + disp]`.
    pub(crate) const fn base(base: Host, disp: i32) -> Mem {
        Mem {
            base: Some(base),
            index: None,
            disp,
        }
    }

    /// `[rsp + disp]`: a word of the frame.
    pub(crate) const fn frame(disp: i32) -> Mem {
        Mem::base(FRAME, disp)
    }

    /// What lies `bytes` bytes further.
    pub(crate) const fn plus(self, bytes: i32) -> Mem {
        Mem {
            disp: self.disp + bytes,
            ..self
        }
    }

    /// `[base + index << scale + disp]`. The index is not `rsp`.
    pub(crate) const fn indexed(base: Option<Host>, index: Host, scale: u8, disp: i32) -> Mem {
        Mem {
            base,
            index: Some((index, scale)),
            disp,
        }
    }
}

/// Where code goes: what is often executed lies together, apart from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// What is often executed.
    Hot,
    /// What is rare.
    Cold,
}

/// Code in the making, for two places in code memory.
#[derive(Debug)]
pub(crate) struct Asm {
    /// The section that code goes to at present, and its place.
    section: Section,
    origin: u32,
    bytes: Vec<u8>,
    /// The place and the code of the other section.
    other: (u32, Vec<u8>),
    /// Whether [`INDEX`] may have changed since [`Asm::keep_index`] was last
    /// called.
    index_changed: bool,
}

/// Registers and memory operands alike, in an encoding's place for either.
enum Rm {
    Register(Host),
    Memory(Mem),
}

impl Asm {
    /// No code yet, to be placed at the offsets `hot` and `cold`.
    pub(crate) fn new(hot: u32, cold: u32) -> Asm {
        Asm {
            section: Section::Hot,
            origin: hot,
            bytes: Vec::with_capacity(1024),
            other: (cold, Vec::with_capacity(1024)),
            index_changed: true,
        }
    }

    /// From now on code goes to `section`.
    pub(crate) fn go_to(&mut self, section: Section) {
        if section != self.section {
            self.section = section;
            std::mem::swap(&mut self.origin, &mut self.other.0);
            std::mem::swap(&mut self.bytes, &mut self.other.1);
        }
    }

    /// The offset in code memory of what comes next.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block is far below 4 GiB"
    )]
    pub(crate) fn here(&self) -> u32 {
        self.origin + self.bytes.len() as u32
    }

    /// All code of `section` so far.
    pub(crate) fn bytes(&self, section: Section) -> &[u8] {
        if section == self.section {
            &self.bytes
        } else {
            &self.other.1
        }
    }

    /// From now on it is noted whether [`INDEX`] may have changed.
    pub(crate) fn keep_index(&mut self) {
        self.index_changed = false;
    }

    /// Whether [`INDEX`] is as it was when [`Asm::keep_index`] was last called.
    pub(crate) fn has_kept_index(&self) -> bool {
        !self.index_changed
    }

    /// Code from elsewhere, which leaves [`INDEX`] alone or says so.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// REX, opcode, ModRM, SIB and displacement. `bytes_wide`: an 8-bit
    /// register operand, whose `spl` to `dil` need a REX prefix.
    fn encode(&mut self, wide: bool, opcode: &[u8], reg: u8, rm: &Rm, bytes_wide: bool) {
        // An operand that is only read counts, too.
        self.index_changed |= reg == INDEX.0;
        let (base, index) = match rm {
            Rm::Register(host) => {
                self.index_changed |= *host == INDEX;
                (host.0, 0)
            }
            Rm::Memory(mem) => (
                mem.base.map_or(0, |b| b.0),
                mem.index.map_or(0, |(i, _)| i.0),
            ),
        };
        let rex = 0x40
            | u8::from(wide) << 3
            | (reg >> 3 & 1) << 2
            | (index >> 3 & 1) << 1
            | base >> 3 & 1;
        if rex != 0x40 || bytes_wide {
            self.bytes.push(rex);
        }
        self.raw(opcode);
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Register(host) => self.bytes.push(0xc0 | reg | host.0 & 7),
            Rm::Memory(mem) => self.encode_memory(reg, mem),
        }
    }

    fn encode_memory(&mut self, reg: u8, mem: &Mem) {
        let Some(base) = mem.base else {
            // No base: a 32-bit displacement always, and a SIB byte, since
            // without one it would be relative to RIP.
            let (index, scale) = mem.index.map_or((4, 0), |(i, s)| (i.0 & 7, s));
            self.raw(&[reg | 4, scale << 6 | index << 3 | 5]);
            self.raw(&mem.disp.to_le_bytes());
            return;
        };
        let short = i8::try_from(mem.disp);
        let mode = match (mem.disp, short) {
            (0, _) if base.0 & 7 != 5 => 0,
            (_, Ok(_)) => 0x40,
            _ => 0x80,
        };
        if mem.index.is_some() || base.0 & 7 == 4 {
            let (index, scale) = mem.index.map_or((4, 0), |(i, s)| (i.0 & 7, s));
            self.raw(&[mode | reg | 4, scale << 6 | index << 3 | base.0 & 7]);
        } else {
            self.bytes.push(mode | reg | base.0 & 7);
        }
        match (mode, short) {
            (0, _) => {}
            (0x40, Ok(disp)) => self.raw(&disp.to_le_bytes()),
            _ => self.raw(&mem.disp.to_le_bytes()),
        }
    }

    fn encode_short(&mut self, wide: bool, opcode: u8, register: Host) {
        self.index_changed |= register == INDEX;
        let rex = 0x40 | u8::from(wide) << 3 | register.0 >> 3;
        if rex != 0x40 {
            self.bytes.push(rex);
        }
        self.bytes.push(opcode | register.0 & 7);
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};

    use super::*;

    pub(super) fn text(asm: &Asm) -> Vec<String> {
        let mut decoder = Decoder::with_ip(64, asm.bytes(Section::Hot), 0, DecoderOptions::NONE);
        let mut formatter = GasFormatter::new();
        let mut lines = Vec::new();
        for insn in &mut decoder {
            let mut line = String::new();
            formatter.format(&insn, &mut line);
            lines.push(line.replace("  ", ""));
        }
        lines
    }

    #[test]
    fn every_kind_of_address_decodes_as_it_was_meant() {
        let mut asm = Asm::new(0, 0x8000);
        asm.load(Host(15), Mem::frame(8));
        asm.load(Host(1), Mem::base(Host(13), 0));
        asm.load(Host(1), Mem::base(Host(12), 0));
        asm.load(Host(1), Mem::base(Host(5), 0x1234));
        asm.lea(Host(1), Mem::indexed(Some(Host(4)), Host(15), 3, 0x1000));
        asm.lea(Host(1), Mem::indexed(None, Host(12), 2, -1));
        asm.lea_32(Host(9), Mem::indexed(Some(Host(13)), Host(8), 1, 0));
        asm.shrx(Host(15), Host(5), FRAME);
        asm.shrx(Host(1), Host(13), Host(9));
        asm.rorx(Host(1), Host(0), 16);
        asm.rorx(Host(15), Host(12), 63);
        asm.mulx(true, Host(2), Host(3), Host(15));
        asm.mulx(false, Host(9), Host(12), Host(6));
        assert_eq!(
            text(&asm),
            [
                "mov 8(%rsp),%r15",
                "mov (%r13),%rcx",
                "mov (%r12),%rcx",
                "mov 0x1234(%rbp),%rcx",
                "lea 0x1000(%rsp,%r15,8),%rcx",
                "lea -1(,%r12,4),%rcx",
                "lea (%r13,%r8,2),%r9d",
                "shrx %rsp,%rbp,%r15",
                "shrx %r9,%r13,%rcx",
                "rorx $0x10,%rax,%rcx",
                "rorx $0x3F,%r12,%r15",
                "mulx %r15,%rbx,%rdx",
                "mulx %esi,%r12d,%r9d",
            ]
        );
    }
}
