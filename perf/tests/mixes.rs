//! The four family mixes end to end: `altitude run` at both ends and as the ALT router, real AF_XDP on veth, tshark as
//! the judge.

use std::{net::IpAddr, path::Path, time::Duration};

use altitude_perf::lab::{self, Capture, Family, Kind, Lab, Link, PING_TOS, PING_TTL, Packet, Pings, SITES};

const PINGS: u16 = 5;
const TRANSFER: u64 = 2_000_000;
const LIMIT: Duration = Duration::from_secs(20);

/// ITR-8.
#[test]
fn ipv4_in_ipv4() {
    mix(Family::V4, Family::V4);
}

/// ITR-8.
#[test]
fn ipv4_in_ipv6() {
    mix(Family::V4, Family::V6);
}

/// ITR-8.
#[test]
fn ipv6_in_ipv4() {
    mix(Family::V6, Family::V4);
}

/// ITR-8.
#[test]
fn ipv6_in_ipv6() {
    mix(Family::V6, Family::V6);
}

/// Hosts of family `inner` talk while all RLOCs are of family `outer`.
fn mix(inner: Family, outer: Family) {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let core = Capture::start("core", lab.core_link(0), "", lab.folder()).unwrap();
    let sites =
        [0, 1].map(|index| Capture::start(["one", "two"][index], lab.site_link(index), "", lab.folder()).unwrap());
    let mut routers = lab.start_routers(outer).unwrap();

    // Both directions: the second finds its mappings, and its first packet must not be lost either.
    for from in [0, 1] {
        let to = inner.of(SITES[1 - from].host);
        assert_eq!(lab.ping(from, to, PINGS).unwrap(), Pings { sent: PINGS, answered: PINGS }, "{to}");
    }
    let perf = Path::new(env!("CARGO_BIN_EXE_altitude-perf"));
    lab.transfer(perf, 0, inner.of(SITES[1].host), TRANSFER, 1).unwrap();
    for (router, name) in routers.iter_mut().zip(["xtr1", "xtr2", "alt"]) {
        let status = router.stop().unwrap();
        assert!(status.success(), "{name} {status}: {}", router.process.output());
        assert!(!router.api.exists(), "{name} left its socket");
        let output = router.process.output();
        assert!(output.contains("leaked=0"), "{name} does not account for its frames: {output}");
    }
    for xtr in &lab.xtrs {
        for name in ["site", "core"] {
            assert!(!Link { namespace: xtr, name }.has_xdp().unwrap(), "an XDP program was left on {name}");
        }
        assert!(!xtr.ip("link show").unwrap().contains("alt0"), "the TUN was left");
    }

    let packets = core.stop_when("last packet on the core", LIMIT, connection_ended).unwrap();
    judge(&packets, inner, outer);
    for site in sites {
        let packets = site.stop_when("last packet inside a site", LIMIT, connection_ended).unwrap();
        // Requests and replies both ways, and more than a hundred segments.
        assert!(lab::judge_site(&packets).unwrap() > 4 * PINGS as usize + 100);
    }
}

fn judge(packets: &[Packet], inner: Family, outer: Family) {
    let rlocs: [IpAddr; 2] = [outer.of(SITES[0].rloc), outer.of(SITES[1].rloc)];
    let hosts: [IpAddr; 2] = [inner.of(SITES[0].host), inner.of(SITES[1].host)];
    let core = lab::judge_core(packets, &rlocs, |address| hosts.contains(&address)).unwrap();
    // Two pings and the two directions of a connection.
    assert!(core.flows >= 4 && core.source_ports > 1, "{core:?}");
    for packet in packets.iter().filter(|packet| packet.kind == Kind::Data) {
        let header = packet.headers[1];
        assert!(hosts.contains(&header.source) && hosts.contains(&header.destination), "{packet:?}");
    }
    let copied = |packet: &&Packet| {
        let outer = packet.headers.first();
        packet.kind == Kind::Data && outer.is_some_and(|outer| (outer.ttl, outer.tos) == (PING_TTL - 1, PING_TOS))
    };
    assert!(packets.iter().filter(copied).count() >= 2 * PINGS as usize, "TTL and TOS were not copied");

    let asked = core.requests.iter().find(|asked| asked.datagram.destination == hosts[1]).expect("a Map-Request");
    assert_eq!(asked.tunnel.source, rlocs[0]);
    if inner == outer {
        assert_eq!(asked.datagram.source, rlocs[0], "the ITR's RLOC is the source of an ALT datagram");
    }
    assert!(core.replies.contains(&(asked.nonce, rlocs[1], rlocs[0])), "no native Map-Reply: {core:?}");
}

/// Whether both ends of the TCP connection have said that they are done.
fn connection_ended(packets: &[Packet]) -> bool {
    packets.iter().filter(|packet| packet.tcp_fin).count() >= 2
}
