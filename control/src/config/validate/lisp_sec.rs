//! LISP-SEC: keys that are independent of each other, and settings that leave nobody unasked.

use std::{net::IpAddr, path::Path};

use altitude_dataplane::mapping::Prefix;

use super::{Findings, eid_prefix, key, roles, values};
use crate::{
    config::{Draft, Given, KeyDraft, LispSecDraft, MapServer, Place, ResolverName, Roles, ServerDraft, SignatureName},
    lisp_sec::{
        Settings,
        asking::Asking,
        gate::{self, Client, Server},
        keys::SharedKey,
    },
    wire::lisp_sec::Hash,
};

/// Most groups of clients, and most Map-Servers.
const GROUPS_MAX: usize = 1024;
/// A key of a site, and whose it is.
type SiteKey = (String, SharedKey);

/// Reads it; `None` where it is not switched on.
pub(super) fn lisp_sec(
    draft: &Draft,
    roles: &Roles,
    map_servers: &[MapServer],
    folder: &Path,
    findings: &mut Findings,
) -> Option<Settings> {
    let given = draft.lisp_sec.as_ref().filter(|given| given.enabled == Some(true))?;
    let of_servers = map_servers.iter().flat_map(|server| {
        server.keys.iter().map(move |key| (format!("Map-Server {}", server.address), SharedKey::from(key)))
    });
    let of_sites = roles
        .sites
        .iter()
        .flat_map(|site| site.keys.iter().map(move |key| (format!("site '{}'", site.name), SharedKey::from(key))));
    let site_keys: Vec<SiteKey> = of_servers.chain(of_sites).collect();
    let reading = &mut Reading { site_keys: &site_keys, folder };

    let asking = asking(given, reading, findings);
    let clients = given.client.iter().map(|item| {
        let from: Option<Vec<Prefix>> = item.from.iter().map(|prefix| values::eid_prefix(prefix, findings)).collect();
        let given = (item.key.as_ref(), item.keys.as_deref());
        let keys = reading.keys("a client of LISP-SEC", given, findings);
        Some(Client { from: from?, keys: keys? })
    });
    let clients = clients.collect::<Vec<Option<Client>>>();
    let servers = given.map_server.iter().map(|item| server(item, reading, findings)).collect::<Vec<_>>();
    if given.client.len().max(given.map_server.len()) > GROUPS_MAX {
        let what = format!("more than {GROUPS_MAX} clients or Map-Servers of LISP-SEC");
        findings.wrong(&Place::Whole, what, "share one key by several: keys = [...] takes up to 8");
    } else {
        ambiguous(given, &clients, findings);
    }
    let strict = given.strict.as_ref().is_some_and(|strict| strict.value);
    fits(draft, given, roles, findings);
    let own = map_servers.iter().flat_map(|server| &server.keys);
    let gate = gate::Settings {
        clients: clients.into_iter().flatten().collect(),
        site_keys: own.map(SharedKey::from).collect(),
        servers: servers.into_iter().flatten().collect(),
        strict,
    };
    Some(Settings { asking, gate })
}

struct Reading<'a> {
    /// Those that no other secret may be.
    site_keys: &'a [SiteKey],
    folder: &'a Path,
}

impl Reading<'_> {
    /// One or more keys, none of them a site's: whoever knows the one key must not learn what the other protects (RFC 9303 §6.5).
    fn keys(
        &mut self,
        owner: &str,
        given: (Option<&KeyDraft>, Option<&[KeyDraft]>),
        findings: &mut Findings,
    ) -> Option<Vec<SharedKey>> {
        let drafts = || given.0.into_iter().chain(given.1.into_iter().flatten());
        let place = place_of(drafts());
        for algorithm in drafts().filter_map(|draft| draft.algorithm.as_ref()) {
            let remedy = "take it away: [lisp-sec] algorithms says what answers are signed with";
            findings.wrong(&algorithm.place, format!("a key of {owner} has an algorithm"), remedy);
        }
        let keys = key::keys(owner, &place, given, self.folder, findings)?;
        if keys.is_empty() {
            let remedy = "add key = { secret-file = \"PATH\" }: a file whose first line is the secret";
            findings.wrong(&place, format!("{owner} has no key"), remedy);
            return None;
        }
        let keys: Vec<SharedKey> = keys.iter().map(SharedKey::from).collect();
        for key in &keys {
            if let Some((whose, _)) = self.site_keys.iter().find(|(_, other)| other.is_same_secret(key)) {
                let what = format!("the secret of {owner} is also that of {whose}");
                findings.wrong(&place, what, "make one of its own: an ETR could otherwise sign for others");
            }
        }
        Some(keys)
    }
}

/// Where keys are given.
fn place_of<'a>(mut drafts: impl Iterator<Item = &'a KeyDraft>) -> Place {
    let place = drafts.find_map(|draft| {
        let secret = draft.secret.as_ref().map(|secret| &secret.place);
        secret.or(draft.secret_file.as_ref().map(|file| &file.place)).or(draft.id.as_ref().map(|id| &id.place))
    });
    place.cloned().unwrap_or(Place::Whole)
}

