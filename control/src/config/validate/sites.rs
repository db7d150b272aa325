//! RLOCs, our own EID-prefixes with their locator-sets, and static mappings.

use std::net::IpAddr;

use altitude_dataplane::mapping::{Action, Hop, Locator, MapVersion, Mapping, Ttl, sort_locators};

use super::{Findings, Unique, eid_prefix, values};
use crate::config::{Draft, EidPrefixDraft, Given, LocatorDraft, PRIORITY, StaticDraft, TTL_MINUTES, WEIGHT};

/// Most RLOCs of one router: a Map-Request holds no more ITR-RLOCs (RFC 9301 §5.2).
const RLOCS_MAX: usize = 32;
/// Most locators of one mapping: the Locator Count has 8 bits (RFC 9301 §5.4).
const LOCATORS_MAX: usize = 255;
/// Most stops of a path before its end.
const STOPS_MAX: usize = 15;

/// Our RLOCs with their places.
pub(super) fn rlocs(draft: &Draft, findings: &mut Findings) -> Vec<Given<IpAddr>> {
    let given = draft.settings.rlocs.as_deref().unwrap_or_default();
    let mut seen = Unique::new();
    let mut rlocs = Vec::new();
    for text in given {
        let address = values::rloc(text, findings);
        let Some(address) = findings.gap(address) else { continue };
        if seen.first(address) {
            rlocs.push(Given { value: address, place: text.place.clone() });
        } else {
            findings.wrong(&text.place, format!("RLOC {address} is given twice"), "give each RLOC once");
        }
    }
    if let Some(extra) = given.get(RLOCS_MAX) {
        findings.wrong(
            &extra.place,
            format!("{} RLOCs are more than the {RLOCS_MAX} that a Map-Request names", given.len()),
            "give fewer",
        );
    }
    rlocs
}

/// Our own mappings with the places of their prefixes.
pub(super) fn database(draft: &Draft, rlocs: &[Given<IpAddr>], findings: &mut Findings) -> Vec<Given<Mapping>> {
    let mut seen = Unique::new();
    let mut database = Vec::new();
    for item in &draft.eid_prefixes {
        let eid = eid_prefix(&item.prefix, item.instance.as_ref(), findings);
        let ttl = match &item.ttl {
            None => Some(TTL_MINUTES),
            Some(given) => values::number(given, "ttl", 1..=i64::from(u32::MAX) - 1, findings),
        };
        let version = version(item.version.as_ref(), findings);
        let locators = match &item.locators {
            None => {
                let mut all: Vec<Locator> = rlocs.iter().map(|rloc| own(rloc.value, PRIORITY, WEIGHT)).collect();
                sort_locators(&mut all);
                Some(all)
            }
            Some(list) => own_locators(item, list, rlocs, findings),
        };
        let eid = findings.gap(eid);
        let (Some(eid), Some(ttl), Some(version), Some(locators)) = (eid, ttl, version, locators) else { continue };
        if !seen.first(eid) {
            let remedy = "give each once; a longer prefix inside a shorter one is allowed";
            findings.wrong(&item.prefix.place, format!("EID-prefix {eid} is given twice"), remedy);
            continue;
        }
        let within =
            |locator: &&Locator| !locator.local && eid.prefix.length() > 0 && eid.prefix.contains(locator.address);
        if let Some(locator) = locators.iter().find(within) {
            let what = format!("locator {} of EID-prefix {eid} lies inside it", locator.address);
            findings.wrong(&item.prefix.place, what, "a locator is an address of the core: give another");
        }
        let value =
            Mapping { eid, ttl: Ttl::Minutes(ttl), version, action: Action::NoAction, authoritative: true, locators };
        database.push(Given { value, place: item.prefix.place.clone() });
    }
    database
}

/// A Map-Version; 0 without one.
fn version(given: Option<&Given<i64>>, findings: &mut Findings) -> Option<u16> {
    given.map_or(Some(0), |given| values::number(given, "version", 1..=i64::from(MapVersion::MAX), findings))
}

const fn own(address: IpAddr, priority: u8, weight: u8) -> Locator {
    Locator { local: true, ..Locator::unicast(address, priority, weight) }
}

