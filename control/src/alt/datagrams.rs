//! ALT datagrams: what comes out of a tunnel is delivered, forwarded, answered or dropped.
//!
//! ```text
//! packet from a tunnel
//!   to the tunnel's own address ─────────────────────▶ ToTun (BGP, ICMP: the kernel's)
//!   not a Map-Request to port 4342, a loop, too many ─▶ Drop
//!   EID in our database ─────────────────────────────▶ Deliver
//!   route through another tunnel ────────────────────▶ Forward, TTL one less
//!   hole in an aggregate of ours ────────────────────▶ NegativeReply, ACT 1, 15 min
//!   no way on ───────────────────────────────────────▶ NegativeReply, 1 min, or nothing
//! ```
//!
//! The EID routes are looked up in the instance that the Map-Request's record names; an EID-record that does not hold the IP
//! destination is refused, so both speak of the same EID at every hop. Data-Probes are not forwarded.
//!
//! Sources: RFC 6836 §3, §4.1, §4.2 (negative answers), §5.1, §5.3; RFC 2784 §3.1 (loops); RFC 9301 §8.3 (TTLs, action).

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::{
    mapping::{Action, Eid, EidPrefix, InstanceId, Mapping, Ttl},
    wire::{WireError as Malformed, ipv4::Ipv4Header, ipv6::Ipv6Header},
};

use super::{
    rib::{Hop, Rib},
    tunnels::{TunnelId, Tunnels},
};
use crate::{
    fault::faults,
    prefix_map::PrefixMap,
    rate::{Bucket, Buckets, Limited, Rate},
    rloc::{self, Families, answer_address},
    wire::{MapReply, MapRequest, Message, WireError, packet::UdpPacket},
};

/// UDP port of control messages (RFC 9301 §12.1).
pub const CONTROL_PORT: u16 = 4342;
/// TTL of the ALT datagrams we originate.
const TTL: u8 = 64;
/// Negative TTL of a hole, minutes (RFC 9301 §8.3).
const HOLE_MINUTES: u32 = 15;
/// Negative TTL of what cannot be reached now, minutes (RFC 9301 §8.3).
const UNREACHABLE_MINUTES: u32 = 1;

/// What an ITR is told about an EID that no route leads on to. RFC 6836 §4.2 and RFC 9301 §8.3 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreachable {
    /// Natively-Forward for a minute (RFC 9301 §8.3).
    #[default]
    NativelyForward,
    /// Drop for a minute (RFC 6836 §4.2).
    Drop,
    /// Nothing (RFC 6836 §5.3 leaves it open).
    Silent,
}

/// What the engine is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs.
    pub rlocs: Vec<IpAddr>,
    /// Our own EID-Prefixes: what asks for them is delivered.
    pub database: Vec<EidPrefix>,
    /// ALT datagrams out of one tunnel (RFC 6836 §4.1).
    pub ingress: Rate,
    /// What to say about EIDs without a way on.
    pub unreachable: Unreachable,
    /// Negative Map-Replies to one ITR-RLOC about one EID.
    pub each: Rate,
    /// Negative Map-Replies altogether.
    pub all: Rate,
    /// Most pairs of ITR-RLOC and EID whose rate is watched at a time.
    pub watched_max: usize,
}

impl Settings {
    /// The defaults: 20 000 datagrams a second out of each tunnel; negative answers as the responder limits its own.
    #[must_use]
    pub const fn new(rlocs: Vec<IpAddr>, database: Vec<EidPrefix>) -> Self {
        Self {
            rlocs,
            database,
            ingress: Rate { burst: 20_000, every: Duration::from_micros(50) },
            unreachable: Unreachable::NativelyForward,
            each: Rate { burst: 3, every: Duration::from_secs(3) },
            all: Rate { burst: 1000, every: Duration::from_millis(1) },
            watched_max: 16_384,
        }
    }
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this IP packet through the tunnel.
    Forward {
        /// Which.
        tunnel: TunnelId,
        /// The ALT datagram.
        packet: Vec<u8>,
    },
    /// The EID is ours: for the responder.
    Deliver {
        /// The Map-Request.
        request: MapRequest,
        /// IP source and UDP port of the ALT datagram.
        source: SocketAddr,
    },
    /// For the kernel, through the tunnel's TUN interface.
    ToTun {
        /// Whose.
        tunnel: TunnelId,
        /// The IP packet.
        packet: Vec<u8>,
    },
    /// Send this Map-Reply from port 4342, on the underlay.
    NegativeReply {
        /// One of the request's ITR-RLOCs, with the port the request came from.
        to: SocketAddr,
        /// One negative record.
        message: MapReply,
    },
    /// Count this.
    Drop(DatagramFault),
}

