//! The Internet checksum (RFC 1071), filled in and looked at.

/// The ones' complement sum of `bytes`, in 16 bits.
fn sum(bytes: &[u8]) -> u16 {
    let mut chunks = bytes.chunks_exact(4);
    // 2^32 words would be needed for this to overflow.
    let mut total: u64 = chunks
        .by_ref()
        .map(|chunk| u64::from(u32::from_le_bytes(chunk.try_into().expect("chunks of 4"))))
        .sum();
    let mut last = [0; 4];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_le_bytes(last));
    // Ones' complement sums come out alike in either order of bytes (RFC 1071,
    // 2 B): summed as they lie, turned at the end.
    u16::from_be(fold(total))
}

fn fold(mut total: u64) -> u16 {
    // 64 bits are 16 after at most four turns.
    while total > u64::from(u16::MAX) {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Fills in the checksum that the driver left to the card: of all from `start`
/// on, at `offset` from there, where the sum of the pseudo-header stands
/// (virtio 1.1, 5.1.6.2). `false` if that lies outside of the frame.
pub(super) fn fill_in(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let place = start + offset;
    if place + 2 > frame.len() {
        return false;
    }
    let value = match !sum(&frame[start..]) {
        // To UDP, 0 means that there is none; the other zero is as good.
        0 => 0xffff,
        value => value,
    };
    frame[place..place + 2].copy_from_slice(&value.to_be_bytes());
    true
}

/// Whether `frame` holds a whole TCP or UDP packet, over IPv4 or IPv6, whose
/// checksum is right. `false` says nothing.
pub(super) fn is_right(frame: &[u8]) -> bool {
    packet(frame).and_then(payload).is_some_and(|payload| {
        let [high, low] = (payload.bytes.len() as u16).to_be_bytes();
        let total = u64::from(sum(payload.addresses))
            + u64::from(u16::from_be_bytes([high, low]))
            + u64::from(payload.protocol)
            + u64::from(sum(payload.bytes));
        fold(total) == 0xffff
    })
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a checksum is of.
struct Payload<'a> {
    addresses: &'a [u8],
    protocol: u8,
    bytes: &'a [u8],
}

/// The kind (EtherType) of what is in `frame`, and that.
fn packet(frame: &[u8]) -> Option<(u16, &[u8])> {
    const VLAN: [u8; 2] = [0x81, 0x00];
    let kind_at = if frame.get(12..14)? == VLAN { 16 } else { 12 };
    let kind = frame.get(kind_at..kind_at + 2)?;
    Some((
        u16::from_be_bytes([kind[0], kind[1]]),
        frame.get(kind_at + 2..)?,
    ))
}

/// What an IP packet carries, if it is neither cut into fragments nor has
/// extension headers.
fn payload((kind, packet): (u16, &[u8])) -> Option<Payload<'_>> {
    let half = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let payload = match kind {
        0x0800 => {
            let header_bytes = 4 * usize::from(*packet.first()? & 0xf);
            let is_whole = half(6)? & 0x3fff == 0;
            let bytes = packet.get(header_bytes..usize::from(half(2)?))?;
            (header_bytes >= 20 && is_whole).then_some(Payload {
                addresses: packet.get(12..20)?,
                protocol: *packet.get(9)?,
                bytes,
            })?
        }
        0x86dd => Payload {
            addresses: packet.get(8..40)?,
            protocol: *packet.get(6)?,
            bytes: packet.get(40..40 + usize::from(half(4)?))?,
        },
        _ => return None,
    };
    let checksum_at = match payload.protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    // UDP may go without.
    let is_there = payload.bytes.get(checksum_at..checksum_at + 2)? != [0, 0];
    (is_there || payload.protocol == TCP).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet over IPv4 with `data`, whose checksum is the sum of its
    /// pseudo-header.
    fn unfinished(data: &[u8]) -> Vec<u8> {
        let length = 8 + data.len() as u16;
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
        frame.extend([0x12, 0x34, 0x00, 0x35]);
        frame.extend(length.to_be_bytes());
        let pseudo =
            fold(u64::from(sum(&[10, 0, 2, 15, 10, 0, 2, 2])) + u64::from(length) + u64::from(UDP));
        frame.extend(pseudo.to_be_bytes());
        frame.extend(data);
        frame
    }

    #[test]
    fn the_rfc_s_example_sums_as_there() {
        assert_eq!(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[1]), 0x0100);
    }

    #[test]
    fn what_is_filled_in_is_right_and_a_changed_bit_is_found() {
        for data in [&b"hello"[..], b"", b"even", &[0xff; 1400]] {
            let mut frame = unfinished(data);
            assert!(!is_right(&frame));
            assert!(fill_in(&mut frame, 34, 6));
            assert!(is_right(&frame), "{data:?}");
            for at in 26..frame.len() {
                let mut other = frame.clone();
                other[at] ^= 1;
                // A length that is cut short counts as no packet; the rest differs.
                assert!(!is_right(&other), "{at}");
            }
        }
    }

    #[test]
    fn a_checksum_outside_of_the_frame_is_refused() {
        let mut frame = vec![0; 60];
        for (start, offset) in [(60, 0), (0, 59), (0xffff, 0xffff), (58, 1)] {
            assert!(!fill_in(&mut frame, start, offset));
        }
        assert!(fill_in(&mut frame, 58, 0));
    }

    #[test]
    fn fragments_other_protocols_and_stumps_are_left_to_the_guest() {
        let mut frame = unfinished(b"data");
        assert!(fill_in(&mut frame, 34, 6));
        let changed = |at: usize, value: u8| {
            let mut other = frame.clone();
            other[at] = value;
            other
        };
        assert!(!is_right(&changed(20, 0x20)), "more fragments");
        assert!(!is_right(&changed(23, 1)), "ICMP");
        assert!(!is_right(&changed(14, 0x4f)), "options beyond the end");
        for length in 0..frame.len() {
            assert!(!is_right(&frame[..length]));
        }
    }
}
