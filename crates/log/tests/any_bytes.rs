//! The fuzz target's body, on bytes that a property test makes.

#[path = "../../../fuzz/bodies/log_reader.rs"]
mod log_reader;
mod sample;

use log::{Encoder, Event};
use proptest::collection::vec;
use proptest::prelude::*;

/// A body that is altered in a few places: random bytes seldom get far.
fn almost_a_body() -> impl Strategy<Value = Vec<u8>> {
    let alterations = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (sample::events(1..10), alterations).prop_map(|(events, alterations)| {
        let mut body = encode(&events);
        for (place, byte) in alterations {
            let place = place.index(body.len());
            body[place] = byte;
        }
        body
    })
}

fn encode(events: &[Event]) -> Vec<u8> {
    let (mut encoder, mut body) = (Encoder::new(), Vec::new());
    for event in events {
        encoder.encode(event, &mut body);
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        log_reader::check(&bytes);
    }

    #[test]
    fn altered_bodies_never_panic(body in almost_a_body()) {
        log_reader::check(&body);
    }
}
