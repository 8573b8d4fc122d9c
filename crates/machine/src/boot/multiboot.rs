//! Multiboot 1 (specification 0.6.96): a kernel entered in 32-bit protected
//! mode without paging, EBX at a structure that tells what was loaded.

use cpu::Cpu;
use memory::Ram;
use x86::{PAGE_BYTES, Physical, gpr};

use super::bytes::{slice_at, u32_at};
use super::elf::Elf;
use super::{kernel_error, linux};
use crate::{Error, Images, MachineConfig};

const HEADER_MAGIC: u32 = 0x1bad_b002;
/// What EAX tells the kernel.
const LOADER_MAGIC: u32 = 0x2bad_b002;
/// The header begins within this much of the file.
const SEARCHED: usize = 8192;
const LOADER_NAME: &[u8] = b"ReVirt\0";

/// Bits of the header's flags.
mod wants {
    pub(super) const ALIGNED_MODULES: u32 = 1 << 0;
    pub(super) const MEMORY_INFO: u32 = 1 << 1;
    /// The header's own addresses count, not those of an ELF file.
    pub(super) const ADDRESSES: u32 = 1 << 16;
    /// Those that a loader must understand or give up.
    pub(super) const REQUIRED: u32 = 0xffff;
    pub(super) const UNDERSTOOD: u32 = ALIGNED_MODULES | MEMORY_INFO;
}

/// Bits of the information structure's flags.
mod tells {
    pub(super) const MEMORY: u32 = 1 << 0;
    pub(super) const COMMAND_LINE: u32 = 1 << 2;
    pub(super) const MODULES: u32 = 1 << 3;
    pub(super) const MEMORY_MAP: u32 = 1 << 6;
    pub(super) const LOADER_NAME: u32 = 1 << 9;
}

/// Where the information is put, and where it ends at the latest.
const INFO: u64 = 0x9000;
const INFO_END: u64 = 0x9_f000;
/// Bytes of the structure as far as it is filled in.
const INFO_BYTES: usize = 116;

/// A header that has been found and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its offset in the file.
    at: usize,
    flags: u32,
}

impl Header {
    /// Looks for a header in `file`; the error says what is wrong.
    pub(crate) fn find(file: &[u8]) -> Result<Header, &'static str> {
        let searched = &file[..file.len().min(SEARCHED)];
        let at = (0..searched.len()).step_by(4).find(|at| {
            let words = [0, 4, 8].map(|offset| u32_at(searched, at + offset));
            let [Some(magic), Some(flags), Some(checksum)] = words else {
                return false;
            };
            magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0
        });
        let at = at.ok_or("it has no Multiboot 1 header: give a Multiboot kernel")?;
        let flags = u32_at(file, at + 4).ok_or("it is cut off")?;
        if flags & wants::REQUIRED & !wants::UNDERSTOOD != 0 {
            return Err("it asks for something (a video mode?) that there is not");
        }
        Ok(Header { at, flags })
    }

    /// The kernel's parts, its entry, and the first byte after it in memory.
    pub(crate) fn image<'a>(&self, file: &'a [u8]) -> Result<Image<'a>, &'static str> {
        if self.flags & wants::ADDRESSES == 0 {
            let elf = Elf::parse(file)?;
            let (start, end) = elf.range().ok_or("an ELF segment wraps around")?;
            let parts = elf
                .segments
                .iter()
                .map(|segment| (segment.at, segment.bytes))
                .collect();
            return Ok(Image {
                parts,
                entry: elf.entry,
                start,
                end,
            });
        }
        const CUT: &str = "it is cut off: give the whole file";
        let word = |n: usize| u32_at(file, self.at + 12 + 4 * n).map(u64::from).ok_or(CUT);
        let [header, load, load_end, bss_end, entry] =
            [word(0)?, word(1)?, word(2)?, word(3)?, word(4)?];
        // The header's place in the file tells where in it loading begins.
        let before = header.checked_sub(load);
        let start = before.and_then(|before| (self.at as u64).checked_sub(before));
        let start = start.ok_or("the addresses in its Multiboot header make no sense")?;
        let bytes = match load_end {
            0 => (file.len() as u64).saturating_sub(start),
            end => end
                .checked_sub(load)
                .ok_or("the addresses in its Multiboot header make no sense")?,
        };
        let part = slice_at(file, start, bytes).ok_or(CUT)?;
        let end = (load + bytes).max(bss_end);
        Ok(Image {
            parts: vec![(load, part)],
            entry,
            start: load,
            end,
        })
    }
}

/// What is to be in memory.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    parts: Vec<(u64, &'a [u8])>,
    entry: u64,
    start: u64,
    end: u64,
}