/// Two groups with keys of one ID whose addresses overlap: each message would have all such keys tried, and no more than
/// some are.
fn ambiguous(given: &LispSecDraft, clients: &[Option<Client>], findings: &mut Findings) {
    for (index, (client, item)) in clients.iter().zip(&given.client).enumerate() {
        let Some(client) = client else { continue };
        let before = clients[..index].iter().flatten().filter(|before| before.overlaps(client));
        let mut same =
            before.flat_map(|before| &before.keys).filter(|key| client.keys.iter().any(|own| own.id == key.id));
        if let Some(same) = same.next() {
            let what = format!("Key ID {} is that of two clients of LISP-SEC whose addresses overlap", same.id);
            let place = place_of(item.key.iter().chain(item.keys.iter().flatten()));
            findings.wrong(
                &place,
                what,
                "give them keys of other IDs, or narrow from: messages name their key by its ID",
            );
        }
    }
}

fn asking(given: &LispSecDraft, reading: &mut Reading<'_>, findings: &mut Findings) -> Option<Asking> {
    let names = given.algorithms.as_deref().unwrap_or_default();
    let algorithms = names.iter().filter_map(|name| values::choice(name, "algorithm", findings));
    let mut algorithms: Vec<Hash> = algorithms
        .map(|name| match name {
            SignatureName::Sha256 => Hash::Sha256,
            SignatureName::Sha1 => Hash::Sha1,
        })
        .collect();
    if algorithms.is_empty() {
        algorithms.push(Hash::Sha256);
    }
    let keys = reading.keys("our Map-Resolvers", (Some(given.key.as_ref()?), None), findings)?;
    let downgrade = given.downgrade.as_ref().is_some_and(|downgrade| downgrade.value);
    Some(Asking { key: keys.into_iter().next()?, algorithms, downgrade })
}

fn server(item: &ServerDraft, reading: &mut Reading<'_>, findings: &mut Findings) -> Option<Server> {
    let address: Option<IpAddr> = roles::findings_rloc(&item.address, findings);
    let eids = item.eid_prefixes.iter().map(|prefix| eid_prefix(prefix, item.instance.as_ref(), findings));
    let eids: Option<Vec<_>> = eids.collect::<Vec<_>>().into_iter().collect();
    let owner = format!("Map-Server {} of LISP-SEC", item.address.value);
    let keys = reading.keys(&owner, (Some(&item.key), None), findings)?;
    Some(Server { address: address?, eids: eids?, key: keys.into_iter().next()? })
}

/// Whether the settings and the rest of the configuration go together. One-Time Keys travel in ECMs, never over the ALT.
fn fits(draft: &Draft, given: &LispSecDraft, roles: &Roles, findings: &mut Findings) {
    let is_on = |switch: &Option<Given<bool>>| switch.as_ref().filter(|switch| switch.value).map(|on| on.place.clone());
    let asks = !draft.site_ports.is_empty() || roles.proxies.is_on();
    let built_in = ResolverName::BuiltIn.to_string();
    let asks = asks && draft.settings.resolver.as_ref().is_none_or(|name| name.value == built_in);
    let resolvers = draft.settings.map_resolvers.as_ref().is_some_and(|list| !list.is_empty());
    if let Some(strict) = is_on(&given.strict) {
        if asks && !resolvers {
            findings.missing(
                &strict,
                "strict LISP-SEC, and there is no Map-Resolver to ask: what goes over the ALT has no protection",
                "add --map-resolver ADDR and [lisp-sec] key, or leave strict out",
            );
        } else if asks && given.key.is_none() {
            findings.missing(
                &strict,
                "strict LISP-SEC, and no key is shared with the Map-Resolvers",
                "add key = { secret-file = \"PATH\" } to [lisp-sec]",
            );
        }
        if let Some(place) = is_on(&given.downgrade) {
            findings.wrong(&place, "downgrade and strict exclude each other", "keep one of them");
        }
    }
    if given.key.is_some() && !resolvers {
        findings.missing(
            &Place::Whole,
            "[lisp-sec] has a key for Map-Resolvers, and there is none to ask",
            "add --map-resolver ADDR or map-resolvers = [...]: One-Time Keys do not go over the ALT",
        );
    }
    let place = [&given.downgrade].into_iter().find_map(is_on);
    if let (Some(place), None) = (place, &given.key) {
        findings.wrong(&place, "downgrade is for an ITR, and there is no key to ask with", "take it away, or add key");
    }
    if given.key.is_none() && asks && resolvers && is_on(&given.strict).is_none() {
        findings.warn(
            &Place::Whole,
            "LISP-SEC is on, and our own Map-Requests go without it",
            "add key = { secret-file = \"PATH\" } to [lisp-sec]: a secret shared with the Map-Resolvers",
        );
    }
    let hands_on = draft.roles.map_resolver.is_some() && !draft.tunnels.is_empty() && !given.client.is_empty();
    if hands_on && given.map_server.is_empty() {
        findings.warn(
            &Place::Whole,
            "protected Map-Requests of clients cannot go over the ALT, and only our own sites are reached without it",
            "add [[lisp-sec.map-server]]: whom to hand them to",
        );
    }
}
