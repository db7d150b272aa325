//! openoverlayrouter (Debian's package) as an xTR: behind our Map-Server, and with static mappings at both ends; both
//! families of EIDs over both families of RLOCs, and an Instance-ID. `registration.rs` has it as Map-Server.
//!
//! ```text
//! site1 ─ xtr1 (ours) ─── core ─── oor ─ site2
//!                          │
//!            Map-Resolver and Map-Server (ours)
//! ```

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use altitude_perf::lab::{self, Capture, Family, Kind, Lab, LabError, Packet, Pings, Process, Router, SITES, run};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const SERVER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(240, 0, 254, 30), Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x30));
const SECRET: &str = "lab-secret";
const PINGS: u16 = 5;
const TRANSFER: u64 = 2_000_000;

/// Where the two find each other's mappings.
#[derive(Clone, Copy, PartialEq)]
enum By {
    MapServer,
    Statics,
}

#[derive(Clone, Copy)]
struct Case {
    rlocs: Family,
    instance: u32,
    by: By,
}

impl Case {
    fn rloc(self, index: usize) -> IpAddr {
        self.rlocs.of(SITES[index].rloc)
    }
}

#[test]
fn behind_our_map_server_over_ipv4() {
    meet(Case { rlocs: Family::V4, instance: 0, by: By::MapServer });
}

#[test]
fn behind_our_map_server_over_ipv6() {
    meet(Case { rlocs: Family::V6, instance: 0, by: By::MapServer });
}

#[test]
fn behind_our_map_server_in_an_instance() {
    meet(Case { rlocs: Family::V4, instance: 77, by: By::MapServer });
}

#[test]
fn by_static_mappings_over_ipv4() {
    meet(Case { rlocs: Family::V4, instance: 0, by: By::Statics });
}

#[test]
fn by_static_mappings_over_ipv6() {
    meet(Case { rlocs: Family::V6, instance: 0, by: By::Statics });
}

#[test]
fn by_static_mappings_in_an_instance() {
    meet(Case { rlocs: Family::V4, instance: 77, by: By::Statics });
}

fn available() -> bool {
    if let Err(why) = lab::available() {
        println!("SKIP: {why}");
        return false;
    }
    let there = ["/usr/sbin/oor", "/usr/bin/oor"].iter().any(|path| Path::new(path).exists());
    if !there {
        println!("SKIP: `oor` is missing: install Debian's openoverlayrouter");
    }
    there
}

/// Pings and TCP both ways; ours loses no first packet; tshark finds nothing wrong.
fn meet(case: Case) {
    if !available() {
        return;
    }
    let lab = Lab::new().unwrap();
    let server = (case.by == By::MapServer).then(|| map_server(&lab, case));
    let ours = ours(&lab, case);
    let theirs = oor(&lab, case).unwrap();
    if let Some(server) = &server {
        let wait = lab::wait_until("registrations of openoverlayrouter", LIMIT, || registered(server, 2));
        wait.unwrap_or_else(|error| panic!("{error}\n{}", theirs.output()));
    }
    let core = Capture::start("core", lab.core_link(0), "", lab.folder()).unwrap();
    let sites =
        [0, 1].map(|index| Capture::start(["one", "two"][index], lab.site_link(index), "", lab.folder()).unwrap());

    let explain = |error: LabError| -> Pings { panic!("{error}\n{}", theirs.output()) };
    for (here, there) in lab.hosts(0).into_iter().zip(lab.hosts(1)) {
        // Its own first packets are lost while it asks, the answers to ours among them: what came out of our tunnel counts.
        lab.ping(0, there, PINGS).unwrap();
        let both =
            || Ok((lab.ping(1, here, 2)? == Pings { sent: 2, answered: 2 }).then_some(Pings { sent: 2, answered: 2 }));
        lab::wait_until("pings from its site", LIMIT, both).unwrap_or_else(explain);
        assert_eq!(lab.ping(0, there, PINGS).unwrap(), Pings { sent: PINGS, answered: PINGS });
    }
    let perf = Path::new(env!("CARGO_BIN_EXE_altitude-perf"));
    for from in [0, 1] {
        for to in lab.hosts(1 - from) {
            lab.transfer(perf, from, to, TRANSFER, 7).unwrap_or_else(|error| panic!("{error}\n{}", theirs.output()));
        }
    }
    judge(&lab, case, core, sites);
    drop(ours);
}

