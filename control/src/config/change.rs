//! From one configuration to the next while the router runs: what is to be done, or what cannot change live.

use std::collections::BTreeSet;

use altitude_dataplane::mapping::{EidPrefix, Mapping};
use hashbrown::{HashMap, HashSet};

use super::{Config, Hop, Route};

/// What is to be done so that a router of the old configuration is one of the new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Prefixes that are ours no more.
    pub prefixes_gone: Vec<EidPrefix>,
    /// Prefixes that are ours from now on.
    pub prefixes_new: Vec<EidPrefix>,
    /// Prefixes of ours with other locators, TTL or version.
    pub prefixes_changed: Vec<EidPrefix>,
    /// Static mappings to be taken out.
    pub static_gone: Vec<EidPrefix>,
    /// Static mappings that are new, or say something else.
    pub static_new: Vec<EidPrefix>,
    /// Static routes of the ALT are other ones.
    pub routes: bool,
    /// EID-prefixes that BGP neighbours are to be told of no more.
    pub withdrawn: Vec<EidPrefix>,
    /// EID-prefixes that they are to be told of.
    pub originated: Vec<EidPrefix>,
    /// Other Map-Resolvers are asked.
    pub map_resolvers: bool,
    /// Another log level.
    pub log: bool,
}

impl Changes {
    /// How many things change.
    #[must_use]
    pub fn count(&self) -> usize {
        let prefixes = self.prefixes_gone.len() + self.prefixes_new.len() + self.prefixes_changed.len();
        let flags = [self.routes, self.map_resolvers, self.log];
        prefixes + self.static_gone.len() + self.static_new.len() + flags.into_iter().filter(|flag| *flag).count()
    }
}

/// Compares the two.
///
/// # Errors
/// The settings that are other ones and cannot change while the router runs, as the file names them.
pub fn compare(old: &Config, new: &Config) -> Result<Changes, Vec<&'static str>> {
    let fixed = fixed(old, new);
    if !fixed.is_empty() {
        return Err(fixed);
    }
    let (prefixes_gone, prefixes_new, prefixes_changed) = mappings(&old.database, &new.database);
    let (static_gone, mut static_new, static_changed) = mappings(&old.map_cache, &new.map_cache);
    static_new.extend(static_changed);
    let originated = |config: &Config| -> BTreeSet<EidPrefix> {
        config.speaker.iter().flat_map(|own| &own.originate).copied().collect()
    };
    let (before, after) = (originated(old), originated(new));
    Ok(Changes {
        prefixes_gone,
        prefixes_new: eids(prefixes_new),
        prefixes_changed: eids(prefixes_changed),
        static_gone,
        static_new: eids(static_new),
        routes: old.routes != new.routes,
        withdrawn: before.difference(&after).copied().collect(),
        originated: after.difference(&before).copied().collect(),
        map_resolvers: old.roles.map_resolvers != new.roles.map_resolvers,
        log: old.log != new.log,
    })
}

/// Prefixes that are gone, mappings that are new, and those that say something else than before.
fn mappings(old: &[Mapping], new: &[Mapping]) -> (Vec<EidPrefix>, Vec<Mapping>, Vec<Mapping>) {
    let by_eid = |list: &'_ [Mapping]| -> HashSet<EidPrefix> { list.iter().map(|mapping| mapping.eid).collect() };
    let (after, known) = (by_eid(new), old.iter().map(|mapping| (mapping.eid, mapping)).collect::<HashMap<_, _>>());
    let before = |mapping: &Mapping| known.get(&mapping.eid).copied();
    let gone = old.iter().map(|mapping| mapping.eid).filter(|eid| !after.contains(eid));
    let come = new.iter().filter(|mapping| before(mapping).is_none());
    let changed = new.iter().filter(|mapping| before(mapping).is_some_and(|old| old != *mapping));
    (gone.collect(), come.cloned().collect(), changed.cloned().collect())
}

fn eids(mappings: Vec<Mapping>) -> Vec<EidPrefix> {
    mappings.into_iter().map(|mapping| mapping.eid).collect()
}

/// Every field is named, so that a new one has its place here.
macro_rules! differing {
    ($old:ident, $new:ident, elsewhere { $($other:ident),* } fixed { $($field:ident = $name:literal,)* }) => {{
        let Config { $($other: _,)* $($field,)* } = $new;
        [$(($old.$field != *$field, $name)),*]
    }};
}

/// What is another one and cannot change live.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    // What a speaker announces of itself follows the EID-prefixes and routes; who asks whom can change.
    let mut speaking = old.speaker.clone();
    if let (Some(old), Some(new)) = (&mut speaking, &new.speaker) {
        old.originate.clone_from(&new.originate);
    }
    let mut acting = old.roles.clone();
    acting.map_resolvers.clone_from(&new.roles.map_resolvers);
    let partly = [
        (holes(&old.routes) != holes(&new.routes), "alt.route with via = \"discard\""),
        (speaking != new.speaker, "alt.neighbor, alt.aggregate and the other settings of BGP"),
        (acting != new.roles, "map-resolver, site, petrs, petr, rtr, pitr-prefix, alt.unreachable, alt.ingress-rate"),
    ];
    let whole = differing! {
        old, new,
        elsewhere { database, map_cache, routes, speaker, announce_database, roles, log, warnings }
        fixed {
            ports = "site-port, core-port, native-port",
            rlocs = "rlocs",
            tunnels = "alt.tunnel",
            ribs = "alt.rib, or the first use of an Instance-ID",
            map_servers = "map-server",
            identity = "xtr-id, site-id",
            state_dir = "state-dir",
            probing = "rloc-probing",
            features = "features",
            pubsub = "pubsub",
            nat = "nat",
            lisp_sec = "lisp-sec",
            workers = "workers",
            control_core = "control-core",
            xdp = "xdp",
            bind = "bind",
            busy_poll = "busy-poll",
            ring = "ring",
            frames = "frames",
            hugepages = "hugepages",
            map_cache_max = "map-cache-max",
            batch = "batch",
            hold = "hold",
            source_check = "source-check",
            dscp = "dscp",
            path_mtu = "path-mtu",
            site_routes = "site-routes",
            resolver = "resolver",
            api = "api",
            api_read_only = "api-read-only",
            metrics = "metrics",
            log_format = "log-format",
        }
    };
    partly.into_iter().chain(whole).filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}

