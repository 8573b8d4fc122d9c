//! A driver that does anything to a network card, and any frames from outside.
#![no_main]

#[path = "../bodies/driver.rs"]
mod body;
#[path = "../bodies/wire.rs"]
mod wire;

use devices::virtio::Net;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    body::drive(|| Net::new([2, 0, 0, 0, 0, 1], 9000), wire::wire, data);
});