faults! {
    /// Why a packet out of a tunnel was dropped, or a Map-Request not sent.
    DatagramFault {
        /// Not an IP packet, or cut off.
        NotIp = "alt-not-ip",
        /// A tunnel that is not configured.
        UnknownTunnel = "alt-unknown-tunnel",
        /// Addressed to the far end of the tunnel it came from (RFC 2784 §3.1).
        LoopsBack = "alt-loops-back",
        /// Addressed to an RLOC of ours: the ALT carries EIDs.
        ToRloc = "alt-to-rloc",
        /// More out of this tunnel than allowed.
        IngressLimited = "alt-ingress-limited",
        /// Not UDP, a fragment, or lengths that contradict each other.
        NotADatagram = "alt-not-a-datagram",
        /// A wrong IPv4 header or UDP checksum.
        Checksum = "alt-bad-checksum",
        /// UDP, but not to port 4342.
        NotControl = "alt-not-control",
        /// A source that no router may have.
        Martian = "alt-martian-source",
        /// One of our own addresses as source: it went round in a circle.
        OwnSource = "alt-own-source",
        /// A control message that cannot be read.
        Malformed = "alt-malformed-message",
        /// A control message other than a Map-Request.
        NotMapRequest = "alt-not-map-request",
        /// An RLOC-probe, which must not use the mapping system.
        Probe = "alt-probe",
        /// No record holds the EID that the datagram is addressed to.
        EidMismatch = "alt-eid-mismatch",
        /// TTL or Hop Limit used up.
        TtlExpired = "alt-ttl-expired",
        /// No way on, and silence is configured or the request wants no answer.
        Unreachable = "alt-unreachable",
        /// No way on, and no ITR-RLOC that a negative answer could reach.
        NoItrRloc = "alt-no-itr-rloc",
        /// A negative answer too many.
        ReplyLimited = "alt-reply-limited",
        /// As many pairs of ITR-RLOC and EID as can be watched.
        WatchedFull = "alt-reply-table-full",
        /// Neither an RLOC nor a tunnel address of the EID's family to send a Map-Request from.
        NoSource = "alt-no-source-address",
    }
}

/// One tunnel as the engine sees it.
#[derive(Debug)]
struct Ingress {
    remote: IpAddr,
    addresses: Vec<IpAddr>,
    bucket: Bucket,
}

/// The machine.
#[derive(Debug)]
pub struct Engine {
    tunnels: Vec<Ingress>,
    rlocs: Vec<IpAddr>,
    own: BTreeSet<IpAddr>,
    families: Families,
    database: PrefixMap<()>,
    ingress: Rate,
    unreachable: Unreachable,
    each: Buckets<(IpAddr, EidPrefix)>,
    all: Bucket,
    all_rate: Rate,
}

/// Why there is no way on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dead {
    /// In an aggregate of ours, but in no site.
    Hole,
    /// The route leads back where the request came from, or into a tunnel that is not there.
    Unusable,
    /// No route at all.
    NoRoute,
}

impl Engine {
    /// An engine for the packets of `tunnels`.
    #[must_use]
    pub fn new(settings: Settings, tunnels: &Tunnels) -> Self {
        let ingress = |(_, tunnel): (TunnelId, &super::tunnels::Tunnel)| Ingress {
            remote: tunnel.remote,
            addresses: tunnel.addresses.iter().map(|(address, _)| *address).collect(),
            bucket: Bucket::default(),
        };
        let tunnels: Vec<Ingress> = tunnels.iter().map(ingress).collect();
        let own = tunnels.iter().flat_map(|tunnel| &tunnel.addresses).chain(&settings.rlocs).copied().collect();
        Self {
            tunnels,
            own,
            families: Families::of(&settings.rlocs),
            rlocs: settings.rlocs,
            database: settings.database.into_iter().map(|eid| (eid, ())).collect(),
            ingress: settings.ingress,
            unreachable: settings.unreachable,
            each: Buckets::new(settings.each, settings.watched_max),
            all: Bucket::default(),
            all_rate: settings.all,
        }
    }

