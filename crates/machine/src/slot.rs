//! Where the virtio devices stand: a page of registers and an interrupt pin a
//! slot, in the order of the machine's configuration. The tables that tell the
//! guest, and the board, both look here.

use crate::MachineConfig;

/// The page of slot 0: in the hole below 4 GiB.
const START: u64 = 0xd000_0000;
/// Bytes of a slot.
pub(crate) const BYTES: u64 = 0x1000;
/// How many slots there can be.
pub(crate) const COUNT_MAX: usize = 24;
/// The pins of the I/O APIC that no PC device has. Slots share them: they are
/// level-triggered.
const PINS: std::ops::Range<u8> = 16..24;

/// What stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The disk of this number.
    Disk(usize),
    /// The network card of this number.
    Nic(usize),
    /// The source of entropy.
    Rng,
}

/// The slots of a machine of `config`.
pub(crate) fn slots(config: &MachineConfig) -> Vec<Slot> {
    let disks = (0..config.disks.len()).map(Slot::Disk);
    let nics = (0..config.nics.len()).map(Slot::Nic);
    let rng = config.has_rng.then_some(Slot::Rng);
    disks.chain(nics).chain(rng).collect()
}

/// Where the registers of slot `number` are.
pub(crate) fn address(number: usize) -> u64 {
    START + BYTES * number as u64
}

/// The I/O APIC's pin of slot `number`.
pub(crate) fn pin(number: usize) -> u8 {
    let pins = usize::from(PINS.end - PINS.start);
    PINS.start + (number % pins) as u8
}

/// Which of `count` slots `at` belongs to, and the offset there.
#[inline]
pub(crate) fn find(at: u64, count: usize) -> Option<(usize, u64)> {
    let distance = at.checked_sub(START)?;
    let number = (distance / BYTES) as usize;
    (number < count).then_some((number, distance % BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_found_where_it_is() {
        assert_eq!(find(address(2) + 0x50, 3), Some((2, 0x50)));
        assert_eq!(find(address(3), 3), None);
        assert_eq!(find(address(0) - 1, 3), None);
        assert_eq!(find(u64::MAX, 3), None);
    }

    #[test]
    fn pins_are_shared_and_none_is_a_pc_s() {
        assert_eq!((pin(0), pin(7), pin(8)), (16, 23, 16));
    }
}
