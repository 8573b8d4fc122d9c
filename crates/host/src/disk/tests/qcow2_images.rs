//! qcow2 images: good ones, and those that a user may hold by mistake.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use imago::format::builder::FormatDriverBuilder as _;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatCreateBuilder as _, PermissiveImplicitOpenGate, Storage as _};
use imago::{StorageCreateOptions, StorageOpenOptions};

use super::super::{Base as _, Error, Format, Image, qcow2};

const MIB: u64 = 1 << 20;

type Files = tempfile::TempDir;

fn folder() -> Files {
    tempfile::tempdir().expect("there is room")
}

/// A new qcow2 image of `bytes` that lies on `backing`.
fn create(path: &Path, bytes: u64, backing: Option<(&str, &str)>) {
    let options = StorageCreateOptions::new().filename(path);
    let file = imago::file::File::create_open(options).expect("there is room");
    let builder = Qcow2::<imago::file::File>::create_builder(file).size(bytes);
    let builder = match backing {
        Some((name, format)) => builder.backing(name.to_owned(), format.to_owned()),
        None => builder,
    };
    builder.create().expect("there is room");
}

/// Writes `bytes` into the image at `path`.
fn put(path: &Path, at: u64, bytes: &[u8]) {
    let image = Qcow2::<imago::file::File>::builder_path(path)
        .write(true)
        .open(PermissiveImplicitOpenGate::default())
        .expect("it was just made");
    let image = FormatAccess::new(image);
    image.write(bytes, at).expect("there is room");
    image.flush().expect("there is room");
}

/// An image on a raw one: 64 KiB of sevens at 0, nines at 1 MiB from below.
fn two_layers(files: &Files) -> PathBuf {
    let below = files.path().join("below.raw");
    let mut bytes = vec![0; 2 * MIB as usize];
    bytes[MIB as usize..][..4096].fill(9);
    fs::write(&below, bytes).expect("there is room");
    let path = files.path().join("above.qcow2");
    create(&path, 2 * MIB, Some(("below.raw", "raw")));
    put(&path, 0, &[7; 65536]);
    path
}

fn refusal(path: &Path) -> Error {
    let opened = Image::open(path, Some(Format::Qcow2));
    let digested = opened.and_then(|image| image.digest(&mut |_, _| ()));
    digested.expect_err("it is no good image")
}

#[test]
fn an_image_is_read_with_what_it_lies_on() {
    let files = folder();
    let path = two_layers(&files);
    let image = Image::open(&path, None).expect("a good image");
    assert_eq!(image.format(), Format::Qcow2);
    assert_eq!(image.sectors(), 4096);
    let mut expected = vec![0; 2 * MIB as usize];
    expected[..65536].fill(7);
    expected[MIB as usize..][..4096].fill(9);
    let digest = image.digest(&mut |_, _| ()).expect("it can be read");
    assert_eq!(digest, seal::Digest::of(&expected));
    let copy = files.path().join("copy");
    image.embed(&copy, &mut |_, _| ()).expect("there is room");
    assert!(fs::read(&copy).expect("it was made") == expected);
}

#[test]
fn a_change_below_is_a_change() {
    let files = folder();
    let image = Image::open(&two_layers(&files), None).expect("a good image");
    let below = File::options()
        .write(true)
        .open(files.path().join("below.raw"));
    below
        .and_then(|file| file.set_len(MIB))
        .expect("it is ours");
    assert!(matches!(image.stamps().check(), Err(Error::Changed(_))));
}

#[test]
fn a_file_below_that_is_missing_or_locked_is_named() {
    let files = folder();
    let path = two_layers(&files);
    let below = files.path().join("below.raw");
    let holder = File::open(&below).expect("it is there");
    holder.lock().expect("nobody has it");
    assert!(matches!(refusal(&path), Error::Locked { path, .. } if path.ends_with("below.raw")));
    drop(holder);
    fs::remove_file(&below).expect("it is ours");
    assert!(matches!(refusal(&path), Error::Read { path, .. } if path.ends_with("below.raw")));
}

