//! A driver that does anything to a disk.
#![no_main]

#[path = "../bodies/driver.rs"]
mod body;

use devices::InMemory;
use devices::virtio::Block;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let disk = || Block::new(Box::new(InMemory(vec![7; 64 * 512])), false, "disk0");
    body::drive(disk, |_, _, _| (), data);
});
