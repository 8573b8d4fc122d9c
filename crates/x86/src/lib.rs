//! The names of the processor's manual: registers, flags, vectors, model-specific registers, addresses.
