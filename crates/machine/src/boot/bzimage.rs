//! The bzImage: a Linux kernel as distributions ship it (kernel documentation,
//! "The Linux/x86 Boot Protocol").

use super::bytes::{array_at, slice_at, u16_at, u32_at, u64_at};

/// The first version that tells whether there is a 64-bit entry.
const VERSION_MIN: u16 = 0x020c;
const SECTOR: u64 = 512;

/// Offsets of the fields, in the file as in the zero page.
pub(crate) mod field {
    pub(crate) const SETUP_SECTORS: usize = 0x1f1;
    pub(crate) const BOOT_FLAG: usize = 0x1fe;
    /// The second byte of a jump over the header: its length from here.
    pub(crate) const JUMP: usize = 0x201;
    pub(crate) const MAGIC: usize = 0x202;
    pub(crate) const VERSION: usize = 0x206;
    pub(crate) const TYPE_OF_LOADER: usize = 0x210;
    pub(crate) const LOAD_FLAGS: usize = 0x211;
    pub(crate) const CODE32_START: usize = 0x214;
    pub(crate) const INITRD_AT: usize = 0x218;
    pub(crate) const INITRD_BYTES: usize = 0x21c;
    pub(crate) const COMMAND_LINE_AT: usize = 0x228;
    pub(crate) const INITRD_LAST: usize = 0x22c;
    pub(crate) const XLOAD_FLAGS: usize = 0x236;
    pub(crate) const COMMAND_LINE_MAX: usize = 0x238;
    pub(crate) const PAYLOAD_OFFSET: usize = 0x248;
    pub(crate) const PAYLOAD_BYTES: usize = 0x24c;
    pub(crate) const SETUP_DATA: usize = 0x250;
    pub(crate) const PREFERRED_AT: usize = 0x258;
    pub(crate) const INIT_BYTES: usize = 0x260;
}

/// A bzImage whose header has been checked.
#[derive(Clone, Debug)]
pub(crate) struct BzImage<'a> {
    /// The setup header: what stands at 0x1f1 of the zero page.
    pub(crate) header: &'a [u8],
    /// The protected-mode part: it is loaded, and entered 0x200 bytes in.
    pub(crate) kernel: &'a [u8],
    /// The compressed `vmlinux` in it.
    pub(crate) payload: &'a [u8],
    /// Longest command line, in bytes, without the zero at its end.
    pub(crate) command_line_max: u32,
    /// The last address that the initrd may take.
    pub(crate) initrd_last: u32,
    /// Where it wants to be.
    pub(crate) preferred_at: u64,
    /// How much memory it takes from there until it knows the memory map.
    pub(crate) init_bytes: u32,
}

impl<'a> BzImage<'a> {
    /// Whether `file` says that it is one.
    pub(crate) fn is_one(file: &[u8]) -> bool {
        array_at(file, field::MAGIC) == Some(*b"HdrS")
    }

    /// Reads the header of `file`; the error says what is wrong.
    pub(crate) fn parse(file: &'a [u8]) -> Result<BzImage<'a>, &'static str> {
        const CUT: &str = "it is cut off: give the whole file";
        if !BzImage::is_one(file) || u16_at(file, field::BOOT_FLAG) != Some(0xaa55) {
            return Err("it is no Linux kernel image: give a bzImage (vmlinuz) or an ELF vmlinux");
        }
        if u16_at(file, field::VERSION).ok_or(CUT)? < VERSION_MIN {
            return Err("it is older than Linux 3.8: give a newer one");
        }
        if u16_at(file, field::XLOAD_FLAGS).ok_or(CUT)? & 1 == 0 {
            return Err("it is a 32-bit kernel: give a 64-bit one");
        }
        let jump = usize::from(*file.get(field::JUMP).ok_or(CUT)?);
        let header = file
            .get(field::SETUP_SECTORS..field::MAGIC + jump)
            .ok_or(CUT)?;
        let number = |at: usize| u32_at(file, at).ok_or(CUT);
        // 0 means 4, for images of another age.
        let sectors = match file.get(field::SETUP_SECTORS).ok_or(CUT)? {
            0 => 4,
            sectors => u64::from(*sectors),
        };
        let start = usize::try_from((sectors + 1) * SECTOR).map_err(|_| CUT)?;
        let kernel = file.get(start..).ok_or(CUT)?;
        let payload_offset = number(field::PAYLOAD_OFFSET)?;
        let payload_bytes = number(field::PAYLOAD_BYTES)?;
        let payload = slice_at(kernel, payload_offset.into(), payload_bytes.into()).ok_or(CUT)?;
        if kernel.len() <= 0x200 {
            return Err(CUT);
        }
        Ok(BzImage {
            header,
            kernel,
            payload,
            command_line_max: number(field::COMMAND_LINE_MAX)?,
            initrd_last: number(field::INITRD_LAST)?,
            preferred_at: u64_at(file, field::PREFERRED_AT).ok_or(CUT)?,
            init_bytes: number(field::INIT_BYTES)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bzImage around `payload`, as the kernel's build makes it.
    pub(crate) fn file_with(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1024 + 0x400];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::SETUP_SECTORS, &[1]);
        put(field::BOOT_FLAG, &[0x55, 0xaa, 0xeb, 0x66]);
        put(field::MAGIC, b"HdrS\x0f\x02");
        put(field::LOAD_FLAGS, &[1]);
        put(field::INITRD_LAST, &0x7fff_ffffu32.to_le_bytes());
        put(field::XLOAD_FLAGS, &[0x3f, 0]);
        put(field::COMMAND_LINE_MAX, &2047u32.to_le_bytes());
        put(field::PAYLOAD_OFFSET, &0x400u32.to_le_bytes());
        put(
            field::PAYLOAD_BYTES,
            &u32::try_from(payload.len()).expect("small").to_le_bytes(),
        );
        put(field::PREFERRED_AT, &0x100_0000u64.to_le_bytes());
        put(field::INIT_BYTES, &0x10_0000u32.to_le_bytes());
        file.extend(payload);
        file
    }

    #[test]
    fn the_parts_of_an_image_are_found() {
        let file = file_with(b"payload");
        let image = BzImage::parse(&file).expect("a good image");
        assert_eq!(image.payload, b"payload");
        assert_eq!(image.header.len(), 0x268 - 0x1f1);
        assert_eq!(image.command_line_max, 2047);
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        assert!(BzImage::parse(b"#!/bin/sh\n").is_err());
        assert!(BzImage::parse(&[]).is_err());
    }

    proptest! {
        #[test]
        fn an_image_that_is_cut_is_refused(cut in 1usize..0x807) {
            let file = file_with(b"payload");
            prop_assert!(BzImage::parse(&file[..file.len() - cut]).is_err());
        }

        #[test]
        fn no_image_breaks_it(at in 0x1f1usize..0x264, bytes: [u8; 8]) {
            let mut file = file_with(b"payload");
            file[at..at + 8].copy_from_slice(&bytes);
            let _ = BzImage::parse(&file);
        }
    }
}
