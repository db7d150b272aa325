//! openoverlayrouter (Debian's package) as an xTR behind our Map-Server: it registers, keeps registered over a crash of the
//! Map-Server, and pings pass both ways between its site and one of ours.
//!
//! ```text
//! site1 ─ xtr1 (ours) ─── core ─── oor ─ site2
//!                          │
//!            Map-Resolver and Map-Server (ours)
//! ```

use std::{fs, path::Path, time::Duration};

use altitude_perf::lab::{self, Lab, LabError, Pings, Process, Router, SITES, run};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const SERVER: &str = "240.0.254.30";
const SECRET: &str = "lab-secret";

/// What it looks like to routers from before RFC 9301: their Key ID 1 is our Algorithm 1 with Key ID 0, MACs are not cut off,
/// nonces are random.
fn map_server(lab: &Lab) -> Router {
    let [ours, theirs] = [0, 1].map(|index| SITES[index].eid_prefixes()[0].clone());
    let state = lab.folder().join("state");
    let config = format!(
        "rlocs = [\"{SERVER}\"]\nstate-dir = \"{}\"\nlog = \"debug\"\n[map-resolver]\nclients = [\"240.0.254.0/24\"]\n\
         [[site]]\nname = \"ours\"\neid-prefixes = [\"{ours}\"]\netrs = [\"{}\"]\n\
         [[site]]\nname = \"theirs\"\neid-prefixes = [\"{theirs}\"]\nlegacy = [\"nonce\", \"whole-mac\"]\n\
         keys = [{{ id = 0, algorithm = \"sha1\", secret = \"{SECRET}\" }}]\n",
        state.display(),
        SITES[0].rloc.0,
    );
    let file = lab.folder().join("ms.toml");
    fs::write(&file, config).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start("ms", &lab.alt, &flags, lab.folder()).unwrap()
}

fn oor(lab: &Lab) -> Result<Process, LabError> {
    let namespace = &lab.xtrs[1];
    let rloc = SITES[1].rloc.0;
    // It sends all through the gateway of its interface, which the Map-Server's kernel is.
    namespace.ip(&format!("route replace default via {SERVER}"))?;
    for (namespace, setting) in [
        (&lab.alt, "net.ipv4.ip_forward=1"),
        (&lab.alt, "net.ipv4.conf.all.send_redirects=0"),
        (&lab.alt, "net.ipv4.conf.core.send_redirects=0"),
        (namespace, "net.ipv4.ip_forward=1"),
        (namespace, "net.ipv4.conf.all.rp_filter=0"),
        (namespace, "net.ipv4.conf.site.rp_filter=0"),
        (namespace, "net.ipv4.conf.core.rp_filter=0"),
    ] {
        run(namespace.command("sysctl").args(["-qw", setting]))?;
    }
    let text = format!(
        "debug = 2\nmap-request-retries = 2\noperating-mode = xTR\nencapsulation = LISP\n\
         rloc-probing {{\n rloc-probe-interval = 0\n rloc-probe-retries = 1\n rloc-probe-retries-interval = 5\n}}\n\
         map-resolver = {{ {SERVER} }}\n\
         map-server {{\n address = {SERVER}\n key-type = 1\n key = {SECRET}\n proxy-reply = off\n}}\n\
         database-mapping {{\n eid-prefix = {}\n iid = 0\n rloc-address {{\n address = {rloc}\n priority = 1\n \
         weight = 100\n }}\n}}\n",
        SITES[1].eid_prefixes()[0],
    );
    let file = lab.folder().join("oor.conf");
    fs::write(&file, text).map_err(LabError::os(file.display().to_string()))?;
    Process::start("oor", namespace.command("oor").args(["-d", "2", "-f"]).arg(&file), lab.folder())
}

/// The registrations of the other site, once there are some.
fn registered(server: &Router) -> Result<Option<Value>, LabError> {
    let text = server.show(&["sites", "--json"])?;
    let document: Value = serde_json::from_str(&text).map_err(|error| LabError::Wrong(format!("{error}: {text}")))?;
    let xtrs = document["sites"][1]["prefixes"][0]["xtrs"].clone();
    Ok(xtrs.as_array().is_some_and(|xtrs| !xtrs.is_empty()).then_some(xtrs))
}

#[test]
fn openoverlayrouter_registers_with_our_map_server_and_pings_pass_both_ways() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    if !["/usr/sbin/oor", "/usr/bin/oor"].iter().any(|path| Path::new(path).exists()) {
        return println!("SKIP: openoverlayrouter is not installed");
    }
    let lab = Lab::new().unwrap();
    let mut server = map_server(&lab);
    let flags = format!(
        "--site-port site --core-port core --rloc {} --eid-prefix {} --map-resolver {SERVER} --workers 0",
        SITES[0].rloc.0,
        SITES[0].eid_prefixes()[0],
    );
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let _ours = Router::start("xtr1", &lab.xtrs[0], &flags, lab.folder()).unwrap();
    let mut theirs = oor(&lab).unwrap();

    let wait = |server: &Router| lab::wait_until("registration of openoverlayrouter", LIMIT, || registered(server));
    let xtrs = wait(&server).unwrap_or_else(|error| panic!("{error}\n{}", theirs.output()));
    assert_eq!((xtrs[0]["from"].as_str(), xtrs[0]["key"].as_u64()), (Some("240.0.254.20"), Some(0)), "{xtrs}");
    let [here, there] = [0, 1].map(|index| std::net::IpAddr::from(SITES[index].host.0));
    // Its own first packets are lost while it asks; ours are held, but the answers to them pass it as well.
    let both = || Ok((lab.ping(1, here, 2)? == Pings { sent: 2, answered: 2 }).then_some(()));
    lab::wait_until("pings from its site", LIMIT, both).unwrap_or_else(|error| panic!("{error}\n{}", theirs.output()));

    assert_eq!(lab.ping(0, there, 3).unwrap(), Pings { sent: 3, answered: 3 });

    // A crash: what was registered is there again before anybody registers.
    server.process.kill().unwrap();
    drop(server);
    let server = map_server(&lab);
    let again = registered(&server).unwrap().expect("registered as before the crash");
    assert_eq!(again[0]["from"], xtrs[0]["from"]);
    assert_eq!(lab.ping(0, there, 2).unwrap(), Pings { sent: 2, answered: 2 });
    theirs.stop().unwrap();
}
