//! Answers as one JSON document each. Stable: keys may be added, none changes or goes.
//!
//! ```text
//! map-cache  { "map-cache": [entry…] }
//! database   { "database": [entry…] }
//! locators   { "locators": [{ "address", "up", "why", "mappings", "carrying",
//!                              "probing": { "state", "since", "held", "rtt", "rtt-variation", "sent", "answered", "lost" } }…] }
//! counters   { "workers": [{ "worker": 0, "counters": { name: number… } }…], "control": { name: number… } }
//! ports      { "ports": [{ "name", "index", "site", "core", "instance", "up", "zero-copy", "mtu", "mac",
//!                          "counters": { name: number… } }…] }
//! alt        { "tunnels": [{ "name", "state", "local", "remote", "key", "checksum", "addresses": ["address/length"…],
//!                            "counters": { name: number… } }…],
//!              "sources": [{ "instance", "source", "prefixes", "ready" }…],
//!              "routes": [{ "eid", "instance", "via" }…] }
//! bgp        { "as", "router-id", "restarting",
//!              "neighbors": [{ "address", "name", "as", "instance", "tunnel", "local", "state", "since", "router-id",
//!                              "hold", "capabilities": [name…], "received", "advertised",
//!                              "last-down": { "ago", "reason" }, "retry", "stale", "counters": { name: number… } }…] }
//! bgp routes { "routes": [{ "eid", "instance", "origin", "neighbor", "best", "why-not", "stale", "as-path", "med",
//!                           "communities": ["a:b"…] }…] }
//! registrations { "registrations": [{ "map-server", "standing", "since", "sent", "confirmed", "last-notify", "why",
//!                                     "remedy", "prefixes": [{ "eid", "instance", "standing", "since" }…] }…] }
//! subscriptions { "subscriptions": [{ "eid", "instance", "standing", "since", "map-server", "nonce", "notifies" }…],
//!                 "subscribers": [{ "eid", "instance", "xtr-id", "site-id", "standing", "since", "left", "itr-rlocs", "nonce",
//!                                   "waiting" }…] }
//! nat        { "bindings": [{ "state", "translated", "translated-port", "rloc", "inner", "inner-port", "xtr-id", "site-id", "nonce",
//!                             "age", "heard", "eid-prefixes": [{ "eid", "instance" }…] }…] }
//! sites      { "sites": [{ "name", "keyed", "denied", "etrs": [address…],
//!                          "prefixes": [{ "eid", "instance",
//!                                         "xtrs": [{ "xtr-id", "site-id", "from", "key", "since", "left", "proxy", "merge",
//!                                                    "lisp-sec", "ttl",
//!                                                    "locators": [{ "address", "priority", "weight", "reachable" }…] }…] }…],
//!                          "refused": { "reason", "from", "port", "key", "ago" } }…] }
//! entry      { "eid", "instance", "ttl", "left", "version", "origin", "action", "authoritative", "packets", "octets",
//!              "created", "used",
//!              "locators": [{ "address", "priority", "weight", "multicast-priority", "multicast-weight", "local",
//!                             "reachable", "up", "taken-out" }…] }
//! ```
//!
//! `ttl` and `left` are seconds, `created` and `used` milliseconds since 1970; null where there is none: no TTL, an
//! entry that stays, one that was not used, the action of an entry with locators, a tunnel without a key, `via` of a
//! hole, `mac` of an interface that is gone, what there is of a session only while it is up. `since`, `ago`, `retry`,
//! `stale` and `last-notify` (how long ago) are seconds, `rtt` and `rtt-variation` microseconds and null before the first
//! answer, `probing` null where it is not done, `routes` of alt the static ones. Counters at zero are there.

use std::time::{SystemTime, UNIX_EPOCH};

use altitude_control::api::{
    Counts, Entry, EntryLocator, PortStatus, RouteStatus, Scope, SourceStatus, Stat, TunnelStatus,
};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::Answer;

/// The document with a newline at its end.
pub(super) fn document(answer: &Answer) -> String {
    let document = match answer {
        Answer::MapCache(entries) => json!({ "map-cache": all(entries, EntryDocument::new) }),
        Answer::Database(entries) => json!({ "database": all(entries, EntryDocument::new) }),
        Answer::Locators(locators) => super::locators::document(locators),
        Answer::Counters(counts) => json!({ "workers": workers(counts), "control": control(counts) }),
        Answer::Ports(ports) => json!({ "ports": all(ports, PortDocument::new) }),
        Answer::Alt(alt) => json!({
            "tunnels": all(&alt.tunnels, TunnelDocument::new),
            "sources": all(&alt.sources, SourceDocument::new),
            "routes": all(&alt.routes, RouteDocument::new),
        }),
        Answer::Registrations(list) => super::registration::document(list),
        Answer::Subscriptions(list) => super::subscriptions::document(list),
        Answer::Nat(list) => super::nat::document(list),
        Answer::Bgp(status, only) => super::bgp::document(status, only.as_deref()),
    };
    format!("{document:#}\n")
}

fn all<'a, T, D: Serialize>(items: &'a [T], document: impl Fn(&'a T) -> D) -> Vec<D> {
    items.iter().map(document).collect()
}

