//! The speaker, its neighbours and its routes ⇄ TLVs.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

use super::{
    Stat, entry,
    message::{Fields, ProtocolError, kind, put, put_address},
    status::{self, Ids},
};

/// Our side of all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeakerStatus {
    /// Our AS number.
    pub asn: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Nothing is announced yet, for we restart (RFC 4724 §4.1).
    pub restarting: bool,
}

/// States of a session, as RFC 4271 §8.2.2 numbers and names them.
pub const STATES: [&str; 6] = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborStatus {
    /// Its name, its address if it has no other.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Our end of the session.
    pub local: IpAddr,
    /// Tunnel between the two.
    pub tunnel: String,
    /// Instance of its routes.
    pub instance: InstanceId,
    /// Its AS number.
    pub asn: u32,
    /// One of [`STATES`].
    pub state: &'static str,
    /// For how long the session has been up or down, whole seconds.
    pub since: Duration,
    /// What was agreed on, while it is up.
    pub session: Option<SessionStatus>,
    /// Prefixes of it that are held.
    pub received: u64,
    /// Prefixes it was told.
    pub advertised: u64,
    /// How long ago, whole seconds, the last session or attempt ended, and why.
    pub last_down: Option<(Duration, String)>,
    /// Time until the next attempt, whole seconds.
    pub retry: Option<Duration>,
    /// For how long yet routes from before its restart are kept, whole seconds.
    pub stale: Option<Duration>,
    /// Messages, faults, routes refused.
    pub stats: Vec<Stat>,
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The neighbour's BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Hold time; 0 is none.
    pub hold: Duration,
    /// Names of what both can do.
    pub capabilities: Vec<String>,
}

/// The speaker with its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BgpStatus {
    /// None: BGP is not spoken here.
    pub speaker: Option<SpeakerStatus>,
    /// In the order of the configuration.
    pub neighbors: Vec<NeighborStatus>,
}

/// Who a route is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteOrigin {
    /// Ours.
    Local,
    /// An aggregate of ours.
    Aggregate,
    /// A neighbour.
    Neighbor,
}

/// One route to a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpRoute {
    /// Where to.
    pub eid: EidPrefix,
    /// Who it is from.
    pub origin: RouteOrigin,
    /// The neighbour's name; empty for our own.
    pub neighbor: String,
    /// It is the one that is used.
    pub best: bool,
    /// From before the neighbour's restart.
    pub stale: bool,
    /// Why it is not used; empty for the one that is.
    pub why_not: String,
    /// AS numbers as operators write them, sets in braces.
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<u32>,
}

/// Which routes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoutesAsked {
    /// Those to exactly this prefix; all without.
    pub exact: Option<EidPrefix>,
    /// Those behind this prefix; from the first on without.
    pub after: Option<EidPrefix>,
}

// Flags of a SPEAKER.
const RESTARTING: u8 = 1;

// Flags of a NEIGHBOR: which of its fields mean something.
const DOWN: u8 = 1;
const RETRY: u8 = 2;
const STALE: u8 = 4;

// Flags of a PATH.
const BEST: u8 = 1;
const PATH_STALE: u8 = 2;
const MED: u8 = 4;

/// Appends SPEAKER.
pub(super) fn put_speaker(out: &mut Vec<u8>, speaker: &SpeakerStatus) {
    put(out, kind::SPEAKER, |out| {
        out.push(if speaker.restarting { RESTARTING } else { 0 });
        out.extend(speaker.asn.to_le_bytes());
        out.extend(speaker.router_id.octets());
    });
}

fn speaker(mut fields: Fields<'_>) -> Result<SpeakerStatus, ProtocolError> {
    let restarting = fields.u8()? & RESTARTING != 0;
    let (asn, router_id) = (fields.u32()?, Ipv4Addr::from(fields.array::<4>()?));
    fields.end()?;
    Ok(SpeakerStatus { asn, router_id, restarting })
}

