//! The BGP speaker: our AS, neighbours, aggregates.

mod neighbor;
mod prefix_list;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Mapping};

use super::{Findings, Unique, eid_prefix, values};
use crate::{
    alt::bgp::{
        route::PeerId,
        settings::{Aggregate, NeighborSettings, Settings},
        speaker::NEIGHBORS_MAX,
    },
    config::{Draft, Given, Place, Route, Tunnel},
};

/// Stands for AS numbers that need four octets (RFC 6793 §9).
const AS_TRANS: u32 = 23456;
/// The last of each size is reserved (RFC 7300 §2).
const LAST_ASES: [u32; 2] = [65_535, u32::MAX];
/// Most aggregates of one router.
const AGGREGATES_MAX: usize = 4096;
/// Longest restart time, seconds: 12 bits (RFC 4724 §3).
const RESTART_TIME_MAX: i64 = 4095;

/// What the speaker's settings are checked against.
pub(super) struct Around<'a> {
    pub(super) tunnels: &'a [Given<Tunnel>],
    pub(super) rlocs: &'a [Given<IpAddr>],
    pub(super) database: &'a [Given<Mapping>],
    pub(super) routes: &'a [Route],
    /// Where paths of the file start.
    pub(super) folder: &'a Path,
}

/// The speaker, if there is to be one.
pub(super) fn speaker(draft: &Draft, around: &Around<'_>, findings: &mut Findings) -> Option<Settings> {
    let given = &draft.alt;
    let neighbors = neighbors(draft, around, findings);
    let asn = given.asn.as_ref().and_then(|asn| as_number(asn, "our AS", findings));
    if given.asn.is_none() {
        without_as(draft, findings);
        return None;
    }
    let aggregates = aggregates(draft, &neighbors, findings);
    let router_id = router_id(draft, around, findings);
    let default = Settings::default();
    let restart_time = match &given.restart_time {
        None => Some(default.restart_time),
        Some(given) => values::number(given, "restart-time", 0..=RESTART_TIME_MAX, findings),
    };
    for (_, neighbor) in &neighbors {
        if Some(neighbor.value.asn) == asn {
            findings.wrong(
                &neighbor.place,
                format!("neighbour {} has our own AS {}", neighbor.value.remote, neighbor.value.asn),
                "each ALT router is an AS of its own: give it, or us, another",
            );
        }
    }
    let announces = announces_database(draft);
    let database = around.database.iter().filter(|_| announces).map(|own| own.value.eid);
    let routes = around.routes.iter().filter(|route| route.announce).map(|route| route.eid);
    let mut originate: Vec<EidPrefix> = database.chain(routes).collect();
    originate.sort_unstable();
    originate.dedup();
    Some(Settings {
        asn: asn?,
        router_id: router_id?,
        neighbors: neighbors.into_iter().map(|(_, neighbor)| neighbor.value).collect(),
        aggregates,
        originate,
        restart_time: restart_time?,
        ..default
    })
}

/// Whether neighbours are told of our EID-prefixes.
pub(super) fn announces_database(draft: &Draft) -> bool {
    draft.alt.announce_database.as_ref().is_none_or(|given| given.value)
}

/// What needs a speaker, without one.
fn without_as(draft: &Draft, findings: &mut Findings) {
    let needs = [
        draft
            .neighbors
            .first()
            .map(|neighbor| (&neighbor.address.place, "there are BGP neighbours, but no AS of ours")),
        draft.aggregates.first().map(|aggregate| (&aggregate.prefix.place, "there are aggregates, but no AS of ours")),
        draft.routes.iter().find_map(|route| {
            let announce = route.announce.as_ref().filter(|announce| announce.value)?;
            Some((&announce.place, "an ALT route is to be announced, but there is no AS of ours"))
        }),
    ];
    if let Some((place, what)) = needs.into_iter().flatten().next() {
        findings.missing(place, what, "add as = N to [alt], or --alt-as N: each ALT router is an AS of its own");
    }
}

/// An AS number that a router may have.
fn as_number(given: &Given<i64>, what: &str, findings: &mut Findings) -> Option<u32> {
    let asn: u32 = values::number(given, what, 1..=i64::from(u32::MAX), findings)?;
    let reserved = if asn == AS_TRANS {
        "stands for AS numbers of four octets"
    } else if LAST_ASES.contains(&asn) {
        "is reserved"
    } else {
        return Some(asn);
    };
    let remedy = "give one for private use: 64512 to 65534, or 4200000000 to 4294967294";
    findings.wrong(&given.place, format!("AS {asn} {reserved}"), remedy);
    None
}

