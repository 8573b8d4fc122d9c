//! What a wire does to a network card.

use devices::virtio::{Net, Transport};
use memory::Ram;

/// Frames of any length, good and bad, and the link up and down. What the card
/// sends is taken away.
pub(crate) fn wire(card: &mut Transport<Net>, ram: &Ram, number: u64) {
    drop(card.function.take_sent());
    match number % 8 {
        0 => card.set_link(number & 0x100 != 0),
        _ => {
            card.set_link(true);
            let length = (number >> 8) as u16;
            card.receive(ram, &vec![number as u8; length.into()]);
        }
    }
}
