//! The revirt command.
fn main() {}
