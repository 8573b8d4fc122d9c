//! Events into frames, frames into segments, segments into a [`Store`].
//!
//! The law: what the store holds is always whole frames, or will be again
//! after a cut at a place that is known here.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moment::Moment;
use seal::Digest;

use crate::frame::{FRAME_BODY_MAX, FRAME_HEADER_BYTES, FrameHeader};
use crate::pack::Draft;
use crate::segment::{FORMAT_VERSION, SegmentHeader};
use crate::{Body, EVENT_BYTES_MAX, Encoder, EndReason, Event, Store};

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment this long, in bytes, is followed by another. 64 MiB.
    pub segment_bytes: u64,
    /// A frame this long is sealed. 64 KiB; at most 512 KiB.
    pub frame_bytes: usize,
    /// An event is sealed in a frame this long after it was pushed, at the
    /// latest. 2 seconds.
    pub seal_after: Duration,
    /// A frame is safe from a power cut this long after it was sealed, at the
    /// latest (and whatever the disk takes). 5 seconds.
    pub sync_after: Duration,
    /// How many bytes of events wait for the disk before the guest does.
    /// 4 MiB.
    pub ring_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            frame_bytes: 64 << 10,
            seal_after: Duration::from_secs(2),
            sync_after: Duration::from_secs(5),
            ring_bytes: 4 << 20,
        }
    }
}

/// Whatever the options say, an event fits into a frame that is not sealed.
const FRAME_BYTES_MAX: usize = 512 << 10;
const _: () = assert!(FRAME_BYTES_MAX + EVENT_BYTES_MAX < FRAME_BODY_MAX);

/// Why a log can't be written any further. All that was sealed before stays
/// readable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, or fails.
    #[error("{path}: {source}; the recording stops here, and what was written before can be replayed", path = path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the host says.
        source: Arc<io::Error>,
    },
    /// An input is too long for one event.
    #[error("an event of {len} bytes is longer than the {max} allowed; push it in pieces")]
    TooLong {
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The writer's thread can't be started.
    #[error("the thread that writes the log can't be started: {0}; close other programs")]
    Thread(Arc<io::Error>),
    /// The writer's thread is gone without a word, which is a bug.
    #[error("the thread that writes the log is gone; please report this bug")]
    Gone,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Segments begun.
    pub segments: u64,
    /// Frames sealed.
    pub frames: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// The chain value after the last frame.
    pub chain: Digest,
}

/// The last event of the last whole frame.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    moment: Moment,
    vcpu: u8,
    check: u32,
}

/// Writes events to a store, one frame at a time.
#[derive(Debug)]
pub(crate) struct Sealer<S> {
    tail: Tail<S>,
    options: Options,
    manifest: Digest,
    /// How many bytes of the segment that is written are whole frames; `None`
    /// while its header is not written.
    segment_bytes: Option<u64>,
    encoder: Encoder,
    /// The frame in the making, and how many events are in it.
    draft: Draft,
    events: u32,
    first_branches: u64,
    last: Option<Sealed>,
    sealed: Option<Sealed>,
    written: Written,
}

/// Where the log grows.
#[derive(Debug)]
struct Tail<S> {
    store: S,
    /// The number of the segment that is written.
    segment: u64,
    /// Whether something is not safe from a power cut.
    unsynced: bool,
}

impl<S: Store> Tail<S> {
    /// Begins segment `number`. If this fails, the store still speaks of the one
    /// before, which [`Sealer::give_up`] must not cut shorter than it is.
    fn begin(&mut self, number: u64) -> Result<(), WriteError> {
        self.store
            .begin(number)
            .map_err(|error| self.error(error))?;
        self.segment = number;
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        self.unsynced = true;
        while !bytes.is_empty() {
            match self.store.append(bytes) {
                Ok(0) => return Err(self.error(ErrorKind::WriteZero.into())),
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error)),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        self.store.sync().map_err(|error| self.error(error))?;
        self.unsynced = false;
        Ok(())
    }

    fn error(&self, source: io::Error) -> WriteError {
        WriteError::Io {
            path: self.store.path(self.segment),
            source: Arc::new(source),
        }
    }
}

impl<S: Store> Sealer<S> {
    /// Begins a log, and has its first header on disk.
    pub(crate) fn start(store: S, manifest: Digest, options: Options) -> Result<Self, WriteError> {
        let mut sealer = Sealer {
            tail: Tail {
                store,
                segment: 0,
                unsynced: false,
            },
            options: Options {
                frame_bytes: options.frame_bytes.min(FRAME_BYTES_MAX),
                ..options
            },
            manifest,
            segment_bytes: None,
            encoder: Encoder::new(),
            draft: Draft::new(),
            events: 0,
            first_branches: 0,
            last: None,
            sealed: None,
            written: Written::default(),
        };
        sealer.begin(SegmentHeader::first(manifest))?;
        sealer.sync()?;
        Ok(sealer)
    }

