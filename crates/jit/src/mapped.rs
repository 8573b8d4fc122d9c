//! Where pages of translated code are mapped: by this a jump to another page
//! sees that it still leads to the code it was linked with.
//!
//! The law: a page's number in [`Region::mapped`] is the linear page at which
//! code with these rights finds it now, or [`NOWHERE`]. A block is reached from
//! another page only by way of a comparison with it. So links and the jump
//! cache outlive changes of the mapping, and a change costs what was noted
//! here ([`Dropped`]).

use cpu::{Dropped, Space};
use x86::{Linear, Physical};

use crate::frame::Region;
use crate::halves::Halves;

/// Pages at most, each counted for every mode of access.
pub(crate) const PAGES: usize = 1 << 15;
/// Length in bytes of their table.
pub(crate) const BYTES: usize = PAGES * size_of::<u64>();

/// No page's address.
const NOWHERE: u64 = 1;
/// Noted places at most; then all are forgotten.
const NOTED_MAX: usize = 4 * PAGES;

/// A page's place in the table.
pub(crate) type Number = u32;

/// Pages whose numbers lie together.
const GROUP: usize = 512;
/// Each has a number for every [`Space`].
const SPACES: usize = Space::UserAc as usize + 1;

/// The numbers of all pages. They are looked up at each change of address spaces, when
/// the host has other things in its caches: so it takes two loads.
#[derive(Debug, Default)]
struct Numbers {
    /// By page and [`Space`], one more than each number; 0: none.
    groups: Vec<Option<Box<[[Number; SPACES]; GROUP]>>>,
    count: usize,
}

impl Numbers {
    fn place(physical: Physical) -> (usize, usize) {
        let page = usize::try_from(physical.page_number());
        let page = page.expect("guest memory is an array of the host's");
        (page / GROUP, page % GROUP)
    }

    fn get(&self, physical: Physical, space: Space) -> Option<Number> {
        let (group, page) = Numbers::place(physical);
        let numbers = self.groups.get(group)?.as_ref()?;
        numbers[page][space as usize].checked_sub(1)
    }

    /// The page's number, which is the next if it had none; `None` if there are too
    /// many.
    fn number(&mut self, physical: Physical, space: Space) -> Option<Number> {
        let (group, page) = Numbers::place(physical);
        if self.groups.len() <= group {
            self.groups.resize(group + 1, None);
        }
        let numbers = self.groups[group].get_or_insert_with(|| Box::new([[0; SPACES]; GROUP]));
        let number = &mut numbers[page][space as usize];
        if *number == 0 && self.count < PAGES {
            self.count += 1;
            *number = Number::try_from(self.count).expect("PAGES is far below");
        }
        number.checked_sub(1)
    }
}

/// The table's index.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    numbers: Numbers,
    /// Which page was noted where. Some are elsewhere by now.
    noted: Halves<(Linear, Number)>,
    /// The page and the space that [`Mapped::note_known`] was last called for, if
    /// nothing was dropped since.
    last: Option<(u64, Space)>,
}

impl Mapped {
    /// The number of `physical`'s page for accesses of `space`; `None` if there
    /// are too many.
    pub(crate) fn number(&mut self, physical: Physical, space: Space) -> Option<Number> {
        self.numbers.number(physical, space)
    }

    /// Page `number` is found at `linear`'s page.
    pub(crate) fn note(&mut self, region: &mut Region, number: Number, linear: Linear) {
        let page = linear.page();
        if region.mapped()[number as usize] == page.0 {
            return;
        }
        if self.noted.of(page).len() >= NOTED_MAX {
            self.forget_places(region);
        }
        region.mapped()[number as usize] = page.0;
        self.noted.of_mut(page).push((page, number));
    }

    /// Whether [`Mapped::note_known`] would tell nothing new of `linear`'s page:
    /// where it may not, it wasn't called since something was dropped.
    pub(crate) fn knows(&self, linear: Linear, space: Space) -> bool {
        self.last == Some((linear.page().0, space))
    }

    /// As [`Mapped::note`], of `physical`'s page, if it has a number.
    pub(crate) fn note_known(
        &mut self,
        region: &mut Region,
        physical: Physical,
        space: Space,
        linear: Linear,
    ) {
        self.last = Some((linear.page().0, space));
        if let Some(number) = self.numbers.get(physical, space) {
            self.note(region, number, linear);
        }
    }

    /// Forgets what rests on mappings that `dropped` covers.
    pub(crate) fn drop(&mut self, region: &mut Region, dropped: &Dropped) {
        self.last = None;
        let places = region.mapped();
        for (page, number) in self.noted.take(dropped) {
            forget(places, page, number);
        }
        for &(start, bytes) in &dropped.ranges {
            self.noted.of_mut(start).retain(|&(page, number)| {
                let is_inside = page.0.wrapping_sub(start.0) < bytes;
                if is_inside {
                    forget(places, page, number);
                }
                !is_inside
            });
        }
    }

    /// Every page may be anywhere.
    fn forget_places(&mut self, region: &mut Region) {
        region.mapped().fill(NOWHERE);
        self.noted.clear();
        self.last = None;
    }

    /// Forgets all pages.
    pub(crate) fn clear(&mut self, region: &mut Region) {
        self.forget_places(region);
        self.numbers = Numbers::default();
    }
}

/// Page `number`, noted at `page`, is there no longer.
fn forget(places: &mut [u64; PAGES], page: Linear, number: Number) {
    let place = &mut places[number as usize];
    if *place == page.0 {
        *place = NOWHERE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_forgotten_where_it_was_noted_last() {
        let mut region = Region::new().expect("memory");
        let mut mapped = Mapped::default();
        mapped.clear(&mut region);
        let number = mapped
            .number(Physical(0x5000), Space::User)
            .expect("the first");
        assert_eq!(mapped.number(Physical(0x5abc), Space::User), Some(number));
        assert_ne!(
            mapped.number(Physical(0x5000), Space::Supervisor),
            Some(number)
        );
        let range = |page| Dropped {
            ranges: vec![(Linear(page), 0x1000)],
            ..Dropped::default()
        };
        mapped.note(&mut region, number, Linear(0x7123));
        mapped.note(&mut region, number, Linear(0x9123));
        mapped.drop(&mut region, &range(0x7000));
        assert_eq!(region.mapped()[number as usize], 0x9000);
        mapped.drop(&mut region, &range(0x9000));
        assert_eq!(region.mapped()[number as usize], NOWHERE);
    }

    #[test]
    fn the_lower_half_goes_alone() {
        let mut region = Region::new().expect("memory");
        let mut mapped = Mapped::default();
        mapped.clear(&mut region);
        let low = mapped
            .number(Physical(0x5000), Space::User)
            .expect("a number");
        let high = mapped
            .number(Physical(0x6000), Space::Supervisor)
            .expect("a number");
        mapped.note(&mut region, low, Linear(0x7fff_ffff_f000));
        mapped.note(&mut region, high, Linear(0xffff_8000_0000_0000));
        let dropped = Dropped {
            low: true,
            ..Dropped::default()
        };
        mapped.drop(&mut region, &dropped);
        assert_eq!(region.mapped()[low as usize], NOWHERE);
        assert_eq!(region.mapped()[high as usize], 0xffff_8000_0000_0000);
    }
}
