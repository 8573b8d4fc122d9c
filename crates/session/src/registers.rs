//! Registers as the log holds them.
//!
//! A recording's manifest names its registers, in order; the log holds their
//! values, 16 bytes each, little-endian. So a later version, whose processor
//! has more of them, still reads and checks a recording made now.

use machine::Registers;
use seal::Digest;

/// The names of a recording's registers, in the order of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout(Vec<String>);

/// A register whose value is not the recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterDifference {
    /// Its name.
    pub name: String,
    /// As recorded.
    pub expected: u128,
    /// As replayed.
    pub found: u128,
}

const VALUE_BYTES: usize = 16;

impl Layout {
    /// All registers of this version's processor.
    pub(crate) fn of(registers: &Registers) -> Layout {
        Layout(registers.iter().map(|(name, _)| name.to_owned()).collect())
    }

    pub(crate) fn named(names: Vec<String>) -> Layout {
        Layout(names)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    /// The first name that `registers` doesn't have.
    pub(crate) fn unknown(&self, registers: &Registers) -> Option<&str> {
        let is_known = |name: &&String| registers.iter().any(|(known, _)| known == name.as_str());
        self.0
            .iter()
            .find(|name| !is_known(name))
            .map(String::as_str)
    }

    /// The values of `registers`; one that isn't there counts as 0.
    pub(crate) fn bytes(&self, registers: &Registers) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * VALUE_BYTES);
        let mut rest = registers.iter();
        for name in &self.0 {
            // The same order, nearly always: then each is the next.
            let found = rest.next().filter(|(next, _)| next == name);
            let found = found.or_else(|| registers.iter().find(|(known, _)| known == name));
            bytes.extend_from_slice(&found.map_or(0, |(_, value)| value).to_le_bytes());
        }
        bytes
    }

    /// What differs between the values in `expected` and in `found`.
    pub(crate) fn differences(&self, expected: &[u8], found: &[u8]) -> Vec<RegisterDifference> {
        let pairs = self.0.iter().zip(values(expected).zip(values(found)));
        pairs
            .filter(|(_, (expected, found))| expected != found)
            .map(|(name, (expected, found))| RegisterDifference {
                name: name.clone(),
                expected,
                found,
            })
            .collect()
    }

    /// Names and values.
    pub(crate) fn pairs(&self, bytes: &[u8]) -> Vec<(String, u128)> {
        self.0.iter().cloned().zip(values(bytes)).collect()
    }
}

/// The short digest that stands at every event.
pub(crate) fn check(bytes: &[u8]) -> u32 {
    Digest::of(bytes).short()
}

fn values(bytes: &[u8]) -> impl Iterator<Item = u128> + '_ {
    bytes.chunks_exact(VALUE_BYTES).map(|chunk| {
        let mut value = [0; VALUE_BYTES];
        value.copy_from_slice(chunk);
        u128::from_le_bytes(value)
    })
}
