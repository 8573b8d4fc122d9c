//! The escape key: how a person at a raw terminal talks to us and not to the
//! guest.
//!
//! A pure machine: bytes in, arrivals out. The key is Ctrl-] (0x1d), as in
//! telnet and `virsh console`; no shell or editor uses it. The byte after it
//! says what is wanted; the key twice sends it to the guest once.

use crate::Arrival;

/// What typed bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something for the guest, or a question.
    Arrival(Arrival),
    /// The run is to end.
    Quit,
}

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
    pub(crate) fn sort(&mut self, bytes: &[u8]) -> Vec<Meaning> {
        let mut meanings = Vec::new();
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
                Some(Meaning::Arrival(Arrival::Bytes(literal))) => plain.extend(literal),
                Some(command) => {
                    flush(&mut plain, &mut meanings);
                    meanings.push(command);
                }
                None => {}
            }
        }
        flush(&mut plain, &mut meanings);
        meanings
    }
}

fn flush(plain: &mut Vec<u8>, meanings: &mut Vec<Meaning>) {
    if !plain.is_empty() {
        meanings.push(Meaning::Arrival(Arrival::Bytes(std::mem::take(plain))));
    }
}

fn command(byte: u8) -> Option<Meaning> {
    Some(match byte {
        b'q' | b'Q' | b'x' => Meaning::Quit,
        b'p' | b'P' => Meaning::Arrival(Arrival::PowerButton),
        ESCAPE => Meaning::Arrival(Arrival::Bytes(vec![ESCAPE])),
        // Whoever presses anything else is looking for help.
        _ => Meaning::Arrival(Arrival::Help),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> Meaning {
        Meaning::Arrival(Arrival::Bytes(bytes.to_vec()))
    }

    #[test]
    fn plain_bytes_pass() {
        assert_eq!(Escape::default().sort(b"ls\r"), [bytes(b"ls\r")]);
    }

    #[test]
    fn a_command_may_be_cut_in_two() {
        let mut escape = Escape::default();
        assert_eq!(escape.sort(b"a\x1d"), [bytes(b"a")]);
        assert_eq!(
            escape.sort(b"pb"),
            [Meaning::Arrival(Arrival::PowerButton), bytes(b"b")]
        );
    }

    #[test]
    fn the_key_twice_sends_it_once() {
        assert_eq!(Escape::default().sort(b"a\x1d\x1db"), [bytes(b"a\x1db")]);
    }

    #[test]
    fn an_unknown_command_gives_help() {
        assert_eq!(
            Escape::default().sort(b"\x1d?\x1dq"),
            [Meaning::Arrival(Arrival::Help), Meaning::Quit]
        );
    }
}
