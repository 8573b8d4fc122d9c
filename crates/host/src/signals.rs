//! Signals that ask us to end.
//!
//! SIGINT and SIGHUP ask for an orderly end: the guest is stopped where it is
//! and the recording closed. SIGTERM, which is how service managers and hosts
//! that go down ask, presses the guest's power button first, and asks for an
//! orderly end if the guest is still there after a time of grace. A second
//! signal asks for an orderly end at once, and one after that ends us as if
//! nothing caught it.

use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::{Arrivals, Error, terminal};

/// Acts on signals from now on; `grace` is what a guest has to power off after
/// SIGTERM.
pub(crate) fn catch(arrivals: Arrivals, grace: Duration) -> Result<(), Error> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(Error::Signals)?;
    let wait = move || {
        let mut is_pressed = false;
        for signal in signals.forever() {
            if arrivals.is_over() {
                terminal::restore();
                let _ = emulate_default_handler(signal);
                std::process::abort();
            }
            // Without a thread that keeps the time of grace there is none.
            if signal == SIGTERM && !is_pressed && end_after(&arrivals, grace).is_ok() {
                is_pressed = true;
                arrivals.press_power_button();
            } else {
                arrivals.end();
            }
        }
    };
    let builder = std::thread::Builder::new().name("signals".to_owned());
    builder.spawn(wait).map(drop).map_err(Error::Thread)
}

/// Ends the run after `grace`, whatever happens until then.
fn end_after(arrivals: &Arrivals, grace: Duration) -> std::io::Result<()> {
    let arrivals = arrivals.clone();
    let builder = std::thread::Builder::new().name("grace".to_owned());
    let wait = move || {
        std::thread::sleep(grace);
        arrivals.end();
    };
    builder.spawn(wait).map(drop)
}
