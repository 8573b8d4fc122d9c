//! What can be wrong with a log, and where.

use std::io;
use std::path::PathBuf;

use seal::Digest;

use crate::Malformed;
use crate::segment::FORMAT_VERSION;

/// Why a log can't be read any further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or directory can't be read.
    #[error("{path}: {source}; check that it exists and may be read", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// There is no segment at all.
    #[error("{path}: there is no log here; name the directory of a recording", path = path.display())]
    NoLog {
        /// Where it should be.
        path: PathBuf,
    },
    /// A newer program made it.
    #[error(
        "{path}: made in version {version} of the log format, and this program knows versions up to {FORMAT_VERSION}; \
         use the program that made it, or a newer one",
        path = path.display()
    )]
    Future {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The recording is not as it was written.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// A place where a recording is not as it was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: altered at byte {offset}{of}: {flaw}", path = path.display(), of = of_frame(*frame))]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The start of what is wrong: a header, a body or an event.
    pub offset: u64,
    /// The frame there, if it is in one, by its number since the log's start.
    pub frame: Option<u64>,
    /// What is wrong.
    pub flaw: Flaw,
}

fn of_frame(frame: Option<u64>) -> String {
    frame.map_or_else(String::new, |frame| format!(" (frame {frame})"))
}

/// What is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A segment is not there, and later ones are.
    #[error("this segment is missing")]
    Missing,
    /// A segment ends in the middle, and it is not the last.
    #[error("the file ends here, {missing} bytes too early, and is not the last of its log")]
    Cut {
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// What should be a header starts otherwise.
    #[error("what stands here is no header")]
    Magic,
    /// A header is not as written.
    #[error("the header's checksum says {expected:08x}, its bytes give {found:08x}")]
    HeaderChecksum {
        /// As it says.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// A segment's number is not that of its name.
    #[error("this is segment {found}, and not {expected} as its name says")]
    Number {
        /// By its name.
        expected: u64,
        /// As it says.
        found: u64,
    },
    /// A segment is of another recording.
    #[error("it belongs to a recording whose manifest has digest {found}, and not {expected}")]
    OtherRecording {
        /// As the log's first segment says.
        expected: Digest,
        /// As it says.
        found: Digest,
    },
    /// Frames are missing, or come twice.
    #[error("frame {found} stands where frame {expected} should")]
    Sequence {
        /// The next.
        expected: u64,
        /// As it says.
        found: u64,
    },
    /// The chain is broken: this, or something before, is not what was
    /// recorded.
    #[error("the chain is broken: expected {expected}, found {found}")]
    Chain {
        /// As computed.
        expected: Digest,
        /// As it says.
        found: Digest,
    },
    /// A body's length is out of bounds.
    #[error("a body of {0} bytes is out of bounds")]
    BodyLength(u32),
    /// A frame without events.
    #[error("a frame without events")]
    NoEvents,
    /// A body is not as written.
    #[error("the body's checksum says {expected:08x}, its bytes give {found:08x}")]
    BodyChecksum {
        /// As its header says.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// The header tells another branch count than the first event.
    #[error("the header speaks of branch {expected}, and the first event is at branch {found}")]
    FirstBranches {
        /// As the header says.
        expected: u64,
        /// As the event says.
        found: u64,
    },
    /// Bytes are no event.
    #[error("event {index} of this frame can't be: {malformed}")]
    Event {
        /// Which of the frame, from 0.
        index: u32,
        /// Why.
        malformed: Malformed,
    },
    /// A body can't be unpacked.
    #[error("the body of this frame can't be: {0}")]
    Packed(Malformed),
    /// A body goes on after its last event.
    #[error("{0} bytes follow the last event of this frame")]
    BytesLeft(usize),
    /// Something follows the event that ends a log.
    #[error("something follows the end of the recording")]
    AfterEnd,
    /// The manifest, or an image, is not that of the recording.
    #[error("its digest is {found}, and the recording was made with {expected}")]
    Content {
        /// As the log says of the manifest, or the manifest of an image.
        expected: Digest,
        /// As computed.
        found: Digest,
    },
}
