//! A TAP interface: a wire to the host's own network.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};

use super::Error;

/// `TUNSETIFF` (linux/if_tun.h): makes an open file the other end of an
/// interface.
const ATTACH: Opcode = 0x4004_54ca;
/// Frames, and nothing before them (`IFF_TAP`, `IFF_NO_PI`).
const FLAGS: u16 = 0x0002 | 0x1000;
/// `SIOCGIFMTU` (linux/sockios.h): the longest packet of an interface.
const MTU: Opcode = 0x8921;
/// `struct ifreq`: a name of so many bytes, the last of them zero; then what the
/// request is about.
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
    // Any socket will do. Not `/sys/class/net`: that is of the network namespace
    // which it was mounted in, and ours may be another.
    let socket = UnixDatagram::unbound().ok()?;
    let answer = request::<MTU>(&socket, name, 0).ok()?;
    let (_, value) = answer.split_at(NAME_BYTES);
    let value = i32::from_ne_bytes(*value.first_chunk()?);
    u16::try_from(value).ok()
}

fn attach(name: &str) -> io::Result<File> {
    if mtu(name).is_none() {
        // The kernel would make a new one for root, of no use to anybody.
        return Err(Errno::NODEV.into());
    }
    let flags = i32::from_ne_bytes(OFlags::NONBLOCK.bits().to_ne_bytes());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/net/tun")?;
    request::<ATTACH>(&file, name, FLAGS)?;
    Ok(file)
}

/// Makes the request `OPCODE` of the interface `name` with `flags`. Returns what
/// the kernel made of it.
fn request<const OPCODE: Opcode>(
    file: impl AsFd,
    name: &str,
    flags: u16,
) -> io::Result<[u8; REQUEST_BYTES]> {
    const { assert!(OPCODE == ATTACH || OPCODE == MTU) };
    if name.len() >= NAME_BYTES {
        return Err(Errno::NODEV.into());
    }
    let mut request = [0; REQUEST_BYTES];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: both requests read and write a `struct ifreq`, and nothing else; it
    // has REQUEST_BYTES bytes, and any bytes are one.
    unsafe {
        ioctl(
            file,
            Updater::<OPCODE, [u8; REQUEST_BYTES]>::new(&mut request),
        )
    }?;
    Ok(request)
}
