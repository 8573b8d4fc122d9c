//! Any driver for a virtio device: whatever it writes to registers, queues and
//! memory, and whatever comes from outside meanwhile, nothing panics, the
//! device can be saved at any time, and comes back the same.

use std::ops::ControlFlow;

use devices::Device as _;
use devices::virtio::{Function, Transport};
use memory::Ram;
use x86::Physical;

const RAM_BYTES: u64 = 1 << 20;
/// Where queue 0 of [`set_up`] is; the others follow, [`QUEUE_BYTES`] further
/// each. The buffers are below 64 KiB, too.
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const QUEUE_BYTES: u64 = 0x4000;
const QUEUE_SIZE: u64 = 8;

/// What comes from outside to a device, made from a number.
pub(crate) type Outside<F> = fn(&mut Transport<F>, &Ram, u64);

/// Lets `data` drive the device that `fresh` makes, and `outside` stir it.
pub(crate) fn drive<F: Function>(fresh: impl Fn() -> F, outside: Outside<F>, data: &[u8]) {
    let ram = Ram::new(RAM_BYTES).expect("a small mapping");
    let mut device = Transport::new(fresh());
    let mut bytes = Bytes(data);
    // Without a driver that begins well, few would get as far as a queue.
    if bytes.number(1) & 1 != 0 {
        set_up(&mut device, &ram, bytes.number(4));
    }
    while !bytes.0.is_empty() {
        if act(&mut device, &ram, outside, &mut bytes).is_break() {
            device = again(&device, &fresh);
        }
    }
}

/// Does one thing; breaks if the device is to be saved.
fn act<F: Function>(
    device: &mut Transport<F>,
    ram: &Ram,
    outside: Outside<F>,
    bytes: &mut Bytes<'_>,
) -> ControlFlow<()> {
    let width = 1 << (bytes.number(1) % 4);
    match bytes.number(1) % 9 {
        0 => device.write(ram, bytes.number(2) % 0x1000, width, bytes.number(8)),
        1 => device.write(ram, 4 * (bytes.number(1) % 0x48), 4, bytes.number(4)),
        2 => drop(device.read(bytes.number(2) % 0x1000, width)),
        3 => {
            let at = Physical(bytes.number(2));
            let value = bytes.number(8).to_le_bytes();
            ram.write(at, &value).expect("the first 64 KiB are RAM");
        }
        4 | 5 => offer(device, ram, bytes),
        6 => device.write(ram, 0x50, 4, bytes.number(1)),
        7 => outside(device, ram, bytes.number(4)),
        _ => return ControlFlow::Break(()),
    }
    ControlFlow::Continue(())
}

/// Puts a chain of buffers at any places into a queue, and notifies.
fn offer<F: Function>(device: &mut Transport<F>, ram: &Ram, bytes: &mut Bytes<'_>) {
    let put = |at: u64, value: &[u8]| ram.write(Physical(at), value).expect("it is RAM");
    let number = bytes.number(1) % F::QUEUE_SIZES.len() as u64;
    let [descriptors, available] = [DESCRIPTORS, AVAILABLE].map(|at| at + QUEUE_BYTES * number);
    let count = 1 + bytes.number(1) % (QUEUE_SIZE - 1);
    for index in 0..count {
        let at = descriptors + 16 * index;
        let place = match bytes.number(1) % 8 {
            0 => bytes.number(8),
            _ => bytes.number(2),
        };
        let length = match bytes.number(1) % 8 {
            0 => bytes.number(4) as u32,
            n => [1, 16, 512, 4096, 20, 0, 17][n as usize - 1],
        };
        let is_last = index + 1 == count;
        let strange = bytes.number(1);
        let flags = if strange > 250 {
            strange as u16
        } else {
            strange as u16 & 2 | u16::from(!is_last)
        };
        let next = if strange > 240 {
            strange as u16
        } else {
            index as u16 + 1
        };
        put(at, &place.to_le_bytes());
        put(at + 8, &length.to_le_bytes());
        put(at + 12, &flags.to_le_bytes());
        put(at + 14, &next.to_le_bytes());
    }
    // A request of a disk's: kind and sector; to others it means nothing.
    let head = bytes.number(2);
    let mut first = [0; 8];
    ram.read(Physical(descriptors), &mut first)
        .expect("it is RAM");
    let first = u64::from_le_bytes(first);
    if first < RAM_BYTES - 16 {
        put(first, &u32::from(head as u8 % 16).to_le_bytes());
        put(first + 8, &(head >> 8).to_le_bytes());
    }
    let mut index = [0; 2];
    ram.read(Physical(available + 2), &mut index)
        .expect("it is RAM");
    let index = u16::from_le_bytes(index);
    put(available + 4 + 2 * (u64::from(index) % QUEUE_SIZE), &[0, 0]);
    put(available + 2, &index.wrapping_add(1).to_le_bytes());
    device.write(ram, 0x50, 4, number);
}

/// As Linux does it (virtio 1.1, 3.1.1).
fn set_up<F: Function>(device: &mut Transport<F>, ram: &Ram, features: u64) {
    device.write(ram, 0x14, 4, 0);
    let offered = device.read(0x10, 4);
    let writes = [
        (0x70, 3),
        (0x24, 0),
        (0x20, features & offered),
        (0x24, 1),
        (0x20, 1),
        (0x70, 0xb),
    ];
    let queues = (0..F::QUEUE_SIZES.len() as u64).flat_map(|number| {
        let at = QUEUE_BYTES * number;
        [
            (0x30, number),
            (0x38, QUEUE_SIZE),
            (0x80, DESCRIPTORS + at),
            (0x90, AVAILABLE + at),
            (0xa0, USED + at),
            (0x44, 1),
        ]
    });
    for (offset, value) in writes.into_iter().chain(queues).chain([(0x70, 0xf)]) {
        device.write(ram, offset, 4, value);
    }
    assert!(device.is_live(), "a driver that keeps the rules is served");
}

/// The device saved and restored into a fresh one.
fn again<F: Function>(device: &Transport<F>, fresh: &impl Fn() -> F) -> Transport<F> {
    let save =
        |device: &Transport<F>| minicbor::to_vec(device.save()).expect("a vector takes every byte");
    let bytes = save(device);
    let mut other = Transport::new(fresh());
    let state = minicbor::decode(&bytes).expect("it was just encoded");
    other.restore(state).expect("a device's own state");
    assert_eq!(bytes, save(&other), "save, load, save");
    assert_eq!(device.irq(), other.irq());
    other
}

/// Numbers made from bytes; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// The next `count` bytes as a number.
    fn number(&mut self, count: usize) -> u64 {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
}
