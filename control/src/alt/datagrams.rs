//! ALT datagrams: what comes out of a tunnel is delivered, forwarded, answered or dropped.
//!
//! ```text
//! packet from a tunnel
//!   to the tunnel's own address ─────────────────────▶ ToTun (BGP, ICMP: the kernel's)
//!   not a Map-Request to port 4342, a loop, too many ─▶ Drop
//!   EID in our database ─────────────────────────────▶ Deliver
//!   EID of a site of our Map-Server ─────────────────▶ Site
//!   route through another tunnel ────────────────────▶ PassOn, TTL one less
//!   no way on any more, since a moment ago ──────────▶ Drop: another way may be coming
//!   hole in an aggregate of ours ────────────────────▶ NegativeReply, ACT 1, 15 min
//!   no way on ───────────────────────────────────────▶ NegativeReply, 1 min, or Icmp, or nothing
//! ```
//!
//! The EID routes are looked up in the instance that the Map-Request's record names; an EID-record that does not hold the IP
//! destination is refused, so both speak of the same EID at every hop. Data-Probes are not forwarded. A datagram that goes on
//! is not written anew: its TTL is lowered where it lies.
//!
//! Sources: RFC 6836 §3, §4.1, §4.2 (negative answers), §5.1, §5.3; RFC 2784 §3.1 (loops); RFC 9301 §8.3, §8.4 (TTLs, action).

mod fault;
mod packet;
mod refuse;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_dataplane::mapping::{Eid, EidPrefix};

pub use self::{
    fault::DatagramFault,
    settings::{Settings, Unreachable},
};
use self::{
    packet::{datagram, lower_ttl, map_request},
    refuse::{Dead, Refusals, went_lately},
};
use super::{
    rib::{Hop, Rib},
    tunnels::{Tunnel, TunnelId, Tunnels},
};
use crate::{
    prefix_map::PrefixMap,
    rate::{Bucket, Rate},
    rloc::{self, answer_address},
    wire::{
        MapReply, MapRequest,
        packet::{UdpPacket, destination},
    },
};

/// UDP port of control messages (RFC 9301 §12.1).
pub const CONTROL_PORT: u16 = 4342;
/// TTL of the ALT datagrams we originate.
const TTL: u8 = 64;

/// What must be done. Where it speaks of the packet given, its caller has it still.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send the first `length` octets of the packet given, whose TTL has been lowered in place, through the tunnel.
    PassOn {
        /// Which.
        tunnel: TunnelId,
        /// The IP packet's octets.
        length: usize,
    },
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
    /// The EID is of a site of our Map-Server: for it.
    Site {
        /// The EID.
        eid: Eid,
        /// The Map-Request.
        request: MapRequest,
        /// IP source and UDP port of the datagram.
        source: SocketAddr,
        /// Octets of the IP packet, at the front of the packet given; it is as it came.
        length: usize,
    },
    /// The first `length` octets of the packet given are for the kernel, through the tunnel's TUN interface.
    ToTun {
        /// Whose.
        tunnel: TunnelId,
        /// The IP packet's octets.
        length: usize,
    },
    /// Send this Map-Reply from port 4342, on the underlay.
    NegativeReply {
        /// One of the request's ITR-RLOCs, with the port the request came from.
        to: SocketAddr,
        /// One negative record.
        message: MapReply,
    },
    /// The datagram goes no further: count that, and send this IP packet with an ICMP error, on the underlay.
    Icmp {
        /// The RLOC the datagram came from.
        to: IpAddr,
        /// The whole IP packet.
        packet: Vec<u8>,
        /// Why.
        fault: DatagramFault,
    },
    /// Count this.
    Drop(DatagramFault),
}

/// A Map-Request that a Map-Resolver took out of its encapsulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask<'a> {
    /// The inner IP packet, whole.
    pub packet: &'a [u8],
    /// Its datagram, as it is to go on: the source is an RLOC of the ITR where there is one of the EID's family.
    pub datagram: UdpPacket<'a>,
    /// The EID asked for.
    pub eid: Eid,
}

/// One tunnel as the engine sees it.
#[derive(Debug)]
struct Ingress {
    remote: IpAddr,
    addresses: Vec<IpAddr>,
    rate: Rate,
    bucket: Bucket,
    up: bool,
}

/// Where a Map-Request goes from here.
enum Way {
    Ours,
    Site,
    Tunnel(TunnelId),
    Dead(Dead),
}

