//! What the router says → metric families.
//!
//! Names start with `altitude_`; those of counters are labels (`event`, `reason`), the same as `altitude show counters`
//! prints them, so that every counter of the product is there, the ones at zero included.
//!
//! | metric | labels |
//! |---|---|
//! | `altitude_build_info` | version |
//! | `altitude_worker_events_total` | worker, event |
//! | `altitude_worker_drops_total` | worker, reason |
//! | `altitude_control_events_total` | event |
//! | `altitude_map_cache_entries`, `altitude_map_requests_pending`, `altitude_registrations`, `altitude_subscriptions`, `altitude_subscribers`, `altitude_locators_probed`, `altitude_path_mtus`, `altitude_tables_in_limbo` | – |
//! | `altitude_port_up` | port, roles, sockets |
//! | `altitude_port_packets_total`, `altitude_port_octets_total` | port, direction |
//! | `altitude_port_events_total` | port, event |
//! | `altitude_locator_up`, `…_rtt_seconds`, `…_mappings`, `…_mappings_carrying` | locator |
//! | `altitude_locator_probes_total` | locator, outcome |
//! | `altitude_locators_left_out` | – |
//! | `altitude_tunnel_up` | tunnel, remote |
//! | `altitude_tunnel_datagrams_total` | tunnel, direction |
//! | `altitude_eid_routes` | iid, source |
//! | `altitude_bgp_neighbor_up`, `…_prefixes_received`, `…_prefixes_advertised` | neighbor |
//! | `altitude_bgp_neighbor_events_total` | neighbor, event |
//! | `altitude_map_server_registered`, `altitude_map_server_prefixes` | map_server, standing |
//!
//! The label sets are bounded: by the configuration, by the counters there are, and locators by [`LOCATORS_MAX`].

use altitude_control::api::{
    AltStatus, BgpStatus, Counts, LocatorStatus, PREFIX_STANDINGS, PortStatus, RegistrationStatus, STANDINGS, Scope,
    Stat,
};
use altitude_dataplane::verdict::Reason;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Most locators that are told of each; those that carry most mappings come first, the others are counted.
pub(super) const LOCATORS_MAX: usize = 1000;

/// Counters of the control thread that go up and down.
const GAUGES: [(&str, &str, &str); 8] = [
    ("map-cache-entries", "altitude_map_cache_entries", "Entries of the map-cache."),
    ("map-requests-pending", "altitude_map_requests_pending", "EIDs that are being asked about."),
    ("registrations", "altitude_registrations", "Registrations that our Map-Server holds."),
    ("subscriptions", "altitude_subscriptions", "Prefixes that we subscribed to."),
    ("subscribers", "altitude_subscribers", "Subscriptions at our Map-Server."),
    ("locators-probed", "altitude_locators_probed", "Locators that are probed."),
    ("path-mtus", "altitude_path_mtus", "Locators whose path carries less than its link."),
    ("tables-in-limbo", "altitude_tables_in_limbo", "Parts taken out of the map-cache that a worker may still read."),
];

/// What the router said, at one moment.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    pub(super) counts: Vec<Counts>,
    pub(super) ports: Vec<PortStatus>,
    pub(super) locators: Vec<LocatorStatus>,
    pub(super) alt: AltStatus,
    pub(super) bgp: BgpStatus,
    pub(super) registrations: Vec<RegistrationStatus>,
}

/// All of it; a family may be empty.
pub(super) fn families(scrape: &Scrape) -> Vec<MetricFamily> {
    let mut info = Family::gauge("altitude_build_info", "What runs.");
    info.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let mut families = vec![info];
    families.extend(counters(&scrape.counts));
    families.extend(ports(&scrape.ports));
    families.extend(locators(&scrape.locators));
    families.extend(alt(&scrape.alt));
    families.extend(bgp(&scrape.bgp));
    families.extend(registrations(&scrape.registrations));
    families.into_iter().map(|family| family.family).collect()
}

/// A family being filled.
struct Family {
    of: MetricType,
    family: MetricFamily,
}

