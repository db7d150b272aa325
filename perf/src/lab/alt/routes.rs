//! What the routers of a stand know, as `altitude show` and `ip route` print it.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use altitude_dataplane::mapping::Prefix;
use serde_json::Value;

use super::{Bgp, Role, Stand, config::TABLE};
use crate::lab::{LabError, Router, wait_until};

/// An EID route that a router uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EidRoute {
    /// Where to.
    pub eid: Prefix,
    /// The tunnel it leads into; none for an aggregate or what is the router's own.
    pub via: Option<String>,
}

/// A neighbour of Altitude's own speaker, as `altitude show bgp --json` prints it.
#[derive(Debug, Clone)]
pub struct Neighbour(Value);

impl Neighbour {
    /// Whether the session is there.
    #[must_use]
    pub fn established(&self) -> bool {
        self.0["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("established"))
    }

    /// Why the last session ended, empty if none has.
    #[must_use]
    pub fn last_down(&self) -> &str {
        self.0["last-down"]["reason"].as_str().unwrap_or_default()
    }

    /// Whether routes from before its restart are kept yet.
    #[must_use]
    pub fn has_stale_routes(&self) -> bool {
        !self.0["stale"].is_null()
    }

    /// One of its counters.
    ///
    /// # Errors
    /// [`LabError::Wrong`] if there is none of this name.
    pub fn count(&self, name: &str) -> Result<u64, LabError> {
        let count = self.0["counters"][name].as_u64();
        count.ok_or_else(|| LabError::Wrong(format!("no counter {name} in {}", self.0)))
    }
}

impl Router {
    /// The neighbour of this address.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said, [`LabError::Wrong`] if it has no such neighbour.
    pub fn neighbour(&self, address: IpAddr) -> Result<Neighbour, LabError> {
        let document = self.document(&["bgp"])?;
        let address = address.to_string();
        let found = elements(&document["neighbors"]).iter().find(|neighbour| neighbour["address"] == address);
        found.map(|json| Neighbour(json.clone())).ok_or_else(|| LabError::Wrong(format!("no {address} in {document}")))
    }

    /// Whether its routes to exactly this prefix include one from before a neighbour's restart.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub fn has_stale_route(&self, prefix: &str) -> Result<bool, LabError> {
        let document = self.document(&["bgp", "routes", prefix])?;
        Ok(elements(&document["routes"]).iter().any(|route| route["stale"] == true))
    }

    /// The EID routes that its own speaker chose.
    fn bgp_routes(&self) -> Result<Vec<EidRoute>, LabError> {
        let neighbours = self.document(&["bgp"])?;
        let neighbours = elements(&neighbours["neighbors"]).iter();
        let tunnels: HashMap<&str, &str> =
            neighbours.filter_map(|json| Some((json["name"].as_str()?, json["tunnel"].as_str()?))).collect();
        let document = self.document(&["bgp", "routes"])?;
        let best = elements(&document["routes"]).iter().filter(|route| route["best"] == true);
        let route = |json: &Value| {
            let via = json["neighbor"].as_str().and_then(|name| tunnels.get(name));
            Some(EidRoute { eid: json["eid"].as_str()?.parse().ok()?, via: via.map(|&name| name.to_owned()) })
        };
        Ok(best.filter_map(route).collect())
    }

    /// How many prefixes it has taken from the kernel's table.
    fn kernel_prefixes(&self) -> Result<u64, LabError> {
        let document = self.document(&["alt"])?;
        let sources = elements(&document["sources"]).iter();
        let kernel = sources.filter(|source| source["source"].as_str().is_some_and(|name| name.starts_with("netlink")));
        Ok(kernel.filter_map(|source| source["prefixes"].as_u64()).sum())
    }

    fn document(&self, what: &[&str]) -> Result<Value, LabError> {
        let text = self.show(&[what, &["--json"]].concat())?;
        serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{error}: {text}")))
    }
}

fn elements(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A line such as `10.1.0.0/16 via 10.42.3.1 dev agg proto bird metric 32`.
fn kernel_route(line: &str) -> Option<EidRoute> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let device = words.iter().position(|word| *word == "dev").and_then(|at| words.get(at + 1));
    Some(EidRoute { eid: words.first()?.parse().ok()?, via: device.map(|&name| name.to_owned()) })
}

