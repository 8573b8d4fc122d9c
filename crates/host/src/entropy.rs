//! Randomness.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::Error;

/// `N` random bytes.
pub fn entropy<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let mut filled = 0;
    // Each turn fills at least one byte, so there are at most N of them.
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::Entropy(errno.into())),
        }
    }
    Ok(bytes)
}
