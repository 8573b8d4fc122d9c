//! What comes from outside, in the order in which it came.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes typed, never empty.
    Bytes(Vec<u8>),
    /// The power button is pressed.
    PowerButton,
    /// Someone wants to know what the escape key can do.
    Help,
}

/// How many arrivals may wait; then the reader of standard input waits too,
/// and with it whoever writes there.
const ARRIVALS_MAX: usize = 16;

/// What has arrived and was not yet taken, shared with the threads that wait
/// for it.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Arrival>,
    is_over: bool,
}

impl Arrivals {
    /// The next, if there is one.
    pub fn take(&self) -> Option<Arrival> {
        let arrival = self.lock().queue.pop_front();
        self.0.changed.notify_all();
        arrival
    }

    /// Whether someone wants the run to end: by the escape key, or by a
    /// signal. Once true, it stays so.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The next; waits for it up to `limit`, or for as long as it takes, or
    /// until the run is over.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Arrival> {
        drop(self.wait_while(limit, |state| state.queue.is_empty()));
        self.take()
    }

    /// Waits up to `limit`, or until the run is over; takes nothing.
    pub fn sleep(&self, limit: Option<Duration>) {
        drop(self.wait_while(limit, |_| true));
    }

    /// Adds `arrival`; waits while there is no room.
    pub(crate) fn put(&self, arrival: Arrival) {
        let mut state = self.wait_while(None, |state| state.queue.len() >= ARRIVALS_MAX);
        state.queue.push_back(arrival);
        self.0.changed.notify_all();
    }

    /// The power button is pressed: before whatever else waits, and without
    /// waiting for room.
    pub(crate) fn press_power_button(&self) {
        self.lock().queue.push_front(Arrival::PowerButton);
        self.0.changed.notify_all();
    }

    /// The run is to end.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.0.changed.notify_all();
    }

    fn wait_while(
        &self,
        limit: Option<Duration>,
        go_on: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut state = self.lock();
        while !state.is_over && go_on(&state) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.0
                        .changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .0
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_in_order() {
        let arrivals = Arrivals::default();
        arrivals.put(Arrival::Bytes(vec![1]));
        arrivals.put(Arrival::PowerButton);
        assert_eq!(arrivals.wait(None), Some(Arrival::Bytes(vec![1])));
        assert_eq!(arrivals.take(), Some(Arrival::PowerButton));
        assert_eq!(arrivals.wait(Some(Duration::from_millis(1))), None);
    }

    #[test]
    fn a_full_queue_holds_up_whoever_adds_to_it() {
        let arrivals = Arrivals::default();
        let many = ARRIVALS_MAX * 3;
        let adder = arrivals.clone();
        let thread = std::thread::spawn(move || (0..many).for_each(|_| adder.put(Arrival::Help)));
        let taken = (0..many).map_while(|_| arrivals.wait(None)).count();
        thread.join().expect("it only adds");
        assert_eq!(taken, many);
    }

    #[test]
    fn the_end_wakes_whoever_waits() {
        let arrivals = Arrivals::default();
        let waiter = arrivals.clone();
        let thread = std::thread::spawn(move || waiter.wait(None));
        arrivals.end();
        assert_eq!(thread.join().expect("it only waits"), None);
        assert!(arrivals.is_over());
        arrivals.sleep(None);
    }
}
