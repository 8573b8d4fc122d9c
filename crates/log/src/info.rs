//! What is in a log, counted.

use std::path::Path;

use moment::Moment;
use seal::Digest;

use crate::{Body, Door, EndReason, Error, Kind, Placed, Reader, Segments, Tail};

/// How many, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes as u64;
    }
}

/// What is in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The digest of the manifest, as the log tells it.
    pub manifest: Digest,
    /// Events of each kind, and the bytes they take before compression; in the order of
    /// [`Kind::ALL`].
    pub kinds: Vec<Count>,
    /// Inputs through each door, and the bytes that came in; in the order of
    /// [`Door::ALL`].
    pub doors: Vec<Count>,
    /// The moment of the first event.
    pub first: Option<Moment>,
    /// The moment of the last event.
    pub last: Option<Moment>,
    /// Host time from the recording's start to its last clock sample, in
    /// nanoseconds.
    pub duration_ns: u64,
    /// Bytes of output up to the last epoch.
    pub output_bytes: u64,
    /// Why the recording ended; `None` if the recorder died.
    pub ended: Option<EndReason>,
    /// What was left out at the end.
    pub tail: Option<Tail>,
    /// Segments.
    pub segments: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// The chain value after the last frame: it stands for all of the log.
    pub chain: Digest,
}

impl Info {
    /// Of the recording in directory `dir`; reads and checks all of its log.
    pub fn read(dir: &Path) -> Result<Info, Error> {
        Info::of(Reader::open(dir)?)
    }

    /// Of what `reader` yields.
    pub fn of<S: Segments>(mut reader: Reader<S>) -> Result<Info, Error> {
        let mut info = Info {
            manifest: reader.manifest(),
            kinds: vec![Count::default(); Kind::ALL.len()],
            doors: vec![Count::default(); Door::ALL.len()],
            ..Info::default()
        };
        for placed in &mut reader {
            info.add(&placed?);
        }
        info.ended = reader.ended();
        info.tail = reader.tail().cloned();
        info.segments = reader.segments();
        info.frames = reader.frames();
        info.bytes = reader.bytes();
        info.chain = reader.chain_value();
        Ok(info)
    }

    /// Events of this kind.
    pub fn kind(&self, kind: Kind) -> Count {
        count(&self.kinds, kind.number())
    }

    /// Inputs through this door.
    pub fn door(&self, door: Door) -> Count {
        count(&self.doors, door.number())
    }

    /// All events.
    pub fn events(&self) -> u64 {
        self.kinds.iter().map(|count| count.events).sum()
    }

    /// How many bytes they take before compression.
    pub fn event_bytes(&self) -> u64 {
        self.kinds.iter().map(|count| count.bytes).sum()
    }

    /// Whether the log says that it ended. Without, the recorder died and the
    /// last moments are missing.
    pub fn is_whole(&self) -> bool {
        self.ended.is_some()
    }

    fn add(&mut self, placed: &Placed) {
        let event = &placed.event;
        self.first.get_or_insert(event.moment);
        self.last = Some(event.moment);
        if let Some(count) = self.kinds.get_mut(usize::from(event.body.kind().number())) {
            count.add(placed.bytes);
        }
        match &event.body {
            Body::Clock { ns } => self.duration_ns = *ns,
            Body::Input { door, bytes } => {
                if let Some(count) = self.doors.get_mut(usize::from(door.number())) {
                    count.add(bytes.len());
                }
            }
            Body::Epoch { output_bytes, .. } => self.output_bytes = *output_bytes,
            Body::Registers { .. } | Body::End { .. } => {}
        }
    }
}

fn count(counts: &[Count], number: u8) -> Count {
    counts.get(usize::from(number)).copied().unwrap_or_default()
}
