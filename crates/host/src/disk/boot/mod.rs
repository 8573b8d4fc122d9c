//! What a disk would boot: its kernel, initial RAM disk and command line, as a
//! boot loader would find them.
//!
//! Each partition with an ext2, ext3 or ext4 file system is looked at in turn,
//! and the whole disk if it has no partitions. The first that has a kernel in
//! `/boot`, or in its root as a partition for `/boot` has it, is taken: the one
//! that GRUB's configuration starts first, or else the newest.
//!
//! The law here: the image is a stranger's. Whatever is in it, an error is the
//! worst that comes of it, in bounded time and memory.

mod files;
mod grub;
mod partition;
mod version;

use std::path::PathBuf;
use std::rc::Rc;

use super::{Base, Image};
use files::{Files, Window};
use partition::Partition;

/// No kernel and no initial RAM disk is longer.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Nor is GRUB's configuration.
const GRUB_BYTES_MAX: u64 = 1 << 20;
/// Where kernels lie: in the root's file system, or in one of their own.
const FOLDERS: [&str; 2] = ["/boot", ""];
/// The console that a machine has.
const CONSOLE: &str = "console=ttyS0";

/// What a disk boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootable {
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The initial RAM disk, if there is one.
    pub initrd: Option<Vec<u8>>,
    /// The kernel's command line.
    pub append: String,
    /// Where the kernel lies, in words.
    pub place: String,
}

/// Why a disk boots nothing.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No file system that can be read.
    #[error("the disk image {path} has no ext2, ext3 or ext4 file system{reasons}: take the kernel and its initial RAM disk out of it by other means, and name them with --kernel, --initrd and --append", path = path.display())]
    NoFileSystem {
        /// The image.
        path: PathBuf,
        /// What was found instead: nothing, or ` (...)`.
        reasons: String,
    },
    /// No kernel in any file system.
    #[error("the disk image {path} has no /boot/vmlinuz-*: install a kernel in it, or name one with --kernel{reasons}", path = path.display())]
    NoKernel {
        /// The image.
        path: PathBuf,
        /// What could not be looked at.
        reasons: String,
    },
    /// Nothing tells where the kernel finds its root file system.
    #[error("the disk image {path} has a kernel ({kernel}) on a partition of its own, and nothing there tells where the root file system is: write --append \"root=/dev/vdaN ro console=ttyS0\"", path = path.display())]
    NoRoot {
        /// The image.
        path: PathBuf,
        /// The kernel.
        kernel: String,
    },
    /// It can't be read.
    #[error(
        "{place} can't be read ({reason}): check the disk image, or name the files with --kernel, --initrd and --append"
    )]
    Unreadable {
        /// The file and where it lies.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// What was chosen to be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    kernel: String,
    initrd: Option<String>,
    /// The command line, if something in the file system tells it.
    append: Option<String>,
}

/// What `image` boots, as the first disk of a machine. `append` is a command
/// line to be used instead of the disk's own.
pub fn bootable(image: &Image, append: Option<&str>) -> Result<Bootable, BootError> {
    let path = image.path();
    let mut reasons = Vec::new();
    let mut has_files = false;
    for partition in partition::list(image.base().as_ref()) {
        let files = match open(image.base(), partition) {
            Ok(Some(files)) => files,
            Ok(None) => continue,
            Err(reason) => {
                reasons.push(format!("{partition}: {reason}"));
                continue;
            }
        };
        has_files = true;
        if let Some((choice, folder)) = FOLDERS
            .iter()
            .find_map(|folder| choose(&files, folder).map(|choice| (choice, *folder)))
        {
            let own = choice.append.clone().or_else(|| {
                let is_root = folder == FOLDERS[0];
                is_root.then(|| format!("root={} ro", partition.device()))
            });
            let append = match append {
                Some(append) => append.to_owned(),
                None => with_console(&own.ok_or_else(|| BootError::NoRoot {
                    path: path.to_owned(),
                    kernel: choice.kernel.clone(),
                })?),
            };
            return load(
                &files,
                &choice,
                append,
                &format!("{partition} of {}", path.display()),
            );
        }
    }
    let reasons = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join("; "))
    };
    let path = path.to_owned();
    Err(if has_files {
        BootError::NoKernel { path, reasons }
    } else {
        BootError::NoFileSystem { path, reasons }
    })
}

/// The file system of `partition`; `None` if it has none that we know.
fn open(base: &Rc<dyn Base>, partition: Partition) -> Result<Option<Files>, String> {
    let window = Window::new(Rc::clone(base), partition);
    if window.has_file_system()? {
        Files::open(window).map(Some)
    } else {
        Ok(None)
    }
}

/// The kernel in `folder` of `files` that is to be booted, if there is one.
fn choose(files: &Files, folder: &str) -> Option<Choice> {
    let config = files.read(&format!("{folder}/grub/grub.cfg"), GRUB_BYTES_MAX);
    let first = config.ok().and_then(|text| grub::first(&text));
    if let Some(choice) = first.filter(|choice| {
        let mut named = std::iter::once(&choice.kernel).chain(&choice.initrd);
        named.all(|path| files.has(path))
    }) {
        return Some(choice);
    }
    let names = files.names(folder);
    let version = names
        .iter()
        .filter_map(|name| name.strip_prefix("vmlinuz-"))
        .filter(|version| !version.contains("rescue"))
        .max_by(|a, b| version::order(a, b))?;
    let initrd = [
        format!("initrd.img-{version}"),
        format!("initramfs-{version}.img"),
        format!("initrd-{version}"),
    ]
    .into_iter()
    .find(|name| names.contains(name));
    Some(Choice {
        kernel: format!("{folder}/vmlinuz-{version}"),
        initrd: initrd.map(|name| format!("{folder}/{name}")),
        append: None,
    })
}

/// `append`, with the machine's console named in it. Where others are named as
/// well, the last is the one that `/dev/console` is.
fn with_console(append: &str) -> String {
    let has = append
        .split_ascii_whitespace()
        .any(|word| word == CONSOLE || word.starts_with("console=ttyS0,"));
    if has {
        append.to_owned()
    } else {
        format!("{append} {CONSOLE}")
    }
}

fn load(
    files: &Files,
    choice: &Choice,
    append: String,
    place: &str,
) -> Result<Bootable, BootError> {
    let read = |path: &str| {
        let bytes = files.read(path, FILE_BYTES_MAX);
        bytes.map_err(|reason| BootError::Unreadable {
            place: format!("{path} on {place}"),
            reason,
        })
    };
    Ok(Bootable {
        kernel: read(&choice.kernel)?,
        initrd: choice.initrd.as_deref().map(read).transpose()?,
        append,
        place: format!("{} on {place}", choice.kernel),
    })
}

#[cfg(test)]
mod tests;