/// Appends NEIGHBOR and what belongs to it.
pub(super) fn put_neighbor(out: &mut Vec<u8>, neighbor: &NeighborStatus, ids: &mut Ids) {
    let state = STATES.iter().position(|state| *state == neighbor.state).unwrap_or(0);
    let seconds = |duration: Option<Duration>| duration.map_or(0, |duration| duration.as_secs() as u32).to_le_bytes();
    let flag = |there: bool, flag: u8| if there { flag } else { 0 };
    put(out, kind::NEIGHBOR, |out| {
        let down = flag(neighbor.last_down.is_some(), DOWN);
        out.push(state as u8);
        out.push(down | flag(neighbor.retry.is_some(), RETRY) | flag(neighbor.stale.is_some(), STALE));
        out.extend(neighbor.asn.to_le_bytes());
        out.extend(neighbor.instance.get().to_le_bytes());
        out.extend(seconds(Some(neighbor.since)));
        out.extend(seconds(neighbor.last_down.as_ref().map(|(ago, _)| *ago)));
        out.extend(seconds(neighbor.retry));
        out.extend(seconds(neighbor.stale));
        out.extend(neighbor.received.to_le_bytes());
        out.extend(neighbor.advertised.to_le_bytes());
        put_address(out, neighbor.address);
        put_address(out, neighbor.local);
        out.extend(neighbor.name.as_bytes());
    });
    put_text(out, kind::THROUGH, &neighbor.tunnel);
    if let Some((_, reason)) = &neighbor.last_down {
        put_text(out, kind::REASON, reason);
    }
    if let Some(session) = &neighbor.session {
        put(out, kind::SESSION, |out| {
            out.extend(session.router_id.octets());
            out.extend((session.hold.as_secs() as u16).to_le_bytes());
            out.extend(session.capabilities.join(" ").as_bytes());
        });
    }
    status::put_stats(out, &neighbor.stats, ids);
}

fn put_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    put(out, kind, |out| out.extend(text.as_bytes()));
}

fn neighbor(mut fields: Fields<'_>) -> Result<NeighborStatus, ProtocolError> {
    let (state, flags, asn) = (fields.u8()?, fields.u8()?, fields.u32()?);
    let instance = InstanceId::new(fields.u32()?).ok_or(ProtocolError::Value("an Instance-ID has 24 bits"))?;
    let mut seconds = || fields.u32().map(|seconds| Duration::from_secs(seconds.into()));
    let (since, down, retry, stale) = (seconds()?, seconds()?, seconds()?, seconds()?);
    let (received, advertised) = (fields.u64()?, fields.u64()?);
    let (address, local) = (fields.address()?, fields.address()?);
    Ok(NeighborStatus {
        name: fields.text()?.to_owned(),
        address,
        local,
        tunnel: String::new(),
        instance,
        asn,
        state: STATES.get(usize::from(state)).ok_or(ProtocolError::Value("a state is unknown"))?,
        since,
        session: None,
        received,
        advertised,
        last_down: (flags & DOWN != 0).then(|| (down, String::new())),
        retry: (flags & RETRY != 0).then_some(retry),
        stale: (flags & STALE != 0).then_some(stale),
        stats: Vec::new(),
    })
}

fn session(mut fields: Fields<'_>) -> Result<SessionStatus, ProtocolError> {
    let (router_id, hold) = (Ipv4Addr::from(fields.array::<4>()?), fields.u16()?);
    let capabilities = fields.text()?.split_whitespace().map(str::to_owned).collect();
    Ok(SessionStatus { router_id, hold: Duration::from_secs(hold.into()), capabilities })
}

/// Appends IID, EID and the route's own TLVs.
pub(super) fn put_route(out: &mut Vec<u8>, route: &BgpRoute) {
    entry::put_instance(out, route.eid.instance);
    entry::put_prefix(out, route.eid.prefix);
    put(out, kind::PATH, |out| {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(flag(route.best, BEST) | flag(route.stale, PATH_STALE) | flag(route.med.is_some(), MED));
        out.push(match route.origin {
            RouteOrigin::Local => 1,
            RouteOrigin::Aggregate => 2,
            RouteOrigin::Neighbor => 3,
        });
        out.extend(route.med.unwrap_or(0).to_le_bytes());
        out.extend(route.neighbor.as_bytes());
    });
    for (kind, text) in [(kind::AS_PATH, &route.as_path), (kind::REASON, &route.why_not)] {
        if !text.is_empty() {
            put_text(out, kind, text);
        }
    }
    if !route.communities.is_empty() {
        put(out, kind::COMMUNITIES, |out| {
            route.communities.iter().for_each(|community| out.extend(community.to_le_bytes()));
        });
    }
}

fn path(mut fields: Fields<'_>, eid: EidPrefix) -> Result<BgpRoute, ProtocolError> {
    let (flags, origin, med) = (fields.u8()?, fields.u8()?, fields.u32()?);
    Ok(BgpRoute {
        eid,
        origin: match origin {
            1 => RouteOrigin::Local,
            2 => RouteOrigin::Aggregate,
            3 => RouteOrigin::Neighbor,
            _ => return Err(ProtocolError::Value("the origin of a route is unknown")),
        },
        neighbor: fields.text()?.to_owned(),
        best: flags & BEST != 0,
        stale: flags & PATH_STALE != 0,
        why_not: String::new(),
        as_path: String::new(),
        med: (flags & MED != 0).then_some(med),
        communities: Vec::new(),
    })
}

