//! Which of our EID-prefixes have a way inside: one that the kernel has no route to by a port of its site is not to be had
//! through us, and its mapping says so in the R bits of our locators (RFC 9300 §11).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use altitude_control::{
    config::{Config, SiteRoutes},
    os::netlink::inside::prefixes_by,
    underlay,
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};
use nix::net::if_::if_nametoindex;

use super::Driver;

/// Routes are looked at no more often: a routing protocol may change many, one after the other, and the kernel goes through
/// all that it has to find those of one port.
const PACE: Duration = Duration::from_secs(2);

/// What is known of the ways inside.
pub(super) struct Inside {
    heeded: bool,
    /// Prefixes of ours without one.
    pub(super) cut_off: BTreeSet<EidPrefix>,
    due: Option<Instant>,
    looked: Option<Instant>,
}

impl Inside {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let heeded = config.site_routes == SiteRoutes::Heed;
        Self { heeded, cut_off: BTreeSet::new(), due: heeded.then_some(now), looked: None }
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Routes, links or prefixes of ours changed.
    pub(super) fn look_again(&mut self, now: Instant) {
        if self.heeded && self.due.is_none() {
            self.due = Some(self.looked.map_or(now, |looked| now.max(looked + PACE)));
        }
    }
}

/// Whether the kernel says something that may change ways inside.
pub(super) const fn concerns(input: &underlay::Input) -> bool {
    use underlay::Input::{Link, LinkGone, RoutesChanged, SyncEnd};
    matches!(input, RoutesChanged | Link { .. } | LinkGone(_) | SyncEnd)
}

/// Prefixes that no route leads to, to all of them or to a part, by a port of their site.
fn cut_off(own: &[EidPrefix], routes: &BTreeMap<InstanceId, Vec<Prefix>>) -> BTreeSet<EidPrefix> {
    let leads = |eid: &EidPrefix| {
        let routes = routes.get(&eid.instance).map_or(&[][..], Vec::as_slice);
        routes.iter().any(|route| route.covers(&eid.prefix) || eid.prefix.covers(route))
    };
    own.iter().filter(|eid| !leads(eid)).copied().collect()
}

impl Driver<'_> {
    pub(super) fn wake_inside(&mut self, now: Instant) {
        if self.inside.due.is_none_or(|due| due > now) {
            return;
        }
        (self.inside.due, self.inside.looked) = (None, Some(now));
        let own = self.own.eids();
        if own.is_empty() {
            self.inside.cut_off.clear();
            return;
        }
        let routes = match self.routes_inside() {
            Ok(routes) => routes,
            Err(error) => {
                tracing::warn!(%error, "the routes into the site cannot be read; mappings stay as they are");
                return self.inside.look_again(now);
            }
        };
        let now_cut_off = cut_off(&own, &routes);
        let before = std::mem::replace(&mut self.inside.cut_off, now_cut_off);
        let changed: Vec<EidPrefix> =
            own.into_iter().filter(|eid| before.contains(eid) != self.inside.cut_off.contains(eid)).collect();
        for eid in &changed {
            if self.inside.cut_off.contains(eid) {
                tracing::warn!(%eid, "no route leads to this EID-prefix by a site port: mappings say that our RLOCs do not \
                                      reach it; add the route, or run with --site-routes ignore");
            } else {
                tracing::info!(%eid, "a route leads to this EID-prefix: mappings say that our RLOCs reach it");
            }
        }
        if !changed.is_empty() {
            self.tell_own(now, &[]);
        }
    }

    /// Prefixes that routes by the site ports of each instance lead to.
    fn routes_inside(&self) -> io::Result<BTreeMap<InstanceId, Vec<Prefix>>> {
        let mut routes: BTreeMap<InstanceId, Vec<Prefix>> = BTreeMap::new();
        for port in self.config.ports.iter().filter(|port| port.site) {
            // An interface that is gone has no routes.
            let Ok(index) = if_nametoindex(port.name.as_str()) else { continue };
            routes.entry(port.instance).or_default().extend(prefixes_by(index)?);
        }
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ETR-18: a route to all of a prefix, to more, or to a part will do, in the prefix's own instance.
    #[test]
    fn a_prefix_without_a_route_inside_is_cut_off() {
        let prefix = |text: &str| {
            let (address, length) = text.split_once('/').unwrap();
            Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
        };
        let [zero, seven] = [0, 7].map(|number| InstanceId::new(number).unwrap());
        let own = EidPrefix { instance: zero, prefix: prefix("1.1.0.0/16") };
        for (instance, route, wanted) in [
            (zero, "1.1.0.0/16", false),
            (zero, "0.0.0.0/0", false),
            (zero, "1.1.7.0/24", false),
            (zero, "1.2.0.0/16", true),
            (zero, "::/0", true),
            (seven, "1.1.0.0/16", true),
        ] {
            let routes = BTreeMap::from([(instance, vec![prefix(route)])]);
            assert_eq!(cut_off(&[own], &routes).contains(&own), wanted, "{route}");
        }
        assert_eq!(cut_off(&[own], &BTreeMap::new()), [own].into());
    }
}
