//! The only window to the world: console, clock, entropy, signals.
