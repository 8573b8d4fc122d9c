//! The world of a live guest, made of what `host` offers.

use std::io::{self, Write as _};
use std::time::Duration;

use host::net::Wire;
use host::{Clock, Console, Wanted};
use session::{Arrival, OutputPort, Room, World};

use crate::report::Report;

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
            // There is no network in a replay.
            OutputPort::Network(_) => Ok(()),
        }
    }
}

/// The world.
#[derive(Debug)]
pub(crate) struct Outside {
    console: Console,
    wires: Vec<Wire>,
    screen: Screen,
    clock: Clock,
    report: Report,
}

impl Outside {
    /// Its clock starts now.
    pub(crate) fn begin(console: Console, wires: Vec<Wire>, report: Report) -> Outside {
        Outside {
            console,
            wires,
            screen: Screen::open(),
            clock: Clock::new(),
            report,
        }
    }

    /// What `arrival` is to the guest; a call for help is answered here.
    fn sort(&self, arrival: host::Arrival) -> Option<Arrival> {
        match arrival {
            host::Arrival::Bytes(bytes) => Some(Arrival::Typed(bytes)),
            host::Arrival::PowerButton => Some(Arrival::PowerButton),
            host::Arrival::Help => {
                host::notice(&format!("\n{}", host::HELP));
                None
            }
            host::Arrival::Frame { wire, bytes } => Some(Arrival::Frame { nic: wire, bytes }),
            host::Arrival::Link { wire, is_up } => {
                if !is_up {
                    self.report.note(&format!(
                        "nothing is at the other end of network card {wire} any more; the guest goes on without"
                    ));
                }
                Some(Arrival::Link { nic: wire, is_up })
            }
        }
    }

    fn until(&self, deadline_ns: Option<u64>) -> Option<Duration> {
        deadline_ns.map(|ns| Duration::from_nanos(ns.saturating_sub(self.clock.now_ns())))
    }
}

impl session::Screen for Outside {
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()> {
        if let OutputPort::Network(nic) = port {
            self.wires[nic].send(bytes);
        }
        self.screen.print(port, bytes)
    }
}

/// What is wanted where there is `room`.
fn wanted(Room { typed, frames }: Room) -> Wanted {
    Wanted { typed, frames }
}

impl World for Outside {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn take(&mut self, room: Room) -> Option<Arrival> {
        let arrival = self.console.arrivals().take(wanted(room))?;
        self.sort(arrival)
    }

    fn is_over(&self) -> bool {
        self.console.arrivals().is_over()
    }

    fn wait(&mut self, deadline_ns: Option<u64>, room: Room) -> Option<Arrival> {
        let limit = self.until(deadline_ns);
        let arrival = self.console.arrivals().wait(limit, wanted(room))?;
        self.sort(arrival)
    }
}
