//! A driver that does anything to a source of entropy.
#![no_main]

#[path = "../bodies/dice.rs"]
mod dice;
#[path = "../bodies/driver.rs"]
mod body;

use devices::virtio::Rng;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    body::drive(Rng::default, dice::bring, data);
});