/// Loads the kernel and its module, and makes `cpu` about to enter it.
pub(super) fn load(config: &MachineConfig, images: &Images, cpu: &mut Cpu) -> Result<(), Error> {
    let ram = &cpu.ram;
    let file = images.kernel.bytes();
    let image = Header::find(file)
        .and_then(|header| header.image(file))
        .map_err(kernel_error)?;
    let low_bytes = ram.size_bytes().min(memory::HOLE_START);
    if image.end > low_bytes {
        return Err(Error::MemoryTooSmall {
            what: "the kernel",
            needed_bytes: image.end,
            memory_bytes: ram.size_bytes(),
        });
    }
    if image.start < INFO_END {
        return Err(kernel_error(format!(
            "it is to be loaded at {:#x}, where the loader's own data are: link it at 1 MiB",
            image.start
        )));
    }
    let entry =
        u32::try_from(image.entry).map_err(|_| kernel_error("its entry lies above 4 GiB"))?;
    for (at, bytes) in &image.parts {
        ram.write(Physical(*at), bytes)?;
    }
    let module = match &images.initrd {
        Some(module) => Some(place_module(ram, module.bytes(), image.end)?),
        None => None,
    };
    place_info(config, ram, module)?;

    // Cpu::new gives the rest: flat 32-bit segments, paging and interrupts off.
    cpu.gpr[usize::from(gpr::RAX)] = LOADER_MAGIC.into();
    cpu.gpr[usize::from(gpr::RBX)] = INFO;
    cpu.rip = entry.into();
    Ok(())
}

/// Puts `module` on the first page after the kernel: its first byte and the
/// first after it.
fn place_module(ram: &Ram, module: &[u8], kernel_end: u64) -> Result<(u64, u64), Error> {
    let start = kernel_end.next_multiple_of(PAGE_BYTES);
    let end = start + module.len() as u64;
    if end > ram.size_bytes().min(memory::HOLE_START) {
        return Err(Error::MemoryTooSmall {
            what: "the kernel and its module",
            needed_bytes: end,
            memory_bytes: ram.size_bytes(),
        });
    }
    ram.write(Physical(start), module)?;
    Ok((start, end))
}

/// Section 3.3: the structure, and behind it what it points to.
fn place_info(config: &MachineConfig, ram: &Ram, module: Option<(u64, u64)>) -> Result<(), Error> {
    let mut info = vec![0u8; INFO_BYTES];
    let here = |info: &Vec<u8>| INFO as u32 + info.len() as u32;
    let mut flags = tells::MEMORY | tells::COMMAND_LINE | tells::MEMORY_MAP | tells::LOADER_NAME;

    let command_line = here(&info);
    info.extend(config.append.bytes().filter(|byte| *byte != 0).chain([0]));
    let loader_name = here(&info);
    info.extend(LOADER_NAME);
    info.resize(info.len().next_multiple_of(8), 0);
    let modules = here(&info);
    if let Some((start, end)) = module {
        flags |= tells::MODULES;
        for word in [start as u32, end as u32, command_line, 0] {
            info.extend(word.to_le_bytes());
        }
    }
    let memory_map = here(&info);
    for (start, bytes, kind) in linux::memory_map(ram) {
        // The size does not count itself.
        info.extend(20u32.to_le_bytes());
        info.extend(start.to_le_bytes());
        info.extend(bytes.to_le_bytes());
        info.extend(kind.to_le_bytes());
    }
    let memory_map_end = here(&info);
    let low_bytes = ram.size_bytes().min(memory::HOLE_START);
    let upper_kib = (low_bytes.saturating_sub(1 << 20) >> 10) as u32;
    let words = [
        (0, flags),
        (4, 639),
        (8, upper_kib),
        (16, command_line),
        (20, u32::from(module.is_some())),
        (24, modules),
        (44, memory_map_end - memory_map),
        (48, memory_map),
        (64, loader_name),
    ];
    for (at, word) in words {
        info[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let room = (INFO_END - INFO) as usize;
    if info.len() > room {
        let bytes_max = config.append.len().saturating_sub(info.len() - room);
        return Err(Error::CommandLine {
            bytes: config.append.len(),
            bytes_max,
        });
    }
    ram.write(Physical(INFO), &info)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A flat kernel that says where it goes: 1 MiB.
    fn flat_kernel() -> Vec<u8> {
        let flags = wants::ADDRESSES;
        let mut file = vec![0; 16];
        let words = [
            HEADER_MAGIC,
            flags,
            0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags),
            0x10_0010,
            0x10_0000,
            0,
            0x10_2000,
            0x10_0030,
        ];
        words
            .iter()
            .for_each(|word| file.extend(word.to_le_bytes()));
        file.extend([0xf4; 16]);
        file
    }

    #[test]
    fn a_flat_kernel_is_found_and_placed() {
        let file = flat_kernel();
        let header = Header::find(&file).expect("it has one");
        let image = header.image(&file).expect("its addresses make sense");
        assert_eq!(image.parts, [(0x10_0000, file.as_slice())]);
        assert_eq!((image.entry, image.end), (0x10_0030, 0x10_2000));
    }

    #[test]
    fn a_file_without_a_header_is_refused() {
        assert!(Header::find(b"no kernel").is_err());
        assert!(Header::find(&[]).is_err());
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(at in 0usize..40, bytes: [u8; 8], length in 0usize..64) {
            let mut file = flat_kernel();
            file[at..at + 8].copy_from_slice(&bytes);
            file.truncate(length);
            let _ = Header::find(&file).and_then(|header| header.image(&file).map(|_| ()));
        }
    }
}
