//! The kits for other people's generators: the packets that they describe, octet by octet, and the scripts as far as
//! they can be tried without a NIC.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use altitude_dataplane::{
    counters::Counters,
    mapping::{Adjacency, InstanceId, OuterHeader, Patch},
    verdict::Reason,
    wire::{checksum, ethernet::EthernetHeader, ipv4::Ipv4Header, ipv6::Ipv6Header, lisp::DataHeader, udp::UdpHeader},
};
use altitude_perf::lab::{self, Family, Kind, Lab};

/// Golden files of trex/golden: their directions and tunables.
const GOLDEN: [(&str, &str, &[&str]); 8] = [
    ("site-to-core-v4-64", "site-to-core", &[]),
    (
        "site-to-core-v4-zipf",
        "site-to-core",
        &[
            "--distribution",
            "zipf",
            "--prefixes",
            "64",
            "--flows",
            "64",
            "--remote-eids",
            "2.0.0.0/8",
            "--prefix-length",
            "20",
        ],
    ),
    ("site-to-core-v6-imix", "site-to-core", &["--families", "v6v4", "--size", "imix"]),
    ("core-to-site-v4v4-64", "core-to-site", &[]),
    ("core-to-site-v4v4-instance", "core-to-site", &["--instance", "16777215", "--flows", "256", "--size", "1400"]),
    ("core-to-site-v4v6-imix", "core-to-site", &["--families", "v4v6", "--size", "imix", "--udp-checksum", "hw"]),
    ("core-to-site-v6v4-one", "core-to-site", &["--families", "v6v4", "--prefixes", "1", "--flows", "4096"]),
    (
        "core-to-site-v6v6-rlocs",
        "core-to-site",
        &[
            "--families",
            "v6v6",
            "--remote-rlocs",
            "2001:db8:f::14,2001:db8:f::15",
            "--prefix-length",
            "52",
            "--prefixes",
            "16",
        ],
    ),
];

/// Of the kits, from the top of this package.
fn kit(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python that has scapy: Debian's package is for Debian's Python, which another one may hide.
fn python() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        Command::new(python).args(["-c", "import scapy.all"]).output().is_ok_and(|run| run.status.success())
    })
}

fn missing(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_err()
}

/// What a program printed; it must exit with 0.
fn said(command: &mut Command) -> String {
    // Files of the kits are read, nothing is left beside them.
    lab::run(command.env("PYTHONDONTWRITEBYTECODE", "1")).unwrap()
}

/// A line of `lisp_streams.py packets`: name, share, octets of the frame without check sequence.
fn frames(lines: &str) -> Vec<(String, f64, Vec<u8>)> {
    let frame = |line: &str| {
        let [name, share, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("three words: {line}") };
        let octets = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        (name.to_owned(), share.parse().unwrap(), octets.collect())
    };
    lines.lines().map(frame).collect()
}

fn golden(name: &str) -> Vec<(String, f64, Vec<u8>)> {
    frames(&fs::read_to_string(kit("trex/golden").join(name)).unwrap())
}

#[test]
fn scapy_builds_the_golden_packets() {
    let Some(python) = python() else { return println!("SKIP: python3-scapy is missing: run docker/deps.sh") };
    for (name, direction, tunables) in GOLDEN {
        let wanted = fs::read_to_string(kit("trex/golden").join(name)).unwrap();
        let built =
            said(Command::new(python).arg(kit("trex/lisp_streams.py")).args(["packets", direction]).args(tunables));
        assert!(built == wanted, "{name} is not what lisp_streams.py builds:\n{built}");
        // As TRex loads and plays it.
        let profile = kit("trex").join(direction.replace('-', "_") + ".py");
        let macs = ["--own-mac", "02:00:00:00:01:01", "--router-mac", "02:00:00:00:01:02"];
        let play = kit("trex/test/play_profile.py");
        let played = said(Command::new(python).arg(play).arg(profile).args(macs).args(tunables));
        assert!(played == wanted, "{name} is not what the profile plays:\n{played}");
        let whole: f64 = frames(&built).iter().map(|(_, share, _)| share / 2.0).sum();
        assert!((whole - 1.0).abs() < 1e-4, "{name}: shares add up to {whole}");
    }
}

