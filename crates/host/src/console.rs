//! The console: standard input and output.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::escape::{Escape, Meaning};
use crate::terminal::RawMode;
use crate::{Arrival, Arrivals, Error, signals};

/// How much is read from standard input at once.
const READ_BYTES: usize = 4096;

/// Standard input and the signals that end us.
#[derive(Debug)]
pub struct Console {
    raw: Option<RawMode>,
    arrivals: Arrivals,
}

impl Console {
    /// Takes standard input: raw with an escape key if it is a terminal, plain
    /// bytes otherwise. Its end means nothing: the guest goes on. From here
    /// on, SIGINT and SIGHUP end the run in order, and so does SIGTERM, but it
    /// presses the power button first and gives the guest `grace` to power
    /// off.
    pub fn open(grace: Duration) -> Result<Console, Error> {
        let arrivals = Arrivals::default();
        signals::catch(arrivals.clone(), grace)?;
        let raw = RawMode::enter()?;
        let escape = raw.is_some().then(Escape::default);
        // Closed from the start (`<&-`): nothing will ever be typed.
        if let Ok(stdin) = rustix::io::dup(rustix::stdio::stdin()) {
            let builder = std::thread::Builder::new().name("console".to_owned());
            let arrivals = arrivals.clone();
            builder
                .spawn(move || read(File::from(stdin), escape, &arrivals))
                .map_err(Error::Thread)?;
        }
        Ok(Console { raw, arrivals })
    }

    /// Whether a person sits at it, with an escape key.
    pub fn is_terminal(&self) -> bool {
        self.raw.is_some()
    }

    /// What was typed, and what else came.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }
}

fn read(mut stdin: File, mut escape: Option<Escape>, arrivals: &Arrivals) {
    let mut buffer = [0; READ_BYTES];
    loop {
        let bytes = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => &buffer[..count],
            Err(error) if retry(&error, stdin.as_fd(), PollFlags::IN) => continue,
            Err(_) => return,
        };
        let sorted = match &mut escape {
            Some(escape) => escape.sort(bytes),
            None => vec![Meaning::Arrival(Arrival::Bytes(bytes.to_vec()))],
        };
        for meaning in sorted {
            match meaning {
                Meaning::Arrival(arrival) => arrivals.put(arrival),
                Meaning::Quit => arrivals.end(),
            }
        }
    }
}

/// Whether to try again after `error`; waits until that makes sense. A
/// descriptor may be non-blocking because another process that shares it
/// wanted so.
fn retry(error: &io::Error, on: BorrowedFd<'_>, want: PollFlags) -> bool {
    match error.kind() {
        ErrorKind::Interrupted => true,
        ErrorKind::WouldBlock => poll(&mut [PollFd::new(&on, want)], None).is_ok(),
        _ => false,
    }
}

/// Standard output, unbuffered: what the guest printed is on the screen.
#[derive(Debug, Default)]
pub struct Screen(());

impl Screen {
    /// Takes standard output.
    pub fn open() -> Screen {
        Screen(())
    }

    /// Prints all of `bytes`, waiting for as long as the reader needs.
    pub fn print(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let stdout = rustix::stdio::stdout();
        // Each turn prints at least a byte, waits, or ends.
        while !bytes.is_empty() {
            match rustix::io::write(stdout, bytes).map_err(io::Error::from) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if retry(&error, stdout, PollFlags::OUT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.print(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
