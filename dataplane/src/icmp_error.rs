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
    classify::{FlowKey, IpHeader, Part, header_checksum, is_martian},
    frame::{Frame, Umem},
    mapping::MacAddress,
    verdict::Notice,
};

/// Longest ICMPv4 error, octets of the IP packet (RFC 1812 §4.3.2.3).
const V4_MAX: usize = 576;
/// Longest ICMPv6 error, octets of the IP packet (RFC 4443 §2.4).
const V6_MAX: usize = 1280;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
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
                && enclose(umem, frame, link, speaker.mac, header.total.min(V4_MAX - 28), 28, |packet| {
                    write_v4(packet, from, to, notice);
                })
        }
        (IpAddr::V6(to), _, Some(from)) => {
            limiter.allows(header.source, now)
                && enclose(umem, frame, link, speaker.mac, header.total.min(V6_MAX - 48), 48, |packet| {
                    write_v6(packet, from, to, notice);
                })
        }
        _ => false,
    }
}

/// Whether the packet itself is one that no error may be about: an ICMP error, a redirect, or a later fragment.
fn forbidden(packet: &[u8], header: &IpHeader) -> bool {
    if header.part == Part::Later {
        return true;
    }
    let (protocol, at) = match header.source {
        IpAddr::V4(_) => (header.protocol, header.length),
        IpAddr::V6(_) => match transport_v6(packet, header.protocol) {
            Some(found) => found,
            None => return true,
        },
    };
    match (protocol, packet.get(at)) {
        // Without its type an ICMP message cannot be told from an error.
        (ICMP | ICMPV6, None) => true,
        (ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (ICMPV6, Some(kind)) => *kind < 128 || *kind == 137,
        _ => false,
    }
}

/// Steps over IPv6 extension headers to the transport header; `None` for a later fragment or a chain that ends early
/// or never (eight headers are more than any host sends).
fn transport_v6(packet: &[u8], mut protocol: u8) -> Option<(u8, usize)> {
    let mut at = 40;
    for _ in 0..8 {
        let length = match protocol {
            0 | 43 | 60 => usize::from(*packet.get(at + 1)?) * 8 + 8,
            44 if u16::from_be_bytes([*packet.get(at + 2)?, *packet.get(at + 3)?]) & 0xfff8 == 0 => 8,
            44 => return None,
            _ => return Some((protocol, at)),
        };
        protocol = *packet.get(at)?;
        at += length;
    }
    None
}

/// Cuts the packet to `quoted` octets, puts `added` octets in front of it, has them written, and turns the link layer
/// around. Nothing of the quoted packet moves: the link-layer header does, 14 to 22 octets.
fn enclose(
    umem: &mut Umem,
    frame: &mut Frame,
    link: usize,
    mac: MacAddress,
    quoted: usize,
    added: usize,
    write: impl FnOnce(&mut [u8]),
) -> bool {
    if !(umem.set_len(frame, link + quoted) && umem.grow(frame, added)) {
        return false;
    }
    let octets = umem.octets_mut(frame);
    octets.copy_within(added..added + link, 0);
    octets.copy_within(6..12, 0);
    octets[6..12].copy_from_slice(&mac);
    write(&mut octets[link..]);
    true
}

fn write_v4(packet: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, notice: Notice) {
    let (kind, code, word) = match notice {
        Notice::TimeExceeded => (11, 0, 0),
        Notice::TooBig { limit } => (3, 4, u32::from(limit)),
        Notice::Unreachable => (3, 1, 0),
        Notice::Prohibited => (3, 13, 0),
    };
    let total = packet.len() as u16;
    let (ip, icmp) = packet.split_at_mut(20);
    ip.fill(0);
    ip[0] = 0x45;
    ip[1] = 0xc0; // internetwork control, RFC 1812 §4.3.2.5
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[6] = 0x40; // DF: atomic, so the ID is free (RFC 6864 §4.1)
    ip[8] = TTL;
    ip[9] = ICMP;
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let checksum = header_checksum(ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    write_message(icmp, kind, code, word, 0);
}

fn write_v6(packet: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, notice: Notice) {
    let (kind, code, word) = match notice {
        Notice::TimeExceeded => (3, 0, 0),
        Notice::TooBig { limit } => (2, 0, u32::from(limit)),
        Notice::Unreachable => (1, 0, 0),
        Notice::Prohibited => (1, 1, 0),
    };
    let (ip, icmp) = packet.split_at_mut(40);
    ip.fill(0);
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(icmp.len() as u16).to_be_bytes());
    ip[6] = ICMPV6;
    ip[7] = TTL;
    ip[8..24].copy_from_slice(&from.octets());
    ip[24..40].copy_from_slice(&to.octets());
    let pseudo_header = sum(&ip[8..40]) + icmp.len() as u32 + u32::from(ICMPV6);
    write_message(icmp, kind, code, word, pseudo_header);
}

/// Writes the 8 octets in front of the quoted packet; `base` is what the checksum covers beside the message.
fn write_message(icmp: &mut [u8], kind: u8, code: u8, word: u32, base: u32) {
    icmp[0..4].copy_from_slice(&[kind, code, 0, 0]);
    icmp[4..8].copy_from_slice(&word.to_be_bytes());
    let mut sum = base + sum(icmp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    icmp[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn sum(octets: &[u8]) -> u32 {
    let (pairs, odd) = octets.as_chunks::<2>();
    let pairs: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    pairs + odd.first().map_or(0, |last| u32::from(*last) << 8)
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