#[test]
fn golden_packets_are_what_altitude_writes() {
    for (name, direction, tunables) in GOLDEN {
        let value = |tunable| tunables.iter().position(|word| *word == tunable).map(|at| tunables[at + 1]);
        let instance = value("--instance").map_or(0, |instance| instance.parse().unwrap());
        for (stream, _, frame) in golden(name) {
            let context = format!("{name} {stream}");
            let (link, packet) = EthernetHeader::split(&frame).unwrap();
            assert_eq!((link.destination, link.source), ([2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 1, 1]), "{context}");
            let inner = if direction == "core-to-site" { tunnelled(&frame, instance, &context) } else { packet };
            let size: usize = stream.split("size").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
            let decap = direction == "core-to-site";
            site_packet(inner, decap, size, value("--remote-eids").is_some(), &context);
        }
    }
}

/// Checks the headers in front of a site's packet against those that Altitude's own encapsulation stamps, and returns
/// the packet.
fn tunnelled<'a>(frame: &'a [u8], instance: u32, context: &str) -> &'a [u8] {
    let (link, packet) = EthernetHeader::split(frame).unwrap();
    let (source, destination, udp) = addresses(packet);
    let ours: [IpAddr; 2] = ["240.0.254.10".parse().unwrap(), "2001:db8:f::a".parse().unwrap()];
    assert!(ours.contains(&destination), "{context}: to {destination}");
    let (udp_header, payload) = UdpHeader::split(udp).unwrap();
    assert!(udp_header.source >= 0xc000, "{context}: source port {}", udp_header.source);
    let (lisp, inner) = DataHeader::split(payload).unwrap();
    assert_eq!(lisp, DataHeader { instance: (instance != 0).then_some(instance), ..DataHeader::PLAIN }, "{context}");
    let core = Adjacency { port: 0, destination: link.destination, source: link.source, vlan: None, mtu: 1600 };
    let outer = OuterHeader::new(&core, source, destination, InstanceId::new(instance).unwrap()).unwrap();
    let mut stamped = frame.to_vec();
    stamped[..outer.len()].fill(0xee);
    let ttl = inner[if inner[0] >> 4 == 4 { 8 } else { 7 }];
    let patch = Patch { inner_length: inner.len() as u16, ttl, tos: 0, flow: udp_header.source.into() };
    outer.stamp(&mut stamped, &patch);
    assert_eq!(stamped, frame, "{context}");
    inner
}

/// Checks a packet between the measured site and another one.
fn site_packet(packet: &[u8], decap: bool, size: usize, wide: bool, context: &str) {
    let (source, destination, udp) = addresses(packet);
    let (local, remote) = if decap { (destination, source) } else { (source, destination) };
    let (header, data) = UdpHeader::split(udp).unwrap();
    assert!(header.checksum == 0 || header.verifies(source, destination, data), "{context}: UDP checksum");
    assert!(header.source >= 1024 && header.destination == 2000, "{context}: {header:?}");
    let length = match (local, remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            assert!(checksum::verifies(&packet[..20]), "{context}: IPv4 checksum");
            assert_eq!(local.octets(), [1, 1, 1, 1], "{context}");
            assert_eq!((remote.octets()[0], remote.octets()[3]), (2, 2), "{context}");
            assert!(wide || remote.octets()[1] == 2, "{context}");
            28
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            assert_ne!(header.checksum, 0, "{context}: UDP without a checksum over IPv6");
            assert_eq!(local.segments(), [0x2001, 0xdb8, 1, 1, 0, 0, 0, 1], "{context}");
            let [a, b, c, _, d, e, f, host] = remote.segments();
            assert_eq!([a, b, c, d, e, f, host], [0x2001, 0xdb8, 2, 0, 0, 0, 2], "{context}");
            48
        }
        _ => panic!("{context}: two families"),
    };
    // A frame with its check sequence, as its name says; headers need their room.
    assert_eq!(packet.len(), (size - 18).max(length), "{context}");
    let ttl = packet[if length == 28 { 8 } else { 7 }];
    assert_eq!(ttl, if decap { 63 } else { 64 }, "{context}");
}

/// Source, destination, and what follows the IP header.
fn addresses(packet: &[u8]) -> (IpAddr, IpAddr, &[u8]) {
    if packet[0] >> 4 == 4 {
        let (header, rest) = Ipv4Header::split(packet).unwrap();
        (header.source.into(), header.destination.into(), rest)
    } else {
        let (header, rest) = Ipv6Header::split(packet).unwrap();
        (header.source.into(), header.destination.into(), rest)
    }
}

