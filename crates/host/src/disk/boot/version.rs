//! Which of two kernels is newer, by their versions.

use std::cmp::Ordering;

/// Orders versions as people count: `6.1.0-9` comes before `6.1.0-48`.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    // Each turn takes at least a byte of one of them.
    loop {
        match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (m, n) = (number(&mut a), number(&mut b));
                // Without leading zeros the longer one is the greater.
                let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
                if order != Ordering::Equal {
                    return order;
                }
            }
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            // Any other difference, an end among them.
            (x, y) => return x.cmp(&y),
        }
    }
}

/// Takes the digits that `text` begins with, without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_people_count() {
        for (older, newer) in [
            ("6.1.0-9-amd64", "6.1.0-48-amd64"),
            ("5.10.0-30-amd64", "6.1.0-1-amd64"),
            ("6.1.0-48", "6.1.0-48-amd64"),
            ("6.1.0", "6.1.10"),
            ("6.01", "6.1.1"),
        ] {
            assert_eq!(order(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(order(newer, older), Ordering::Greater);
        }
        assert_eq!(order("6.01", "6.1"), Ordering::Equal);
    }
}
