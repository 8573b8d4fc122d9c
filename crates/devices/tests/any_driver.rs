//! Any driver for each virtio device: what the fuzz targets do, with property
//! tests; and each register at each width.
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers made from bytes are cut to what is asked for"
)]

#[path = "../../../fuzz/bodies/driver.rs"]
mod body;
#[path = "../../../fuzz/bodies/dice.rs"]
mod dice;
#[path = "../../../fuzz/bodies/wire.rs"]
mod wire;

use devices::InMemory;
use devices::virtio::{Block, Function, Net, Rng, Transport};
use memory::Ram;
use proptest::prelude::*;

fn disk() -> Block {
    Block::new(Box::new(InMemory(vec![7; 64 * 512])), false, "disk0")
}

fn read_only_disk() -> Block {
    Block::new(Box::new(InMemory(vec![7; 64 * 512])), true, "")
}

fn card() -> Net {
    Net::new([2, 0, 0, 0, 0, 1], 9000)
}

/// Nothing comes to a disk from outside.
fn nothing<F: Function>(_: &mut Transport<F>, _: &Ram, _: u64) {}

/// Reads and writes every offset of the registers and a part of the
/// configuration space at every width, in an order that makes a mess.
fn touch_everything<F: Function>(function: F) {
    let ram = Ram::new(1 << 20).expect("a small mapping");
    let mut device = Transport::new(function);
    for value in [0, 1, 3, 0xf, 0x8000_0001, u64::MAX] {
        for offset in (0..0x180).chain(0xff0..0x1000) {
            for size_bytes in [1, 2, 4, 8] {
                device.write(&ram, offset, size_bytes, value);
                device.read(offset, size_bytes);
            }
        }
    }
}

#[test]
fn each_register_of_a_disk_takes_each_width() {
    touch_everything(disk());
    touch_everything(read_only_disk());
}

#[test]
fn each_register_of_a_network_card_takes_each_width() {
    touch_everything(card());
}

#[test]
fn each_register_of_a_source_of_entropy_takes_each_width() {
    touch_everything(Rng::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_driver_of_a_source_of_entropy(data in prop::collection::vec(any::<u8>(), 0..600)) {
        body::drive(Rng::default, dice::bring, &data);
    }

    #[test]
    fn any_driver_of_a_disk(data in prop::collection::vec(any::<u8>(), 0..600)) {
        body::drive(disk, nothing, &data);
        body::drive(read_only_disk, nothing, &data);
    }

    #[test]
    fn any_driver_of_a_network_card(data in prop::collection::vec(any::<u8>(), 0..600)) {
        body::drive(card, wire::wire, &data);
    }
}
