//! Tunnels and static routes of the ALT.

use std::net::IpAddr;

use super::{Findings, Unique, eid_prefix, roles, values};
use crate::{
    alt::tunnels::TUNNELS_MAX,
    config::{Draft, Given, Hop, Port, Route, Tunnel, TunnelDraft, TunnelId},
};

/// Reserved: a route with this in place of a tunnel leads nowhere.
const DISCARD: &str = "discard";

/// The tunnels with the places of their names.
pub(super) fn tunnels(
    draft: &Draft,
    rlocs: &[Given<IpAddr>],
    ports: &[Port],
    findings: &mut Findings,
) -> Vec<Given<Tunnel>> {
    let (mut names, mut ends, mut addresses) = (Unique::new(), Unique::new(), Unique::new());
    let mut tunnels = Vec::new();
    for item in &draft.tunnels {
        let place = &item.name.place;
        let tunnel = tunnel(item, rlocs, findings);
        let Some(tunnel) = findings.gap(tunnel) else { continue };
        if tunnel.name == DISCARD || ports.iter().any(|port| port.name == tunnel.name) {
            findings.wrong(place, format!("tunnel name {} is taken", tunnel.name), "name it alt0, for example");
        }
        if !names.first(tunnel.name.clone()) {
            findings.wrong(place, format!("tunnel {} is given twice", tunnel.name), "give each a name of its own");
        }
        if !ends.first((tunnel.local, tunnel.remote, tunnel.key)) {
            findings.wrong(
                place,
                format!("tunnel {} has the same ends and key as another", tunnel.name),
                "give them different keys: packets could not be told apart",
            );
        }
        for &(address, _) in &tunnel.addresses {
            if !addresses.first(address) {
                let what = format!("address {address} of tunnel {} is given twice", tunnel.name);
                findings.wrong(place, what, "give each tunnel addresses of its own");
            }
        }
        tunnels.push(Given { value: tunnel, place: place.clone() });
    }
    if let Some(extra) = draft.tunnels.get(TUNNELS_MAX) {
        let what = format!("{} tunnels are more than the {TUNNELS_MAX} of one router", draft.tunnels.len());
        findings.wrong(&extra.name.place, what, "spread them over more ALT routers");
    }
    tunnels
}

fn tunnel(item: &TunnelDraft, rlocs: &[Given<IpAddr>], findings: &mut Findings) -> Option<Tunnel> {
    let before = findings.list.len();
    let name = values::interface(&item.name, findings);
    let remote = values::rloc(&item.remote, findings);
    let local = match &item.local {
        Some(given) => values::rloc(given, findings),
        None => remote.and_then(|remote| {
            let own = rlocs.iter().map(|rloc| rloc.value).find(|rloc| rloc.is_ipv4() == remote.is_ipv4());
            if own.is_none() {
                findings.missing(
                    &item.remote.place,
                    format!("tunnel {} has no local end: no RLOC is of the family of {remote}", item.name.value),
                    "add local = \"ADDR\" (local=ADDR on the command line), or an RLOC of that family",
                );
            }
            own
        }),
    };
    let key = item.key.as_ref().map(|given| values::number(given, "GRE key", 0..=i64::from(u32::MAX), findings));
    let addresses: Vec<Option<(IpAddr, u8)>> =
        item.addresses.iter().map(|given| values::interface_address(given, findings)).collect();
    let (name, local, remote) = (name?, local?, remote?);
    if local == remote {
        let what = format!("tunnel {name} ends where it starts: local and remote are {remote}");
        findings.wrong(&item.remote.place, what, "give the RLOC of the other ALT router as remote");
    } else if rlocs.iter().any(|rloc| rloc.value == remote) {
        let what = format!("the remote end {remote} of tunnel {name} is our own RLOC");
        findings.wrong(&item.remote.place, what, "give the RLOC of the other ALT router");
    } else if local.is_ipv4() != remote.is_ipv4() {
        let what = format!("tunnel {name} goes from {local} to {remote}, which is of the other family");
        findings.wrong(&item.remote.place, what, "give two IPv4 or two IPv6 addresses; either carries both");
    }
    let checksum = item.checksum.as_ref().is_some_and(|given| given.value);
    let addresses = addresses.into_iter().flatten().collect();
    let options = roles::options(item, findings);
    let tunnel = Tunnel { name, local, remote, key: key.flatten(), checksum, addresses, options };
    (findings.list.len() == before).then_some(tunnel)
}

/// The static routes, with tunnels by number.
pub(super) fn routes(draft: &Draft, tunnels: &[Given<Tunnel>], findings: &mut Findings) -> Vec<Route> {
    let mut seen = Unique::new();
    let mut routes = Vec::new();
    for item in &draft.routes {
        let eid = eid_prefix(&item.prefix, item.instance.as_ref(), findings);
        let hop = hop(&item.via, tunnels, findings);
        let Some(eid) = eid else { continue };
        if !seen.first(eid) {
            findings.wrong(&item.prefix.place, format!("ALT route {eid} is given twice"), "keep one");
        }
        let announce = item.announce.as_ref().is_some_and(|given| given.value);
        routes.extend(hop.map(|hop| Route { eid, hop, announce }));
    }
    routes
}

fn hop(via: &Given<String>, tunnels: &[Given<Tunnel>], findings: &mut Findings) -> Option<Hop> {
    if via.value == DISCARD {
        return Some(Hop::Discard);
    }
    let index = tunnels.iter().position(|tunnel| tunnel.value.name == via.value);
    if index.is_none() {
        let names: Vec<&str> = tunnels.iter().map(|tunnel| tunnel.value.name.as_str()).collect();
        let remedy = if names.is_empty() {
            "define it with --alt-tunnel or [[alt.tunnel]], or write discard".to_owned()
        } else {
            format!("write one of {}, or discard", names.join(", "))
        };
        findings.missing(&via.place, format!("ALT route leads to tunnel {}, which is not defined", via.value), remedy);
    }
    index.map(|index| Hop::Tunnel(TunnelId(index)))
}
