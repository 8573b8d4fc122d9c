//! The writer of a log: a handle for the vCPU's thread, and a thread that
//! seals what is pushed.

use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use seal::Digest;

use crate::event::Order;
use crate::ring::Ring;
use crate::sealer::Sealer;
use crate::{Directory, Event, Layout, Options, Store, WriteError, Written};

/// Writes a log. Dropping it writes what was pushed, as [`Writer::close`]
/// does, but can't say whether that worked.
#[derive(Debug)]
pub struct Writer {
    ring: Arc<Ring>,
    thread: Option<JoinHandle<Result<Written, WriteError>>>,
    order: Order,
}

impl Writer {
    /// Begins the log of the recording in directory `dir`, which exists and
    /// has none, and whose manifest has this digest.
    pub fn create(dir: &Path, manifest: Digest) -> Result<Writer, WriteError> {
        let store = Directory::create(Layout::new(dir))?;
        Writer::start(store, manifest, Options::default())
    }

    /// Begins a log in `store`. Its first header is written when this
    /// returns.
    pub fn start(
        store: impl Store + 'static,
        manifest: Digest,
        options: Options,
    ) -> Result<Writer, WriteError> {
        let sealer = Sealer::start(store, manifest, options)?;
        let ring = Arc::new(Ring::new(
            options.ring_bytes,
            options.frame_bytes,
            options.seal_after,
        ));
        let thread = Builder::new()
            .name("log".into())
            .spawn({
                let ring = Arc::clone(&ring);
                move || run(sealer, &ring, options)
            })
            .map_err(|error| WriteError::Thread(Arc::new(error)))?;
        Ok(Writer {
            ring,
            thread: Some(thread),
            order: Order::default(),
        })
    }

    /// Adds `event` to the log. Waits if the disk is far behind.
    ///
    /// Fails if the event is too long, and from the first failure of the disk
    /// on: what is pushed after it, and a little of what was pushed before, is
    /// not in the log.
    ///
    /// # Panics
    ///
    /// If time runs backwards from the event before: that is a bug, and a
    /// recording that shows it could not be replayed.
    pub fn push(&mut self, event: Event) -> Result<(), WriteError> {
        let (variable, max) = event.body.variable();
        let len = variable.len();
        if len > max {
            return Err(WriteError::TooLong { len, max });
        }
        if let Err(backwards) = self.order.advance(&event) {
            panic!("pushed to the log at {}: {backwards}", event.moment);
        }
        self.ring.push(event)
    }

    /// Returns when all that was pushed is safe on disk.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.ring.flush()
    }

    /// Writes all that was pushed, and returns when it is safe on disk. The
    /// last event should have been the end.
    pub fn close(mut self) -> Result<Written, WriteError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Written, WriteError> {
        self.ring.close();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // The thread panicked, or was joined before, which is no less of
            // a bug.
            Some(Err(_)) | None => Err(WriteError::Gone),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.finish();
        }
    }
}

/// However the thread ends, whoever pushes must not wait for it.
struct Farewell<'a>(&'a Ring);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.0.fail(WriteError::Gone);
    }
}

/// The writer's thread.
fn run<S: Store>(
    mut sealer: Sealer<S>,
    ring: &Ring,
    options: Options,
) -> Result<Written, WriteError> {
    let _farewell = Farewell(ring);
    let result = write(&mut sealer, ring, options);
    if let Err(error) = result {
        sealer.give_up();
        ring.fail(error.clone());
        return Err(error);
    }
    Ok(sealer.written())
}

/// Does what the ring asks for until it is closed. Where frames end depends on
/// the events alone, unless one has waited its time.
fn write<S: Store>(
    sealer: &mut Sealer<S>,
    ring: &Ring,
    options: Options,
) -> Result<(), WriteError> {
    let (mut seal_due, mut sync_due) = (None, None);
    loop {
        let work = ring.take(earlier(seal_due, sync_due));
        let urgent = work.closed || work.flush.is_some();
        let frames = sealer.written().frames;
        for event in &work.events {
            sealer.add(event)?;
        }
        if sealer.written().frames != frames {
            seal_due = None;
        }
        if sealer.unsealed() {
            seal_due.get_or_insert(work.since + options.seal_after);
        }
        let now = Instant::now();
        if urgent || is_due(seal_due, now) {
            sealer.seal()?;
            seal_due = None;
        }
        if urgent || is_due(sync_due, now) {
            sealer.sync()?;
            sync_due = None;
        }
        if sealer.unsynced() {
            sync_due.get_or_insert(now + options.sync_after);
        }
        if let Some(flush) = work.flush {
            ring.flushed(flush);
        }
        if work.closed {
            return Ok(());
        }
    }
}

fn is_due(due: Option<Instant>, now: Instant) -> bool {
    due.is_some_and(|due| due <= now)
}

/// The earlier of two deadlines, of which there may be none.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
