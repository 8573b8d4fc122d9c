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
    /// A frame has come by a wire.
    Frame {
        /// The wire's number.
        wire: usize,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A wire has an other end now, or has lost it.
    Link {
        /// The wire's number.
        wire: usize,
        /// Whether there is an other end now.
        is_up: bool,
    },
}

/// How many arrivals may wait; then the reader of standard input waits too,
/// and with it whoever writes there.
const ARRIVALS_MAX: usize = 16;
/// How many bytes of frames may wait of each wire; then its reader waits, and
/// with it whoever sends there.
const FRAMES_BYTES_MAX: usize = 4 << 20;

/// What is wanted now. The rest waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes typed.
    pub typed: bool,
    /// Frames: a bit for each wire, by its number.
    pub frames: u32,
}

/// What has arrived and was not yet taken, shared with the threads that wait
/// for it.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<Shared>);

/// The most wires that there can be: each is a bit of [`Wanted`].
pub const WIRES_MAX: usize = u32::BITS as usize;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// All but frames.
    queue: VecDeque<Arrival>,
    lanes: Vec<Lane>,
    is_over: bool,
}

/// The frames of a wire.
#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl State {
    /// Where in the queue the next that is `wanted` stands.
    fn place(&self, wanted: Wanted) -> Option<usize> {
        let is_wanted = |arrival: &Arrival| wanted.typed || !matches!(arrival, Arrival::Bytes(_));
        self.queue.iter().position(is_wanted)
    }

    /// The first wire with a frame that is `wanted`.
    fn wire(&self, wanted: Wanted) -> Option<usize> {
        let mut lanes = self.lanes.iter().enumerate();
        let wire =
            lanes.find(|(wire, lane)| wanted.frames >> wire & 1 != 0 && !lane.frames.is_empty());
        wire.map(|(wire, _)| wire)
    }

    fn take(&mut self, wanted: Wanted) -> Option<Arrival> {
        if let Some(place) = self.place(wanted) {
            return self.queue.remove(place);
        }
        let wire = self.wire(wanted)?;
        let lane = &mut self.lanes[wire];
        let bytes = lane.frames.pop_front()?;
        lane.bytes -= bytes.len();
        Some(Arrival::Frame { wire, bytes })
    }
}

impl Arrivals {
    /// The next that is `wanted`, if there is one.
    pub fn take(&self, wanted: Wanted) -> Option<Arrival> {
        let arrival = self.lock().take(wanted)?;
        self.0.changed.notify_all();
        Some(arrival)
    }

    /// Whether someone wants the run to end: by the escape key, or by a
    /// signal. Once true, it stays so.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The next that is `wanted`; waits for it up to `limit`, or for as long as
    /// it takes, or until the run is over.
    pub fn wait(&self, limit: Option<Duration>, wanted: Wanted) -> Option<Arrival> {
        drop(self.wait_while(limit, |state| {
            state.place(wanted).is_none() && state.wire(wanted).is_none()
        }));
        self.take(wanted)
    }

    /// Makes room for a wire, and gives its number. There are at most
    /// [`WIRES_MAX`].
    pub(crate) fn add_wire(&self) -> usize {
        let mut state = self.lock();
        assert!(state.lanes.len() < WIRES_MAX, "so many wires were refused");
        state.lanes.push(Lane::default());
        state.lanes.len() - 1
    }

    /// Adds a frame that has come by `wire`; waits while there is no room.
    pub(crate) fn put_frame(&self, wire: usize, bytes: Vec<u8>) {
        let is_full = |state: &State| state.lanes[wire].bytes >= FRAMES_BYTES_MAX;
        let mut state = self.wait_while(None, is_full);
        let lane = &mut state.lanes[wire];
        lane.bytes += bytes.len();
        lane.frames.push_back(bytes);
        self.0.changed.notify_all();
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

    const ALL: Wanted = Wanted {
        typed: true,
        frames: u32::MAX,
    };

    #[test]
    fn what_is_not_wanted_waits_and_holds_up_nothing_else() {
        let arrivals = Arrivals::default();
        let wires = [arrivals.add_wire(), arrivals.add_wire()];
        arrivals.put(Arrival::Bytes(vec![1]));
        arrivals.put(Arrival::PowerButton);
        for wire in wires {
            arrivals.put_frame(wire, vec![7; 60]);
        }
        let wanted = Wanted {
            typed: false,
            frames: 0b10,
        };
        assert_eq!(arrivals.take(wanted), Some(Arrival::PowerButton));
        let frame = |wire| {
            Some(Arrival::Frame {
                wire,
                bytes: vec![7; 60],
            })
        };
        assert_eq!(arrivals.take(wanted), frame(1));
        assert_eq!(arrivals.wait(Some(Duration::from_millis(1)), wanted), None);
        assert_eq!(arrivals.take(ALL), Some(Arrival::Bytes(vec![1])));
        assert_eq!(arrivals.take(ALL), frame(0));
    }

    #[test]
    fn frames_that_nobody_takes_hold_up_their_wire() {
        let arrivals = Arrivals::default();
        let wire = arrivals.add_wire();
        let many = 4 * FRAMES_BYTES_MAX / 1500;
        let adder = arrivals.clone();
        let thread = std::thread::spawn(move || {
            (0..many).for_each(|_| adder.put_frame(wire, vec![0; 1500]))
        });
        let taken = (0..many).map_while(|_| arrivals.wait(None, ALL)).count();
        thread.join().expect("it only adds");
        assert_eq!(taken, many);
    }

    #[test]
    fn arrivals_come_in_order() {
        let arrivals = Arrivals::default();
        arrivals.put(Arrival::Bytes(vec![1]));
        arrivals.put(Arrival::PowerButton);
        assert_eq!(arrivals.wait(None, ALL), Some(Arrival::Bytes(vec![1])));
        assert_eq!(arrivals.take(ALL), Some(Arrival::PowerButton));
        assert_eq!(arrivals.wait(Some(Duration::from_millis(1)), ALL), None);
    }

    #[test]
    fn a_full_queue_holds_up_whoever_adds_to_it() {
        let arrivals = Arrivals::default();
        let many = ARRIVALS_MAX * 3;
        let adder = arrivals.clone();
        let thread = std::thread::spawn(move || (0..many).for_each(|_| adder.put(Arrival::Help)));
        let taken = (0..many).map_while(|_| arrivals.wait(None, ALL)).count();
        thread.join().expect("it only adds");
        assert_eq!(taken, many);
    }

    #[test]
    fn the_end_wakes_whoever_waits() {
        let arrivals = Arrivals::default();
        let waiter = arrivals.clone();
        let thread = std::thread::spawn(move || waiter.wait(None, ALL));
        arrivals.end();
        assert_eq!(thread.join().expect("it only waits"), None);
        assert!(arrivals.is_over());
        assert_eq!(arrivals.wait(None, Wanted::default()), None);
    }
}
