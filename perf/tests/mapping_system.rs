//! An ITR that knows only a Map-Resolver gets its answer from an ETR behind a Map-Server, across the ALT; judged by what tshark
//! sees on the wire.
//!
//! ```text
//! xtr1 ──ECM──▶ mr ══ALT══▶ alt ══ALT══▶ ms ──ECM──▶ xtr2
//!   ▲                                                 │
//!   └──────────────── Map-Reply, natively ────────────┘
//! ```
//!
//! xtr2 has a tunnel too, and an ALT route for site 1's IPv4 prefix alone.

use std::{fs, net::IpAddr, time::Duration};

use altitude_perf::lab::{self, Capture, Kind, Lab, Link, Namespace, Packet, Pings, Router, SITES, veth};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const MR: &str = "240.0.254.40";
const ALT: &str = "240.0.254.30";
const MS: &str = "240.0.254.50";
const MTU: u16 = 1600;

/// A router more on the core.
fn join(lab: &Lab, role: &'static str, rloc: &str) -> Namespace {
    let namespace = Namespace::create(&format!("alt{}", std::process::id()), role).unwrap();
    veth(Link { namespace: &namespace, name: "core" }, Link { namespace: &lab.core, name: role }, MTU).unwrap();
    lab.core.ip(&format!("link set {role} master br0")).unwrap();
    namespace.ip(&format!("address add {rloc}/24 dev core")).unwrap();
    namespace
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// An xTR that asks the Map-Resolver for what `more` has no way to.
fn xtr(lab: &Lab, index: usize, more: &str) -> Router {
    let site = &SITES[index];
    let [v4, v6] = site.eid_prefixes();
    let flags = format!(
        "--site-port site --core-port core --rloc {} --eid-prefix {v4} --eid-prefix {v6} --map-resolver {MR} --workers 0 {more}",
        site.rloc.0
    );
    Router::start(["xtr1", "xtr2"][index], &lab.xtrs[index], &words(&flags), lab.folder()).unwrap()
}

fn start(lab: &Lab, name: &str, namespace: &Namespace, config: &str) -> Router {
    let file = lab.folder().join(format!("{name}.toml"));
    fs::write(&file, config).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start(name, namespace, &flags, lab.folder()).unwrap()
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    lab::total(&json, name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// Control messages of this type and nonce: their IP headers as (source, destination, TTL), outermost first.
fn seen(packets: &[Packet], kind: u8, of: u64, in_gre: bool) -> Vec<Vec<(String, String, u8)>> {
    let wanted = |packet: &&Packet| {
        assert!(!packet.damaged, "{packet:?}");
        matches!(packet.kind, Kind::Control { message, nonce, tunnelled } if (message, nonce, tunnelled) == (kind, of, in_gre))
    };
    let headers = |packet: &Packet| {
        let text = |address: IpAddr| address.to_string();
        packet.headers.iter().map(|header| (text(header.source), text(header.destination), header.ttl)).collect()
    };
    packets.iter().filter(wanted).map(headers).collect()
}

fn sites_of_the_map_server() -> String {
    let site = |index: usize| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let rloc = SITES[index].rloc.0;
        format!("[[site]]\nname = \"site{index}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\netrs = [\"{rloc}\"]\n")
    };
    let tunnel = format!("[[alt.tunnel]]\nname = \"alt0\"\nremote = \"{ALT}\"\n");
    format!("rlocs = [\"{MS}\"]\n{tunnel}{}{}", site(0), site(1))
}

fn alt_router() -> String {
    let mut config = format!("rlocs = [\"{ALT}\"]\n");
    for (name, remote) in [("alt1", MR), ("alt2", MS), ("alt3", "240.0.254.20")] {
        config += &format!("[[alt.tunnel]]\nname = \"{name}\"\nremote = \"{remote}\"\n");
    }
    for prefix in SITES.iter().flat_map(lab::Site::eid_prefixes) {
        config += &format!("[[alt.route]]\nprefix = \"{prefix}\"\nvia = \"alt2\"\n");
    }
    config + "[[alt.route]]\nprefix = \"3.0.0.0/8\"\nvia = \"discard\"\n"
}

fn map_resolver() -> String {
    let default = |prefix: &str| format!("[[alt.route]]\nprefix = \"{prefix}\"\nvia = \"alt0\"\n");
    let tunnel = format!("[[alt.tunnel]]\nname = \"alt0\"\nremote = \"{ALT}\"\n");
    let role = "[map-resolver]\nclients = [\"240.0.254.0/24\"]\n";
    format!("rlocs = [\"{MR}\"]\n{tunnel}{}{}{role}", default("0.0.0.0/0"), default("::/0"))
}

/// ITR-40, ITR-48, MR-6, MS-8, ALT-5, ALT-6, ALT-11, ALT-12.
#[test]
fn an_itr_gets_its_answer_from_the_etr_through_map_resolver_alt_and_map_server() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let (mr, ms) = (join(&lab, "mr", MR), join(&lab, "ms", MS));
    let routers = [
        start(&lab, "alt", &lab.alt, &alt_router()),
        start(&lab, "ms", &ms, &sites_of_the_map_server()),
        start(&lab, "mr", &mr, &map_resolver()),
    ];
    let tunnel = format!("--alt-tunnel alt0,remote={ALT},address=10.42.9.1/30 --alt-route 1.1.0.0/16=alt0");
    let xtrs = [xtr(&lab, 0, ""), xtr(&lab, 1, &tunnel)];
    let at = |name| Link { namespace: &lab.core, name };
    let filter = "udp port 4342 or proto 47";
    let captures = ["xtr1", "alt", "xtr2"].map(|name| Capture::start(name, at(name), filter, lab.folder()).unwrap());

    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
    }
    let shown = xtrs[0].show(&["map-cache"]).unwrap();
    for known in ["2.2.0.0/16", "2001:db8:2::/48", "240.0.254.20"] {
        assert!(shown.contains(known), "{known} in {shown}");
    }
    let [first, second, third] = captures;
    // Both xTRs asked, both families: four replies to or from each.
    let replies =
        |packets: &[Packet]| packets.iter().filter(|p| matches!(p.kind, Kind::Control { message: 2, .. })).count();
    let first = first.stop_when("Map-Replies", LIMIT, |packets| replies(packets) >= 4).unwrap();
    let (second, third) = (second.stop().unwrap(), third.stop().unwrap());

    // What site 1 asked for site 2's IPv4 host, followed by its nonce.
    let asked = first.iter().find_map(|packet| match packet.kind {
        Kind::Control { message: 8, nonce, .. } if packet.headers[1].destination == lab.hosts(1)[0] => Some(nonce),
        _ => None,
    });
    let nonce = asked.expect("an ECM for 2.2.2.2");
    let header = |source: &str, destination: &str, ttl| (source.to_owned(), destination.to_owned(), ttl);
    let (itr, etr, eid) = ("240.0.254.10", "240.0.254.20", "2.2.2.2");
    // ITR-40: in an ECM to the Map-Resolver, from our RLOC to the EID.
    assert_eq!(seen(&first, 8, nonce, false), [[header(itr, MR, 64), header(itr, eid, 64)]]);
    // MR-6, ALT-5, ALT-12: plain on the ALT, the source is the ITR's RLOC at every hop, one hop less each.
    let hops = [[header(MR, ALT, 64), header(itr, eid, 63)], [header(ALT, MS, 64), header(itr, eid, 62)]];
    assert_eq!(seen(&second, 1, nonce, true), hops);
    // MS-8: as it came out of the tunnel, in an ECM to the ETR.
    assert_eq!(seen(&third, 8, nonce, false), [[header(MS, etr, 64), header(itr, eid, 62)]]);
    // The answer goes from the ETR to the ITR, and touches no tunnel.
    for packets in [&first, &third] {
        assert_eq!(seen(packets, 2, nonce, false), [[header(etr, itr, 64)]]);
    }
    assert!(seen(&second, 2, nonce, false).is_empty() && seen(&second, 2, nonce, true).is_empty());

    // ITR-48: what has an ALT route is asked over the ALT, the rest at the Map-Resolver. ALT-6: from an RLOC, not from the
    // tunnel's address.
    let from_xtr2 = |kind, in_gre| -> Vec<(IpAddr, IpAddr)> {
        let wanted = |packet: &&Packet| match packet.kind {
            Kind::Control { message, tunnelled, .. } => {
                (message, tunnelled) == (kind, in_gre) && packet.headers[0].source.to_string() == etr
            }
            _ => false,
        };
        third.iter().filter(wanted).map(|packet| (packet.headers[1].source, packet.headers[1].destination)).collect()
    };
    let [v4, v6] = [lab.hosts(0)[0], lab.hosts(0)[1]];
    assert_eq!(from_xtr2(1, true), [(SITES[1].rloc.0.into(), v4)]);
    // Without an IPv6 RLOC the EID that asks stands in.
    assert_eq!(from_xtr2(8, false), [(lab.hosts(1)[1], v6)]);

    // A hole in the ALT router's aggregate: told natively, and forwarded natively.
    let _ = lab.ping(0, [3, 3, 3, 3].into(), 1).unwrap();
    let known = || Ok(Some(xtrs[0].show(&["map-cache"])?).filter(|shown| shown.contains("3.0.0.0/8")));
    let shown = lab::wait_until("the hole in the map-cache", LIMIT, known).unwrap();
    assert!(shown.contains("natively-forward"), "{shown}");

    let [alt, ms, mr] = &routers;
    // What takes longer than a second is asked again.
    assert!(counter(ms, "map_requests_to_sites") >= 4, "two xTRs, two families");
    assert!(counter(alt, "alt_datagrams_forwarded") >= 4);
    assert!(counter(mr, "map_requests_received") >= 4, "both of xtr1, one of xtr2, and the hole");
    for (name, router) in [("alt", alt), ("ms", ms), ("mr", mr)] {
        let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
        let faults = json["control"].as_object().unwrap().iter().filter(|(name, count)| {
            let of = ["alt-", "gre-", "ecm-", "site-", "map-resolver-"].iter().any(|start| name.starts_with(start));
            of && **name != "alt-datagrams-forwarded" && count.as_u64() != Some(0)
        });
        assert_eq!(faults.collect::<Vec<_>>(), Vec::<(&String, &Value)>::new(), "at {name}");
    }
}

