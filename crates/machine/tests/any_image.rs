//! Any bytes as an image: what the fuzz targets do, with property tests.

#[path = "../../../fuzz/bodies/images.rs"]
mod body;
mod kernels;

use machine::BootKind;
use proptest::prelude::*;

/// A good bzImage with `payload` in it: what the kernel's build makes.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x800];
    let bytes = u32::try_from(payload.len()).expect("small").to_le_bytes();
    let fields: [(usize, &[u8]); 9] = [
        (0x1f1, &[1]),
        (0x1fe, &[0x55, 0xaa, 0xeb, 0x66]),
        (0x202, b"HdrS\x0f\x02"),
        (0x22c, &[0xff, 0xff, 0xff, 0x7f]),
        (0x236, &[0x3f, 0, 0xff, 0x07]),
        (0x248, &[0, 4]),
        (0x24c, &bytes),
        (0x258, &[0, 0, 0, 1]),
        (0x260, &[0, 0, 0x10]),
    ];
    fields
        .iter()
        .for_each(|(at, bytes)| file[*at..at + bytes.len()].copy_from_slice(bytes));
    file.extend(payload);
    file
}

proptest! {
    #[test]
    fn altered_bzimages_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..64),
        changes in prop::collection::vec((0x1f0usize..0x268, any::<u8>()), 0..4),
    ) {
        let mut file = bzimage(&payload);
        changes.iter().for_each(|(at, byte)| file[*at] = *byte);
        body::boot(&file, BootKind::Linux);
        body::boot(&file, BootKind::LinuxEntry);
    }

    #[test]
    fn altered_payloads_never_panic(
        start in prop::sample::select(vec![&b"\x7fELF\x02\x01\x01"[..], b"\xfd7zXZ\0", b"\x02\x21\x4c\x18"]),
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        // The size that the payload alleges: small, or each case takes long.
        body::boot(&bzimage(&[start, &rest, &[0, 0, 1, 0]].concat()), BootKind::Linux);
    }

    #[test]
    fn altered_multiboot_kernels_never_panic(
        changes in prop::collection::vec((0usize..0x40, any::<u8>()), 0..6),
        length in 0usize..0x10c,
    ) {
        let mut file = kernels::TICKS.to_vec();
        changes.iter().for_each(|(at, byte)| file[*at] = *byte);
        file.truncate(length);
        body::boot(&file, BootKind::Multiboot);
    }
}
