//! What a locator-set comes to as paths and probes are now.

use std::net::IpAddr;

use altitude_dataplane::{
    cache::Choice,
    mapping::{Candidate, InstanceId, Locator, LocatorSet, OuterHeader},
};

use super::{Path, Paths, Publisher};
use crate::prober;

impl Publisher {
    /// What to do with packets for a locator-set as the paths are.
    pub(super) fn choose(&self, instance: InstanceId, locators: &[Locator], paths: &dyn Paths) -> Choice {
        let mut waiting = false;
        let probed = |locator: &Locator| paths.probed(locator.address);
        let answered = locators.iter().any(|locator| locator.usable() && probed(locator) == prober::State::Up);
        let gone = |locator: &Locator| match probed(locator) {
            prober::State::Down => true,
            // Where nobody ever answered, it is rather the ETR that answers no probes.
            prober::State::Mute => answered,
            prober::State::Up | prober::State::Unknown => false,
        };
        let candidates: Vec<Candidate> = locators
            .iter()
            .map(|locator| {
                let outer = if gone(locator) { None } else { self.header(locator, instance, paths, &mut waiting) };
                Candidate { address: locator.address, priority: locator.priority, weight: locator.weight, outer }
            })
            .collect();
        match LocatorSet::compile(&candidates) {
            Some(set) => Choice::Tunnel(set),
            // While it waits every packet is a miss, so workers hold what they may hold.
            None if waiting => Choice::Request,
            None => Choice::Unusable,
        }
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
                .map(|outer| outer.with_nonce(paths.nonce(locator.address))),
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
