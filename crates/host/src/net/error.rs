//! Why there is no wire.

use std::io;
use std::path::PathBuf;

/// Why a network card could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// passt is not installed.
    #[error(
        "the guest's network is made by `passt`, which is not installed: install it with `sudo apt-get install passt`, or go without network with `--net none`"
    )]
    NoPasst,
    /// A port to be forwarded is in use, or is not ours to take.
    #[error(
        "port {port} can't be forwarded to the guest: another program has it, or it is below 1024 and you are not root; choose another with --forward"
    )]
    Port {
        /// As passt was given it.
        port: String,
    },
    /// passt did not start.
    #[error("passt did not start ({said}): see to that, or go without network with `--net none`")]
    Passt {
        /// What it said.
        said: String,
    },
    /// There is no TAP interface that we may use.
    #[error(
        "the TAP interface {name} can't be used ({source}): make it as root with `ip tuntap add {name} mode tap user $USER` and `ip link set {name} up`"
    )]
    Tap {
        /// Its name.
        name: String,
        /// What the host says.
        source: io::Error,
    },
    /// The socket between two machines can't be made.
    #[error("the socket {path} can't be used ({source}): name a path where you may write, and that is no file", path = path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// A host resource is missing: a thread, a descriptor.
    #[error("the network can't be set up ({0}): check the limits on this process")]
    Limits(#[from] io::Error),
}
