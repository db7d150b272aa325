//! NAT traversal.

use std::{net::IpAddr, path::Path, time::Duration};

use altitude_dataplane::mapping::Mapping;

use super::{Findings, Unique, key, values};
use crate::{
    config::{Draft, Given, Nat, NatPeer, NatPeerDraft, Place, Roles},
    registrar::MapServer,
    wire::{Translation, data_map_notify},
};

/// Seconds between registrations unless told otherwise: NATs are known that forget a UDP binding after 60 s.
const KEEPALIVE: u64 = 30;
/// A Map-Server forgets whom it has not heard of for three minutes (RFC 9301 §5.6), and one message may be lost.
const KEEPALIVE_MAX: i64 = 120;
/// Most Map-Servers of an RTR.
const MAP_SERVERS_MAX: usize = 64;

pub(super) fn nat(
    draft: &Draft,
    (rlocs, database): (&[Given<IpAddr>], &[Given<Mapping>]),
    roles: &Roles,
    map_servers: &[MapServer],
    folder: &Path,
    findings: &mut Findings,
) -> Nat {
    let own = &draft.nat;
    let on = |given: &Option<Given<bool>>| given.as_ref().filter(|given| given.value).map(|given| given.place.clone());
    let (site, rtr) = (on(&own.site), on(&own.rtr));
    let seconds = own
        .keepalive
        .as_ref()
        .map_or(Some(KEEPALIVE), |given| values::number(given, "keepalive", 1..=KEEPALIVE_MAX, findings));
    if let (Some(place), None) = (own.keepalive.as_ref().map(|given| &given.place), &site) {
        findings.warn(
            place,
            "keepalive is for an xTR behind a NAT, which this one is not",
            "add --nat-site, or site = true",
        );
    }
    if let Some(place) = &site {
        at_a_site(place, database, map_servers, findings);
        if draft.pubsub.subscribe.as_ref().is_some_and(|given| given.value != "off") || draft.pubsub.prefixes.is_some()
        {
            let remedy = "nothing, if that will do: behind one all packets go to the RTR, which may subscribe itself";
            findings.warn(place, "Map-Servers are subscribed at only while no NAT is found", remedy);
        }
    }
    if let (Some(place), true) = (&site, rtr.is_some()) {
        let remedy = "an RTR is one that everybody can send to: keep one of both";
        findings.wrong(place, "behind a NAT and an RTR for those who are", remedy);
    }
    if let Some(place) = &rtr {
        one_rloc(place, rlocs, findings);
    }
    let servers = peers("[[nat.map-server]]", &own.map_server, MAP_SERVERS_MAX, rlocs, folder, findings);
    if rtr.is_some() {
        keyless(&own.map_server, &servers, findings);
    }
    let relays = peers("[[nat.relay]]", &own.relay, Translation::RTRS_MAX, &[], folder, findings);
    match (&rtr, own.map_server.first()) {
        (Some(place), _) if !roles.proxies.rtr => {
            findings.missing(place, "rtr in [nat] is a role of an RTR, and this is none", "add --as-rtr or [rtr]");
        }
        (Some(place), None) => {
            let remedy = "add [[nat.map-server]] with its address, and a key if it shares one with us";
            findings.missing(place, "there is no Map-Server that xTRs could register with through this RTR", remedy);
        }
        (None, Some(server)) => {
            let remedy = "add --nat-rtr, or rtr = true to [nat]";
            findings.warn(&server.address.place, "[[nat.map-server]] is for an RTR, and this is none", remedy);
        }
        _ => {}
    }
    if let (Some(relay), true) = (own.relay.first(), roles.sites.is_empty()) {
        let remedy = "add a [[site]] with a key, or take [[nat.relay]] away";
        findings.missing(
            &relay.address.place,
            "[[nat.relay]] is for a Map-Server, and no site can register here",
            remedy,
        );
    }
    Nat { keepalive: site.and(seconds).map(Duration::from_secs), map_servers: rtr.is_some().then_some(servers), relays }
}

/// Without a key whoever can send in the Map-Server's name registers what he likes.
fn keyless(given: &[NatPeerDraft], servers: &[NatPeer], findings: &mut Findings) {
    for server in servers.iter().filter(|server| server.keys.is_empty()) {
        let Some(given) = given.iter().find(|given| given.address.value.parse() == Ok(server.address)) else {
            continue;
        };
        findings.warn(
            &given.address.place,
            format!(
                "[[nat.map-server]] {} has no key: who forges its address registers any EID-prefix here",
                server.address
            ),
            "add key = { secret-file = … } here and to its [[nat.relay]]",
        );
    }
}

/// A NAT lets in what comes from the RLOC that the xTR registers at: data would leave from another one, if there were several.
fn one_rloc(place: &Place, rlocs: &[Given<IpAddr>], findings: &mut Findings) {
    for v4 in [true, false] {
        let mut of_family = rlocs.iter().filter(|rloc| rloc.value.is_ipv4() == v4);
        if let (Some(first), Some(second)) = (of_family.next(), of_family.next()) {
            let what = format!(
                "an RTR for sites behind NATs has two RLOCs of one family, {} and {}",
                first.value, second.value
            );
            findings.wrong(
                place,
                what,
                "keep one of each family: a NAT lets in what comes from the one it was used with",
            );
        }
    }
}

/// What an xTR behind a NAT needs, and cannot have.
fn at_a_site(place: &Place, database: &[Given<Mapping>], map_servers: &[MapServer], findings: &mut Findings) {
    if map_servers.is_empty() {
        let remedy = "add --map-server ADDR,key-file=PATH or [[map-server]]: it says whether there is a NAT";
        findings.missing(place, "an xTR behind a NAT needs a Map-Server", remedy);
    }
    if database.is_empty() {
        let remedy = "add --eid-prefix PREFIX or [[eid-prefix]]";
        findings.missing(place, "an xTR behind a NAT has no EID-prefix to register", remedy);
    }
    for own in database.iter().filter(|own| own.value.eid.instance.get() == data_map_notify::INSTANCE) {
        let remedy = "give it another instance: an RTR's messages have this one (nat-traversal-19 §4.5)";
        findings.wrong(&own.place, format!("EID-prefix {} cannot be behind a NAT", own.value.eid), remedy);
    }
}

/// One list of them, each address once and none our own.
fn peers(
    name: &str,
    given: &[NatPeerDraft],
    limit: usize,
    rlocs: &[Given<IpAddr>],
    folder: &Path,
    findings: &mut Findings,
) -> Vec<NatPeer> {
    if let Some(extra) = given.get(limit) {
        let what = format!("{} of {name} are more than {limit}", given.len());
        findings.wrong(&extra.address.place, what, "take some away");
    }
    let mut seen = Unique::new();
    let mut list = Vec::new();
    for item in given {
        let place = &item.address.place;
        let address = values::rloc(&item.address, findings);
        let Some(address) = findings.gap(address) else { continue };
        let owner = format!("{name} {address}");
        if !seen.first(address) {
            findings.wrong(place, format!("{owner} is given twice"), "keep one, with all its keys");
        }
        if rlocs.iter().any(|rloc| rloc.value == address) {
            findings.wrong(place, format!("{owner} is this router itself"), "give the address of the other one");
        }
        let keys = key::keys(&owner, place, (item.key.as_ref(), item.keys.as_deref()), folder, findings);
        let Some(keys) = findings.gap(keys) else { continue };
        list.push(NatPeer { address, keys });
    }
    list
}