/// Appends CURSOR: where the next page starts, in an answer and in the request for that page.
pub(super) fn put_cursor(out: &mut Vec<u8>, eid: &EidPrefix) {
    put(out, kind::CURSOR, |out| put_place(out, eid));
}

/// Appends what [`cursor`] reads.
pub(super) fn put_place(out: &mut Vec<u8>, eid: &EidPrefix) {
    out.extend(eid.instance.get().to_le_bytes());
    out.push(eid.prefix.length());
    put_address(out, eid.prefix.address());
}

/// Reads CURSOR.
pub(super) fn cursor(mut fields: Fields<'_>) -> Result<EidPrefix, ProtocolError> {
    let instance = InstanceId::new(fields.u32()?).ok_or(ProtocolError::Value("an Instance-ID has 24 bits"))?;
    let length = fields.u8()?;
    let address = fields.address()?;
    fields.end()?;
    let prefix = Prefix::new(address, length).map_err(|_| ProtocolError::Value("an EID's mask is too long"))?;
    Ok(EidPrefix { instance, prefix })
}

/// Flags of CLEAR: keep the sessions; of all neighbours.
const SOFT: u8 = 1;
const ALL: u8 = 2;

/// Appends CLEAR.
pub(super) fn put_clear(out: &mut Vec<u8>, neighbor: Option<&str>, soft: bool) {
    put(out, kind::CLEAR, |out| {
        out.push(if soft { SOFT } else { 0 } | if neighbor.is_none() { ALL } else { 0 });
        out.extend(neighbor.unwrap_or_default().as_bytes());
    });
}

/// Reads CLEAR.
pub(super) fn clear(mut fields: Fields<'_>) -> Result<(Option<String>, bool), ProtocolError> {
    let flags = fields.u8()?;
    let name = fields.text()?;
    let neighbor = match (flags & ALL != 0, name.is_empty()) {
        (true, true) => None,
        (false, false) => Some(name.to_owned()),
        (true, false) => return Err(ProtocolError::Value("CLEAR is about one neighbour or about all")),
        (false, true) => return Err(ProtocolError::Value("CLEAR names no neighbour")),
    };
    Ok((neighbor, flags & SOFT != 0))
}

/// Collects the TLVs of an answer about BGP as they come.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) status: BgpStatus,
    pub(super) routes: Vec<BgpRoute>,
    pub(super) next: Option<EidPrefix>,
    instance: InstanceId,
    prefix: Option<Prefix>,
}

impl Collected {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        const ORPHAN: ProtocolError = ProtocolError::Value("a TLV comes before what it belongs to");
        match kind {
            kind::SPEAKER => self.status.speaker = Some(speaker(fields)?),
            kind::NEIGHBOR => self.status.neighbors.push(neighbor(fields)?),
            kind::THROUGH => self.last_neighbor()?.tunnel = fields.text()?.to_owned(),
            kind::SESSION => self.last_neighbor()?.session = Some(session(fields)?),
            kind::STAT => {
                let (_id, value) = (fields.u16()?, fields.u64()?);
                self.last_neighbor()?.stats.push(Stat { name: "".into(), value });
            }
            kind::NAME => {
                let name = fields.text()?.to_owned();
                self.last_neighbor()?.stats.last_mut().ok_or(ORPHAN)?.name = name.into();
            }
            kind::REASON => {
                let text = fields.text()?.to_owned();
                match self.routes.last_mut() {
                    Some(route) => route.why_not = text,
                    None => self.last_neighbor()?.last_down.as_mut().ok_or(ORPHAN)?.1 = text,
                }
            }
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => self.prefix = Some(entry::prefix(fields)?),
            kind::PATH => {
                let prefix = self.prefix.take().ok_or(ORPHAN)?;
                self.routes.push(path(fields, EidPrefix { instance: self.instance, prefix })?);
            }
            kind::AS_PATH => self.routes.last_mut().ok_or(ORPHAN)?.as_path = fields.text()?.to_owned(),
            kind::COMMUNITIES => {
                let route = self.routes.last_mut().ok_or(ORPHAN)?;
                while !fields.0.is_empty() {
                    route.communities.push(fields.u32()?);
                }
            }
            kind::CURSOR => self.next = Some(cursor(fields)?),
            other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
            _ => {}
        }
        Ok(())
    }

    fn last_neighbor(&mut self) -> Result<&mut NeighborStatus, ProtocolError> {
        let orphan = ProtocolError::Value("a TLV comes before the NEIGHBOR it belongs to");
        self.status.neighbors.last_mut().ok_or(orphan)
    }
}
