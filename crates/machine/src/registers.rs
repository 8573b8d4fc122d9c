//! The processor's registers by name: for checks, digests and reports.

use cpu::Cpu;
use seal::{Digest, Digester};

/// All architectural registers at a moment, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers(Vec<(&'static str, u128)>);

impl Registers {
    /// Those of `cpu`.
    pub(crate) fn of(cpu: &Cpu) -> Registers {
        let mut list = Vec::with_capacity(128);
        list.extend([
            ("rip", cpu.rip.into()),
            ("rflags", cpu.flags.value().into()),
        ]);
        list.extend(
            x86::gpr::NAMES
                .iter()
                .zip(cpu.gpr)
                .map(|(name, value)| (*name, value.into())),
        );
        Registers(list)
    }

    /// Names and values, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u128)> + '_ {
        self.0.iter().copied()
    }

    /// A digest of all values.
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::new();
        self.0
            .iter()
            .for_each(|(_, value)| digester.feed(&value.to_le_bytes()));
        digester.digest()
    }

    /// The registers that differ, as (name, here, there).
    pub fn differences(&self, other: &Registers) -> Vec<(&'static str, u128, u128)> {
        let pairs = self.iter().zip(other.iter());
        pairs
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a.0, a.1, b.1))
            .collect()
    }
}
