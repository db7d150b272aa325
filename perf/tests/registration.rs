//! Our ETR and Map-Servers of other makes: a script that reads RFC 9301 by itself (`registration/map_server.py`), and
//! openoverlayrouter 1.3.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use altitude_perf::lab::{
    self, Capture, Family, Lab, LabError, Link, Namespace, Pings, Process, Router, SITES, veth, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const MTU: u16 = 1600;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registration/map_server.py");
const SECRET: &str = "lisp-psk-1";

/// A host more on the core, with one link named `core`.
fn join(lab: &Lab, role: &'static str, addresses: &[&str]) -> Namespace {
    let namespace = Namespace::create(&format!("alt{}", std::process::id()), role).unwrap();
    veth(Link { namespace: &namespace, name: "core" }, Link { namespace: &lab.core, name: role }, MTU).unwrap();
    lab.core.ip(&format!("link set {role} master br0")).unwrap();
    for address in addresses {
        let length = if address.contains(':') { "64 nodad" } else { "24" };
        namespace.ip(&format!("address add {address}/{length} dev core")).unwrap();
    }
    namespace
}

/// A scripted Map-Server.
struct Script(Process);

impl Script {
    fn start(lab: &Lab, namespace: &Namespace, address: &str, options: &[&str]) -> Self {
        let mut command = namespace.command("python3");
        command.arg(SCRIPT).arg(address).arg(SECRET).args(options);
        let mut process = Process::start(&format!("ms-{address}"), &mut command, lab.folder()).unwrap();
        process.wait_line(LIMIT, |line| line == "ready").unwrap();
        Self(process)
    }

    /// The messages that came so far.
    fn heard(&self) -> Vec<Value> {
        let output = self.0.output();
        // The last line may not be whole yet.
        let lines = output.lines().filter(|line| line.starts_with('{'));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a message from number `from` on.
    fn wait(&self, what: &str, from: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, LIMIT, || Ok(self.heard().into_iter().skip(from).find(&wanted))).unwrap()
    }
}

/// `show registrations` of one Map-Server.
fn standing(router: &Router, server: &str) -> Result<Value, LabError> {
    let json: Value = serde_json::from_str(&router.show(&["registrations", "--json"])?).unwrap();
    let all = json["registrations"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().find(|one| one["map-server"] == server).unwrap_or_else(|| panic!("{server} in {json}")))
}

