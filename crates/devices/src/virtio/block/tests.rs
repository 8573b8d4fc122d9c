//! A driver asks a disk for things.

use super::*;
use crate::backing::InMemory;
use crate::device::tests::assert_comes_back;
use crate::virtio::Transport;
use crate::virtio::rig::{Link, Rig};

const SECTORS: usize = 64;
const HEADER: u64 = 0x8000;
const DATA: u64 = 0x1_0000;
const STATUS: u64 = 0x9000;
const ALL: u64 = bit::DISCARD | bit::WRITE_ZEROES;

/// A disk whose sector `n` is filled with `n`.
fn disk(is_read_only: bool) -> Block {
    let bytes = (0..SECTORS).flat_map(|n| [n as u8; SECTOR_BYTES as usize]);
    let backing = InMemory(bytes.collect());
    Block::new(
        Box::new(backing),
        is_read_only,
        "a serial number that is long",
    )
}

struct Driver {
    rig: Rig,
    disk: Transport<Block>,
}

impl Driver {
    fn new(is_read_only: bool) -> Driver {
        let rig = Rig::new();
        let mut disk = Transport::new(disk(is_read_only));
        rig.set_up(&mut disk, if is_read_only { 0 } else { ALL });
        Driver { rig, disk }
    }

    /// Makes a request with `data` between header and status; returns the
    /// status and how many bytes were given.
    fn ask(&mut self, number: u32, sector: u64, data: &[Link]) -> Option<(u8, u32)> {
        self.rig.put(HEADER, &number.to_le_bytes());
        self.rig.put(HEADER + 8, &sector.to_le_bytes());
        self.rig.put(STATUS, &[0xee]);
        let links = [
            &[Link::readable(HEADER, 16)],
            data,
            &[Link::writable(STATUS, 1)],
        ];
        self.rig.offer(&links.concat());
        self.disk.write(&self.rig.ram, 0x50, 4, 0);
        let used = self.rig.take_used()?;
        Some((self.rig.get(STATUS, 1)[0], used))
    }

    fn read(&mut self, sector: u64, bytes: u32) -> Option<(u8, u32)> {
        self.ask(0, sector, &[Link::writable(DATA, bytes)])
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) -> Option<(u8, u32)> {
        self.rig.put(DATA, bytes);
        self.ask(1, sector, &[Link::readable(DATA, bytes.len() as u32)])
    }

    fn zero(&mut self, number: u32, range: (u64, u32, u32)) -> Option<(u8, u32)> {
        self.rig.put(DATA, &range.0.to_le_bytes());
        self.rig.put(DATA + 8, &range.1.to_le_bytes());
        self.rig.put(DATA + 12, &range.2.to_le_bytes());
        self.ask(number, 0, &[Link::readable(DATA, 16)])
    }
}

#[test]
fn sectors_are_read_and_written() {
    let mut driver = Driver::new(false);
    assert_eq!(driver.read(3, 1024), Some((0, 1025)));
    assert_eq!(driver.rig.get(DATA + 510, 4), [3, 3, 4, 4]);
    assert_eq!(driver.write(4, &[0xaa; 512]), Some((0, 1)));
    driver.read(3, 1536);
    assert_eq!(driver.rig.get(DATA + 510, 4), [3, 3, 0xaa, 0xaa]);
    assert_eq!(driver.rig.get(DATA + 1022, 4), [0xaa, 0xaa, 5, 5]);
}

#[test]
fn what_lies_beyond_the_end_is_refused() {
    let mut driver = Driver::new(false);
    assert_eq!(driver.read(63, 512), Some((0, 513)));
    for (sector, bytes) in [
        (64, 512),
        (63, 1024),
        (u64::MAX, 512),
        (u64::MAX, 0),
        (0, 100),
    ] {
        assert_eq!(driver.read(sector, bytes), Some((1, 1)), "{sector} {bytes}");
        let data = vec![1; bytes as usize];
        assert_eq!(driver.write(sector, &data), Some((1, 1)));
    }
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let mut driver = Driver::new(true);
    assert_eq!(driver.write(4, &[0xaa; 512]), Some((1, 1)));
    assert_eq!(
        driver.zero(13, (4, 1, 0)),
        Some((2, 1)),
        "it offers no such thing"
    );
    driver.read(4, 512);
    assert_eq!(driver.rig.get(DATA, 1), [4]);
    assert_eq!(driver.disk.read(0x10, 4) & bit::READ_ONLY, bit::READ_ONLY);
}