    /// Takes in an IP packet that came out of a tunnel and appends what must be done to `todo`: always one thing.
    pub fn receive(&mut self, now: Instant, from: TunnelId, packet: &[u8], rib: &dyn Rib, todo: &mut Vec<Output>) {
        let output = self.judge(now, from, packet, rib).unwrap_or_else(Output::Drop);
        todo.push(output);
    }

    /// Sends a Map-Request of ours for `target` into the ALT. Its IP source is `rloc`; an ITR without an RLOC of the
    /// target's family gives the EID that asks instead, and where `rloc` is of the other family all the same, the tunnel's
    /// own address stands in. True if it is on its way, or answered by a hole in an aggregate of ours; false if the ALT has no
    /// route for it.
    pub fn originate(
        &self,
        request: &MapRequest,
        rloc: IpAddr,
        target: IpAddr,
        instance: InstanceId,
        rib: &dyn Rib,
        todo: &mut Vec<Output>,
    ) -> bool {
        match rib.lookup(instance, target) {
            None => false,
            Some(Hop::Discard) => {
                let eid = Eid { instance, address: target };
                let to = answer_address(request, (rloc, CONTROL_PORT).into(), self.families);
                todo.extend(to.map(|to| self.negative(request, eid, Dead::Hole, to, rib)));
                to.is_some()
            }
            Some(Hop::Tunnel(tunnel)) => {
                let source = self.source(rloc, target, tunnel);
                let Some(source) = source else {
                    todo.push(Output::Drop(DatagramFault::NoSource));
                    return false;
                };
                let packet = UdpPacket {
                    source: (source, CONTROL_PORT).into(),
                    destination: (target, CONTROL_PORT).into(),
                    ttl: TTL,
                    payload: &request.encode(),
                };
                todo.push(Output::Forward { tunnel, packet: packet.encode() });
                true
            }
        }
    }

    /// An RLOC where possible (RFC 6836 §5.1); the answer goes to the ITR-RLOCs inside in any case.
    fn source(&self, rloc: IpAddr, target: IpAddr, tunnel: TunnelId) -> Option<IpAddr> {
        let addresses = self.tunnels.get(tunnel.0)?.addresses.iter();
        let mut candidates = std::iter::once(&rloc).chain(addresses);
        candidates.find(|address| address.is_ipv4() == target.is_ipv4()).copied()
    }

    fn judge(&mut self, now: Instant, from: TunnelId, packet: &[u8], rib: &dyn Rib) -> Result<Output, DatagramFault> {
        let destination = destination(packet).ok_or(DatagramFault::NotIp)?;
        let tunnel = self.tunnels.get_mut(from.0).ok_or(DatagramFault::UnknownTunnel)?;
        if tunnel.addresses.contains(&destination) {
            return Ok(Output::ToTun { tunnel: from, packet: packet.to_vec() });
        }
        if !tunnel.bucket.take(now, self.ingress) {
            return Err(DatagramFault::IngressLimited);
        }
        if destination == tunnel.remote {
            return Err(DatagramFault::LoopsBack);
        }
        if self.rlocs.contains(&destination) {
            return Err(DatagramFault::ToRloc);
        }
        let datagram = self.datagram(packet)?;
        let request = map_request(datagram.payload)?;
        let record = request.records.iter().find(|record| record.eid.prefix.contains(destination));
        let instance = record.ok_or(DatagramFault::EidMismatch)?.eid.instance;
        let eid = Eid { instance, address: destination };
        if self.database.longest(eid).is_some() {
            return Ok(Output::Deliver { request, source: datagram.source });
        }
        let dead = match rib.lookup(instance, destination) {
            Some(Hop::Tunnel(next)) if next != from && next.0 < self.tunnels.len() => {
                return forward(&datagram, next);
            }
            Some(Hop::Tunnel(_)) => Dead::Unusable,
            Some(Hop::Discard) => Dead::Hole,
            None => Dead::NoRoute,
        };
        self.refuse(now, &request, datagram.source, eid, dead, rib)
    }

