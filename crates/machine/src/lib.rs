//! The board: memory map, boot loader, clock, the two doors and the run loop.
