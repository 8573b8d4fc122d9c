//! Inputs as the log holds them: one table, read in both directions.

use log::{Body, Door};
use machine::Input;

/// What the log says of `input`.
pub(crate) fn body(input: &Input) -> Body {
    let (door, bytes) = match input {
        Input::ClockSample { host_ns } => return Body::Clock { ns: *host_ns },
        Input::Console(bytes) => (Door::Console, bytes.clone()),
        Input::PowerButton => (Door::PowerButton, Vec::new()),
        Input::Frame { nic, bytes } => (Door::Network, [&[number(*nic)], &bytes[..]].concat()),
        Input::Entropy(bytes) => (Door::Entropy, bytes.clone()),
        Input::Link { nic, is_up } => (Door::Link, vec![number(*nic), u8::from(*is_up)]),
    };
    Body::Input { door, bytes }
}

fn number(nic: usize) -> u8 {
    u8::try_from(nic).expect("a machine has few network cards")
}

/// What the machine gets by an event; `None` if that is no input, or one that
/// this version's recorder does not write.
pub(crate) fn input(body: &Body) -> Option<Input> {
    let (door, bytes) = match body {
        Body::Clock { ns } => return Some(Input::ClockSample { host_ns: *ns }),
        Body::Input { door, bytes } => (*door, bytes.as_slice()),
        Body::Epoch { .. } | Body::Registers { .. } | Body::End { .. } => return None,
    };
    match (door, bytes) {
        (Door::Console, bytes) => Some(Input::Console(bytes.to_vec())),
        (Door::PowerButton, _) => Some(Input::PowerButton),
        (Door::Network, [nic, frame @ ..]) => Some(Input::Frame {
            nic: (*nic).into(),
            bytes: frame.to_vec(),
        }),
        (Door::Link, [nic, is_up @ (0 | 1)]) => Some(Input::Link {
            nic: (*nic).into(),
            is_up: *is_up == 1,
        }),
        (Door::Entropy, bytes) => Some(Input::Entropy(bytes.to_vec())),
        (Door::Network | Door::Link, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_is_read_back() {
        let inputs = [
            Input::ClockSample { host_ns: 7 },
            Input::Console(vec![1, 2]),
            Input::PowerButton,
            Input::Entropy(vec![3; 64]),
            Input::Frame {
                nic: 3,
                bytes: vec![0xff; 60],
            },
            Input::Link {
                nic: 1,
                is_up: true,
            },
        ];
        for found in inputs {
            assert_eq!(input(&body(&found)), Some(found));
        }
    }

    #[test]
    fn what_no_recorder_writes_brings_nothing() {
        for (door, bytes) in [
            (Door::Network, vec![]),
            (Door::Link, vec![0]),
            (Door::Link, vec![0, 2]),
        ] {
            assert_eq!(input(&Body::Input { door, bytes }), None);
        }
    }
}
