//! A site behind a NAT and an ordinary one reach each other through an RTR, both ways, by pings and TCP; its registration, and what
//! keeps the NAT's binding, judged by what tshark and conntrack see.
//!
//! ```text
//! site1 ── xtr1 ── nat ─┬─ rtr ── (data both ways)
//!      10.0.0.2   .9    ├─ ms: Map-Server and Map-Resolver
//!                       └─ xtr2 ── site2
//! ```

use std::{fs, net::IpAddr, path::Path, process::Command, time::Duration};

use altitude_perf::lab::{self, Lab, Link, Namespace, Pings, Router, SITES, veth};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const MS: &str = "240.0.254.50";
const RTR: &str = "240.0.254.30";
/// The NAT, outside and inside, and the xTR behind it.
const NAT: &str = "240.0.254.9";
const INSIDE: &str = "10.0.0.1";
const XTR: &str = "10.0.0.2";
/// Seconds that this NAT remembers a UDP binding for.
const REMEMBERS: u64 = 3;
/// Octets sent by TCP each way.
const TRANSFER: u64 = 2_000_000;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether the lab can stand here; says what is missing if not.
fn missing() -> Option<String> {
    if let Err(why) = lab::available() {
        return Some(why);
    }
    ["nft", "conntrack"].into_iter().find_map(|program| {
        let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        (!found).then(|| format!("{program} is not installed: docker/deps.sh"))
    })
}