fn wait_standing(router: &Router, server: &str, wanted: &str) -> Value {
    let stands = || Ok(Some(standing(router, server)?).filter(|one| one["standing"] == wanted));
    wait_until(&format!("{server} {wanted}"), LIMIT, stands).unwrap_or_else(|error| {
        panic!("{error}: {}\n{}", standing(router, server).unwrap(), router.process.output());
    })
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    lab::total(&json, name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// Configuration of the first site's xTR, with more at its top and at its end.
fn site(lab: &Lab, top: &str, more: &str) -> Vec<String> {
    let site = &SITES[0];
    let [v4, v6] = site.eid_prefixes();
    let state = lab.folder().join("state");
    let text = format!(
        "workers = \"0\"\nstate-dir = \"{}\"\n{top}[[site-port]]\nname = \"site\"\n[[core-port]]\nname = \"core\"\n\
         [[eid-prefix]]\nprefix = \"{v4}\"\n[[eid-prefix]]\nprefix = \"{v6}\"\n{more}",
        state.display(),
    );
    let file = lab.folder().join("xtr1.toml");
    fs::write(&file, text).unwrap();
    vec!["--config".to_owned(), file.display().to_string()]
}

fn map_server(address: &str, algorithm: &str, more: &str) -> String {
    let key = format!("key = {{ id = 7, algorithm = \"{algorithm}\", secret = \"{SECRET}\" }}");
    format!("[[map-server]]\naddress = \"{address}\"\n{key}\n{more}")
}

/// ETR-20, ETR-25, ETR-26, ETR-28: what leaves the machine is what RFC 9301 says, whoever reads it; and for each way in which
/// a Map-Server does not have us, the operator reads which one it is.
#[test]
fn map_servers_of_other_make_believe_us_and_why_others_do_not_is_told() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let [good, mute, wrong, partial, six, nowhere] =
        ["240.0.254.41", "240.0.254.42", "240.0.254.43", "240.0.254.44", "2001:db8:f::45", "203.0.113.9"];
    let ms = join(&lab, "ms", &[good, mute, wrong, partial, six]);
    let [v4, v6] = SITES[0].eid_prefixes();
    let scripts = [
        Script::start(&lab, &ms, good, &["--noise"]),
        Script::start(&lab, &ms, mute, &["--mute"]),
        Script::start(&lab, &ms, wrong, &["--sign", "another secret"]),
        Script::start(&lab, &ms, partial, &["--refuse", &v6]),
        Script::start(&lab, &ms, six, &[]),
    ];
    let servers = [
        map_server(good, "sha256-hkdf", "proxy = true\n"),
        map_server(mute, "sha256", ""),
        map_server(wrong, "sha256", ""),
        map_server(partial, "sha1", "legacy = [\"whole-mac\"]\n"),
        map_server(six, "sha256", "merge = true\nlegacy = [\"whole-mac\"]\n"),
        map_server(nowhere, "sha256", ""),
    ];
    let top = "rlocs = [\"240.0.254.10\", \"2001:db8:f::10\"]\nxtr-id = \"000102030405060708090a0b0c0d0e0f\"\n\
               site-id = \"000000000000002a\"\n";
    let capture = Capture::start("ms", Link { namespace: &ms, name: "core" }, "udp port 4342", lab.folder()).unwrap();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let router = Router::start("xtr1", &lab.xtrs[0], &site(&lab, top, &servers.concat()), lab.folder()).unwrap();

    // Octets, key and algorithm of each make of MAC; each proved by the script's own computation.
    let expected = [(good, 16, 3), (mute, 16, 2), (wrong, 16, 2), (partial, 20, 1), (six, 32, 2)];
    for ((address, octets, algorithm), script) in expected.into_iter().zip(&scripts) {
        let first = script.wait("a Map-Register", 0, |_| true);
        assert_eq!((&first["type"], &first["mac"], &first["key"]), (&3.into(), &true.into(), &7.into()), "{first}");
        assert_eq!((&first["mac-octets"], &first["algorithm"]), (&octets.into(), &algorithm.into()), "{first}");
        assert_eq!(
            (&first["notify"], &first["port"], &first["ttl-timeout"]),
            (&true.into(), &4342.into(), &false.into())
        );
        assert_eq!(
            (&first["proxy"], &first["merge"]),
            (&(address == good).into(), &(address == six).into()),
            "{first}"
        );
        assert_eq!(first["xtr-id"], "000102030405060708090a0b0c0d0e0f");
        assert_eq!(first["site-id"], "000000000000002a");
        assert!(first["nonce"].as_u64().unwrap() >= seconds << 32, "{first}");
        let locator = |address: &str| {
            serde_json::json!({
                "address": address, "priority": 1, "weight": 100, "local": true, "probed": false, "reachable": true
            })
        };
        let record = |prefix: &str| {
            let locators = [locator("240.0.254.10"), locator("2001:db8:f::10")];
            serde_json::json!({ "prefix": prefix, "ttl": 1440, "authoritative": true, "locators": locators })
        };
        assert_eq!(first["records"], serde_json::json!([record(&v4), record(&v6)]), "{first}");
    }

    for server in [good, six] {
        let one = wait_standing(&router, server, "registered");
        assert!(one["why"].is_null() && one["prefixes"].as_array().unwrap().len() == 2, "{one}");
    }
    let told = |server: &str, is: &str, why: &str, remedy: &str| {
        let one = wait_standing(&router, server, is);
        assert!(one["why"].as_str().unwrap().contains(why), "{one}");
        assert!(one["remedy"].as_str().unwrap().contains(remedy), "{one}");
        one
    };
    told(mute, "silent", "nothing came back", "Key ID 7, algorithm sha256");
    told(wrong, "wrong-key", "signed with another secret than ours for Key ID 7", "the same secret");
    let one = told(partial, "partial", &format!("it refuses {v6}"), "more-specifics");
    assert_eq!((&one["prefixes"][0]["standing"], &one["prefixes"][0]["eid"]), (&"registered".into(), &v4.into()));
    assert_eq!(one["prefixes"][1]["standing"], "refused");
    told(nowhere, "silent", "not sent: Network is unreachable", "ip route get 203.0.113.9");

    // A forged answer, the same answer twice, and news of the Map-Server's own.
    let ack = scripts[0].wait("a Map-Notify-Ack", 0, |message| message["type"] == 5);
    assert_eq!((&ack["nonce"], &ack["mac"]), (&0x102.into(), &true.into()), "{ack}");
    assert!(counter(&router, "notify_bad_authentication") >= 2, "one forged, and the one with the wrong key");
    assert!(counter(&router, "notify_nonce_replayed") >= 1);
    assert_eq!(counter(&router, "map_notify_acks_sent"), 1);
    let shown = router.show(&["registrations"]).unwrap();
    assert!(shown.contains(&format!("{wrong}: its answers are signed with another secret")), "{shown}");

    // Nonces grow from message to message with each Map-Server, and each standing was logged once.
    for script in &scripts {
        let heard = script.heard();
        let nonces: Vec<u64> = heard
            .iter()
            .filter(|message| message["type"] == 3)
            .map(|message| message["nonce"].as_u64().unwrap())
            .collect();
        assert!(nonces.is_sorted_by(|one, next| one < next), "{nonces:?}");
    }
    assert!(scripts[1].heard().len() >= 3, "it was sent again");
    let log = router.process.output();
    let lines = |wanted: &str, server: &str| {
        log.lines().filter(|line| line.contains(wanted) && line.contains(&format!("server={server}"))).count()
    };
    assert_eq!(lines("INFO registered with the Map-Server", good), 1, "{log}");
    for server in [mute, wrong, partial, nowhere] {
        assert_eq!(lines("not registered with the Map-Server", server), 1, "{server}: {log}");
    }
    assert!(!log.contains(SECRET));
    let packets = capture.stop().unwrap();
    assert!(packets.iter().all(|packet| !packet.damaged), "{packets:?}");
}

/// ETR-20, ETR-21, ETR-24, ETR-27: over a restart nonces grow and we stay the same xTR, whatever the clock says; a stop takes
/// everything back, a restart does not; and a locator that lost its link is told at once.
#[test]
fn nonces_and_identity_survive_restarts_and_only_a_stop_withdraws() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let server = "240.0.254.41";
    let ms = join(&lab, "ms", &[server]);
    let script = Script::start(&lab, &ms, server, &[]);
    let xtr = &lab.xtrs[0];
    xtr.ip("link add spare type veth peer name far").unwrap();
    xtr.ip("address add 240.0.253.10/24 dev spare").unwrap();
    xtr.ip("link set spare up").unwrap();
    xtr.ip("link set far up").unwrap();
    let more = format!("[[core-port]]\nname = \"spare\"\n{}", map_server(server, "sha256", ""));
    let flags = site(&lab, "rlocs = [\"240.0.254.10\", \"240.0.253.10\"]\n", &more);
    let start = || {
        let router = Router::start("xtr1", xtr, &flags, lab.folder()).unwrap();
        wait_standing(&router, server, "registered");
        router
    };
    let nonce = |message: &Value| message["nonce"].as_u64().unwrap();
    let withdrawn = |message: &Value| {
        let records = message["records"].as_array().unwrap();
        message["ttl-timeout"] == true && records.iter().all(|record| record["ttl"] == 0)
    };

    let mut router = start();
    let first = script.heard().remove(0);
    // Its far end: the address stays, the carrier is gone.
    xtr.ip("link set far down").unwrap();
    let reachable = |message: &Value, address: &str, is: bool| {
        let records = message["records"].as_array().unwrap();
        let locators = || records.iter().flat_map(|record| record["locators"].as_array().unwrap());
        locators().filter(|locator| locator["address"] == address).all(|locator| locator["reachable"] == is)
    };
    let down = script.wait("the R bit cleared", 1, |message| reachable(message, "240.0.253.10", false));
    assert!(reachable(&down, "240.0.254.10", true), "{down}");
    let before = script.heard().len();
    xtr.ip("link set far up").unwrap();
    script.wait("the R bit set again", before, |message| reachable(message, "240.0.253.10", true));
    let before = script.heard().len();
    assert!(router.stop().unwrap().success());
    let last = script.wait("a withdrawal", before, withdrawn);
    assert_eq!((last["records"].as_array().unwrap().len(), &last["mac"]), (2, &true.into()), "{last}");

    // As if the clock had been a year ahead when it ran: nonces go on from there.
    let state = lab.folder().join("state/registrar.state");
    let text = fs::read_to_string(&state).unwrap();
    let kept = text.lines().find_map(|line| line.strip_prefix("nonces-below = ")).unwrap().to_owned();
    let ahead = u64::from_str_radix(&kept, 16).unwrap() + (31_536_000 << 32);
    assert!(u64::from_str_radix(&kept, 16).unwrap() > nonce(&last));
    fs::write(&state, text.replace(&kept, &format!("{ahead:016x}"))).unwrap();
    let before = script.heard().len();
    let mut router = start();
    let second = script.heard().remove(before);
    assert!(nonce(&second) >= ahead, "{second}");
    assert_eq!((&second["xtr-id"], &second["identity"]), (&first["xtr-id"], &true.into()), "the same xTR");
    assert_ne!(first["xtr-id"], "00000000000000000000000000000000");

    // A restart keeps what is registered.
    let before = script.heard().len();
    router.process.signal(Signal::SIGUSR1).unwrap();
    assert!(router.process.wait(LIMIT).unwrap().success());
    let router = start();
    let after: Vec<Value> = script.heard().split_off(before);
    assert!(!after.is_empty() && !after.iter().any(withdrawn), "{after:?}");
    assert!(after.iter().all(|message| nonce(message) > nonce(&second)));
    drop(router);

    // Without a place to keep anything it runs all the same, and says what that means.
    let folder = lab.folder().join("state");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "not a folder").unwrap();
    let router = start();
    let log = router.process.output();
    assert!(log.contains("are not kept") && log.contains("--state-dir"), "{log}");
}

