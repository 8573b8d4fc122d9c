//! Registers as the log holds them.
//!
//! A recording's manifest names its registers, in order; the log holds their
//! values, 16 bytes each, little-endian. So a later version, whose processor
//! has more of them, still reads and checks a recording made now.

use machine::{Machine, Registers};
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
}

/// A machine's registers, as the log holds them at a moment. Many events come at the
/// moment of the one before: their registers are digested once.
#[derive(Debug)]
pub(crate) struct View {
    layout: Layout,
    seen: Option<Registers>,
    bytes: Vec<u8>,
    check: u32,
}

impl View {
    /// Of nothing yet.
    pub(crate) fn new(layout: Layout) -> View {
        View {
            layout,
            seen: None,
            bytes: Vec::new(),
            check: 0,
        }
    }

    /// Looks at the registers that `machine` has now.
    pub(crate) fn look(&mut self, machine: &Machine) {
        let cpu = machine.cpu();
        if self.seen.as_ref().is_some_and(|seen| seen.are_of(cpu)) {
            return;
        }
        let registers = machine.registers();
        self.bytes = self.layout.bytes(&registers);
        self.check = Digest::of(&self.bytes).short();
        self.seen = Some(registers);
    }

    /// Their values.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The short digest of these, which stands at every event.
    pub(crate) fn check(&self) -> u32 {
        self.check
    }

    /// What differs between them and the values in `expected`.
    pub(crate) fn differences(&self, expected: &[u8]) -> Vec<RegisterDifference> {
        let pairs = values(expected).zip(values(&self.bytes));
        let named = self.layout.0.iter().zip(pairs);
        named
            .filter(|(_, (expected, found))| expected != found)
            .map(|(name, (expected, found))| RegisterDifference {
                name: name.clone(),
                expected,
                found,
            })
            .collect()
    }

    /// Names and values.
    pub(crate) fn pairs(&self) -> Vec<(String, u128)> {
        let names = self.layout.0.iter().cloned();
        names.zip(values(&self.bytes)).collect()
    }
}

fn values(bytes: &[u8]) -> impl Iterator<Item = u128> + '_ {
    bytes.chunks_exact(VALUE_BYTES).map(|chunk| {
        let mut value = [0; VALUE_BYTES];
        value.copy_from_slice(chunk);
        u128::from_le_bytes(value)
    })
}
