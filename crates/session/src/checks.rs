//! How much a recording checks, and a replay.

use std::fmt;
use std::str::FromStr;

/// How much is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// A short digest of all registers at every event; all registers, memory
    /// written since, devices and output at every epoch. What an engine or a
    /// device does wrong is caught within an epoch.
    #[default]
    Normal,
    /// Recording: all registers at every event. Replaying: all of memory at
    /// every epoch, so that what changes it behind the program's back is
    /// caught within an epoch too.
    Full,
}

/// Names, in one place.
const NAMES: [(Checks, &str); 2] = [(Checks::Normal, "normal"), (Checks::Full, "full")];

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = NAMES.iter().find(|(checks, _)| checks == self);
        f.pad(entry.expect("every value has a name").1)
    }
}

impl FromStr for Checks {
    type Err = String;

    fn from_str(text: &str) -> Result<Checks, String> {
        let entry = NAMES.iter().find(|(_, name)| *name == text);
        entry
            .map(|(checks, _)| *checks)
            .ok_or_else(|| format!("`{text}` is not known: write normal or full"))
    }
}
