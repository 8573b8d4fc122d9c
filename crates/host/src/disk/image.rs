//! An image: the file or files that hold what a disk begins with.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use devices::SECTOR_BYTES;
use seal::{Digest, Digester};

use super::raw::Raw;
use super::{Base, Error, Stamps, lock, qcow2, qcow2_layout};

/// 16 TiB: clusters are numbered with 32 bits.
const BYTES_MAX: u64 = 1 << 44;
/// An image is read in pieces of this size.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// How an image is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk, byte by byte.
    Raw,
    /// QEMU's format.
    Qcow2,
}

/// Names, in one place.
const NAMES: [(Format, &str); 2] = [(Format::Raw, "raw"), (Format::Qcow2, "qcow2")];

impl Format {
    /// The name that a user writes.
    pub fn name(self) -> &'static str {
        let entry = NAMES.iter().find(|(format, _)| *format == self);
        entry.expect("every format has a name").1
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let entry = NAMES.iter().find(|(_, name)| *name == text);
        entry
            .map(|(format, _)| *format)
            .ok_or_else(|| format!("`{text}` is no format of disk images: write raw or qcow2"))
    }
}

/// Told how many bytes of how many are done.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// An image, open for reading and held with a shared lock.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    format: Format,
    base: Rc<dyn Base>,
    stamps: Stamps,
}

impl Image {
    /// Opens the image at `path`. Without a `format` it is qcow2 if it begins
    /// as such an image does, and otherwise raw.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Image, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let found = std::fs::metadata(path).map_err(read)?;
        let kind = found.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let kind = if kind.is_dir() {
                "directory"
            } else {
                "special file"
            };
            let path = path.to_owned();
            return Err(Error::Kind { path, kind });
        }
        let path = path.canonicalize().map_err(read)?;
        let file = File::open(&path).map_err(read)?;
        let format = match format {
            Some(format) => format,
            None => probe(&file, &path)?,
        };
        let (base, files): (Rc<dyn Base>, Vec<PathBuf>) = match format {
            Format::Raw => {
                let locked = lock::share(&file);
                locked.map_err(|by| Error::Locked {
                    path: path.clone(),
                    by,
                })?;
                (Rc::new(Raw::new(file).map_err(read)?), vec![path.clone()])
            }
            Format::Qcow2 => {
                let (chain, files) = qcow2::open(&path)?;
                (Rc::new(chain), files)
            }
        };
        match base.bytes() {
            0 => Err(Error::Empty(path)),
            bytes if bytes > BYTES_MAX => Err(Error::TooLong {
                path,
                bytes,
                bytes_max: BYTES_MAX,
            }),
            _ => Ok(Image {
                stamps: Stamps::of(files.iter().map(PathBuf::as_path))?,
                path,
                format,
                base,
            }),
        }
    }

    /// Where it is: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is written down.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How long the disk is, in sectors of 512 bytes. A part of a sector at the
    /// end counts: zeros follow it.
    pub fn sectors(&self) -> u64 {
        self.base.bytes().div_ceil(SECTOR_BYTES)
    }

    /// The files that it consists of, as they were when it was opened.
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// The digest of the disk's contents, whatever the format: of a raw image
    /// it is the file's, as `b3sum` tells it, zeros to a whole sector added.
    pub fn digest(&self, progress: Progress<'_>) -> Result<Digest, Error> {
        let mut digester = Digester::new();
        self.read_all(progress, |_, piece| {
            digester.feed(piece);
            Ok(())
        })?;
        self.stamps.check()?;
        Ok(digester.digest())
    }

    /// Gives `take` all contents, in order, with the places of its pieces.
    pub(super) fn read_all(
        &self,
        progress: Progress<'_>,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bytes = self.sectors() * SECTOR_BYTES;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < bytes {
            let length = (bytes - at).min(PIECE_BYTES as u64);
            let piece = &mut piece[..length as usize];
            if self.base.zeros_at(at) >= length {
                piece.fill(0);
            } else {
                self.base
                    .read(at, piece)
                    .map_err(|source| self.unreadable(source))?;
            }
            take(at, piece)?;
            at += length;
            progress(at, bytes);
        }
        Ok(())
    }

    fn unreadable(&self, source: io::Error) -> Error {
        match self.format {
            Format::Raw => Error::Read {
                path: self.path.clone(),
                source,
            },
            Format::Qcow2 => Error::Damaged {
                path: self.path.clone(),
                format: self.format.name(),
                reason: source.to_string(),
            },
        }
    }

    /// An error unless the contents have the digest `expected`.
    pub fn check(&self, expected: Digest, progress: Progress<'_>) -> Result<(), Error> {
        let found = self.digest(progress)?;
        if found == expected {
            return Ok(());
        }
        Err(Error::Other {
            path: self.path.clone(),
            expected,
            found,
        })
    }

    pub(super) fn base(&self) -> &Rc<dyn Base> {
        &self.base
    }

    pub(super) fn into_base(self) -> Rc<dyn Base> {
        self.base
    }
}

/// What images of formats that are not supported begin with.
const FOREIGN: [(&[u8], &str); 6] = [
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vhd"),
    (b"<<< ", "vdi"),
    (b"QED\0", "qed"),
];
/// The longest of these.
const MAGIC_BYTES: usize = 24;

/// The format of the image in `file` at `path`, by how it begins.
fn probe(file: &File, path: &Path) -> Result<Format, Error> {
    let mut start = [0; MAGIC_BYTES];
    let length = file.read_at(&mut start, 0).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let start = &start[..length];
    if start.starts_with(&qcow2_layout::MAGIC) {
        return Ok(Format::Qcow2);
    }
    match FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some(&(_, what)) => Err(Error::Foreign {
            path: path.to_owned(),
            what,
        }),
        None => Ok(Format::Raw),
    }
}
