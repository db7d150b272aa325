//! ICMP errors to the hosts of the site, built in place around the packet that caused them.
//!
//! The new headers go into the headroom, so the quoted packet stays where it is; the frame leaves by the port it came
//! in by, link-layer addresses swapped, VLAN tags kept. No error is sent about ICMP errors, multicast, fragments but
//! the first, or to a source that is no single host (RFC 1812 §4.3.2.7, RFC 4443 §2.4); rates are bounded for each
//! worker and for each source, because RFC 7835 §2.2.9 makes every data-driven event a target.

#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::{
    classify::{FlowKey, IpHeader, Part, is_martian},
    frame::{Frame, Umem},
    mapping::MacAddress,
    verdict::Notice,
    wire::{
        icmp::{self, Icmp6Error, IcmpError},
        ipv4::{Ipv4Header, Options},
        ipv6::{self, Ipv6Header},
        protocol::{ICMP, ICMPV6},
    },
};

/// Headers in front of the quoted packet, octets.
const V4_ADDED: usize = Ipv4Header::LENGTH + icmp::LENGTH;
/// As [`V4_ADDED`], for IPv6.
const V6_ADDED: usize = Ipv6Header::LENGTH + icmp::LENGTH;
/// Internetwork control (RFC 1812 §4.3.2.5).
const TOS: u8 = 0xc0;
/// TTL and Hop Limit of what we originate (RFC 1700's default).
const TTL: u8 = 64;

/// Who speaks: a port's own addresses.
#[derive(Debug, Clone, Copy)]
pub struct Speaker {
    /// Link-layer address to send from.
    pub mac: MacAddress,
    /// Source of ICMP; without it none is sent.
    pub address4: Option<Ipv4Addr>,
    /// Source of ICMPv6; without it none is sent.
    pub address6: Option<Ipv6Addr>,
}

/// Turns the frame into an ICMP error to its source, if the rules allow one; otherwise leaves it alone and says false.
#[must_use]
pub fn answer(
    umem: &mut Umem,
    frame: &mut Frame,
    speaker: &Speaker,
    notice: Notice,
    limiter: &mut Limiter,
    now: Instant,
) -> bool {
    let octets = umem.octets(frame);
    let Ok((link, header)) = IpHeader::in_frame(octets) else { return false };
    let from_group = octets[0] & 1 != 0;
    if from_group || is_martian(header.source) || is_martian(header.destination) || forbidden(&octets[link..], &header)
    {
        return false;
    }
    match (header.source, speaker.address4, speaker.address6) {
        (IpAddr::V4(to), Some(from), _) => {
            limiter.allows(header.source, now)
                && enclose(umem, frame, link, &speaker.mac, header.total.min(icmp::PACKET_MAX - V4_ADDED), V4_ADDED)
                    .map(|packet| write_v4(packet, from, to, notice))
                    .is_some()
        }
        (IpAddr::V6(to), _, Some(from)) => {
            limiter.allows(header.source, now)
                && enclose(umem, frame, link, &speaker.mac, header.total.min(icmp::PACKET_MAX_V6 - V6_ADDED), V6_ADDED)
                    .map(|packet| write_v6(packet, from, to, notice))
                    .is_some()
        }
        _ => false,
    }
}

/// Whether the packet itself is one that no error may be about: an ICMP error, a redirect, or a later fragment.
fn forbidden(packet: &[u8], header: &IpHeader) -> bool {
    let payload = &packet[header.length..header.total];
    let (protocol, message) = match header.source {
        IpAddr::V4(_) if header.part == Part::Later => return true,
        IpAddr::V4(_) => (header.protocol, payload),
        IpAddr::V6(_) => {
            let Some(transport) = ipv6::transport(header.protocol, payload) else { return true };
            let (extensions, message) = payload.split_at(transport.offset);
            if transport.fragment && !extensions.last_chunk::<8>().is_some_and(is_first_fragment) {
                return true;
            }
            (transport.protocol, message)
        }
    };
    match (protocol, message.first()) {
        // Without its type an ICMP message cannot be told from an error.
        (ICMP | ICMPV6, None) => true,
        (ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (ICMPV6, Some(kind)) => *kind < 128 || *kind == 137,
        _ => false,
    }
}

/// Whether a Fragment header has offset 0 (RFC 8200 §4.5).
fn is_first_fragment(header: &[u8; 8]) -> bool {
    u16::from_be_bytes([header[2], header[3]]) & 0xfff8 == 0
}

/// Cuts the packet to `quoted` octets, makes room for `added` in front of it, turns the link layer around and gives
/// all behind that. Nothing of the quoted packet moves: the link-layer header does, 14 to 22 octets.
fn enclose<'a>(
    umem: &'a mut Umem,
    frame: &mut Frame,
    link: usize,
    mac: &MacAddress,
    quoted: usize,
    added: usize,
) -> Option<&'a mut [u8]> {
    if !(umem.set_len(frame, link + quoted) && umem.grow(frame, added)) {
        return None;
    }
    let octets = umem.octets_mut(frame);
    octets.copy_within(added..added + link, 0);
    octets.copy_within(6..12, 0);
    octets[6..12].copy_from_slice(mac);
    Some(&mut octets[link..])
}

