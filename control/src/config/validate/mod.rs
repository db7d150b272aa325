//! [`Draft`] → [`Config`]: every value read, every part checked against the others.

mod alt;
mod bgp;
mod features;
mod key;
mod lisp_sec;
mod map_server;
mod nat;
mod ports;
mod probing;
mod proxy;
mod pubsub;
mod rib;
mod roles;
mod settings;
mod site;
mod sites;
pub(super) mod values;

use std::{collections::HashMap, hash::Hash, net::IpAddr};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Mapping};

use super::{
    Config, Draft, Given, Machine, Place, Problems, Tunnel,
    problem::{Finding, Source},
};

/// What was found wrong so far.
struct Findings {
    list: Vec<Finding>,
    /// What is unwise.
    warnings: Vec<Finding>,
    /// Something could not be read: that a thing is missing is then no news.
    incomplete: bool,
}

impl Findings {
    fn wrong(&mut self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        self.list.push(Finding { place: place.clone(), what: what.into(), remedy: remedy.into() });
    }

    /// Says that something is unwise.
    fn warn(&mut self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Finding { place: place.clone(), what: what.into(), remedy: remedy.into() });
    }

    /// Says that something is missing, unless it may be among what could not be read.
    fn missing(&mut self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        if !self.incomplete {
            self.wrong(place, what, remedy);
        }
    }

    /// Notes that something is there but unreadable, and was reported.
    fn gap<T>(&mut self, value: Option<T>) -> Option<T> {
        self.incomplete |= value.is_none();
        value
    }
}

/// Things of which there may be one each.
struct Unique<K>(HashMap<K, ()>);

impl<K: Eq + Hash> Unique<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// False if `key` was there before.
    fn first(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }
}

/// Checks the whole; `found` is what reading the file found already.
pub(super) fn validate(
    draft: &Draft,
    machine: &Machine,
    found: Vec<Finding>,
    source: &Source<'_>,
) -> Result<Config, Problems> {
    let findings = &mut Findings { incomplete: !found.is_empty(), list: found, warnings: Vec::new() };
    let (rlocs, ports) = (sites::rlocs(draft, findings), ports::ports(draft, findings));
    let database = sites::database(draft, &rlocs, findings);
    let map_cache = sites::map_cache(draft, &rlocs, &database, findings);
    let tunnels = alt::tunnels(draft, &rlocs, &ports, findings);
    let routes = alt::routes(draft, &tunnels, findings);
    let ribs = rib::sources(draft, &tunnels, &database, &routes, findings);
    let folder = source.folder();
    let around = bgp::Around { tunnels: &tunnels, rlocs: &rlocs, database: &database, routes: &routes, folder };
    let speaker = bgp::speaker(draft, &around, findings);
    let roles = roles::roles(draft, &rlocs, &database, &map_cache, &ports, folder, findings);
    let map_servers = map_server::map_servers(draft, &rlocs, &database, folder, findings);
    let probing = probing::probing(&draft.probing, &rlocs, findings);
    let lisp_sec = lisp_sec::lisp_sec(draft, &roles, &map_servers, folder, findings);
    let features = features::features(draft, &database, probing.is_some(), findings);
    let pubsub = pubsub::pubsub(draft, (&database, &roles, lisp_sec.as_ref()), folder, findings);
    let nat = nat::nat(draft, (&rlocs, &database), &roles, &map_servers, folder, findings);
    whole(draft, &rlocs, &tunnels, &database, findings);
    match settings::tuning(&draft.settings, ports.len(), machine, findings) {
        Some(tuning) if findings.list.is_empty() => Ok(Config {
            ports,
            rlocs: rlocs.into_iter().map(|rloc| rloc.value).collect(),
            database: database.into_iter().map(|mapping| mapping.value).collect(),
            map_cache,
            tunnels: tunnels.into_iter().map(|tunnel| tunnel.value).collect(),
            routes,
            ribs,
            speaker,
            announce_database: bgp::announces_database(draft),
            roles,
            map_servers,
            identity: tuning.identity,
            state_dir: tuning.state_dir,
            probing,
            features,
            pubsub,
            nat,
            lisp_sec,
            workers: tuning.workers,
            control_core: tuning.control_core,
            xdp: tuning.xdp,
            bind: tuning.bind,
            busy_poll: tuning.busy_poll,
            ring: tuning.ring,
            frames: tuning.frames,
            hugepages: tuning.hugepages,
            map_cache_max: tuning.map_cache_max,
            batch: tuning.batch,
            hold: tuning.hold,
            source_check: tuning.source_check,
            dscp: tuning.dscp,
            path_mtu: tuning.path_mtu,
            site_routes: tuning.site_routes,
            resolver: tuning.resolver,
            api: tuning.api,
            metrics: tuning.metrics,
            api_read_only: tuning.api_read_only,
            log: tuning.log,
            log_format: tuning.log_format,
            warnings: source.locate(std::mem::take(&mut findings.warnings)).0,
        }),
        _ => Err(source.locate(std::mem::take(&mut findings.list))),
    }
}

