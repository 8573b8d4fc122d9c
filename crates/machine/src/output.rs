//! The door outwards.

use seal::{Digest, Digester};

use crate::{Output, OutputPort};

/// What went out: what the caller has not fetched yet, and a digest of all.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    waiting: Vec<Output>,
    digester: Undebugged<Digester>,
    bytes: u64,
}

#[derive(Default)]
struct Undebugged<T>(T);

impl<T> std::fmt::Debug for Undebugged<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl OutputPort {
    /// What stands for the port in the digest.
    fn tag(self) -> u8 {
        match self {
            OutputPort::Console => 0,
            OutputPort::Debug => 1,
        }
    }
}

impl Outputs {
    /// `byte` goes out at `port`.
    pub(crate) fn push(&mut self, port: OutputPort, byte: u8) {
        self.bytes += 1;
        self.digester.0.feed(&[port.tag(), byte]);
        match self.waiting.last_mut() {
            Some(last) if last.port == port => last.bytes.push(byte),
            _ => self.waiting.push(Output {
                port,
                bytes: vec![byte],
            }),
        }
    }

    /// What went out since the last call.
    pub(crate) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.waiting)
    }

    /// A digest of all that went out.
    pub(crate) fn digest(&self) -> Digest {
        self.digester.0.digest()
    }

    /// How many bytes went out.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
