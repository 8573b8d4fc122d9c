//! Events to bytes and back, by `docs/log-format.md`.
//!
//! Encoder and decoder share one [`Before`]: what the events so far leave for
//! the next one to be told against. It starts empty with every segment.

use moment::Moment;
use seal::Digest;

use crate::wire::{Cursor, Malformed, put_varint, unzigzag, zigzag};
use crate::{Body, Door, EndReason, Event, INPUT_BYTES_MAX, Kind, REGISTERS_BYTES_MAX};
use crate::{difference, frame};

/// No event takes more bytes than this: head, moment, check, digests and the
/// longest payload.
pub const EVENT_BYTES_MAX: usize = 256 + INPUT_BYTES_MAX;

// The difference of registers never takes twice their length, and a frame
// holds any event.
const _: () = assert!(2 * REGISTERS_BYTES_MAX <= INPUT_BYTES_MAX);
const _: () = assert!(EVENT_BYTES_MAX <= frame::FRAME_BODY_MAX);

const HEAD_KIND: u8 = 0x1f;
const HEAD_VCPU: u8 = 0x20;
const HEAD_RCX: u8 = 0x40;
const HEAD_ZERO: u8 = 0x80;

/// What the next event is told against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Before {
    branches: u64,
    pc: u64,
    clock_ns: u64,
    /// Memory, devices, output, in the order of the bits of an epoch.
    digests: [Digest; 3],
    output_bytes: u64,
    registers: Vec<u8>,
}

/// Writes the events of one segment.
#[derive(Clone, Debug, Default)]
pub struct Encoder(Before);

impl Encoder {
    /// At the start of a segment.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// After an event at `moment`, for an event that needs to know no more.
    pub(crate) fn after(moment: Moment) -> Encoder {
        Encoder(Before {
            branches: moment.branches,
            pc: moment.pc,
            ..Before::default()
        })
    }

    /// Appends `event`.
    ///
    /// # Panics
    ///
    /// If the branch count, the clock or the output's length decrease, or a
    /// payload is longer than its bound: whoever pushed that has a bug, and no
    /// reader would accept it.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        let before = &mut self.0;
        let Moment { branches, pc, rcx } = event.moment;
        let (variable, max) = event.body.variable();
        assert!(
            variable.len() <= max,
            "{} bytes of payload at {}",
            variable.len(),
            event.moment
        );

        let mut head = event.body.kind().number();
        head |= if event.vcpu != 0 { HEAD_VCPU } else { 0 };
        head |= if rcx != 0 { HEAD_RCX } else { 0 };
        out.push(head);
        put_varint(out, increase(&mut before.branches, branches, event.moment));
        put_varint(out, zigzag(pc.wrapping_sub(before.pc)));
        before.pc = pc;
        if event.vcpu != 0 {
            out.push(event.vcpu);
        }
        if rcx != 0 {
            put_varint(out, rcx);
        }
        out.extend_from_slice(&event.check.to_le_bytes());

        match &event.body {
            Body::Clock { ns } => {
                put_varint(out, increase(&mut before.clock_ns, *ns, event.moment));
            }
            Body::Input { door, bytes } => {
                assert!(
                    bytes.is_empty() || door.carries_bytes(),
                    "bytes through {door} at {}",
                    event.moment
                );
                put_varint(out, door.number().into());
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Body::Epoch {
                registers,
                memory,
                devices,
                output,
                output_bytes,
            } => {
                before.put_digests(out, [*memory, *devices, *output]);
                let more = increase(&mut before.output_bytes, *output_bytes, event.moment);
                put_varint(out, more);
                before.put_registers(out, registers);
            }
            Body::Registers { bytes } => before.put_registers(out, bytes),
            Body::End { reason } => put_varint(out, reason.number().into()),
        }
    }
}

/// How much `now` is above `before`, which becomes `now`.
fn increase(before: &mut u64, now: u64, moment: Moment) -> u64 {
    let was = std::mem::replace(before, now);
    now.checked_sub(was)
        .unwrap_or_else(|| panic!("backwards from {was} to {now} at {moment}"))
}

