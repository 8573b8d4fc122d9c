//! The reader of a log: events in order, each with its place, all checked.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use seal::Digest;

use crate::event::Order;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::segment::{FORMAT_VERSION, HeaderFlaw, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::{
    Body, Cursor, Damage, Decoder, Directory, EndReason, Error, Event, Flaw, Layout, Malformed,
    Segments, pack,
};

/// Where an event stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the segment.
    pub segment: u64,
    /// The number of the frame since the log's start.
    pub frame: u64,
    /// Where the event starts in the segment's file; in a compressed frame,
    /// where the frame's body does.
    pub offset: u64,
    /// Which event of the frame it is, from 0.
    pub index: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            segment,
            frame,
            offset,
            index,
        } = self;
        write!(
            f,
            "segment {segment}, byte {offset} (frame {frame}, event {index})"
        )
    }
}

/// An event, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The event.
    pub event: Event,
    /// Where it stands.
    pub place: Place,
    /// How many bytes it takes, before compression.
    pub bytes: usize,
}

/// The end of a log whose recorder died: no whole frame, and left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The last segment.
    pub path: PathBuf,
    /// How many of its bytes stand.
    pub cut_at: u64,
    /// How many are left out.
    pub bytes_lost: u64,
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tail {
            path,
            cut_at,
            bytes_lost,
        } = self;
        write!(
            f,
            "{}: torn at byte {cut_at}: the recorder died, and the last {bytes_lost} bytes are no whole frame; all before stands",
            path.display()
        )
    }
}

/// The events of the frame at hand.
#[derive(Debug, Default)]
struct Frame {
    events: Vec<u8>,
    /// Where they stand in the segment's file.
    at: u64,
    is_packed: bool,
}

impl Frame {
    /// Those in the body `body` at `at`, in a segment of version `version`.
    fn unpack(body: &[u8], version: u32, at: u64) -> Result<Frame, Malformed> {
        // Version 1 knew no forms.
        let (events, form_bytes) = match version {
            1 => (Cow::Borrowed(body), 0),
            _ => (pack::unpack(body)?, 1),
        };
        let is_packed = matches!(events, Cow::Owned(_));
        Ok(Frame {
            events: events.into_owned(),
            at: if is_packed { at } else { at + form_bytes },
            is_packed,
        })
    }

    /// Where what follows the first `decoded` bytes of the events stands.
    fn place(&self, decoded: usize) -> u64 {
        if self.is_packed {
            self.at
        } else {
            self.at + decoded as u64
        }
    }
}

/// Yields the events of a log, in bounded memory.
///
/// An error is the last item. [`Reader::ended`] and [`Reader::tail`] tell, once
/// there is no further item, how the log ends.
#[derive(Debug)]
pub struct Reader<S: Segments = Directory> {
    segments: S,
    manifest: Digest,
    number: u64,
    source: BufReader<S::Source>,
    /// Bytes of this segment read so far.
    offset: u64,
    /// Bytes of all segments read so far.
    bytes: u64,
    next_frame: u64,
    chain: Digest,
    decoder: Decoder,
    order: Order,
    /// The version of the segment at hand.
    version: u32,
    /// The frame at hand: its body, and its events.
    body: Vec<u8>,
    frame: Frame,
    /// Of its events: how many bytes and events are decoded, and of how many.
    decoded: usize,
    index: u32,
    events: u32,
    ended: Option<EndReason>,
    tail: Option<Tail>,
    finished: bool,
}

impl Reader {
    /// Reads the log of the recording in directory `dir`.
    pub fn open(dir: &Path) -> Result<Reader, Error> {
        Reader::new(Directory::open(Layout::new(dir))?)
    }
}

impl<S: Segments> Reader<S> {
    /// Reads the log in `segments`.
    pub fn new(segments: S) -> Result<Reader<S>, Error> {
        if segments.count() == 0 {
            let path = segments.path(0);
            return Err(Error::NoLog { path });
        }
        let source = BufReader::new(open(&segments, 0)?);
        let mut reader = Reader {
            segments,
            manifest: Digest::default(),
            number: 0,
            source,
            offset: 0,
            bytes: 0,
            next_frame: 0,
            chain: Digest::default(),
            decoder: Decoder::new(),
            order: Order::default(),
            version: FORMAT_VERSION,
            body: Vec::new(),
            frame: Frame::default(),
            decoded: 0,
            index: 0,
            events: 0,
            ended: None,
            tail: None,
            finished: false,
        };
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let got = reader.fill(&mut bytes)?;
        if got < bytes.len() {
            // The first header is on disk before the machine starts, so this
            // is no torn tail.
            return Err(reader.damage(0, None, cut(bytes.len() - got)));
        }
        let header = reader.decode_header(&bytes)?;
        reader.manifest = header.manifest;
        reader.chain = header.start_of_chain();
        reader.check_header(&header)?;
        Ok(reader)
    }

