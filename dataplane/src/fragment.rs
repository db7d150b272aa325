//! Splitting a site packet that is too long with its outer header: the inner packet, in two (RFC 9300 §7.1).
//!
//! The host reassembles, not the ETR. Only IPv4 packets whose sender left DF clear come here.

#![forbid(unsafe_code)]

use crate::{
    classify::IpHeader,
    counters::Counters,
    frame::{Frame, Umem},
    wire::checksum,
};

/// More fragments.
const MF: u16 = 0x2000;
/// Fragment offset, in units of 8 octets.
const OFFSET: u16 = 0x1fff;

/// Splits the packet into `frame` and a second frame, about equally long. `None`, and the packet as it was, if its
/// parts could not be shorter, if an offset would pass the field's end, or if no frame is free.
pub fn split(umem: &mut Umem, frame: &mut Frame, counters: &Counters) -> Option<Frame> {
    let (link, header) = IpHeader::in_frame(umem.octets(frame)).ok()?;
    let payload = header.total - header.length;
    let first = (payload / 2).next_multiple_of(8);
    if first >= payload {
        return None;
    }
    let octets = umem.octets(frame);
    let field = u16::from_be_bytes([octets[link + 6], octets[link + 7]]);
    let offset = (field & OFFSET) + (first / 8) as u16;
    if offset > OFFSET {
        return None;
    }

    let mut second = umem.allocate()?;
    let start = link + header.length;
    if !umem.set_len(&mut second, start + payload - first) {
        umem.release(second);
        return None;
    }
    umem.copy(frame, 0..start, &mut second, 0);
    umem.copy(frame, start + first..link + header.total, &mut second, start);
    counters.copied_octets.add((payload - first) as u64);
    counters.split.add(1);

    let tail = &mut umem.octets_mut(&mut second)[link..];
    silence_options(&mut tail[20..header.length]);
    finish(tail, header.length, field & !OFFSET | offset);
    assert!(umem.set_len(frame, start + first), "a shorter packet fits");
    finish(&mut umem.octets_mut(frame)[link..], header.length, field | MF);
    Some(second)
}

/// Writes length, fragment field and checksum of a part.
fn finish(packet: &mut [u8], header: usize, fragment: u16) {
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[10..12].fill(0);
    let sealed = checksum::checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sealed.to_be_bytes());
}

/// Turns options that belong to the first fragment alone into no-operations (RFC 791 §3.1: the copied flag).
fn silence_options(options: &mut [u8]) {
    const NO_OPERATION: u8 = 1;
    let mut at = 0;
    while at < options.len() && options[at] != 0 {
        if options[at] == NO_OPERATION {
            at += 1;
            continue;
        }
        let Some(length) = options.get(at + 1).map(|length| usize::from(*length)) else { return };
        let end = at + length;
        if length < 2 || end > options.len() {
            return;
        }
        if options[at] & 0x80 == 0 {
            options[at..end].fill(NO_OPERATION);
        }
        at = end;
    }
}
