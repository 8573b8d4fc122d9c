//! Whether the tables of a qcow2 image are all there (QEMU,
//! docs/interop/qcow2.txt).
//!
//! `imago` reads what lies behind the end of a file as zeros, which in a table
//! means "not written yet": an image that was cut off would read as if its
//! guest had never written. So the places of its tables are looked at first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The first bytes of every qcow2 image.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a header of version 2, and how far we read one of version 3.
const VERSION_2_BYTES: u64 = 72;
const VERSION_3_BYTES: usize = 80;
/// Features of version 3: the image was not closed properly, it is corrupt, its
/// data lie in another file.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
/// The bits of an entry of the first table that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The first table of the largest image that QEMU makes takes 32 MiB.
const ENTRIES_MAX: u32 = 4 << 20;

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not as it was written.
    Damaged(&'static str),
    /// It is of a kind that can't be read here.
    Unknown(&'static str),
}

/// Says what is wrong with the image in `file`; `None` for what is no qcow2
/// image, or a good one.
pub(super) fn flaw(file: &File) -> io::Result<Option<Flaw>> {
    let damaged = |what| Ok(Some(Flaw::Damaged(what)));
    let length = file.metadata()?.len();
    let mut header = [0; VERSION_3_BYTES];
    let there = length.min(VERSION_3_BYTES as u64) as usize;
    file.read_exact_at(&mut header[..there], 0)?;
    if !header.starts_with(&MAGIC) {
        return Ok(None);
    }
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let (version, cluster_bits, entries, table) = (word(4), word(20), word(36), long(40));
    if length < VERSION_2_BYTES || !(9..=21).contains(&cluster_bits) || entries > ENTRIES_MAX {
        return damaged("its header makes no sense");
    }
    if word(32) != 0 {
        return Ok(Some(Flaw::Unknown("encryption")));
    }
    let features = if version >= 3 { long(72) } else { 0 };
    if features & CORRUPT != 0 {
        return damaged("it is marked as corrupt");
    }
    if features & !(DIRTY | CORRUPT | DATA_FILE) != 0 {
        let what = "extended tables, another compression than zlib, or something newer";
        return Ok(Some(Flaw::Unknown(what)));
    }
    let reaches = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= length);
    if !reaches(table, 8 * u64::from(entries)) {
        return damaged("it is cut off in its first table");
    }
    let mut bytes = vec![0; 8 * entries as usize];
    file.read_exact_at(&mut bytes, table)?;
    let mut offsets = bytes.chunks_exact(8).map(|entry| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(entry);
        u64::from_be_bytes(bytes) & OFFSET
    });
    let is_cut = offsets.any(|offset| offset != 0 && !reaches(offset, 1 << cluster_bits));
    Ok(is_cut.then_some(Flaw::Damaged("it is cut off in one of its tables")))
}
