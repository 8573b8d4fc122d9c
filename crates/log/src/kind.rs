//! The numbers of the format: kinds of event, doors, reasons to end.
//!
//! Each table stands here once; encoder, decoder, documents and help come from
//! it. A number is never used again for something else.

/// Makes an enum whose values have a number on disk, a name and a line of
/// documentation.
macro_rules! numbered {
    ($(#[$doc:meta])* $type:ident { $($value:ident = $number:literal, $name:literal, $line:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $(#[doc = $line] $value = $number,)*
        }

        impl $type {
            /// All of them, by number.
            pub const ALL: &'static [$type] = &[$($type::$value,)*];

            /// The number on disk.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The one with this number on disk.
            pub const fn from_number(number: u64) -> Option<$type> {
                match number {
                    $($number => Some($type::$value),)*
                    _ => None,
                }
            }

            /// The name that a user reads.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$value => $name,)*
                }
            }

            /// One line that says what it is.
            pub const fn doc(self) -> &'static str {
                match self {
                    $($type::$value => $line,)*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

numbered! {
    /// What kind of event; at most 32 of them, numbers 0 to 31.
    Kind {
        Clock = 0, "clock", "the clock was sampled";
        Input = 1, "input", "something came in from outside";
        Epoch = 2, "epoch", "a check of the whole machine: registers, memory, devices, output";
        Registers = 3, "registers", "a check of all registers";
        End = 4, "end", "the recording ended";
    }
}

numbered! {
    /// The way by which an input came in.
    Door {
        Console = 0, "console", "bytes typed at the serial console";
        Entropy = 1, "entropy", "random bytes from the host";
        PowerButton = 2, "power-button", "no bytes: the power button was pressed";
        Network = 3, "network", "a frame that came to a network card: 1 byte, its number; the frame";
        Link = 4, "link", "the wire of a network card: 1 byte, its number; 1 byte, 0 pulled out, 1 put in";
    }
}

impl Door {
    /// Whether inputs through this door are bytes, or only arrive.
    pub const fn carries_bytes(self) -> bool {
        match self {
            Door::Console | Door::Entropy | Door::Network | Door::Link => true,
            Door::PowerButton => false,
        }
    }
}

numbered! {
    /// Why a recording ended.
    EndReason {
        PoweredOff = 0, "powered-off", "the guest powered its machine off";
        Reset = 1, "reset", "the guest reset its machine";
        Stopped = 2, "stopped", "the user stopped the recording";
        Crashed = 3, "crashed", "the guest crashed: a triple fault";
        Halted = 4, "halted", "the guest halted for ever: nothing could wake it";
        LogFailed = 5, "log-failed", "the log could not be written any further; what came after the last whole frame is lost";
        DiskFailed = 6, "disk-failed", "the host could not read or write a disk; what the guest had asked for last was not done";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFICATION: &str = include_str!("../../../docs/log-format.md");

    #[test]
    fn numbers_are_places_in_the_table() {
        for (place, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.number()), place);
            assert_eq!(Kind::from_number(place as u64), Some(*kind));
        }
        assert!(Kind::ALL.len() <= 32);
        assert_eq!(Kind::from_number(Kind::ALL.len() as u64), None);
    }

    #[test]
    fn the_specification_names_every_kind_door_and_reason() {
        for kind in Kind::ALL {
            assert!(SPECIFICATION.contains(&format!("| {} | {} |", kind.number(), kind.name())));
        }
        let doors = Door::ALL.iter().map(|d| (d.number(), d.name(), d.doc()));
        let reasons = EndReason::ALL
            .iter()
            .map(|r| (r.number(), r.name(), r.doc()));
        for (number, name, doc) in doors.chain(reasons) {
            assert!(
                SPECIFICATION.contains(&format!("| {number} | {name} | {doc} |")),
                "{name}"
            );
        }
    }
}
