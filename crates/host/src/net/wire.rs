//! A wire, whatever is at its other end.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frames::{Cutter, FRAME_BYTES_MAX, Rest};
use super::passt::Passt;
use super::socket::Socket;
use super::{Error, Forward, tap};
use crate::{Arrival, Arrivals};

/// Where a wire leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plug {
    /// To the host's network, through passt, with these ports forwarded.
    Passt {
        /// The longest packet.
        mtu: u16,
        /// What is forwarded.
        forwards: Vec<Forward>,
    },
    /// To a TAP interface of this name.
    Tap(String),
    /// To another machine, by a Unix socket.
    Socket(PathBuf),
}

/// An other end that takes nothing for so long loses frames until it does.
const PATIENCE: Duration = Duration::from_millis(20);

/// One end of a wire.
#[derive(Debug)]
pub struct Wire {
    end: Arc<Mutex<End>>,
    /// The other end did not take the last frame in time.
    is_jammed: bool,
}

/// What frames are written to.
#[derive(Debug)]
enum End {
    None,
    Stream(UnixStream, Rest),
    Tap(File),
}

impl Wire {
    /// Lays a wire. What comes by it, and whether there is an other end, is put
    /// into `arrivals` from now on, under the number that is returned.
    pub fn lay(plug: &Plug, arrivals: &Arrivals) -> Result<(Wire, usize), Error> {
        let (source, stream) = match plug {
            Plug::Passt { mtu, forwards } => {
                let (passt, stream) = Passt::start(*mtu, forwards)?;
                (Source::Passt(passt), Some(stream))
            }
            Plug::Tap(name) => (Source::Tap(tap::open(name)?), None),
            Plug::Socket(path) => {
                let (socket, stream) = Socket::open(path)?;
                (Source::Socket(socket), stream)
            }
        };
        let number = arrivals.add_wire();
        let end = match &source {
            Source::Tap(file) => End::Tap(file.try_clone()?),
            Source::Passt(_) | Source::Socket(_) => End::None,
        };
        let end = Arc::new(Mutex::new(end));
        let reader = Reader {
            end: Arc::clone(&end),
            arrivals: arrivals.clone(),
            number,
        };
        std::thread::Builder::new()
            .name(format!("wire {number}"))
            .spawn(move || reader.read(source, stream))?;
        let wire = Wire {
            end,
            is_jammed: false,
        };
        Ok((wire, number))
    }

    /// Sends `frame`. It is lost if there is no other end, or if that does not
    /// take it in time.
    pub fn send(&mut self, frame: &[u8]) {
        let mut end = lock(&self.end);
        let sent = end.send(frame, !self.is_jammed);
        self.is_jammed = !sent.unwrap_or(true);
    }
}

impl End {
    /// Returns whether `frame` was taken. Waits for that a while if `waits`.
    fn send(&mut self, frame: &[u8], waits: bool) -> io::Result<bool> {
        match self {
            End::None => Ok(true),
            End::Tap(file) => patiently(file, waits, |file| match file.write(frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                // An interface that is down loses frames, as a wire does.
                _ => Ok(true),
            }),
            End::Stream(stream, rest) => patiently(stream, waits, |stream| {
                Ok(rest.flush(stream)? && rest.write(stream, frame)?)
            }),
        }
    }
}

/// Tries `write` until it is done, or patience ends.
fn patiently<F: AsFd>(
    file: &mut F,
    waits: bool,
    mut write: impl FnMut(&mut F) -> io::Result<bool>,
) -> io::Result<bool> {
    // What comes after a wait is one try more: a frame is often taken in parts.
    for _ in 0..TRIES_MAX {
        if write(file)? {
            return Ok(true);
        }
        if !waits || !ready(file.as_fd(), PollFlags::OUT, Some(PATIENCE))? {
            return Ok(false);
        }
    }
    Ok(false)
}

/// A frame is taken in no more parts than this.
const TRIES_MAX: usize = 64;

/// Waits until `file` is ready for `what`.
fn ready(file: BorrowedFd<'_>, what: PollFlags, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: 0,
        tv_nsec: limit.subsec_nanos().into(),
    });
    match poll(&mut [PollFd::new(&file, what)], limit.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn lock(end: &Mutex<End>) -> MutexGuard<'_, End> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where other ends come from.
#[derive(Debug)]
enum Source {
    Passt(Passt),
    Socket(Socket),
    Tap(File),
}

/// The thread that reads.
struct Reader {
    end: Arc<Mutex<End>>,
    arrivals: Arrivals,
    number: usize,
}

impl Reader {
    fn read(self, mut source: Source, mut stream: Option<UnixStream>) {
        loop {
            let next = match (&mut source, stream.take()) {
                (Source::Tap(file), _) => return self.read_tap(file),
                (_, Some(stream)) => stream,
                (Source::Socket(socket), None) => socket.wait(),
                (Source::Passt(passt), None) => match passt.again() {
                    Some(stream) => stream,
                    None => return,
                },
            };
            // What ends a connection ends no more than that.
            let _ = self.read_stream(next);
        }
    }

    fn read_stream(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        *lock(&self.end) = End::Stream(stream.try_clone()?, Rest::default());
        self.tell(true);
        let outcome = self.read_frames(&mut stream);
        *lock(&self.end) = End::None;
        self.tell(false);
        outcome
    }

    fn read_frames(&self, stream: &mut UnixStream) -> io::Result<()> {
        let mut cutter = Cutter::new();
        loop {
            match cutter.fill(stream) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    await_more(stream.as_fd(), error)?;
                    continue;
                }
            }
            loop {
                match cutter.next() {
                    Ok(Some(frame)) => self.arrivals.put_frame(self.number, frame.to_vec()),
                    Ok(None) => break,
                    Err(_) => return Err(ErrorKind::InvalidData.into()),
                }
            }
        }
    }

    fn read_tap(&self, file: &mut File) {
        self.tell(true);
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            match file.read(&mut buffer) {
                Ok(count) => self
                    .arrivals
                    .put_frame(self.number, buffer[..count].to_vec()),
                Err(error) => {
                    if await_more(file.as_fd(), error).is_err() {
                        return self.tell(false);
                    }
                }
            }
        }
    }

    fn tell(&self, is_up: bool) {
        self.arrivals.put(Arrival::Link {
            wire: self.number,
            is_up,
        });
    }
}

/// After `error` of a read: waits for more, if that is what it means.
fn await_more(file: BorrowedFd<'_>, error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => ready(file, PollFlags::IN, None).map(drop),
        _ => Err(error),
    }
}