fn run(namespace: &Namespace, line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = namespace.command(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The lab with a NAT between the first xTR and the core, a Map-Server in it, and an RTR where the ALT router would be.
struct World {
    lab: Lab,
    nat: Namespace,
    rtr: Router,
    ms: Router,
    /// Those of both sites, once they are [started](Self::start).
    xtrs: Vec<Router>,
    _ms: Namespace,
}

impl World {
    /// `keyed`: Map-Server and RTR share a key; `keeps`: the NAT leaves ports as they are.
    fn new(keyed: bool, keeps: bool) -> Self {
        let lab = Lab::new().unwrap();
        let join = |role: &str| Namespace::create(&format!("alt{}", std::process::id()), role).unwrap();
        fs::write(lab.folder().join("site.key"), "sloe of the sites\n").unwrap();
        fs::write(lab.folder().join("rtr.key"), "quince of the RTR\n").unwrap();
        let nat = masquerade(&lab, join("nat"), keeps);
        let namespace = join("ms");
        let link = Link { namespace: &lab.core, name: "ms" };
        veth(Link { namespace: &namespace, name: "core" }, link, lab::CORE_MTU).unwrap();
        lab.core.ip("link set ms master br0").unwrap();
        namespace.ip(&format!("address add {MS}/24 dev core")).unwrap();

        let ms = start(&lab, "ms", &namespace, &map_server(&lab, keyed), "");
        let rtr = start(&lab, "rtr", &lab.alt, &relay(&lab, keyed), "");
        Self { lab, nat, rtr, ms, xtrs: Vec::new(), _ms: namespace }
    }

    /// Starts the sites' xTRs, and waits until the one behind the NAT is registered and knows it. It registers every `keepalive`
    /// seconds.
    fn start(&mut self, keepalive: u64) {
        let behind = format!("--nat-site --nat-keepalive {keepalive}");
        self.xtrs = vec![site(&self.lab, 0, XTR, &behind), site(&self.lab, 1, "240.0.254.20", "")];
        wait_counter(&self.xtrs[0], "reached_through_rtr", |count| count == 1);
        wait_counter(&self.xtrs[1], "map_notifies_received", |count| count > 0);
    }

    fn binding(&self) -> Value {
        let shown = self.rtr.show(&["nat", "--json"]).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["bindings"].as_array().map(Vec::len), Some(1), "{shown}");
        shown["bindings"][0].clone()
    }

    /// What the NAT has for port 4341 of the xTR: lines of conntrack.
    fn tracked(&self) -> Vec<String> {
        let listed = run(&self.nat, "conntrack -L -p udp --orig-src 10.0.0.2 --orig-port-src 4341");
        listed.lines().map(str::to_owned).collect()
    }
}

/// The NAT, in the place of the first xTR's cable to the core.
fn masquerade(lab: &Lab, nat: Namespace, keeps: bool) -> Namespace {
    let xtr = &lab.xtrs[0];
    xtr.ip("link del core").unwrap();
    let outside = Link { namespace: &nat, name: "core" };
    veth(outside, lab.core_link(0), lab::CORE_MTU).unwrap();
    lab.core.ip("link set xtr1 master br0").unwrap();
    outside.address(ip(NAT), 24).unwrap();
    let (inside, core) = (Link { namespace: &nat, name: "inside" }, Link { namespace: xtr, name: "core" });
    veth(inside, core, lab::CORE_MTU).unwrap();
    inside.address(ip(INSIDE), 24).unwrap();
    core.address(ip(XTR), 24).unwrap();
    xtr.ip(&format!("route add default via {INSIDE}")).unwrap();
    run(&nat, "sysctl -qw net.ipv4.ip_forward=1");
    run(&nat, "nft add table ip nat");
    run(&nat, "nft add chain ip nat out { type nat hook postrouting priority 100 ; }");
    // Ports of its own, as NATs have that know many xTRs; or those that are free, as most have for the first one.
    let ports = if keeps { "" } else { "to :20000-29999 random" };
    run(&nat, &format!("nft add rule ip nat out oifname core ip protocol udp masquerade {ports}"));
    remember(&nat, REMEMBERS);
    nat
}

/// Has the NAT forget after so many seconds what has been silent; of what it knows already from its next packet on.
fn remember(nat: &Namespace, seconds: u64) {
    for which in ["", "_stream"] {
        run(nat, &format!("sysctl -qw net.netfilter.nf_conntrack_udp_timeout{which}={seconds}"));
    }
}

fn start(lab: &Lab, name: &'static str, namespace: &Namespace, config: &str, flags: &str) -> Router {
    let file = lab.folder().join(format!("{name}.toml"));
    fs::write(&file, config).unwrap();
    let mut all = vec!["--config".to_owned(), file.display().to_string()];
    all.extend(words(&format!("--log debug --state-dir {} {flags}", lab.folder().join(name).display())));
    Router::start(name, namespace, &all, lab.folder()).unwrap()
}

fn key(lab: &Lab, name: &str) -> String {
    format!("key = {{ algorithm = \"sha256-hkdf\", secret-file = \"{}\" }}\n", lab.folder().join(name).display())
}

fn map_server(lab: &Lab, keyed: bool) -> String {
    let site = |index: usize| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let key = key(lab, "site.key");
        format!("[[site]]\nname = \"site{index}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\nproxy = \"always\"\n{key}")
    };
    let shared = if keyed { key(lab, "rtr.key") } else { String::new() };
    let relay = format!("[[nat.relay]]\naddress = \"{RTR}\"\n{shared}");
    format!("rlocs = [\"{MS}\"]\n[map-resolver]\n{}{}{relay}", site(0), site(1))
}

fn relay(lab: &Lab, keyed: bool) -> String {
    let shared = if keyed { key(lab, "rtr.key") } else { String::new() };
    format!(
        "rlocs = [\"{RTR}\"]\nmap-resolvers = [\"{MS}\"]\nworkers = \"0\"\n[rtr]\n[[core-port]]\nname = \"core\"\n\
         [nat]\nrtr = true\n[[nat.map-server]]\naddress = \"{MS}\"\n{shared}"
    )
}