    /// What is in the store.
    pub(crate) fn written(&self) -> Written {
        self.written
    }

    /// Whether there is a frame in the making.
    pub(crate) fn unsealed(&self) -> bool {
        self.events > 0
    }

    /// Whether something is not safe from a power cut.
    pub(crate) fn unsynced(&self) -> bool {
        self.tail.unsynced
    }

    /// Adds `event` to the frame in the making, and seals it if that is long
    /// enough.
    pub(crate) fn add(&mut self, event: &Event) -> Result<(), WriteError> {
        if self.events == 0 {
            self.roll()?;
            self.first_branches = event.moment.branches;
        }
        self.encoder.encode(event, self.draft.events());
        self.events += 1;
        self.last = Some(Sealed {
            moment: event.moment,
            vcpu: event.vcpu,
            check: event.check,
        });
        if self.draft.len() >= self.options.frame_bytes {
            self.seal()?;
        }
        Ok(())
    }

    /// Writes the frame in the making, if there is anything in it.
    pub(crate) fn seal(&mut self) -> Result<(), WriteError> {
        if self.events == 0 {
            return Ok(());
        }
        let frame = self.draft.frame();
        let (room, body) = frame.split_at_mut(FRAME_HEADER_BYTES);
        let header = FrameHeader::new(
            self.written.chain,
            self.written.frames,
            self.events,
            self.first_branches,
            body,
        );
        room.copy_from_slice(&header.encode());
        let bytes = frame.len() as u64;
        self.tail.append(frame)?;
        self.draft.clear();
        let segment_bytes = self.segment_bytes.get_or_insert_default();
        *segment_bytes += bytes;
        self.written.frames += 1;
        self.written.events += u64::from(self.events);
        self.written.bytes += bytes;
        self.written.chain = header.chain;
        self.sealed = self.last;
        self.events = 0;
        Ok(())
    }

    /// Returns when all that was sealed is safe from a power cut.
    pub(crate) fn sync(&mut self) -> Result<(), WriteError> {
        self.tail.sync()
    }

    /// After an error: cuts the store back to whole frames and, if there is
    /// room for that, says that the log ends here and why. Whether this works
    /// out makes no difference to a reader: it cuts a torn tail itself.
    pub(crate) fn give_up(&mut self) {
        let whole = self.segment_bytes;
        if self.tail.store.cut(whole.unwrap_or(0)).is_err() {
            return;
        }
        let (Some(whole), Some(sealed)) = (whole, self.sealed) else {
            return;
        };
        let first_of_segment = whole == crate::SEGMENT_HEADER_BYTES as u64;
        self.encoder = match first_of_segment {
            true => Encoder::new(),
            false => Encoder::after(sealed.moment),
        };
        self.draft.clear();
        self.events = 1;
        self.first_branches = sealed.moment.branches;
        let end = Event {
            moment: sealed.moment,
            vcpu: sealed.vcpu,
            check: sealed.check,
            body: Body::End {
                reason: EndReason::LogFailed,
            },
        };
        self.encoder.encode(&end, self.draft.events());
        // Nothing is left to be done if any of this fails as well.
        if self.seal().is_err() {
            let _ = self.tail.store.cut(whole);
        }
        let _ = self.tail.store.sync();
    }

    /// Begins the next segment if this one is long enough.
    fn roll(&mut self) -> Result<(), WriteError> {
        if self.segment_bytes.unwrap_or(0) < self.options.segment_bytes {
            return Ok(());
        }
        self.sync()?;
        self.encoder = Encoder::new();
        self.begin(SegmentHeader {
            version: FORMAT_VERSION,
            number: self.tail.segment + 1,
            first_frame: self.written.frames,
            manifest: self.manifest,
            chain: self.written.chain,
        })
    }

    fn begin(&mut self, header: SegmentHeader) -> Result<(), WriteError> {
        self.tail.begin(header.number)?;
        self.segment_bytes = None;
        let bytes = header.encode();
        self.tail.append(&bytes)?;
        self.segment_bytes = Some(bytes.len() as u64);
        self.written.segments += 1;
        self.written.bytes += bytes.len() as u64;
        self.written.chain = header.chain;
        Ok(())
    }
}
