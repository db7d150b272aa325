//! From misses, mappings and the underlay to what workers read.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use altitude_control::{
    api::{MissReason, Table},
    map_cache,
    path_mtu::PathMtu,
    prober::{self, Prober},
    publisher::{Path, Paths, Watch},
    resolver,
    underlay::{self, Progress, Underlay},
};
use altitude_dataplane::{
    mapping::{Adjacency, Eid, EidPrefix, Locator, Nonce},
    port::xsk::Steering,
};

use super::{Driver, RunError, features::Features, inside, news::Turn};

/// The underlay as the publisher asks it.
pub(super) struct Known<'a> {
    pub(super) underlay: &'a Underlay,
    pub(super) prober: Option<&'a Prober>,
    /// Locators that a client of the mapping API has taken out of use.
    pub(super) banned: &'a BTreeSet<IpAddr>,
    pub(super) features: &'a Features,
    pub(super) source_port: Option<u16>,
    pub(super) path_mtu: Option<&'a PathMtu>,
}

impl Known<'_> {
    /// Whether it is clear that no packet can be sent there. What is not watched may well be reached.
    pub(super) fn is_unreachable(&self, destination: IpAddr) -> bool {
        self.underlay.explain(destination) != Progress::NotWatched && self.path(destination) == Path::Unreachable
    }
}

impl Paths for Known<'_> {
    fn path(&self, destination: IpAddr) -> Path {
        match (self.underlay.adjacency(destination), self.underlay.explain(destination)) {
            (Some(adjacency), _) => {
                let learned = self.path_mtu.and_then(|learned| learned.mtu(destination));
                let mtu = learned.map_or(adjacency.mtu, |mtu| mtu.min(adjacency.mtu));
                Path::Ready(Adjacency { mtu, ..adjacency })
            }
            (None, progress) if progress.is_waiting() => Path::Waiting,
            (None, _) => Path::Unreachable,
        }
    }

    fn source(&self, destination: IpAddr) -> Option<IpAddr> {
        self.underlay.source_for(destination)
    }

    fn probed(&self, locator: IpAddr) -> prober::State {
        let lost = self.features.nonces.as_ref().is_some_and(|nonces| nonces.is_lost(locator));
        if lost || self.banned.contains(&locator) {
            return prober::State::Down;
        }
        self.prober.map_or(prober::State::Unknown, |prober| prober.state(locator))
    }

    fn nonce(&self, locator: IpAddr) -> Option<Nonce> {
        self.features.nonces.as_ref()?.nonce(locator)
    }

    fn source_port(&self) -> Option<u16> {
        self.source_port
    }

    fn status(&self, eid: &EidPrefix, locators: &[Locator]) -> Option<u32> {
        self.features.status.as_ref()?.seen_bits(eid, locators)
    }
}

