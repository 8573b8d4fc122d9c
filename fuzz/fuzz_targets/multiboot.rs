//! Any bytes as a Multiboot kernel: see the body.

#![no_main]

#[path = "../bodies/images.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::boot(data, machine::BootKind::Multiboot));
