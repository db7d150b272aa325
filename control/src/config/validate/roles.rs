//! Map-Resolver, Map-Server, and the ALT router's single values.

use std::{net::IpAddr, path::Path, time::Duration};

use altitude_dataplane::mapping::Mapping;

use super::{Findings, Unique, proxy, site, values};
use crate::{
    alt::{datagrams::Unreachable, keepalive, tunnels},
    config::{
        Draft, Given, Place, Port, Roles, TunnelDraft, UnreachableName,
        roles::{INGRESS_RATE, KEEPALIVE_LOSSES, MapResolverDraft},
    },
    map_resolver,
    rate::Rate,
};

/// Most datagrams or Map-Requests a second that a rate may allow.
const RATE_MAX: i64 = 10_000_000;

/// Reads them all; `map_cache` is what a Map-Resolver answers by itself.
pub(super) fn roles(
    draft: &Draft,
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    map_cache: &[Mapping],
    ports: &[Port],
    folder: &Path,
    findings: &mut Findings,
) -> Roles {
    let alt = &draft.alt;
    let map_resolvers = Others {
        kind: "Map-Resolver",
        given: draft.settings.map_resolvers.as_ref(),
        remedy: "give the address of another router, or write [map-resolver] to be one",
    };
    let map_resolvers = map_resolvers.read(rlocs, database, findings);
    let petrs = Others {
        kind: "PETR",
        given: draft.settings.petrs.as_ref(),
        remedy: "give the address of another router: what we forward natively ourselves needs no PETR",
    };
    let petrs = petrs.read(rlocs, database, findings);
    let own: Vec<IpAddr> = rlocs.iter().map(|rloc| rloc.value).collect();
    let sites = site::sites(&draft.roles.sites, &own, folder, findings);
    let map_resolver = draft.roles.map_resolver.as_ref();
    let map_resolver = map_resolver.map(|given| map_resolver_role(given, &own, map_cache, findings));
    if own.is_empty() && (map_resolver.is_some() || !sites.is_empty() || !map_resolvers.is_empty()) {
        findings.missing(
            &Place::Whole,
            "a Map-Resolver, a Map-Server, and whoever asks one need an address",
            "add --rloc ADDR or rlocs = [...]: our address in the core",
        );
    }
    Roles {
        map_resolvers,
        petrs,
        proxies: proxy::proxies(draft, rlocs, ports, findings),
        map_resolver,
        sites,
        unreachable: unreachable(alt.unreachable.as_ref(), findings),
        ingress: alt
            .ingress_rate
            .as_ref()
            .and_then(|given| rate(given, "ingress-rate", findings))
            .unwrap_or(per_second(INGRESS_RATE)),
    }
}

/// What a tunnel does only where it is told to.
pub(super) fn options(item: &TunnelDraft, findings: &mut Findings) -> tunnels::Options {
    let ingress = item.ingress_rate.as_ref().and_then(|given| rate(given, "ingress-rate", findings));
    let every: Option<u64> =
        item.keepalive.as_ref().and_then(|given| values::number(given, "keepalive", 0..=3600, findings));
    let losses = item.keepalive_losses.as_ref();
    let losses = losses.and_then(|given| values::number(given, "keepalive-losses", 1..=255, findings));
    let keepalive = every.filter(|seconds| *seconds > 0).map(|seconds| keepalive::Settings {
        every: Duration::from_secs(seconds),
        losses: losses.unwrap_or(KEEPALIVE_LOSSES),
    });
    if let (Some(given), None) = (&item.keepalive_losses, keepalive) {
        findings.wrong(
            &given.place,
            "keepalive-losses counts keepalives, and none are sent",
            "add keepalive = SECONDS",
        );
    }
    let kernel = item.kernel.as_ref().is_some_and(|given| given.value);
    if let (Some(given), true) = (&item.keepalive, kernel && keepalive.is_some()) {
        findings.wrong(
            &given.place,
            "the kernel's GRE answers no keepalives",
            "leave out keepalive, or kernel; BGP's hold time tells that a neighbour is gone",
        );
    }
    tunnels::Options { ingress, keepalive, kernel }
}

fn unreachable(given: Option<&Given<String>>, findings: &mut Findings) -> Unreachable {
    match given.and_then(|given| values::choice(given, "unreachable", findings)) {
        None | Some(UnreachableName::NativelyForward) => Unreachable::NativelyForward,
        Some(UnreachableName::Drop) => Unreachable::Drop,
        Some(UnreachableName::Silent) => Unreachable::Silent,
        Some(UnreachableName::Icmp) => Unreachable::Icmp,
    }
}

fn rate(given: &Given<i64>, name: &str, findings: &mut Findings) -> Option<Rate> {
    values::number(given, name, 1..=RATE_MAX, findings).map(per_second)
}

/// As many at once as in a second.
fn per_second(count: u32) -> Rate {
    Rate { burst: count, every: Duration::from_secs(1) / count }
}

/// Others in the core that we send to: neither ourselves nor anybody who needs LISP to be reached (RFC 9301 §8.1).
struct Others<'a> {
    kind: &'static str,
    given: Option<&'a Vec<Given<String>>>,
    /// What to do about one that is ourselves.
    remedy: &'static str,
}

impl Others<'_> {
    fn read(&self, rlocs: &[Given<IpAddr>], database: &[Given<Mapping>], findings: &mut Findings) -> Vec<IpAddr> {
        let kind = self.kind;
        let mut seen = Unique::new();
        let mut found = Vec::new();
        for given in self.given.into_iter().flatten() {
            let Some(address) = findings_rloc(given, findings) else { continue };
            let within = database.iter().map(|own| own.value.eid).find(|eid| eid.prefix.contains(address));
            if let Some(eid) = within {
                let what = format!("{kind} {address} lies inside our own EID-prefix {eid}");
                findings.wrong(
                    &given.place,
                    what,
                    format!("a {kind} is reached over the core: give its address there"),
                );
            } else if rlocs.iter().any(|rloc| rloc.value == address) {
                findings.wrong(&given.place, format!("{kind} {address} is our own RLOC"), self.remedy);
            } else if !seen.first(address) {
                findings.wrong(&given.place, format!("{kind} {address} is given twice"), "keep one");
            } else if !rlocs.is_empty() && !rlocs.iter().any(|rloc| rloc.value.is_ipv4() == address.is_ipv4()) {
                let what = format!("no RLOC is of the family of {kind} {address}");
                let remedy = format!("give an RLOC of that family, or another address of the {kind}");
                findings.wrong(&given.place, what, remedy);
            } else {
                found.push(address);
            }
        }
        found
    }
}

pub(super) fn findings_rloc(given: &Given<String>, findings: &mut Findings) -> Option<IpAddr> {
    let address = values::rloc(given, findings);
    findings.gap(address)
}

fn map_resolver_role(
    given: &MapResolverDraft,
    rlocs: &[IpAddr],
    map_cache: &[Mapping],
    findings: &mut Findings,
) -> map_resolver::Settings {
    let mut settings = map_resolver::Settings::new(rlocs.to_vec());
    settings.mappings = map_cache.to_vec();
    let clients = given.clients.iter().flatten();
    settings.clients = clients.filter_map(|prefix| values::eid_prefix(prefix, findings)).collect();
    if let Some(given) = &given.client_rate {
        settings.each_client = rate(given, "client-rate", findings).unwrap_or(settings.each_client);
    }
    if let Some(given) = &given.eid_rate {
        settings.each_eid = rate(given, "eid-rate", findings).unwrap_or(settings.each_eid);
    }
    settings
}
