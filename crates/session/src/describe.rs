//! An event in a line, for people.

use std::fmt;

use log::{Body, Door, Event};

use crate::packet::Packet;

/// An event as one line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its number in the log, from 0.
    pub number: u64,
    /// The event.
    pub event: &'a Event,
}

/// So many input bytes are shown.
const SHOWN_BYTES: usize = 64;

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            moment,
            check,
            body,
            ..
        } = self.event;
        let moment = moment.to_string();
        write!(
            f,
            "{:>7}  {moment:<32}  {check:08x}  {:<9}",
            self.number,
            body.kind()
        )?;
        match body {
            Body::Clock { ns } => write!(f, "  {}", Seconds(*ns)),
            Body::Input {
                door: Door::Network,
                bytes,
            } => match bytes.as_slice() {
                [nic, frame @ ..] => write!(f, "  card {nic}  {}", Packet(frame)),
                [] => Ok(()),
            },
            Body::Input {
                door: Door::Link,
                bytes,
            } => {
                let is_up = bytes.get(1) == Some(&1);
                let state = if is_up { "put in" } else { "pulled out" };
                write!(
                    f,
                    "  the wire of card {} is {state}",
                    bytes.first().copied().unwrap_or_default()
                )
            }
            Body::Input { door, bytes } if door.carries_bytes() => {
                let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
                let more = if shown.len() < bytes.len() { "..." } else { "" };
                write!(
                    f,
                    "  {door}  {} bytes  \"{}\"{more}",
                    bytes.len(),
                    shown.escape_ascii()
                )
            }
            Body::Input { door, .. } => write!(f, "  {door}"),
            Body::Epoch {
                memory,
                output_bytes,
                ..
            } => {
                write!(
                    f,
                    "  memory {:08x}  output {output_bytes} bytes",
                    memory.short()
                )
            }
            Body::Registers { bytes } => write!(f, "  {} bytes", bytes.len()),
            Body::End { reason } => write!(f, "  {reason}: {}", reason.doc()),
        }
    }
}

/// Nanoseconds, shown as seconds.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06} s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000 / 1000
        )
    }
}
