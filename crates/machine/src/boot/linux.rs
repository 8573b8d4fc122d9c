//! The Linux 64-bit boot protocol (kernel documentation, "The Linux/x86 Boot
//! Protocol", sections 1.14 and "Zero Page"): identity-mapped long mode, RSI at
//! the zero page.

use cpu::{Cpu, Segment};
use memory::Ram;
use x86::control::{cr0, cr4, efer, pte};
use x86::{PAGE_BYTES, Physical, gpr, seg};

use super::bzimage::{BzImage, field};
use super::elf::Elf;
use super::{kernel_error, payload};
use crate::{BootKind, Error, Image, Images, MachineConfig};

/// Where the loader puts its own things, below the kernel and the tables.
mod place {
    pub(super) const GDT: u64 = 0x1000;
    /// PML4, PDPT and four page directories: 4 GiB, mapped to themselves.
    pub(super) const PAGE_TABLES: u64 = 0x2000;
    pub(super) const ZERO_PAGE: u64 = 0x1_0000;
    pub(super) const SETUP_DATA: u64 = 0x1_1000;
    pub(super) const COMMAND_LINE: u64 = 0x2_0000;
    /// What may follow the command line.
    pub(super) const COMMAND_LINE_END: u64 = 0x3_0000;
    /// The end of low memory, where a PC's firmware keeps its data.
    pub(super) const LOW_END: u64 = 0x9_fc00;
    pub(super) const KERNEL_MIN: u64 = 0x10_0000;
}

/// Fields of the zero page that are not in the setup header.
mod zero_page {
    pub(super) const RSDP: usize = 0x70;
    pub(super) const E820_COUNT: usize = 0x1e8;
    pub(super) const E820: usize = 0x2d0;
}

/// Kinds of memory in the E820 map.
mod e820 {
    pub(super) const RAM: u32 = 1;
    pub(super) const RESERVED: u32 = 2;
}

/// setup_data: a seed for the random number generator.
const SETUP_RNG_SEED: u32 = 9;
/// type_of_loader: none that has a number.
const LOADER: u8 = 0xff;

/// `__BOOT_CS` and `__BOOT_DS`, and the descriptors there.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// The kernel in memory.
struct Placed {
    entry: u64,
    /// First byte that is free again.
    end: u64,
}

/// Loads the kernel and what it asks for, and makes `cpu` about to enter it.
pub(super) fn load(
    config: &MachineConfig,
    images: &Images,
    tables_at: Physical,
    cpu: &mut Cpu,
) -> Result<(), Error> {
    let ram = &cpu.ram;
    let file = images.kernel.bytes();
    let mut page = vec![0u8; PAGE_BYTES as usize];
    let (placed, command_line_max, initrd_last) = if Elf::is_one(file) {
        // A bare vmlinux tells nothing of itself: the limits are those of all.
        page[field::BOOT_FLAG..][..2].copy_from_slice(&[0x55, 0xaa]);
        page[field::MAGIC..][..6].copy_from_slice(b"HdrS\x0f\x02");
        page[field::LOAD_FLAGS] = 1;
        (place_vmlinux(ram, file, 0)?, 2047, u32::MAX >> 1)
    } else {
        let image = BzImage::parse(file).map_err(kernel_error)?;
        let header_end = field::SETUP_SECTORS + image.header.len();
        page[field::SETUP_SECTORS..header_end].copy_from_slice(image.header);
        let placed = if config.boot == BootKind::LinuxEntry {
            place_bzimage(ram, &image)?
        } else {
            let kernel = payload::decompress(image.payload)?;
            place_vmlinux(ram, &kernel, u64::from(image.init_bytes))?
        };
        (placed, image.command_line_max, image.initrd_last)
    };

    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(field::TYPE_OF_LOADER, &[LOADER]);
    put(field::CODE32_START, &(placed.entry as u32).to_le_bytes());
    put(
        field::COMMAND_LINE_AT,
        &(place::COMMAND_LINE as u32).to_le_bytes(),
    );
    put(field::SETUP_DATA, &place::SETUP_DATA.to_le_bytes());
    put(zero_page::RSDP, &tables_at.0.to_le_bytes());
    if let Some(initrd) = images.initrd.as_ref().map(Image::bytes) {
        let at = place_initrd(ram, initrd, placed.end, initrd_last)?;
        put(field::INITRD_AT, &(at as u32).to_le_bytes());
        put(field::INITRD_BYTES, &(initrd.len() as u32).to_le_bytes());
    }
    let map = memory_map(ram);
    put(zero_page::E820_COUNT, &[map.len() as u8]);
    for (n, (start, bytes, kind)) in map.into_iter().enumerate() {
        let at = zero_page::E820 + 20 * n;
        put(at, &start.to_le_bytes());
        put(at + 8, &bytes.to_le_bytes());
        put(at + 16, &kind.to_le_bytes());
    }

    place_command_line(ram, &config.append, command_line_max)?;
    ram.write(Physical(place::SETUP_DATA), &rng_seed(&config.rng_seed))?;
    ram.write(Physical(place::ZERO_PAGE), &page)?;
    enter_long_mode(cpu, placed.entry)
}

/// The E820 map: a PC's, with our tables where its firmware would be.
pub(super) fn memory_map(ram: &Ram) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, place::LOW_END, e820::RAM),
        (place::LOW_END, 0xa_0000 - place::LOW_END, e820::RESERVED),
        (0xe_0000, 0x2_0000, e820::RESERVED),
    ];
    for (start, bytes) in ram.ranges() {
        let first = start.0.max(place::KERNEL_MIN);
        map.push((first, (start.0 + bytes).saturating_sub(first), e820::RAM));
    }
    map.retain(|entry| entry.1 > 0);
    map
}