/// The machine.
#[derive(Debug)]
pub struct Engine {
    tunnels: Vec<Ingress>,
    rlocs: Vec<IpAddr>,
    own: BTreeSet<IpAddr>,
    database: PrefixMap<()>,
    sites: PrefixMap<()>,
    refusals: Refusals,
}

impl Engine {
    /// An engine for the packets of `tunnels`, all of them up.
    #[must_use]
    pub fn new(settings: Settings, tunnels: &Tunnels) -> Self {
        let ingress = |(_, tunnel): (TunnelId, &Tunnel)| Ingress {
            remote: tunnel.remote,
            addresses: tunnel.addresses.iter().map(|(address, _)| *address).collect(),
            rate: tunnel.options.ingress.unwrap_or(settings.ingress),
            bucket: Bucket::default(),
            up: true,
        };
        let tunnels: Vec<Ingress> = tunnels.iter().map(ingress).collect();
        let own = tunnels.iter().flat_map(|tunnel| &tunnel.addresses).chain(&settings.rlocs).copied().collect();
        Self {
            tunnels,
            own,
            refusals: Refusals::new(&settings),
            rlocs: settings.rlocs,
            database: settings.database.into_iter().map(|eid| (eid, ())).collect(),
            sites: settings.sites.into_iter().map(|eid| (eid, ())).collect(),
        }
    }

    /// Other EID-Prefixes are ours from now on.
    pub fn set_database(&mut self, database: &[EidPrefix]) {
        self.database = database.iter().map(|eid| (*eid, ())).collect();
    }

    /// Says whether a tunnel can carry packets: routes into one that is down lead nowhere.
    pub fn set_up(&mut self, tunnel: TunnelId, up: bool) {
        if let Some(ingress) = self.tunnels.get_mut(tunnel.0) {
            ingress.up = up;
        }
    }

    /// Takes in an IP packet that came out of a tunnel and appends what must be done to `todo`: always one thing.
    pub fn receive(&mut self, now: Instant, from: TunnelId, packet: &mut [u8], rib: &dyn Rib, todo: &mut Vec<Output>) {
        let output = self.judge(now, from, packet, rib).unwrap_or_else(Output::Drop);
        todo.push(output);
    }

    /// Takes in a Map-Request that a Map-Resolver let through, and appends what must be done to `todo`: always one thing.
    /// What no route leads to is in no site, for an ITR that asks here asks the whole mapping system (RFC 9301 §8.4).
    pub fn resolve(&mut self, now: Instant, ask: &Ask<'_>, request: MapRequest, rib: &dyn Rib, todo: &mut Vec<Output>) {
        let source = ask.datagram.source;
        let output = match self.way(None, ask.eid, rib) {
            Way::Ours => Ok(Output::Deliver { request, source }),
            Way::Site => Ok(Output::Site { eid: ask.eid, request, source, length: ask.packet.len() }),
            Way::Tunnel(tunnel) => self.send(&ask.datagram, ask.eid.address, tunnel),
            Way::Dead(dead) => {
                let dead = if dead == Dead::NoRoute { Dead::Nowhere } else { dead };
                self.refuse(now, &request, source, (ask.eid, dead), ask.packet, rib)
            }
        };
        todo.push(output.unwrap_or_else(Output::Drop));
    }

    /// Sends a Map-Request of ours for `target` into the ALT. Its IP source is `rloc`; an ITR without an RLOC of the
    /// target's family gives the EID that asks instead, and where `rloc` is of the other family all the same, the tunnel's
    /// own address stands in. True if it is on its way, or answered by a hole in an aggregate of ours; false if the ALT has no
    /// route for it, or lost it a moment ago.
    pub fn originate(
        &self,
        now: Instant,
        request: &MapRequest,
        rloc: IpAddr,
        target: Eid,
        rib: &dyn Rib,
        todo: &mut Vec<Output>,
    ) -> bool {
        match rib.lookup(target.instance, target.address) {
            None => false,
            Some(Hop::Discard) if went_lately(now, target, rib) => false,
            Some(Hop::Discard) => {
                let to = answer_address(request, (rloc, CONTROL_PORT).into(), self.refusals.families());
                todo.extend(to.map(|to| self.negative(request, target, Dead::Hole, to, rib)));
                to.is_some()
            }
            Some(Hop::Tunnel(tunnel)) => {
                let payload = &request.encode();
                let source = (rloc, CONTROL_PORT).into();
                let datagram = UdpPacket { source, destination: source, ttl: TTL, payload };
                let sent = self.send(&datagram, target.address, tunnel);
                let done = sent.is_ok();
                todo.push(sent.unwrap_or_else(Output::Drop));
                done
            }
        }
    }

