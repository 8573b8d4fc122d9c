//! A bit flipped in a replaying machine's memory: a test of the checks.

use std::str::FromStr;

use machine::Machine;
use x86::Physical;

use crate::Error;

/// Which bit, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The byte's guest-physical address.
    pub at: Physical,
    /// The bit, 0 to 7.
    pub bit: u8,
    /// At the first stop with so many branches retired.
    pub branches: u64,
}

impl FromStr for Flip {
    type Err = String;

    fn from_str(text: &str) -> Result<Flip, String> {
        parse(text).ok_or_else(|| {
            format!("`{text}` names no bit: write ADDRESS:BIT@BRANCHES, as in 0x1000:3@5000000")
        })
    }
}

fn parse(text: &str) -> Option<Flip> {
    let (place, branches) = text.split_once('@')?;
    let (at, bit) = place.split_once(':')?;
    let at = u64::from_str_radix(at.strip_prefix("0x")?, 16).ok()?;
    let bit = bit.parse().ok().filter(|bit| *bit < 8)?;
    Some(Flip {
        at: Physical(at),
        bit,
        branches: branches.parse().ok()?,
    })
}

impl Flip {
    /// Flips it behind the machine's back: no page is marked as written, as
    /// when the host's memory fails.
    pub(crate) fn act(self, machine: &Machine) -> Result<(), Error> {
        let ram = &machine.cpu().ram;
        if !ram.holds(self.at, 1) {
            return Err(Error::NoSuchByte(self.at.0));
        }
        ram.store(self.at, ram.load::<u8>(self.at) ^ 1 << self.bit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in "[0-9a-fx:@]{0,24}|.{0,12}") {
            let _ = text.parse::<Flip>();
        }
    }

    #[test]
    fn a_bit_is_named_by_address_number_and_branch() {
        let flip = Flip {
            at: Physical(0x1000),
            bit: 3,
            branches: 5,
        };
        assert_eq!("0x1000:3@5".parse(), Ok(flip));
        for text in ["", "0x1000:8@5", "1000:3@5", "0x1000:3", "0x1000@5"] {
            assert!(text.parse::<Flip>().is_err(), "{text}");
        }
    }
}
