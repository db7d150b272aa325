//! What the routers of a stand know, as `altitude show` prints it.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::Prefix;
use serde_json::Value;

use super::{Bgp, Role, Stand};
use crate::lab::{LabError, Router, wait_until};

/// An EID route of a running Altitude.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EidRoute {
    /// Where to.
    pub eid: Prefix,
    /// The tunnel it leads into; none for a hole.
    pub via: Option<String>,
}

impl Router {
    /// The EID routes that it uses.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub fn eid_routes(&self) -> Result<Vec<EidRoute>, LabError> {
        let document = self.document(&["alt"])?;
        let routes = document["routes"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(routes.iter().filter_map(eid_route).collect())
    }

    /// The neighbour of this address, as `altitude show bgp --json` prints it.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub fn neighbour(&self, address: IpAddr) -> Result<Neighbour, LabError> {
        let document = self.document(&["bgp"])?;
        let neighbours = document["neighbors"].as_array().map_or(&[][..], Vec::as_slice);
        let address = address.to_string();
        let found = neighbours.iter().find(|neighbour| neighbour["address"] == address);
        found.map(|json| Neighbour(json.clone())).ok_or_else(|| LabError::Wrong(format!("no {address} in {document}")))
    }

    fn document(&self, what: &[&str]) -> Result<Value, LabError> {
        let text = self.show(&[what, &["--json"]].concat())?;
        serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{error}: {text}")))
    }
}

fn eid_route(json: &Value) -> Option<EidRoute> {
    Some(EidRoute { eid: json["eid"].as_str()?.parse().ok()?, via: json["via"].as_str().map(str::to_owned) })
}

/// The longest match of an address.
fn longest(routes: &[EidRoute], eid: IpAddr) -> Option<&EidRoute> {
    routes.iter().filter(|route| route.eid.contains(eid)).max_by_key(|route| route.eid.length())
}

/// A neighbour of Altitude's own speaker.
#[derive(Debug, Clone)]
pub struct Neighbour(pub Value);

impl Neighbour {
    /// Whether the session is there.
    #[must_use]
    pub fn established(&self) -> bool {
        self.0["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("established"))
    }

    /// Why the last session or attempt ended, empty if none has.
    #[must_use]
    pub fn last_down(&self) -> &str {
        self.0["last-down"].as_str().unwrap_or_default()
    }

    /// A number of it.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_default()
    }

    /// A number of one of its parts.
    #[must_use]
    pub fn count_in(&self, part: &str, name: &str) -> u64 {
        self.0[part][name].as_u64().unwrap_or_default()
    }
}

impl Stand {
    /// The tunnel that a router's route to `eid` leads into.
    ///
    /// # Errors
    /// As of [`Router::eid_routes`].
    pub fn way(&self, router: &str, eid: IpAddr) -> Result<Option<String>, LabError> {
        let routes = self.router(router).eid_routes()?;
        Ok(longest(&routes, eid).and_then(|route| route.via.clone()))
    }

    /// Waits until every router of the ALT has a way to every site but its own.
    ///
    /// # Errors
    /// [`LabError::Late`] after `limit`, saying who lacks what.
    pub fn wait_converged(&self, limit: Duration) -> Result<(), LabError> {
        for (plan, router) in self.plan.routers.iter().zip(&self.routers) {
            let Some(router) = router else { continue };
            let others = self.plan.routers.iter().filter(|other| other.name != plan.name);
            let eids: Vec<IpAddr> = others
                .filter_map(|other| other.site.as_ref())
                .flat_map(|site| [site.host.0.into(), site.host.1.into()])
                .collect();
            for eid in eids {
                wait_until(&format!("way to {eid} at {}", plan.name), limit, || {
                    let routes = router.eid_routes()?;
                    Ok(longest(&routes, eid).is_some_and(|route| route.via.is_some()).then_some(()))
                })?;
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
            let (Role::Alt { bgp: Bgp::Embedded, .. }, Some(router)) = (plan.role, &self.routers[place]) else {
                continue;
            };
            for (tunnel, end) in self.plan.speaking(place) {
                let address: IpAddr = self.plan.inside(tunnel, 1 - end).0.into();
                wait_until(&format!("session of {} with {address}", plan.name), limit, || {
                    Ok(router.neighbour(address)?.established().then_some(()))
                })?;
            }
        }
        Ok(())
    }
}
