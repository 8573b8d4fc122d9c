//! The machine's network cards, as the user names what they are connected to.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use host::net::{Forward, Plug, Wire};
use host::{Arrivals, WIRES_MAX};
use machine::{MachineConfig, NicConfig};

use crate::args::Machine;

/// The longest packet where both ends are on this host: few large packets cost
/// less than many small ones. It is passt's own limit.
const MTU_HERE: u16 = 65_520;
/// The shortest that a network may have (RFC 791).
const MTU_MIN: u16 = 68;
/// That of an Ethernet network.
const MTU_ETHERNET: u16 = 1500;

/// `none`, `passt`, `tap=NAME` or `socket=PATH`, with `,mac=...` and `,mtu=...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetOption {
    target: Target,
    mac: Option<[u8; 6]>,
    mtu: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    None,
    Passt,
    Tap(String),
    Socket(PathBuf),
}

impl FromStr for NetOption {
    type Err = String;

    /// Options are taken from the end, as those of a disk are.
    fn from_str(text: &str) -> Result<NetOption, String> {
        let (mut mac, mut mtu) = (None, None);
        let mut rest = text;
        while let Some((before, option)) = rest.rsplit_once(',') {
            match option.split_once('=') {
                Some(("mac", address)) => mac = Some(parse_mac(address)?),
                Some(("mtu", bytes)) => {
                    let bytes = bytes.parse().ok().filter(|bytes| *bytes >= MTU_MIN);
                    let bad = || format!("write mtu= with a number from {MTU_MIN} to {}", u16::MAX);
                    mtu = Some(bytes.ok_or_else(bad)?);
                }
                _ => break,
            }
            rest = before;
        }
        let target = match rest.split_once('=') {
            None if rest == "none" => Target::None,
            None if rest == "passt" => Target::Passt,
            Some(("tap", name)) if !name.is_empty() => Target::Tap(name.to_owned()),
            Some(("socket", path)) if !path.is_empty() => Target::Socket(path.into()),
            _ => return Err("write none, passt, tap=NAME or socket=PATH".to_owned()),
        };
        Ok(NetOption { target, mac, mtu })
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let parts: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    let mac = parts.and_then(|parts| parts.try_into().ok());
    mac.ok_or_else(|| "write mac= as 52:56:54:00:00:01".to_owned())
}

/// A network card that a machine is to have.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    plug: Plug,
    config: NicConfig,
}

/// The network cards that `arguments` ask for.
pub(crate) fn cards(arguments: &Machine) -> Result<Vec<Card>> {
    let forwards = &arguments.forward;
    let passt = NetOption {
        target: Target::Passt,
        mac: None,
        mtu: None,
    };
    let mut options = arguments.net.clone();
    if options.is_empty() && (arguments.boot_from_disk || !forwards.is_empty()) {
        options.push(passt);
    }
    options.retain(|option| option.target != Target::None);
    ensure!(
        options.len() <= WIRES_MAX,
        "{} network cards: at most {WIRES_MAX} are possible",
        options.len()
    );
    let passts = options
        .iter()
        .filter(|option| option.target == Target::Passt);
    ensure!(
        forwards.is_empty() || passts.count() == 1,
        "--forward needs one network card that is connected by passt: say --net passt"
    );
    let cards = options.iter().enumerate().map(|(number, option)| {
        let (plug, mtu) = plug(&option.target, option.mtu, forwards)?;
        let mac = match option.mac {
            Some(mac) => mac,
            None => address(&option.target, number)?,
        };
        let config = NicConfig { mac, mtu };
        Ok(Card { plug, config })
    });
    cards.collect()
}

/// Where a card leads, and how long a packet may be there.
fn plug(target: &Target, mtu: Option<u16>, forwards: &[Forward]) -> Result<(Plug, u16)> {
    let mtu = mtu.unwrap_or(match target {
        Target::Tap(name) => host::net::tap_mtu(name).unwrap_or(MTU_ETHERNET),
        Target::None | Target::Passt | Target::Socket(_) => MTU_HERE,
    });
    let plug = match target {
        Target::Tap(name) => Plug::Tap(name.clone()),
        Target::Socket(path) => Plug::Socket(path.clone()),
        Target::None | Target::Passt => Plug::Passt {
            mtu: mtu.min(MTU_HERE),
            forwards: forwards.to_vec(),
        },
    };
    Ok((plug, mtu))
}

/// The address of card `number`: alone on its wire it is always the same;
/// otherwise nobody else's, as far as chance goes.
fn address(target: &Target, number: usize) -> Result<[u8; 6]> {
    let last = match target {
        Target::None | Target::Passt => [0, 0, u8::try_from(number)?],
        Target::Tap(_) | Target::Socket(_) => host::entropy()?,
    };
    // Locally administered: the letters RVT.
    Ok([0x52, 0x56, 0x54, last[0], last[1], last[2]])
}

/// What the machine's configuration says of `cards`.
pub(crate) fn configure(config: &mut MachineConfig, cards: &[Card]) {
    config.nics = cards.iter().map(|card| card.config).collect();
}

/// What a recording's manifest says of `cards`.
pub(crate) fn describe(cards: &[Card]) -> Vec<session::Nic> {
    let nics = cards.iter().map(|card| session::Nic {
        mac: session::print_mac(card.config.mac),
        mtu: card.config.mtu,
        connected_to: match &card.plug {
            Plug::Passt { forwards, .. } => {
                let forwards = forwards.iter().map(|forward| format!(", {forward}"));
                format!("passt{}", forwards.collect::<String>())
            }
            Plug::Tap(name) => format!("TAP interface {name}"),
            Plug::Socket(path) => format!("socket {}", path.display()),
        },
    });
    nics.collect()
}

/// Connects `cards`. What comes to them comes to `arrivals`.
pub(crate) fn connect(cards: &[Card], arrivals: &Arrivals) -> Result<Vec<Wire>> {
    let wires = cards.iter().enumerate().map(|(number, card)| {
        let (wire, wire_number) = Wire::lay(&card.plug, arrivals)?;
        assert_eq!(wire_number, number, "cards and wires are counted alike");
        Ok(wire)
    });
    wires.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NetOption {
        text.parse().expect("a good option")
    }

    #[test]
    fn options_follow_in_any_order() {
        let option = parse("socket=/tmp/a,b,mtu=1500,mac=02:00:00:00:00:0a");
        assert_eq!(option.target, Target::Socket("/tmp/a,b".into()));
        assert_eq!(option.mac, Some([2, 0, 0, 0, 0, 10]));
        assert_eq!(option.mtu, Some(1500));
        assert_eq!(parse("tap=tap0").target, Target::Tap("tap0".to_owned()));
        assert_eq!(parse("passt").target, Target::Passt);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "tap",
            "tap=",
            "user",
            "passt,mac=1:2",
            "passt,mtu=x",
            "passt,mtu=65536",
            "passt,x=1",
        ] {
            assert!(text.parse::<NetOption>().is_err(), "{text}");
        }
    }
}