/// RAM below the hole, in bytes.
fn low_bytes(ram: &Ram) -> u64 {
    ram.size_bytes().min(memory::HOLE_START)
}

fn check_room(ram: &Ram, what: &'static str, end: u64) -> Result<(), Error> {
    if end <= low_bytes(ram) {
        return Ok(());
    }
    Err(Error::MemoryTooSmall {
        what,
        needed_bytes: end,
        memory_bytes: ram.size_bytes(),
    })
}

fn place_vmlinux(ram: &Ram, file: &[u8], init_bytes: u64) -> Result<Placed, Error> {
    let elf = Elf::parse(file).map_err(kernel_error)?;
    if !elf.is_64_bit {
        return Err(kernel_error(
            "it is a 32-bit ELF file: give a 64-bit Linux kernel, or boot it by Multiboot",
        ));
    }
    let (start, end) = elf
        .range()
        .ok_or_else(|| kernel_error("a segment wraps around"))?;
    if start < place::KERNEL_MIN || !(start..end).contains(&elf.entry) {
        return Err(kernel_error(
            "its segments or its entry lie where no Linux kernel's do",
        ));
    }
    // The kernel's own figure counts what it takes behind its image.
    let end = end.max(start.saturating_add(init_bytes));
    check_room(ram, "the kernel", end)?;
    for segment in &elf.segments {
        ram.write(Physical(segment.at), segment.bytes)?;
    }
    Ok(Placed {
        entry: elf.entry,
        end,
    })
}

fn place_bzimage(ram: &Ram, image: &BzImage<'_>) -> Result<Placed, Error> {
    let at = image.preferred_at;
    let bytes = u64::from(image.init_bytes).max(image.kernel.len() as u64);
    let end = at.checked_add(bytes).filter(|_| at >= place::KERNEL_MIN);
    let end = end.ok_or_else(|| kernel_error("it wants to be where no Linux kernel can be"))?;
    check_room(ram, "the kernel", end)?;
    ram.write(Physical(at), image.kernel)?;
    Ok(Placed {
        entry: at + 0x200,
        end,
    })
}

/// As high as it may lie: kernels grow upwards.
fn place_initrd(ram: &Ram, initrd: &[u8], kernel_end: u64, last: u32) -> Result<u64, Error> {
    let bytes = initrd.len() as u64;
    let end = low_bytes(ram).min(u64::from(last) + 1) & x86::PAGE_MASK;
    let at = end.checked_sub(bytes).map(|at| at & x86::PAGE_MASK);
    match at.filter(|at| *at >= kernel_end) {
        Some(at) => {
            ram.write(Physical(at), initrd)?;
            Ok(at)
        }
        None => Err(Error::MemoryTooSmall {
            what: "the kernel and its initrd",
            needed_bytes: (kernel_end + bytes).next_multiple_of(PAGE_BYTES) + PAGE_BYTES,
            memory_bytes: ram.size_bytes(),
        }),
    }
}

fn place_command_line(ram: &Ram, line: &str, kernel_max: u32) -> Result<(), Error> {
    let room = place::COMMAND_LINE_END - place::COMMAND_LINE - 1;
    let bytes_max = room.min(kernel_max.into()) as usize;
    let bytes = line.len();
    if bytes > bytes_max {
        return Err(Error::CommandLine { bytes, bytes_max });
    }
    if line.contains('\0') {
        let reason = "the kernel's command line has a zero byte in it".into();
        return Err(Error::Config { reason });
    }
    let terminated: Vec<u8> = line.bytes().chain([0]).collect();
    ram.write(Physical(place::COMMAND_LINE), &terminated)?;
    Ok(())
}

fn rng_seed(seed: &[u8; 32]) -> Vec<u8> {
    let mut data = 0u64.to_le_bytes().to_vec();
    data.extend(SETUP_RNG_SEED.to_le_bytes());
    data.extend((seed.len() as u32).to_le_bytes());
    data.extend(seed);
    data
}

fn enter_long_mode(cpu: &mut Cpu, entry: u64) -> Result<(), Error> {
    let descriptors: Vec<u8> = DESCRIPTORS.iter().flat_map(|d| d.to_le_bytes()).collect();
    cpu.ram.write(Physical(place::GDT), &descriptors)?;
    let table = |n: u64| place::PAGE_TABLES + n * PAGE_BYTES;
    let put = |at: u64, entry: u64| cpu.ram.write(Physical(at), &entry.to_le_bytes());
    put(table(0), table(1) | pte::P | pte::RW)?;
    for gib in 0..4 {
        put(table(1) + 8 * gib, table(2 + gib) | pte::P | pte::RW)?;
        for n in 0..512 {
            let at = gib << 30 | n << 21;
            put(table(2 + gib) + 8 * n, at | pte::P | pte::RW | pte::PS)?;
        }
    }

    cpu.gdtr = Segment::table(place::GDT, (descriptors.len() - 1) as u32);
    cpu.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::PG;
    cpu.cr3 = place::PAGE_TABLES;
    cpu.cr4 = cr4::PAE;
    cpu.efer = efer::LME | efer::LMA;
    let data = Segment {
        selector: DATA_SELECTOR,
        ..cpu.segments[usize::from(seg::DS)]
    };
    for number in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        cpu.segments[usize::from(number)] = data;
    }
    let code = &mut cpu.segments[usize::from(seg::CS)];
    code.selector = CODE_SELECTOR;
    code.rights |= cpu::segment::rights::L;
    code.rights &= !cpu::segment::rights::DB;
    cpu.gpr[usize::from(gpr::RSI)] = place::ZERO_PAGE;
    cpu.rip = entry;
    Ok(())
}
