//! A guest that does anything to all devices of a machine, which is saved and
//! restored meanwhile.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| machine::drive_board(data));
