//! Partitions: GPT (UEFI 2.10, chapter 5) and MBR's four primary ones.

use super::super::Base;
use devices::SECTOR_BYTES;

/// GPT: a table has at most so many entries here; the usual number is 128.
const ENTRIES_MAX: u32 = 1024;
/// An entry has 128 bytes, or a power of two more.
const ENTRY_BYTES: std::ops::RangeInclusive<u32> = 128..=4096;

/// A stretch of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// As the guest's kernel counts; 0 is the disk as a whole.
    number: u32,
    /// Where it begins, in bytes.
    pub(super) start: u64,
    /// Its length.
    pub(super) bytes: u64,
}

impl Partition {
    /// What Linux calls it on the first disk of a machine.
    pub(super) fn device(self) -> String {
        match self.number {
            0 => "/dev/vda".to_owned(),
            number => format!("/dev/vda{number}"),
        }
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            0 => f.write_str("the whole disk"),
            number => write!(f, "partition {number}"),
        }
    }
}

/// What of `disk` may hold a file system: its partitions, or all of it. What
/// can't be read, or is nonsense, is none.
pub(super) fn list(disk: &dyn Base) -> Vec<Partition> {
    let whole = Partition {
        number: 0,
        start: 0,
        bytes: disk.bytes(),
    };
    let mut sector = [0; SECTOR_BYTES as usize];
    if disk.read(0, &mut sector).is_err() || sector[510..] != [0x55, 0xaa] {
        return vec![whole];
    }
    let mut found = gpt(disk).unwrap_or_else(|| mbr(&sector));
    found.retain(|partition| {
        let end = partition.start.checked_add(partition.bytes);
        partition.start > 0 && partition.bytes > 0 && end.is_some_and(|end| end <= disk.bytes())
    });
    // A boot sector without a table, as a file system may have one.
    if found.is_empty() { vec![whole] } else { found }
}

/// The partitions of a GPT; `None` if there is none.
fn gpt(disk: &dyn Base) -> Option<Vec<Partition>> {
    let mut header = [0; SECTOR_BYTES as usize];
    disk.read(SECTOR_BYTES, &mut header).ok()?;
    if !header.starts_with(b"EFI PART") {
        return None;
    }
    let table = long(&header, 72).checked_mul(SECTOR_BYTES)?;
    let (count, entry_bytes) = (word(&header, 80), word(&header, 84));
    if !ENTRY_BYTES.contains(&entry_bytes) || !entry_bytes.is_power_of_two() {
        return None;
    }
    let entries = (0..count.min(ENTRIES_MAX)).map_while(|index| {
        let mut entry = [0; 128];
        let at = table.checked_add(u64::from(index) * u64::from(entry_bytes))?;
        disk.read(at, &mut entry).ok()?;
        Some((index, entry))
    });
    let partitions = entries.filter_map(|(index, entry)| {
        let (first, last) = (long(&entry, 32), long(&entry, 40));
        // A type of zeros is an entry that is not used.
        let is_used = entry[..16] != [0; 16];
        is_used.then_some(())?;
        Some(Partition {
            number: index + 1,
            start: first.checked_mul(SECTOR_BYTES)?,
            bytes: last
                .checked_sub(first)?
                .checked_add(1)?
                .checked_mul(SECTOR_BYTES)?,
        })
    });
    Some(partitions.collect())
}

/// The primary partitions in the boot sector.
fn mbr(sector: &[u8; SECTOR_BYTES as usize]) -> Vec<Partition> {
    let entries = sector[446..510].chunks_exact(16).zip(1..);
    let partitions = entries.map(|(entry, number)| Partition {
        number,
        start: u64::from(word(entry, 8)) * SECTOR_BYTES,
        bytes: u64::from(word(entry, 12)) * SECTOR_BYTES,
    });
    partitions.collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    (0..4)
        .rev()
        .fold(0, |value, n| value << 8 | u32::from(bytes[at + n]))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at + 4)) << 32 | u64::from(word(bytes, at))
}
