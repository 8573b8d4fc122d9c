//! Why there is no machine.

use seal::Digest;

/// Why a machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stored configuration cannot be read.
    #[error("the machine's configuration cannot be used: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// An image is not the one that the configuration names.
    #[error(
        "the {what} has digest {found}, but the machine's configuration names {expected}: give the image it was made for"
    )]
    WrongImage {
        /// `kernel` or `initrd`.
        what: &'static str,
        /// What the configuration says.
        expected: Digest,
        /// What the image has.
        found: Digest,
    },
    /// The machine is of another revision.
    #[error(
        "the machine is of revision {found} and this program makes revision {known}, in which the same recording would \
         take another course: use the program that made it (`revirt info` names it){}", if found > known { ", or a newer one" } else { "" }
    )]
    Revision {
        /// The configuration's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// The host's processor cannot run guest instructions.
    #[error(transparent)]
    Processor(#[from] silicon::Missing),
    /// The translator can't work on this host.
    #[error(transparent)]
    Translator(#[from] jit::Error),
    /// The kernel image is none, or none that can be booted in this way.
    #[error("the kernel cannot be booted: {reason}")]
    Kernel {
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The guest's memory cannot hold what is loaded into it.
    #[error(
        "{memory_bytes} bytes of memory cannot hold {what}, which takes {needed_bytes} bytes up to there: give the machine more memory"
    )]
    MemoryTooSmall {
        /// What does not fit.
        what: &'static str,
        /// How much memory below 4 GiB would be enough.
        needed_bytes: u64,
        /// How much there is.
        memory_bytes: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error(
        "the kernel's command line has {bytes} bytes, but it takes at most {bytes_max}: shorten it"
    )]
    CommandLine {
        /// Its length.
        bytes: usize,
        /// The kernel's limit.
        bytes_max: usize,
    },
    /// The disks are not those that the configuration names.
    #[error(
        "the machine's configuration names disks of {sectors:?} sectors, and it was given disks of {found:?}: give it the images it was made for"
    )]
    WrongDisks {
        /// Sizes as the configuration names them, in sectors.
        sectors: Vec<u64>,
        /// Sizes of what was given.
        found: Vec<u64>,
    },
    /// A saved state is damaged.
    #[error("the saved state of the devices cannot be used: {reason}")]
    State {
        /// What is wrong with it.
        reason: String,
    },
    /// Guest memory could not be made.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// What was asked for is not built yet.
    #[error("{what} is not supported yet")]
    NotYet {
        /// What was asked for.
        what: &'static str,
    },
}
