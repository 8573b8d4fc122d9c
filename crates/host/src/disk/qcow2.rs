//! A qcow2 image, with the images that it lies on. Read by `imago`; what it
//! opens passes through our gate, which sees to locks and loops.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use imago::file::File;
use imago::format::builder::FormatDriverBuilder;
use imago::format::gate::ImplicitOpenGate;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, Mapping, Storage, StorageOpenOptions};

use super::qcow2_layout::{self, Flaw};
use super::{Base, Error, lock};

/// More files than any chain of backing files needs.
const FILES_MAX: usize = 64;
/// A qcow2 image.
#[derive(Debug)]
pub(super) struct Chain {
    image: FormatAccess<File>,
    /// Open as long as the image is, so that their locks last.
    _held: Vec<fs::File>,
}

/// The image at `path`, and all files that it consists of.
pub(super) fn open(path: &Path) -> Result<(Chain, Vec<PathBuf>), Error> {
    let gate = Gate::default();
    let opened = Qcow2::<File>::builder_path(path).open(gate.clone());
    let Opened {
        files,
        held,
        refusal,
    } = gate.0.take();
    if let Some(refusal) = refusal {
        return Err(refusal.into_error(path));
    }
    let image = opened.map_err(|error| damaged(path, error.to_string()))?;
    let chain = Chain {
        image: FormatAccess::new(image),
        _held: held,
    };
    Ok((chain, files))
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        format: "qcow2",
        reason,
    }
}

impl Base for Chain {
    fn bytes(&self) -> u64 {
        self.image.size()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.check_reach(at, into.len() as u64)?;
        self.image.read(into, at)
    }

    fn zeros_at(&self, at: u64) -> u64 {
        let left = self.bytes().saturating_sub(at);
        match self.image.get_mapping(at, left) {
            Ok((Mapping::Zero { .. }, bytes)) => bytes,
            _ => 0,
        }
    }
}

impl Chain {
    /// An image that was cut off has clusters that begin behind its end. They
    /// would read as zeros; but they are lost.
    fn check_reach(&self, at: u64, bytes: u64) -> io::Result<()> {
        let (mut at, end) = (at, at.saturating_add(bytes).min(self.bytes()));
        while at < end {
            let (mapping, length) = self.image.get_mapping(at, end - at)?;
            if let Mapping::Raw {
                storage, offset, ..
            } = mapping
                && offset >= storage.size()?
            {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the image is cut off",
                ));
            }
            if length == 0 {
                break;
            }
            at += length;
        }
        Ok(())
    }
}

/// Sees each file before it is opened.
#[derive(Clone, Debug, Default)]
struct Gate(Rc<RefCell<Opened>>);

#[derive(Debug, Default)]
struct Opened {
    files: Vec<PathBuf>,
    held: Vec<fs::File>,
    refusal: Option<Refusal>,
}

/// Why a file of the chain was not opened.
#[derive(Debug)]
enum Refusal {
    Read(PathBuf, io::Error),
    Locked(PathBuf, lock::Holder),
    Flaw(PathBuf, Flaw),
    Loop(PathBuf),
    TooMany,
}

impl Refusal {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Refusal::Read(path, source) => Error::Read { path, source },
            Refusal::Locked(path, by) => Error::Locked { path, by },
            Refusal::Flaw(path, Flaw::Damaged(reason)) => damaged(&path, reason.to_owned()),
            Refusal::Flaw(path, Flaw::Unknown(what)) => Error::Unknown { path, what },
            Refusal::Loop(link) => Error::Loop {
                path: path.to_owned(),
                link,
            },
            Refusal::TooMany => Error::Chain {
                path: path.to_owned(),
                files_max: FILES_MAX,
            },
        }
    }
}

impl Gate {
    /// Takes the file at `path` into the chain.
    fn pass(&self, path: &Path) -> Result<(), Refusal> {
        let read = |source| Refusal::Read(path.to_owned(), source);
        let file = fs::File::open(path).map_err(read)?;
        let path = path.canonicalize().map_err(read)?;
        let read = |source| Refusal::Read(path.clone(), source);
        let mut opened = self.0.borrow_mut();
        if opened.files.contains(&path) {
            return Err(Refusal::Loop(path));
        }
        if opened.files.len() == FILES_MAX {
            return Err(Refusal::TooMany);
        }
        lock::share(&file).map_err(|by| Refusal::Locked(path.clone(), by))?;
        if let Some(flaw) = qcow2_layout::flaw(&file).map_err(read)? {
            return Err(Refusal::Flaw(path, flaw));
        }
        opened.files.push(path);
        opened.held.push(file);
        Ok(())
    }
}

impl ImplicitOpenGate<File> for Gate {
    fn open_format<F: FormatDriverBuilder<File>>(
        &mut self,
        builder: F,
    ) -> io::Result<FormatAccess<File>> {
        Ok(FormatAccess::new(builder.open(self.clone())?))
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<File> {
        let path = options.get_filename().map(Path::to_owned);
        let path = path.ok_or_else(|| io::Error::other("a file without a name"))?;
        if let Err(refusal) = self.pass(&path) {
            self.0.borrow_mut().refusal = Some(refusal);
            return Err(io::Error::other("refused"));
        }
        File::open(options)
    }
}