#[test]
fn an_image_that_lies_on_itself_is_refused() {
    let files = folder();
    let [one, two] = ["one.qcow2", "two.qcow2"].map(|name| files.path().join(name));
    create(&one, MIB, Some(("two.qcow2", "qcow2")));
    create(&two, MIB, Some(("one.qcow2", "qcow2")));
    assert!(matches!(refusal(&one), Error::Loop { link, .. } if link.ends_with("one.qcow2")));
    let own = files.path().join("own.qcow2");
    create(&own, MIB, Some(("own.qcow2", "qcow2")));
    assert!(matches!(refusal(&own), Error::Loop { .. }));
}

#[test]
fn a_chain_that_is_too_long_is_refused() {
    let files = folder();
    for n in 0..70 {
        let next = format!("{}.qcow2", n + 1);
        create(
            &files.path().join(format!("{n}.qcow2")),
            MIB,
            Some((&next, "qcow2")),
        );
    }
    assert!(matches!(
        refusal(&files.path().join("0.qcow2")),
        Error::Chain { .. }
    ));
}

#[test]
fn an_image_that_is_cut_off_is_damaged() {
    let files = folder();
    let path = two_layers(&files);
    let whole = fs::read(&path).expect("it is there");
    // QEMU itself may leave the last cluster short; it reads as zeros behind
    // the file's end.
    for clusters in 0..whole.len().div_ceil(65536) {
        fs::write(&path, &whole[..65536 * clusters]).expect("there is room");
        let refusal = refusal(&path);
        assert!(
            matches!(refusal, Error::Damaged { .. }),
            "{clusters}: {refusal}"
        );
    }
}

#[test]
fn an_image_that_is_marked_as_corrupt_is_refused() {
    let files = folder();
    let path = two_layers(&files);
    let mut bytes = fs::read(&path).expect("it is there");
    assert_eq!(bytes[7], 3, "the header has features");
    bytes[79] |= 2;
    fs::write(&path, bytes).expect("there is room");
    assert!(matches!(refusal(&path), Error::Damaged { .. }));
}

#[test]
fn what_imago_does_not_know_is_told_with_a_way_out() {
    let files = folder();
    let path = two_layers(&files);
    let whole = fs::read(&path).expect("it is there");
    for (at, bit) in [(79, 1 << 4), (79, 1 << 3), (35, 1)] {
        let mut bytes = whole.clone();
        bytes[at] |= bit;
        fs::write(&path, bytes).expect("there is room");
        assert!(matches!(refusal(&path), Error::Unknown { .. }));
    }
}

#[test]
fn an_image_of_another_format_is_not_taken_for_a_raw_one() {
    let files = folder();
    let path = files.path().join("disk.vmdk");
    fs::write(&path, b"KDMV and so on").expect("there is room");
    let refused = Image::open(&path, None);
    assert!(matches!(refused, Err(Error::Foreign { what: "vmdk", .. })));
    assert!(Image::open(&path, Some(Format::Raw)).is_ok());
}

#[test]
fn a_size_beyond_all_bounds_is_refused() {
    let files = folder();
    let path = two_layers(&files);
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[24..32].copy_from_slice(&(1u64 << 50).to_be_bytes());
    fs::write(&path, bytes).expect("there is room");
    let refused = refusal(&path);
    assert!(
        matches!(refused, Error::TooLong { .. } | Error::Damaged { .. }),
        "{refused}"
    );
}

/// Every bit of the header and of the tables, one at a time: an error or an
/// image, and never a panic.
#[test]
fn altered_metadata_never_panics() {
    let files = folder();
    let path = two_layers(&files);
    let whole = fs::read(&path).expect("it is there");
    let tables = (0..whole.len()).filter(|at| *at < 112 || whole[*at] != 0 && whole[*at] != 7);
    for at in tables.take(400) {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&path, bytes).expect("there is room");
            if let Ok((image, _)) = qcow2::open(&path) {
                let mut piece = vec![0; 70_000];
                let _ = image.read(0, &mut piece);
                let _ = image.read(MIB - 5, &mut piece);
                let _ = image.zeros_at(65536);
            }
        }
    }
}

/// Tells imago's options apart from ours.
#[test]
fn a_raw_image_named_as_qcow2_is_no_qcow2_image() {
    let files = folder();
    let path = files.path().join("disk.raw");
    fs::write(&path, [1; 4096]).expect("there is room");
    assert!(matches!(refusal(&path), Error::Damaged { .. }));
    let options = StorageOpenOptions::new().filename(&path);
    assert!(
        imago::file::File::open(options).is_ok(),
        "it is the format that is wrong"
    );
}
