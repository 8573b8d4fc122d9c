//! The images a machine starts from, as the user names them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use machine::{BootKind, CpuModel, Image, Images, MachineConfig};

use crate::args::{Boot, Machine, Processor};
use crate::disks::{self, Drive};
use crate::initrd;
use crate::network::{self, Card};
use crate::report::Report;

/// More than any kernel or initial RAM disk.
const IMAGE_BYTES_MAX: u64 = 2 << 30;
/// Where a Multiboot 1 header may stand: in the first 8 KiB.
const MULTIBOOT_SEARCH_BYTES: usize = 8192;
const MULTIBOOT_MAGIC: u32 = 0x1bad_b002;

/// The machine that `arguments` describe, with `drives` and `cards`, to be started now.
pub(crate) fn machine(
    arguments: &Machine,
    drives: &[Drive],
    cards: &[Card],
    report: &Report,
) -> Result<(MachineConfig, Images)> {
    let (images, append) = if arguments.boot_from_disk {
        on_disk(arguments, drives, report)?
    } else {
        in_files(arguments, report)?
    };
    let mut config = MachineConfig::new(
        arguments.memory,
        images.kernel.digest(),
        host::wall_clock_ns() / 1_000_000_000,
    );
    config.cpu = match arguments.cpu {
        Processor::V2 => CpuModel::V2,
        Processor::V3 => CpuModel::V3,
    };
    config.boot = boot(arguments.boot, images.kernel.bytes());
    config.initrd = images.initrd.as_ref().map(Image::digest);
    config.append = append;
    config.rng_seed = host::entropy()?;
    config.debug_exit = arguments.debug_exit;
    // A kernel for tests needs none, and finds the machine as it always was.
    config.has_serial2 = arguments.serial2.is_some();
    config.has_rng = config.boot != BootKind::Multiboot;
    disks::configure(&mut config, drives);
    network::configure(&mut config, cards);
    Ok((config, images))
}

/// What the first of `drives` boots.
fn on_disk(arguments: &Machine, drives: &[Drive], report: &Report) -> Result<(Images, String)> {
    let first = drives
        .first()
        .context("--boot-from-disk needs a disk: name one with --disk")?;
    let found = host::disk::bootable(first.image(), arguments.append.as_deref())?;
    report.note(&format!("booting {} with: {}", found.place, found.append));
    let images = Images {
        kernel: Image::new(found.kernel),
        initrd: found.initrd.map(Image::new),
    };
    Ok((images, found.append))
}

/// What the files that `arguments` name boot.
fn in_files(arguments: &Machine, report: &Report) -> Result<(Images, String)> {
    let (kernel, initrd, append) = paths(arguments, report)?;
    let images = Images {
        kernel: read(&kernel, "--kernel").map(Image::new)?,
        initrd: initrd
            .as_deref()
            .map(|path| read(path, "--initrd").map(Image::new))
            .transpose()?,
    };
    ensure!(
        !images.kernel.bytes().is_empty(),
        "{} is empty: name a kernel with --kernel",
        kernel.display()
    );
    if let (Some(path), Some(image)) = (&initrd, &images.initrd) {
        ensure!(
            !initrd::is_cut(image.bytes()),
            "{} is cut off: fetch or build the initial RAM disk again",
            path.display()
        );
    }
    Ok((images, append))
}

/// Kernel, initial RAM disk and command line.
fn paths(arguments: &Machine, report: &Report) -> Result<(PathBuf, Option<PathBuf>, String)> {
    let append = arguments.append.clone();
    if let Some(kernel) = &arguments.kernel {
        let append = append.unwrap_or_else(|| guests::DEFAULT_APPEND.to_owned());
        return Ok((kernel.clone(), arguments.initrd.clone(), append));
    }
    let guest = guests::Guests::of_the_user(report.narrator())?.default_guest()?;
    let append = append.unwrap_or_else(|| guest.append.to_owned());
    Ok((guest.kernel, Some(guest.initrd), append))
}

fn read(path: &Path, option: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = File::open(path)
        .and_then(|file| file.take(IMAGE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| {
            format!(
                "{} can't be read: check the path that {option} gives",
                path.display()
            )
        });
    // The reason belongs into the same line.
    let count = count.map_err(|error| anyhow::anyhow!("{error} ({})", error.root_cause()))?;
    if count as u64 > IMAGE_BYTES_MAX {
        bail!(
            "{} is longer than 2 GiB and can't be what {option} needs: check the path",
            path.display()
        );
    }
    Ok(bytes)
}

fn boot(wanted: Boot, kernel: &[u8]) -> BootKind {
    match wanted {
        Boot::Auto if is_multiboot(kernel) => BootKind::Multiboot,
        Boot::Auto | Boot::Linux => BootKind::Linux,
        Boot::LinuxEntry => BootKind::LinuxEntry,
        Boot::Multiboot => BootKind::Multiboot,
    }
}

/// Whether there is a Multiboot 1 header: magic, flags and a checksum that
/// add up to 0, on a multiple of 4 (Multiboot 0.6.96, 3.1.1).
fn is_multiboot(kernel: &[u8]) -> bool {
    let searched = &kernel[..kernel.len().min(MULTIBOOT_SEARCH_BYTES)];
    let words: Vec<u32> = searched
        .chunks_exact(4)
        .map(|chunk| u32::from_le_bytes(chunk.try_into().expect("chunks are of 4 bytes")))
        .collect();
    words.windows(3).any(|header| {
        header[0] == MULTIBOOT_MAGIC
            && header[0].wrapping_add(header[1]).wrapping_add(header[2]) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiboot_header_is_found_by_its_sum() {
        let mut kernel = vec![0; 64];
        kernel[12..16].copy_from_slice(&MULTIBOOT_MAGIC.to_le_bytes());
        assert!(!is_multiboot(&kernel));
        kernel[20..24].copy_from_slice(&MULTIBOOT_MAGIC.wrapping_neg().to_le_bytes());
        assert!(is_multiboot(&kernel));
        assert!(!is_multiboot(&kernel[..20]));
    }
}
