//! The host's processor as the judge of instructions (tests only).
