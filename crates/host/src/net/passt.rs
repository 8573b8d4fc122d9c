//! passt: a network for a guest, made by an ordinary process of the user's.
//!
//! It speaks TCP and UDP with the guest and has ordinary sockets on the host;
//! no privilege is needed. It is started with one end of a socket pair and
//! sends itself into the background once all is set up, so that its exit code
//! says whether it is; it ends when we do, or close our end. Where it ends by
//! itself, as Debian 12's was seen to do, another is started in its place.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::Error;

/// The guest's addresses and its gateway's, given to it by DHCP and by router
/// advertisements: the same on every host.
const ADDRESS: &str = "10.0.2.15";
const NETMASK: &str = "255.255.255.0";
const GATEWAY: &str = "10.0.2.2";
/// What a guest makes of the prefix and of the card's usual address. Where the
/// host has no IPv6, passt lets the guest have none.
const ADDRESS6: &str = "fd72:7669:7274:0:5056:54ff:fe00:0";

/// How many bytes of frames may lie between passt and us.
const BUFFER_BYTES: usize = 4 << 20;

/// What is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
}

/// A port of the host's that leads to one of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What is forwarded.
    pub protocol: Protocol,
    /// Who may connect: those who reach this address of the host's.
    pub address: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The guest's.
    pub guest_port: u16,
}

impl FromStr for Forward {
    type Err = String;

    /// `[tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT`. Without an address, only the
    /// host itself can connect. An IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Forward, String> {
        let (protocol, rest) = match text.split_once(':') {
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            _ => (Protocol::Tcp, text),
        };
        let bad = || {
            "write [tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT, as in 8080:80, 0.0.0.0:8080:80 or [::1]:8080:80"
                .to_owned()
        };
        let (address, ports) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (address, ports) = rest.split_once("]:").ok_or_else(bad)?;
                let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
                (IpAddr::from(address), ports)
            }
            None => match rest.rsplitn(3, ':').nth(2) {
                Some(address) => {
                    let ports = &rest[address.len() + 1..];
                    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
                    (IpAddr::from(address), ports)
                }
                None => (IpAddr::from(Ipv4Addr::LOCALHOST), rest),
            },
        };
        let (host, guest) = ports.split_once(':').ok_or_else(bad)?;
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(bad);
        Ok(Forward {
            protocol,
            address,
            host_port: port(host)?,
            guest_port: port(guest)?,
        })
    }
}

impl fmt::Display for Forward {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        let host = SocketAddr::new(self.address, self.host_port);
        write!(f, "{protocol} {host} to port {}", self.guest_port)
    }
}

impl Forward {
    /// As passt wants it.
    fn options(&self) -> [String; 2] {
        let option = match self.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
        };
        let ports = format!("{}/{}:{}", self.address, self.host_port, self.guest_port);
        [option.to_owned(), ports]
    }
}

/// So long the guest is without a network before passt is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// One that doesn't live so long has failed, and so many failures on end are
/// enough.
const LIFE_MIN: Duration = Duration::from_secs(10);
const FAILURES_MAX: u32 = 3;

/// A passt that runs.
#[derive(Debug)]
pub(super) struct Passt {
    mtu: u16,
    forwards: Vec<Forward>,
    began: Instant,
    failures: u32,
}

impl Passt {
    /// Starts passt for a wire that carries packets of `mtu` bytes.
    pub(super) fn start(mtu: u16, forwards: &[Forward]) -> Result<(Passt, UnixStream), Error> {
        let stream = start(mtu, forwards)?;
        let passt = Passt {
            mtu,
            forwards: forwards.to_vec(),
            began: Instant::now(),
            failures: 0,
        };
        Ok((passt, stream))
    }

    /// Starts it once more, after it has ended; `None` if that is of no use.
    pub(super) fn again(&mut self) -> Option<UnixStream> {
        loop {
            self.failures = if self.began.elapsed() < LIFE_MIN {
                self.failures + 1
            } else {
                0
            };
            if self.failures == FAILURES_MAX {
                return None;
            }
            std::thread::sleep(PAUSE);
            self.began = Instant::now();
            if let Ok(stream) = start(self.mtu, &self.forwards) {
                return Some(stream);
            }
        }
    }
}

