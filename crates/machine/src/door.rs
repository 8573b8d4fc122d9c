//! The two doors, and why a run stopped.

/// What comes in from outside. Each is logged at the moment it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes typed at the serial console. Give no more at a time than
    /// [`crate::Machine::console_room`] says: what does not fit is refused
    /// as a whole.
    Console(Vec<u8>),
    /// The power button was pressed.
    PowerButton,
    /// The host's clock was read.
    ClockSample {
        /// Nanoseconds since the machine's start, as the host counts them.
        host_ns: u64,
    },
    /// A frame came to a network card. Look first at
    /// [`crate::Machine::reception`]: one that the card has no room for is
    /// refused.
    Frame {
        /// The card's number, from 0.
        nic: usize,
        /// The frame, from the Ethernet header on, without a checksum.
        bytes: Vec<u8>,
    },
    /// The wire was put into a network card, or pulled out.
    Link {
        /// The card's number, from 0.
        nic: usize,
        /// Whether there is a wire now.
        is_up: bool,
    },
    /// Random bytes, when the guest [wants](crate::Machine::wants_entropy)
    /// some: at most [`crate::ENTROPY_BYTES_MAX`].
    Entropy(Vec<u8>),
}

/// Where something went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputPort {
    /// The first serial port.
    Console,
    /// Port 0xe9, where test kernels and firmware print.
    Debug,
    /// The second serial port.
    Serial2,
    /// The network card of this number. Each frame is an output of its own.
    Network(usize),
}

/// What went out, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where.
    pub port: OutputPort,
    /// What.
    pub bytes: Vec<u8>,
}

/// Why [`crate::Machine::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What was asked for has been reached.
    Reached,
    /// The moment asked for has been passed, or never comes.
    Missed,
    /// The processor is halted until an interrupt comes.
    Idle {
        /// Guest time at which the next timer is due, in ns since the start;
        /// `None`: only an input can wake the machine.
        deadline_ns: Option<u64>,
        /// Interrupts are disabled: no input and no timer will ever wake it.
        is_dead: bool,
    },
    /// The guest has switched the machine off. It runs no further.
    PoweredOff,
    /// The guest has asked for a reset. It runs no further, unless
    /// [`crate::Machine::restart`] starts it again.
    Reset,
    /// A triple fault: the processor has shut down. It runs no further.
    Shutdown,
    /// In lockstep, the engines did not come to the same. It runs no further.
    Disagreed,
    /// The guest has written this value to the debug exit port. It runs no
    /// further.
    DebugExit(u32),
    /// The host could not read or write the contents of disk `disk`. The
    /// machine runs no further: what it would do next would not follow from
    /// its inputs.
    DiskFailed {
        /// Its number, from 0.
        disk: usize,
    },
}
