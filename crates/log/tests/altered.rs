//! A log with any one bit flipped is refused with the place.

mod sample;

use log::{Damage, Error, Flaw, Info, Memory, Options, Reader};
use sample::{MANIFEST, session, write_in};
use seal::Digest;

/// Three segments of a few frames each.
fn small() -> Vec<Vec<u8>> {
    let options = Options {
        frame_bytes: 60,
        segment_bytes: 400,
        ..Options::default()
    };
    let segments = write_in(&session(), options).segments();
    assert_eq!(segments.len(), 3);
    segments
}

fn read(segments: Vec<Vec<u8>>) -> Result<Info, Error> {
    Info::of(Reader::new(Memory::of(segments))?)
}

fn damage(segments: Vec<Vec<u8>>) -> Damage {
    match read(segments) {
        Err(Error::Damage(damage)) => damage,
        other => panic!("no damage was found: {other:?}"),
    }
}

#[test]
fn every_flipped_bit_is_found_where_it_is() {
    let whole = small();
    let frames = frame_starts(&whole);
    for (number, segment) in whole.iter().enumerate() {
        for bit in 0..segment.len() * 8 {
            let mut segments = whole.clone();
            segments[number][bit / 8] ^= 1 << (bit % 8);
            let damage = damage(segments);
            let start = frames[number].iter().rev().find(|start| **start <= bit / 8);
            let expected = start.copied().unwrap_or(0)..=bit / 8;
            let place = usize::try_from(damage.offset).expect("a small file");
            assert!(expected.contains(&place), "bit {bit} of {number}: {damage}");
            assert_eq!(damage.path.to_str(), Some(&*format!("{number:08}.seg")));
        }
    }
}

/// Where the header and the frames of each segment start.
fn frame_starts(segments: &[Vec<u8>]) -> Vec<Vec<usize>> {
    let mut starts: Vec<Vec<usize>> = vec![vec![0]; segments.len()];
    for (number, segment) in segments.iter().enumerate() {
        let mut at = log::SEGMENT_HEADER_BYTES;
        while at < segment.len() {
            starts[number].push(at);
            let length: [u8; 4] = segment[at + 4..at + 8].try_into().expect("four bytes");
            at += log::FRAME_HEADER_BYTES + u32::from_le_bytes(length) as usize;
        }
    }
    starts
}

#[test]
fn every_flipped_bit_on_disk_is_found_by_verify() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = dir.path().join("log/00000000.seg");
    let image = dir.path().join("kernel");
    std::fs::create_dir(dir.path().join("log")).expect("a scratch directory");
    std::fs::write(&image, b"kernel").expect("a scratch file");
    let images = [(image.clone(), Digest::of(b"kernel"))];
    let whole = write_in(&session(), Options::default())
        .segments()
        .remove(0);
    let form = whole[log::SEGMENT_HEADER_BYTES + log::FRAME_HEADER_BYTES];
    assert_eq!(form, 1, "its frame is compressed");
    for byte in 0..whole.len() {
        let mut segment = whole.clone();
        segment[byte] ^= 1 << (byte % 8);
        std::fs::write(&path, segment).expect("a scratch file");
        let found = log::verify(dir.path(), Some(MANIFEST), &images);
        assert!(matches!(found, Err(Error::Damage(damage)) if damage.path == path));
    }
    std::fs::write(&path, whole).expect("a scratch file");
    assert!(log::verify(dir.path(), Some(MANIFEST), &images).is_ok());
    std::fs::write(&image, b"kernfl").expect("a scratch file");
    let found = log::verify(dir.path(), Some(MANIFEST), &images);
    assert!(matches!(found, Err(Error::Damage(damage)) if damage.path == image));
    let other = log::verify(dir.path(), Some(Digest::of(b"other")), &[]);
    assert!(matches!(
        other,
        Err(Error::Damage(Damage {
            flaw: Flaw::Content { .. },
            ..
        }))
    ));
}

#[test]
fn segments_out_of_order_are_found() {
    let mut segments = small();
    segments.swap(1, 2);
    assert!(matches!(
        damage(segments).flaw,
        Flaw::Number {
            expected: 1,
            found: 2
        }
    ));
}

#[test]
fn a_missing_segment_is_found() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    std::fs::create_dir(dir.path().join("log")).expect("a scratch directory");
    for number in [0, 2] {
        let path = dir.path().join(format!("log/{number:08}.seg"));
        std::fs::write(path, &small()[number]).expect("a scratch file");
    }
    let error = log::verify(dir.path(), None, &[]).expect_err("a segment is missing");
    assert!(error.to_string().contains("00000001.seg"), "{error}");
}

#[test]
fn a_segment_of_another_log_is_found() {
    let mut segments = small();
    let mut other = session();
    other[0].check ^= 1;
    let options = Options {
        frame_bytes: 60,
        segment_bytes: 400,
        ..Options::default()
    };
    segments[1] = write_in(&other, options).segments().swap_remove(1);
    let damage = damage(segments);
    assert!(matches!(damage.flaw, Flaw::Chain { .. }), "{damage}");
}

#[test]
fn a_frame_left_out_is_found() {
    let mut segments = small();
    let starts = frame_starts(&segments);
    segments[0].drain(starts[0][1]..starts[0][2]);
    assert!(matches!(
        damage(segments).flaw,
        Flaw::Sequence {
            expected: 0,
            found: 1
        }
    ));
}

#[test]
fn bytes_after_the_end_are_found() {
    let mut segments = small();
    segments[2].push(0);
    assert_eq!(damage(segments.clone()).flaw, Flaw::AfterEnd);
    segments[2].pop();
    segments.push(segments[0].clone());
    assert_eq!(damage(segments).flaw, Flaw::AfterEnd);
}

#[test]
fn a_version_from_the_future_is_an_error_of_its_own() {
    let mut segments = small();
    let next = log::FORMAT_VERSION + 1;
    segments[0][8..12].copy_from_slice(&next.to_le_bytes());
    let crc = crc32c::crc32c(&segments[0][..12]);
    segments[0][12..16].copy_from_slice(&crc.to_le_bytes());
    let error = read(segments).expect_err("it is not known yet");
    assert!(matches!(error, Error::Future { version, .. } if version == next));
    assert!(error.to_string().contains("newer"), "{error}");
}

#[test]
fn no_log_is_an_error_of_its_own() {
    assert!(matches!(read(vec![]), Err(Error::NoLog { .. })));
    let dir = tempfile::tempdir().expect("a scratch directory");
    assert!(matches!(
        log::verify(dir.path(), None, &[]),
        Err(Error::Io { .. })
    ));
    std::fs::create_dir(dir.path().join("log")).expect("a scratch directory");
    assert!(matches!(
        log::verify(dir.path(), None, &[]),
        Err(Error::NoLog { .. })
    ));
}