    /// The UDP datagram of `packet`, if it may be one of the ALT's.
    fn datagram<'a>(&self, packet: &'a [u8]) -> Result<UdpPacket<'a>, DatagramFault> {
        let datagram = UdpPacket::parse(packet).map_err(|error| match error {
            WireError::Malformed(Malformed::Checksum(_)) => DatagramFault::Checksum,
            _ => DatagramFault::NotADatagram,
        })?;
        if datagram.destination.port() != CONTROL_PORT {
            return Err(DatagramFault::NotControl);
        }
        if !rloc::routable(datagram.source.ip()) {
            return Err(DatagramFault::Martian);
        }
        if self.own.contains(&datagram.source.ip()) {
            return Err(DatagramFault::OwnSource);
        }
        Ok(datagram)
    }

    /// A negative answer within the limits, if one is wanted.
    fn refuse(
        &mut self,
        now: Instant,
        request: &MapRequest,
        source: SocketAddr,
        eid: Eid,
        dead: Dead,
        rib: &dyn Rib,
    ) -> Result<Output, DatagramFault> {
        let silent = dead != Dead::Hole && self.unreachable == Unreachable::Silent;
        if silent || request.dont_reply || request.smr {
            return Err(DatagramFault::Unreachable);
        }
        let to = answer_address(request, source, self.families).ok_or(DatagramFault::NoItrRloc)?;
        let name = |limited| match limited {
            Limited::Spent => DatagramFault::ReplyLimited,
            Limited::TableFull => DatagramFault::WatchedFull,
        };
        let key = (to.ip(), EidPrefix::host(eid));
        self.each.ready(now, &key).map_err(name)?;
        if !self.all.take(now, self.all_rate) {
            return Err(DatagramFault::ReplyLimited);
        }
        self.each.take(now, key).map_err(name)?;
        Ok(self.negative(request, eid, dead, to, rib))
    }

    /// Speaks of no more than is known to be so: in an aggregate or a route, of what no other route and no site of ours reaches
    /// into; without a route, of the EID alone.
    fn negative(&self, request: &MapRequest, eid: Eid, dead: Dead, to: SocketAddr, rib: &dyn Rib) -> Output {
        let (minutes, action) = match (dead, self.unreachable) {
            (Dead::Hole, _) => (HOLE_MINUTES, Action::NativelyForward),
            (_, Unreachable::Drop) => (UNREACHABLE_MINUTES, Action::Drop),
            _ => (UNREACHABLE_MINUTES, Action::NativelyForward),
        };
        let ours = self.database.gap(eid);
        let routes = EidPrefix { prefix: rib.gap(eid.instance, eid.address), ..ours };
        let narrower = if ours.prefix.length() > routes.prefix.length() { ours } else { routes };
        let about = if dead == Dead::NoRoute { EidPrefix::host(eid) } else { narrower };
        let record = Mapping::negative(about, Ttl::Minutes(minutes), action);
        let message =
            MapReply { nonce: request.nonce, probe: false, echo_nonce: false, records: vec![record], security: None };
        Output::NegativeReply { to, message }
    }
}

/// Where an IP packet goes.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Ipv4Header::split(packet).ok().map(|(header, _)| header.destination.into()),
        6 => Ipv6Header::split(packet).ok().map(|(header, _)| header.destination.into()),
        _ => None,
    }
}

/// The Map-Request in a datagram, if it is one for the mapping system.
fn map_request(payload: &[u8]) -> Result<MapRequest, DatagramFault> {
    match Message::parse(payload).map_err(|_| DatagramFault::Malformed)? {
        Message::MapRequest(request) if request.probe => Err(DatagramFault::Probe),
        Message::MapRequest(request) => Ok(request),
        _ => Err(DatagramFault::NotMapRequest),
    }
}

/// The datagram as it leaves through `tunnel`: the message untouched, one hop less to live.
fn forward(datagram: &UdpPacket<'_>, tunnel: TunnelId) -> Result<Output, DatagramFault> {
    if datagram.ttl <= 1 {
        return Err(DatagramFault::TtlExpired);
    }
    let packet = UdpPacket { ttl: datagram.ttl - 1, ..*datagram };
    Ok(Output::Forward { tunnel, packet: packet.encode() })
}
