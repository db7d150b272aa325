//! What `altitude-perf gen` puts on the wire, judged by tshark at the far end of a link; and that its sink counts right.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use altitude_dataplane::mapping::Prefix;
use altitude_perf::{
    bench::{Arrived, Sent},
    lab::{self, Capture, Kind, Link, Namespace, Packet, Process, veth, wait_until},
};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

const LIMIT: Duration = Duration::from_secs(30);
const TO: &str = "02:00:00:00:00:02";

/// One test at a time: the flood would make others lose packets in full queues.
static ALONE: Mutex<()> = Mutex::new(());

/// Two namespaces and a link, its far end able to take frames that XDP redirects.
struct Cable {
    _alone: MutexGuard<'static, ()>,
    near: Namespace,
    far: Namespace,
    folder: PathBuf,
}

impl Cable {
    /// `None` where the lab cannot be built; says why not.
    fn new(test: &str) -> Option<Self> {
        if let Err(why) = lab::available() {
            println!("SKIP: {why}");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = format!("alt{}", std::process::id());
        let make = |end| Namespace::create(&owner, &format!("{test}-{end}")).unwrap();
        let folder = std::env::temp_dir().join(format!("altitude-lab-{owner}")).join(test);
        fs::create_dir_all(&folder).unwrap();
        let cable = Self { _alone: alone, near: make("near"), far: make("far"), folder };
        for namespace in [&cable.near, &cable.far] {
            // Nothing but the generator's frames is to be seen.
            lab::run(namespace.command("sysctl").args(["-qw", "net.ipv6.conf.default.disable_ipv6=1"])).unwrap();
        }
        veth(Link { namespace: &cable.near, name: "out" }, cable.end(), 1600).unwrap();
        cable.set_gro("on");
        Some(cable)
    }

    const fn end(&self) -> Link<'_> {
        Link { namespace: &self.far, name: "in" }
    }

    fn set_gro(&self, state: &str) {
        lab::run(self.far.command("ethtool").args(["-K", "in", "gro", state])).unwrap();
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let (namespace, interface) = if name == "sink" { (&self.far, "in") } else { (&self.near, "out") };
        let mut command = namespace.command(env!("CARGO_BIN_EXE_altitude-perf"));
        command.args(["gen", "--interface", interface]).args(arguments);
        Process::start(name, &mut command, &self.folder).unwrap()
    }

    /// Sends, and returns what was sent.
    fn send(&self, arguments: &[&str]) -> Sent {
        let output = self.start("generator", &[arguments, &["--json"]].concat()).finish(LIMIT).unwrap();
        serde_json::from_str(output.trim()).unwrap_or_else(|error| panic!("{error} in: {output}"))
    }

    /// Sends `count` packets and returns what was captured at the far end, and the capture's file.
    fn captured(&self, name: &str, count: usize, arguments: &[&str]) -> (Vec<Packet>, Vec<Vec<u8>>) {
        let capture = Capture::start(name, self.end(), "", &self.folder).unwrap();
        let number = count.to_string();
        let sent = self.send(&[arguments, &["--packets", &number]].concat());
        assert_eq!(sent.packets, count as u64);
        let packets = capture.stop_when("last packet", LIMIT, |packets| packets.len() >= count).unwrap();
        let frames = read(&self.folder.join(format!("{name}.pcap")));
        assert_eq!((packets.len(), frames.len()), (count, count), "neither more nor fewer");
        assert_eq!(sent.octets, frames.iter().map(|frame| frame.len() as u64).sum::<u64>());
        (packets, frames)
    }

    /// Sends while a sink counts, and returns both results.
    fn counted(&self, arguments: &[&str]) -> (Sent, Arrived) {
        let mut sink = self.start("sink", &["--sink", "--probes", "--json"]);
        self.attached();
        let sent = self.send(arguments);
        assert!(sink.stop().unwrap().success(), "{}", sink.output());
        (sent, serde_json::from_str(sink.output().trim()).unwrap())
    }

    fn attached(&self) {
        wait_until("XDP program", LIMIT, || Ok(self.end().has_xdp()?.then_some(()))).unwrap();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        // The last test's folder leaves the common one empty.
        let _ = self.folder.parent().map(fs::remove_dir);
    }
}

