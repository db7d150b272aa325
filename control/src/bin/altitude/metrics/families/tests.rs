use std::{net::Ipv4Addr, time::Duration};

use altitude_control::api::{ProbingStatus, TunnelStatus};
use altitude_dataplane::mapping::InstanceId;
use prometheus::TextEncoder;

use super::*;

fn text(scrape: &Scrape) -> String {
    let mut families = families(scrape);
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families).unwrap()
}

fn locator(last: u32, carrying: u32) -> LocatorStatus {
    let address = Ipv4Addr::from(0xf000_0000 + last).into();
    LocatorStatus { address, up: true, why: String::new(), mappings: 3, carrying, probing: None }
}

#[test]
fn counters_gauges_and_drops_come_apart() {
    let worker = |number, drops| Counts {
        scope: Scope::Worker(number),
        stats: vec![Stat::new("encapsulated", 7), Stat::new(Reason::ActDrop.name(), drops)],
    };
    let control = ["misses", "map-cache-entries", "path-mtus"]
        .into_iter()
        .zip([2, 5, 3])
        .map(|(name, value)| Stat::new(name, value));
    let control = Counts { scope: Scope::Control, stats: control.collect() };
    let text = text(&Scrape { counts: vec![worker(0, 1), worker(1, 0), control], ..Scrape::default() });
    let drop = Reason::ActDrop.name();
    for line in [
        "# TYPE altitude_worker_events_total counter",
        "altitude_worker_events_total{worker=\"0\",event=\"encapsulated\"} 7",
        &format!("altitude_worker_drops_total{{worker=\"0\",reason=\"{drop}\"}} 1"),
        &format!("altitude_worker_drops_total{{worker=\"1\",reason=\"{drop}\"}} 0"),
        "altitude_control_events_total{event=\"misses\"} 2",
        "# TYPE altitude_map_cache_entries gauge",
        "altitude_map_cache_entries 5",
        "# TYPE altitude_path_mtus gauge",
        "altitude_path_mtus 3",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("event=\"map-cache-entries\"") && !text.contains(&format!("event=\"{drop}\"")), "{text}");
}

#[test]
fn a_locator_shows_whether_it_is_up_and_how_far_away() {
    let mut far = locator(1, 2);
    far.probing = Some(ProbingStatus {
        state: 1,
        since: Duration::from_secs(9),
        held: false,
        rtt: Some((Duration::from_millis(25), Duration::from_millis(1))),
        sent: 6,
        answered: 4,
        lost: 2,
    });
    let mut gone = locator(2, 0);
    gone.up = false;
    let text = text(&Scrape { locators: vec![far, gone], ..Scrape::default() });
    for line in [
        "altitude_locator_up{locator=\"240.0.0.1\"} 1",
        "altitude_locator_up{locator=\"240.0.0.2\"} 0",
        "altitude_locator_rtt_seconds{locator=\"240.0.0.1\"} 0.025",
        "altitude_locator_mappings_carrying{locator=\"240.0.0.1\"} 2",
        "altitude_locator_probes_total{locator=\"240.0.0.1\",outcome=\"lost\"} 2",
        "altitude_locators_left_out 0",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("rtt_seconds{locator=\"240.0.0.2\"}"), "no round trip was measured:\n{text}");
}

#[test]
fn of_very_many_locators_those_that_carry_most_are_told_of() {
    let many = (0..LOCATORS_MAX as u32 + 5).map(|last| locator(last, last)).collect();
    let text = text(&Scrape { locators: many, ..Scrape::default() });
    let told = text.lines().filter(|line| line.starts_with("altitude_locator_up{")).count();
    assert_eq!(told, LOCATORS_MAX);
    assert!(text.contains("altitude_locators_left_out 5\n"), "{text}");
    assert!(!text.contains("altitude_locator_up{locator=\"240.0.0.4\"}"));
    assert!(text.contains("altitude_locator_up{locator=\"240.0.0.5\"}"));
}

#[test]
fn ports_tunnels_and_map_servers_have_their_names() {
    let port = PortStatus {
        name: "eth0".to_owned(),
        index: 2,
        site: false,
        core: true,
        native: false,
        instance: InstanceId::default(),
        up: true,
        zero_copy: true,
        mtu: 1500,
        mac: None,
        stats: vec![Stat::new("received-packets", 3), Stat::new("sent-octets", 90), Stat::new("kernel-rx-dropped", 1)],
    };
    let tunnel = TunnelStatus {
        name: "alt\"0".to_owned(),
        local: [240, 0, 254, 10].into(),
        remote: [240, 0, 254, 30].into(),
        key: None,
        checksum: false,
        up: false,
        addresses: Vec::new(),
        stats: vec![Stat::new("received", 4), Stat::new("sent", 5)],
    };
    let server = RegistrationStatus {
        server: [240, 0, 254, 40].into(),
        standing: "wrong-key",
        since: Duration::ZERO,
        sent: 1,
        confirmed: 0,
        last_notify: None,
        reason: None,
        prefixes: Vec::new(),
    };
    let alt = AltStatus { tunnels: vec![tunnel], ..AltStatus::default() };
    let text = text(&Scrape { ports: vec![port], alt, registrations: vec![server], ..Scrape::default() });
    for line in [
        "altitude_port_up{port=\"eth0\",roles=\"core\",sockets=\"zero-copy\"} 1",
        "altitude_port_packets_total{port=\"eth0\",direction=\"in\"} 3",
        "altitude_port_octets_total{port=\"eth0\",direction=\"out\"} 90",
        "altitude_port_events_total{port=\"eth0\",event=\"kernel-rx-dropped\"} 1",
        "altitude_tunnel_up{tunnel=\"alt\\\"0\",remote=\"240.0.254.30\"} 0",
        "altitude_tunnel_datagrams_total{tunnel=\"alt\\\"0\",direction=\"out\"} 5",
        "altitude_map_server_registered{map_server=\"240.0.254.40\",standing=\"wrong-key\"} 1",
        "altitude_map_server_registered{map_server=\"240.0.254.40\",standing=\"registered\"} 0",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is missing in\n{text}");
    }
}
