//! Disks against a plain vector, and images against what a user may hold.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// Three clusters and a half, and a little less than a sector.
const BYTES: usize = 3 * 4096 + 2048 + 100;

fn content() -> Vec<u8> {
    (0..BYTES).map(|n| (n / 256) as u8 + 1).collect()
}

fn image(bytes: &[u8]) -> (tempfile::NamedTempFile, Image) {
    let mut file = tempfile::NamedTempFile::new().expect("there is room");
    file.write_all(bytes).expect("there is room");
    let image = Image::open(file.path(), None).expect("it was just made");
    (file, image)
}

/// What is done to a disk; places and lengths in sectors.
#[derive(Clone, Debug)]
enum Act {
    Read(u64, u64),
    Write(u64, u64, u8),
    Zero(u64, u64),
    Mark,
}

const SECTORS: u64 = (BYTES as u64).div_ceil(512);

fn act() -> impl Strategy<Value = Act> {
    let range = || (0..SECTORS).prop_flat_map(|at| (Just(at), 0..=SECTORS - at));
    prop_oneof![
        4 => range().prop_map(|(at, count)| Act::Read(at, count)),
        6 => (range(), any::<u8>()).prop_map(|((at, count), byte)| Act::Write(at, count, byte)),
        2 => range().prop_map(|(at, count)| Act::Zero(at, count)),
        1 => Just(Act::Mark),
    ]
}

fn all_of(disk: &mut Disk) -> Vec<u8> {
    let mut found = vec![0xee; 512 * SECTORS as usize];
    disk.read(0, &mut found).expect("there is nothing amiss");
    found
}

proptest! {
    #[test]
    fn a_disk_is_a_vector_and_each_mark_can_be_had_again(
        acts in prop::collection::vec(act(), 0..60)
    ) {
        let (file, image) = image(&content());
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("0");
        let mut disk = Disk::new(image, Overlay::create(&path).expect("there is room"));
        let mut expected = content();
        expected.resize(512 * SECTORS as usize, 0);
        let mut marks = Vec::new();
        for act in acts {
            match act {
                Act::Read(at, count) => {
                    let mut found = vec![0xee; 512 * count as usize];
                    disk.read(512 * at, &mut found).expect("there is nothing amiss");
                    let at = 512 * at as usize;
                    prop_assert_eq!(&found[..], &expected[at..at + found.len()]);
                }
                Act::Write(at, count, byte) => {
                    let bytes: Vec<u8> = (0..512 * count).map(|n| byte ^ (n / 64) as u8).collect();
                    disk.write(512 * at, &bytes).expect("there is room");
                    let at = 512 * at as usize;
                    expected[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                Act::Zero(at, count) => {
                    disk.zero(512 * at, 512 * count).expect("there is room");
                    expected[512 * at as usize..][..512 * count as usize].fill(0);
                }
                Act::Mark => marks.push((disk.mark().expect("there is room"), expected.clone())),
            }
        }
        prop_assert_eq!(all_of(&mut disk), expected);
        for (position, then) in marks {
            let overlay = Overlay::open_at(&path, position).expect("it was marked");
            let base = Image::open(file.path(), None).expect("it is there");
            prop_assert_eq!(all_of(&mut Disk::new(base, overlay)), then);
        }
        prop_assert_eq!(std::fs::read(file.path()).expect("it is there"), content());
    }
}

mod qcow2_images;

#[test]
fn a_digest_is_that_of_the_file_and_an_embedded_copy_has_the_same() {
    let mut bytes = vec![0; 3 << 20];
    bytes[5000] = 1;
    bytes[2_500_000..2_500_512].fill(7);
    let (_file, image) = image(&bytes);
    let mut calls = 0;
    let digest = image
        .digest(&mut |_, _| calls += 1)
        .expect("it can be read");
    assert_eq!(digest, seal::Digest::of(&bytes));
    assert_eq!(calls, 3);
    let folder = tempfile::tempdir().expect("there is room");
    let copy = folder.path().join("disk0");
    image.embed(&copy, &mut |_, _| ()).expect("there is room");
    assert_eq!(std::fs::read(&copy).expect("it was made"), bytes);
}

#[test]
fn a_part_of_a_sector_at_the_end_is_filled_with_zeros() {
    let (_file, image) = image(&[9; 700]);
    assert_eq!(image.sectors(), 2);
    let padded = [&[9; 700][..], &[0; 324]].concat();
    assert_eq!(
        image.digest(&mut |_, _| ()).expect("it can be read"),
        seal::Digest::of(&padded)
    );
}

#[test]
fn an_image_that_is_changed_meanwhile_is_found() {
    let (mut file, image) = image(&[9; 1024]);
    let stamps = image.stamps().clone();
    assert!(stamps.check().is_ok());
    file.write_all(&[1; 512]).expect("there is room");
    assert!(matches!(stamps.check(), Err(Error::Changed(_))));
    assert!(matches!(
        image.digest(&mut |_, _| ()),
        Err(Error::Changed(_))
    ));
}

#[test]
fn another_image_is_told_apart() {
    let (_file, image) = image(&[9; 1024]);
    let expected = seal::Digest::of(&[8; 1024]);
    let refused = image.check(expected, &mut |_, _| ());
    assert!(matches!(refused, Err(Error::Other { .. })));
}

#[test]
fn an_image_that_is_cut_off_meanwhile_fails_the_disk_and_says_where() {
    let (file, image) = image(&[9; 8192]);
    let mut disk = Disk::new(image, Overlay::scratch().expect("there is room"));
    file.as_file().set_len(4096).expect("it is ours");
    let failed = disk
        .read(0, &mut [0; 8192])
        .expect_err("half of it is gone");
    assert!(failed.0.contains("can't be read at byte 0"), "{failed}");
}

#[test]
fn a_full_overlay_says_what_to_do() {
    let full = || File::options().read(true).write(true).open("/dev/full");
    let (_file, image) = image(&[9; 8192]);
    let mut overlay = Overlay::scratch().expect("there is room");
    overlay.replace_data(full().expect("Linux has it"));
    let mut disk = Disk::new(image, overlay);
    let failed = disk.write(0, &[1; 4096]).expect_err("it is full");
    assert!(failed.0.contains("make room there"), "{failed}");
}

#[test]
fn what_is_no_image_is_refused() {
    let open = |path: &str| Image::open(Path::new(path), None);
    assert!(matches!(open("/nonexistent"), Err(Error::Read { .. })));
    assert!(matches!(open("/"), Err(Error::Kind { .. })));
    assert!(matches!(open("/dev/null"), Err(Error::Kind { .. })));
    let empty = tempfile::NamedTempFile::new().expect("there is room");
    let refused = Image::open(empty.path(), None);
    assert!(matches!(refused, Err(Error::Empty(_))));
    // Not every file system holds such a file.
    if empty.as_file().set_len((1 << 44) + 1).is_ok() {
        let refused = Image::open(empty.path(), None);
        assert!(matches!(refused, Err(Error::TooLong { .. })));
    }
}

#[test]
fn an_image_that_another_process_has_for_itself_is_refused() {
    let (file, image) = image(&[9; 1024]);
    drop(image);
    file.as_file().lock().expect("nobody has it");
    let refused = Image::open(file.path(), None);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
}
