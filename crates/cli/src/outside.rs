//! The world of a live guest, made of what `host` offers.

use std::io::{self, Write as _};
use std::time::Duration;

use host::{Clock, Console};
use session::{Arrival, OutputPort, World};

/// Where the guest's output goes: its console to standard output, its debug
/// port to standard error.
#[derive(Debug)]
pub(crate) struct Screen(host::Screen);

impl Screen {
    pub(crate) fn open() -> Screen {
        Screen(host::Screen::open())
    }
}

impl session::Screen for Screen {
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()> {
        match port {
            OutputPort::Console => self.0.print(bytes),
            OutputPort::Debug => io::stderr().write_all(bytes),
        }
    }
}

/// The world.
#[derive(Debug)]
pub(crate) struct Outside {
    console: Console,
    screen: Screen,
    clock: Clock,
}

impl Outside {
    /// Its clock starts now.
    pub(crate) fn begin(console: Console) -> Outside {
        Outside {
            console,
            screen: Screen::open(),
            clock: Clock::new(),
        }
    }

    /// What `arrival` is to the guest; a call for help is answered here.
    fn sort(arrival: host::Arrival) -> Option<Arrival> {
        match arrival {
            host::Arrival::Bytes(bytes) => Some(Arrival::Typed(bytes)),
            host::Arrival::PowerButton => Some(Arrival::PowerButton),
            host::Arrival::Help => {
                host::notice(&format!("\n{}", host::HELP));
                None
            }
        }
    }

    fn until(&self, deadline_ns: Option<u64>) -> Option<Duration> {
        deadline_ns.map(|ns| Duration::from_nanos(ns.saturating_sub(self.clock.now_ns())))
    }
}

impl session::Screen for Outside {
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()> {
        self.screen.print(port, bytes)
    }
}

impl World for Outside {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn take(&mut self) -> Option<Arrival> {
        self.console.arrivals().take().and_then(Outside::sort)
    }

    fn is_over(&self) -> bool {
        self.console.arrivals().is_over()
    }

    fn wait(&mut self, deadline_ns: Option<u64>) -> Option<Arrival> {
        self.console
            .arrivals()
            .wait(self.until(deadline_ns))
            .and_then(Outside::sort)
    }

    fn sleep(&mut self, deadline_ns: Option<u64>) {
        self.console.arrivals().sleep(self.until(deadline_ns));
    }
}
