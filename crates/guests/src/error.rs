//! What can go wrong while a guest is built, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a guest could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of the host is not installed.
    #[error(
        "`{program}` is needed to build the guests and is not installed; install it with: sudo apt-get install {package}"
    )]
    ToolMissing {
        /// The program that was looked for.
        program: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// A program of the host ran and failed.
    #[error("`{command}` failed ({status}):\n{message}")]
    ToolFailed {
        /// The whole command line.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// The end of what it printed.
        message: String,
    },
    /// A package is not known to apt, even with fresh lists.
    #[error(
        "apt knows no package `{package}`; the guests are built from Debian 12 packages: check that /etc/apt/sources.list names a Debian mirror that can be reached"
    )]
    PackageUnknown {
        /// The package's name.
        package: String,
    },
    /// A package does not hold the file it is known for.
    #[error(
        "the package `{package}` holds no {what}; please report this with the package's version"
    )]
    PackageUnexpected {
        /// The package's name.
        package: String,
        /// The missing file.
        what: &'static str,
    },
    /// apt knows of no Debian of the release that images are made of.
    #[error(
        "apt knows no Debian {release}, of which the image is made: add it to /etc/apt/sources.list, or build the image on a Debian 12"
    )]
    NoSource {
        /// The release.
        release: &'static str,
    },
    /// An image of that name is there.
    #[error("{} exists: remove it first, or give the image another name", path.display())]
    Exists {
        /// The image.
        path: PathBuf,
    },
    /// An image that small can't hold the system.
    #[error(
        "an image of {bytes} bytes is too small: it needs {bytes_min} at least, as with --size 1G"
    )]
    ImageSmall {
        /// What was asked for.
        bytes: u64,
        /// What is needed.
        bytes_min: u64,
    },
    /// There is no place for the guests: neither `REVIRT_GUESTS` nor `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no place to keep the guests: set REVIRT_GUESTS to a directory that can be written to")]
    NoPlace,
    /// A file could not be read or written.
    #[error("could not {action} {}: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Wraps the system's answer to `action` on `path`; for `map_err`.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
