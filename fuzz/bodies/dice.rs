//! Random bytes that come from outside to a source of entropy, made from a number.

use devices::virtio::{Rng, Transport};
use memory::Ram;

/// Brings as many as `number` says, wanted or not.
pub(crate) fn bring(rng: &mut Transport<Rng>, ram: &Ram, number: u64) {
    let bytes = vec![number as u8; number as usize % 200];
    let is_wanted = rng.wants_entropy();
    let is_taken = rng.bring_entropy(ram, &bytes);
    assert!(is_wanted || !is_taken, "nobody gets what nobody wants");
}