impl Driver<'_> {
    /// Steps the map-cache and does what it says.
    pub(super) fn cache(&mut self, now: Instant, input: map_cache::Input) {
        let mut todo = Vec::new();
        let publisher = &self.publisher;
        let input = self.nat_site.let_in(input);
        let ended = self.map_cache.step(now, input, &|eid| publisher.hits(eid).packets, &mut todo);
        let mut news = Vec::new();
        let mut watches = Vec::new();
        let (mut refresh, mut used, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let known = self.reachability.known(&self.kernel.underlay);
        let mut located = false;
        for (at, output) in todo.into_iter().enumerate() {
            match output {
                map_cache::Output::Publish(mapping, set) => {
                    tracing::debug!(eid = %mapping.eid, locators = mapping.locators.len(), "mapping published");
                    located |= set.is_some();
                    let known_before = self.publisher.shows(&mapping.eid);
                    news.push((mapping.eid, if known_before { Turn::Changed } else { Turn::Came }));
                    self.publisher.show(&mapping, set, &known, &mut watches);
                }
                map_cache::Output::Withdraw(eid) => {
                    tracing::debug!(%eid, "mapping withdrawn");
                    news.push((eid, Turn::Left { expired: at < ended }));
                    self.publisher.hide(&eid, &mut watches);
                    gone.push(eid);
                }
                map_cache::Output::Release(set) => self.publisher.release(set, &mut watches),
                // There is no locator to ask about a negative mapping: it lapses, and the next packet asks the ALT.
                map_cache::Output::Refresh(eid) if self.is_negative(&eid) => {}
                map_cache::Output::Refresh(eid) => refresh.push(eid),
                map_cache::Output::Used(eid) => used.push(eid),
                map_cache::Output::Fault(fault) => self.faults.cache.count(fault),
            }
        }
        self.watch(now, watches);
        for (eid, turn) in news {
            self.turned(Table::Cache, eid, turn);
        }
        if located {
            self.look_soon(now);
        }
        for eid in gone {
            self.forget_features(now, eid);
        }
        for eid in refresh {
            self.miss_news(now, eid, MissReason::Expiring, None);
            // What a client put in is the client's to renew.
            if self.map_cache.get(&eid).is_none_or(|cached| cached.origin != map_cache::Origin::Api) {
                self.resolve(now, resolver::Input::Refresh(eid));
            }
        }
        for eid in used {
            self.in_use(now, eid);
        }
    }

    fn is_negative(&self, eid: &EidPrefix) -> bool {
        self.map_cache.get(eid).is_some_and(|cached| cached.is_negative())
    }

    /// Has the path to a host resolved.
    pub(super) fn want_host(&mut self, now: Instant, eid: Eid) {
        let mut watches = Vec::new();
        let known = self.reachability.known(&self.kernel.underlay);
        self.publisher.want_host(eid, &known, &mut watches);
        self.watch(now, watches);
    }

    /// Tries again what the workers' table refused for want of room.
    pub(super) fn mend(&mut self, now: Instant) {
        let mut watches = Vec::new();
        let known = self.reachability.known(&self.kernel.underlay);
        self.publisher.mend(&self.map_cache, &known, &mut watches);
        self.watch(now, watches);
    }

    /// Forgets site hosts that nobody sends to.
    pub(super) fn age_hosts(&mut self, now: Instant) {
        let mut watches = Vec::new();
        self.publisher.age_hosts(&mut watches);
        self.watch(now, watches);
    }

    /// Takes in what the kernel has to tell of its network.
    pub(super) fn hear_kernel(&mut self, now: Instant) -> Result<(), RunError> {
        let mut inputs = Vec::new();
        self.kernel.netlink.receive(&mut inputs)?;
        if inputs.iter().any(inside::concerns) {
            self.inside.look_again(now);
        }
        for input in inputs {
            self.learn(now, input);
        }
        self.check_tunnels(now);
        self.check_own_rlocs(now);
        Ok(())
    }

    /// Steps the underlay and does what it says.
    pub(super) fn learn(&mut self, now: Instant, input: underlay::Input) {
        let mut todo = Vec::new();
        if let underlay::Input::Link { name, .. } = &input {
            self.refresh_mac(name);
        }
        self.kernel.underlay.step(now, input, &mut todo);
        for output in todo {
            if let Err(error) = self.kernel.netlink.perform(&output) {
                // The machine asks again by itself.
                tracing::debug!(%error, ?output, "netlink refused a question");
            }
            match output {
                underlay::Output::Changed(destination) => {
                    let progress = self.kernel.underlay.explain(destination);
                    tracing::debug!(%destination, %progress, "path changed");
                    let known = self.reachability.known(&self.kernel.underlay);
                    self.publisher.path_changed(destination, &known);
                    self.path_news(destination, progress);
                    if progress == Progress::Ready {
                        self.hint(now, destination);
                    }
                }
                underlay::Output::AddressesChanged => {
                    self.steer_or_again(now);
                }
                underlay::Output::Refused(destination) => {
                    self.traffic.paths_refused += 1;
                    tracing::debug!(%destination, "too many destinations are watched; this one has no path");
                }
                underlay::Output::AskRoute(_) | underlay::Output::Resolve { .. } => {}
            }
        }
    }

    /// Only frames to a port's own address are steered, and this may have changed.
    fn refresh_mac(&mut self, interface: &str) {
        let steering = self.steering.iter_mut().find(|steering| steering.interface().name == interface);
        if let Some(Err(error)) = steering.map(Steering::refresh_mac) {
            tracing::warn!(%error, "the steering program could not be told of a changed link");
        }
    }

    pub(super) fn watch(&mut self, now: Instant, watches: Vec<Watch>) {
        // The far end of a tunnel stays watched, whether it is a locator or not.
        let tunnels = &self.config.tunnels;
        let is_kept =
            |watch: &Watch| matches!(watch, Watch::Stop(to) if tunnels.iter().any(|tunnel| tunnel.remote == *to));
        for watch in watches.into_iter().filter(|watch| !is_kept(watch)) {
            self.learn(
                now,
                match watch {
                    Watch::Start(destination) => underlay::Input::Watch(destination),
                    Watch::Stop(destination) => underlay::Input::Unwatch(destination),
                },
            );
        }
        // Answers to route questions may already wait; the next round of the loop hears them.
    }
}