/// openoverlayrouter as Map-Server and Map-Resolver of both sites.
fn openoverlayrouter(lab: &Lab, namespace: &Namespace, instance: u32) -> Result<Process, LabError> {
    let site = |index: usize| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let one = |prefix: String| {
            format!(
                "lisp-site {{\n eid-prefix = {prefix}\n key-type = 1\n key = {SECRET}\n iid = {instance}\n \
                 accept-more-specifics = {}\n}}\n",
                // It takes an Instance-ID without the length that RFC 8060 §4.1 has for ranges alone for a part of its own.
                instance != 0,
            )
        };
        one(v4) + &one(v6)
    };
    let text = format!("debug = 2\noperating-mode = MS\ncontrol-iface = core\n{}{}", site(0), site(1));
    let file = lab.folder().join("oor.conf");
    fs::write(&file, text).map_err(LabError::os("oor.conf"))?;
    let mut process = Process::start("oor", namespace.command("oor").args(["-d", "2", "-f"]).arg(&file), lab.folder())?;
    let listens = || Ok(lab::run(namespace.command("ss").args(["-lun"]))?.contains(":4342").then_some(()));
    process.wait_for("socket of openoverlayrouter", LIMIT, listens)?;
    Ok(process)
}

/// ETR-22, ETR-26: legacy switches alone make openoverlayrouter's Map-Server believe us, and through it each site finds the
/// other: as an ETR that is asked, and by the Map-Server's answer in its place.
#[test]
fn openoverlayrouter_takes_our_registrations_and_answers_for_them() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&folders).chain(["/usr/sbin".into()]);
    if !folders.any(|folder| folder.join("oor").is_file()) {
        return println!("SKIP: `oor` is missing: install Debian's openoverlayrouter");
    }
    for (family, instance) in [(Family::V4, 0), (Family::V4, 77), (Family::V6, 0)] {
        two_sites_by_openoverlayrouter(family, instance);
    }
}