/// Counters as an object.
pub(super) fn counters(stats: &[Stat]) -> impl Serialize {
    Named(stats)
}

/// Counters as an object.
struct Named<'a>(&'a [Stat]);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|stat| (&stat.name, stat.value)))
    }
}

#[derive(Serialize)]
struct WorkerDocument<'a> {
    worker: u16,
    counters: Named<'a>,
}

fn workers(counts: &[Counts]) -> Vec<WorkerDocument<'_>> {
    let of = |counts: &'_ Counts| match counts.scope {
        Scope::Worker(worker) => Some(worker),
        Scope::Control => None,
    };
    counts
        .iter()
        .filter_map(|counts| of(counts).map(|worker| WorkerDocument { worker, counters: Named(&counts.stats) }))
        .collect()
}

fn control(counts: &[Counts]) -> Named<'_> {
    Named(counts.iter().find(|counts| counts.scope == Scope::Control).map_or(&[], |counts| &counts.stats))
}

/// One entry.
pub(crate) fn entry(entry: &Entry) -> serde_json::Value {
    json!(EntryDocument::new(entry))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct EntryDocument {
    eid: String,
    instance: u32,
    ttl: Option<u64>,
    left: Option<u64>,
    version: u16,
    origin: &'static str,
    action: Option<String>,
    authoritative: bool,
    packets: u64,
    octets: u64,
    created: u64,
    used: Option<u64>,
    locators: Vec<LocatorDocument>,
}

impl EntryDocument {
    fn new(entry: &Entry) -> Self {
        let milliseconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self {
            eid: entry.eid.prefix.to_string(),
            instance: entry.eid.instance.get(),
            ttl: entry.ttl.map(|ttl| ttl.as_secs()),
            left: entry.left.map(|left| left.as_secs()),
            version: entry.version,
            origin: entry.origin.name(),
            action: entry.locators.is_empty().then(|| entry.action.to_string()),
            authoritative: entry.authoritative,
            packets: entry.packets,
            octets: entry.octets,
            created: milliseconds(entry.created),
            used: entry.used.map(milliseconds),
            locators: all(&entry.locators, LocatorDocument::new),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct LocatorDocument {
    address: String,
    priority: u8,
    weight: u8,
    multicast_priority: u8,
    multicast_weight: u8,
    local: bool,
    reachable: bool,
    up: bool,
    taken_out: bool,
}

impl LocatorDocument {
    fn new(EntryLocator { locator, up, bad }: &EntryLocator) -> Self {
        Self {
            address: locator.address.to_string(),
            priority: locator.priority,
            weight: locator.weight,
            multicast_priority: locator.multicast_priority,
            multicast_weight: locator.multicast_weight,
            local: locator.local,
            reachable: locator.reachable,
            up: *up,
            taken_out: *bad,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PortDocument<'a> {
    name: &'a str,
    index: u32,
    site: bool,
    core: bool,
    native: bool,
    instance: u32,
    up: bool,
    zero_copy: bool,
    mtu: u16,
    mac: Option<String>,
    counters: Named<'a>,
}

impl<'a> PortDocument<'a> {
    fn new(port: &'a PortStatus) -> Self {
        Self {
            name: &port.name,
            index: port.index,
            site: port.site,
            core: port.core,
            native: port.native,
            instance: port.instance.get(),
            up: port.up,
            zero_copy: port.zero_copy,
            mtu: port.mtu,
            mac: port.mac.map(super::text::mac),
            counters: Named(&port.stats),
        }
    }
}

#[derive(Serialize)]
struct TunnelDocument<'a> {
    name: &'a str,
    state: &'static str,
    local: String,
    remote: String,
    key: Option<u32>,
    checksum: bool,
    addresses: Vec<String>,
    counters: Named<'a>,
}

impl<'a> TunnelDocument<'a> {
    fn new(tunnel: &'a TunnelStatus) -> Self {
        Self {
            name: &tunnel.name,
            state: if tunnel.up { "up" } else { "down" },
            local: tunnel.local.to_string(),
            remote: tunnel.remote.to_string(),
            key: tunnel.key,
            checksum: tunnel.checksum,
            addresses: tunnel.addresses.iter().map(|(address, length)| format!("{address}/{length}")).collect(),
            counters: Named(&tunnel.stats),
        }
    }
}

#[derive(Serialize)]
struct SourceDocument<'a> {
    instance: u32,
    source: &'a str,
    prefixes: u64,
    ready: bool,
}

impl<'a> SourceDocument<'a> {
    fn new(source: &'a SourceStatus) -> Self {
        let SourceStatus { instance, source, ready, prefixes } = source;
        Self { instance: instance.get(), source, prefixes: *prefixes, ready: *ready }
    }
}

#[derive(Serialize)]
struct RouteDocument<'a> {
    eid: String,
    instance: u32,
    via: Option<&'a str>,
}

impl<'a> RouteDocument<'a> {
    fn new(route: &'a RouteStatus) -> Self {
        Self { eid: route.eid.prefix.to_string(), instance: route.eid.instance.get(), via: route.via.as_deref() }
    }
}