/// The locator-set of one of our EID-prefixes: our RLOCs, and those of the site's other xTRs.
fn own_locators(
    item: &EidPrefixDraft,
    list: &[LocatorDraft],
    rlocs: &[Given<IpAddr>],
    findings: &mut Findings,
) -> Option<Vec<Locator>> {
    let mut locators = locators(&item.prefix, list, findings)?;
    let mut good = true;
    for (locator, given) in locators.iter_mut().zip(list) {
        let place = &given.address.place;
        let ours = rlocs.iter().any(|rloc| rloc.value == locator.address);
        locator.local = given.local.as_ref().is_none_or(|local| local.value);
        if locator.local && !ours {
            good = false;
            findings.missing(
                place,
                format!("locator {} of EID-prefix {} is none of our RLOCs", locator.address, item.prefix.value),
                "add it to rlocs, or write local = false if another xTR of this site has it",
            );
        } else if !locator.local && ours {
            good = false;
            findings.wrong(place, format!("locator {} is our own RLOC", locator.address), "take local = false away");
        }
    }
    if !locators.iter().any(|locator| locator.local) {
        good = false;
        findings.wrong(
            &item.prefix.place,
            format!("no locator of EID-prefix {} is ours", item.prefix.value),
            "name at least one of rlocs: a mapping without one would not lead here",
        );
    }
    let mut locators = over(locators, list, findings)?;
    sort_locators(&mut locators);
    good.then_some(locators)
}

/// A locator-set in the order given; all of it good, or none.
fn locators(owner: &Given<String>, list: &[LocatorDraft], findings: &mut Findings) -> Option<Vec<Locator>> {
    let before = findings.list.len();
    let mut seen = Unique::new();
    let mut locators = Vec::new();
    for item in list {
        let address = values::rloc(&item.address, findings);
        let octet = |given: &Option<Given<i64>>, name: &str, default: u8, findings: &mut Findings| match given {
            None => Some(default),
            Some(given) => values::number(given, name, 0..=255, findings),
        };
        let priority = octet(&item.priority, "priority", PRIORITY, findings);
        let weight = octet(&item.weight, "weight", WEIGHT, findings);
        let (Some(address), Some(priority), Some(weight)) = (address, priority, weight) else { continue };
        if !seen.first(address) {
            findings.wrong(&item.address.place, format!("locator {address} is given twice"), "give each once");
        }
        locators.push(Locator::unicast(address, priority, weight));
    }
    if list.is_empty() {
        findings.wrong(&owner.place, format!("the locators of {} are an empty list", owner.value), "name one or more");
    }
    if list.len() > LOCATORS_MAX {
        let what = format!("{} locators of {} are more than the {LOCATORS_MAX} of a record", list.len(), owner.value);
        findings.wrong(&owner.place, what, "name fewer");
    }
    (findings.list.len() == before).then_some(locators)
}

/// The locators with the stops before them (RFC 8060 §4.6); all of it good, or none.
fn over(locators: Vec<Locator>, list: &[LocatorDraft], findings: &mut Findings) -> Option<Vec<Locator>> {
    let before = findings.list.len();
    let mut all = Vec::new();
    for (locator, item) in locators.into_iter().zip(list) {
        let Some(via) = item.via.as_ref().filter(|via| !via.is_empty()) else {
            if let Some(strict) = &item.strict {
                findings.wrong(&strict.place, "'strict' speaks of the stops in via", "add via = [\"RLOC\"]");
            }
            all.push(locator);
            continue;
        };
        let strict = Hop::from_bits(item.strict.as_ref().is_some_and(|strict| strict.value).into());
        let mut seen = Unique::new();
        seen.first(locator.address);
        let mut stops = Vec::new();
        for given in via {
            let Some(address) = values::rloc(given, findings) else { continue };
            if !seen.first(address) {
                let what = format!("the path to {} passes {address} twice", locator.address);
                findings.wrong(&given.place, what, "name each stop once: a router cannot tell how often it was passed");
            }
            stops.push((address, strict));
        }
        if let Some(extra) = via.get(STOPS_MAX) {
            let what = format!("{} stops are more than the {STOPS_MAX} of a path", via.len());
            findings.wrong(&extra.place, what, "name fewer");
        }
        all.extend(locator.over(&stops, strict));
    }
    (findings.list.len() == before).then_some(all)
}

