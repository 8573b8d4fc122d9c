//! The files of a partition, read by `ext4-view`.
//!
//! It checks what it reads, but believes some numbers before it has: how many
//! groups of blocks there are, and how large a block is. So these are looked at
//! first; and a window on the disk lets through only so many bytes in all, so
//! that no loop of pointers goes on for ever.

use std::error::Error;
use std::rc::Rc;

use ext4_view::{Ext4, Ext4Read};

use super::super::Base;
use super::partition::Partition;

/// Where the superblock is, its length, and the number that tells it.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;
/// Blocks have 1 KiB, 2, 4, and so on to 64.
const BLOCK_EXPONENT_MAX: u32 = 6;
/// A group has at least so many blocks: its bitmap is a block.
const GROUP_BLOCKS_MIN: u64 = 256;
/// The number of groups of the largest disk that we take, 16 TiB, with blocks
/// of 4 KiB.
const GROUPS_MAX: u64 = 1 << 17;
/// No kernel takes as much reading.
const BUDGET_BYTES: u64 = 4 << 30;
/// Nor are there as many files in `/boot`.
const NAMES_MAX: usize = 4096;

/// A partition of a disk, to be read.
pub(super) struct Window {
    base: Rc<dyn Base>,
    partition: Partition,
    /// So many bytes may still be read.
    budget: u64,
}

impl Window {
    pub(super) fn new(base: Rc<dyn Base>, partition: Partition) -> Window {
        Window {
            base,
            partition,
            budget: BUDGET_BYTES,
        }
    }

    /// Whether there is an ext2, ext3 or ext4 file system; an error if it is
    /// one that can't be.
    pub(super) fn has_file_system(&self) -> Result<bool, String> {
        if self.partition.bytes < SUPERBLOCK + SUPERBLOCK_BYTES as u64 {
            return Ok(false);
        }
        let mut block = [0; SUPERBLOCK_BYTES];
        let at = self.partition.start + SUPERBLOCK;
        self.base
            .read(at, &mut block)
            .map_err(|error| error.to_string())?;
        if u16::from_le_bytes([block[0x38], block[0x39]]) != MAGIC {
            return Ok(false);
        }
        let word = |at: usize| {
            let bytes = block[at..at + 4].try_into().expect("a range of 4");
            u32::from_le_bytes(bytes)
        };
        // Only with 64-bit block numbers has the high half a meaning; without,
        // it is zero.
        let blocks = u64::from(word(0x150)) << 32 | u64::from(word(4));
        let (exponent, group_blocks) = (word(0x18), u64::from(word(0x20)));
        let is_sane = exponent <= BLOCK_EXPONENT_MAX
            && group_blocks >= GROUP_BLOCKS_MIN
            && blocks.div_ceil(group_blocks) <= GROUPS_MAX;
        if is_sane {
            Ok(true)
        } else {
            Err("the file system's superblock is damaged".to_owned())
        }
    }
}

impl Ext4Read for Window {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let bytes = dst.len() as u64;
        let lies_inside = start_byte
            .checked_add(bytes)
            .is_some_and(|end| end <= self.partition.bytes);
        if !lies_inside {
            return Err("it points behind its partition's end".into());
        }
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or("its blocks lead in circles")?;
        Ok(self.base.read(self.partition.start + start_byte, dst)?)
    }
}

/// The files of a partition.
pub(super) struct Files(Ext4);

impl Files {
    pub(super) fn open(window: Window) -> Result<Files, String> {
        let opened = Ext4::load(Box::new(window));
        opened.map(Files).map_err(|error| error.to_string())
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.exists(path).unwrap_or(false)
    }

    /// The file at `path`, which is refused if it is longer than `bytes_max`.
    pub(super) fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let text = |error: ext4_view::Ext4Error| error.to_string();
        let mut file = self.0.open(path).map_err(text)?;
        let bytes = file.metadata().len();
        if bytes > bytes_max {
            return Err(format!("it has {bytes} bytes, and at most {bytes_max} fit"));
        }
        let mut contents = vec![0; bytes as usize];
        let mut filled = 0;
        // Each turn fills at least a byte, or is the last.
        while filled < contents.len() {
            match file.read_bytes(&mut contents[filled..]).map_err(text)? {
                0 => break,
                count => filled += count,
            }
        }
        contents.truncate(filled);
        Ok(contents)
    }

    /// The names in `folder` (the root is ""); none if it can't be read.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let path = if folder.is_empty() { "/" } else { folder };
        let Ok(entries) = self.0.read_dir(path) else {
            return Vec::new();
        };
        entries
            .take(NAMES_MAX)
            .map_while(Result::ok)
            .filter_map(|entry| entry.file_name().as_str().ok().map(str::to_owned))
            .collect()
    }
}