fn read(file: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(fs::File::open(file).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Packets by inner flow: its addresses, and the ports in the last eight octets of the headers, at `udp`.
fn flows(packets: &[Packet], frames: &[Vec<u8>], udp: usize) -> HashMap<(IpAddr, IpAddr, Vec<u8>), usize> {
    let mut flows = HashMap::new();
    for (packet, frame) in packets.iter().zip(frames) {
        let inner = packet.headers.last().unwrap();
        *flows.entry((inner.source, inner.destination, frame[udp..udp + 4].to_vec())).or_default() += 1;
    }
    flows
}

#[test]
fn plain_packets_are_of_the_flows_prefixes_sizes_and_hits_asked_for() {
    let Some(cable) = Cable::new("plain") else { return };
    let asked = ["--to", TO, "--rate", "4k", "--flows", "40", "--prefixes", "2.2.0.0/16,9.9.9.0/24"];
    let more = ["--host", "1.1.7.7", "--hit-percent", "75", "--strangers", "66.0.0.0/8", "--size", "imix"];
    let (packets, frames) = cable.captured("plain", 1200, &[&asked[..], &more].concat());

    let mut counts = [0; 3];
    for (packet, frame) in packets.iter().zip(&frames) {
        assert!(!packet.damaged && packet.kind == Kind::Ip && packet.headers.len() == 1, "{packet:?}");
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 2]);
        assert_eq!(packet.headers[0].source, IpAddr::from([1, 1, 7, 7]));
        let to = packet.headers[0].destination;
        let place = ["2.2.0.0/16", "9.9.9.0/24", "66.0.0.0/8"].iter().position(|known| prefix(known).contains(to));
        counts[place.unwrap_or_else(|| panic!("{to} is in no prefix"))] += 1;
    }
    // Half of 75 % each, and 25 %: chance picks, the same in every run.
    assert!((430..470).contains(&counts[0]) && (430..470).contains(&counts[1]), "{counts:?}");
    let lengths = [60, 566, 1514].map(|length| frames.iter().filter(|frame| frame.len() == length).count());
    assert_eq!(lengths, [700, 400, 100]);
    let flows = flows(&packets, &frames, 14 + 20);
    assert_eq!(flows.keys().filter(|(_, to, _)| !prefix("66.0.0.0/8").contains(*to)).count(), 40);
    assert_eq!(flows.len(), 80, "as many to strangers");
}

#[test]
fn lisp_packets_are_right_in_every_mix_of_families() {
    let Some(cable) = Cable::new("lisp") else { return };
    for (families, inner, outer) in [("v4v4", 20, 20), ("v4v6", 20, 40), ("v6v4", 40, 20), ("v6v6", 40, 40)] {
        let name = format!("lisp-{families}");
        let asked = ["--to", TO, "--direction", "decap", "--families", families, "--rate", "4k", "--flows", "100"];
        let more = ["--instance-id", "7", "--distribution", "zipf", "--probes", "50", "--size", "256"];
        let (packets, frames) = cable.captured(&name, 600, &[&asked[..], &more].concat());
        let mut ports: HashMap<_, HashSet<u16>> = HashMap::new();
        for (packet, frame) in packets.iter().zip(&frames) {
            assert!(!packet.damaged && packet.kind == Kind::Data && packet.headers.len() == 2, "{packet:?}");
            assert_eq!((packet.ports.unwrap().1, packet.udp_checksum), (4341, Some(0)));
            assert_eq!(frame.len(), 252 + outer + 16);
            // I bit, and Instance-ID 7 above the locator-status-bits.
            assert_eq!(frame[14 + outer + 8..][..8], [0x08, 0, 0, 0, 0, 0, 7, 0]);
            let [outer, inner] = packet.headers[..] else { unreachable!("two were counted") };
            let rlocs = if families.ends_with('4') {
                ["240.0.254.20", "240.0.254.10"]
            } else {
                ["2001:db8:f::14", "2001:db8:f::a"]
            };
            assert_eq!([outer.source.to_string(), outer.destination.to_string()], rlocs);
            ports.entry((inner.source, inner.destination)).or_default().insert(packet.ports.unwrap().0);
        }
        let flows = flows(&packets, &frames, 14 + outer + 16 + inner);
        let first = *flows.values().max().unwrap();
        // The first of 100 flows has 1 ÷ 5.187 of the packets.
        assert!((85..150).contains(&first), "{first} of 600 in the largest flow");
        assert!((60..=100).contains(&flows.len()), "{} of 100 flows", flows.len());
        let distinct: HashSet<u16> = ports.values().flatten().copied().collect();
        assert!(distinct.len() * 10 >= flows.len() * 9 && distinct.iter().all(|port| *port >= 0xc000));
    }
}