impl Before {
    fn put_digests(&mut self, out: &mut Vec<u8>, now: [Digest; 3]) {
        let place = out.len();
        out.push(0);
        for (bit, (before, now)) in self.digests.iter_mut().zip(now).enumerate() {
            if *before != now {
                out[place] |= 1 << bit;
                out.extend_from_slice(&now.0);
                *before = now;
            }
        }
    }

    fn put_registers(&mut self, out: &mut Vec<u8>, now: &[u8]) {
        difference::put(out, &self.registers, now);
        self.registers.clear();
        self.registers.extend_from_slice(now);
    }

    fn take_digests(&mut self, cursor: &mut Cursor<'_>) -> Result<[Digest; 3], Malformed> {
        let present = cursor.byte()?;
        if present & !0b111 != 0 {
            return Err(Malformed::Flag(present));
        }
        for (bit, before) in self.digests.iter_mut().enumerate() {
            if present & 1 << bit != 0 {
                let now = cursor.digest()?;
                if std::mem::replace(before, now) == now {
                    return Err(Malformed::Repeated);
                }
            }
        }
        Ok(self.digests)
    }

    fn take_registers(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Malformed> {
        self.registers = difference::take(cursor, &self.registers)?;
        Ok(self.registers.clone())
    }
}

/// Reads the events of one segment.
#[derive(Clone, Debug, Default)]
pub struct Decoder(Before);

impl Decoder {
    /// At the start of a segment.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// The next event. After an error there is no way to go on.
    pub fn decode(&mut self, cursor: &mut Cursor<'_>) -> Result<Event, Malformed> {
        let before = &mut self.0;
        let head = cursor.byte()?;
        if head & HEAD_ZERO != 0 {
            return Err(Malformed::Flag(head));
        }
        let number = head & HEAD_KIND;
        let kind = Kind::from_number(number.into()).ok_or(Malformed::Kind(number))?;
        let branches = raise(&mut before.branches, cursor)?;
        let pc = before.pc.wrapping_add(unzigzag(cursor.varint()?));
        before.pc = pc;
        let vcpu = match head & HEAD_VCPU {
            0 => 0,
            _ => cursor.byte().and_then(not_zero)?,
        };
        let rcx = match head & HEAD_RCX {
            0 => 0,
            _ => cursor.varint().and_then(not_zero)?,
        };
        let check = u32::from_le_bytes(cursor.array()?);
        let body = match kind {
            Kind::Clock => Body::Clock {
                ns: raise(&mut before.clock_ns, cursor)?,
            },
            Kind::Input => take_input(cursor)?,
            Kind::Epoch => {
                let [memory, devices, output] = before.take_digests(cursor)?;
                Body::Epoch {
                    memory,
                    devices,
                    output,
                    output_bytes: raise(&mut before.output_bytes, cursor)?,
                    registers: before.take_registers(cursor)?,
                }
            }
            Kind::Registers => Body::Registers {
                bytes: before.take_registers(cursor)?,
            },
            Kind::End => take_end(cursor)?,
        };
        Ok(Event {
            moment: Moment { branches, pc, rcx },
            vcpu,
            check,
            body,
        })
    }
}

/// Adds the varint at the cursor to `value`.
fn raise(value: &mut u64, cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    *value = value
        .checked_add(cursor.varint()?)
        .ok_or(Malformed::Overflow)?;
    Ok(*value)
}

fn not_zero<T: Default + PartialEq>(value: T) -> Result<T, Malformed> {
    if value == T::default() {
        return Err(Malformed::Zero);
    }
    Ok(value)
}

fn take_input(cursor: &mut Cursor<'_>) -> Result<Body, Malformed> {
    let number = cursor.varint()?;
    let door = Door::from_number(number).ok_or(Malformed::Door(number))?;
    let len = cursor.length(INPUT_BYTES_MAX)?;
    if len > 0 && !door.carries_bytes() {
        return Err(Malformed::Bytes(len as u64));
    }
    let bytes = cursor.take(len)?.to_vec();
    Ok(Body::Input { door, bytes })
}

fn take_end(cursor: &mut Cursor<'_>) -> Result<Body, Malformed> {
    let number = cursor.varint()?;
    let reason = EndReason::from_number(number).ok_or(Malformed::Reason(number))?;
    Ok(Body::End { reason })
}
