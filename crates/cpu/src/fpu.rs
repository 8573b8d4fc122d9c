//! The x87 unit's state.

/// The x87 unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fpu;
