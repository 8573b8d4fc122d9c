//! ELF executables, 32 and 64 bits, as far as a boot loader needs them (System
//! V ABI, chapters 4 and 5).

use super::bytes::{slice_at, u16_at, u32_at, u64_at};

/// More segments than any kernel has.
const SEGMENTS_MAX: u16 = 128;
const PT_LOAD: u32 = 1;

/// A part of the file that is to be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    /// Guest-physical address.
    pub(crate) at: u64,
    /// What to put there.
    pub(crate) bytes: &'a [u8],
    /// How much it takes there, zeros after `bytes` counted.
    pub(crate) memory_bytes: u64,
}

/// An executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elf<'a> {
    pub(crate) entry: u64,
    pub(crate) is_64_bit: bool,
    pub(crate) segments: Vec<Segment<'a>>,
}

/// Where fields are, by class.
struct Layout {
    entry: usize,
    header_table: usize,
    header_size: usize,
    offset: usize,
    physical: usize,
    file_bytes: usize,
    memory_bytes: usize,
    entry_size_min: u16,
}

const LAYOUT_32: Layout = Layout {
    entry: 0x18,
    header_table: 0x1c,
    header_size: 0x2a,
    offset: 0x04,
    physical: 0x0c,
    file_bytes: 0x10,
    memory_bytes: 0x14,
    entry_size_min: 32,
};
const LAYOUT_64: Layout = Layout {
    entry: 0x18,
    header_table: 0x20,
    header_size: 0x36,
    offset: 0x08,
    physical: 0x18,
    file_bytes: 0x20,
    memory_bytes: 0x28,
    entry_size_min: 56,
};

impl<'a> Elf<'a> {
    /// Whether `file` says that it is one.
    pub(crate) fn is_one(file: &[u8]) -> bool {
        file.starts_with(b"\x7fELF")
    }

    /// Reads the headers of `file`; the error says what is wrong.
    pub(crate) fn parse(file: &'a [u8]) -> Result<Elf<'a>, &'static str> {
        const CUT: &str = "its ELF headers are cut off";
        if !Elf::is_one(file) {
            return Err("it is not an ELF file");
        }
        let (is_64_bit, layout) = match file.get(4..6).ok_or(CUT)? {
            [1, 1] => (false, &LAYOUT_32),
            [2, 1] => (true, &LAYOUT_64),
            _ => return Err("it is an ELF file of an unknown class or byte order"),
        };
        let machine = u16_at(file, 0x12).ok_or(CUT)?;
        if !matches!((is_64_bit, machine), (false, 3) | (_, 62)) {
            return Err("it is an ELF file for another processor");
        }
        let word = |bytes: &[u8], at: usize| {
            if is_64_bit {
                u64_at(bytes, at)
            } else {
                u32_at(bytes, at).map(u64::from)
            }
        };
        let entry = word(file, layout.entry).ok_or(CUT)?;
        let table = word(file, layout.header_table).ok_or(CUT)?;
        let size = u16_at(file, layout.header_size).ok_or(CUT)?;
        let count = u16_at(file, layout.header_size + 2).ok_or(CUT)?;
        if size < layout.entry_size_min || count > SEGMENTS_MAX {
            return Err("its ELF program headers make no sense");
        }
        let mut segments = Vec::new();
        for number in 0..u64::from(count) {
            let at = table.checked_add(number * u64::from(size)).ok_or(CUT)?;
            let header = slice_at(file, at, size.into()).ok_or(CUT)?;
            if u32_at(header, 0) != Some(PT_LOAD) {
                continue;
            }
            let field = |at: usize| word(header, at).ok_or(CUT);
            let memory_bytes = field(layout.memory_bytes)?;
            let bytes = slice_at(file, field(layout.offset)?, field(layout.file_bytes)?)
                .ok_or("it is cut off: a segment lies past its end")?;
            if memory_bytes < bytes.len() as u64 {
                return Err("an ELF segment is larger in the file than in memory");
            }
            if memory_bytes > 0 {
                segments.push(Segment {
                    at: field(layout.physical)?,
                    bytes,
                    memory_bytes,
                });
            }
        }
        if segments.is_empty() {
            return Err("its ELF file has nothing to load");
        }
        Ok(Elf {
            entry,
            is_64_bit,
            segments,
        })
    }

    /// The first byte that any segment takes, and the first after all; `None`
    /// if one wraps around.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let start = self.segments.iter().map(|segment| segment.at).min()?;
        let ends = self
            .segments
            .iter()
            .map(|segment| segment.at.checked_add(segment.memory_bytes));
        let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        Some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A 32-bit file with one segment of four bytes at 1 MiB.
    fn file() -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01\x01".to_vec();
        file.resize(0x34, 0);
        file[0x12] = 3;
        file[0x18..0x1c].copy_from_slice(&0x0010_0000u32.to_le_bytes());
        file[0x1c] = 0x34;
        file[0x2a] = 32;
        file[0x2c] = 1;
        for field in [1u32, 0x54, 0x10_0000, 0x10_0000, 4, 8, 7, 4] {
            file.extend(field.to_le_bytes());
        }
        file.extend([1, 2, 3, 4]);
        file
    }

    #[test]
    fn a_file_is_read() {
        let file = file();
        let elf = Elf::parse(&file).expect("a good file");
        assert_eq!(elf.entry, 0x10_0000);
        let segment = Segment {
            at: 0x10_0000,
            bytes: &[1, 2, 3, 4],
            memory_bytes: 8,
        };
        assert_eq!(elf.segments, [segment]);
        assert_eq!(elf.range(), Some((0x10_0000, 0x10_0008)));
    }

    proptest! {
        #[test]
        fn a_file_that_is_cut_is_refused(length in 0usize..0x58) {
            prop_assert!(Elf::parse(&file()[..length]).is_err());
        }

        #[test]
        fn no_file_breaks_it(at in 0usize..0x54, bytes: [u8; 8]) {
            let mut file = file();
            let end = (at + 8).min(file.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = Elf::parse(&file).map(|elf| elf.range());
        }
    }
}
