//! The escape key: how a person at a raw terminal talks to us and not to the
//! guest.
//!
//! A pure machine: bytes in, arrivals out. The key is Ctrl-] (0x1d), as in
//! telnet and `virsh console`; no shell or editor uses it. The byte after it
//! says what is wanted; the key twice sends it to the guest once.

use crate::Arrival;

const ESCAPE: u8 = 0x1d;

/// How the escape key is called in messages.
pub const ESCAPE_NAME: &str = "Ctrl-]";

/// What can follow the escape key.
pub const HELP: &str = "Ctrl-] then  q: quit (the recording is closed properly)   \
p: press the power button   h: this help   Ctrl-]: send Ctrl-] to the guest";

/// Finds the escape key in what is typed.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    /// The last byte was the escape key.
    pending: bool,
}

impl Escape {
    /// What `bytes`, typed after everything before, mean.
    pub(crate) fn sort(&mut self, bytes: &[u8]) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut plain = Vec::new();
        for &byte in bytes {
            let meaning = if std::mem::take(&mut self.pending) {
                command(byte)
            } else if byte == ESCAPE {
                self.pending = true;
                None
            } else {
                plain.push(byte);
                None
            };
            match meaning {
                Some(Arrival::Bytes(literal)) => plain.extend(literal),
                Some(command) => {
                    flush(&mut plain, &mut arrivals);
                    arrivals.push(command);
                }
                None => {}
            }
        }
        flush(&mut plain, &mut arrivals);
        arrivals
    }
}

fn flush(plain: &mut Vec<u8>, arrivals: &mut Vec<Arrival>) {
    if !plain.is_empty() {
        arrivals.push(Arrival::Bytes(std::mem::take(plain)));
    }
}

fn command(byte: u8) -> Option<Arrival> {
    match byte {
        b'q' | b'Q' | b'x' => Some(Arrival::Quit),
        b'p' | b'P' => Some(Arrival::PowerButton),
        ESCAPE => Some(Arrival::Bytes(vec![ESCAPE])),
        // Whoever presses anything else is looking for help.
        _ => Some(Arrival::Help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_bytes_pass() {
        assert_eq!(
            Escape::default().sort(b"ls\r"),
            [Arrival::Bytes(b"ls\r".to_vec())]
        );
    }

    #[test]
    fn a_command_may_be_cut_in_two() {
        let mut escape = Escape::default();
        assert_eq!(escape.sort(b"a\x1d"), [Arrival::Bytes(b"a".to_vec())]);
        assert_eq!(
            escape.sort(b"pb"),
            [Arrival::PowerButton, Arrival::Bytes(b"b".to_vec())]
        );
    }

    #[test]
    fn the_key_twice_sends_it_once() {
        assert_eq!(
            Escape::default().sort(b"a\x1d\x1db"),
            [Arrival::Bytes(b"a\x1db".to_vec())]
        );
    }

    #[test]
    fn an_unknown_command_gives_help() {
        assert_eq!(
            Escape::default().sort(b"\x1d?\x1dq"),
            [Arrival::Help, Arrival::Quit]
        );
    }
}
