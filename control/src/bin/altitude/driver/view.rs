//! What the mapping API shows of the control thread's state.

mod bgp;
mod locators;
mod registration;
mod sites;
mod subscriptions;

use std::{
    net::IpAddr,
    ops::Bound,
    time::{Instant, SystemTime},
};

use altitude_control::{
    alt::{
        bgp::speaker::Speaker,
        keepalive,
        rib::{Hop, kernel::KernelRib},
    },
    api::{
        AltStatus, BgpRoute, BgpStatus, BindingsAfter, BindingsPage, Counts, Entry, LocatorStatus, Origin, Places,
        PortStatus, RegistrationStatus, RouteStatus, RoutesAsked, Scope, SitesPage, SourceStatus, Stat,
        SubscriptionsAfter, SubscriptionsPage, Table, TunnelStatus, View,
    },
    fault::{Fault, Tally},
    map_cache::{self, Cached},
    os::netlink::table::RouteTable,
};
use altitude_dataplane::{
    counters::Volume,
    mapping::{Eid, EidPrefix, PortIndex, Prefix},
    port::xsk::XskStatistics,
};

use super::Driver;

impl View for Driver<'_> {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(self.places_from(table, Bound::Unbounded).filter_map(|(_, entry)| entry))
    }

    fn places_from(&self, table: Table, start: Bound<EidPrefix>) -> Places<'_> {
        match table {
            Table::Cache => Box::new(self.map_cache.iter_from(start).map(|cached| {
                let shown = !self.is_condemned(&cached);
                (cached.eid, shown.then(|| self.cached(&cached)))
            })),
            Table::Database => {
                let eids = self.own.iter_from(start).map(|own| own.mapping.eid);
                Box::new(eids.map(|eid| (eid, self.own_entry(&eid))))
            }
        }
    }

    fn counts(&self) -> Vec<Counts> {
        let workers = self.workers.iter().enumerate().map(|(number, worker)| Counts {
            scope: Scope::Worker(number as u16),
            stats: worker.counters.named().map(|(name, value)| Stat::new(name, value)).collect(),
        });
        workers.chain([Counts { scope: Scope::Control, stats: self.control_stats() }]).collect()
    }

    fn ports(&self) -> Vec<PortStatus> {
        let links: Vec<_> = self.kernel.underlay.ports().collect();
        let ports = self.config.ports.iter().enumerate().map(|(index, port)| {
            let link = links.iter().find(|link| usize::from(link.port) == index);
            PortStatus {
                name: port.name.clone(),
                index: link.map_or(0, |link| link.index),
                site: port.site,
                core: port.core,
                native: port.native,
                instance: port.instance,
                up: link.is_some_and(|link| link.up),
                zero_copy: self.workers.iter().all(|worker| worker.zero_copy),
                mtu: link.map_or(0, |link| link.mtu),
                mac: link.and_then(|link| link.mac),
                stats: self.port_stats(index),
            }
        });
        ports.collect()
    }

    fn alt(&self) -> AltStatus {
        let tunnels = self.config.tunnels.iter().zip(&self.tunnel_states).map(|(tunnel, state)| TunnelStatus {
            name: tunnel.name.clone(),
            local: tunnel.local,
            remote: tunnel.remote,
            key: tunnel.key,
            checksum: tunnel.checksum,
            up: state.liveness.state() == keepalive::State::Up,
            addresses: tunnel.addresses.clone(),
            stats: vec![
                Stat::new("received", state.received),
                Stat::new("sent", state.sent),
                Stat::new("icmp-hints", state.liveness.hint().1),
                Stat::new("mtu", state.mtu.map_or(0, u64::from)),
            ],
        });
        let routes = self.rib.fixed.routes().map(|(eid, hop)| RouteStatus {
            eid,
            via: match hop {
                Hop::Tunnel(tunnel) => self.tunnels.get(tunnel).map(|tunnel| tunnel.name.clone()),
                Hop::Discard => None,
            },
        });
        AltStatus { tunnels: tunnels.collect(), sources: self.sources(), routes: routes.collect() }
    }

    fn locators(&self, after: Option<IpAddr>, max: usize) -> Vec<LocatorStatus> {
        self.locator_page(after, max)
    }

    fn bgp(&self) -> BgpStatus {
        bgp::status(self.config, self.rib.speaker.as_ref(), Instant::now())
    }

    fn bgp_routes(&self, asked: RoutesAsked, max: usize) -> Vec<BgpRoute> {
        let speaker = self.rib.speaker.as_ref().zip(self.config.speaker.as_ref());
        speaker.map_or_else(Vec::new, |(speaker, settings)| bgp::routes(settings, speaker, asked, max))
    }

    fn registrations(&self) -> Vec<RegistrationStatus> {
        registration::statuses(&self.registration, Instant::now())
    }

    fn bindings(&self, after: Option<BindingsAfter>, max: usize) -> BindingsPage {
        self.relaying.page(Instant::now(), after, max)
    }

    fn subscriptions(&self, after: Option<SubscriptionsAfter>, max: usize) -> SubscriptionsPage {
        subscriptions::page(self.pubsub.subscriber.as_ref(), &self.map_server, after, max, Instant::now())
    }

    fn sites(&self, from: u32, max: usize) -> SitesPage {
        sites::page(&self.map_server, from, max)
    }

    fn exact(&self, table: Table, eid: &EidPrefix) -> Option<Entry> {
        match table {
            Table::Cache => {
                let there = self.map_cache.get(eid).filter(|cached| !self.is_condemned(cached));
                there.map(|cached| self.cached(&cached))
            }
            Table::Database => self.own_entry(eid),
        }
    }

    fn longest(&self, table: Table, eid: Eid) -> Option<Entry> {
        match table {
            Table::Cache => self.longest_left(eid).map(|cached| self.cached(&cached)),
            Table::Database => self.own_entry(&self.publisher.own_prefix(eid)?),
        }
    }
}

