//! The demo: two sites talk, LISP over ALT through AF_XDP, and tshark says whether it is so.

use std::{
    env,
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::lab::{
    self, Asked, Capture, Core, Family, Kind, Lab, LabError, PING_TOS, PING_TTL, Packet, Pings, Router, SITES,
    judge_core, judge_site,
};

/// Owner of the namespaces of a demo that is left standing.
const KEPT: &str = "altdemo";
/// Echo requests per family.
const PINGS: u16 = 20;
/// Octets of the big TCP transfer.
const TRANSFER: u64 = 200_000_000;
/// Small transfers before it, captured whole: as many flows, whose outer source ports must differ.
const FLOWS: u64 = 4;
const FLOW_OCTETS: u64 = 50_000;
const CAPTURE_LIMIT: Duration = Duration::from_secs(20);
/// What must not pass a site's link, in tcpdump's language.
const FOREIGN: &str =
    "not ip and not ip6 and not arp or udp port 4341 or udp port 4342 or ip proto 47 or ip6 proto 47 or ip6 proto 4";

/// Runs the demo and prints what happens; the last line starts with `demo: ok` or `demo: failed`.
#[must_use]
pub fn show(keep: bool) -> ExitCode {
    let start = Instant::now();
    match lab::available().map_err(LabError::Wrong).and_then(|()| play(keep)) {
        Ok(result) => {
            println!("demo: ok {result}, {:.0} s in all", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("demo: failed: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Removes a demo that was left standing, and says so.
pub fn remove() {
    let removed = lab::remove_left_over(KEPT);
    println!("removed: {}", if removed.is_empty() { "nothing was left".into() } else { removed.join(" ") });
}

fn play(keep: bool) -> Result<String, LabError> {
    lab::remove_on_signal()?;
    let mut lab = if keep { Lab::owned_by(KEPT)? } else { Lab::new()? };
    println!("site1 1.1.1.1 – xtr1 240.0.254.10 – core – xtr2 240.0.254.20 – site2 2.2.2.2, ALT router 240.0.254.30");
    let core = [0, 1].map(|index| Capture::start(["core1", "core2"][index], lab.core_link(index), "", lab.folder()));
    let inside = [0, 1].map(|index| Capture::start(["site1", "site2"][index], lab.site_link(index), "", lab.folder()));
    let mut routers = lab.start_routers_by_bgp(Family::V4)?;
    println!("three routers are ready: xtr1, xtr2, alt; EID routes by BGP, signed:");
    println!("{}", routers[2].show(&["bgp", "routes"])?.trim_end());

    let pings = ping(&lab)?;
    let perf = env::current_exe().map_err(LabError::os("own path"))?;
    for seed in 0..FLOWS {
        lab.transfer(&perf, 0, lab.hosts(1)[seed as usize % 2], FLOW_OCTETS, seed)?;
    }
    judge(core, inside)?;

    let foreign =
        [0, 1].map(|index| Capture::start(["odd1", "odd2"][index], lab.site_link(index), FOREIGN, lab.folder()));
    let transfer = lab.transfer(&perf, 0, lab.hosts(1)[0], TRANSFER, 42)?;
    println!("TCP 1.1.1.1 → 2.2.2.2: {transfer}, equal at both ends");
    for capture in foreign {
        if let Some(packet) = capture?.stop()?.first() {
            return Err(LabError::Wrong(format!("inside a site during the transfer: {packet:?}")));
        }
    }
    let copied = report(&routers)?;
    if keep {
        lab.keep();
        routers.iter_mut().for_each(|router| router.process.keep());
        explain(&lab, &routers)?;
    } else {
        for router in &mut routers {
            let status = router.stop()?;
            if !status.success() {
                return Err(LabError::Wrong(format!("a router stopped with {status}:\n{}", router.process.output())));
            }
        }
    }
    let seconds = transfer.rsplit_once(", ").map_or("", |(_, seconds)| seconds);
    if copied > 0 {
        return Err(LabError::Wrong(format!("{copied} packet octets were copied on the way")));
    }
    Ok(format!("pings {pings}, TCP {} MB in {seconds}, copied {copied}", TRANSFER / 1_000_000))
}

/// Pings the other site's host in both families; every request must be answered, the first included.
fn ping(lab: &Lab) -> Result<String, LabError> {
    let mut all = Pings { sent: 0, answered: 0 };
    for (from, to) in lab.hosts(0).into_iter().zip(lab.hosts(1)) {
        let pings = lab.ping(0, to, PINGS)?;
        println!("ping {from} → {to}: {} of {} answered", pings.answered, pings.sent);
        all = Pings { sent: all.sent + pings.sent, answered: all.answered + pings.answered };
    }
    let pings = format!("{}/{}", all.answered, all.sent);
    if all.answered != all.sent {
        return Err(LabError::Wrong(format!("pings {pings}")));
    }
    Ok(pings)
}

type Captures = [Result<Capture, LabError>; 2];

/// Judges the packets of the pings and of the small transfers, and prints what they show.
fn judge(core: Captures, inside: Captures) -> Result<(), LabError> {
    let rlocs: [IpAddr; 2] = [SITES[0].rloc.0.into(), SITES[1].rloc.0.into()];
    for (index, capture) in core.into_iter().enumerate() {
        let packets = capture?.stop_when("last reply on the core", CAPTURE_LIMIT, both_families_ended)?;
        let seen = judge_core(&packets, &rlocs, is_eid)?;
        println!(
            "core at xtr{}: {} LISP data packets of {} flows from {} UDP source ports, checksums 0, TTL and TOS copied",
            index + 1,
            seen.data,
            seen.flows,
            seen.source_ports
        );
        if index == 0 {
            resolution(&seen)?;
            copied_out(&packets)?;
        }
    }
    for (index, capture) in inside.into_iter().enumerate() {
        let packets = capture?.stop_when("last reply inside the site", CAPTURE_LIMIT, both_families_ended)?;
        println!("inside site{}: {} packets, plain IP all of them", index + 1, judge_site(&packets)?);
    }
    Ok(())
}

/// Whether the last echo reply of both families is there.
fn both_families_ended(packets: &[Packet]) -> bool {
    // Echo replies: ICMP type 0, ICMPv6 type 129.
    [0, 129].iter().all(|reply| packets.iter().any(|packet| packet.icmp == Some((*reply, PINGS))))
}

/// Whether an address is of one of the sites.
fn is_eid(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => SITES.iter().any(|site| site.host.0.octets()[..2] == address.octets()[..2]),
        IpAddr::V6(address) => SITES.iter().any(|site| site.host.1.octets()[..6] == address.octets()[..6]),
    }
}

/// The Map-Requests for both hosts of site 2 went over the ALT, from the RLOC to the EID, and were answered natively.
fn resolution(core: &Core) -> Result<(), LabError> {
    let rloc = |index: usize| IpAddr::from(SITES[index].rloc.0);
    for eid in [IpAddr::from(SITES[1].host.0), SITES[1].host.1.into()] {
        let asked = core.requests.iter().find(|asked| asked.datagram.destination == eid);
        let Asked { nonce, tunnel, datagram } =
            asked.ok_or_else(|| LabError::Wrong(format!("no Map-Request for {eid} on the ALT")))?;
        let answered = core.replies.iter().any(|reply| *reply == (*nonce, rloc(1), rloc(0)));
        let source = if eid.is_ipv4() { SITES[0].rloc.0.into() } else { datagram.source };
        if !answered || tunnel.source != rloc(0) || datagram.source != source {
            return Err(LabError::Wrong(format!("{asked:?} was not asked or answered as it must be: {core:?}")));
        }
        println!(
            "Map-Request over ALT: GRE {} → {}, inside {} → {}, nonce {nonce:016x}; Map-Reply native {} → {}",
            tunnel.source,
            tunnel.destination,
            datagram.source,
            datagram.destination,
            rloc(1),
            rloc(0)
        );
    }
    Ok(())
}

/// The ping's own TTL, less one, and its TOS are found outside.
fn copied_out(packets: &[Packet]) -> Result<(), LabError> {
    let copied = |packet: &&Packet| {
        let outer = packet.headers.first();
        packet.kind == Kind::Data && outer.is_some_and(|outer| (outer.ttl, outer.tos) == (PING_TTL - 1, PING_TOS))
    };
    match packets.iter().filter(copied).count() {
        0 => Err(LabError::Wrong(format!("no outer header with TTL {} and TOS {PING_TOS:#04x}", PING_TTL - 1))),
        count => {
            println!("outer TTL {} and TOS {PING_TOS:#04x} as the hosts' pings: {count} packets", PING_TTL - 1);
            Ok(())
        }
    }
}

/// Prints the map-cache and the counts of both xTRs; returns the octets that they copied.
fn report(routers: &[Router; 3]) -> Result<u64, LabError> {
    let mut copied = 0;
    for (name, router) in ["xtr1", "xtr2"].iter().zip(routers) {
        println!("{name} map-cache:\n{}", router.show(&["map-cache"])?.trim_end());
        let text = router.show(&["counters", "--json"])?;
        let json: Value = serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{error}: {text}")))?;
        let count = |name: &str| {
            lab::total(&json, name).ok_or_else(|| LabError::Wrong(format!("no counter {name} of {router:?} in {text}")))
        };
        let (out, back, missed) = (count("encapsulated")?, count("decapsulated")?, count("missed")?);
        println!("{name} packets: {out} encapsulated, {back} decapsulated, {missed} missed a mapping");
        copied += count("copied_octets")?;
    }
    Ok(copied)
}

/// Says how to look around in what is left standing.
fn explain(lab: &Lab, routers: &[Router; 3]) -> Result<(), LabError> {
    let altitude: PathBuf = lab::altitude_binary()?;
    let (site1, core, api) = (lab.sites[0].name(), lab.core.name(), routers[0].api.display());
    println!("\nleft standing; look around as root:");
    println!("  ip netns exec {site1} ping 2.2.2.2");
    println!("  ip netns exec {core} tshark -i xtr1");
    println!("  {} show map-cache --api {api}", altitude.display());
    println!("  {} show bgp --api {api}", altitude.display());
    println!("  logs and captures: {}", lab.folder().display());
    println!("  remove it: altitude-perf demo --remove (or: make demo-remove)\n");
    Ok(())
}
