//! The lab itself: that it carries packets, and that its judge can say no.

use std::{path::Path, time::Duration};

use altitude_perf::lab::{self, Capture, Family, Kind, Lab, Pings, Router, SITES, judge_core, judge_site};

const LIMIT: Duration = Duration::from_secs(20);

/// Whether the lab can be built here; says why not.
fn lab_here() -> bool {
    let available = lab::available();
    if let Err(why) = &available {
        println!("SKIP: {why}");
    }
    available.is_ok()
}

#[test]
fn plain_forwarding_carries_both_families_and_the_judge_rejects_it() {
    if !lab_here() {
        return;
    }
    let lab = Lab::new().unwrap();
    for (index, xtr) in lab.xtrs.iter().enumerate() {
        let far = &SITES[1 - index];
        let forward = ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
        lab::run(xtr.command("sysctl").args(forward)).unwrap();
        let [prefix4, prefix6] = far.eid_prefixes();
        xtr.ip(&format!("route add {prefix4} via {}", far.rloc.0)).unwrap();
        xtr.ip(&format!("-6 route add {prefix6} via {}", far.rloc.1)).unwrap();
    }
    let core = Capture::start("core", lab.core_link(0), "", lab.folder()).unwrap();
    let site = Capture::start("site", lab.site_link(1), "", lab.folder()).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
    }
    let perf = Path::new(env!("CARGO_BIN_EXE_altitude-perf"));
    let received = lab.transfer(perf, 0, lab.hosts(1)[1], 100_000, 5).unwrap();
    assert!(received.starts_with("100000 octets, crc32 "), "{received}");

    let ended = |packets: &[lab::Packet]| packets.iter().any(|packet| packet.icmp == Some((129, 3)));
    let packets = site.stop_when("last reply", LIMIT, ended).unwrap();
    assert!(judge_site(&packets).unwrap() >= 12);
    let packets = core.stop_when("last reply", LIMIT, ended).unwrap();
    assert!(packets.iter().all(|packet| !packet.damaged && matches!(packet.kind, Kind::Ip | Kind::Neighbour)));
    let eids = |address| SITES.iter().any(|site| [site.host.0.into(), site.host.1.into()].contains(&address));
    let wrong = judge_core(&packets, &[], eids).unwrap_err().to_string();
    assert!(wrong.starts_with("on the core, unexpected"), "{wrong}");
}

/// RCH-10: locators are watched with probes on the control port alone. Every LISP data packet is one that a host sent, however
/// often it is asked whether the locator lives.
#[test]
fn what_tests_a_locator_is_never_a_data_packet() {
    if !lab_here() {
        return;
    }
    let lab = Lab::new().unwrap();
    let core = Capture::start("core", lab.core_link(0), "", lab.folder()).unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let often = ["--rloc-probing", "1", "--echo-nonce"].map(str::to_owned);
    let xtr = |index: usize| {
        let flags = [lab.xtr_flags(index, Family::V4), often.to_vec()].concat();
        Router::start(["xtr1", "xtr2"][index], &lab.xtrs[index], &flags, lab.folder()).unwrap()
    };
    let routers = [xtr(0), xtr(1)];
    let to = SITES[1].host.0.into();
    let mut pings = 0;
    lab::wait_until("five answered RLOC-probes at each xTR", LIMIT, || {
        assert_eq!(lab.ping(0, to, 1)?, Pings { sent: 1, answered: 1 });
        pings += 1;
        let confirmed = |router: &Router| {
            let counters: serde_json::Value = serde_json::from_str(&router.show(&["counters", "--json"])?)
                .map_err(|error| lab::LabError::Wrong(error.to_string()))?;
            Ok::<_, lab::LabError>(lab::total(&counters, "rloc_probes_confirmed").unwrap_or(0))
        };
        Ok((confirmed(&routers[0])? >= 5 && confirmed(&routers[1])? >= 5).then_some(()))
    })
    .unwrap();
    let replies = |packets: &[lab::Packet]| {
        packets.iter().filter(|packet| packet.kind == Kind::Data && matches!(packet.icmp, Some((0, _)))).count()
            >= pings
    };
    let packets = core.stop_when("last reply", LIMIT, replies).unwrap();
    let probes = packets.iter().filter(|packet| matches!(packet.kind, Kind::Control { tunnelled: false, .. })).count();
    let data: Vec<_> = packets.iter().filter(|packet| packet.kind == Kind::Data).collect();
    assert!(probes >= 20, "{probes} control messages between the RLOCs");
    assert_eq!(data.len(), 2 * pings, "a request and a reply for each ping");
    assert!(data.iter().all(|packet| matches!(packet.icmp, Some((8 | 0, _)))), "{data:?}");
}
