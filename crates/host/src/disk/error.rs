//! Why an image can't be a disk.

use std::io;
use std::path::PathBuf;

use seal::Digest;

/// Why an image can't be a disk, or no longer is the one it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be opened or read.
    #[error("the disk image {path} can't be read ({source}): check the path and that you may read it", path = path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// It is a directory, a pipe, or something else that holds no disk.
    #[error("{path} is no disk image but a {kind}: name a file or a block device", path = .path.display())]
    Kind {
        /// What was named.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// There is nothing in it.
    #[error("the disk image {path} is empty: make it as long as the disk is to be, as with `truncate -s 4G`", path = .0.display())]
    Empty(PathBuf),
    /// It is longer than any disk here.
    #[error("the disk image {path} is a disk of {bytes} bytes, and at most {bytes_max} fit: use a smaller one", path = path.display())]
    TooLong {
        /// The image.
        path: PathBuf,
        /// How long the disk would be.
        bytes: u64,
        /// How long one may be.
        bytes_max: u64,
    },
    /// Another process holds it.
    #[error(
        "the disk image {path} is locked by another process{by}, which may write to it: end that process, or use a copy", path = path.display()
    )]
    Locked {
        /// The image.
        path: PathBuf,
        /// `" (process 17)"`, if that is known.
        by: String,
    },
    /// It is not what its format asks for.
    #[error("the disk image {path} is damaged, or no {format} image ({reason}): check it with `qemu-img check`, or restore it from a copy", path = path.display())]
    Damaged {
        /// The image.
        path: PathBuf,
        /// The format it should have.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// It uses something that can't be read here.
    #[error("the disk image {path} uses {what}, which is not supported: convert it with `qemu-img convert -O raw`", path = path.display())]
    Unknown {
        /// The image.
        path: PathBuf,
        /// What it uses.
        what: &'static str,
    },
    /// It looks like an image of another format.
    #[error(
        "the disk image {path} looks like a {what} image, which is not supported: convert it with `qemu-img convert -O raw`, or write `,format=raw` behind it if that is what the guest is to see", path = path.display()
    )]
    Foreign {
        /// The image.
        path: PathBuf,
        /// The format's name.
        what: &'static str,
    },
    /// Its backing files lead back to itself.
    #[error("the disk image {path} lies on itself: {link} stands twice in its chain of backing files; give it another one with `qemu-img rebase`", path = path.display(), link = link.display())]
    Loop {
        /// The image.
        path: PathBuf,
        /// The file that comes twice.
        link: PathBuf,
    },
    /// Its chain of backing files is too long.
    #[error("the disk image {path} lies on more than {files_max} files: make it shorter with `qemu-img commit`", path = path.display())]
    Chain {
        /// The image.
        path: PathBuf,
        /// How many may be.
        files_max: usize,
    },
    /// It is not what it was.
    #[error(
        "the disk image {path} was changed while the guest ran: the recording can be replayed only with the image as it was; restore it from a copy, and never change an image that a guest uses", path = .0.display()
    )]
    Changed(PathBuf),
    /// It is not the one that was asked for.
    #[error(
        "the disk image {path} is not the one that the recording was made with: its contents have digest {found}, and the recording's had {expected}; find the image as it was and name it with --base", path = path.display()
    )]
    Other {
        /// The image.
        path: PathBuf,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// There is no place for what is forgotten afterwards.
    #[error("what the guest writes to its disks can't be kept in {path} ({source}): name a directory with room in TMPDIR", path = path.display())]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// An overlay or a copy can't be made.
    #[error("{path} can't be written ({source}): check that its directory exists, that you may write there and that there is room", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}
