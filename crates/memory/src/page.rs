//! A byte of flags for each page.

use std::cell::Cell;

/// Flags of all pages, by page number.
#[derive(Debug)]
pub struct Pages(Box<[Cell<u8>]>);

impl Pages {
    /// `count` pages with no flag set.
    pub(crate) fn new(count: usize) -> Pages {
        Pages(vec![Cell::new(0); count].into_boxed_slice())
    }

    /// The flags of page `number`; none outside of memory.
    #[inline]
    pub fn get(&self, number: u64) -> u8 {
        usize::try_from(number)
            .ok()
            .and_then(|n| self.0.get(n))
            .map_or(0, Cell::get)
    }

    /// Sets `flags` on page `number`.
    #[inline]
    pub fn set(&self, number: u64, flags: u8) {
        if let Some(page) = usize::try_from(number).ok().and_then(|n| self.0.get(n)) {
            page.set(page.get() | flags);
        }
    }

    /// Clears `flags` on page `number`.
    #[inline]
    pub fn clear(&self, number: u64, flags: u8) {
        if let Some(page) = usize::try_from(number).ok().and_then(|n| self.0.get(n)) {
            page.set(page.get() & !flags);
        }
    }

    /// The numbers of all pages that have any of `flags`, ascending.
    pub fn with(&self, flags: u8) -> impl Iterator<Item = u64> + '_ {
        (0u64..)
            .zip(self.0.iter())
            .filter(move |(_, page)| page.get() & flags != 0)
            .map(|(n, _)| n)
    }
}
