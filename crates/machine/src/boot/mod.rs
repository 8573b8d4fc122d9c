//! Boot loaders: from images to a machine that is about to execute a kernel's
//! first instruction.
//!
//! An image is hostile until it has been checked: every offset in it is looked
//! up in the bytes that there are, every size is bounded before it is
//! allocated.

mod acpi;
mod bytes;
mod bzimage;
mod elf;
mod linux;
mod multiboot;
mod payload;

use cpu::Cpu;

use crate::{BootKind, Error, Images, MachineConfig};

use bzimage::BzImage;
use elf::Elf;
use multiboot::Header;

impl BootKind {
    /// How `kernel` is to be booted, as far as its headers tell. An error if
    /// it is no kernel, or a damaged one.
    pub fn of(kernel: &[u8]) -> Result<BootKind, Error> {
        if BzImage::is_one(kernel) {
            let image = BzImage::parse(kernel).map_err(kernel_error)?;
            // What can't be unpacked here unpacks itself.
            let unpacks = payload::is_unpacked_here(image.payload);
            return Ok(if unpacks {
                BootKind::Linux
            } else {
                BootKind::LinuxEntry
            });
        }
        match Header::find(kernel) {
            Ok(header) => {
                header.image(kernel).map_err(kernel_error)?;
                Ok(BootKind::Multiboot)
            }
            Err(_) if Elf::is_one(kernel) => {
                Elf::parse(kernel).map_err(kernel_error)?;
                Ok(BootKind::Linux)
            }
            Err(_) => Err(kernel_error(
                "it is neither a Linux kernel (vmlinuz or vmlinux) nor a Multiboot 1 kernel",
            )),
        }
    }
}

/// Puts what `config` says into the memory of `cpu`, and sets its registers.
pub(crate) fn load(config: &MachineConfig, images: &Images, cpu: &mut Cpu) -> Result<(), Error> {
    let tables_at = acpi::load(config, &cpu.ram)?;
    match config.boot {
        BootKind::Linux | BootKind::LinuxEntry => linux::load(config, images, tables_at, cpu),
        BootKind::Multiboot => multiboot::load(config, images, cpu),
    }
}

fn kernel_error(reason: impl Into<String>) -> Error {
    Error::Kernel {
        reason: reason.into(),
    }
}
