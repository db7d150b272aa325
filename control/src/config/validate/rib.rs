//! Where the EID routes of each instance come from.

use std::collections::{BTreeMap, BTreeSet};

use altitude_dataplane::mapping::{InstanceId, Mapping};

use super::{Findings, values};
use crate::{
    alt::rib::sources::RibSource,
    config::{Draft, Given, Route, Tunnel},
};

/// The kernel's own tables: default, main, local.
const OWN_TABLES: [u32; 3] = [253, 254, 255];

/// The source of every instance that is mentioned anywhere.
pub(super) fn sources(
    draft: &Draft,
    tunnels: &[Given<Tunnel>],
    database: &[Given<Mapping>],
    routes: &[Route],
    findings: &mut Findings,
) -> BTreeMap<InstanceId, RibSource> {
    let chosen = chosen(draft, findings);
    let number = |given: Option<&Given<i64>>| given.map_or(Some(0), |given| u32::try_from(given.value).ok());
    let with_neighbors: BTreeSet<InstanceId> =
        draft.neighbors.iter().filter_map(|item| InstanceId::new(number(item.instance.as_ref())?)).collect();
    let mentioned =
        database.iter().map(|own| own.value.eid.instance).chain(routes.iter().map(|route| route.eid.instance));
    let mentioned =
        mentioned.chain(with_neighbors.iter().copied()).chain(chosen.keys().filter_map(|instance| *instance));
    let mut sources = BTreeMap::new();
    for instance in mentioned.chain([InstanceId::DEFAULT]) {
        let default = if with_neighbors.contains(&instance) { RibSource::Embedded } else { RibSource::Static };
        let given = chosen.get(&Some(instance)).or(chosen.get(&None));
        sources.insert(instance, given.map_or(default, |given| given.value));
    }
    for (instance, source) in &sources {
        let given = chosen.get(&Some(*instance)).or(chosen.get(&None));
        let Some(given) = given.filter(|_| with_neighbors.contains(instance) && *source != RibSource::Embedded) else {
            continue;
        };
        findings.wrong(
            &given.place,
            format!("instance {instance} has BGP neighbours, but its EID routes come from {source}"),
            "write embedded, or take the neighbours away: their routes would not be used",
        );
    }
    for given in chosen.values() {
        check(draft, given, tunnels, &sources, findings);
    }
    sources
}

/// What the configuration says, by instance; `None` is all others.
fn chosen(draft: &Draft, findings: &mut Findings) -> BTreeMap<Option<InstanceId>, Given<RibSource>> {
    let mut chosen = BTreeMap::new();
    let whole = draft.alt.rib.iter().map(|given| (None, given));
    let each = draft.ribs.iter().map(|item| (item.instance.as_ref(), &item.source));
    for (instance, given) in whole.chain(each) {
        let instance = match instance {
            None => None,
            Some(instance) => match values::instance(instance, findings) {
                None => continue,
                instance => instance,
            },
        };
        let Some(value) = values::choice(given, "source of EID routes", findings) else { continue };
        if chosen.insert(instance, Given { value, place: given.place.clone() }).is_some() {
            let whose = instance.map_or("all instances".to_owned(), |instance| format!("instance {instance}"));
            findings.wrong(&given.place, format!("two sources of EID routes for {whose}"), "keep one");
        }
    }
    chosen
}

/// Whether a source can work.
fn check(
    draft: &Draft,
    given: &Given<RibSource>,
    tunnels: &[Given<Tunnel>],
    sources: &BTreeMap<InstanceId, RibSource>,
    findings: &mut Findings,
) {
    match given.value {
        RibSource::Static => {}
        RibSource::Embedded if draft.alt.asn.is_some() => {}
        RibSource::Embedded => findings.missing(
            &given.place,
            "EID routes are to come from our own speaker, which has no AS",
            "add as = N to [alt], or --alt-as N, and neighbours",
        ),
        RibSource::Netlink { table } => {
            if OWN_TABLES.contains(&table) {
                findings.wrong(
                    &given.place,
                    format!("table {table} is one of the kernel's own"),
                    "EID routes must not meet those of hosts: let the routing daemon fill another, for example 4342",
                );
            }
            if !tunnels.iter().any(|tunnel| !tunnel.value.addresses.is_empty()) {
                findings.missing(
                    &given.place,
                    format!("no tunnel has an interface that routes of table {table} could lead to"),
                    "give the tunnels addresses: addresses = [...], or address= of --alt-tunnel",
                );
            }
            let users: Vec<String> = sources
                .iter()
                .filter(|(_, source)| **source == given.value)
                .map(|(instance, _)| instance.to_string())
                .collect();
            if users.len() > 1 {
                findings.wrong(
                    &given.place,
                    format!("instances {} would share table {table}", users.join(", ")),
                    "their EIDs may overlap: give each its own with [[alt.rib]] instance = N",
                );
            }
        }
    }
}