/// LIG-1: a known EID, a hole, our own prefixes, and a resolver that does not answer; as JSON, too.
#[test]
fn lig_asks_as_an_itr_does() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let (mr, ms) = (join(&lab, "mr", MR), join(&lab, "ms", MS));
    let _routers = [
        start(&lab, "alt", &lab.alt, &alt_router()),
        start(&lab, "ms", &ms, &sites_of_the_map_server()),
        start(&lab, "mr", &mr, &map_resolver()),
    ];
    let xtrs = [xtr(&lab, 0, ""), xtr(&lab, 1, "")];
    let (code, said, _) = lab::lig(&lab.xtrs[0], &format!("2.2.2.2 -m {MR}")).unwrap();
    let words: Vec<&str> = said.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(words, ["2.2.0.0/16", "1440", "min", "240.0.254.20", "1/100", "up", "the", "site"], "{said}");
    assert!(code == Some(0) && said.starts_with("2.2.2.2: 240.0.254.20 answered in "), "{said}");

    let (code, said, _) = lab::lig(&lab.xtrs[0], &format!("3.3.3.3 -m {MR}")).unwrap();
    assert!(code == Some(0) && said.contains("3.0.0.0/8"), "{said}");
    assert!(said.contains("15 min") && said.contains("natively-forward"), "{said}");

    let (code, said, why) =
        lab::lig(&lab.xtrs[0], &format!("self --json -m {MR} --api {}", xtrs[0].api.display())).unwrap();
    let json: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{why}"));
    let answers = json["answers"].as_array().unwrap();
    let own = ["1.1.0.0/16", "2001:db8:1::/48"];
    for (answer, eid) in answers.iter().zip(own) {
        assert_eq!((&answer["records"][0]["eid"], &answer["from"]), (&eid.into(), &"240.0.254.10".into()), "{said}");
        assert_eq!(answer["records"][0]["locators"][0]["address"], "240.0.254.10", "{said}");
    }
    assert_eq!((code, answers.len()), (Some(0), 2), "{said}");

    // Nobody is there.
    let (code, said, why) = lab::lig(&lab.xtrs[0], "2.2.2.2 -m 240.0.254.99 --count 1 --timeout 1").unwrap();
    assert_eq!((code, said.as_str()), (Some(1), "2.2.2.2: no answer to 1 Map-Requests, after 1 s each\n"));
    assert!(why.contains("is 240.0.254.99 a Map-Resolver that serves 240.0.254.10"), "{why}");
    for wrong in ["nowhere -m 240.0.254.40", "2.2.2.2", "2.2.2.2 -m 240.0.254.40 --count 6"] {
        assert_eq!(lab::lig(&lab.xtrs[0], wrong).unwrap().0, Some(2), "{wrong}");
    }
    let (code, _, why) = lab::lig(&lab.xtrs[0], &format!("2.2.2.2 -m {MR} --source 2001:db8:1::1")).unwrap();
    assert!(code == Some(1) && why.contains("are of two families: correct --source"), "{why}");
}

