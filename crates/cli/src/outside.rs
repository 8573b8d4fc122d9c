//! The world of a live guest, made of what `host` offers.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use host::net::Wire;
use host::{Clock, Console, Wanted};
use machine::ENTROPY_BYTES_MAX;
use session::{Arrival, OutputPort, Room, World};

use crate::report::Report;

/// Where the guest's output goes: its console to standard output, its debug
/// port to standard error, its second serial port to a file.
#[derive(Debug)]
pub(crate) struct Screen {
    console: host::Screen,
    /// `None`: what is printed there is not kept.
    serial2: Option<File>,
}

impl Screen {
    /// With a new file at `serial2`, if there is to be one.
    pub(crate) fn open(serial2: Option<&Path>) -> Result<Screen> {
        let file = serial2.map(|path| {
            File::create_new(path).map_err(|error| {
                anyhow!(
                    "{} can't be made ({error}): name a new file with --serial2",
                    path.display()
                )
            })
        });
        Ok(Screen {
            console: host::Screen::open(),
            serial2: file.transpose()?,
        })
    }
}

impl session::Screen for Screen {
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()> {
        match port {
            OutputPort::Console => self.console.print(bytes),
            OutputPort::Debug => io::stderr().write_all(bytes),
            OutputPort::Serial2 => self
                .serial2
                .as_mut()
                .map_or(Ok(()), |file| file.write_all(bytes)),
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
    /// Those that have lost their other end.
    is_cut: Vec<bool>,
    screen: Screen,
    clock: Clock,
    report: Report,
}

impl Outside {
    /// Its clock starts now.
    pub(crate) fn begin(
        console: Console,
        screen: Screen,
        wires: Vec<Wire>,
        report: Report,
    ) -> Outside {
        Outside {
            console,
            is_cut: vec![false; wires.len()],
            wires,
            screen,
            clock: Clock::new(),
            report,
        }
    }

    /// What `arrival` is to the guest; a call for help is answered here.
    fn sort(&mut self, arrival: host::Arrival) -> Option<Arrival> {
        match arrival {
            host::Arrival::Bytes(bytes) => Some(Arrival::Typed(bytes)),
            host::Arrival::PowerButton => Some(Arrival::PowerButton),
            host::Arrival::Help => {
                host::notice(&format!("\n{}", host::HELP));
                None
            }
            host::Arrival::Frame { wire, bytes } => Some(Arrival::Frame { nic: wire, bytes }),
            host::Arrival::Link { wire, is_up } => {
                if let Some(text) = link_note(&mut self.is_cut[wire], is_up) {
                    self.report.note(&format!("network card {wire}: {text}"));
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

/// What to say of a link: that its other end is gone, or there again, but not
/// that it is there at the start.
fn link_note(is_cut: &mut bool, is_up: bool) -> Option<&'static str> {
    let was_cut = std::mem::replace(is_cut, !is_up);
    match (was_cut, is_up) {
        (false, false) => Some(
            "nothing is at the other end any more; the guest goes on without until something is",
        ),
        (true, true) => Some("something is at the other end again"),
        _ => None,
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

    fn entropy(&mut self) -> io::Result<[u8; ENTROPY_BYTES_MAX]> {
        host::entropy().map_err(io::Error::other)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_goes_and_comes_is_told_twice() {
        let mut is_cut = false;
        let told = [true, false, true].map(|is_up| link_note(&mut is_cut, is_up).is_some());
        assert_eq!(told, [false, true, true]);
    }
}
