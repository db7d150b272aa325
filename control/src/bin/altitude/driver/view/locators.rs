//! What the mapping API shows of locators.

use std::{collections::BTreeMap, net::IpAddr};

use altitude_control::{
    api::{LocatorStatus, ProbingStatus, Stat},
    prober::{Prober, Report, State},
    publisher::{Path, Paths},
    underlay::Progress,
};

use super::super::{Driver, tables::Known};

impl Driver<'_> {
    /// Every locator of the map-cache, ascending.
    pub(super) fn locator_list(&self) -> Vec<LocatorStatus> {
        let mut uses: BTreeMap<IpAddr, (u32, u32)> = BTreeMap::new();
        let known = self.known();
        for (set, locators, carrying) in self.publisher.sets(&known) {
            let users = self.map_cache.users(set);
            for locator in locators {
                let (mappings, carried) = uses.entry(locator.address).or_default();
                *mappings += users;
                *carried += if carrying.contains(&locator.address) { users } else { 0 };
            }
        }
        uses.into_iter().map(|(address, (mappings, carrying))| self.locator(address, mappings, carrying)).collect()
    }

    fn locator(&self, address: IpAddr, mappings: u32, carrying: u32) -> LocatorStatus {
        let report = self.reachability.prober.as_ref().and_then(|prober| prober.report(address));
        let path = self.kernel.underlay.explain(address);
        let lost = self.reachability.features.nonces.as_ref().is_some_and(|nonces| nonces.is_lost(address));
        let why = match (path, report.as_ref()) {
            _ if self.reachability.banned.contains(&address) => "taken out of use through the mapping API".to_owned(),
            (Progress::Ready, _) if lost => "packets come back without the nonce that it was asked for".to_owned(),
            (Progress::NotWatched, _) => "its site says that it is not reachable".to_owned(),
            (Progress::Ready, Some(Report { held: true, .. })) => "it flaps: held down".to_owned(),
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
    pub(super) fn reachability_stats(&self) -> [Stat; 8] {
        let counts = &self.reachability.counts;
        [
            Stat::new("locators-probed", self.reachability.prober.as_ref().map_or(0, Prober::len) as u64),
            Stat::new("locator-changes", counts.changes),
            Stat::new("rloc-probes-sent", counts.probes_sent),
            Stat::new("rloc-probes-confirmed", counts.probes_confirmed),
            Stat::new("rloc-probes-answered", counts.probes_answered),
            Stat::new("icmp-hints", counts.icmp_hints),
            Stat::new("smrs-sent", counts.smrs_sent),
            Stat::new("smrs-received", counts.smrs_received),
        ]
    }
}
