//! LISP-SEC from end to end: pings pass, a Map-Resolver that lies is not believed, and an ETR that cannot sign is told so.
//!
//! ```text
//! xtr1 ──ECM, ITR-OTK──▶ mr ──ECM, ITR-OTK──▶ ms ──ECM, MS-OTK──▶ xtr2
//!   ▲                                                              │
//!   └─────────────── Map-Reply, signed ────────────────────────────┘
//! ```

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use altitude_control::{
    lisp_sec::keys::OneTimeKey,
    wire::{
        MapReply, MapRequest, Message,
        ecm::Ecm,
        lisp_sec::{EidData, Hash, ReplyData},
    },
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use altitude_perf::lab::{self, Lab, Link, Namespace, Pings, Router, SITES, veth};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const MR: &str = "240.0.254.40";
const MS: &str = "240.0.254.50";
const LIAR: Ipv4Addr = Ipv4Addr::new(240, 0, 254, 66);
const MTU: u16 = 1600;
/// Files of secrets, and what is in them.
const SECRETS: [(&str, &str); 3] =
    [("itr.key", "quince of the ITRs"), ("mr.key", "medlar of the resolver"), ("site.key", "sloe of the sites")];

/// A router more on the core.
fn join(lab: &Lab, role: &'static str, rloc: &str) -> Namespace {
    let namespace = Namespace::create(&format!("sec{}", std::process::id()), role).unwrap();
    veth(Link { namespace: &namespace, name: "core" }, Link { namespace: &lab.core, name: role }, MTU).unwrap();
    lab.core.ip(&format!("link set {role} master br0")).unwrap();
    namespace.ip(&format!("address add {rloc}/24 dev core")).unwrap();
    namespace
}

fn key(lab: &Lab, name: &str) -> String {
    lab.folder().join(name).display().to_string()
}

fn start(lab: &Lab, name: &str, namespace: &Namespace, config: &str) -> Router {
    let file = lab.folder().join(format!("{name}.toml"));
    fs::write(&file, config).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start(name, namespace, &flags, lab.folder()).unwrap()
}

/// The xTR of a site; `more` says how it speaks LISP-SEC.
fn xtr(lab: &Lab, index: usize, resolver: &str, more: &str) -> Router {
    xtr_with(lab, index, resolver, more, "")
}

/// The same; `how` says how it registers.
fn xtr_with(lab: &Lab, index: usize, resolver: &str, more: &str, how: &str) -> Router {
    let name = ["xtr1", "xtr2"][index];
    let [v4, v6] = SITES[index].eid_prefixes();
    let server = format!("--map-server {MS},algorithm=sha256-hkdf,key-file={}{how}", key(lab, "site.key"));
    let flags = format!(
        "--site-port site --core-port core --rloc {} --eid-prefix {v4} --eid-prefix {v6} --workers 0 {server} \
         --map-resolver {resolver} --state-dir {} --log debug {more}",
        SITES[index].rloc.0,
        key(lab, name)
    );
    let words: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    Router::start(name, &lab.xtrs[index], &words, lab.folder()).unwrap()
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    lab::total(&json, name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

fn wait_counter(router: &Router, name: &str, wanted: impl Fn(u64) -> bool) {
    lab::wait_until(name, LIMIT, || Ok(wanted(counter(router, name)).then_some(()))).unwrap();
}

fn wait_shown(router: &Router, table: &str, text: &str) -> String {
    let shown = || Ok(Some(router.show(&[table])?).filter(|shown| shown.contains(text)));
    lab::wait_until(text, LIMIT, shown).unwrap()
}

fn map_resolver(lab: &Lab) -> String {
    let eids: Vec<String> = SITES.iter().flat_map(lab::Site::eid_prefixes).map(|eid| format!("\"{eid}\"")).collect();
    format!(
        "rlocs = [\"{MR}\"]\nlog = \"debug\"\n[map-resolver]\nclients = [\"240.0.254.0/24\"]\n[lisp-sec]\nstrict = true\n\
         [[lisp-sec.client]]\nfrom = [\"240.0.254.0/24\"]\nkey = {{ secret-file = \"{}\" }}\n\
         [[lisp-sec.map-server]]\naddress = \"{MS}\"\neid-prefixes = [{}]\nkey = {{ id = 2, secret-file = \"{}\" }}\n",
        key(lab, "itr.key"),
        eids.join(", "),
        key(lab, "mr.key")
    )
}

fn map_server(lab: &Lab) -> String {
    let site = |index: usize| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let key = format!("{{ algorithm = \"sha256-hkdf\", secret-file = \"{}\" }}", key(lab, "site.key"));
        format!("[[site]]\nname = \"site{index}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\nkey = {key}\n")
    };
    format!(
        "rlocs = [\"{MS}\"]\nlog = \"debug\"\nstate-dir = \"{}\"\n{}{}[lisp-sec]\n[[lisp-sec.client]]\nfrom = [\"{MR}/32\"]\n\
         key = {{ id = 2, secret-file = \"{}\" }}\n",
        key(lab, "ms"),
        site(0),
        site(1),
        key(lab, "mr.key")
    )
}

/// No secret is in the log of a router that says everything, as text or as octets; `said` is in it.
fn tells_no_secret(lab: &Lab, name: &str, said: &str) {
    let file = lab.folder().join(format!("{name}.log"));
    let read = || Ok(Some(fs::read_to_string(&file).unwrap()).filter(|log| log.contains(said)));
    let log = lab::wait_until(said, LIMIT, read).unwrap().to_lowercase();
    for (_, secret) in SECRETS {
        let hex: String = secret.bytes().map(|octet| format!("{octet:02x}")).collect();
        let list = format!("{:?}", secret.as_bytes());
        let list = list.trim_matches(['[', ']']);
        for form in [secret, &hex, list] {
            assert!(!log.contains(&form.to_lowercase()), "{name}: {form}");
        }
    }
}

/// Asks without an ECM; nobody waits for an answer.
fn ask_natively(to: IpAddr, asked: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((LIAR, 0))?;
    let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: asked.parse().expect("a prefix") };
    let request = MapRequest::lookup(9, None, &[LIAR.into()], eid);
    socket.send_to(&request.encode(), (to, 4342)).map(drop)
}

/// Answers as many Map-Requests as given in place of a Map-Resolver, each three times: with a record in a request, without any
/// proof, and with one that is made up.
fn lie(count: usize) -> io::Result<()> {
    let socket = UdpSocket::bind((LIAR, 4342))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut buffer = [0; 2048];
    let (mut answered, mut heard) = (0, 0);
    while answered < count || heard < count {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let Ok(ecm) = Ecm::parse(&buffer[..length]) else {
            // The answer to its own question: that came.
            heard += usize::from(matches!(Message::parse(&buffer[..length]), Ok(Message::MapReply(_))));
            continue;
        };
        if answered == count {
            continue;
        }
        answered += 1;
        assert!(ecm.security().is_some(), "a protected one");
        let Ok(Message::MapRequest(request)) = Message::parse(ecm.datagram.payload) else { panic!("a Map-Request") };
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: "2.2.0.0/16".parse().expect("a prefix") };
        let record = Mapping {
            authoritative: true,
            locators: vec![Locator::unicast(LIAR.into(), 1, 100)],
            ..Mapping::negative(eid, Ttl::Minutes(1440), Action::NoAction)
        };
        // A record in a request is no better.
        let asked = EidPrefix { instance: InstanceId::DEFAULT, prefix: "1.1.1.1/32".parse().expect("a prefix") };
        let boast = MapRequest::lookup(request.nonce, None, &[LIAR.into()], asked);
        let boast = MapRequest { reply_record: Some(record.clone()), ..boast };
        let records = vec![record];
        let plain = MapReply { nonce: request.nonce, probe: false, echo_nonce: false, records, security: None };
        let guess = OneTimeKey::new([7; 16]);
        let mut eids = EidData::unsigned(2, Hash::Sha256, false, &[eid]);
        guess.sign(Hash::Sha256, &mut eids);
        let security = Some(ReplyData::unsigned(&eids, Some(Hash::Sha256)));
        let mut forged = MapReply { security, ..plain.clone() }.encode();
        guess.derived(Hash::Sha256).sign(Hash::Sha256, &mut forged);
        let to = SocketAddr::new(from.ip(), 4342);
        socket.send_to(&boast.encode(), to)?;
        socket.send_to(&plain.encode(), to)?;
        socket.send_to(&forged, to)?;
    }
    Ok(())
}

