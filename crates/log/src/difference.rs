//! Registers, written as their difference from the registers before.
//!
//! A processor's registers are a kilobyte or so, of which little changes from
//! one epoch to the next: in a day of a busy loop the whole would outweigh all
//! the rest of the log.

use crate::REGISTERS_BYTES_MAX;
use crate::wire::{Cursor, Malformed, put_varint};

/// This many equal bytes end a run of changed ones: fewer would cost more as
/// a run of their own.
const EQUAL_MIN: usize = 3;

/// Appends `now`, given what was `before`.
pub(crate) fn put(out: &mut Vec<u8>, before: &[u8], now: &[u8]) {
    put_varint(out, now.len() as u64);
    let mut at = 0;
    while at < now.len() {
        let changed = changed_from(before, now, at);
        put_varint(out, (changed - at) as u64);
        if changed == now.len() {
            break;
        }
        at = run_end(before, now, changed);
        put_varint(out, (at - changed) as u64);
        out.extend_from_slice(&now[changed..at]);
    }
}

/// Reads registers, given what was `before`; refuses any form but that of
/// [`put`].
pub(crate) fn take(cursor: &mut Cursor<'_>, before: &[u8]) -> Result<Vec<u8>, Malformed> {
    let start = cursor.rest();
    let len = cursor.length(REGISTERS_BYTES_MAX)?;
    let mut now = before.to_vec();
    now.resize(len, 0);
    let mut at = 0;
    while at < len {
        at += cursor.length(len - at)?;
        if at == len {
            break;
        }
        let run = cursor.length(len - at)?;
        let changed = cursor.take(run)?;
        now[at..at + changed.len()].copy_from_slice(changed);
        at += changed.len();
    }
    let mut canonical = Vec::new();
    put(&mut canonical, before, &now);
    if start[..start.len() - cursor.left()] != canonical {
        return Err(Malformed::Registers);
    }
    Ok(now)
}

/// The byte at `place`, 0 beyond the end.
fn at_or_zero(bytes: &[u8], place: usize) -> u8 {
    bytes.get(place).copied().unwrap_or(0)
}

/// The first place from `from` on where `now` differs; its end if there is
/// none.
fn changed_from(before: &[u8], now: &[u8], from: usize) -> usize {
    (from..now.len())
        .find(|&place| now[place] != at_or_zero(before, place))
        .unwrap_or(now.len())
}

/// Where the run of changed bytes ends that starts at `start`.
fn run_end(before: &[u8], now: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    loop {
        let next = changed_from(before, now, end);
        if next == now.len() || next - end >= EQUAL_MIN {
            return end;
        }
        end = next + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn sparse() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200)
    }

    proptest! {
        #[test]
        fn registers_are_read_back(before in sparse(), now in sparse()) {
            let mut bytes = Vec::new();
            put(&mut bytes, &before, &now);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(take(&mut cursor, &before), Ok(now));
            prop_assert_eq!(cursor.left(), 0);
        }

        #[test]
        fn registers_have_one_form(before in sparse(), bytes in vec(0u8..6, 0..40)) {
            let mut cursor = Cursor::new(&bytes);
            if let Ok(now) = take(&mut cursor, &before) {
                let mut again = Vec::new();
                put(&mut again, &before, &now);
                prop_assert_eq!(&bytes[..bytes.len() - cursor.left()], &again[..]);
            }
        }
    }

    #[test]
    fn unchanged_registers_cost_four_bytes() {
        let mut bytes = Vec::new();
        put(&mut bytes, &[9; 1000], &[9; 1000]);
        assert_eq!(bytes.len(), 4);
    }
}