    /// The datagram as it goes to `target` through the tunnel: from an RLOC where possible (RFC 6836 §5.1), else from the
    /// tunnel's own address; the answer goes to the ITR-RLOCs inside in any case.
    fn send(&self, datagram: &UdpPacket<'_>, target: IpAddr, tunnel: TunnelId) -> Result<Output, DatagramFault> {
        let ingress = self.tunnels.get(tunnel.0).ok_or(DatagramFault::NoSource)?;
        let rloc = datagram.source.ip();
        let mut candidates = std::iter::once(&rloc).chain(&ingress.addresses);
        let source = candidates.find(|address| address.is_ipv4() == target.is_ipv4()).ok_or(DatagramFault::NoSource)?;
        let source = SocketAddr::new(*source, datagram.source.port());
        let packet = UdpPacket { source, destination: (target, CONTROL_PORT).into(), ..*datagram };
        Ok(Output::Forward { tunnel, packet: packet.encode() })
    }

    fn judge(
        &mut self,
        now: Instant,
        from: TunnelId,
        packet: &mut [u8],
        rib: &dyn Rib,
    ) -> Result<Output, DatagramFault> {
        let (destination, length) = destination(packet).ok_or(DatagramFault::NotIp)?;
        let tunnel = self.tunnels.get_mut(from.0).ok_or(DatagramFault::UnknownTunnel)?;
        if tunnel.addresses.contains(&destination) {
            return Ok(Output::ToTun { tunnel: from, length });
        }
        if !tunnel.bucket.take(now, tunnel.rate) {
            return Err(DatagramFault::IngressLimited);
        }
        if destination == tunnel.remote {
            return Err(DatagramFault::LoopsBack);
        }
        if self.rlocs.contains(&destination) {
            return Err(DatagramFault::ToRloc);
        }
        let packet = &mut packet[..length];
        let datagram = self.datagram(packet)?;
        let (source, ttl) = (datagram.source, datagram.ttl);
        let request = map_request(datagram.payload)?;
        let record = request.records.iter().find(|record| record.eid.prefix.contains(destination));
        let instance = record.ok_or(DatagramFault::EidMismatch)?.eid.instance;
        let eid = Eid { instance, address: destination };
        match self.way(Some(from), eid, rib) {
            Way::Ours => Ok(Output::Deliver { request, source }),
            Way::Site => Ok(Output::Site { eid, request, source, length }),
            Way::Tunnel(_) if ttl <= 1 => self.expired(now, source.ip(), packet),
            Way::Tunnel(tunnel) => {
                lower_ttl(packet);
                Ok(Output::PassOn { tunnel, length })
            }
            Way::Dead(dead) => self.refuse(now, &request, source, (eid, dead), packet, rib),
        }
    }

    /// What is configured here wins over what neighbours tell, and of the two the longer prefix.
    fn way(&self, from: Option<TunnelId>, eid: Eid, rib: &dyn Rib) -> Way {
        let length = |map: &PrefixMap<()>| map.longest(eid).map(|(found, ())| found.prefix.length());
        match (length(&self.database), length(&self.sites)) {
            (own @ Some(_), site) if site <= own => return Way::Ours,
            (_, Some(_)) => return Way::Site,
            _ => {}
        }
        match rib.lookup(eid.instance, eid.address) {
            Some(Hop::Tunnel(next)) => {
                let usable = Some(next) != from && self.tunnels.get(next.0).is_some_and(|tunnel| tunnel.up);
                if usable { Way::Tunnel(next) } else { Way::Dead(Dead::Unusable) }
            }
            Some(Hop::Discard) => Way::Dead(Dead::Hole),
            None => Way::Dead(Dead::NoRoute),
        }
    }

    /// The UDP datagram of `packet`, if it may be one of the ALT's.
    fn datagram<'a>(&self, packet: &'a [u8]) -> Result<UdpPacket<'a>, DatagramFault> {
        let datagram = datagram(packet)?;
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
}