/// Both ends ours: an ETR that registers is found, one that stops is gone, and what is not believed is told at both ends.
#[test]
fn our_etr_registers_with_our_map_server() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let ms = join(&lab, "ms", MS);
    let state = |name: &str| lab.folder().join(name).display().to_string();
    for (name, secret) in [("right.key", "of the site"), ("wrong.key", "of somebody else")] {
        fs::write(lab.folder().join(name), secret).unwrap();
    }
    let site = |index: usize| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let key = "{ algorithm = \"sha256-hkdf\", secret-file = \"right.key\" }";
        format!("[[site]]\nname = \"site{index}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\nkey = {key}\n")
    };
    let role = "[map-resolver]\nclients = [\"240.0.254.0/24\"]\n";
    let config = format!("rlocs = [\"{MS}\"]\nstate-dir = \"{}\"\n{role}{}{}", state("ms"), site(0), site(1));
    let server = start(&lab, "ms", &ms, &config);
    let etr = |index: usize, key: &str| {
        let key = lab.folder().join(key);
        let register = format!("--map-server {MS},algorithm=sha256-hkdf,key-file={}", key.display());
        let flags = format!("{register} --state-dir {} --map-resolver {MS}", state(&format!("xtr{index}")));
        let site = &SITES[index];
        let [v4, v6] = site.eid_prefixes();
        let ports = format!("--site-port site --core-port core --rloc {} --workers 0", site.rloc.0);
        let flags = format!("{ports} --eid-prefix {v4} --eid-prefix {v6} {flags}");
        Router::start(["xtr1", "xtr2"][index], &lab.xtrs[index], &words(&flags), lab.folder()).unwrap()
    };
    let stands = |router: &Router, standing: &str| {
        let wanted = || Ok(Some(router.show(&["registrations"])?).filter(|shown| shown.contains(standing)));
        lab::wait_until(standing, LIMIT, wanted).unwrap()
    };
    let registered = |count: u64| {
        let wanted = || Ok((counter(&server, "registrations") == count).then_some(()));
        lab::wait_until("registrations", LIMIT, wanted).unwrap();
    };

    let first = etr(0, "right.key");
    let liar = etr(1, "wrong.key");
    stands(&first, "registered");
    registered(2);
    let refused = || Ok((counter(&server, "site_register_bad_authentication") > 0).then_some(()));
    lab::wait_until("a refusal", LIMIT, refused).unwrap();
    let shown = server.show(&["sites"]).unwrap();
    assert!(shown.contains("240.0.254.10") && shown.contains("site-register-bad-authentication"), "{shown}");
    let shown = stands(&liar, "silent");
    assert!(shown.contains(MS), "{shown}");
    drop(liar);

    let mut second = etr(1, "right.key");
    stands(&second, "registered");
    registered(4);
    for (from, to) in [(0, 1), (1, 0)] {
        for host in lab.hosts(to) {
            assert_eq!(lab.ping(from, host, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{host}");
        }
    }
    assert!(counter(&server, "map_requests_to_sites") >= 4);
    // It takes its registrations back. The Map-Server says so for a minute, and that somebody failed to prove himself (MS-6).
    second.stop().unwrap();
    registered(2);
    let (code, said, _) = lab::lig(&lab.xtrs[0], &format!("2.2.2.2 -m {MS}")).unwrap();
    assert!(code == Some(0) && said.contains("1 min") && said.contains("drop-auth-failure"), "{said}");
}
