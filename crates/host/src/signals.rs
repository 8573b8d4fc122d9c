//! Signals that ask us to end.
//!
//! The first asks for an orderly end: the guest is stopped and the recording
//! closed. The second ends us at once, as if nothing caught it.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::{Arrivals, Error, terminal};

/// On the first signal, the run is over.
pub(crate) fn catch(arrivals: Arrivals) -> Result<(), Error> {
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
            arrivals.end();
        }
    };
    let builder = std::thread::Builder::new().name("signals".to_owned());
    builder.spawn(wait).map(drop).map_err(Error::Thread)
}
