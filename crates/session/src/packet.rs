//! An Ethernet frame in a few words, for people.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;

/// A frame, to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a>(pub(crate) &'a [u8]);

const TCP: u8 = 6;
const UDP: u8 = 17;

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())?;
        // A frame that is cut short is shown as far as it goes.
        self.describe(f).unwrap_or(Ok(()))
    }
}

impl Packet<'_> {
    fn describe(self, f: &mut fmt::Formatter<'_>) -> Option<fmt::Result> {
        let packet = self.0.get(14..)?;
        match self.half(12)? {
            0x0800 => {
                let [from, to] = [12, 16].map(|at| packet.get(at..at + 4)?.first_chunk::<4>());
                let header_bytes = 4 * usize::from(packet.first()? & 0xf);
                let ends = (Ipv4Addr::from(*from?), Ipv4Addr::from(*to?));
                Some(transport(
                    f,
                    *packet.get(9)?,
                    ends,
                    packet.get(header_bytes..),
                ))
            }
            0x86dd => {
                let [from, to] = [8, 24].map(|at| packet.get(at..at + 16)?.first_chunk::<16>());
                let ends = (Ipv6Addr::from(*from?), Ipv6Addr::from(*to?));
                Some(transport(f, *packet.get(6)?, ends, packet.get(40..)))
            }
            0x0806 => Some(f.write_str("  ARP")),
            kind => Some(write!(f, "  kind {kind:#06x}")),
        }
    }

    fn half(self, at: usize) -> Option<u16> {
        let bytes = self.0.get(at..at + 2)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    }
}

/// Protocol, addresses and ports; `data` is what the IP packet carries.
fn transport<A: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    protocol: u8,
    (from, to): (A, A),
    data: Option<&[u8]>,
) -> fmt::Result {
    let name = match protocol {
        TCP => "TCP",
        UDP => "UDP",
        1 | 58 => "ICMP",
        _ => return write!(f, "  protocol {protocol}  {from} to {to}"),
    };
    let ports = data.and_then(|data| data.first_chunk::<4>());
    match ports.filter(|_| matches!(protocol, TCP | UDP)) {
        Some([a, b, c, d]) => {
            let [source, target] = [[*a, *b], [*c, *d]].map(u16::from_be_bytes);
            write!(f, "  {name}  {from} port {source} to {to} port {target}")
        }
        None => write!(f, "  {name}  {from} to {to}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 2, 2, 10, 0, 2, 15, 0x1f, 0x90, 0, 80]);
        frame
    }

    #[test]
    fn a_packet_tells_who_speaks_to_whom() {
        assert_eq!(
            Packet(&tcp()).to_string(),
            "38 bytes  TCP  10.0.2.2 port 8080 to 10.0.2.15 port 80"
        );
        assert_eq!(
            Packet(&tcp()[..34]).to_string(),
            "34 bytes  TCP  10.0.2.2 to 10.0.2.15"
        );
        assert_eq!(Packet(&[0; 5]).to_string(), "5 bytes");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_shown(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in prop::sample::select(&[[0, 0], [8, 0], [0x86, 0xdd], [8, 6]][..]),
        ) {
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&kind);
            }
            prop_assert!(Packet(&bytes).to_string().contains("bytes"));
        }
    }
}
