//! Where segments are written to and read from.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

use crate::layout::{segment_name, segment_number};
use crate::{Damage, Error, Flaw, Layout, WriteError};

/// What a writer writes to.
pub trait Store: Send {
    /// Starts segment `number`, empty; what follows speaks of it. Fails if it
    /// exists; what follows a failure still speaks of the segment before.
    fn begin(&mut self, number: u64) -> io::Result<()>;

    /// Appends some of `bytes`; tells how many.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the segment back to its first `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Returns when all that was appended would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;

    /// What to call segment `number` in messages.
    fn path(&self, number: u64) -> PathBuf {
        PathBuf::from(segment_name(number))
    }
}

/// What a reader reads from.
pub trait Segments {
    /// The bytes of one segment.
    type Source: Read;

    /// How many there are; they are numbered from 0.
    fn count(&self) -> u64;

    /// The bytes of segment `number`, from the start.
    fn open(&self, number: u64) -> io::Result<Self::Source>;

    /// What to call segment `number` in messages.
    fn path(&self, number: u64) -> PathBuf {
        PathBuf::from(segment_name(number))
    }
}

/// The log of a recording on disk, to write or to read.
#[derive(Debug)]
pub struct Directory {
    layout: Layout,
    count: u64,
    segment: Option<Segment>,
}

/// Of a segment so many bytes at a time begin to go to the disk, long before they are
/// to be safe there: or the disk would do nothing until then, and the guest nothing
/// while it did.
const PIECE_BYTES: u64 = 4 << 20;

/// The segment that is written.
#[derive(Debug)]
struct Segment {
    file: File,
    /// How many bytes are in it.
    bytes: u64,
    /// How many of them the disk has been told of.
    told: u64,
}

impl Segment {
    fn new(file: File) -> Segment {
        Segment {
            file,
            bytes: 0,
            told: 0,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        if self.bytes - self.told >= PIECE_BYTES {
            self.let_go(self.told, NonZero::new(self.bytes - self.told));
            self.told = self.bytes;
        }
        Ok(count)
    }

    /// The host's page cache need not keep `count` bytes from `from` on, or all that
    /// follows: what isn't on disk begins to go there, the rest makes room.
    fn let_go(&self, from: u64, count: Option<NonZero<u64>>) {
        // It is advice, and the log is none the worse without.
        let _ = fadvise(&self.file, from, count, Advice::DontNeed);
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.seek(SeekFrom::Start(len))?;
        self.bytes = len;
        self.told = self.told.min(len);
        Ok(())
    }
}

impl Directory {
    /// Makes the directory of a new log, whose recording's directory exists.
    pub fn create(layout: Layout) -> Result<Directory, WriteError> {
        let path = layout.log();
        fs::create_dir(&path).map_err(|source| WriteError::Io {
            path,
            source: Arc::new(source),
        })?;
        Ok(Directory {
            layout,
            count: 0,
            segment: None,
        })
    }

    /// Finds the segments of a log. Files of other names are let alone.
    pub fn open(layout: Layout) -> Result<Directory, Error> {
        let path = layout.log();
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            numbers.extend(name.to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        if numbers.is_empty() {
            return Err(Error::NoLog { path });
        }
        let mut count = 0;
        for number in numbers {
            if number != count {
                return Err(missing(&layout, count).into());
            }
            count += 1;
        }
        Ok(Directory {
            layout,
            count,
            segment: None,
        })
    }

    fn segment(&mut self) -> io::Result<&mut Segment> {
        self.segment
            .as_mut()
            .ok_or_else(|| io::Error::other("no segment was begun"))
    }
}

fn missing(layout: &Layout, number: u64) -> Damage {
    Damage {
        path: layout.segment(number),
        offset: 0,
        frame: None,
        flaw: Flaw::Missing,
    }
}

impl Store for Directory {
    fn begin(&mut self, number: u64) -> io::Result<()> {
        let path = self.layout.segment(number);
        let file = File::create_new(&path)?;
        // The name has to survive a power cut, as its bytes do.
        let synced = File::open(self.layout.log()).and_then(|dir| dir.sync_all());
        if synced.is_err() {
            // Empty, and of no use; if it stays, a reader takes it for torn.
            let _ = fs::remove_file(&path);
            return synced;
        }
        if let Some(full) = self.segment.replace(Segment::new(file)) {
            // Pages of the cache that are used again and again are faster than ever new ones,
            // and other programs keep theirs.
            full.let_go(0, None);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.segment()?.append(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.segment()?.cut(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.segment()?.file.sync_data()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.layout.segment(number)
    }
}

impl Segments for Directory {
    type Source = File;

    fn count(&self) -> u64 {
        self.count
    }

    fn open(&self, number: u64) -> io::Result<File> {
        File::open(self.layout.segment(number))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.layout.segment(number)
    }
}