#[test]
fn zeros_are_written_and_what_is_discarded_reads_as_zeros() {
    let mut driver = Driver::new(false);
    assert_eq!(driver.zero(11, (8, 2, 0)), Some((0, 1)));
    assert_eq!(driver.zero(13, (11, 1, 1)), Some((0, 1)));
    driver.read(7, 512 * 6);
    let first_bytes = [0, 1, 2, 3, 4, 5].map(|n| driver.rig.get(DATA + 512 * n, 1)[0]);
    assert_eq!(first_bytes, [7, 0, 0, 10, 0, 12]);
    assert_eq!(
        driver.zero(11, (8, 2, 1)),
        Some((2, 1)),
        "unmap is no flag of a discard"
    );
    assert_eq!(driver.zero(13, (8, 2, 4)), Some((2, 1)));
    assert_eq!(driver.zero(13, (0, u32::MAX, 0)), Some((1, 1)));
}

#[test]
fn a_disk_tells_its_serial_number_and_size() {
    let mut driver = Driver::new(false);
    assert_eq!(driver.ask(8, 0, &[Link::writable(DATA, 20)]), Some((0, 21)));
    assert_eq!(driver.rig.get(DATA, 20), b"a serial number that");
    assert_eq!(driver.ask(8, 0, &[Link::writable(DATA, 5)]), Some((0, 6)));
    assert_eq!(driver.disk.read(0x100, 8), SECTORS as u64);
    assert_eq!(driver.disk.function.config().len(), 60);
}

#[test]
fn a_flush_is_done_and_the_unknown_is_refused() {
    let mut driver = Driver::new(false);
    assert_eq!(driver.ask(4, 0, &[]), Some((0, 1)));
    assert_eq!(driver.ask(77, 0, &[]), Some((2, 1)));
}

#[test]
fn a_request_without_its_parts_breaks_the_device() {
    for links in [
        vec![Link::readable(HEADER, 15), Link::writable(STATUS, 1)],
        vec![Link::readable(HEADER, 16)],
        vec![Link::writable(STATUS, 1)],
    ] {
        let mut driver = Driver::new(false);
        driver.rig.offer(&links);
        driver.disk.write(&driver.rig.ram, 0x50, 4, 0);
        assert!(!driver.disk.is_live());
    }
}

#[test]
fn a_failure_of_the_host_leaves_the_request_undone() {
    #[derive(Debug)]
    struct Bad;
    impl Backing for Bad {
        fn sectors(&self) -> u64 {
            8
        }
        fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Failed> {
            Err(Failed("it is worn out".to_owned()))
        }
        fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Failed> {
            Err(Failed("it is full".to_owned()))
        }
        fn zero(&mut self, _: u64, _: u64) -> Result<(), Failed> {
            Ok(())
        }
    }
    let mut driver = Driver::new(false);
    driver.disk.function = Block::new(Box::new(Bad), false, "");
    assert_eq!(driver.read(0, 512), None);
    assert_eq!(driver.rig.get(STATUS, 1), [0xee]);
    assert_eq!(
        driver.disk.function.failure(),
        Some(&Failed("it is worn out".to_owned()))
    );
}

#[test]
fn a_saved_disk_comes_back() {
    let mut driver = Driver::new(false);
    driver.write(4, &[0xaa; 512]);
    assert_comes_back(&driver.disk, Transport::new(disk(false)));
    let other = Driver::new(false);
    assert_ne!(
        driver.disk.function.save().written,
        other.disk.function.save().written
    );
}