#[test]
fn a_capture_is_replayed_octet_by_octet() {
    let Some(cable) = Cable::new("replay") else { return };
    let packets: Vec<Vec<u8>> = (0..20_u8)
        .map(|number| {
            let length = if number == 3 { 42 } else { 60 + usize::from(number) * 76 };
            let mut packet: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(number)).collect();
            packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
            packet
        })
        .collect();
    let file = cable.folder.join("given.pcap");
    let mut writer = PcapWriter::new(fs::File::create(&file).unwrap()).unwrap();
    for (number, packet) in packets.iter().enumerate() {
        let time = Duration::from_millis(1_000_000 + number as u64);
        writer.write_packet(&PcapPacket::new(time, packet.len() as u32, packet)).unwrap();
        // One that the capture cut short cannot be sent.
        writer.write_packet(&PcapPacket::new(time, 9000, packet)).unwrap();
    }
    drop(writer);

    let given = file.display().to_string();
    let twice = [&packets[..], &packets].concat();
    for (name, more) in [
        ("own-pace", &[][..]),
        ("fast", &["--rate", "2k"]),
        ("socket-own-pace", &["--means", "af-xdp"]),
        ("socket-fast", &["--means", "af-xdp", "--rate", "2k"]),
    ] {
        let (_, frames) = cable.captured(name, 40, &[&["--pcap", &given][..], more].concat());
        assert!(frames == twice, "{name}: the frames are those of the file, twice");
    }
}

#[test]
fn probes_are_found_in_every_encapsulation() {
    let Some(cable) = Cable::new("probes") else { return };
    for direction in ["encap", "decap"] {
        for families in ["v4v4", "v4v6", "v6v4", "v6v6"] {
            for means in ["live-frames", "af-xdp"] {
                let asked = ["--to", TO, "--direction", direction, "--families", families, "--means", means];
                let more = ["--rate", "4k", "--packets", "500", "--probes", "10"];
                let (sent, arrived) = cable.counted(&[&asked[..], &more].concat());
                assert_eq!((sent.packets, sent.probes), (500, 50));
                assert_eq!((arrived.packets, arrived.octets, arrived.probes), (500, sent.octets, 50), "{asked:?}");
                assert_eq!((arrived.foreign, arrived.histogram().len()), (0, 50));
            }
        }
    }
}

#[test]
fn a_flood_ends_cleanly_on_sigterm() {
    let Some(cable) = Cable::new("flood") else { return };
    for means in ["live-frames", "af-xdp"] {
        let mut sink = cable.start("sink", &["--sink"]);
        cable.attached();
        let mut flood =
            cable.start("generator", &["--to", TO, "--rate", "flood", "--flows", "100k", "--json", "--means", means]);
        // It prints a line each second.
        sink.wait_line(LIMIT, |line| {
            let rate = line.split_once(" s ").and_then(|(_, rest)| rest.trim().split_once(" pps"));
            rate.is_some_and(|(rate, _)| rate.parse::<u64>().is_ok_and(|rate| rate > 0))
        })
        .unwrap();
        assert!(flood.stop().unwrap().success(), "{}", flood.output());
        let sent: Sent = serde_json::from_str(flood.output().trim()).unwrap();
        assert!(sink.stop().unwrap().success());
        let output = sink.output();
        let last = output.lines().last().unwrap();
        let arrived: u64 = last.split_once(" packets").unwrap().0.parse().unwrap();
        assert!(0 < arrived && arrived <= sent.packets, "{arrived} arrived of {sent:?}");
        assert_eq!((sent.octets, sent.forgone), (sent.packets * 60, 0));
    }
}

#[test]
fn without_live_frames_a_socket_sends_and_says_so() {
    let Some(cable) = Cable::new("fallback") else { return };
    // The far end takes no redirected frames now.
    cable.set_gro("off");
    let capture = Capture::start("fallback", cable.end(), "", &cable.folder).unwrap();
    let said = cable.start("generator", &["--to", TO, "--packets", "1000", "--rate", "4k"]).finish(LIMIT).unwrap();
    assert!(said.starts_with("out: an AF_XDP socket sends\n"), "{said}");
    assert!(said.contains("live frames would be some ten times faster, but out does not send"), "{said}");
    assert!(said.contains("\n1000 packets, 60000 octets in "), "{said}");
    let packets = capture.stop_when("last packet", LIMIT, |packets| packets.len() >= 1000).unwrap();
    assert_eq!(packets.len(), 1000);
    packets.iter().for_each(|packet| assert!(!packet.damaged && packet.kind == Kind::Ip, "{packet:?}"));
    for (arguments, why) in [
        (&["--to", TO, "--means", "live-frames"][..], "out does not send redirected frames"),
        (&["--to", TO, "--families", "v6v4", "--host", "1.1.1.1"], "2001:db8:2:: is not an IPv4 address"),
        (&["--pcap", "/nonexistent.pcap"], "/nonexistent.pcap: No such file"),
        (&["--flows", "5"], "--to <MAC>"),
        (&["--to", TO, "--rate", "fast"], "flood, or packets a second"),
    ] {
        let mut refused = cable.start("refused", arguments);
        assert!(!refused.wait(LIMIT).unwrap().success());
        let output = refused.output();
        assert!(output.contains(why), "{arguments:?}: {output}");
    }
}
