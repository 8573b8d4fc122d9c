//! What the world can do to a session.

use std::io;
use std::path::PathBuf;

/// Why a session could not begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory for a new recording is there already.
    #[error("{path} exists already, and a recording is never overwritten: name a new directory", path = .0.display())]
    Exists(PathBuf),
    /// In lockstep, the engines did not come to the same.
    #[error("{0}: this is a bug of the engine; please report it with the recording")]
    Engines(Box<machine::Disagreement>),
    /// Something could not be written.
    #[error("{path} can't be written ({source}): check that its directory exists, that you may write there and that there is room", path = path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// The host gave no random bytes.
    #[error("{0}")]
    Entropy(#[source] io::Error),
    /// Something could not be read.
    #[error("{path} can't be read ({source}): check that it exists and that you may read it", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// There is no recording.
    #[error("{path} holds no recording (there is no recording.json in it): name the directory that `revirt record -o` made", path = .0.display())]
    NoRecording(PathBuf),
    /// The recording is of a later format.
    #[error(
        "{path} is of format {found}, and this program knows formats up to {known}: use the program that made it \
         ({program}), or a newer one", path = path.display()
    )]
    Future {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that we know.
        known: u64,
        /// Who made it.
        program: String,
    },
    /// The manifest is not as it was written.
    #[error("{path} is damaged ({reason}): restore it from a copy", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An image is not the one that the machine was started with.
    #[error("{path} is altered: its digest is {found}, and the recording was made with {expected}; restore it from a copy", path = path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// As recorded.
        expected: seal::Digest,
        /// As it is.
        found: seal::Digest,
    },
    /// The manifest is not the one that the log was made with.
    #[error("{path} is altered: its digest is {found}, and the log was made with {expected}; restore it from a copy", path = path.display())]
    OtherManifest {
        /// The manifest.
        path: PathBuf,
        /// As the log's first header says.
        expected: seal::Digest,
        /// As the manifest says.
        found: seal::Digest,
    },
    /// The recording has a register that this version's machine hasn't.
    #[error(
        "the recording checks register {0}, which this program doesn't know: use the program that made it, or a newer one"
    )]
    UnknownRegister(String),
    /// The machine can't be made.
    #[error(transparent)]
    Machine(#[from] machine::Error),
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The log can't be written.
    #[error("the recording stops here: {0}")]
    Tape(#[from] log::WriteError),
    /// The disks' contents can't be had.
    #[error(transparent)]
    Disks(machine::Failed),
    /// The host could not read or write a disk's contents.
    #[error("disk {disk}: {reason}")]
    Disk {
        /// Its number, from 0.
        disk: usize,
        /// What the host says, and what to do.
        reason: machine::Failed,
    },
    /// The guest's console can't be shown.
    #[error("the guest's console can't be shown ({0}): check where standard output goes")]
    Print(#[source] io::Error),
    /// There is no such place in the recording.
    #[error("the recording has no place {place}: it ends at {end}; ask for an earlier one")]
    NoSuchPlace {
        /// What was asked for.
        place: crate::When,
        /// The last place there is.
        end: moment::Moment,
    },
    /// The run never comes to this program counter at this branch count.
    #[error(
        "the recording has no place {place}: the run passes that branch count and is now at {passed}; take a moment from `revirt log` or a report"
    )]
    Passed {
        /// What was asked for.
        place: crate::When,
        /// Where that was seen.
        passed: moment::Moment,
    },
    /// A bit to be flipped is not in memory.
    #[error(
        "there is no byte of guest memory at {0:#x}: give a guest-physical address below the memory's size"
    )]
    NoSuchByte(u64),
}

impl Error {
    /// Whether this says that a recording was altered, not that it can't be
    /// judged.
    pub fn is_alteration(&self) -> bool {
        matches!(
            self,
            Error::Image { .. }
                | Error::Manifest { .. }
                | Error::OtherManifest { .. }
                | Error::Log(log::Error::Damage(_))
        )
    }
}
