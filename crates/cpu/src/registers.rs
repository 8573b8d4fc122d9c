//! All of the processor's architectural state by name: for logs, reports and
//! checkpoints.
//!
//! The law: everything that decides what the processor does next is in the one
//! table here, and nothing that follows from the rest. A list for people, the
//! bytes of a log, a comparison and a restoration all come from that table.

use std::fmt;

use silicon::x87::F80;

use crate::state::{GPR_COUNT, Shadow};
use crate::{Cpu, Flags};

/// One line of the table.
struct Field {
    name: &'static str,
    /// Width in bits, 1 to 128. A larger value is no value.
    bits: u32,
    get: fn(&Cpu) -> u128,
    set: fn(&mut Cpu, u128),
}

impl Field {
    fn bytes(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }
}

/// A field that is a place in `Cpu`.
macro_rules! place {
    ($name:expr, $type:ty, $($place:tt)+) => {
        Field {
            name: $name,
            bits: <$type>::BITS,
            get: |cpu| u128::from(cpu.$($place)+),
            // Decoding has seen to it that the value fits.
            set: |cpu, value| cpu.$($place)+ = value as $type,
        }
    };
}

/// A field that is a `bool` in `Cpu`.
macro_rules! switch {
    ($name:ident) => {
        Field {
            name: stringify!($name),
            bits: 1,
            get: |cpu| u128::from(cpu.$name),
            set: |cpu, value| cpu.$name = value != 0,
        }
    };
}

/// The four fields of a segment register.
macro_rules! segment {
    ($name:literal, $($place:tt)+) => {
        [
            place!($name, u16, $($place)+.selector),
            place!(concat!($name, ".base"), u64, $($place)+.base),
            place!(concat!($name, ".limit"), u32, $($place)+.limit),
            place!(concat!($name, ".rights"), u16, $($place)+.rights),
        ]
    };
}

/// A register of the x87 unit.
macro_rules! x87 {
    ($name:literal, $n:literal) => {
        Field {
            name: $name,
            bits: 80,
            get: |cpu| {
                let register = cpu.fpu.registers[$n];
                u128::from(register.sign_exp) << 64 | u128::from(register.mantissa)
            },
            set: |cpu, value| {
                cpu.fpu.registers[$n] = F80 {
                    mantissa: value as u64,
                    sign_exp: (value >> 64) as u16,
                }
            },
        }
    };
}