/// tshark's view of all packets of a capture file.
fn judged(name: &str, write: impl FnOnce(&Path)) -> Vec<lab::Packet> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kits-{name}.pcap"));
    write(&path);
    let packets = lab::read(&path);
    fs::remove_file(&path).unwrap();
    packets.unwrap()
}

#[test]
fn tshark_finds_no_fault_in_the_golden_packets() {
    if missing("tshark") {
        return println!("SKIP: tshark is missing: run docker/deps.sh");
    }
    for (name, direction, _) in GOLDEN {
        let frames = golden(name);
        let packets = judged(name, |path| {
            let mut out = pcap_file::pcap::PcapWriter::new(fs::File::create(path).unwrap()).unwrap();
            for (_, _, frame) in &frames {
                let packet = pcap_file::pcap::PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
                out.write_packet(&packet).unwrap();
            }
        });
        assert_eq!(packets.len(), frames.len(), "{name}");
        let (kind, headers) = if direction == "core-to-site" { (Kind::Data, 2) } else { (Kind::Ip, 1) };
        for packet in packets {
            let seen = (packet.kind, packet.headers.len(), packet.damaged);
            assert_eq!(seen, (kind, headers, false), "{name}: {packet:?}");
            assert!(direction != "core-to-site" || packet.udp_checksum == Some(0), "{name}: {packet:?}");
        }
    }
}

#[test]
fn a_capture_file_has_flows_in_their_shares() {
    let Some(python) = python() else { return println!("SKIP: python3-scapy is missing: run docker/deps.sh") };
    if missing("tshark") {
        return println!("SKIP: tshark is missing: run docker/deps.sh");
    }
    let packets = judged("pcap", |path| {
        let tunables = ["core-to-site", "--packets", "3000", "--size", "imix", "--families", "v4v6"];
        said(Command::new(python).arg(kit("trex/lisp_streams.py")).arg("pcap").arg(path).args(tunables));
    });
    assert_eq!(packets.len(), 3000);
    assert!(packets.iter().all(|packet| (packet.kind, packet.damaged) == (Kind::Data, false)));
    let ports: std::collections::HashSet<u16> = packets.iter().map(|packet| packet.ports.unwrap().0).collect();
    let sources: std::collections::HashSet<IpAddr> = packets.iter().map(|packet| packet.headers[1].source).collect();
    // Of 1024 flows in 256 prefixes few are missed by 3000 draws.
    assert!(ports.len() > 900 && sources.len() == 256, "{} ports, {} sources", ports.len(), sources.len());
}

#[test]
fn the_rate_runner_finds_the_rate_and_accounts_for_losses() {
    let Some(python) = python() else { return println!("SKIP: python3-scapy is missing: run docker/deps.sh") };
    let not_drops: Vec<String> =
        serde_json::from_str(&said(Command::new(python).arg(kit("trex/test/check_ndr.py")))).unwrap();
    // What it takes for no drop are all the counters that are none: another one would make its account wrong.
    let counters = Counters::default();
    let mut expected: Vec<&str> = counters.named().map(|(name, _)| name).collect();
    expected.retain(|name| Reason::ALL.iter().all(|reason| reason.name() != *name));
    expected.sort_unstable();
    assert_eq!(not_drops, expected);
}

#[test]
fn the_account_of_a_real_router_is_even() {
    let Some(python) = python() else { return println!("SKIP: python3-scapy is missing: run docker/deps.sh") };
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let routers = lab.start_routers(Family::V4).unwrap();
    let ping = |to: IpAddr, options: &[&str]| {
        lab.sites[0]
            .command("ping")
            .args(["-c", "3", "-i", "0.01", "-W", "1"])
            .args(options)
            .arg(to.to_string())
            .output()
    };
    let host = lab.hosts(1)[0];
    ping(host, &[]).unwrap();
    let read = |name: &str| {
        let said = ["counters", "ports"].map(|what| routers[0].show(&[what, "--json"]).unwrap());
        let file = lab.folder().join(name);
        fs::write(&file, said.concat()).unwrap();
        file
    };
    let before = read("before");
    // Three each that pass, that end by their TTL, that are too long for the way, and that are held for a mapping that
    // never comes; of those that pass, answers come back.
    ping(host, &[]).unwrap();
    ping(host, &["-t", "1"]).unwrap();
    ping(host, &["-M", "do", "-s", "1472"]).unwrap();
    ping(IpAddr::from([9, 9, 9, 9]), &[]).unwrap();
    // Until a packet that is held is given up, it is in no counter that says where it went.
    let told = lab::wait_until("account that is even", Duration::from_secs(30), || {
        let files = [&before, &read("after")];
        let account = kit("trex/test/account.py");
        let told = said(Command::new(python).arg(account).args(["encap", "12", "3"]).args(files));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        Ok((told["unaccounted"] == 0 && told["drops"]["ttl-expired"] == 3).then_some(told))
    });
    let told = told.unwrap();
    assert!(told["taken"].as_u64() >= Some(12), "{told}");
}

