//! The chipset: register machines without a host in them.
