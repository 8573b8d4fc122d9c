//! Bytes of a frame's body: varints and a strict cursor.

use seal::Digest;

/// Bytes that are no event of this format. Only whoever holds the log's chain
/// can make such a frame: a flipped bit is caught by checksums before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The body ends in the middle of an event.
    #[error("it ends too early")]
    Short,
    /// A varint is longer than needed, or than 64 bits.
    #[error("a number is not written in its one shortest form")]
    Varint,
    /// A head byte has a bit set that means nothing.
    #[error("it has an unknown flag: {0:#04x}")]
    Flag(u8),
    /// A vCPU or `rcx` is written that is 0.
    #[error("a zero is written out that should be left out")]
    Zero,
    /// No such kind of event.
    #[error("there is no kind of event {0}")]
    Kind(u8),
    /// No such door.
    #[error("there is no door {0}")]
    Door(u64),
    /// Bytes came through a door that carries none.
    #[error("the door carries no bytes, yet {0} came through it")]
    Bytes(u64),
    /// No such reason to end.
    #[error("there is no reason to end {0}")]
    Reason(u64),
    /// A length is beyond its bound.
    #[error("a length of {len} bytes is more than the {max} allowed")]
    Length {
        /// The length found.
        len: u64,
        /// The bound.
        max: u64,
    },
    /// A counter runs over 64 bits.
    #[error("a counter runs over")]
    Overflow,
    /// A body has a form that does not exist.
    #[error("there is no form {0} of a body")]
    Form(u8),
    /// A compressed body does not give the bytes that it promises.
    #[error("what is compressed here is not as long as it says, or damaged")]
    Packed,
    /// A digest is repeated that should be left out.
    #[error("a digest is repeated that should be left out")]
    Repeated,
    /// Registers are not written in their one form.
    #[error("registers are not written in their one shortest form")]
    Registers,
    /// The branch count or the clock decreases from the segment before.
    #[error("time runs backwards: {found} after {before}")]
    Backwards {
        /// The value before.
        before: u64,
        /// The lesser value found.
        found: u64,
    },
}

/// Appends `value` in its one shortest form.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Maps 0, -1, 1, -2 ... to 0, 1, 2, 3 ...
pub(crate) fn zigzag(difference: u64) -> u64 {
    let sign = difference.cast_signed() >> 63;
    (difference << 1) ^ sign.cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// What is left of a frame's body.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor(bytes)
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Malformed> {
        self.array().map(Digest)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(Malformed::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    /// A varint that is a length of at most `max`.
    pub(crate) fn length(&mut self, max: usize) -> Result<usize, Malformed> {
        let len = self.varint()?;
        usize::try_from(len)
            .ok()
            .filter(|len| *len <= max)
            .ok_or(Malformed::Length {
                len,
                max: max as u64,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_is_read_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varint(), Ok(value));
            prop_assert_eq!(cursor.left(), 0);
        }

        #[test]
        fn a_varint_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut cursor = Cursor::new(&bytes);
            if let Ok(value) = cursor.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert_eq!(&bytes[..bytes.len() - cursor.left()], &again[..]);
            }
        }

        #[test]
        fn zigzag_is_undone(value: u64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn zigzag_puts_small_differences_first() {
        let differences = [0, u64::MAX, 1, u64::MAX - 1].map(zigzag);
        assert_eq!(differences, [0, 1, 2, 3]);
    }
}
