//! PubSub: what we subscribe to, and who may subscribe at our Map-Server.

use std::{path::Path, time::Duration};

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::{Findings, Unique, eid_prefix, key, map_server, values};
use crate::{
    config::{Draft, Given, Place, PubSub, PubSubDraft, Roles, SubscribeName, SubscriberDraft, Subscribing},
    lisp_sec,
    map_server::{Peer, Publishing},
    pubsub::SUBSCRIPTIONS_MAX,
    rate::Rate,
    wire::Key,
};

/// Most prefixes that are subscribed to in any case, and most that a subscriber is limited to.
const PREFIXES_MAX: usize = 1024;
/// Of a rate, the part that may come at once.
const BURST: u32 = 10;

/// What else subscriptions depend on.
struct Around<'a> {
    database: &'a [Given<Mapping>],
    roles: &'a Roles,
    lisp_sec: Option<&'a lisp_sec::Settings>,
    folder: &'a Path,
}

impl Around<'_> {
    /// Whether our own Map-Requests are protected: then keys come of their One-Time Keys (RFC 9437 §7.1).
    fn asks(&self) -> bool {
        self.lisp_sec.is_some_and(|settings| settings.asking.is_some())
    }

    /// Whether others can ask us with protection.
    fn is_asked(&self) -> bool {
        self.lisp_sec.is_some_and(|settings| !settings.gate.clients.is_empty())
    }

    fn is_strict(&self) -> bool {
        self.lisp_sec.is_some_and(|settings| settings.gate.strict)
    }
}

pub(super) fn pubsub(
    draft: &Draft,
    (database, roles, lisp_sec): (&[Given<Mapping>], &Roles, Option<&lisp_sec::Settings>),
    folder: &Path,
    findings: &mut Findings,
) -> PubSub {
    let around = &Around { database, roles, lisp_sec, folder };
    let own = &draft.pubsub;
    let lookups = own
        .subscribe
        .as_ref()
        .map_or(Some(SubscribeName::Off), |given| values::choice::<SubscribeName>(given, "subscribe", findings));
    let lookups = lookups == Some(SubscribeName::Lookups);
    let fixed = prefixes(own.prefixes.as_deref().unwrap_or_default(), own.instance.as_ref(), findings);
    let publishes = own.publish.as_ref().is_some_and(|given| given.value);
    let max = own
        .max_subscriptions
        .as_ref()
        .map_or(Some(SUBSCRIPTIONS_MAX), |given| values::number(given, "max-subscriptions", 1..=1 << 20, findings));
    let at = own.subscribe.as_ref().or_else(|| own.prefixes.as_ref()?.first()).map(|given| given.place.clone());
    let place = at.or_else(|| own.publish.as_ref().map(|given| given.place.clone())).unwrap_or(Place::Whole);
    let keys = key::keys("[pubsub]", &place, (own.key.as_ref(), own.keys.as_deref()), folder, findings);
    let keys = keys.unwrap_or_default();
    let subscribes = lookups || !fixed.is_empty();
    if subscribes {
        subscribing(draft, around, &fixed, &place, &keys, findings);
    }
    if !subscribes && !publishes && (own.key.is_some() || own.keys.is_some() || !own.subscriber.is_empty()) {
        let remedy = "add subscribe = \"lookups\" for an ITR, or publish = true for a Map-Server";
        findings.warn(&place, "[pubsub] has keys that nobody uses", remedy);
    }
    let publish = publishes.then(|| publishing(own, around, &place, &keys, findings)).flatten();
    let subscribe = (subscribes && (!keys.is_empty() || around.asks())).then(|| Subscribing {
        lookups,
        fixed,
        keys,
        max: max.unwrap_or(SUBSCRIPTIONS_MAX),
    });
    PubSub { subscribe, publish }
}

fn prefixes(given: &[Given<String>], instance: Option<&Given<i64>>, findings: &mut Findings) -> Vec<EidPrefix> {
    if let Some(extra) = given.get(PREFIXES_MAX) {
        let what = format!("{} prefixes are more than {PREFIXES_MAX}", given.len());
        findings.wrong(&extra.place, what, "give the wider ones that they lie in");
    }
    given.iter().filter_map(|prefix| eid_prefix(prefix, instance, findings)).collect()
}