impl Driver<'_> {
    fn cached(&self, cached: &Cached<'_>) -> Entry {
        let origin = match cached.origin {
            map_cache::Origin::Static => Origin::Static,
            map_cache::Origin::Reply => Origin::MapReply,
            map_cache::Origin::PubSub => Origin::PubSub,
            map_cache::Origin::Api => Origin::Api,
            map_cache::Origin::Nat => Origin::Nat,
            map_cache::Origin::GivenUp => Origin::GivenUp,
        };
        let up = |address| self.carries(address);
        let mut entry = Entry::new(Table::Cache, &cached.mapping(), origin, self.wall_clock(cached.created), up);
        entry.left = cached.expires.map(|expires| expires.saturating_duration_since(Instant::now()));
        entry.ephemeral = self.operations.is_ephemeral(&entry.eid);
        for locator in &mut entry.locators {
            locator.bad = self.reachability.banned.contains(&locator.locator.address);
        }
        self.with_hits(entry)
    }

    /// The longest match among entries that no FLUSH is about to take out.
    fn longest_left(&self, eid: Eid) -> Option<Cached<'_>> {
        let longest = self.map_cache.lookup(eid)?;
        let shorter = (0..longest.eid.prefix.length()).rev().filter_map(|length| {
            let prefix = Prefix::new(eid.address, length).ok()?;
            self.map_cache.get(&EidPrefix { instance: eid.instance, prefix })
        });
        [longest].into_iter().chain(shorter).find(|cached| !self.is_condemned(cached))
    }

    /// Where the EID routes of each instance come from, and how many there are.
    fn sources(&self) -> Vec<SourceStatus> {
        let summary = self.rib.speaker.as_ref().map(Speaker::summary);
        let sources = self.config.ribs.iter().map(|(instance, source)| {
            let fixed = self.rib.fixed.routes().filter(|(eid, _)| eid.instance == *instance).count();
            let kernel = self.rib.kernel.iter().find(|rib| rib.instance() == *instance);
            let by_bgp = summary.iter().flat_map(|summary| &summary.instances).find(|of| of.instance == *instance);
            let learned = kernel.map_or(0, KernelRib::len) + by_bgp.map_or(0, |of| of.prefixes);
            let deferring = by_bgp.is_some() && summary.as_ref().is_some_and(|summary| summary.deferring);
            SourceStatus {
                instance: *instance,
                source: source.to_string(),
                ready: kernel.is_none_or(KernelRib::is_read) && !deferring,
                prefixes: (fixed + learned) as u64,
            }
        });
        sources.collect()
    }

    pub(super) fn with_hits(&self, mut entry: Entry) -> Entry {
        let hits = self.publisher.hits(&entry.eid);
        (entry.packets, entry.octets) = (hits.packets, hits.octets);
        entry
    }

    /// The calendar's time of a moment in the past.
    pub(super) fn wall_clock(&self, moment: Instant) -> SystemTime {
        SystemTime::now() - moment.elapsed()
    }

    fn control_stats(&self) -> Vec<Stat> {
        let traffic = &self.traffic;
        let netlink = self.kernel.netlink.counters();
        let mut stats = vec![
            Stat::new("misses", traffic.misses),
            Stat::new("misses-limited", traffic.misses_limited),
            Stat::new("miss-packets-lost", self.samples_lost()),
            Stat::new("map-requests-sent", traffic.map_requests_out),
            Stat::new("map-requests-received", traffic.map_requests_in),
            Stat::new("map-replies-sent", traffic.map_replies_out),
            Stat::new("map-replies-received", traffic.map_replies_in),
            Stat::new("lisp-sec-requests-sent", traffic.secured_out),
            Stat::new("lisp-sec-replies-proven", traffic.replies_proven),
            Stat::new("map-registers-sent", self.registration.registers_sent),
            Stat::new("map-notifies-received", self.registration.notifies_received),
            Stat::new("map-notify-acks-sent", self.registration.acks_sent),
            Stat::new("alt-datagrams-forwarded", traffic.alt_forwarded),
            Stat::new("map-requests-to-sites", traffic.map_requests_to_sites),
            Stat::new("map-registers-received", traffic.map_registers_in),
            Stat::new("map-notifies-sent", traffic.map_notifies_out),
            Stat::new("registrations", self.map_server.len() as u64),
            Stat::new("state-not-written", self.state.as_ref().map_or(0, super::state::State::lost)),
            Stat::new("icmp-errors-sent", traffic.icmp_errors_out),
            Stat::new("map-cache-entries", self.map_cache.len() as u64),
            Stat::new("map-requests-pending", self.resolver.pending().count() as u64),
            Stat::new("entries-refused", self.publisher.refused()),
            Stat::new("tables-in-limbo", self.limbo as u64),
            Stat::new("eids-given-up", traffic.given_up),
            Stat::new("paths-refused", traffic.paths_refused),
            Stat::new("api-clients-refused", traffic.clients_refused),
            Stat::new("api-changes", self.operations.done),
            Stat::new("api-changes-refused", self.operations.refused),
            Stat::new("neighbours-ignored", self.kernel.underlay.ignored()),
            Stat::new("netlink-overruns", netlink.overruns),
            Stat::new("netlink-interrupted", netlink.interrupted),
            Stat::new("netlink-undecoded", netlink.undecoded),
            Stat::new("netlink-questions-dropped", netlink.questions_dropped),
            Stat::new("netlink-questions-lost", netlink.questions_lost),
            Stat::new("netlink-refused", netlink.refused),
        ];
        stats.extend(self.reachability_stats());
        stats.extend(self.feature_stats());
        stats.extend(self.pubsub_stats());
        stats.extend(self.nat_stats());
        let faults = &self.faults;
        add(&mut stats, &faults.control);
        add(&mut stats, &faults.resolver);
        add(&mut stats, &faults.request);
        add(&mut stats, &faults.cache);
        add(&mut stats, &faults.gre);
        add(&mut stats, &faults.datagram);
        add(&mut stats, &faults.ecm);
        add(&mut stats, &faults.client);
        add(&mut stats, &faults.site);
        add(&mut stats, &faults.security);
        add(&mut stats, &self.registration.faults);
        add(&mut stats, &faults.rib);
        self.add_reachability_faults(&mut stats);
        stats.extend(bgp::totals(self.rib.speaker.as_ref()));
        stats.extend([
            Stat::new("rib-undecoded", self.sockets.tables.iter().map(RouteTable::undecoded).sum()),
            Stat::new("bgp-strangers", self.bgp.losses.strangers),
            Stat::new("bgp-outbox-overflows", self.bgp.losses.overflows),
        ]);
        stats
    }

    fn add_reachability_faults(&self, stats: &mut Vec<Stat>) {
        let reachability = &self.reachability;
        add(stats, &reachability.probe_faults);
        add(stats, &reachability.smr_faults);
        add(stats, &reachability.path_mtu_faults);
        add(stats, &reachability.features.version_faults);
        add(stats, &reachability.features.status_faults);
        add(stats, &reachability.features.nonce_faults);
    }

    /// What the workers counted on a port, then what the kernel says of its sockets and its steering program.
    fn port_stats(&self, index: usize) -> Vec<Stat> {
        let port = index as PortIndex;
        let sum = |volume: fn(&altitude_dataplane::counters::PortCounters) -> &Volume| {
            self.workers.iter().fold((0, 0), |(packets, octets), worker| {
                let volume = volume(worker.counters.port(port));
                (packets + volume.packets.get(), octets + volume.octets.get())
            })
        };
        let (received, sent) = (sum(|port| &port.received), sum(|port| &port.sent));
        let mut stats = vec![
            Stat::new("received-packets", received.0),
            Stat::new("received-octets", received.1),
            Stat::new("sent-packets", sent.0),
            Stat::new("sent-octets", sent.1),
        ];
        let sockets: Vec<XskStatistics> =
            self.workers.iter().filter_map(|worker| worker.sockets.get(index)?.statistics().ok()).collect();
        let total = |count: fn(&XskStatistics) -> u64| sockets.iter().map(count).sum();
        stats.extend([
            Stat::new("kernel-rx-dropped", total(|socket| socket.rx_dropped)),
            Stat::new("kernel-rx-ring-full", total(|socket| socket.rx_ring_full)),
            Stat::new("kernel-fill-ring-empty", total(|socket| socket.fill_ring_empty)),
            Stat::new("kernel-tx-invalid", total(|socket| socket.tx_invalid)),
        ]);
        if let Some(counts) = self.steering.get(index).and_then(|steering| steering.counts().ok()) {
            stats.push(Stat::new("steered-to-socket", counts.redirected));
            stats.push(Stat::new("steered-to-kernel", counts.passed));
        }
        stats
    }
}

fn add<F: Fault>(stats: &mut Vec<Stat>, tally: &Tally<F>) {
    stats.extend(tally.iter().map(|(name, value)| Stat::new(name, value)));
}
