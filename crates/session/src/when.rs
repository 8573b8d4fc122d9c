//! Where to stop: `--until WHEN`.

use std::fmt;
use std::str::FromStr;

/// A place in a recording, as a person names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The recording's end.
    #[default]
    End,
    /// After this many branches.
    Branches(u64),
    /// At this branch count, where the program counter has this value.
    At {
        /// Branches retired since the start.
        branches: u64,
        /// The next instruction's address.
        pc: u64,
    },
    /// When the guest's clock has come so far since the start.
    Time {
        /// Nanoseconds of guest time.
        ns: u64,
    },
    /// Before the event of this number, counted from 0 as `revirt log` does.
    Event(u64),
}

/// A place nobody can find.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no place in a recording: write a branch count (1000000), a moment \
     (1000000@0xffffffff81000000), a time (12.5s, 300ms), `event 12`, or `end`"
)]
pub struct NoSuchPlace(String);

impl FromStr for When {
    type Err = NoSuchPlace;

    fn from_str(text: &str) -> Result<When, NoSuchPlace> {
        parse(text.trim()).ok_or_else(|| NoSuchPlace(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<When> {
    if text == "end" {
        return Some(When::End);
    }
    if let Some(number) = text.strip_prefix("event") {
        return Some(When::Event(count(
            number.trim_start_matches([' ', ':', '=', '#']),
        )?));
    }
    if let Some((branches, pc)) = text.split_once('@') {
        return Some(When::At {
            branches: count(branches)?,
            pc: hexadecimal(pc)?,
        });
    }
    // The longer units first: "ms" ends in "s".
    for (unit, digits) in [("ns", 0), ("us", 3), ("ms", 6), ("s", 9)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(When::Time {
                ns: decimal(number.trim(), digits)?,
            });
        }
    }
    Some(When::Branches(count(text)?))
}

fn count(text: &str) -> Option<u64> {
    text.starts_with(|c: char| c.is_ascii_digit())
        .then(|| text.replace('_', "").parse().ok())?
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits
        .starts_with(|c: char| c.is_ascii_hexdigit())
        .then(|| u64::from_str_radix(&digits.replace('_', ""), 16).ok())?
}

/// `text`, with or without a fraction, times ten to the `digits`, exactly.
fn decimal(text: &str, digits: u32) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let missing = digits.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let below = if fraction.is_empty() {
        0
    } else {
        count(fraction)?
    };
    count(whole)?
        .checked_mul(10_u64.pow(digits))?
        .checked_add(below.checked_mul(10_u64.pow(missing))?)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::End => write!(f, "end"),
            When::Branches(branches) => write!(f, "{branches}"),
            When::At { branches, pc } => write!(f, "{branches}@{pc:#x}"),
            When::Time { ns } => write!(f, "{ns}ns"),
            When::Event(number) => write!(f, "event {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_place_is_printed_as_it_is_understood(branches: u64, pc: u64, ns: u64) {
            for when in [
                When::Branches(branches),
                When::At { branches, pc },
                When::Time { ns },
                When::Event(branches),
            ] {
                prop_assert_eq!(when.to_string().parse(), Ok(when));
            }
        }

        #[test]
        fn any_text_has_an_answer(text in "[0-9a-z@._ ]{0,24}|.{0,12}") {
            if let Ok(when) = text.parse::<When>() {
                prop_assert_eq!(when.to_string().parse(), Ok(when));
            }
        }
    }

    #[test]
    fn every_form_is_understood() {
        for (text, when) in [
            ("end", When::End),
            ("1_000_000", When::Branches(1_000_000)),
            (
                "7@0xffff",
                When::At {
                    branches: 7,
                    pc: 0xffff,
                },
            ),
            ("12.5s", When::Time { ns: 12_500_000_000 }),
            ("300ms", When::Time { ns: 300_000_000 }),
            ("5 us", When::Time { ns: 5_000 }),
            ("event 12", When::Event(12)),
            ("event:12", When::Event(12)),
        ] {
            assert_eq!(text.parse(), Ok(when), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "-1",
            "+1",
            "1x",
            "s",
            "1.0000000001s",
            "1.5",
            "5@",
            "@5",
            "event",
            "99999999999s",
        ] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}
