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
