//! Marks on numbers, such as those of a large table's entries that are in use: to
//! find the marked costs what was marked.

use std::ops::Range;

/// Numbers in a word.
const WORD: usize = u64::BITS as usize;

/// A set of numbers below a bound.
#[derive(Clone, Debug)]
pub struct Marks {
    /// A bit a number.
    words: Vec<u64>,
    /// A bit a word: whether it has any.
    used: Vec<u64>,
}

impl Marks {
    /// No number below `count` is marked.
    pub fn new(count: usize) -> Marks {
        let words = count.div_ceil(WORD);
        Marks {
            words: vec![0; words],
            used: vec![0; words.div_ceil(WORD)],
        }
    }

    /// Marks `number`.
    #[inline]
    pub fn mark(&mut self, number: usize) {
        let word = number / WORD;
        self.words[word] |= 1 << (number % WORD);
        self.used[word / WORD] |= 1 << (word % WORD);
    }

    /// Of numbers that are those of entries in tables of `entries` each, one table
    /// behind the other: does as [`Marks::retain`] with `count` entries of each from
    /// its entry `first` on, and with all where that is beyond its end.
    pub fn retain_in_each(
        &mut self,
        entries: usize,
        first: usize,
        count: usize,
        mut keep: impl FnMut(usize) -> bool,
    ) {
        let range = if first.saturating_add(count) > entries {
            0..entries
        } else {
            first..first + count
        };
        for table in (0..self.words.len() * WORD).step_by(entries) {
            self.retain(table + range.start..table + range.end, &mut keep);
        }
    }

    /// Calls `keep` with the marked numbers in `range`, ascending, and takes the
    /// marks away for which it says no.
    pub fn retain(&mut self, range: Range<usize>, mut keep: impl FnMut(usize) -> bool) {
        let words = range.start / WORD..range.end.div_ceil(WORD);
        for upper in words.start / WORD..words.end.div_ceil(WORD) {
            for word in bits(self.used[upper] & within(upper, &words)).map(|n| upper * WORD + n) {
                let inside = self.words[word] & within(word, &range);
                for number in bits(inside).filter(|n| !keep(word * WORD + n)) {
                    self.words[word] &= !(1 << number);
                }
                if self.words[word] == 0 {
                    self.used[upper] &= !(1 << (word % WORD));
                }
            }
        }
    }
}

/// The bits of word `word` that stand for numbers in `range`.
fn within(word: usize, range: &Range<usize>) -> u64 {
    let first = word * WORD;
    let below = |end: usize| match end.saturating_sub(first) {
        n @ 0..WORD => (1 << n) - 1,
        _ => u64::MAX,
    };
    below(range.end) & !below(range.start)
}

/// The numbers of the bits of `word`, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const COUNT: usize = 3 * WORD * WORD;

    #[test]
    fn of_tables_the_same_entries_are_met_in_each() {
        let mut marks = Marks::new(3 * WORD);
        (0..3 * WORD).for_each(|n| marks.mark(n));
        let mut met = |first, count| {
            let mut met = Vec::new();
            marks.retain_in_each(WORD, first, count, |n| {
                met.push(n);
                true
            });
            met
        };
        assert_eq!(met(62, 2), [62, 63, 126, 127, 190, 191]);
        assert_eq!(met(62, 3).len(), 3 * WORD);
        assert_eq!(met(1, usize::MAX).len(), 3 * WORD);
    }

    proptest! {
        #[test]
        fn they_are_a_set(
            steps in prop::collection::vec((0..COUNT, 0..COUNT, 1..COUNT, 1..5usize), 1..40),
        ) {
            let (mut marks, mut set) = (Marks::new(COUNT), BTreeSet::new());
            for (number, start, length, divisor) in steps {
                for n in [number, number / 2, COUNT - 1 - number] {
                    marks.mark(n);
                    set.insert(n);
                }
                let range = start..(start + length).min(COUNT);
                let mut met = Vec::new();
                marks.retain(range.clone(), |n| {
                    met.push(n);
                    !n.is_multiple_of(divisor)
                });
                let expected: Vec<usize> = set.range(range).copied().collect();
                prop_assert_eq!(&met, &expected);
                for n in met.into_iter().filter(|n| n.is_multiple_of(divisor)) {
                    set.remove(&n);
                }
            }
        }
    }
}