/// The one given, or our first IPv4 address: of a tunnel, else an RLOC.
fn router_id(draft: &Draft, around: &Around<'_>, findings: &mut Findings) -> Option<Ipv4Addr> {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    if let Some(given) = &draft.alt.router_id {
        let address = given.value.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified());
        if address.is_none() {
            let what = format!("'{}' cannot be a router ID", given.value);
            findings.wrong(&given.place, what, "write an IPv4 address of ours, for example 10.42.0.1");
        }
        return address;
    }
    let inner = around.tunnels.iter().flat_map(|tunnel| &tunnel.value.addresses).map(|(address, _)| *address);
    let found = inner.chain(around.rlocs.iter().map(|rloc| rloc.value)).find_map(v4);
    if found.is_none() {
        let place = draft.alt.asn.as_ref().map_or(&Place::Whole, |given| &given.place);
        findings.missing(
            place,
            "the speaker has no router ID: neither a tunnel nor an RLOC has an IPv4 address",
            "add router-id = \"A.B.C.D\" to [alt], or --alt-router-id: 32 bits that no other ALT router has",
        );
    }
    found
}

/// The neighbours; each with its place in the file's list.
fn neighbors(draft: &Draft, around: &Around<'_>, findings: &mut Findings) -> Vec<(usize, Given<NeighborSettings>)> {
    let mut seen = Unique::new();
    let mut neighbors = Vec::new();
    for (index, item) in draft.neighbors.iter().enumerate() {
        let neighbor = neighbor::neighbor(item, around, findings);
        let Some(value) = findings.gap(neighbor) else { continue };
        let place = &item.address.place;
        if !seen.first(value.remote) {
            findings.wrong(place, format!("neighbour {} is given twice", value.remote), "keep one");
        }
        neighbors.push((index, Given { value, place: place.clone() }));
    }
    if let Some(extra) = draft.neighbors.get(NEIGHBORS_MAX) {
        let what = format!("{} neighbours are more than the {NEIGHBORS_MAX} of one router", draft.neighbors.len());
        findings.wrong(&extra.address.place, what, "spread them over more ALT routers");
    }
    neighbors
}

fn aggregates(
    draft: &Draft,
    neighbors: &[(usize, Given<NeighborSettings>)],
    findings: &mut Findings,
) -> Vec<Aggregate> {
    let known: HashMap<IpAddr, (PeerId, InstanceId)> = neighbors
        .iter()
        .enumerate()
        .map(|(id, (_, neighbor))| (neighbor.value.remote, (PeerId(id), neighbor.value.instance)))
        .collect();
    let mut seen = Unique::new();
    let mut aggregates = Vec::new();
    for item in &draft.aggregates {
        let Some(eid) = eid_prefix(&item.prefix, item.instance.as_ref(), findings) else { continue };
        if !seen.first(eid) {
            findings.wrong(&item.prefix.place, format!("aggregate {eid} is given twice"), "keep one");
        }
        if item.components.is_empty() {
            findings.wrong(
                &item.prefix.place,
                format!("aggregate {eid} has no components"),
                "name the neighbours that announce its parts: only with sessions to all of them may it be announced",
            );
        }
        let mut components = Vec::new();
        for given in &item.components {
            let component = given.value.parse().ok().and_then(|address: IpAddr| known.get(&address));
            match component {
                Some((peer, instance)) if *instance == eid.instance => components.push(*peer),
                Some((_, instance)) => findings.wrong(
                    &given.place,
                    format!("component {} of aggregate {eid} is a neighbour of instance {instance}", given.value),
                    "name neighbours of the aggregate's own instance",
                ),
                None => findings.missing(
                    &given.place,
                    format!("component {} of aggregate {eid} is no neighbour of ours", given.value),
                    "write the address of an [[alt.neighbor]]: an aggregate without a session to all who announce its \
                     parts would lead into nothing",
                ),
            }
        }
        components.sort_unstable();
        components.dedup();
        let summary_only = item.summary_only.as_ref().is_some_and(|given| given.value);
        aggregates.push(Aggregate { eid, components, summary_only });
    }
    if let Some(extra) = draft.aggregates.get(AGGREGATES_MAX) {
        let what = format!("{} aggregates are more than the {AGGREGATES_MAX} of one router", draft.aggregates.len());
        findings.wrong(&extra.prefix.place, what, "aggregate further, or in other ALT routers");
    }
    aggregates
}