fn judge(lab: &Lab, case: Case, core: Capture, [one, two]: [Capture; 2]) {
    let ended = |packets: &[Packet]| packets.iter().filter(|packet| packet.tcp_fin).count() >= 8;
    let packets = core.stop_when("last packet on the core", LIMIT, ended).unwrap();
    let rlocs = [0, 1].map(|index| case.rloc(index));
    assert!(packets.iter().all(|packet| !packet.damaged), "{:?}", packets.iter().find(|packet| packet.damaged));
    for from in [0, 1] {
        let sent = |packet: &&Packet| packet.kind == Kind::Data && packet.headers[0].source == rlocs[from];
        let data = packets.iter().filter(sent).count();
        assert!(data > 100, "{data} packets out of the tunnel of {}", rlocs[from]);
    }
    // Nothing of the sites passes beside the tunnels.
    let hosts: Vec<IpAddr> = [0, 1].into_iter().flat_map(|index| lab.hosts(index)).collect();
    let bare = |packet: &&Packet| packet.kind == Kind::Ip && packet.headers.iter().any(|ip| hosts.contains(&ip.source));
    assert_eq!(packets.iter().find(bare).map(|packet| &packet.protocols), None);

    let first = one.stop_when("last packet at our site", LIMIT, ended).unwrap();
    let second = two.stop_when("last packet at its site", LIMIT, ended).unwrap();
    for (here, there) in lab.hosts(0).into_iter().zip(lab.hosts(1)) {
        let asked = |packet: &&Packet| {
            let echo = matches!(packet.icmp, Some((8 | 128, _)));
            echo && packet.headers[0].source == here && packet.headers[0].destination == there
        };
        let [left, came] = [&first, &second].map(|packets| packets.iter().filter(asked).count());
        assert_eq!((left, came), (2 * usize::from(PINGS), 2 * usize::from(PINGS)), "echo requests to {there}");
    }
    lab::judge_site(&first).unwrap();
}

/// What it looks like to routers from before RFC 9301: their Key ID 1 is our Algorithm 1 with Key ID 0, MACs are not cut off,
/// nonces are random.
fn map_server(lab: &Lab, case: Case) -> Router {
    let state = lab.folder().join("state");
    let site = |index: usize, name: &str| {
        let prefixes = SITES[index].eid_prefixes().map(|prefix| format!("\"{prefix}\"")).join(", ");
        format!("[[site]]\nname = \"{name}\"\ninstance = {}\neid-prefixes = [{prefixes}]\n", case.instance)
    };
    let clients = match case.rlocs {
        Family::V4 => "240.0.254.0/24",
        Family::V6 => "2001:db8:f::/64",
    };
    let config = format!(
        "rlocs = [\"{}\"]\nstate-dir = \"{}\"\nlog = \"debug\"\n[map-resolver]\nclients = [\"{clients}\"]\n\
         {}etrs = [\"{}\"]\n{}legacy = [\"nonce\", \"whole-mac\"]\n\
         keys = [{{ id = 0, algorithm = \"sha1\", secret = \"{SECRET}\" }}]\n",
        case.rlocs.of(SERVER),
        state.display(),
        site(0, "ours"),
        case.rloc(0),
        site(1, "theirs"),
    );
    let file = lab.folder().join("ms.toml");
    fs::write(&file, config).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start("ms", &lab.alt, &flags, lab.folder()).unwrap()
}

/// Our xTR of the first site.
fn ours(lab: &Lab, case: Case) -> Router {
    let Case { instance, .. } = case;
    let [v4, v6] = SITES[0].eid_prefixes();
    let mut flags = format!(
        "--site-port site:{instance} --core-port core --rloc {} --eid-prefix {v4},instance={instance} \
         --eid-prefix {v6},instance={instance} --workers 0",
        case.rloc(0),
    );
    match case.by {
        By::MapServer => flags += &format!(" --map-resolver {}", case.rlocs.of(SERVER)),
        By::Statics => {
            let one = |eid: String| {
                let locators = format!("[{{ address = \"{}\" }}]", case.rloc(1));
                format!("[[map-cache]]\neid = \"{eid}\"\ninstance = {instance}\nlocators = {locators}\n")
            };
            let file = lab.folder().join("statics.toml");
            fs::write(&file, SITES[1].eid_prefixes().map(one).concat()).unwrap();
            flags += &format!(" --config {}", file.display());
        }
    }
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    Router::start("xtr1", &lab.xtrs[0], &flags, lab.folder()).unwrap()
}

