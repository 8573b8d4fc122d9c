//! Digests: 32 bytes that stand for a content.

mod pages;

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

pub use pages::{SIDE_BY_SIDE, page_digests};

/// A BLAKE3 digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of all that `source` still yields, read piece by piece.
    pub fn of_reader(mut source: impl Read) -> io::Result<Digest> {
        let mut digester = Digester::new();
        let mut piece = vec![0; 256 * 1024];
        loop {
            match source.read(&mut piece) {
                Ok(0) => return Ok(digester.digest()),
                Ok(len) => digester.feed(&piece[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The first four bytes as a number: a short check, not a seal.
    pub fn short(&self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADigest;

impl fmt::Display for NotADigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest is written as 64 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NotADigest {}

impl FromStr for Digest {
    type Err = NotADigest;

    /// Reads what [`Digest`]'s `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Digest, NotADigest> {
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| NotADigest)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Digest(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, NotADigest> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotADigest),
    }
}

/// A digest in the making, fed piece by piece.
#[derive(Clone, Default)]
pub struct Digester(blake3::Hasher);

impl Digester {
    /// Nothing fed yet.
    pub fn new() -> Digester {
        Digester::default()
    }

    /// Nothing fed yet, in BLAKE3's key derivation mode: digests made for
    /// different purposes never meet, whatever is fed. `purpose` is a constant
    /// of the program and names the format that it belongs to.
    pub fn for_purpose(purpose: &'static str) -> Digester {
        Digester(blake3::Hasher::new_derive_key(purpose))
    }

    /// Feeds `bytes`; how they are cut into pieces makes no difference.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything fed so far; feeding may go on.
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_back_from_its_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn other_texts_are_no_digests() {
        let text = Digest::of(b"abc").to_string();
        assert_eq!(text[1..].parse::<Digest>(), Err(NotADigest));
        assert_eq!(text.to_uppercase().parse::<Digest>(), Err(NotADigest));
        assert_eq!("".parse::<Digest>(), Err(NotADigest));
    }

    #[test]
    fn a_reader_and_a_slice_have_the_same_digest() {
        let bytes = vec![7; 1_000_000];
        assert_eq!(Digest::of_reader(&bytes[..]).ok(), Some(Digest::of(&bytes)));
    }

    #[test]
    fn purposes_do_not_meet() {
        let one = Digester::for_purpose("one").digest();
        assert_ne!(one, Digester::for_purpose("two").digest());
        assert_ne!(one, Digester::new().digest());
    }
}
