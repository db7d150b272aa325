//! What the mapping API shows of locators.

use std::{collections::HashMap, net::IpAddr};

use altitude_control::{
    api::{LocatorStatus, ProbingStatus, Stat},
    map_cache::SetNumber,
    path_mtu::PathMtu,
    prober::{Prober, Report, State},
    publisher::{Path, Paths},
    underlay::Progress,
};

use super::super::{Driver, tables::Known};

impl Driver<'_> {
    /// A page of the map-cache's locators, ascending.
    pub(super) fn locator_page(&self, after: Option<IpAddr>, max: usize) -> Vec<LocatorStatus> {
        let known = self.known();
        let mut carrying: HashMap<SetNumber, Vec<IpAddr>> = HashMap::new();
        let mut page = Vec::new();
        for (address, sets) in self.publisher.locators(after, max) {
            let (mut mappings, mut carried) = (0, 0);
            for set in sets {
                let users = self.map_cache.users(set);
                let here = carrying.entry(set).or_insert_with(|| self.publisher.carrying(set, &known));
                mappings += users;
                carried += if here.contains(&address) { users } else { 0 };
            }
            page.push(self.locator(address, mappings, carried));
        }
        page
    }

    fn locator(&self, address: IpAddr, mappings: u32, carrying: u32) -> LocatorStatus {
        let report = self.reachability.prober.as_ref().and_then(|prober| prober.report(address));
        let path = self.kernel.underlay.explain(address);
        let lost = self.reachability.features.nonces.as_ref().is_some_and(|nonces| nonces.is_lost(address));
        let why = match (path, report.as_ref()) {
            _ if self.reachability.banned.contains(&address) => "taken out of use through the mapping API".to_owned(),
            (Progress::Ready, _) if lost => "packets come back without the nonce that it was asked for".to_owned(),
            (Progress::NotWatched, _) => "its site says that it is not reachable".to_owned(),
            (Progress::Ready, Some(Report { held: true, .. })) => {
                "it flaps: used only where no other answers".to_owned()
            }
            (Progress::Ready, Some(Report { state: State::Down, .. })) => "no answer to RLOC-probes".to_owned(),
            (Progress::Ready, Some(Report { state: State::Mute, .. })) => "never answered an RLOC-probe".to_owned(),
            (Progress::Ready, _) => String::new(),
            (path, _) => path.to_string(),
        };
        let probing = report.map(|report| ProbingStatus {
            state: report.state as u8,
            since: report.since.elapsed(),
            held: report.held,
            rtt: report.rtt.map(|rtt| (rtt.smoothed, rtt.variation)),
            sent: report.sent,
            answered: report.answered,
            lost: report.lost,
        });
        LocatorStatus { address, up: self.carries(address), why, mappings, carrying, probing }
    }

    /// Whether packets can be sent to it and probes do not say that it is down.
    pub(super) fn carries(&self, address: IpAddr) -> bool {
        let known = self.known();
        matches!(known.path(address), Path::Ready(_)) && known.probed(address) != State::Down
    }

    fn known(&self) -> Known<'_> {
        self.reachability.known(&self.kernel.underlay)
    }

    /// What probing and SMRs counted.
    pub(super) fn reachability_stats(&self) -> [Stat; 9] {
        let counts = &self.reachability.counts;
        [
            Stat::new("locators-probed", self.reachability.prober.as_ref().map_or(0, Prober::len) as u64),
            Stat::new("locator-changes", counts.changes),
            Stat::new("rloc-probes-sent", counts.probes_sent),
            Stat::new("rloc-probes-confirmed", counts.probes_confirmed),
            Stat::new("rloc-probes-answered", counts.probes_answered),
            Stat::new("icmp-hints", counts.icmp_hints),
            Stat::new("path-mtus", self.reachability.path_mtu.as_ref().map_or(0, PathMtu::len) as u64),
            Stat::new("smrs-sent", counts.smrs_sent),
            Stat::new("smrs-received", counts.smrs_received),
        ]
    }
}
