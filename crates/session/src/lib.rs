//! Record, replay, and divergence.
