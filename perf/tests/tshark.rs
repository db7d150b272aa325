//! What the lab reads from captures, on hand-made ones.

use std::{fs, path::Path, process::Command};

use altitude_perf::lab::{self, Kind, Packet};

/// Frames of the wire-format vectors, by their names.
fn vector(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataplane/tests/vectors/vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let found = vectors.as_array().unwrap().iter().find(|vector| vector["id"] == name).unwrap();
    octets(found["frame_hex"].as_str().unwrap())
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Puts the frame's IP packet into GRE from 240.0.254.10 to .30; tshark does not mind the zero checksum field being
/// right: it is computed here.
fn in_gre(frame: &[u8]) -> Vec<u8> {
    let packet = &frame[14..];
    let total = (20 + 4 + packet.len()) as u16;
    let mut header = octets("4500000000000000402f0000f000fe0af000fe1e");
    header[2..4].copy_from_slice(&total.to_be_bytes());
    let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&frame[..14], &header, &octets("00000800"), packet].concat()
}

/// Writes a capture file (pcap 2.4, Ethernet) and reads it through tshark.
fn read(name: &str, frames: &[Vec<u8>]) -> Vec<Packet> {
    let mut file = octets("d4c3b2a1020004000000000000000000ffff000001000000");
    for frame in frames {
        let length = (frame.len() as u32).to_le_bytes();
        file.extend([[0; 4], [0; 4], length, length].concat());
        file.extend(frame);
    }
    let path = std::env::temp_dir().join(format!("altitude-{name}-{}.pcap", std::process::id()));
    fs::write(&path, file).unwrap();
    let packets = lab::read(&path);
    fs::remove_file(path).unwrap();
    packets.unwrap()
}

#[test]
fn every_mix_of_families_is_told_apart() {
    if Command::new("tshark").arg("--version").output().is_err() {
        return println!("SKIP: tshark is missing: run docker/deps.sh");
    }
    let packets = read("mixes", &["D01", "D02", "D03", "D04"].map(vector));
    let families: Vec<Vec<bool>> =
        packets.iter().map(|packet| packet.headers.iter().map(|header| header.source.is_ipv4()).collect()).collect();
    assert_eq!(families, [[true, true], [false, true], [true, false], [false, false]]);
    for packet in &packets {
        assert_eq!((packet.kind, packet.damaged), (Kind::Data, false), "{packet:?}");
        assert_eq!(packet.ports.unwrap().1, 4341);
    }
    assert_eq!(packets[3].udp_checksum, Some(0));
    let inner = packets[0].headers[1];
    assert_eq!(
        (inner.source.to_string(), inner.destination.to_string()),
        ("192.0.2.10".into(), "198.51.100.20".into())
    );
    assert_eq!((inner.ttl, inner.tos), (63, 0));
}

#[test]
fn a_tcp_checksum_of_zero_may_be_written_as_ffff() {
    if Command::new("tshark").arg("--version").output().is_err() {
        return println!("SKIP: tshark is missing: run docker/deps.sh");
    }
    // An acknowledgment as Linux sent it, captured behind an xTR.
    let zero = octets(
        "8a6ae393334a32d1c3082de686dd600000000058113f20010db8000f0000000000000000001020010db8000f0000000000000000\
         0020d2ed10f5005800000000000000000000600fdced0020063f20010db8000100010000000000000001\
         20010db8000200020000000000000002ecc2138973c629038e89f52180100040ffff0000\
         0101080a512ea0a0d466340c",
    );
    let (mut wrong, mut other) = (zero.clone(), zero.clone());
    *wrong.last_mut().unwrap() ^= 1;
    other[14 + 40 + 16 + 40 + 16] = 0xfe;
    let damaged: Vec<bool> = read("zero", &[zero, wrong, other]).iter().map(|packet| packet.damaged).collect();
    assert_eq!(damaged, [false, true, true]);
}

#[test]
fn control_messages_and_damage_are_seen() {
    if Command::new("tshark").arg("--version").output().is_err() {
        return println!("SKIP: tshark is missing: run docker/deps.sh");
    }
    let request = vector("Q01");
    let (mut bad_udp, mut bad_ip) = (request.clone(), vector("D01"));
    *bad_udp.last_mut().unwrap() ^= 1;
    bad_ip[14 + 8] ^= 1;
    let mut short = vector("P01");
    short.truncate(14 + 20 + 8 + 20);
    let arp = octets("ffffffffffff020000000002080600010800060400010200000000020101000100000000000001010101");
    let packets = read("control", &[in_gre(&request), request, vector("P01"), bad_udp, bad_ip, short, arp]);
    let kinds: Vec<(Kind, bool)> = packets.iter().map(|packet| (packet.kind, packet.damaged)).collect();
    let request = |tunnelled| Kind::Control { message: 1, nonce: 0x0102_0304_0506_0708, tunnelled };
    let reply = Kind::Control { message: 2, nonce: 0x0102_0304_0506_0708, tunnelled: false };
    assert_eq!(
        kinds,
        [
            (request(true), false),
            (request(false), false),
            (reply, false),
            (request(false), true),
            (Kind::Data, true),
            (reply, true),
            (Kind::Neighbour, false),
        ]
    );
    let [tunnel, datagram] = packets[0].headers[..] else { panic!("two headers: {:?}", packets[0]) };
    assert_eq!((tunnel.source.to_string(), tunnel.ttl), ("240.0.254.10".into(), 64));
    assert_eq!(datagram.destination.to_string(), "203.0.113.2");
}
