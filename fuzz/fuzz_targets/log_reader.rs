//! Any bytes as a log: see the body.

#![no_main]

#[path = "../bodies/log_reader.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
