//! Signals that ask us to end.
//!
//! The first asks for an orderly end: the guest is stopped and the recording
//! closed. The second ends us at once, as if nothing caught it.

use std::sync::mpsc::SyncSender;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::{Arrival, Error, terminal};

/// Sends [`Arrival::Quit`] to `arrivals` on the first signal.
pub(crate) fn catch(arrivals: SyncSender<Arrival>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(Error::Signals)?;
    let wait = move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked {
                terminal::restore();
                let _ = emulate_default_handler(signal);
                std::process::abort();
            }
            asked = true;
            ask(&arrivals);
        }
    };
    let builder = std::thread::Builder::new().name("signals".to_owned());
    builder.spawn(wait).map(drop).map_err(Error::Thread)
}

/// Waits on a thread of its own for room among the arrivals, so that a second
/// signal is heard even if nobody takes them any more.
fn ask(arrivals: &SyncSender<Arrival>) {
    if arrivals.try_send(Arrival::Quit).is_err() {
        let arrivals = arrivals.clone();
        // A failure leaves the user with the second signal.
        let _ = std::thread::Builder::new().spawn(move || arrivals.send(Arrival::Quit));
    }
}
