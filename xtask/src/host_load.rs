//! Keeps the host busy with other things while something is recorded or replayed.

use anyhow::Context as _;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many processors the host has.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processes that compute for as long as this lives.
pub(crate) struct Busy(Vec<Child>);

impl Busy {
    /// So many of them.
    pub(crate) fn processes(count: usize) -> anyhow::Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..count {
            // It ends by itself when its input does, which is when we are gone, however we end.
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done & busy=$!; read end; kill $busy"])
                .stdin(Stdio::piped())
                .spawn()
                .context("could not start a shell to load the host with")?;
            busy.0.push(child);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(b"\n");
            }
            let _ = child.wait();
        }
    }
}

/// Now and then some [`Busy`] processes, as chance has it, for as long as this lives.
pub(crate) struct AtRandom {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// No stretch of the same load is longer.
const STRETCH_MAX_MS: u64 = 5000;

impl AtRandom {
    pub(crate) fn start() -> Self {
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            loop {
                let count = below(2 * cores() as u64 + 1);
                let busy = Busy::processes(usize::try_from(count)?)?;
                let stretch = Duration::from_millis(below(STRETCH_MAX_MS));
                if ended.recv_timeout(stretch) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
                drop(busy);
            }
        });
        Self {
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for AtRandom {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the host was not loaded any more: {error:#}");
        }
    }
}

/// A number below `limit`, by chance.
fn below(limit: u64) -> u64 {
    // Each state has keys of its own.
    RandomState::new().hash_one(0) % limit
}
