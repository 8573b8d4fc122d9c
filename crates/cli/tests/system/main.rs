//! The whole command, on real guests.
//!
//! Most tests run `guests/kernels/console.c`, which does what it is told in
//! milliseconds. Those in [`linux`], [`linux_disks`], [`linux_net`] and [`linux_tap`] boot Debian's kernel and want a
//! release build.

mod bad_input;
mod bare;
mod checks;
mod damage;
mod disks;
mod endings;
mod inspection;
mod linux;
mod linux_devices;
mod linux_disks;
mod linux_net;
mod linux_tap;
mod namespace;
mod recording;
mod revirt;