fn site(lab: &Lab, index: usize, rloc: &str, more: &str) -> Router {
    let [v4, v6] = SITES[index].eid_prefixes();
    let config = format!(
        "rlocs = [\"{rloc}\"]\nmap-resolvers = [\"{MS}\"]\nworkers = \"0\"\n[[site-port]]\nname = \"site\"\n\
         [[core-port]]\nname = \"core\"\n[[eid-prefix]]\nprefix = \"{v4}\"\n[[eid-prefix]]\nprefix = \"{v6}\"\n\
         [[map-server]]\naddress = \"{MS}\"\nproxy = true\n{}",
        key(lab, "site.key")
    );
    start(lab, ["xtr1", "xtr2"][index], &lab.xtrs[index], &config, more)
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    lab::total(&json, name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

fn wait_counter(router: &Router, name: &str, wanted: impl Fn(u64) -> bool) {
    let there = lab::wait_until(name, LIMIT, || Ok(wanted(counter(router, name)).then_some(())));
    there.unwrap_or_else(|error| panic!("{error}\n{}", router.process.output()));
}

/// A UDP datagram as tshark reads it: its outer addresses and ports, and its payload.
#[derive(Debug, Clone)]
struct Datagram {
    from: (String, u16),
    to: (String, u16),
    payload: Vec<u8>,
}

impl Datagram {
    fn is(&self, from: (&str, Option<u16>), to: (&str, Option<u16>)) -> bool {
        let matches = |seen: &(String, u16), (address, port): (&str, Option<u16>)| {
            seen.0 == address && port.is_none_or(|port| seen.1 == port)
        };
        matches(&self.from, from) && matches(&self.to, to)
    }

    /// The type of a control message, and the flags of an ECM.
    fn first(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }
}

/// A capture that is read datagram by datagram; none of its packets is damaged.
struct Tap {
    capture: lab::Capture,
    file: std::path::PathBuf,
}

impl Tap {
    fn start(name: &str, link: Link, lab: &Lab) -> Self {
        let capture = lab::Capture::start(name, link, "udp", lab.folder()).unwrap();
        Self { capture, file: lab.folder().join(format!("{name}.pcap")) }
    }

    fn read(self, what: &str, enough: impl Fn(&[Datagram]) -> bool) -> Vec<Datagram> {
        lab::wait_until(what, LIMIT, || Ok(enough(&datagrams(&self.file)).then_some(()))).unwrap();
        let packets = self.capture.stop().unwrap();
        let damaged: Vec<_> = packets.iter().filter(|packet| packet.damaged).collect();
        assert!(damaged.is_empty(), "{damaged:?}");
        datagrams(&self.file)
    }
}

fn datagrams(file: &Path) -> Vec<Datagram> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(["-T", "fields", "-E", "occurrence=f"]);
    for field in ["ip.src", "udp.srcport", "ip.dst", "udp.dstport", "udp.payload"] {
        command.args(["-e", field]);
    }
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let octets = |hex: &str| -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks_exact(2).map(octet).collect()
    };
    let line = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [from, from_port, to, to_port, payload] = cells[..] else { return None };
        let end = |address: &str, port: &str| Some((address.to_owned(), port.parse().ok()?));
        Some(Datagram { from: end(from, from_port)?, to: end(to, to_port)?, payload: octets(payload) })
    };
    text.lines().filter_map(line).collect()
}

const RELAYED: u8 = 0x81;
const FOR_RTR: u8 = 0x82;
const VOUCHED: u8 = 0x8a;

/// RTR-2, RTR-3, RTR-4, RTR-5, RTR-7, RTR-8, RTR-9, RTR-10: with a key that Map-Server and RTR share, and without, behind a NAT
/// that keeps ports.
#[test]
fn a_site_behind_a_nat_is_reached_through_the_rtr() {
    if let Some(why) = missing() {
        return println!("SKIP: {why}");
    }
    for keyed in [true, false] {
        reach(keyed);
    }
}

