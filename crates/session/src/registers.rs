//! Registers as the log holds them.
//!
//! A recording's manifest names its registers, in order; the log holds their
//! values, 16 bytes each, little-endian. So a later version, whose processor
//! has more of them, still reads and checks a recording made now.

use machine::{Machine, Registers};
use seal::Digest;

/// The names of a recording's registers, in the order of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    names: Vec<String>,
    /// Where each is among this version's; `None`: it isn't there.
    places: Vec<Option<usize>>,
}

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
    pub(crate) fn current() -> Layout {
        Layout::named(Registers::names().map(str::to_owned).collect())
    }

    pub(crate) fn named(names: Vec<String>) -> Layout {
        let place = |name: &String| Registers::names().position(|known| known == name);
        let places = names.iter().map(place).collect();
        Layout { names, places }
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The first name that this version's processor doesn't have.
    pub(crate) fn unknown(&self) -> Option<&str> {
        let place = self.places.iter().position(Option::is_none)?;
        Some(&self.names[place])
    }
}

/// A machine's registers, as the log holds them at a moment. Many events come at the
/// moment of the one before: their registers are digested once.
#[derive(Debug)]
pub(crate) struct View {
    layout: Layout,
    seen: Registers,
    bytes: Vec<u8>,
    check: u32,
}

impl View {
    /// Of those that `machine` has now.
    pub(crate) fn new(layout: Layout, machine: &Machine) -> View {
        let mut view = View {
            layout,
            seen: machine.registers(),
            bytes: Vec::new(),
            check: 0,
        };
        view.digest();
        view
    }

    /// Looks at the registers that `machine` has now.
    pub(crate) fn look(&mut self, machine: &Machine) {
        if self.seen.follow(machine.cpu()) {
            self.digest();
        }
    }

    /// Works out bytes and check. A register that isn't there counts as 0.
    fn digest(&mut self) {
        self.bytes.clear();
        for place in &self.layout.places {
            let value = place.map_or(0, |place| self.seen.values()[place]);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.check = Digest::of(&self.bytes).short();
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
        let named = self.layout.names.iter().zip(pairs);
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
        let names = self.layout.names.iter().cloned();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_knows_which_registers_this_version_has() {
        assert_eq!(Layout::current().unknown(), None);
        let names = ["rip", "flux", "branches"].map(str::to_owned).to_vec();
        let layout = Layout::named(names);
        assert_eq!(layout.unknown(), Some("flux"));
        assert_eq!(layout.places, [Some(1), None, Some(0)]);
    }
}
