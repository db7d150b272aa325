//! What a locator-set comes to as paths and probes are now.

use std::net::IpAddr;

use altitude_dataplane::{
    cache::Choice,
    mapping::{Candidate, Hop, InstanceId, Locator, LocatorSet, OuterHeader, Ports, routes},
};

use super::{Path, Paths, Publisher};
use crate::{alt::datagrams::CONTROL_PORT, prober};

/// UDP ports of packets to a locator: to an xTR behind a NAT those that the NAT lets through
/// (draft-ermagan-lisp-nat-traversal-19 §5.3.1).
fn ports(locator: &Locator, paths: &dyn Paths) -> Ports {
    match locator.translated {
        Some(port) => Ports { source: Some(CONTROL_PORT), destination: port.get() },
        None => Ports { source: paths.source_port(), ..Ports::default() },
    }
}

impl Publisher {
    /// What to do with packets for a locator-set as the paths are.
    pub(super) fn choose(&self, instance: InstanceId, locators: &[Locator], paths: &dyn Paths) -> Choice {
        let mut waiting = false;
        let probed = |locator: &Locator| paths.probed(locator.address);
        let direct = |locator: &Locator| locator.hop.is_none() && locator.usable();
        let answered = locators.iter().any(|locator| direct(locator) && probed(locator) == prober::State::Up);
        let gone = |locator: &Locator| match probed(locator) {
            prober::State::Down => true,
            // Where nobody ever answered, it is rather the ETR that answers no probes; and where there is no other, one that
            // comes and goes is better than none.
            prober::State::Mute | prober::State::Held => answered,
            prober::State::Up | prober::State::Unknown => false,
        };
        let candidates: Vec<Candidate> = routes(locators)
            .filter_map(|route| {
                let locator = route.last()?;
                let outer = match route {
                    [direct] if direct.hop.is_none() && gone(direct) => None,
                    [direct] if direct.hop.is_none() => self.header(direct, instance, paths, &mut waiting),
                    path => self.enter(path, instance, paths, &mut waiting),
                };
                let address = outer.as_ref().map_or(locator.address, OuterHeader::destination);
                Some(Candidate { address, priority: locator.priority, weight: locator.weight, outer })
            })
            .collect();
        match LocatorSet::compile(&candidates) {
            Some(set) => Choice::Tunnel(set),
            // While it waits every packet is a miss, so workers hold what they may hold.
            None if waiting => Choice::Request,
            None => Choice::Unusable,
        }
    }

    /// The outer header towards the next stop of a path: the one behind ourselves, or the first where we are none. One that
    /// cannot be reached is passed by, unless it is strict (RFC 8060 §4.6).
    ///
    /// Stops are judged by the underlay alone: a router that re-encapsulates answers no probes for EIDs of others.
    fn enter(
        &self,
        path: &[Locator],
        instance: InstanceId,
        paths: &dyn Paths,
        waiting: &mut bool,
    ) -> Option<OuterHeader> {
        // Where somebody is passed twice, nobody can tell how often he was.
        if path.iter().enumerate().any(|(at, stop)| path[..at].iter().any(|other| other.address == stop.address)) {
            return None;
        }
        let ours = path.iter().position(|stop| self.settings.rlocs.contains(&stop.address));
        for stop in &path[ours.map_or(0, |at| at + 1)..] {
            // A mapping system for RLOCs is another one.
            if stop.hop.is_some_and(Hop::is_looked_up) {
                return None;
            }
            let mut waits = false;
            let outer = self.header(stop, instance, paths, &mut waits);
            *waiting |= waits;
            if outer.is_some() || waits || stop.hop.is_some_and(Hop::is_strict) {
                return outer;
            }
        }
        None
    }

    /// The outer header towards a locator, if it can be used now (RFC 9300 §9).
    fn header(
        &self,
        locator: &Locator,
        instance: InstanceId,
        paths: &dyn Paths,
        waiting: &mut bool,
    ) -> Option<OuterHeader> {
        if !locator.usable() {
            return None;
        }
        let source = self.source(locator.address, paths)?;
        match paths.path(locator.address) {
            Path::Ready(adjacency) => OuterHeader::new(&adjacency, source, locator.address, instance)
                .map(|outer| outer.with_nonce(paths.nonce(locator.address)).with_ports(ports(locator, paths))),
            Path::Waiting => {
                *waiting = true;
                None
            }
            Path::Unreachable => None,
        }
    }

    /// Our RLOC of the locator's family: the one the routing table prefers, else the first configured.
    fn source(&self, destination: IpAddr, paths: &dyn Paths) -> Option<IpAddr> {
        let ours = |address: &IpAddr| self.settings.rlocs.contains(address);
        paths
            .source(destination)
            .filter(ours)
            .or_else(|| self.settings.rlocs.iter().copied().find(|rloc| rloc.is_ipv4() == destination.is_ipv4()))
    }
}