const SCALARS: &[Field] = &[
    place!("branches", u64, branches),
    place!("rip", u64, rip),
    Field {
        name: "rflags",
        bits: 64,
        get: |cpu| cpu.flags.value().into(),
        set: |cpu, value| cpu.flags = Flags::new(value as u64),
    },
    place!("rax", u64, gpr[0]),
    place!("rcx", u64, gpr[1]),
    place!("rdx", u64, gpr[2]),
    place!("rbx", u64, gpr[3]),
    place!("rsp", u64, gpr[4]),
    place!("rbp", u64, gpr[5]),
    place!("rsi", u64, gpr[6]),
    place!("rdi", u64, gpr[7]),
    place!("r8", u64, gpr[8]),
    place!("r9", u64, gpr[9]),
    place!("r10", u64, gpr[10]),
    place!("r11", u64, gpr[11]),
    place!("r12", u64, gpr[12]),
    place!("r13", u64, gpr[13]),
    place!("r14", u64, gpr[14]),
    place!("r15", u64, gpr[15]),
    Field {
        name: "cpl",
        bits: 2,
        get: |cpu| cpu.cpl.into(),
        set: |cpu, value| cpu.cpl = value as u8,
    },
    Field {
        name: "shadow",
        bits: 2,
        get: |cpu| cpu.shadow as u128,
        set: |cpu, value| {
            cpu.shadow = match value {
                0 => Shadow::None,
                1 => Shadow::Sti,
                _ => Shadow::MovSs,
            }
        },
    },
    switch!(halted),
    switch!(in_repeat),
    switch!(nmi_blocked),
    place!("pending_debug", u64, pending_debug),
    place!("cr0", u64, cr0),
    place!("cr2", u64, cr2),
    place!("cr3", u64, cr3),
    place!("cr4", u64, cr4),
    place!("efer", u64, efer),
    place!("xcr0", u64, xcr0),
    place!("pdpte0", u64, pdpte[0]),
    place!("pdpte1", u64, pdpte[1]),
    place!("pdpte2", u64, pdpte[2]),
    place!("pdpte3", u64, pdpte[3]),
    place!("dr0", u64, dr[0]),
    place!("dr1", u64, dr[1]),
    place!("dr2", u64, dr[2]),
    place!("dr3", u64, dr[3]),
    place!("dr6", u64, dr[6]),
    place!("dr7", u64, dr[7]),
    place!("star", u64, star),
    place!("lstar", u64, lstar),
    place!("cstar", u64, cstar),
    place!("fmask", u64, fmask),
    place!("kernel_gs_base", u64, kernel_gs_base),
    place!("sysenter_cs", u64, sysenter[0]),
    place!("sysenter_esp", u64, sysenter[1]),
    place!("sysenter_eip", u64, sysenter[2]),
    place!("pat", u64, pat),
    place!("tsc_aux", u64, tsc_aux),
    place!("tsc_adjust", u64, tsc_adjust),
    place!("misc_enable", u64, misc_enable),
    place!("mtrr_def_type", u64, mtrr_def_type),
    place!("spec_ctrl", u64, spec_ctrl),
    place!("gdtr.base", u64, gdtr.base),
    place!("gdtr.limit", u32, gdtr.limit),
    place!("idtr.base", u64, idtr.base),
    place!("idtr.limit", u32, idtr.limit),
    place!("mxcsr", u32, mxcsr),
    Field {
        name: "fcw",
        bits: 16,
        get: |cpu| cpu.fpu.control().0.into(),
        set: |cpu, value| cpu.fpu.set_control(value as u16),
    },
    Field {
        // With TOP.
        name: "fsw",
        bits: 16,
        get: |cpu| cpu.fpu.status().into(),
        set: |cpu, value| cpu.fpu.set_status(value as u16),
    },
    place!("fused", u8, fpu.used),
    place!("fop", u16, fpu.opcode),
    place!("fip", u64, fpu.instruction_pointer),
    place!("fdp", u64, fpu.data_pointer),
    x87!("fr0", 0),
    x87!("fr1", 1),
    x87!("fr2", 2),
    x87!("fr3", 3),
    x87!("fr4", 4),
    x87!("fr5", 5),
    x87!("fr6", 6),
    x87!("fr7", 7),
    place!("xmm0", u128, xmm[0]),
    place!("xmm1", u128, xmm[1]),
    place!("xmm2", u128, xmm[2]),
    place!("xmm3", u128, xmm[3]),
    place!("xmm4", u128, xmm[4]),
    place!("xmm5", u128, xmm[5]),
    place!("xmm6", u128, xmm[6]),
    place!("xmm7", u128, xmm[7]),
    place!("xmm8", u128, xmm[8]),
    place!("xmm9", u128, xmm[9]),
    place!("xmm10", u128, xmm[10]),
    place!("xmm11", u128, xmm[11]),
    place!("xmm12", u128, xmm[12]),
    place!("xmm13", u128, xmm[13]),
    place!("xmm14", u128, xmm[14]),
    place!("xmm15", u128, xmm[15]),
    place!("ymm0.high", u128, ymm_high[0]),
    place!("ymm1.high", u128, ymm_high[1]),
    place!("ymm2.high", u128, ymm_high[2]),
    place!("ymm3.high", u128, ymm_high[3]),
    place!("ymm4.high", u128, ymm_high[4]),
    place!("ymm5.high", u128, ymm_high[5]),
    place!("ymm6.high", u128, ymm_high[6]),
    place!("ymm7.high", u128, ymm_high[7]),
    place!("ymm8.high", u128, ymm_high[8]),
    place!("ymm9.high", u128, ymm_high[9]),
    place!("ymm10.high", u128, ymm_high[10]),
    place!("ymm11.high", u128, ymm_high[11]),
    place!("ymm12.high", u128, ymm_high[12]),
    place!("ymm13.high", u128, ymm_high[13]),
    place!("ymm14.high", u128, ymm_high[14]),
    place!("ymm15.high", u128, ymm_high[15]),
];

const SEGMENTS: &[[Field; 4]] = &[
    segment!("es", segments[0]),
    segment!("cs", segments[1]),
    segment!("ss", segments[2]),
    segment!("ds", segments[3]),
    segment!("fs", segments[4]),
    segment!("gs", segments[5]),
    segment!("ldtr", ldtr),
    segment!("tr", tr),
];

/// All lines of the table, in the order of lists and bytes.
fn fields() -> impl Iterator<Item = &'static Field> {
    SCALARS.iter().chain(SEGMENTS.as_flattened())
}

/// Why bytes are no registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are too few or too many.
    #[error(
        "registers: {found} bytes where {expected} belong: the file is cut or of another version"
    )]
    Length {
        /// How many belong there.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A value that the register can't have.
    #[error("registers: {name} can't hold {value:#x}: the file is damaged")]
    Value {
        /// The register.
        name: &'static str,
        /// What the bytes say.
        value: u128,
    },
}

/// A register that has two values where one was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: &'static str,
    /// The value it should have.
    pub expected: u128,
    /// The value it has.
    pub found: u128,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            name,
            expected,
            found,
        } = self;
        write!(f, "{name}: expected {expected:#x}, found {found:#x}")
    }
}

/// All architectural state of a processor at a moment, memory apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Registers(Box<[u128]>);

impl Registers {
    /// Those of `cpu`, between two instructions.
    pub fn of(cpu: &Cpu) -> Registers {
        Registers(fields().map(|field| (field.get)(cpu)).collect())
    }

