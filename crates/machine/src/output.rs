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

/// What stands for each way out in the digest.
mod tag {
    pub(super) const CONSOLE: u8 = 0;
    pub(super) const DEBUG: u8 = 1;
    pub(super) const SERIAL2: u8 = 2;
    pub(super) const NETWORK: u8 = 16;
}

impl Outputs {
    /// `byte` goes out at the serial console.
    pub(crate) fn print(&mut self, byte: u8) {
        self.put(OutputPort::Console, tag::CONSOLE, byte);
    }

    /// `byte` goes out at the second serial port.
    pub(crate) fn print2(&mut self, byte: u8) {
        self.put(OutputPort::Serial2, tag::SERIAL2, byte);
    }

    /// `byte` goes out at the debug port.
    pub(crate) fn debug(&mut self, byte: u8) {
        self.put(OutputPort::Debug, tag::DEBUG, byte);
    }

    /// `frame` goes out at network card `nic`.
    pub(crate) fn send(&mut self, nic: usize, frame: Vec<u8>) {
        let bytes = frame.len() as u64;
        self.bytes += bytes;
        self.digester.0.feed(&[tag::NETWORK, nic as u8]);
        self.digester.0.feed(&bytes.to_le_bytes());
        self.digester.0.feed(&frame);
        self.waiting.push(Output {
            port: OutputPort::Network(nic),
            bytes: frame,
        });
    }

    fn put(&mut self, port: OutputPort, tag: u8, byte: u8) {
        self.bytes += 1;
        self.digester.0.feed(&[tag, byte]);
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