    /// The digest of the manifest, as the log tells it.
    pub fn manifest(&self) -> Digest {
        self.manifest
    }

    /// The log's last event, if that is an end and was reached.
    pub fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// What was left out at the end, if anything was.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The chain value after the last frame read.
    pub fn chain_value(&self) -> Digest {
        self.chain
    }

    /// Segments begun so far.
    pub fn segments(&self) -> u64 {
        self.number + 1
    }

    /// Frames read so far.
    pub fn frames(&self) -> u64 {
        self.next_frame
    }

    /// Bytes read so far, of all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn next_event(&mut self) -> Result<Option<Placed>, Error> {
        while self.index == self.events {
            if !self.next_frame()? {
                return Ok(None);
            }
        }
        self.decode().map(Some)
    }

    /// Decodes the next event of the frame at hand.
    fn decode(&mut self) -> Result<Placed, Error> {
        let events = self.frame.events.get(self.decoded..).unwrap_or_default();
        let offset = self.frame.place(self.decoded);
        let frame = self.next_frame - 1;
        let index = self.index;
        if self.ended.is_some() {
            return Err(self.damage(offset, Some(frame), Flaw::AfterEnd));
        }
        let mut cursor = Cursor::new(events);
        let (order, decoder) = (&mut self.order, &mut self.decoder);
        let event = decoder
            .decode(&mut cursor)
            .and_then(|event| order.advance(&event).map(|()| event))
            .map_err(|malformed| Flaw::Event { index, malformed });
        let left = cursor.left();
        let bytes = events.len() - left;
        let event = event.map_err(|flaw| self.damage(offset, Some(frame), flaw))?;
        self.decoded += bytes;
        self.index += 1;
        if self.index == self.events && left > 0 {
            let offset = self.frame.place(self.decoded);
            return Err(self.damage(offset, Some(frame), Flaw::BytesLeft(left)));
        }
        if let Body::End { reason } = event.body {
            self.ended = Some(reason);
        }
        let place = Place {
            segment: self.number,
            frame,
            offset,
            index,
        };
        Ok(Placed {
            event,
            place,
            bytes,
        })
    }

    /// Reads the next frame, or goes on to the next segment; `false` at the
    /// end of the log.
    fn next_frame(&mut self) -> Result<bool, Error> {
        let start = self.offset;
        let frame = Some(self.next_frame);
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let got = self.fill(&mut bytes)?;
        if got == 0 {
            return self.next_segment();
        }
        if self.ended.is_some() {
            return Err(self.damage(start, frame, Flaw::AfterEnd));
        }
        if got < bytes.len() {
            return self.ends_early(start, bytes.len() - got);
        }
        if bytes == [0; FRAME_HEADER_BYTES] && self.is_last() && self.rest_is_zero()? {
            return self.torn(start);
        }
        let header = FrameHeader::decode(&bytes).map_err(|flaw| self.damage(start, frame, flaw))?;
        if header.sequence != self.next_frame {
            let flaw = Flaw::Sequence {
                expected: self.next_frame,
                found: header.sequence,
            };
            return Err(self.damage(start, frame, flaw));
        }
        // At most 1 MiB: the header has been checked.
        let mut body = std::mem::take(&mut self.body);
        body.resize(header.body_bytes as usize, 0);
        let got = self.fill(&mut body);
        self.body = body;
        let got = got?;
        if got < self.body.len() {
            return self.ends_early(start, self.body.len() - got);
        }
        self.check_body(&header)
            .map_err(|(at, flaw)| self.damage(start + at, frame, flaw))?;
        let body_at = start + FRAME_HEADER_BYTES as u64;
        self.frame = Frame::unpack(&self.body, self.version, body_at)
            .map_err(|malformed| self.damage(body_at, frame, Flaw::Packed(malformed)))?;
        self.check_first(&header)
            .map_err(|flaw| self.damage(start, frame, flaw))?;
        self.chain = header.chain;
        self.next_frame += 1;
        (self.decoded, self.index, self.events) = (0, 0, header.events);
        Ok(true)
    }

    /// Checks the body at hand against its header; an error bears its offset
    /// in the frame.
    fn check_body(&self, header: &FrameHeader) -> Result<(), (u64, Flaw)> {
        let found = crc32c::crc32c(&self.body);
        let at = FRAME_HEADER_BYTES as u64;
        if header.body_crc != found {
            let expected = header.body_crc;
            return Err((at, Flaw::BodyChecksum { expected, found }));
        }
        let expected = header.chain_after(self.chain, &self.body);
        if header.chain != expected {
            let found = header.chain;
            return Err((0, Flaw::Chain { expected, found }));
        }
        Ok(())
    }

    /// The first event says again what the header says; it is decoded for good
    /// later.
    fn check_first(&self, header: &FrameHeader) -> Result<(), Flaw> {
        let mut decoder = self.decoder.clone();
        let first = decoder.decode(&mut Cursor::new(&self.frame.events));
        match first.map(|event| event.moment.branches) {
            Ok(found) if found != header.first_branches => Err(Flaw::FirstBranches {
                expected: header.first_branches,
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Goes on to the next segment; `false` if there is none.
    fn next_segment(&mut self) -> Result<bool, Error> {
        if self.is_last() {
            return Ok(false);
        }
        self.number += 1;
        self.source = BufReader::new(open(&self.segments, self.number)?);
        self.offset = 0;
        self.decoder = Decoder::new();
        if self.ended.is_some() {
            return Err(self.damage(0, None, Flaw::AfterEnd));
        }
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let got = self.fill(&mut bytes)?;
        if got < bytes.len() {
            return self.ends_early(0, bytes.len() - got);
        }
        if bytes == [0; SEGMENT_HEADER_BYTES] && self.is_last() && self.rest_is_zero()? {
            return self.torn(0);
        }
        let header = self.decode_header(&bytes)?;
        self.check_header(&header)?;
        Ok(true)
    }

    fn decode_header(&self, bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<SegmentHeader, Error> {
        SegmentHeader::decode(bytes).map_err(|flaw| match flaw {
            HeaderFlaw::Version(version) if version > FORMAT_VERSION => Error::Future {
                path: self.segments.path(self.number),
                version,
            },
            // Versions count from 1.
            HeaderFlaw::Version(_) => self.damage(0, None, Flaw::Magic),
            HeaderFlaw::Flaw(flaw) => self.damage(0, None, flaw),
        })
    }

    /// Checks a segment's header against what came before, and goes by its
    /// version.
    fn check_header(&mut self, header: &SegmentHeader) -> Result<(), Error> {
        self.version = header.version;
        let flaw = if header.number != self.number {
            Flaw::Number {
                expected: self.number,
                found: header.number,
            }
        } else if header.manifest != self.manifest {
            Flaw::OtherRecording {
                expected: self.manifest,
                found: header.manifest,
            }
        } else if header.first_frame != self.next_frame {
            Flaw::Sequence {
                expected: self.next_frame,
                found: header.first_frame,
            }
        } else if header.chain != self.chain {
            Flaw::Chain {
                expected: self.chain,
                found: header.chain,
            }
        } else {
            return Ok(());
        };
        Err(self.damage(0, None, flaw))
    }

    fn is_last(&self) -> bool {
        self.number + 1 == self.segments.count()
    }

    /// The file ends `missing` bytes too early for what starts at `start`:
    /// torn, or cut.
    fn ends_early(&mut self, start: u64, missing: usize) -> Result<bool, Error> {
        if self.is_last() {
            return self.torn(start);
        }
        Err(self.damage(start, Some(self.next_frame), cut(missing)))
    }

    /// All from `start` to where the file ends, which is here, is left out.
    fn torn(&mut self, start: u64) -> Result<bool, Error> {
        self.tail = Some(Tail {
            path: self.segments.path(self.number),
            cut_at: start,
            bytes_lost: self.offset - start,
        });
        Ok(false)
    }

    fn rest_is_zero(&mut self) -> Result<bool, Error> {
        let mut piece = [0; 4096];
        loop {
            match self.fill(&mut piece)? {
                0 => return Ok(true),
                len if piece[..len].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }

    /// Reads up to the end of `bytes`, or of the file; tells how far it came.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let mut got = 0;
        while got < bytes.len() {
            match self.source.read(&mut bytes[got..]) {
                Ok(0) => break,
                Ok(len) => got += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(io_error(&self.segments, self.number, source)),
            }
        }
        self.offset += got as u64;
        self.bytes += got as u64;
        Ok(got)
    }

    fn damage(&self, offset: u64, frame: Option<u64>, flaw: Flaw) -> Error {
        Error::Damage(Damage {
            path: self.segments.path(self.number),
            offset,
            frame,
            flaw,
        })
    }
}

fn cut(missing: usize) -> Flaw {
    Flaw::Cut {
        missing: missing as u64,
    }
}

fn open<S: Segments>(segments: &S, number: u64) -> Result<S::Source, Error> {
    segments
        .open(number)
        .map_err(|source| io_error(segments, number, source))
}

fn io_error<S: Segments>(segments: &S, number: u64, source: io::Error) -> Error {
    let path = segments.path(number);
    Error::Io { path, source }
}

impl<S: Segments> Iterator for Reader<S> {
    type Item = Result<Placed, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.next_event().transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }
}