/// A Map-Server that takes nothing without LISP-SEC, and shares no key with subscribers.
fn strict_publisher(lab: &Lab) -> String {
    format!("{}[pubsub]\npublish = true\n", map_server(lab).replace("[lisp-sec]\n", "[lisp-sec]\nstrict = true\n"))
}

/// PS-9, SEC-13, LIG-1: where everybody is strict, a subscription makes its own key through the Map-Resolver, lives and is told of the
/// end; lig says that the answer is signed, and gets none without a key.
#[test]
fn subscriptions_and_lig_need_one_key_alone() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let (mr, ms) = (join(&lab, "mr", MR), join(&lab, "ms", MS));
    for (name, secret) in SECRETS {
        fs::write(lab.folder().join(name), secret).unwrap();
    }
    let server = start(&lab, "ms", &ms, &strict_publisher(&lab));
    let _resolver = start(&lab, "mr", &mr, &map_resolver(&lab));
    let protected = format!("--lisp-sec-key-file {} --lisp-sec-strict", key(&lab, "itr.key"));
    let proxied = |index| {
        let flags = format!("{protected} --pubsub-subscribe lookups");
        xtr_with(&lab, index, MR, &flags, ",proxy")
    };
    let mut xtrs = [0, 1].map(proxied);
    wait_counter(&server, "registrations", |count| count == 4);
    let [host, _] = lab.hosts(1);
    assert_eq!(lab.ping(0, host, 3).unwrap(), Pings { sent: 3, answered: 3 });
    wait_shown(&xtrs[0], "subscriptions", "live");
    wait_shown(&server, "subscriptions", " confirmed ");
    assert_eq!(counter(&server, "subscription_no_key") + counter(&server, "lisp_sec_unprotected"), 0);

    let (code, said, why) =
        lab::lig(&lab.xtrs[0], &format!("2.2.2.2 -m {MR} --lisp-sec-key-file {}", key(&lab, "itr.key"))).unwrap();
    assert!(code == Some(0) && said.contains("LISP-SEC: signed, and verified"), "{said}{why}");
    let (code, said, why) = lab::lig(&lab.xtrs[0], &format!("2.2.2.2 -m {MR} --count 1")).unwrap();
    assert!(code == Some(1) && said.contains("no answer") && why.contains("--lisp-sec-key-file"), "{said}{why}");

    // The site goes, and its Map-Server tells: signed with the key that nobody configured.
    let told = counter(&xtrs[0], "publications_received");
    xtrs[1].stop().unwrap();
    wait_counter(&xtrs[0], "publications_received", |count| count > told);
    let rloc = SITES[1].rloc.0.to_string();
    let gone = || Ok((!xtrs[0].show(&["map-cache"])?.contains(&rloc)).then_some(()));
    lab::wait_until("the end of the site", LIMIT, gone).unwrap();
    for refused in ["pubsub_notify_bad_authentication", "pubsub_notify_unrelated", "pubsub_refused"] {
        assert_eq!(counter(&xtrs[0], refused), 0, "{refused}");
    }
    for (name, said) in [("xtr1", "Map-Request"), ("mr", "Map-Request of a client"), ("ms", "subscribed")] {
        tells_no_secret(&lab, name, said);
    }
}

