//! A driver and a network card.

use super::*;
use crate::device::tests::assert_comes_back;
use crate::virtio::rig::{Link, Rig};

const DATA: u64 = 0x1_0000;

/// A card that is up, with one queue set up: as its queue `number`.
fn live(number: u64, features: u64) -> (Rig, Transport<Net>) {
    let rig = Rig::new();
    let mut card = Transport::new(Net::new([2, 0, 0, 0, 0, 1], 1500));
    card.set_link(true);
    rig.set_up_queue(&mut card, features, number);
    (rig, card)
}

fn frame(byte: u8, bytes: usize) -> Vec<u8> {
    vec![byte; bytes]
}

#[test]
fn a_frame_goes_into_one_buffer_with_its_header() {
    let (mut rig, mut card) = live(0, 0);
    rig.offer(&[Link::writable(DATA, 12), Link::writable(DATA + 64, 1526)]);
    card.receive(&rig.ram, &frame(7, 60));
    assert_eq!(rig.take_used(), Some(72));
    assert_eq!(rig.get(DATA, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(rig.get(DATA + 64, 61), [frame(7, 60), vec![0]].concat());
    assert!(card.irq());
}

#[test]
fn a_long_frame_is_spread_over_buffers_if_the_driver_wants_that() {
    let (mut rig, mut card) = live(0, bit::MRG_RXBUF);
    for n in 0..3 {
        rig.offer_chain(n, &[Link::writable(DATA + 0x1000 * u64::from(n), 100)]);
    }
    card.receive(&rig.ram, &frame(7, 200));
    assert_eq!(rig.get(DATA + 10, 2), [3, 0]);
    let used = [rig.take_used(), rig.take_used(), rig.take_used()];
    assert_eq!(used, [Some(100), Some(100), Some(12)]);
    assert_eq!(rig.get(DATA + 0x2000, 13), [frame(7, 12), vec![0]].concat());
}

#[test]
fn a_buffer_that_is_too_small_stays_and_the_frame_is_dropped() {
    let (mut rig, mut card) = live(0, 0);
    rig.offer(&[Link::writable(DATA, 100)]);
    card.receive(&rig.ram, &frame(7, 200));
    assert_eq!(rig.take_used(), None);
    card.receive(&rig.ram, &frame(8, 20));
    assert_eq!(rig.take_used(), Some(32));
}

#[test]
fn frames_wait_in_order_for_buffers_and_the_card_is_full_at_a_bound() {
    let (mut rig, mut card) = live(0, 0);
    for byte in 0..2 {
        card.receive(&rig.ram, &frame(byte, 100));
    }
    assert!(card.function.has_room());
    assert_comes_back(&card, Transport::new(Net::new([0; 6], 1500)));
    for byte in 0..2 {
        rig.offer(&[Link::writable(DATA, 1526)]);
        card.write(&rig.ram, 0x50, 4, 0);
        assert_eq!(rig.take_used(), Some(112));
        assert_eq!(rig.get(DATA + 12, 100), frame(byte, 100));
    }
    let mut count = 0;
    while card.function.has_room() {
        card.receive(&rig.ram, &frame(0, 1514));
        count += 1;
    }
    assert!((100..200).contains(&count));
    assert_eq!(card.reception(), Reception::Full);
    assert!(!card.receive(&rig.ram, &frame(0, 1514)), "it is not taken");
    card.write(&rig.ram, 0x70, 4, 0);
    assert_eq!(card.function.waiting_bytes, 0, "a reset forgets them");
}

#[test]
fn nothing_is_heard_while_the_link_is_down_and_the_driver_is_told() {
    let (mut rig, mut card) = live(0, 0);
    assert_eq!(card.read(0x106, 2), 1);
    card.set_link(false);
    assert_eq!((card.read(0x106, 2), card.read(0x60, 4)), (0, 2));
    rig.offer(&[Link::writable(DATA, 1526)]);
    assert_eq!(card.reception(), Reception::Deaf);
    assert!(!card.receive(&rig.ram, &frame(7, 60)));
    assert_eq!(rig.take_used(), None);
}

#[test]
fn frames_that_no_wire_carries_are_dropped() {
    for bytes in [0, 13, 1519, 65_535] {
        let (mut rig, mut card) = live(0, 0);
        rig.offer(&[Link::writable(DATA, 0x2_0000)]);
        card.receive(&rig.ram, &frame(7, bytes));
        assert_eq!(rig.take_used(), None, "{bytes}");
        let (mut rig, mut card) = live(1, 0);
        rig.offer(&[Link::readable(DATA, 12 + bytes as u32)]);
        card.write(&rig.ram, 0x50, 4, 1);
        assert_eq!(rig.take_used(), Some(0));
        assert!(card.function.take_sent().is_empty(), "{bytes}");
    }
}

#[test]
fn a_frame_is_sent_with_its_checksum() {
    let (mut rig, mut card) = live(1, bit::CSUM);
    rig.put(DATA, &[1, 0, 0, 0, 0, 0, 14, 0, 2, 0, 0, 0]);
    rig.put(DATA + 12, &frame(0, 14));
    rig.put(DATA + 26, &[0x12, 0x34, 0, 1]);
    rig.offer(&[Link::readable(DATA, 12), Link::readable(DATA + 12, 18)]);
    card.write(&rig.ram, 0x50, 4, 1);
    let sent = [frame(0, 14), vec![0x12, 0x34, 0xed, 0xca]].concat();
    assert_eq!(card.function.take_sent(), [sent]);
    assert_eq!(rig.take_used(), Some(0));
    // To be cut into segments, which was not offered.
    rig.put(DATA + 1, &[1]);
    rig.offer(&[Link::readable(DATA, 12), Link::readable(DATA + 12, 18)]);
    card.write(&rig.ram, 0x50, 4, 1);
    assert!(card.function.take_sent().is_empty());
}

#[test]
fn a_frame_without_a_header_breaks_the_device() {
    let (mut rig, mut card) = live(1, 0);
    rig.offer(&[Link::readable(DATA, 11)]);
    card.write(&rig.ram, 0x50, 4, 1);
    assert!(!card.is_live());
    let (mut rig, mut card) = live(0, bit::MRG_RXBUF);
    for n in 0..2 {
        rig.offer_chain(n, &[Link::writable(DATA, 11 + 1000 * u32::from(n))]);
    }
    assert!(!card.receive(&rig.ram, &frame(7, 60)));
    assert!(!card.is_live());
}

#[test]
fn a_card_tells_its_address_and_what_its_wire_carries() {
    let (_, card) = live(0, 0);
    assert_eq!(
        card.function.config(),
        [2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0xdc, 5]
    );
}
