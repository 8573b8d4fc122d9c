//! Between nanoseconds and the ticks of a device's crystal, exactly.

const NS_PER_S: u128 = 1_000_000_000;

/// How many whole ticks of `hz` fit into `ns`.
pub fn ticks_at(ns: u64, hz: u64) -> u64 {
    let ticks = u128::from(ns) * u128::from(hz) / NS_PER_S;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The first nanosecond at which `ticks` of `hz` have passed: the inverse of
/// [`ticks_at`]. The end of time if there is none, or if `hz` is 0.
pub fn ns_of_ticks(ticks: u64, hz: u64) -> u64 {
    let ns = (u128::from(ticks) * NS_PER_S)
        .checked_div(u128::from(hz))
        .map(|floor| {
            floor + u128::from(!(u128::from(ticks) * NS_PER_S).is_multiple_of(u128::from(hz)))
        });
    ns.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_nanosecond_of_a_tick_is_the_first(ticks in 1u64..1 << 40, hz in 1u64..1 << 33) {
            let ns = ns_of_ticks(ticks, hz);
            prop_assume!(ns < u64::MAX);
            prop_assert!(ticks_at(ns, hz) >= ticks);
            prop_assert!(ticks_at(ns - 1, hz) < ticks);
        }
    }
}
