//! The Map-Resolver: takes Map-Requests out of their encapsulation and hands them on to the ALT.
//!
//! ```text
//! ECM ─ opens? ─ a Map-Request for the mapping system? ─ client permitted? ─ within the rates? ─▶ Resolve (ALT)
//!                                                                      a mapping of our own ─▶ Reply
//! ```
//!
//! It keeps no answers: the Map-Reply goes from the ETR to the ITR, and every request goes on (RFC 9301 §4). What goes on is the
//! Map-Request as it is, from an RLOC of the ITR, with the UDP port that the answer shall go to. This is the only place
//! where an ITR-RLOC that is not the asker's can be seen, so it is looked at (RFC 7835 §3.7).
//!
//! Sources: RFC 9301 §5.2 (no probes), §5.8, §8.4; RFC 6836 §3, §4.1 (rates), §8.2 (no Data-Probes).

#![forbid(unsafe_code)]

mod choice;
mod opened;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Mapping, Prefix};

pub use self::{
    choice::Choice,
    opened::{EcmFault, Opened, enclose, open},
};
use crate::{
    alt::datagrams::Ask,
    fault::faults,
    lisp_sec::gate::Protection,
    prefix_map::PrefixMap,
    rate::{Buckets, Limited, Rate},
    rloc::{Families, answer_address, routable},
    wire::{MapReply, MapRequest, packet::UdpPacket},
};

/// What the Map-Resolver is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our RLOCs: their families are those we can answer in.
    pub rlocs: Vec<IpAddr>,
    /// Who may ask; empty is everybody who asks for itself.
    pub clients: Vec<Prefix>,
    /// Mappings that are answered here, not authoritatively.
    pub mappings: Vec<Mapping>,
    /// Map-Requests of one client.
    pub each_client: Rate,
    /// Map-Requests for one EID, of all clients together.
    pub each_eid: Rate,
    /// Most clients, and most EIDs, whose rate is watched at a time.
    pub watched_max: usize,
}

impl Settings {
    /// The defaults: everybody may ask, 100 Map-Requests a second each, 10 a second for one EID.
    #[must_use]
    pub const fn new(rlocs: Vec<IpAddr>) -> Self {
        Self {
            rlocs,
            clients: Vec::new(),
            mappings: Vec::new(),
            each_client: Rate { burst: 100, every: Duration::from_millis(10) },
            each_eid: Rate { burst: 10, every: Duration::from_millis(100) },
            watched_max: 65_536,
        }
    }
}

/// What happens to the Map-Resolver.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// A Map-Request came in an ECM.
    Asked {
        /// Address and UDP port of the ECM.
        from: SocketAddr,
        /// What was inside.
        opened: Opened<'a>,
        /// What its answer shall be signed with.
        protection: Option<&'a Protection>,
    },
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<'a> {
    /// Find the way of this Map-Request ([`Engine::resolve`](crate::alt::datagrams::Engine::resolve)).
    Resolve {
        /// The datagram as it goes on.
        ask: Ask<'a>,
        /// The Map-Request in it.
        request: Box<MapRequest>,
    },
    /// Send this Map-Reply from port 4342, on the underlay.
    Reply {
        /// One of the request's ITR-RLOCs, with the port the request came from.
        to: SocketAddr,
        /// One record.
        message: MapReply,
    },
    /// Count this.
    Drop(ClientFault),
}

faults! {
    /// Why a Map-Resolver did nothing about a Map-Request.
    ClientFault {
        /// Not one of those who may ask.
        NotPermitted = "map-resolver-client-refused",
        /// None of the ITR-RLOCs is the asker's: the answer would hit somebody else.
        ForeignItrRloc = "map-resolver-foreign-itr-rloc",
        /// No ITR-RLOC at all, or none that can be sent to.
        NoItrRloc = "map-resolver-no-itr-rloc",
        /// More Map-Requests of this client than allowed.
        ClientLimited = "map-resolver-client-limited",
        /// More Map-Requests for this EID than allowed.
        EidLimited = "map-resolver-eid-limited",
        /// As many clients or EIDs as can be watched.
        WatchedFull = "map-resolver-table-full",
        /// TTL or Hop Limit of the inner packet used up: it goes round between resolvers and servers.
        TtlExpired = "map-resolver-ttl-expired",
    }
}

/// The machine.
#[derive(Debug)]
pub struct MapResolver {
    families: Families,
    clients: Vec<Prefix>,
    mappings: PrefixMap<Mapping>,
    each_client: Buckets<IpAddr>,
    each_eid: Buckets<EidPrefix>,
}