/// openoverlayrouter as the xTR of the second site. It probes, and answers our probes.
fn oor(lab: &Lab, case: Case) -> Result<Process, LabError> {
    let namespace = &lab.xtrs[1];
    let (server, instance) = (case.rlocs.of(SERVER), case.instance);
    // It sends all through the gateway of its interface, which the Map-Server's kernel is.
    let family = if server.is_ipv4() { "" } else { "-6 " };
    namespace.ip(&format!("{family}route replace default via {server} dev core"))?;
    for (namespace, setting) in [
        (&lab.alt, "net.ipv4.ip_forward=1"),
        (&lab.alt, "net.ipv6.conf.all.forwarding=1"),
        (&lab.alt, "net.ipv4.conf.all.send_redirects=0"),
        (&lab.alt, "net.ipv4.conf.core.send_redirects=0"),
        (namespace, "net.ipv4.ip_forward=1"),
        (namespace, "net.ipv6.conf.all.forwarding=1"),
        (namespace, "net.ipv4.conf.all.rp_filter=0"),
        (namespace, "net.ipv4.conf.site.rp_filter=0"),
        (namespace, "net.ipv4.conf.core.rp_filter=0"),
    ] {
        run(namespace.command("sysctl").args(["-qw", setting]))?;
    }
    let locator = |index: usize| {
        format!(" rloc-address {{\n address = {}\n priority = 1\n weight = 100\n }}\n", case.rloc(index))
    };
    let mut text = format!(
        "debug = 2\nmap-request-retries = 2\noperating-mode = xTR\nencapsulation = LISP\n\
         rloc-probing {{\n rloc-probe-interval = 5\n rloc-probe-retries = 1\n rloc-probe-retries-interval = 5\n}}\n\
         map-resolver = {{ {server} }}\n\
         map-server {{\n address = {server}\n key-type = 1\n key = {SECRET}\n proxy-reply = off\n}}\n",
    );
    for prefix in SITES[1].eid_prefixes() {
        text += &format!("database-mapping {{\n eid-prefix = {prefix}\n iid = {instance}\n{}}}\n", locator(1));
    }
    for prefix in SITES[0].eid_prefixes().iter().filter(|_| case.by == By::Statics) {
        text += &format!("static-map-cache {{\n eid-prefix = {prefix}\n iid = {instance}\n{}}}\n", locator(0));
    }
    let file = lab.folder().join("oor.conf");
    fs::write(&file, text).map_err(LabError::os(file.display().to_string()))?;
    let mut process = Process::start("oor", namespace.command("oor").args(["-d", "2", "-f"]).arg(&file), lab.folder())?;
    let device = || Ok(namespace.ip("route show table all")?.contains("default dev lispTun0").then_some(()));
    process.wait_for("route into its device", LIMIT, device)?;
    Ok(process)
}

/// What it registered, once that is `wanted` prefixes.
fn registered(server: &Router, wanted: usize) -> Result<Option<Value>, LabError> {
    let text = server.show(&["sites", "--json"])?;
    let document: Value = serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{error}: {text}")))?;
    let prefixes = document["sites"][1]["prefixes"].as_array().cloned().unwrap_or_default();
    let xtrs: Vec<Value> = prefixes.iter().filter_map(|prefix| prefix["xtrs"].get(0).cloned()).collect();
    Ok((xtrs.len() == wanted).then(|| xtrs[0].clone()))
}

/// It keeps registered over a crash of our Map-Server.
#[test]
fn its_registrations_outlive_a_crash_of_our_map_server() {
    if !available() {
        return;
    }
    let case = Case { rlocs: Family::V4, instance: 0, by: By::MapServer };
    let lab = Lab::new().unwrap();
    let mut server = map_server(&lab, case);
    let _ours = ours(&lab, case);
    let theirs = oor(&lab, case).unwrap();
    let wait = lab::wait_until("registrations of openoverlayrouter", LIMIT, || registered(&server, 2));
    let before = wait.unwrap_or_else(|error| panic!("{error}\n{}", theirs.output()));
    assert_eq!((before["from"].as_str(), before["key"].as_u64()), (Some("240.0.254.20"), Some(0)), "{before}");

    server.process.kill().unwrap();
    drop(server);
    let server = map_server(&lab, case);
    let again = registered(&server, 2).unwrap().expect("registered as before the crash");
    assert_eq!(again["from"], before["from"]);
    let there = lab.hosts(1)[0];
    let both = || Ok((lab.ping(0, there, 2)? == Pings { sent: 2, answered: 2 }).then_some(()));
    lab::wait_until("pings to its site", LIMIT, both).unwrap_or_else(|error| panic!("{error}\n{}", theirs.output()));
}