fn reach(keyed: bool) {
    let mut world = World::new(keyed, !keyed);
    let taps = [
        Tap::start("inside", Link { namespace: &world.nat, name: "inside" }, &world.lab),
        Tap::start("outside", world.lab.core_link(0), &world.lab),
        Tap::start("rtr", Link { namespace: &world.lab.core, name: "alt" }, &world.lab),
    ];
    world.start(1);
    let World { lab, rtr, xtrs, .. } = &world;

    let all = Pings { sent: 3, answered: 3 };
    for (from, to) in [(0, 1), (1, 0)] {
        for host in lab.hosts(to) {
            let pings = lab.ping(from, host, 3).unwrap();
            assert_eq!(pings, all, "site{from} to {host}\n{}", rtr.show(&["counters"]).unwrap());
        }
    }
    let perf = Path::new(env!("CARGO_BIN_EXE_altitude-perf"));
    for (from, to) in [(0, 1), (1, 0)] {
        for host in lab.hosts(to) {
            lab.transfer(perf, from, host, TRANSFER, 7).unwrap();
        }
    }

    // What the RTR keeps, and what others are told.
    let binding = world.binding();
    let port = u16::try_from(binding["translated-port"].as_u64().unwrap()).unwrap();
    assert!(if keyed { (20_000..30_000).contains(&port) } else { port == 4341 }, "{binding}");
    for (name, value) in
        [("state", "verified"), ("translated", NAT), ("rloc", RTR), ("inner", XTR), ("eid-prefixes", "1.1.0.0")]
    {
        assert!(binding[name].to_string().contains(value), "{name} {value} in {binding}");
    }
    let shown = xtrs[1].show(&["map-cache"]).unwrap();
    assert!(shown.contains(RTR) && !shown.contains(NAT), "{shown}");

    // Neither end is registered through the RTR: it is none of its business.
    let before = counter(rtr, "not_registered");
    let mut command = Command::new(lab::altitude_binary().unwrap());
    let put = command.args(["map", "add", "3.3.0.0/16", RTR, "--api"]).arg(&xtrs[1].api).output().unwrap();
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    assert_eq!(lab.ping(1, [3, 3, 3, 3].into(), 2).unwrap().answered, 0);
    assert!(counter(rtr, "not_registered") >= before + 2);

    let [inside, outside, core] = taps;
    judge_inside(&inside.read("data of the site", |seen| seen.iter().filter(|one| one.to.1 == 4341).count() > 12));
    judge_outside(
        &outside.read("data for the site", |seen| {
            seen.iter().filter(|one| one.is((RTR, Some(4342)), (NAT, Some(port)))).count() > 12
        }),
        port,
    );
    judge_relayed(
        &core.read("the Map-Notify", |seen| {
            seen.iter().any(|one| one.is((MS, Some(4342)), (RTR, Some(4342))) && one.first() & 0xf0 == 0x80)
        }),
        keyed,
    );
    for (name, router) in [("xtr1", &xtrs[0]), ("xtr2", &xtrs[1]), ("rtr", rtr), ("ms", &world.ms)] {
        let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
        let faults = json["control"].as_object().unwrap().iter().filter(|(name, count)| {
            let of =
                ["nat-", "ecm-", "site-", "info-", "control-", "notify-"].iter().any(|start| name.starts_with(start));
            // A Map-Notify that comes after the next keepalive has gone is one that nobody waits for.
            let counts = ["nat-bindings", "nat-registers-relayed", "notify-nonce-replayed"].contains(&name.as_str())
                || name.starts_with("info-re");
            of && !counts && count.as_u64() != Some(0)
        });
        assert_eq!(faults.collect::<Vec<_>>(), Vec::<(&String, &Value)>::new(), "at {name}");
    }
}

/// RTR-2, RTR-3, RTR-10: what the xTR sends: questions, Map-Registers from port 4341, and data from one port.
fn judge_inside(seen: &[Datagram]) {
    let asked = |one: &&Datagram| one.is((XTR, Some(4342)), (MS, Some(4342))) && one.first() == 0x70;
    assert!(seen.iter().any(|one| asked(&one)), "an Info-Request");
    let answered = |one: &Datagram| one.is((MS, Some(4342)), (XTR, Some(4342))) && one.first() == 0x78;
    assert!(seen.iter().any(answered), "an Info-Reply");
    let registers: Vec<&Datagram> = seen.iter().filter(|one| one.is((XTR, Some(4341)), (RTR, Some(4342)))).collect();
    assert!(!registers.is_empty() && registers.iter().all(|one| one.first() == FOR_RTR));
    // P, I and M of the Map-Register: IPv4 and UDP headers are in front of it.
    let inner = &registers[0].payload[4 + 20 + 8..];
    assert_eq!((inner[0] & 0xf0, inner[0] & 0x0a, inner[2] & 1), (0x30, 0x0a, 1), "{inner:02x?}");
    let from_xtr = |one: &&Datagram| one.is((XTR, None), (RTR, Some(4341)));
    let ports: std::collections::BTreeSet<u16> = seen.iter().filter(from_xtr).map(|one| one.from.1).collect();
    assert_eq!(ports.len(), 1, "one port for all flows: {ports:?}");
    assert!(seen.iter().all(|one| one.from.0 != XTR || [MS, RTR].contains(&one.to.0.as_str())), "all goes to the RTR");
}