/// The longest match of an address.
fn longest(routes: &[EidRoute], eid: IpAddr) -> Option<&EidRoute> {
    routes.iter().filter(|route| route.eid.contains(eid)).max_by_key(|route| route.eid.length())
}

impl Stand {
    /// The EID routes that a router uses, from its BGP speaker, whoever that is.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what was said, [`LabError::Late`] while Altitude has not read what a daemon wrote.
    pub fn eid_routes(&self, router: &str) -> Result<Vec<EidRoute>, LabError> {
        let running = self.router(router);
        let Role::Alt { bgp: Bgp::Beside(_), .. } = self.plan.routers[self.plan.place(router)].role else {
            return running.bgp_routes();
        };
        let table = |family: &str| self.namespace(router).ip(&format!("{family} route show table {TABLE}"));
        // A table without routes is none.
        let text = ["-4", "-6"].map(|family| table(family).unwrap_or_default()).concat();
        let routes: Vec<EidRoute> = text.lines().filter_map(kernel_route).collect();
        if running.kernel_prefixes()? == routes.len() as u64 {
            return Ok(routes);
        }
        Ok(Vec::new())
    }

    /// The tunnel that a router's route to `eid` leads into.
    ///
    /// # Errors
    /// As of [`eid_routes`](Self::eid_routes).
    pub fn way(&self, router: &str, eid: IpAddr) -> Result<Option<String>, LabError> {
        let routes = self.eid_routes(router)?;
        Ok(longest(&routes, eid).and_then(|route| route.via.clone()))
    }

    /// Waits until every router of the ALT has a way to every site but its own.
    ///
    /// # Errors
    /// [`LabError::Late`] after `limit`, saying who lacks what.
    pub fn wait_converged(&self, limit: Duration) -> Result<(), LabError> {
        for plan in self.plan.routers.iter().filter(|router| router.role != Role::Asker) {
            let others = self.plan.routers.iter().filter(|other| other.name != plan.name);
            let sites = others.filter_map(|other| other.site.as_ref());
            for eid in sites.flat_map(|site| [IpAddr::from(site.host.0), site.host.1.into()]) {
                let what = format!("way to {eid} at {}", plan.name);
                wait_until(&what, limit, || Ok(self.way(plan.name, eid)?.map(drop)))?;
            }
        }
        Ok(())
    }

    /// Waits until every session of Altitude's own speakers is established.
    ///
    /// # Errors
    /// [`LabError::Late`] after `limit`, saying which is not.
    pub fn wait_neighbours(&self, limit: Duration) -> Result<(), LabError> {
        for (place, plan) in self.plan.routers.iter().enumerate() {
            let Role::Alt { bgp: Bgp::Embedded, .. } = plan.role else { continue };
            for (tunnel, end) in self.plan.speaking(place) {
                let address: IpAddr = self.plan.inside(tunnel, 1 - end).0.into();
                wait_until(&format!("session of {} with {address}", plan.name), limit, || {
                    Ok(self.router(plan.name).neighbour(address)?.established().then_some(()))
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_routes_are_read_and_the_longest_match_is_found() {
        let text = "10.1.0.0/16 via 10.42.3.1 dev agg proto bird metric 32 \n\
                    10.1.64.0/18 nhid 7 via 10.42.1.1 dev xtr1 proto bgp metric 20 \n\
                    unreachable 10.1.128.0/17 proto bird metric 32 \n\
                    2001:db8:1::/48 via fd00:42:3::1 dev agg proto bird metric 32 pref medium";
        let routes: Vec<EidRoute> = text.lines().filter_map(kernel_route).collect();
        let via = |eid: &str| longest(&routes, eid.parse().unwrap()).and_then(|route| route.via.clone());
        assert_eq!(via("10.1.77.88").as_deref(), Some("xtr1"));
        assert_eq!(via("10.1.0.1").as_deref(), Some("agg"));
        assert_eq!(via("2001:db8:1::1").as_deref(), Some("agg"));
        assert_eq!(via("10.2.0.1"), None);
    }
}
