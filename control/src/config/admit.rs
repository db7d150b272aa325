//! Whether a mapping that no file named may be one of ours: what [`load`](super::load) asks of an EID-prefix, asked of a
//! configuration that runs.

use std::net::IpAddr;

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::{Config, validate::values::unroutable};

impl Config {
    /// Whether a mapping may be one of ours beside the rest of the configuration. Without `foreign` it needs a locator of ours.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub fn admit(&self, mapping: &Mapping, foreign: bool) -> Result<(), String> {
        self.serves(&mapping.eid)?;
        self.admits_locators(mapping, foreign)?;
        self.lies_apart(&mapping.eid)
    }

    /// The prefix is one of hosts, and there is a way to them and to the core.
    fn serves(&self, eid: &EidPrefix) -> Result<(), String> {
        if let Some(kind) = unroutable(eid.prefix.address()).filter(|_| eid.prefix.length() > 0) {
            return Err(format!("prefix {eid} starts at {kind}: give addresses that hosts have"));
        }
        if self.rlocs.is_empty() || !self.ports.iter().any(|port| port.core) {
            return Err(
                "this router has no core port or no RLOC: EID-prefixes of its own would lead nowhere".to_owned()
            );
        }
        let instance = eid.instance;
        if !self.ports.iter().any(|port| port.site && port.instance == instance) {
            return Err(format!("EID-prefix {eid} is of instance {instance}, but no site port is"));
        }
        if !self.ribs.contains_key(&instance) {
            return Err(format!(
                "instance {instance} is not known: name it in the configuration, and restart the router"
            ));
        }
        Ok(())
    }

    fn admits_locators(&self, mapping: &Mapping, foreign: bool) -> Result<(), String> {
        let eid = mapping.eid;
        if mapping.locators.is_empty() {
            return Err(format!("{eid} has no RLOCs, and a mapping of ours leads here: give one of rlocs"));
        }
        let ours = |address: &IpAddr| self.rlocs.contains(address);
        let strange = mapping.locators.iter().find(|locator| locator.local && !ours(&locator.address));
        if let Some(strange) = strange {
            return Err(format!("locator {} of {eid} is none of our RLOCs: leave the L bit out", strange.address));
        }
        if !foreign && !mapping.locators.iter().any(|locator| ours(&locator.address)) {
            return Err(format!("no locator of {eid} is ours: name at least one of rlocs, or say that it is FOREIGN"));
        }
        Ok(())
    }

    /// Nothing that is reached over the core, and nothing that other sites have, lies inside of it.
    fn lies_apart(&self, eid: &EidPrefix) -> Result<(), String> {
        let inside = |what: &str, address: &IpAddr| {
            eid.prefix
                .contains(*address)
                .then(|| format!("{what} {address} lies inside {eid}, but is reached over the core"))
        };
        let tunnels = || self.tunnels.iter().flat_map(|tunnel| [tunnel.local, tunnel.remote]);
        let found = self
            .rlocs
            .iter()
            .find_map(|rloc| inside("RLOC", rloc))
            .or_else(|| tunnels().find_map(|end| inside("the end of an ALT tunnel", &end)))
            .or_else(|| self.map_servers.iter().find_map(|server| inside("Map-Server", &server.address)))
            .or_else(|| self.roles.map_resolvers.iter().find_map(|resolver| inside("Map-Resolver", resolver)))
            .or_else(|| self.roles.petrs.iter().find_map(|petr| inside("PETR", petr)));
        if let Some(why) = found {
            return Err(why);
        }
        for mapping in &self.map_cache {
            if eid.covers(&mapping.eid) {
                return Err(format!("static mapping {} of the configuration lies inside {eid}", mapping.eid));
            }
            let mut locators = mapping.locators.iter();
            if let Some(locator) = locators.find(|locator| eid.prefix.contains(locator.address)) {
                return Err(format!("locator {} of static mapping {} lies inside {eid}", locator.address, mapping.eid));
            }
        }
        let mut wanted = self.pubsub.subscribe.iter().flat_map(|own| &own.fixed);
        match wanted.find(|wanted| eid.covers(wanted)) {
            Some(wanted) => Err(format!("prefix {wanted} to subscribe to lies inside {eid}")),
            None => Ok(()),
        }
    }

    /// Whether BGP neighbours are told of it as ours, where it is or is not one of our EID-prefixes.
    #[must_use]
    pub fn originates(&self, eid: &EidPrefix, ours: bool) -> bool {
        let by_route = || self.routes.iter().any(|route| route.announce && route.eid == *eid);
        self.speaker.is_some() && ((ours && self.announce_database) || by_route())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use altitude_dataplane::mapping::{Action, InstanceId, Locator, Ttl};

    use super::*;
    use crate::api::{Offer, Table};
    use crate::config::{Draft, Machine, parse};

    const TEXT: &str = r#"
rlocs = ["240.0.254.10"]
map-resolvers = ["240.0.254.40"]
petrs = ["240.0.254.60"]
[[site-port]]
name = "eth1"
[[site-port]]
name = "eth2"
instance = 5
[[core-port]]
name = "eth0"
[[eid-prefix]]
prefix = "1.1.0.0/16"
[[eid-prefix]]
prefix = "1.1.0.0/16"
instance = 5
[[map-server]]
address = "240.0.254.41"
key = { id = 1, algorithm = "sha256", secret = "x" }
[[map-cache]]
eid = "9.9.0.0/16"
locators = [{ address = "240.0.253.90", via = ["240.0.252.90"] }]
[[alt.tunnel]]
name = "alt0"
remote = "240.0.254.30"
[pubsub]
subscribe = "lookups"
prefixes = ["8.8.0.0/16"]
key = { secret = "y" }
"#;

    fn read(text: &str) -> Result<Config, String> {
        let machine = Machine { cores: vec![0, 1] };
        parse(Path::new("x.toml"), text, Draft::default(), &machine).map_err(|problems| problems.to_string())
    }

    fn mapping(prefix: &str, instance: u32, locators: &[&str]) -> Mapping {
        let eid = EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: prefix.parse().unwrap() };
        let locators = locators.iter().map(|address| Locator::unicast(address.parse().unwrap(), 1, 100)).collect();
        Mapping { locators, ..Mapping::negative(eid, Ttl::Minutes(5), Action::NoAction) }
    }

    /// What the API says of it: by itself, and beside the configuration.
    fn by_api(config: &Config, mapping: Mapping) -> Result<(), String> {
        let offer = Offer { table: Table::Database, mapping, life: None, ephemeral: false, foreign: false };
        offer.check().map_err(|refused| refused.to_string())?;
        config.admit(&offer.mapping, false)
    }

    /// A mapping that comes through the API is refused where the same one in the file is, and only there.
    #[test]
    fn what_the_file_may_not_say_the_api_may_not_say_either() {
        let config = read(TEXT).unwrap();
        let ours: &[&str] = &["240.0.254.10", "240.0.254.11"];
        for (prefix, instance, locators, why) in [
            ("1.2.0.0/16", 0, ours, ""),
            ("1.1.7.0/24", 5, ours, ""),
            ("2001:db8:1::/48", 0, ours, ""),
            ("8.8.8.0/24", 0, ours, ""),
            ("9.0.0.0/9", 5, ours, ""),
            ("1.2.0.0/16", 7, ours, "instance 7, but no site port"),
            ("127.0.0.0/8", 0, ours, "loopback"),
            ("240.0.254.8/30", 0, &["240.0.254.10"], "RLOC 240.0.254.10"),
            ("240.0.254.30/32", 0, ours, "240.0.254.30"),
            ("240.0.254.40/32", 0, ours, "Map-Resolver"),
            ("240.0.254.41/32", 0, ours, "Map-Server"),
            ("240.0.254.60/32", 0, ours, "PETR"),
            ("9.0.0.0/8", 0, ours, "static mapping 9.9.0.0/16"),
            ("240.0.253.0/24", 0, ours, "240.0.253.90"),
            ("8.0.0.0/8", 0, ours, "subscribe"),
            ("240.0.252.0/24", 0, ours, "240.0.252.90"),
            ("1.2.0.0/16", 0, &["240.0.254.11"], "no locator of"),
            ("1.2.0.0/16", 0, &["240.0.254.10", "240.0.254.11", "240.0.254.11"], "twice"),
            ("1.2.0.0/16", 0, &["240.0.254.10", "127.0.0.1"], "127.0.0.1"),
            ("1.2.0.0/16", 0, &["240.0.254.10", "224.0.0.1"], "224.0.0.1"),
            ("1.2.0.0/16", 0, &["240.0.254.10", "1.2.0.1"], "1.2.0.1"),
        ] {
            let list: Vec<String> = locators
                .iter()
                .map(|address| format!("{{ address = \"{address}\", local = {} }}", *address == "240.0.254.10"))
                .collect();
            let more = format!(
                "[[eid-prefix]]\nprefix = \"{prefix}\"\ninstance = {instance}\nlocators = [{}]\n",
                list.join(", ")
            );
            let by_file = read(&format!("{TEXT}{more}"));
            let by_api = by_api(&config, mapping(prefix, instance, locators));
            assert_eq!(by_file.is_ok(), by_api.is_ok(), "{prefix} {instance}: {by_file:?} {by_api:?}");
            for said in [by_file.map(drop), by_api].into_iter().filter_map(Result::err) {
                assert!(!why.is_empty() && said.contains(why), "{prefix}: {why}: {said}");
            }
        }
    }

    #[test]
    fn a_foreign_mapping_needs_no_locator_of_ours_and_none_is_negative() {
        let config = read(TEXT).unwrap();
        let foreign = mapping("1.2.0.0/16", 0, &["240.0.254.11"]);
        assert!(config.admit(&foreign, false).unwrap_err().contains("FOREIGN"));
        assert_eq!(config.admit(&foreign, true), Ok(()));
        assert!(config.admit(&mapping("1.2.0.0/16", 0, &[]), true).is_err());
        let mut strange = mapping("1.2.0.0/16", 0, &["240.0.254.10", "240.0.254.11"]);
        assert_eq!(config.admit(&strange, false), Ok(()));
        strange.locators[1].local = true;
        assert!(config.admit(&strange, true).unwrap_err().contains("240.0.254.11"));
    }

    #[test]
    fn neighbours_are_told_of_what_is_ours_unless_the_configuration_says_otherwise() {
        let alt = "[[alt.neighbor]]\naddress = \"10.42.0.2\"\nas = 64530\n[[alt.route]]\nprefix = \"7.0.0.0/8\"\n\
                   via = \"alt0\"\nannounce = true\n";
        let addressed = TEXT.replace("remote =", "addresses = [\"10.42.0.1/30\"]\nremote =");
        let [ours, route] = ["1.2.0.0/16", "7.0.0.0/8"].map(|prefix| mapping(prefix, 0, &[]).eid);
        for (top, told) in [("as = 64510", true), ("as = 64510\nannounce-database = false", false)] {
            let config = read(&format!("{addressed}{alt}[alt]\n{top}\n")).unwrap();
            assert_eq!((config.originates(&ours, true), config.originates(&ours, false)), (told, false));
            assert!(config.originates(&route, false));
        }
        assert!(!read(TEXT).unwrap().originates(&ours, true), "there is no speaker");
    }
}
