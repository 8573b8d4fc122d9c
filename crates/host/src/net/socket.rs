//! A Unix socket between two machines: whoever comes first listens.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;

/// So long a machine waits before it looks again for one that has gone.
const PAUSE: Duration = Duration::from_millis(200);

/// One end of the socket at a path.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// If we came first.
    listener: Option<UnixListener>,
}

impl Socket {
    /// Connects to whoever listens at `path`; listens there if nobody does.
    /// Returns the other end, if it is there.
    pub(super) fn open(path: &Path) -> Result<(Socket, Option<UnixStream>), Error> {
        let (listener, stream) = meet(path).map_err(|source| Error::Socket {
            path: path.to_owned(),
            source,
        })?;
        let socket = Socket {
            path: path.to_owned(),
            listener,
        };
        Ok((socket, stream))
    }

    /// Waits for an other end.
    pub(super) fn wait(&mut self) -> UnixStream {
        loop {
            let stream = match &self.listener {
                Some(listener) => listener.accept().map(|(stream, _)| Some(stream)),
                None => meet(&self.path).map(|(listener, stream)| {
                    self.listener = listener;
                    stream
                }),
            };
            match stream {
                Ok(Some(stream)) => return stream,
                Ok(None) => {}
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One after the other, by a lock of the folder: or one that looks while
/// another is about to listen would take it for gone.
fn meet(path: &Path) -> io::Result<(Option<UnixListener>, Option<UnixStream>)> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = File::open(folder.unwrap_or(Path::new(".")))?;
    folder.lock()?;
    match UnixStream::connect(path) {
        Ok(stream) => return Ok((None, Some(stream))),
        // Left over from one that was killed.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            if fs::symlink_metadata(path)?.file_type().is_socket() {
                fs::remove_file(path)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok((Some(UnixListener::bind(path)?), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_listens_also_where_another_was_killed() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("wire");
        // A socket that nobody listens at any more.
        drop(UnixListener::bind(&path).expect("there is room"));
        let (mut first, none) = Socket::open(&path).expect("it listens");
        assert!(none.is_none());
        let (second, stream) = Socket::open(&path).expect("it connects");
        assert!(stream.is_some() && second.listener.is_none());
        first.wait();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_that_come_at_once_one_listens() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("wire");
        let open = || Socket::open(&path).expect("it listens or connects");
        let sockets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|socket| socket.expect("no panic")).collect()
        });
        let listening = sockets
            .iter()
            .filter(|(socket, _)| socket.listener.is_some());
        assert_eq!(listening.count(), 1);
    }

    #[test]
    fn a_file_is_left_alone() {
        let file = tempfile::NamedTempFile::new().expect("there is room");
        assert!(Socket::open(file.path()).is_err());
        assert!(file.path().exists());
    }
}
