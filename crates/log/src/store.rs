//! Where segments are written to and read from.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

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
    file: Option<File>,
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
            file: None,
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
            file: None,
        })
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file
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
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let file = self.file()?;
        file.set_len(len)?;
        io::Seek::seek(file, io::SeekFrom::Start(len)).map(|_| ())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
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