/// G-10, MR-12, ETR-30, SEC-4, SEC-7, SEC-11: pings pass, who lies is not believed, and where no ETR can sign packets are dropped.
#[test]
fn pings_pass_and_lies_do_not() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let (mr, ms) = (join(&lab, "mr", MR), join(&lab, "ms", MS));
    let liar = join(&lab, "liar", &LIAR.to_string());
    for (name, secret) in SECRETS {
        fs::write(lab.folder().join(name), secret).unwrap();
    }
    let server = start(&lab, "ms", &ms, &map_server(&lab));
    let resolver = start(&lab, "mr", &mr, &map_resolver(&lab));
    let protected = format!("--lisp-sec-key-file {}", key(&lab, "itr.key"));
    let mut xtrs = [0, 1].map(|index| xtr(&lab, index, MR, &format!("{protected} --lisp-sec-strict")));
    wait_counter(&server, "registrations", |count| count == 4);

    for (from, to) in [(0, 1), (1, 0)] {
        for host in lab.hosts(to) {
            assert_eq!(lab.ping(from, host, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{host}");
        }
    }
    for xtr in &xtrs {
        // Each try has an answer of its own, and only the first counts.
        assert!(counter(xtr, "lisp_sec_replies_proven") >= 2);
        for refused in [
            "reply_lisp_sec_stripped",
            "reply_lisp_sec_bad_eid_mac",
            "reply_lisp_sec_bad_packet_mac",
            "lisp_sec_unprotected",
        ] {
            assert_eq!(counter(xtr, refused), 0, "{refused}");
        }
    }
    assert!(counter(&resolver, "map_requests_to_sites") >= 4 && counter(&server, "map_requests_to_sites") >= 4);
    for (name, said) in [
        ("xtr1", "Map-Request to a Map-Resolver"),
        ("xtr2", "Map-Request to a Map-Resolver"),
        ("mr", "Map-Request of a client"),
        ("ms", "registered"),
    ] {
        tells_no_secret(&lab, name, said);
    }

    // A strict ETR is not asked behind its Map-Server's back.
    let replies = counter(&xtrs[1], "map_replies_sent");
    let to = SITES[1].rloc.0;
    liar.spawn(move || ask_natively(to.into(), "2.2.2.2/32")).unwrap().join().unwrap().unwrap().unwrap();
    wait_counter(&xtrs[1], "lisp_sec_unprotected", |count| count == 1);
    assert_eq!(counter(&xtrs[1], "map_replies_sent"), replies);

    // Somebody else's Map-Resolver: it knows the nonces, and no key.
    xtrs[0].stop().unwrap();
    let lying = liar.spawn(|| lie(2)).unwrap();
    xtrs[0] = xtr(&lab, 0, &LIAR.to_string(), &protected);
    let [host, _] = lab.hosts(1);
    assert_eq!(lab.ping(0, host, 2).unwrap(), Pings { sent: 2, answered: 0 });
    lying.join().unwrap().unwrap().unwrap();
    for refused in ["reply_lisp_sec_stripped", "reply_lisp_sec_bad_eid_mac"] {
        wait_counter(&xtrs[0], refused, |count| count == 2);
    }
    let shown = xtrs[0].show(&["map-cache"]).unwrap();
    assert!(!shown.contains(&LIAR.to_string()), "{shown}");

    // An ETR that cannot sign: the Map-Server says so under signature.
    for xtr in &mut xtrs {
        xtr.stop().unwrap();
    }
    wait_counter(&server, "registrations", |count| count == 0);
    xtrs = [xtr(&lab, 0, MR, &protected), xtr(&lab, 1, MR, "")];
    wait_counter(&server, "registrations", |count| count == 4);
    assert_eq!(lab.ping(0, host, 1).unwrap(), Pings { sent: 1, answered: 0 });
    wait_shown(&xtrs[0], "map-cache", "drop-auth-failure");
    // It asks without protection, and the strict Map-Resolver does not listen.
    assert_eq!(lab.ping(1, lab.hosts(0)[0], 1).unwrap(), Pings { sent: 1, answered: 0 });
    wait_counter(&resolver, "lisp_sec_unprotected", |count| count > 0);
    for (name, said) in [
        ("xtr1", "Map-Request to a Map-Resolver"),
        ("xtr2", "Map-Request to a Map-Resolver"),
        ("mr", "lisp-sec-unprotected"),
    ] {
        tells_no_secret(&lab, name, said);
    }
}
