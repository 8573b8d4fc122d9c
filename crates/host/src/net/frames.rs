//! Frames on a stream: each behind its length, 32 bits, the highest byte first,
//! as passt and QEMU have it.

use std::io::{self, IoSlice, Read};

/// Bytes of the length.
pub(super) const LENGTH_BYTES: usize = 4;
/// A frame with an Ethernet header and a VLAN tag around the longest packet. A
/// longer one means that the other end speaks another language, or none.
pub(super) const FRAME_BYTES_MAX: usize = 65_535 + 18;
/// So much is read at once.
const READ_BYTES: usize = 256 << 10;

/// Cuts what comes from a stream into frames.
#[derive(Debug)]
pub(super) struct Cutter {
    buffer: Box<[u8]>,
    /// What was read and not yet given away.
    start: usize,
    end: usize,
}

/// A frame longer than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Cutter {
    pub(super) fn new() -> Cutter {
        Cutter {
            buffer: vec![0; READ_BYTES].into(),
            start: 0,
            end: 0,
        }
    }

    /// Reads once from `stream`; returns how many bytes came. Give away all
    /// frames ([`Cutter::next`]) before.
    pub(super) fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = stream.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The next whole frame; `None` until more has come.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let waiting = &self.buffer[self.start..self.end];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(TooLong);
        }
        let frame = rest.get(..length);
        if frame.is_some() {
            self.start += LENGTH_BYTES + length;
        }
        Ok(frame)
    }
}

/// The end of a frame that a stream did not take whole. It must go out before
/// anything else does, or the other end loses its place.
#[derive(Debug, Default)]
pub(super) struct Rest(Vec<u8>);

impl Rest {
    /// Writes what is left, as far as `stream` takes it. Returns whether all of
    /// it went.
    pub(super) fn flush(&mut self, stream: &mut impl io::Write) -> io::Result<bool> {
        while !self.0.is_empty() {
            match stream.write(&self.0) {
                Ok(count) => drop(self.0.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes `frame` behind its length, and keeps what `stream` does not take.
    /// Returns whether it took anything. Only when nothing is left.
    pub(super) fn write(&mut self, stream: &mut impl io::Write, frame: &[u8]) -> io::Result<bool> {
        assert!(
            self.0.is_empty(),
            "a frame would come into the midst of another"
        );
        let length = u32::try_from(frame.len()).expect("frames are short");
        let length = length.to_be_bytes();
        let taken = match stream.write_vectored(&[IoSlice::new(&length), IoSlice::new(frame)]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        if taken < LENGTH_BYTES + frame.len() {
            self.0.extend([&length[..], frame].concat().drain(taken..));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes and gives a few bytes at a time.
    struct Pipe {
        bytes: Vec<u8>,
        at_once: usize,
    }

    impl Read for Pipe {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.at_once.min(into.len()).min(self.bytes.len());
            into[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes.drain(..count);
            Ok(count)
        }
    }

    impl io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.at_once.min(bytes.len());
            self.bytes.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
            [write, read] in [1usize..5000, 1usize..100_000],
        ) {
            let mut pipe = Pipe { bytes: Vec::new(), at_once: write };
            let mut rest = Rest::default();
            for frame in &frames {
                prop_assert!(rest.write(&mut pipe, frame).expect("it takes all"));
                prop_assert!(rest.flush(&mut pipe).expect("it takes all"));
            }
            pipe.at_once = read;
            let mut cutter = Cutter::new();
            let mut found = Vec::new();
            while cutter.fill(&mut pipe).expect("it gives all") > 0 {
                while let Some(frame) = cutter.next().expect("they are short") {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn any_bytes_end_somewhere(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut pipe = Pipe { bytes, at_once: usize::MAX };
            let mut cutter = Cutter::new();
            cutter.fill(&mut pipe).expect("it gives all");
            // Each turn takes at least the length.
            let frames = (0..=500).take_while(|_| matches!(cutter.next(), Ok(Some(_))));
            prop_assert!(frames.count() <= 500);
        }
    }

    #[test]
    fn a_frame_longer_than_any_is_told() {
        let length = u32::try_from(FRAME_BYTES_MAX + 1).expect("it is small");
        let mut pipe = Pipe {
            bytes: length.to_be_bytes().to_vec(),
            at_once: 9,
        };
        let mut cutter = Cutter::new();
        cutter.fill(&mut pipe).expect("it gives all");
        assert_eq!(cutter.next(), Err(TooLong));
    }
}