/// What no part can see by itself.
fn whole(
    draft: &Draft,
    rlocs: &[Given<IpAddr>],
    tunnels: &[Given<Tunnel>],
    database: &[Given<Mapping>],
    findings: &mut Findings,
) {
    apart(rlocs, tunnels, database, findings);
    complete(draft, findings);
}

/// RLOCs and tunnel ends live outside our EID-prefixes: neither may need LISP to be reached (RFC 9300 §4, RFC 9301
/// §8.1).
fn apart(rlocs: &[Given<IpAddr>], tunnels: &[Given<Tunnel>], database: &[Given<Mapping>], findings: &mut Findings) {
    let within = |address: IpAddr| database.iter().map(|own| own.value.eid).find(|eid| eid.prefix.contains(address));
    for rloc in rlocs {
        if let Some(eid) = within(rloc.value) {
            findings.wrong(
                &rloc.place,
                format!("RLOC {} lies inside our own EID-prefix {eid}", rloc.value),
                "an RLOC is an address of the core: give another RLOC, or a longer EID-prefix that leaves it out",
            );
        }
    }
    for tunnel in tunnels {
        for (end, address) in [("remote", tunnel.value.remote), ("local", tunnel.value.local)] {
            if let Some(eid) = within(address) {
                findings.wrong(
                    &tunnel.place,
                    format!("{end} end {address} of tunnel {} lies inside our own EID-prefix {eid}", tunnel.value.name),
                    "tunnels of the ALT run over the core: give an RLOC",
                );
            }
        }
    }
}

/// A site needs a port of its instance, a core port and an RLOC; a router needs something to do.
fn complete(draft: &Draft, findings: &mut Findings) {
    let place = &Place::Whole;
    let (site, core) = (!draft.site_ports.is_empty(), !draft.core_ports.is_empty());
    let eids = !draft.eid_prefixes.is_empty();
    let role = draft.roles.map_resolver.is_some() || !draft.roles.sites.is_empty();
    let proxy = draft.roles.petr.is_some()
        || draft.roles.rtr.is_some()
        || !draft.roles.pitr_prefixes.is_empty()
        || !draft.native_ports.is_empty();
    if !site && !core && !eids && !role && !proxy && draft.tunnels.is_empty() {
        findings.missing(
            place,
            "there is nothing to do: neither ports nor ALT tunnels",
            "give --site-port, --core-port, --rloc and --eid-prefix for a site, or --alt-tunnel for an ALT router",
        );
        return;
    }
    if (site || eids || proxy) && !core {
        findings.missing(place, "no core port", "add --core-port IF or [[core-port]]: the interface towards the RLOCs");
    }
    if (core || eids || proxy) && draft.settings.rlocs.as_ref().is_none_or(Vec::is_empty) {
        findings.missing(place, "no RLOC", "add --rloc ADDR or rlocs = [...]: our address on the core port");
    }
    let instance = |given: Option<&Given<i64>>| given.map_or(0, |given| given.value);
    for eid in &draft.eid_prefixes {
        let own = instance(eid.instance.as_ref());
        if !draft.site_ports.iter().any(|port| instance(port.instance.as_ref()) == own) {
            findings.missing(
                &eid.prefix.place,
                format!("EID-prefix {} is of instance {own}, but no site port is", eid.prefix.value),
                format!("add --site-port IF:{own} or [[site-port]]: the interface towards its hosts"),
            );
        }
    }
    for port in &draft.site_ports {
        let own = instance(port.instance.as_ref());
        if !draft.eid_prefixes.iter().any(|eid| instance(eid.instance.as_ref()) == own) {
            findings.missing(
                &port.name.place,
                format!("site port {} is of instance {own}, but no EID-prefix is", port.name.value),
                "add --eid-prefix PREFIX or [[eid-prefix]]: the addresses of its hosts",
            );
        }
    }
}

/// An EID-prefix from its two parts.
fn eid_prefix(prefix: &Given<String>, instance: Option<&Given<i64>>, findings: &mut Findings) -> Option<EidPrefix> {
    let prefix = values::eid_prefix(prefix, findings);
    let instance = match instance {
        None => Some(InstanceId::DEFAULT),
        Some(given) => values::instance(given, findings),
    };
    Some(EidPrefix { prefix: prefix?, instance: instance? })
}