#[test]
fn altitude_accepts_the_mappings_of_the_streams() {
    let Some(python) = python() else { return println!("SKIP: python3-scapy is missing: run docker/deps.sh") };
    let tunables = ["--prefixes", "300", "--flows", "300", "--remote-eids", "2.0.0.0/8", "--instance", "7"];
    let mappings = said(Command::new(python).arg(kit("trex/lisp_streams.py")).arg("mappings").args(tunables));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kits.toml");
    let router = "rlocs = [\"240.0.254.10\"]\n\
                  [[site-port]]\nname = \"eth1\"\ninstance = 7\n\
                  [[core-port]]\nname = \"eth0\"\n\
                  [[eid-prefix]]\nprefix = \"1.1.0.0/16\"\ninstance = 7\n\n";
    fs::write(&file, router.to_owned() + &mappings).unwrap();
    let checked = said(Command::new(lab::altitude_binary().unwrap()).arg("check").arg(&file));
    fs::remove_file(&file).unwrap();
    assert!(checked.contains("300 static mappings"), "{checked}");
}

#[test]
fn pktgen_dpdk_scripts_say_what_their_command_files_say() {
    if missing("lua5.4") || missing("luac5.4") {
        return println!("SKIP: lua5.4 is missing: run docker/deps.sh");
    }
    let folder = kit("pktgen/dpdk");
    for script in ["site_to_core.lua", "core_to_site.lua", "commands.lua"] {
        said(Command::new("luac5.4").arg("-p").arg(folder.join(script)));
    }
    for (script, settings, commands) in [
        ("site_to_core.lua", &[][..], "site-to-core-64.pkt"),
        ("site_to_core.lua", &[("SIZE", "1400")], "site-to-core-1400.pkt"),
        ("site_to_core.lua", &[("FAMILY", "ipv6")], "site-to-core-v6-64.pkt"),
        ("core_to_site.lua", &[], "core-to-site.pkt"),
    ] {
        let mut run = Command::new("lua5.4");
        run.args([folder.join("commands.lua"), folder.join(script)]).env_clear().envs(settings.iter().copied());
        assert_eq!(said(&mut run), fs::read_to_string(folder.join(commands)).unwrap(), "{script} {settings:?}");
    }
}

#[test]
fn the_kernel_pktgen_script_writes_what_it_shall() {
    let script = kit("pktgen/kernel/site_to_core.sh");
    for (words, golden) in [
        ("-i eth1 -m 02:00:00:00:01:02", "site-to-core-64.txt"),
        ("-i eth1 -m 02:00:00:00:01:02 -s imix -t 2 -r 1000000 -n 5000", "site-to-core-imix.txt"),
        ("-i eth1 -m 02:00:00:00:01:02 -6 -s 1400 -p 1", "site-to-core-v6-1400.txt"),
    ] {
        let shown = said(Command::new("sh").arg(&script).arg("-d").args(words.split(' ')));
        let wanted = fs::read_to_string(kit("pktgen/kernel").join(golden)).unwrap();
        assert_eq!(shown, wanted, "{words}");
    }
    for (words, complaint) in [
        ("-m 02:00:00:00:01:02", "-i is missing"),
        ("-i eth1 -m 02:00:00:00:01:02 -s 63", "-s must be at least 64"),
        ("-i eth1 -m 02:00:00:00:01:02 -p 64512", "-p must be 1 to 64511"),
        ("-i eth1 -m 02:00:00:00:01:02 -r fast", "'fast' is no number"),
    ] {
        let refused = Command::new("sh").arg(&script).arg("-d").args(words.split(' ')).output().unwrap();
        let complained = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && complained.contains(complaint), "{words}: {complained}");
    }
    if missing("shellcheck") {
        return println!("SKIP: shellcheck is missing: run docker/deps.sh");
    }
    said(Command::new("shellcheck").arg(&script));
}
