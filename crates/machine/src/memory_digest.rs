//! A digest of all of guest memory that costs what has been written since.
//!
//! A tree of two levels: a digest for each page, one for each group of 512
//! pages (2 MiB), and a root over the groups. A page of zeros has the digest
//! of 32 zero bytes and is never hashed, and so has a group of such pages: so
//! it makes no difference whether a page was written with zeros or not at all.

use memory::{Ram, flag};
use seal::{Digest, Digester, SIDE_BY_SIDE};
use x86::{PAGE_BYTES, Physical};

/// Pages in a group.
const GROUP: usize = 512;
/// Bytes in a page, as a length.
const PAGE: usize = 4096;

/// Digests of pages, groups and the whole.
#[derive(Debug, Default)]
pub(crate) struct MemoryDigest {
    /// By page number, as far as any page was not zero.
    pages: Vec<Digest>,
    groups: Vec<Digest>,
    /// The pages that the last update found changed, ascending.
    changed: Vec<u64>,
}

impl MemoryDigest {
    /// The digest of `ram`, where only dirty pages have changed since the last call.
    /// They are clean then.
    ///
    /// To see when a page is stored to next costs more than to hash it. So those that
    /// change from one call to the next, as far as the last two tell, stay dirty.
    pub(crate) fn update(&mut self, ram: &Ram) -> Digest {
        let before = std::mem::take(&mut self.changed);
        let digest = self.rehash(ram, ram.take_dirty().into_iter());
        let was_changed = |number: &&u64| before.binary_search(number).is_ok();
        let busy = self.changed.iter().filter(was_changed);
        busy.for_each(|&number| ram.pages().set(number, flag::DIRTY));
        digest
    }

    /// Hashes the pages `numbers` (ascending), and what follows from them.
    fn rehash(&mut self, ram: &Ram, numbers: impl Iterator<Item = u64>) -> Digest {
        let mut stale_groups = Vec::new();
        let mut before = Vec::new();
        let mut batch = Batch::new();
        for number in numbers {
            let Ok(index) = usize::try_from(number) else {
                continue;
            };
            let group = index / GROUP;
            if stale_groups.last() != Some(&group) {
                stale_groups.push(group);
            }
            if self.pages.len() < (group + 1) * GROUP {
                self.pages.resize((group + 1) * GROUP, Digest::default());
                self.groups.resize(group + 1, Digest::default());
            }
            before.push((number, std::mem::take(&mut self.pages[index])));
            batch.take(ram, index);
            if batch.is_full() {
                batch.give(&mut self.pages);
            }
        }
        batch.give(&mut self.pages);
        stale_groups
            .into_iter()
            .for_each(|stale| self.rehash_group(stale));
        before.retain(|(number, before)| self.page(*number) != *before);
        self.changed = before.into_iter().map(|(number, _)| number).collect();
        self.root(ram)
    }

    /// The digest of `ram`, every page hashed anew. Pages that the host has
    /// given no memory are zeros without a look: to read them would give it.
    pub(crate) fn update_fully(&mut self, ram: &Ram) -> Digest {
        *self = MemoryDigest::default();
        let resident = (0u64..).zip(ram.resident());
        let pages = resident.filter_map(|(number, resident)| resident.then_some(number));
        self.rehash(ram, pages)
    }

    /// The digest of page `number` as of the last update.
    pub(crate) fn page(&self, number: u64) -> Digest {
        let index = usize::try_from(number).ok();
        index
            .and_then(|index| self.pages.get(index))
            .copied()
            .unwrap_or_default()
    }

    fn rehash_group(&mut self, group: usize) {
        let pages = &self.pages[group * GROUP..(group + 1) * GROUP];
        self.groups[group] = if pages.iter().all(|page| *page == Digest::default()) {
            Digest::default()
        } else {
            let mut digester = Digester::new();
            pages.iter().for_each(|page| digester.feed(&page.0));
            digester.digest()
        };
    }

    fn root(&self, ram: &Ram) -> Digest {
        let mut digester = Digester::new();
        digester.feed(&ram.size_bytes().to_le_bytes());
        let used = self
            .groups
            .iter()
            .rposition(|group| *group != Digest::default());
        let used = used.map_or(0, |last| last + 1);
        self.groups[..used]
            .iter()
            .for_each(|group| digester.feed(&group.0));
        digester.digest()
    }
}

/// Pages that are hashed together.
struct Batch {
    indices: Vec<usize>,
    /// As many as there are indices count.
    contents: Box<[[u8; PAGE]; SIDE_BY_SIDE]>,
}

impl Batch {
    fn new() -> Batch {
        Batch {
            indices: Vec::with_capacity(SIDE_BY_SIDE),
            contents: Box::new([[0; PAGE]; SIDE_BY_SIDE]),
        }
    }

    /// Adds page `index`, unless it is no RAM or holds zeros.
    fn take(&mut self, ram: &Ram, index: usize) {
        let content = &mut self.contents[self.indices.len()];
        let is_ram = ram.read(Physical(index as u64 * PAGE_BYTES), content);
        if is_ram.is_ok() && *content != [0; PAGE] {
            self.indices.push(index);
        }
    }

    fn is_full(&self) -> bool {
        self.indices.len() == SIDE_BY_SIDE
    }

    /// Puts the digests of all of them into `pages`, and is empty.
    fn give(&mut self, pages: &mut [Digest]) {
        let contents = &self.contents[..self.indices.len()];
        for (index, digest) in self.indices.drain(..).zip(seal::page_digests(contents)) {
            pages[index] = digest;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: u64 = 1024;

    fn ram() -> Ram {
        Ram::new(PAGES * PAGE_BYTES).expect("a small mapping")
    }

    fn store(ram: &Ram, page: u64, value: u8) {
        ram.write(Physical(page * PAGE_BYTES), &[value])
            .expect("it is RAM");
    }

    proptest! {
        /// Zeros are stored, too, and what is there already.
        #[test]
        fn what_was_written_is_enough(
            rounds in prop::collection::vec(
                prop::collection::vec((0..PAGES, 0u8..3), 0..40),
                1..8,
            ),
        ) {
            let ram = ram();
            let mut digest = MemoryDigest::default();
            for writes in rounds {
                writes.iter().for_each(|&(page, value)| store(&ram, page % 20 * 50, value));
                let found = digest.update(&ram);
                prop_assert_eq!(found, MemoryDigest::default().update_fully(&ram));
            }
        }
    }

    #[test]
    fn a_page_is_busy_while_it_changes_from_one_update_to_the_next() {
        let ram = ram();
        let mut digest = MemoryDigest::default();
        let mut busy = |value| {
            store(&ram, 1, value);
            // Written, and no different.
            store(&ram, 2, 7);
            digest.update(&ram);
            ram.pages().with(flag::DIRTY).collect::<Vec<_>>()
        };
        let found = [1, 2, 3, 3, 4, 5].map(&mut busy);
        assert_eq!(found, [vec![], vec![1], vec![1], vec![], vec![], vec![1]]);
    }
}
