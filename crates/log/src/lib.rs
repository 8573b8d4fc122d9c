//! The log of a recording: events, frames, segments, writer, reader, verification.