/// Static mappings of the map-cache.
pub(super) fn map_cache(
    draft: &Draft,
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    findings: &mut Findings,
) -> Vec<Mapping> {
    let mut seen = Unique::new();
    let mut mappings = Vec::new();
    for item in &draft.map_cache {
        let eid = eid_prefix(&item.eid, item.instance.as_ref(), findings);
        let contents = contents(item, rlocs, database, findings);
        let version = version(item.version.as_ref(), findings);
        let (Some(eid), Some(version), Some((action, mut locators))) = (eid, version, contents) else { continue };
        if !seen.first(eid) {
            let what = format!("static mapping {eid} is given twice");
            findings.wrong(&item.eid.place, what, "keep one, with all its locators");
        }
        if let Some(own) = database.iter().find(|own| own.value.eid.covers(&eid)) {
            findings.wrong(
                &item.eid.place,
                format!("static mapping {eid} lies inside our own EID-prefix {}", own.value.eid),
                "take it away: the site delivers to its own EIDs itself",
            );
        }
        sort_locators(&mut locators);
        let ttl = Ttl::ReceiverDecides;
        mappings.push(Mapping { eid, ttl, version, action, authoritative: false, locators });
    }
    mappings
}

/// Either locators or an action.
fn contents(
    item: &StaticDraft,
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    findings: &mut Findings,
) -> Option<(Action, Vec<Locator>)> {
    let eid = &item.eid.value;
    match (&item.locators, &item.action) {
        (Some(_), Some(action)) => {
            let what = format!("static mapping {eid} has both locators and an action");
            findings.wrong(&action.place, what, "keep one: an action is for a mapping without locators");
            None
        }
        (None, None) => {
            let what = format!("static mapping {eid} has neither locators nor an action");
            findings.wrong(&item.eid.place, what, "add locators = [...] or action = \"drop\"");
            None
        }
        (None, Some(given)) => action(given, findings).map(|action| (action, Vec::new())),
        (Some(list), None) => {
            let locators = locators(&item.eid, list, findings)?;
            let good =
                foreign(list, &locators, rlocs, database, findings) & pass_elsewhere(list, rlocs, database, findings);
            let locators = over(locators, list, findings)?;
            good.then_some((Action::NoAction, locators))
        }
    }
}

/// Whether every locator of a static mapping is another site's.
fn foreign(
    list: &[LocatorDraft],
    locators: &[Locator],
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    findings: &mut Findings,
) -> bool {
    let before = findings.list.len();
    for (given, locator) in list.iter().zip(locators) {
        let address = locator.address;
        if let Some(local) = &given.local {
            let what = "'local' has no meaning in a static mapping";
            findings.wrong(&local.place, what, "take it away: it belongs to the locators of [[eid-prefix]]");
        }
        if rlocs.iter().any(|rloc| rloc.value == address) {
            let what = format!("locator {address} of a static mapping is our own RLOC");
            findings.wrong(&given.address.place, what, "name the RLOC of the other site");
        }
        if let Some(own) = database.iter().find(|own| own.value.eid.prefix.contains(address)) {
            let what = format!("locator {address} lies inside our own EID-prefix {}", own.value.eid);
            findings.wrong(&given.address.place, what, "a locator is an address of the core: give another");
        }
    }
    findings.list.len() == before
}

/// Whether every stop before a locator of a static mapping is another site's, as the locator itself.
fn pass_elsewhere(
    list: &[LocatorDraft],
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    findings: &mut Findings,
) -> bool {
    let before = findings.list.len();
    for given in list.iter().filter_map(|item| item.via.as_ref()).flatten() {
        // What is no address at all is found with the paths.
        let Ok(stop) = given.value.parse::<IpAddr>() else { continue };
        if rlocs.iter().any(|rloc| rloc.value == stop) {
            findings.wrong(&given.place, format!("stop {stop} of a path is our own RLOC"), "name other routers");
        }
        if let Some(own) = database.iter().find(|own| own.value.eid.prefix.contains(stop)) {
            let what = format!("stop {stop} of a path lies inside our own EID-prefix {}", own.value.eid);
            findings.wrong(&given.place, what, "a stop is an address of the core: give another");
        }
    }
    findings.list.len() == before
}

/// An action by its name.
fn action(given: &Given<String>, findings: &mut Findings) -> Option<Action> {
    let all = || (0..6).map(Action::from_bits);
    let found = all().find(|action| action.to_string() == given.value);
    if found.is_none() {
        let names: Vec<String> = all().map(|action| action.to_string()).collect();
        let what = format!("action '{}' is unknown", given.value);
        findings.wrong(&given.place, what, format!("write one of {}", names.join(", ")));
    }
    found
}