/// What our Map-Server answers negatively hangs on these.
fn holes(routes: &[Route]) -> Vec<EidPrefix> {
    routes.iter().filter(|route| route.hop == Hop::Discard).map(|route| route.eid).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Draft, Machine, parse};

    const PORTS: &str = "[[site-port]]\nname = \"eth1\"\n[[core-port]]\nname = \"eth0\"\n";

    fn config(settings: &str, tables: &str) -> Config {
        let text = format!("{settings}\nrlocs = [\"240.0.254.10\"]\n{PORTS}{tables}");
        parse(Path::new("x.toml"), &text, Draft::default(), &Machine { cores: vec![0, 1] }).unwrap()
    }

    fn own(prefix: &str, ttl: u32) -> String {
        format!("[[eid-prefix]]\nprefix = \"{prefix}\"\nttl = {ttl}\n")
    }

    fn fixed_mapping(eid: &str, rloc: &str) -> String {
        format!("[[map-cache]]\neid = \"{eid}\"\nlocators = [{{ address = \"{rloc}\" }}]\n")
    }

    fn texts(eids: &[EidPrefix]) -> Vec<String> {
        eids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_changes_where_nothing_is_another() {
        let same = || config("", &own("1.1.0.0/16", 5));
        assert_eq!(compare(&same(), &same()), Ok(Changes::default()));
        assert_eq!(Changes::default().count(), 0);
    }

    #[test]
    fn what_comes_goes_and_changes_is_told_apart() {
        let old = config(
            "log = \"info\"",
            &[
                own("1.1.0.0/16", 5),
                own("1.2.0.0/16", 5),
                own("1.3.0.0/16", 5),
                fixed_mapping("9.1.0.0/16", "240.0.254.91"),
                fixed_mapping("9.2.0.0/16", "240.0.254.92"),
                fixed_mapping("9.3.0.0/16", "240.0.254.93"),
            ]
            .concat(),
        );
        let new = config(
            "log = \"debug\"\nmap-resolvers = [\"240.0.254.40\"]",
            &[
                own("1.1.0.0/16", 5),
                own("1.2.0.0/16", 6),
                own("1.4.0.0/16", 5),
                fixed_mapping("9.1.0.0/16", "240.0.254.91"),
                fixed_mapping("9.2.0.0/16", "240.0.254.99"),
                fixed_mapping("9.4.0.0/16", "240.0.254.94"),
            ]
            .concat(),
        );
        let changes = compare(&old, &new).unwrap();
        assert_eq!(texts(&changes.prefixes_gone), ["1.3.0.0/16"]);
        assert_eq!(texts(&changes.prefixes_new), ["1.4.0.0/16"]);
        assert_eq!(texts(&changes.prefixes_changed), ["1.2.0.0/16"]);
        assert_eq!(texts(&changes.static_gone), ["9.3.0.0/16"]);
        assert_eq!(texts(&changes.static_new), ["9.4.0.0/16", "9.2.0.0/16"]);
        assert!(changes.log && changes.map_resolvers && !changes.routes);
        assert_eq!(changes.count(), 8);
    }

    #[test]
    fn what_bgp_neighbours_are_told_follows_the_prefixes() {
        let alt = "[alt]\nas = 64510\n[[alt.tunnel]]\nname = \"alt0\"\nremote = \"240.0.254.30\"\naddresses = [\"10.42.0.1/30\"]\n\
                   [[alt.neighbor]]\naddress = \"10.42.0.2\"\nas = 64530\n";
        let with = |prefix: &str| config("", &format!("{}{alt}", own(prefix, 5)));
        let changes = compare(&with("1.1.0.0/16"), &with("1.2.0.0/16")).unwrap();
        assert_eq!(
            (texts(&changes.withdrawn), texts(&changes.originated)),
            (vec!["1.1.0.0/16".to_owned()], vec!["1.2.0.0/16".to_owned()])
        );
        let other = config("", &format!("{}{}", own("1.1.0.0/16", 5), alt.replace("as = 64530", "as = 64531")));
        assert_eq!(
            compare(&with("1.1.0.0/16"), &other),
            Err(vec!["alt.neighbor, alt.aggregate and the other settings of BGP"])
        );
    }

    #[test]
    fn everything_that_cannot_change_is_named_at_once() {
        let old = config("", &own("1.1.0.0/16", 5));
        let new = config("ring = 512\nhold = \"drop\"\nworkers = \"0\"\nlog = \"debug\"", &own("1.2.0.0/16", 5));
        assert_eq!(
            compare(&old, &new),
            Err(vec!["workers", "ring", "frames", "hold"]).map_err(|names| {
                // Frames follow the rings unless they are given.
                if old.frames == new.frames {
                    names.into_iter().filter(|name| *name != "frames").collect()
                } else {
                    names
                }
            })
        );
    }
}