/// What a subscriber needs beside its prefixes.
fn subscribing(
    draft: &Draft,
    around: &Around<'_>,
    fixed: &[EidPrefix],
    place: &Place,
    keys: &[Key],
    findings: &mut Findings,
) {
    let unprotected = !around.asks() && draft.lisp_sec.as_ref().is_none_or(|given| given.key.is_none());
    if around.is_strict() && unprotected {
        let remedy =
            "add key = { secret-file = \"PATH\" } to [lisp-sec], shared with the Map-Resolvers, or leave strict out";
        findings.wrong(place, "strict LISP-SEC, and subscriptions would go out without it", remedy);
    } else if keys.is_empty() && draft.pubsub.key.is_none() && draft.pubsub.keys.is_none() && unprotected {
        let remedy = "add key = { secret-file = \"PATH\" } to [pubsub], the same as at the Map-Servers, or one to [lisp-sec], \
                      shared with the Map-Resolvers: then each subscription makes its own";
        findings.wrong(place, "subscriptions have no key: no Map-Notify would be believed", remedy);
    }
    if draft.settings.rlocs.as_ref().is_none_or(Vec::is_empty) {
        findings.missing(place, "subscriptions need an RLOC to be told at", "add --rloc ADDR or rlocs = [...]");
    }
    if draft.settings.map_resolvers.as_ref().is_none_or(Vec::is_empty) && draft.tunnels.is_empty() {
        let remedy = "add --map-resolver ADDR or map-resolvers = [...], or an ALT tunnel";
        findings.missing(place, "there is nobody to subscribe with", remedy);
    }
    for eid in fixed {
        if let Some(own) = around.database.iter().find(|own| own.value.eid.covers(eid)) {
            let what = format!("prefix {eid} to subscribe to lies inside our own EID-prefix {}", own.value.eid);
            findings.wrong(place, what, "take it away: the site's mappings are known here");
        }
    }
}

fn publishing(
    own: &PubSubDraft,
    around: &Around<'_>,
    place: &Place,
    keys: &[Key],
    findings: &mut Findings,
) -> Option<Publishing> {
    if around.is_strict() && !around.is_asked() {
        let remedy =
            "add [[lisp-sec.client]] with a key of the subscribers or of their Map-Resolvers, or leave strict out";
        findings.missing(place, "strict LISP-SEC, and nobody can ask with it: no subscription would be taken", remedy);
    }
    if around.roles.sites.iter().all(|site| site.keys.is_empty()) {
        let remedy = "add a [[site]] with a key: subscribers hear of what is registered";
        findings.missing(place, "there is nothing to publish: no site can register here", remedy);
    }
    let mut seen = Unique::new();
    let mut peers: Vec<Peer> = Vec::new();
    for item in &own.subscriber {
        let peer = peer(item, keys, around, findings);
        let Some(peer) = findings.gap(peer) else { continue };
        if !seen.first(peer.xtr_id) {
            let what = format!("subscriber {} is given twice", item.xtr_id.value);
            findings.wrong(&item.xtr_id.place, what, "keep one, with all its keys and prefixes");
        }
        peers.push(peer);
    }
    if peers.is_empty() && keys.is_empty() && !around.is_asked() {
        let remedy = "add key = { secret-file = \"PATH\" } to [pubsub], or a [[pubsub.subscriber]] with one, or \
                      [[lisp-sec.client]]: then each subscription makes its own";
        findings.missing(place, "nobody could subscribe: no key is shared with anybody", remedy);
    }
    // With subscribers named, those are all there are.
    if peers.is_empty() {
        peers.push(Peer { xtr_id: None, keys: keys.to_vec(), eids: Vec::new() });
    }
    let mut number = |given: &Option<Given<i64>>, name: &str, max: i64, default: usize| {
        given.as_ref().map_or(Some(default), |given| values::number(given, name, 1..=max, findings))
    };
    let default = Publishing::new(Vec::new());
    let each_max = number(&own.max_subscriptions, "max-subscriptions", 1 << 20, default.each_max);
    let all_max = number(&own.max_subscribers, "max-subscribers", 1 << 22, default.all_max);
    let rate = number(&own.notify_rate, "notify-rate", 1_000_000, 1000);
    let temporary = number(&own.temporary, "temporary", 1440, default.temporary_minutes as usize);
    let rate = u32::try_from(rate?).ok()?;
    Some(Publishing {
        peers,
        each_max: each_max?,
        all_max: all_max?,
        pace: Rate { burst: (rate / BURST).max(1), every: Duration::from_secs(1) / rate },
        temporary_minutes: u32::try_from(temporary?).ok()?,
    })
}

fn peer(item: &SubscriberDraft, common: &[Key], around: &Around<'_>, findings: &mut Findings) -> Option<Peer> {
    let xtr_id = map_server::hex(&item.xtr_id, "xtr-id", 32, findings)?;
    let place = &item.xtr_id.place;
    let owner = format!("subscriber {}", item.xtr_id.value);
    let keys = key::keys(&owner, place, (item.key.as_ref(), item.keys.as_deref()), around.folder, findings)?;
    let keys = if keys.is_empty() { common.to_vec() } else { keys };
    // An xTR-ID alone is a claim: LISP-SEC proves whose key a Map-Request came under, and nothing of xTR-IDs.
    if keys.is_empty() {
        let remedy = "add key = { secret-file = \"PATH\" } to it, or to [pubsub] for all: an xTR-ID proves nothing, \
                      with [[lisp-sec.client]] either";
        findings.wrong(place, format!("{owner} has no key"), remedy);
    }
    let given = item.eid_prefixes.as_deref().unwrap_or_default();
    if item.eid_prefixes.as_ref().is_some_and(Vec::is_empty) {
        findings.wrong(
            place,
            format!("the eid-prefixes of {owner} are an empty list"),
            "name some, or take the line away",
        );
    }
    let eids = prefixes(given, item.instance.as_ref(), findings);
    (!keys.is_empty()).then(|| Peer { xtr_id: Some(xtr_id.to_be_bytes()), keys, eids })
}