    /// Takes those of `cpu` in their place. Whether any is another.
    pub fn follow(&mut self, cpu: &Cpu) -> bool {
        fields()
            .zip(&mut self.0)
            .fold(false, |any, (field, value)| {
                let before = std::mem::replace(value, (field.get)(cpu));
                any | (before != *value)
            })
    }

    /// The names of all, in the order of [`Registers::values`].
    pub fn names() -> impl Iterator<Item = &'static str> {
        fields().map(|field| field.name)
    }

    /// The values of all.
    pub fn values(&self) -> &[u128] {
        &self.0
    }

    /// Puts them in place of `cpu`'s, and forgets whatever `cpu` had derived
    /// from its own and from memory. The engine must be reset besides.
    pub fn restore(&self, cpu: &mut Cpu) {
        cpu.gpr = [0; GPR_COUNT];
        for (field, &value) in fields().zip(&self.0) {
            (field.set)(cpu, value);
        }
        cpu.forget_translations();
        cpu.refresh();
    }

    /// Names and values, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u128)> + '_ {
        Registers::names().zip(self.0.iter().copied())
    }

    /// The value of the register called `name`.
    pub fn get(&self, name: &str) -> Option<u128> {
        self.iter().find(|line| line.0 == name).map(|line| line.1)
    }

    /// The registers of `found` that differ from these.
    pub fn differences(&self, found: &Registers) -> Vec<Difference> {
        self.iter()
            .zip(&found.0)
            .filter(|((_, expected), found)| expected != *found)
            .map(|((name, expected), &found)| Difference {
                name,
                expected,
                found,
            })
            .collect()
    }

    /// All values, little-endian, each in as few bytes as its register has.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(encoded_bytes());
        for (field, value) in fields().zip(&self.0) {
            bytes.extend_from_slice(&value.to_le_bytes()[..field.bytes()]);
        }
        bytes
    }

    /// The registers that [`Registers::encode`] gave as `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Registers, DecodeError> {
        if bytes.len() != encoded_bytes() {
            return Err(DecodeError::Length {
                expected: encoded_bytes(),
                found: bytes.len(),
            });
        }
        let mut rest = bytes;
        let values = fields().map(|field| {
            let (mine, others) = rest.split_at(field.bytes());
            rest = others;
            let mut value = [0; 16];
            value[..mine.len()].copy_from_slice(mine);
            let value = u128::from_le_bytes(value);
            let fits = field.bits == 128 || value >> field.bits == 0;
            let name = field.name;
            fits.then_some(value)
                .ok_or(DecodeError::Value { name, value })
        });
        values.collect::<Result<_, _>>().map(Registers)
    }
}

fn encoded_bytes() -> usize {
    fields().map(Field::bytes).sum()
}

/// As [`Registers::encode`], of `cpu` as it stands, appended to `bytes`: for
/// digests, which are taken often.
pub fn encode_registers(cpu: &Cpu, bytes: &mut Vec<u8>) {
    for field in fields() {
        bytes.extend_from_slice(&(field.get)(cpu).to_le_bytes()[..field.bytes()]);
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (name, format!("{value:#x}"))),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    /// As many bits as each register has, no two registers alike.
    fn patterns() -> Registers {
        let value = |(n, field): (usize, &Field)| {
            let pattern = (n as u128 + 1) * 0x0101_0101_0101_0101_0101_0101_0101_0101;
            match field.bits {
                // What depends on other bits, or has bits that can't be chosen.
                _ if matches!(field.name, "rflags" | "fcw" | "fsw" | "shadow") => {
                    (field.get)(&Rig::new().cpu)
                }
                128 => pattern,
                bits => pattern & ((1 << bits) - 1),
            }
        };
        Registers(fields().enumerate().map(value).collect())
    }

    #[test]
    fn what_is_restored_is_found_again() {
        let mut rig = Rig::new();
        let registers = patterns();
        registers.restore(&mut rig.cpu);
        assert_eq!(registers.differences(&Registers::of(&rig.cpu)), []);
        let mut followed = Registers::of(&Rig::new().cpu);
        assert!(followed.follow(&rig.cpu));
        assert!(!followed.follow(&rig.cpu));
        assert_eq!(followed, registers);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        let registers = patterns();
        let mut rig = Rig::new();
        registers.restore(&mut rig.cpu);
        encode_registers(&rig.cpu, &mut bytes);
        assert_eq!(registers.encode(), bytes);
        assert_eq!(Registers::decode(&bytes), Ok(registers));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = fields().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), fields().count());
    }

    #[test]
    fn bytes_that_are_no_registers_are_refused() {
        let mut bytes = patterns().encode();
        let length = bytes.len();
        let short = Registers::decode(&bytes[1..]);
        let expected = DecodeError::Length {
            expected: length,
            found: length - 1,
        };
        assert_eq!(short, Err(expected));
        bytes.fill(0xff);
        assert!(matches!(
            Registers::decode(&bytes),
            Err(DecodeError::Value {
                name: "cpl",
                value: 0xff
            })
        ));
    }
}
