//! Lists by physical page of entries that lead there, some of which may lead
//! elsewhere by now.

use x86::Physical;

/// Lists; a power of two. A list is of all pages that are equal modulo this.
const LISTS: usize = 1 << 12;
/// A list this long is cleared of what is stale or there twice before it grows.
const LONG: usize = 16;

/// Numbers of entries, by the physical page that each leads to.
#[derive(Clone, Debug)]
pub struct ByPage(Vec<Vec<u32>>);

impl Default for ByPage {
    fn default() -> Self {
        ByPage(vec![Vec::new(); LISTS])
    }
}

impl ByPage {
    /// Adds that entry `number` leads to `page`. `leads_to`: where an entry that
    /// was added before leads now, if it does.
    pub fn add(&mut self, page: Physical, number: u32, leads_to: impl Fn(u32) -> Option<Physical>) {
        let list = &mut self.0[place(page)];
        if list.len() >= LONG && list.len() == list.capacity() {
            list.retain(|&number| leads_to(number).map(place) == Some(place(page)));
            list.sort_unstable();
            list.dedup();
            // So that this isn't done again soon.
            list.reserve(list.len().max(LONG));
        }
        list.push(number);
    }

    /// The entries that may lead to `page`.
    pub fn of(&self, page: Physical) -> &[u32] {
        &self.0[place(page)]
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }
}

fn place(page: Physical) -> usize {
    // The conversion keeps the low bits, which are all that is used.
    page.page_number() as usize % LISTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86::PAGE_BYTES;

    #[test]
    fn stale_entries_do_not_pile_up_and_live_ones_stay() {
        let page = |n: u64| Physical(n * LISTS as u64 * PAGE_BYTES);
        let mut by_page = ByPage::default();
        // The first hundred entries lead there always, of the others the last only.
        for n in 0..10_000u32 {
            let leads_to = |number: u32| (number < 100 || number == n).then(|| page(number.into()));
            by_page.add(page(n.into()), n, leads_to);
            assert!(by_page.of(page(1)).contains(&n));
        }
        let list = by_page.of(page(7));
        assert!((0..100).all(|n| list.contains(&n)));
        assert!(list.len() < 400, "{}", list.len());
    }
}
