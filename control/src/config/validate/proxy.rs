//! PETR, PITR and re-encapsulating router.

use std::net::IpAddr;

use altitude_dataplane::mapping::{EidPrefix, InstanceId};

use super::{Findings, Unique, eid_prefix, values};
use crate::config::{Draft, Given, Place, Port, roles::Proxies};

/// Most EID aggregates: each costs every packet out of a native port a comparison.
const AGGREGATES_MAX: usize = 64;
/// Look-ups a second for one stranger's network by default.
const RATE: u32 = 20;
/// Most that can be asked for.
const RATE_MAX: i64 = 100_000;

/// Reads them; `ports` are those that could be read.
pub(super) fn proxies(draft: &Draft, rlocs: &[Given<IpAddr>], ports: &[Port], findings: &mut Findings) -> Proxies {
    let rate = draft.settings.pitr_rate.as_ref();
    let proxies = Proxies {
        petr: draft.roles.petr.is_some(),
        rtr: draft.roles.rtr.is_some(),
        known: draft.roles.rtr.is_some() && draft.settings.source_check.is_none(),
        instances: instances(draft, findings),
        aggregates: aggregates(draft, rlocs, findings),
        rate: rate.and_then(|given| values::number(given, "pitr-rate", 1..=RATE_MAX, findings)).unwrap_or(RATE),
    };
    let lax = |check: &&Given<String>| ["standard", "notify"].contains(&check.value.as_str());
    if let Some(check) = draft.settings.source_check.as_ref().filter(lax)
        && proxies.rtr
        && !draft.nat.rtr.as_ref().is_some_and(|given| given.value)
    {
        let what = format!("with source check {} this RTR puts anybody's packets into tunnels of its own", check.value);
        let remedy = "leave source-check and --source-check out: it takes what sites send from their own locators then, and \
                      what a stop before it does; keep it only where others than sites and stops, a PITR, send to it";
        findings.warn(&check.place, what, remedy);
    }
    let place = &Place::Whole;
    if let Some(petrs) = draft.settings.petrs.as_ref().and_then(|petrs| petrs.first()) {
        let what = match (proxies.petr, proxies.aggregates.is_empty()) {
            (true, _) => Some("we are a PETR, and it uses none"),
            (false, false) => Some("we are a PITR: what has no mapping would come back from the PETR"),
            (false, true) => None,
        };
        if let Some(what) = what {
            findings.wrong(&petrs.place, what, "leave out petrs and --petr, or the other role");
        }
    }
    for eid in &proxies.aggregates {
        if !ports.iter().any(|port| port.native && port.instance == eid.instance) {
            let what =
                format!("EID-prefix {eid} is to be attracted, but no native port is of instance {}", eid.instance);
            let remedy = "add --native-port IF or [[native-port]]: the interface towards networks without LISP";
            findings.missing(place, what, remedy);
        }
    }
    if let Some(port) = ports.iter().find(|port| port.native)
        && proxies.aggregates.is_empty()
        && !proxies.petr
    {
        let what = format!("nothing is to be done with native port {}", port.name);
        findings.missing(place, what, "add --pitr-prefix PREFIX: the EIDs that it attracts, or --as-petr");
    }
    proxies
}

fn instances(draft: &Draft, findings: &mut Findings) -> Vec<InstanceId> {
    let petr = draft.roles.petr.as_ref().and_then(|petr| petr.instances.as_ref());
    let rtr = draft.roles.rtr.as_ref().and_then(|rtr| rtr.instances.as_ref());
    if let (Some(_), Some(given)) = (petr, rtr.and_then(|rtr| rtr.first())) {
        let what = "the instances of PETR and RTR are those of one router";
        findings.wrong(&given.place, what, "write instances in [petr] alone");
    }
    let Some(given) = petr.or(rtr) else { return vec![InstanceId::DEFAULT] };
    given.iter().filter_map(|instance| values::instance(instance, findings)).collect()
}

fn aggregates(draft: &Draft, rlocs: &[Given<IpAddr>], findings: &mut Findings) -> Vec<EidPrefix> {
    let mut seen = Unique::new();
    let mut found = Vec::new();
    for item in &draft.roles.pitr_prefixes {
        let place = &item.prefix.place;
        let Some(eid) = eid_prefix(&item.prefix, item.instance.as_ref(), findings) else { continue };
        if eid.prefix.length() == 0 {
            let remedy = "give the EID-prefixes that LISP sites have; the rest of the Internet is reached without us";
            findings.wrong(place, format!("{eid} would attract everything"), remedy);
        } else if let Some(rloc) = rlocs.iter().find(|rloc| eid.prefix.contains(rloc.value)) {
            let what = format!("{eid} holds our RLOC {}", rloc.value);
            findings.wrong(place, what, "an RLOC is reached without LISP: give longer prefixes that leave it out");
        } else if !seen.first(eid) {
            findings.wrong(place, format!("{eid} is attracted twice"), "keep one");
        } else {
            found.push(eid);
        }
    }
    if let Some(extra) = draft.roles.pitr_prefixes.get(AGGREGATES_MAX) {
        let what = format!("{} prefixes are more than the {AGGREGATES_MAX} of a PITR", draft.roles.pitr_prefixes.len());
        findings.wrong(&extra.prefix.place, what, "give shorter ones: a PITR attracts aggregates (RFC 6832 §5.1)");
    }
    found
}
