//! The bounded queue between the vCPU's thread and the writer's.
//!
//! When the disk is slower than the guest, [`Ring::push`] waits: nothing is
//! lost, and no more than the bound is held here (and as much again by the
//! writer while it writes).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Event, WriteError};

/// What the writer's thread is asked to do.
#[derive(Debug)]
pub(crate) struct Work {
    /// Events to write, in order.
    pub(crate) events: VecDeque<Event>,
    /// When the first of them was seen.
    pub(crate) since: Instant,
    /// Everything up to here must be on disk when this is done.
    pub(crate) flush: Option<u64>,
    /// Nothing follows.
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Ring {
    state: Mutex<State>,
    /// Signalled when there is room, a flush is done, or the writer failed.
    progress: Condvar,
    /// Signalled when there is work.
    work: Condvar,
    bytes_max: usize,
    batch_bytes: usize,
    batch_time: Duration,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    flush_wanted: u64,
    flush_done: u64,
    closed: bool,
    failed: Option<WriteError>,
}

impl State {
    fn urgent(&self) -> bool {
        self.closed || self.flush_wanted != self.flush_done
    }

    fn idle(&self) -> bool {
        self.events.is_empty() && !self.urgent()
    }
}

/// What `event` counts for in the bound.
fn weight(event: &Event) -> usize {
    size_of::<Event>() + event.body.variable().0.len()
}

impl Ring {
    /// Holds `bytes_max`; hands out work once there are `batch_bytes` of it, or
    /// after `batch_time`.
    pub(crate) fn new(bytes_max: usize, batch_bytes: usize, batch_time: Duration) -> Ring {
        Ring {
            state: Mutex::default(),
            progress: Condvar::new(),
            work: Condvar::new(),
            bytes_max,
            batch_bytes: batch_bytes.min(bytes_max),
            batch_time,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so the state is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `event`; waits for room. Fails once the writer has failed.
    pub(crate) fn push(&self, event: Event) -> Result<(), WriteError> {
        let weight = weight(&event);
        let full = |state: &mut State| {
            state.failed.is_none()
                && !state.events.is_empty()
                && state.bytes + weight > self.bytes_max
        };
        let mut state = self.lock();
        if full(&mut state) {
            // The writer may be waiting for more, and there can't be more.
            state.bytes = state.bytes.max(self.batch_bytes);
            self.work.notify_one();
            state = self
                .progress
                .wait_while(state, full)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let first = state.events.is_empty();
        state.events.push_back(event);
        state.bytes += weight;
        if first || state.bytes >= self.batch_bytes {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Returns when all that was pushed is on disk.
    pub(crate) fn flush(&self) -> Result<(), WriteError> {
        let mut state = self.lock();
        state.flush_wanted += 1;
        let wanted = state.flush_wanted;
        self.work.notify_one();
        let state = self
            .progress
            .wait_while(state, |state| {
                state.failed.is_none() && state.flush_done < wanted
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.failed.clone().map_or(Ok(()), Err)
    }

    /// Says that nothing follows.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Waits for work, for the writer's thread; until `deadline` if there is
    /// one, then hands out what there is, be it nothing.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Work {
        let mut state = wait_while(&self.work, self.lock(), deadline, State::idle);
        let since = Instant::now();
        let end = since + self.batch_time;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        state = wait_while(&self.work, state, Some(end), |state| {
            !state.urgent() && state.bytes < self.batch_bytes
        });
        state.bytes = 0;
        self.progress.notify_all();
        Work {
            events: std::mem::take(&mut state.events),
            since,
            flush: (state.flush_wanted != state.flush_done).then_some(state.flush_wanted),
            closed: state.closed,
        }
    }

    /// Tells that all up to `flush` is on disk.
    pub(crate) fn flushed(&self, flush: u64) {
        self.lock().flush_done = flush;
        self.progress.notify_all();
    }

    /// Tells that the writer has stopped. What is queued is dropped; the first
    /// error given stays.
    pub(crate) fn fail(&self, error: WriteError) {
        let mut state = self.lock();
        state.failed.get_or_insert(error);
        state.events = VecDeque::new();
        state.bytes = 0;
        self.progress.notify_all();
    }
}

/// Waits while `condition` holds, and not beyond `deadline` if there is one.
fn wait_while<'a>(
    signal: &Condvar,
    mut state: MutexGuard<'a, State>,
    deadline: Option<Instant>,
    condition: impl Fn(&State) -> bool,
) -> MutexGuard<'a, State> {
    while condition(&state) {
        state = match deadline.map(|end| end.saturating_duration_since(Instant::now())) {
            None => signal.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => break,
            Some(left) => {
                signal
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
    }
    state
}
