//! Disks as distributions lay them out, and disks that somebody has damaged.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const GRUB: &str = "set default=\"0\"\n\
    menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'x' {\n\
    \tsearch --no-floppy --fs-uuid --set=root 1234\n\
    \techo 'Loading Linux 6.1.0-9-amd64 ...'\n\
    \tlinux   /boot/vmlinuz-6.1.0-9-amd64 root=PARTUUID=77 ro console=tty0 $extra\n\
    \tinitrd  /boot/initrd.img-6.1.0-9-amd64\n\
    }\n\
    submenu 'more' {\n menuentry 'b' {\n linux /boot/other x\n }\n }\n";

/// Two kernels, of which the one with the greater number is the newer.
const KERNELS: [(&str, &str); 4] = [
    ("boot/vmlinuz-6.1.0-9-amd64", "the older kernel"),
    ("boot/initrd.img-6.1.0-9-amd64", "the older disk"),
    ("boot/vmlinuz-6.1.0-48-amd64", "the newer kernel"),
    ("boot/initrd.img-6.1.0-48-amd64", "the newer disk"),
];

/// An ext4 file system with `files`, of 8 MiB.
fn file_system(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("there is room");
    let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
    for (path, text) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("it lies in the tree")).expect("there is room");
        fs::write(path, text).expect("there is room");
    }
    let mut make = Command::new("mke2fs");
    make.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    make.args(["-q", "-t", "ext4", "-d"]);
    let made = make.arg(&tree).arg(&image).arg("8M").output();
    let made = made.expect("e2fsprogs is there: apt-get install e2fsprogs");
    assert!(made.status.success());
    fs::read(&image).expect("it was made")
}

/// A disk with a GPT, on which `contents` is partition `number`.
fn with_gpt(contents: &[u8], number: usize) -> Vec<u8> {
    let mut disk = vec![0; 2048 * 512];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0xee;
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72] = 2;
    disk[512 + 80] = 128;
    disk[512 + 84] = 128;
    let entry = &mut disk[1024 + 128 * (number - 1)..][..128];
    entry[..16].fill(0x11);
    entry[32..40].copy_from_slice(&2048u64.to_le_bytes());
    let last = 2048 + contents.len() as u64 / 512 - 1;
    entry[40..48].copy_from_slice(&last.to_le_bytes());
    disk.extend(contents);
    disk
}

/// A disk with an MBR, on which `contents` is partition 2.
fn with_mbr(contents: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; 2048 * 512];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let entry = &mut disk[446 + 16..][..16];
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&2048u32.to_le_bytes());
    let sectors = u32::try_from(contents.len() / 512).expect("it is small");
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    disk.extend(contents);
    disk
}

fn boot(disk: &[u8], append: Option<&str>) -> Result<Bootable, BootError> {
    let mut file = tempfile::NamedTempFile::new().expect("there is room");
    file.write_all(disk).expect("there is room");
    let image = Image::open(file.path(), Some(super::super::Format::Raw));
    bootable(&image.expect("it was just made"), append)
}

#[track_caller]
fn boots(disk: &[u8], kernel: &str, append: &str) {
    let found = boot(disk, None).expect("it has a kernel");
    assert_eq!(found.kernel, format!("the {kernel} kernel").into_bytes());
    let initrd = format!("the {kernel} disk").into_bytes();
    assert_eq!(found.initrd, Some(initrd));
    assert_eq!(found.append, append);
}

#[test]
fn the_newest_kernel_of_a_whole_disk_is_found() {
    let disk = file_system(&KERNELS);
    boots(&disk, "newer", "root=/dev/vda ro console=ttyS0");
}

#[test]
fn what_grub_starts_is_started_on_every_kind_of_partition() {
    let files = [&KERNELS[..], &[("boot/grub/grub.cfg", GRUB)]].concat();
    let files = file_system(&files);
    let append = "root=PARTUUID=77 ro console=tty0 console=ttyS0";
    boots(&files, "older", append);
    boots(&with_gpt(&files, 1), "older", append);
    boots(&with_mbr(&files), "older", append);
}