impl Family {
    fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    fn new(name: &str, help: &str, of: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(of);
        Self { of, family }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::default();
        if self.of == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        let pair = |&(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        metric.set_label(labels.iter().map(pair).collect());
        self.family.mut_metric().push(metric);
    }
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Exact up to 2^53, as every value of Prometheus.
fn number(value: u64) -> f64 {
    value as f64
}

fn counters(counts: &[Counts]) -> Vec<Family> {
    let mut events = Family::counter("altitude_worker_events_total", "What each worker did, but for drops.");
    let mut drops = Family::counter("altitude_worker_drops_total", "Packets that each worker dropped, by reason.");
    let mut control = Family::counter("altitude_control_events_total", "What the control thread did and refused.");
    let mut gauges = Vec::new();
    for counts in counts {
        for Stat { name, value } in &counts.stats {
            match counts.scope {
                Scope::Worker(worker) if Reason::ALL.iter().any(|reason| reason.name() == name) => {
                    drops.add(&[("worker", &worker.to_string()), ("reason", name)], number(*value));
                }
                Scope::Worker(worker) => {
                    events.add(&[("worker", &worker.to_string()), ("event", name)], number(*value));
                }
                Scope::Control => match GAUGES.iter().find(|(stat, ..)| stat == name) {
                    Some((_, metric, help)) => {
                        let mut gauge = Family::gauge(metric, help);
                        gauge.add(&[], number(*value));
                        gauges.push(gauge);
                    }
                    None => control.add(&[("event", name)], number(*value)),
                },
            }
        }
    }
    gauges.extend([events, drops, control]);
    gauges
}

fn ports(list: &[PortStatus]) -> [Family; 4] {
    let mut up = Family::gauge("altitude_port_up", "Whether the interface is up, with carrier.");
    let mut packets = Family::counter("altitude_port_packets_total", "Packets that workers took and sent.");
    let mut octets = Family::counter("altitude_port_octets_total", "Their octets, Ethernet headers included.");
    let mut events = Family::counter("altitude_port_events_total", "What the kernel says of rings and steering.");
    for port in list {
        let name = port.name.as_str();
        let roles = port.roles();
        let sockets = if port.zero_copy { "zero-copy" } else { "copy" };
        up.add(&[("port", name), ("roles", roles), ("sockets", sockets)], truth(port.up));
        for Stat { name: stat, value } in &port.stats {
            let value = number(*value);
            match stat.as_ref() {
                "received-packets" => packets.add(&[("port", name), ("direction", "in")], value),
                "sent-packets" => packets.add(&[("port", name), ("direction", "out")], value),
                "received-octets" => octets.add(&[("port", name), ("direction", "in")], value),
                "sent-octets" => octets.add(&[("port", name), ("direction", "out")], value),
                event => events.add(&[("port", name), ("event", event)], value),
            }
        }
    }
    [up, packets, octets, events]
}

fn locators(list: &[LocatorStatus]) -> [Family; 6] {
    let mut up = Family::gauge("altitude_locator_up", "Whether packets can be sent to a locator of another site.");
    let mut rtt = Family::gauge("altitude_locator_rtt_seconds", "Smoothed round-trip time of its RLOC-probes.");
    let mut mappings = Family::gauge("altitude_locator_mappings", "Mappings that have it.");
    let mut carrying = Family::gauge("altitude_locator_mappings_carrying", "Of them those with flows to it now.");
    let mut probes = Family::counter("altitude_locator_probes_total", "RLOC-probes sent to it, by what came of them.");
    let mut left_out = Family::gauge("altitude_locators_left_out", "Locators that are not told of here: too many.");
    let mut order: Vec<&LocatorStatus> = list.iter().collect();
    order.sort_by_key(|locator| std::cmp::Reverse((locator.carrying, locator.mappings)));
    for locator in order.iter().take(LOCATORS_MAX) {
        let address = locator.address.to_string();
        let label = [("locator", address.as_str())];
        up.add(&label, truth(locator.up));
        mappings.add(&label, f64::from(locator.mappings));
        carrying.add(&label, f64::from(locator.carrying));
        let Some(probing) = locator.probing else { continue };
        if let Some((smoothed, _)) = probing.rtt {
            rtt.add(&label, smoothed.as_secs_f64());
        }
        for (outcome, count) in [("answered", probing.answered), ("lost", probing.lost)] {
            probes.add(&[label[0], ("outcome", outcome)], number(count));
        }
    }
    left_out.add(&[], number(list.len().saturating_sub(LOCATORS_MAX) as u64));
    [up, rtt, mappings, carrying, probes, left_out]
}

fn alt(status: &AltStatus) -> [Family; 3] {
    let mut up = Family::gauge("altitude_tunnel_up", "Whether packets pass an ALT tunnel, as far as is known.");
    let mut datagrams = Family::counter("altitude_tunnel_datagrams_total", "Packets through an ALT tunnel.");
    let mut routes = Family::gauge("altitude_eid_routes", "EID-prefixes with a route in the ALT.");
    for tunnel in &status.tunnels {
        let name = tunnel.name.as_str();
        up.add(&[("tunnel", name), ("remote", &tunnel.remote.to_string())], truth(tunnel.up));
        for (stat, direction) in [("received", "in"), ("sent", "out")] {
            let value = tunnel.stats.iter().find(|counted| counted.name == stat).map_or(0, |counted| counted.value);
            datagrams.add(&[("tunnel", name), ("direction", direction)], number(value));
        }
    }
    for source in &status.sources {
        let instance = source.instance.to_string();
        routes.add(&[("iid", &instance), ("source", &source.source)], number(source.prefixes));
    }
    [up, datagrams, routes]
}

fn bgp(status: &BgpStatus) -> [Family; 4] {
    let mut up = Family::gauge("altitude_bgp_neighbor_up", "Whether the session is established.");
    let mut received = Family::gauge("altitude_bgp_neighbor_prefixes_received", "Prefixes of the neighbour's.");
    let mut advertised = Family::gauge("altitude_bgp_neighbor_prefixes_advertised", "Prefixes it was told.");
    let mut events = Family::counter("altitude_bgp_neighbor_events_total", "Messages, faults, and routes refused.");
    for neighbor in &status.neighbors {
        let label = ("neighbor", neighbor.name.as_str());
        up.add(&[label], truth(neighbor.session.is_some()));
        received.add(&[label], number(neighbor.received));
        advertised.add(&[label], number(neighbor.advertised));
        for Stat { name, value } in &neighbor.stats {
            events.add(&[label, ("event", name)], number(*value));
        }
    }
    [up, received, advertised, events]
}

fn registrations(list: &[RegistrationStatus]) -> [Family; 2] {
    let mut prefixes =
        Family::gauge("altitude_map_server_prefixes", "EID-prefixes of ours, by how far their registration is.");
    let mut standings = Family::gauge("altitude_map_server_registered", "1 at the standing of a Map-Server with us.");
    for status in list {
        let server = status.server.to_string();
        for standing in STANDINGS {
            standings.add(&[("map_server", &server), ("standing", standing)], truth(status.standing == standing));
        }
        for standing in PREFIX_STANDINGS {
            let count = status.prefixes.iter().filter(|prefix| prefix.standing == standing).count();
            prefixes.add(&[("map_server", &server), ("standing", standing)], number(count as u64));
        }
    }
    [standings, prefixes]
}

#[cfg(test)]
mod tests;