impl MapResolver {
    /// A Map-Resolver that nobody has asked yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            families: Families::of(&settings.rlocs),
            clients: settings.clients,
            mappings: settings.mappings.into_iter().map(|mapping| (mapping.eid, mapping)).collect(),
            each_client: Buckets::new(settings.each_client, settings.watched_max),
            each_eid: Buckets::new(settings.each_eid, settings.watched_max),
        }
    }

    /// Takes in one input and appends what must be done to `todo`: always one thing.
    pub fn step<'a>(&mut self, now: Instant, input: Input<'a>, todo: &mut Vec<Output<'a>>) {
        let Input::Asked { from, opened, protection } = input;
        let eid = opened.eid;
        let mut output = self.judge(now, from, opened).unwrap_or_else(Output::Drop);
        if let (Output::Reply { message, .. }, Some(protection)) = (&mut output, protection) {
            protection.sign_about(message, eid, false);
        }
        todo.push(output);
    }

    fn judge<'a>(&mut self, now: Instant, from: SocketAddr, opened: Opened<'a>) -> Result<Output<'a>, ClientFault> {
        let Opened { packet, datagram, request, eid, .. } = opened;
        self.permit(from.ip(), &request, datagram.source.ip())?;
        self.limit(now, from.ip(), EidPrefix::host(eid))?;
        if let Some((_, mapping)) = self.mappings.longest(eid) {
            let to = answer_address(&request, datagram.source, self.families).ok_or(ClientFault::NoItrRloc)?;
            let mapping = Mapping { eid: self.mappings.gap(eid), authoritative: false, ..mapping.clone() };
            let message = MapReply {
                nonce: request.nonce,
                probe: false,
                echo_nonce: false,
                records: vec![mapping],
                security: None,
            };
            return Ok(Output::Reply { to, message });
        }
        if datagram.ttl <= 1 {
            return Err(ClientFault::TtlExpired);
        }
        let source = source(&request, &datagram).ok_or(ClientFault::NoItrRloc)?;
        let datagram = UdpPacket { source, ttl: datagram.ttl - 1, ..datagram };
        Ok(Output::Resolve { ask: Ask { packet, datagram, eid }, request: Box::new(request) })
    }

    /// Whether `from` may have the answer sent where the request says: to itself, or from one client to others.
    fn permit(&self, from: IpAddr, request: &MapRequest, source: IpAddr) -> Result<(), ClientFault> {
        let client = |address: &IpAddr| self.clients.iter().any(|prefix| prefix.contains(*address));
        // Who unsubscribes names no ITR-RLOC: the answer goes to the source (RFC 9437 §5).
        let unsubscribes = request.xtr.is_some() && request.records.iter().all(|record| record.notify);
        if request.itr_rlocs.is_empty() && unsubscribes && (from == source || client(&source)) {
            return if self.clients.is_empty() || client(&from) { Ok(()) } else { Err(ClientFault::NotPermitted) };
        }
        if request.itr_rlocs.is_empty() {
            return Err(ClientFault::NoItrRloc);
        }
        if !self.clients.is_empty() && !client(&from) {
            return Err(ClientFault::NotPermitted);
        }
        let own = request.itr_rlocs.contains(&from);
        if own || request.itr_rlocs.iter().all(client) { Ok(()) } else { Err(ClientFault::ForeignItrRloc) }
    }

    fn limit(&mut self, now: Instant, client: IpAddr, eid: EidPrefix) -> Result<(), ClientFault> {
        let name = |spent| move |limited| if limited == Limited::Spent { spent } else { ClientFault::WatchedFull };
        // What one client may no longer ask leaves the EID's share to others.
        self.each_client.take(now, client).map_err(name(ClientFault::ClientLimited))?;
        self.each_eid.take(now, eid).map_err(name(ClientFault::EidLimited))
    }
}

/// The IP source on the ALT: the RLOC that asks, if the answer may go there too; else the first of the EID's family. An ITR
/// that has none is asked for by its inner source, which may be an EID (RFC 6836 §5.1, RFC 9301 §8.4).
fn source(request: &MapRequest, datagram: &UdpPacket<'_>) -> Option<SocketAddr> {
    let inner = datagram.source;
    let fits = |address: &&IpAddr| address.is_ipv4() == inner.is_ipv4() && routable(**address);
    let listed = request.itr_rlocs.iter().find(|address| **address == inner.ip());
    let chosen = listed.filter(fits).or_else(|| request.itr_rlocs.iter().find(fits)).copied();
    let address = chosen.unwrap_or(inner.ip());
    (routable(address) && inner.port() != 0).then_some(SocketAddr::new(address, inner.port()))
}