fn two_sites_by_openoverlayrouter(family: Family, instance: u32) {
    let lab = Lab::new().unwrap();
    let both = (Ipv4Addr::new(240, 0, 254, 40), Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x40));
    let ms = join(&lab, "oor", &[&both.0.to_string(), &both.1.to_string()]);
    let server = &family.of(both).to_string();
    let _oor = openoverlayrouter(&lab, &ms, instance).unwrap();
    let key = lab.folder().join("oor.key");
    fs::write(&key, format!("{SECRET}\n")).unwrap();
    let capture = Capture::start("oor", Link { namespace: &ms, name: "core" }, "udp port 4342", lab.folder()).unwrap();
    let routers = [0, 1].map(|index| {
        let site = &SITES[index];
        let [v4, v6] = site.eid_prefixes();
        let name = ["xtr1", "xtr2"][index];
        // The second site has the Map-Server answer in its place.
        let proxy = ["", ",proxy"][index];
        let state = lab.folder().join(format!("{name}.state"));
        let flags = format!(
            "--site-port site:{instance} --core-port core --rloc {} --eid-prefix {v4},instance={instance} \
             --eid-prefix {v6},instance={instance} --map-resolver {server} --workers 0 --state-dir {} \
             --map-server {server},key-file={},key-id=0,algorithm=sha1,legacy=whole-mac{proxy}",
            family.of(site.rloc),
            state.display(),
            key.display(),
        );
        let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        Router::start(name, &lab.xtrs[index], &flags, lab.folder()).unwrap()
    });
    for router in &routers {
        let one = wait_standing(router, server, "registered");
        let prefixes = one["prefixes"].as_array().unwrap();
        assert!(prefixes.len() == 2 && prefixes.iter().all(|prefix| prefix["standing"] == "registered"), "{one}");
    }
    for (index, router) in routers.iter().enumerate() {
        for to in lab.hosts(1 - index) {
            assert_eq!(lab.ping(index, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
        }
        let shown = router.show(&["map-cache"]).unwrap();
        for prefix in SITES[1 - index].eid_prefixes() {
            assert!(shown.contains(&prefix), "{prefix} in {shown}");
        }
    }
    // xtr2 asked for site 1 and was answered by xtr1 itself, which openoverlayrouter handed the Map-Requests; for site 2 it
    // answered itself.
    assert!(counter(&routers[0], "map_replies_sent") >= 2 && counter(&routers[0], "map_requests_received") >= 2);
    assert_eq!(counter(&routers[1], "map_requests_received"), 0);
    let packets = capture.stop().unwrap();
    assert!(packets.iter().all(|packet| !packet.damaged), "{packets:?}");
}