fn start(mtu: u16, forwards: &[Forward]) -> Result<UnixStream, Error> {
    let (ours, theirs) = UnixStream::pair()?;
    // What finds no room there is lost, and passt learns of that late: so we ask
    // for much, and get what the host allows (net.core.wmem_max).
    for end in [&ours, &theirs] {
        set_socket_send_buffer_size(end, BUFFER_BYTES).map_err(io::Error::from)?;
    }
    // It finds its end by number.
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(io::Error::from)?;
    let output = Command::new("passt")
        .args(["--quiet", "--no-map-gw"])
        .args(["--address", ADDRESS, "--netmask", NETMASK])
        .args(["--address", ADDRESS6])
        .args(["--gateway", GATEWAY, "--mtu", &mtu.to_string()])
        .args(["--fd", &theirs.as_raw_fd().to_string()])
        .args(forwards.iter().flat_map(Forward::options))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoPasst,
            _ => Error::Passt {
                said: error.to_string(),
            },
        })?;
    if output.status.success() {
        return Ok(ours);
    }
    Err(refusal(&String::from_utf8_lossy(&output.stderr)))
}

/// What to say of what passt said.
fn refusal(said: &str) -> Error {
    let mut lines = said.lines().map(str::trim).filter(|line| {
        // Of the system log, and of root's rights that it gives up.
        !line.is_empty() && !line.contains("to syslog") && !line.contains("Don't run as root")
    });
    let said = lines.next_back().unwrap_or("it said nothing").to_owned();
    let port = said
        .strip_prefix("Failed to bind any port for '")
        .and_then(|rest| Some(rest.split_once('\'')?.0.split_once(' ')?.1));
    match port {
        Some(port) => Error::Port {
            port: as_given(port),
        },
        None => Error::Passt { said },
    }
}

/// `ADDRESS/HOSTPORT:GUESTPORT`, as the user wrote it.
fn as_given(port: &str) -> String {
    match port.split_once('/') {
        Some((address, ports)) if address.contains(':') => format!("[{address}]:{ports}"),
        Some((address, ports)) => format!("{address}:{ports}"),
        None => port.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_read_in_all_forms() {
        let forward = |text: &str| text.parse::<Forward>().expect("a good one").options();
        assert_eq!(forward("8080:80"), ["-t", "127.0.0.1/8080:80"]);
        assert_eq!(forward("tcp:8080:80"), ["-t", "127.0.0.1/8080:80"]);
        assert_eq!(forward("udp:0.0.0.0:53:5353"), ["-u", "0.0.0.0/53:5353"]);
        assert_eq!(forward("[::1]:8080:80"), ["-t", "::1/8080:80"]);
        assert_eq!(forward("udp:[::]:53:53"), ["-u", "::/53:53"]);
        let shown = "[::1]:8080:80".parse::<Forward>().expect("a good one");
        assert_eq!(shown.to_string(), "TCP [::1]:8080 to port 80");
        for text in [
            "",
            "::1:8080:80",
            "[::1]8080:80",
            "[::1:8080:80",
            "[127.0.0.1]:8080:80",
            "[::1]:8080",
            ":8080:80",
            "80",
            "80:",
            "0:80",
            "80:65536",
            "x:80:80",
            "icmp:80:80",
            "1:2:3:4",
        ] {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_passt_says_is_told() {
        let said = "Failed to send 57 bytes to syslog\nFailed to bind any port for '-t 127.0.0.1/80:80', exiting\n";
        assert!(matches!(refusal(said), Error::Port { port } if port == "127.0.0.1:80:80"));
        let said = "Failed to bind any port for '-t ::1/80:80', exiting\n";
        assert!(matches!(refusal(said), Error::Port { port } if port == "[::1]:80:80"));
        let said = "No external routable interface for any IP protocol\n";
        assert!(matches!(refusal(said), Error::Passt { said } if said.starts_with("No ext")));
        assert!(matches!(refusal(""), Error::Passt { .. }));
    }
}
