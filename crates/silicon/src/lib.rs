//! Guest arithmetic done by the host's own instructions: pure functions of their operands.

pub mod x87;
