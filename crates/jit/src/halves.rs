//! Lists by half of the linear addresses: a change of address spaces drops what is
//! in the lower one.

use cpu::Dropped;
use x86::Linear;

/// A list for the lower half, and one for the upper.
#[derive(Debug)]
pub(crate) struct Halves<T>([Vec<T>; 2]);

impl<T> Default for Halves<T> {
    fn default() -> Self {
        Halves([Vec::new(), Vec::new()])
    }
}

impl<T> Halves<T> {
    /// The list for `at`'s half.
    pub(crate) fn of(&self, at: Linear) -> &Vec<T> {
        &self.0[at.half()]
    }

    /// The same, to be changed.
    pub(crate) fn of_mut(&mut self, at: Linear) -> &mut Vec<T> {
        &mut self.0[at.half()]
    }

    /// Takes out what is in the halves that `dropped` covers as a whole.
    pub(crate) fn take(&mut self, dropped: &Dropped) -> impl Iterator<Item = T> {
        let covered = match (dropped.all, dropped.covers_low()) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        };
        self.0[..covered].iter_mut().flat_map(|half| half.drain(..))
    }

    /// Empties both.
    pub(crate) fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }
}