fn write_v4(packet: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr, notice: Notice) {
    let header = Ipv4Header {
        tos: TOS,
        total_length: packet.len() as u16,
        identification: 0, // free, for with DF the packet is atomic (RFC 6864 §4.1)
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: TTL,
        protocol: ICMP,
        source,
        destination,
        options: Options::NONE,
    };
    header.write(packet);
    let error = match notice {
        Notice::TimeExceeded => IcmpError::TimeExceeded { code: 0 },
        Notice::TooBig { limit } => IcmpError::FragmentationNeeded { mtu: limit },
        Notice::Unreachable => IcmpError::Unreachable { code: 1 },
        Notice::Prohibited => IcmpError::Unreachable { code: 13 },
    };
    error.write(&mut packet[Ipv4Header::LENGTH..]);
}

fn write_v6(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr, notice: Notice) {
    let header = Ipv6Header {
        traffic_class: TOS,
        flow_label: 0,
        payload_length: (packet.len() - Ipv6Header::LENGTH) as u16,
        next_header: ICMPV6,
        hop_limit: TTL,
        source,
        destination,
    };
    header.write(packet);
    let error = match notice {
        Notice::TimeExceeded => Icmp6Error::TimeExceeded { code: 0 },
        // Less is said to nobody: a host must send that much, and would take it for an attack (RFC 8200 §5, RFC 8201 §4).
        Notice::TooBig { limit } => Icmp6Error::PacketTooBig { mtu: u32::from(limit).max(ipv6::MTU_MIN) },
        Notice::Unreachable => Icmp6Error::Unreachable { code: 0 },
        Notice::Prohibited => Icmp6Error::Unreachable { code: 1 },
    };
    error.write(source, destination, &mut packet[Ipv6Header::LENGTH..]);
}

/// Token buckets: one for the worker, and coarse ones for sources, which share them by hash.
#[derive(Debug)]
pub struct Limiter {
    worker: Bucket,
    sources: Box<[Bucket; SOURCES]>,
    key: FlowKey,
}

/// Buckets that the sources share.
const SOURCES: usize = 256;
/// Errors of one worker: 100 a second, 100 at once.
const WORKER: Rate = Rate { interval: Duration::from_millis(10), burst: 100 };
/// Errors to one source: 20 a second, 20 at once, so that one host cannot take them all.
const SOURCE: Rate = Rate { interval: Duration::from_millis(50), burst: 20 };

#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Time in which one token comes back.
    interval: Duration,
    /// Most tokens.
    burst: u32,
}

/// A token bucket as the one instant at which it is full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full: Option<Instant>,
}

impl Bucket {
    /// When the bucket will be full again if one token is taken now; `None` if none is left.
    fn after_one(self, rate: Rate, now: Instant) -> Option<Instant> {
        let full = self.full.map_or(now, |full| full.max(now)) + rate.interval;
        (full <= now + rate.interval * rate.burst).then_some(full)
    }
}

impl Limiter {
    /// Full buckets.
    #[must_use]
    pub fn new(key: FlowKey) -> Self {
        Self { worker: Bucket { full: None }, sources: Box::new([Bucket { full: None }; SOURCES]), key }
    }

    /// Takes a token for an error to `source`, if the worker and the source both have one.
    fn allows(&mut self, source: IpAddr, now: Instant) -> bool {
        let bucket = &mut self.sources[self.key.address(source) as usize % SOURCES];
        let (Some(worker), Some(own)) = (self.worker.after_one(WORKER, now), bucket.after_one(SOURCE, now)) else {
            return false;
        };
        self.worker.full = Some(worker);
        bucket.full = Some(own);
        true
    }
}
