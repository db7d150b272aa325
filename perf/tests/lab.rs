//! The lab itself: that it carries packets, and that its judge can say no.

use std::{path::Path, time::Duration};

use altitude_perf::lab::{self, Capture, Kind, Lab, Pings, SITES, judge_core, judge_site};

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
    let received = lab.transfer(perf, lab.hosts(1)[1], 100_000, 5).unwrap();
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
