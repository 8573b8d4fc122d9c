//! Disks: images, which are never written, and overlays, which take what the
//! guest writes.
//!
//! An [`Image`] is a file that a user holds, raw or qcow2. A [`Disk`] is what a
//! machine gets: an image under an [`Overlay`]. The contents of a disk follow
//! from the image and from what was written since, so a recording that knows
//! the image's digest has no need to log what was read.
#![allow(
    clippy::cast_possible_truncation,
    reason = "hosts have 64 bits: a usize holds every length, and clusters are numbered with 32"
)]

mod boot;
mod embed;
mod error;
mod image;
mod known;
mod lock;
mod overlay;
mod qcow2;
mod qcow2_layout;
mod raw;
mod stamp;

use std::io;
use std::rc::Rc;

use devices::{Backing, Failed, SECTOR_BYTES};

pub use boot::{BootError, Bootable, bootable};
pub use error::Error;
pub use image::{Format, Image, Progress};
pub use known::Known;
pub use overlay::{Overlay, Position};
pub use stamp::Stamps;

/// What an overlay lies on: contents that nobody changes.
pub trait Base: std::fmt::Debug {
    /// How long it is.
    fn bytes(&self) -> u64;

    /// Reads from `at` into the whole of `into`; zeros behind the end.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;

    /// How many bytes from `at` on are surely zeros, without reading them; 0
    /// if that can't be told.
    fn zeros_at(&self, at: u64) -> u64;
}

/// A disk of a machine's: an image under an overlay.
#[derive(Debug)]
pub struct Disk {
    base: Rc<dyn Base>,
    /// What the base is called in a message.
    name: String,
    overlay: Overlay,
}

impl Disk {
    /// `image` under `overlay`.
    pub fn new(image: Image, overlay: Overlay) -> Disk {
        Disk {
            name: image.path().display().to_string(),
            base: image.into_base(),
            overlay,
        }
    }

    /// Marks where the overlay is, in no time: what is written from here on
    /// leaves alone what was written before.
    pub fn mark(&mut self) -> Result<Position, Failed> {
        self.overlay
            .mark()
            .map_err(|error| self.overlay.failed(&error))
    }

    /// What to say when something could not be done.
    fn failed(&self, trouble: &overlay::Trouble) -> Failed {
        match trouble {
            overlay::Trouble::Base(at, source) => Failed(format!(
                "{} can't be read at byte {at} ({source}): check the host's disk, and restore the image from a copy",
                self.name
            )),
            overlay::Trouble::Overlay(source) => self.overlay.failed(source),
        }
    }
}

impl Backing for Disk {
    fn sectors(&self) -> u64 {
        self.base.bytes().div_ceil(SECTOR_BYTES)
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Failed> {
        let done = self.overlay.read(&*self.base, at, into);
        done.map_err(|trouble| self.failed(&trouble))
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        let done = self.overlay.write(&*self.base, at, bytes);
        done.map_err(|trouble| self.failed(&trouble))
    }

    fn zero(&mut self, at: u64, bytes: u64) -> Result<(), Failed> {
        let done = self.overlay.zero(&*self.base, at, bytes);
        done.map_err(|trouble| self.failed(&trouble))
    }
}

#[cfg(test)]
mod tests;
