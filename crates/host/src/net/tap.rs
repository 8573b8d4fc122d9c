//! A TAP interface: a wire to the host's own network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Setter, ioctl};

use super::Error;

/// `TUNSETIFF` (linux/if_tun.h): makes an open file the other end of an
/// interface.
const ATTACH: Opcode = 0x4004_54ca;
/// Frames, and nothing before them (`IFF_TAP`, `IFF_NO_PI`).
const FLAGS: u16 = 0x0002 | 0x1000;
/// `struct ifreq`: a name of so many bytes, the last of them zero; flags.
const NAME_BYTES: usize = 16;
const REQUEST_BYTES: usize = 40;

/// Attaches to the interface `name`, which somebody with the right to do so has
/// made. Reads and writes of the file are frames, and don't wait.
pub(super) fn open(name: &str) -> Result<File, Error> {
    attach(name).map_err(|source| Error::Tap {
        name: name.to_owned(),
        source,
    })
}

/// The longest packet that the interface `name` carries, if it is there.
pub(super) fn mtu(name: &str) -> Option<u16> {
    let text = fs::read_to_string(Path::new("/sys/class/net").join(name).join("mtu"));
    text.ok()?.trim().parse().ok()
}

fn attach(name: &str) -> io::Result<File> {
    if name.len() >= NAME_BYTES || mtu(name).is_none() {
        // The kernel would make a new one for root, of no use to anybody.
        return Err(ErrorKind::NotFound.into());
    }
    let flags = i32::from_ne_bytes(OFlags::NONBLOCK.bits().to_ne_bytes());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/net/tun")?;
    let mut request = [0; REQUEST_BYTES];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq`, which has REQUEST_BYTES bytes,
    // and any bytes are one; it writes no more than those of the copy.
    unsafe { ioctl(&file, Setter::<ATTACH, [u8; REQUEST_BYTES]>::new(request)) }?;
    Ok(file)
}