#[test]
fn without_grub_the_partition_is_the_root() {
    let files = file_system(&KERNELS);
    boots(
        &with_gpt(&files, 3),
        "newer",
        "root=/dev/vda3 ro console=ttyS0",
    );
    boots(
        &with_mbr(&files),
        "newer",
        "root=/dev/vda2 ro console=ttyS0",
    );
}

#[test]
fn a_kernel_that_grub_names_and_is_not_there_is_not_started() {
    let files = [&KERNELS[2..], &[("boot/grub/grub.cfg", GRUB)]].concat();
    boots(
        &file_system(&files),
        "newer",
        "root=/dev/vda ro console=ttyS0",
    );
}

#[test]
fn a_partition_for_boot_needs_to_be_told_the_root() {
    let files = [("vmlinuz-6.1", "the kernel"), ("initrd-6.1", "the disk")];
    let disk = with_gpt(&file_system(&files), 1);
    assert!(matches!(boot(&disk, None), Err(BootError::NoRoot { .. })));
    let found = boot(&disk, Some("root=/dev/vda2")).expect("it was told");
    assert_eq!(found.append, "root=/dev/vda2");
    assert_eq!(found.initrd.as_deref(), Some(&b"the disk"[..]));
}

#[test]
fn a_disk_without_a_kernel_and_one_without_a_file_system_say_so() {
    let none = boot(&file_system(&[("etc/x", "")]), None);
    assert!(matches!(none, Err(BootError::NoKernel { .. })), "{none:?}");
    let empty = boot(&[0; 1 << 20], None);
    assert!(matches!(empty, Err(BootError::NoFileSystem { .. })));
    let small = boot(&[0; 512], None);
    assert!(matches!(small, Err(BootError::NoFileSystem { .. })));
}

#[test]
fn a_superblock_that_alleges_too_much_is_refused() {
    let mut disk = file_system(&KERNELS);
    // So many groups that their list would fill memory.
    disk[1024 + 4..1024 + 8].fill(0xff);
    disk[1024 + 0x20..1024 + 0x24].copy_from_slice(&1u32.to_le_bytes());
    let refused = boot(&disk, None).expect_err("it is damaged");
    assert!(refused.to_string().contains("superblock"), "{refused}");
}

/// Where damage counts: the tables at the start of a file system.
const TABLES_BYTES: usize = 128 << 10;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_is_an_error_at_worst(
        damages in prop::collection::vec((0..TABLES_BYTES, any::<u8>()), 1..40),
        is_partitioned: bool,
    ) {
        static FILES: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| file_system(&KERNELS));
        let mut disk = FILES.clone();
        // Without checksums, so that more of it is believed.
        disk[1024 + 0x65] &= !4;
        for (at, byte) in &damages {
            disk[*at] = *byte;
        }
        let disk = if is_partitioned { with_gpt(&disk, 1) } else { disk };
        let _ = boot(&disk, None);
    }

    #[test]
    fn any_tables_are_partitions_or_none(bytes in prop::collection::vec(any::<u8>(), 1536..4096)) {
        let mut disk = bytes;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[512..520].copy_from_slice(b"EFI PART");
        let _ = boot(&disk, None);
    }

    #[test]
    fn any_text_is_a_configuration_or_none(text in ".{0,200}", cut in 0..GRUB.len()) {
        let _ = grub::first(text.as_bytes());
        let _ = grub::first(&GRUB.as_bytes()[..cut]);
    }
}

#[test]
fn grub_s_words_are_understood() {
    let first = |text: &str| grub::first(text.as_bytes());
    let found =
        first("menuentry a {\nlinuxefi ($root)/vmlinuz quiet\n}\ninitrd /x").expect("plain");
    assert_eq!(found.kernel, "/vmlinuz");
    assert_eq!(found.initrd, None);
    assert_eq!(found.append.as_deref(), Some("quiet"));
    for text in [
        "",
        "linux /vmlinuz",
        "menuentry {\nlinux vmlinuz\n}",
        "menuentry\nlinux (a /b",
    ] {
        assert_eq!(first(text), None, "{text}");
    }
}