/// RTR-7, RTR-9: all that comes to the site is from the RTR's control port to the translated one, the Map-Notify as data of
/// instance 0xFFFFFF.
fn judge_outside(seen: &[Datagram], port: u16) {
    let to_nat: Vec<&Datagram> = seen.iter().filter(|one| one.is((RTR, None), (NAT, None))).collect();
    assert!(to_nat.iter().all(|one| one.is((RTR, Some(4342)), (NAT, Some(port)))), "{to_nat:?}");
    let is_notify = |one: &&&Datagram| one.payload.starts_with(&[0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
    let notify = to_nat.iter().find(is_notify).expect("a Data-Map-Notify");
    // The inner IPv4 packet: from the Map-Server to what the xTR calls itself, a Map-Notify.
    let inner = &notify.payload[8..];
    assert_eq!((&inner[12..16], &inner[16..20], inner[28] >> 4), (&[240, 0, 254, 50][..], &[10, 0, 0, 2][..], 4));
    assert!(to_nat.iter().filter(|one| !is_notify(one)).count() > 12, "data");
}

/// RTR-5: out with N and without R; back with R, and with S and authentication data of type 2 where a key is shared.
fn judge_relayed(seen: &[Datagram], keyed: bool) {
    let ecm = |one: &&Datagram| one.first() & 0xf0 == 0x80;
    let out: Vec<&Datagram> = seen.iter().filter(|one| one.is((RTR, None), (MS, Some(4342)))).filter(ecm).collect();
    let relayed: Vec<&&Datagram> = out.iter().filter(|one| one.first() & 3 != 0).collect();
    assert!(!relayed.is_empty() && relayed.iter().all(|one| one.first() == RELAYED), "{out:?}");
    let back: Vec<&Datagram> =
        seen.iter().filter(|one| one.is((MS, Some(4342)), (RTR, Some(4342)))).filter(ecm).collect();
    assert!(!back.is_empty());
    for one in back {
        assert_eq!(one.first(), if keyed { VOUCHED } else { FOR_RTR }, "{one:?}");
        assert!(!keyed || one.payload[4] == 2, "{one:?}");
    }
}

/// RTR-11: a keepalive shorter than the NAT remembers keeps the binding through silence; a longer one loses it.
#[test]
fn keepalives_keep_the_binding() {
    if let Some(why) = missing() {
        return println!("SKIP: {why}");
    }
    let one = Pings { sent: 1, answered: 1 };
    {
        let mut world = World::new(true, false);
        world.start(1);
        let before = counter(&world.rtr, "data_map_notifies_sent");
        let rounds = 2 * REMEMBERS + 2;
        wait_counter(&world.rtr, "data_map_notifies_sent", |count| count >= before + rounds);
        assert_eq!(world.tracked().len(), 1, "{:?}", world.tracked());
        assert_eq!(world.lab.ping(1, world.lab.hosts(0)[0], 1).unwrap(), one, "after silence");
    }
    let mut world = World::new(true, false);
    remember(&world.nat, 300);
    world.start(120);
    let ping = || world.lab.ping(1, world.lab.hosts(0)[0], 1).unwrap();
    assert_eq!(ping(), one, "while the NAT remembers");
    remember(&world.nat, REMEMBERS);
    assert_eq!(ping(), one, "which it does from this packet on for a short time");
    lab::wait_until("the NAT to forget", LIMIT, || Ok(world.tracked().is_empty().then_some(()))).unwrap();
    assert_eq!(ping().answered, 0, "the NAT lets nothing in");
}
