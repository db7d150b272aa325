//! Tunnels told apart, and tunnels that cannot be.

use proptest::prelude::*;

use super::*;

/// The inner packet of the vectors: a Map-Request from 203.0.113.1 for 198.51.100.20.
const INNER: &str = "4500003c000700003f111561cb007101c6336414ee4810f600285188100000010102030405060708\
                     0001c000020a0001cb00710100200001c6336414";

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tunnel(name: &str, remote: &str, key: Option<u32>) -> Tunnel {
    Tunnel {
        name: name.to_owned(),
        local: address("240.0.254.10"),
        remote: address(remote),
        key,
        checksum: key == Some(7),
        addresses: Vec::new(),
        options: Options::default(),
    }
}

fn tunnels() -> Tunnels {
    Tunnels::new(vec![
        tunnel("alt0", "240.0.254.1", None),
        tunnel("alt1", "240.0.254.1", Some(7)),
        tunnel("alt2", "240.0.254.2", Some(0xcafe_0001)),
    ])
    .unwrap()
}

#[test]
fn a_packet_belongs_to_the_tunnel_of_its_ends_and_key() {
    let tunnels = tunnels();
    let (ours, inner) = ("240.0.254.10", octets(INNER));
    for (from, to, header, expected) in [
        ("240.0.254.1", ours, "00000800", Ok(TunnelId(0))),
        ("240.0.254.1", ours, "80000800de820000", Ok(TunnelId(0))), // with a checksum that nobody asked for
        ("240.0.254.1", ours, "2000080000000007", Ok(TunnelId(1))), // without the checksum that we send
        ("240.0.254.2", ours, "30000800cafe000100000000", Ok(TunnelId(2))), // a sequence number is ignored
        ("240.0.254.2", ours, "00000800", Err(GreFault::UnknownKey)),
        ("240.0.254.1", ours, "2000080000000008", Err(GreFault::UnknownKey)),
        ("240.0.254.3", ours, "00000800", Err(GreFault::UnknownPeer)),
        ("240.0.254.1", "240.0.254.11", "00000800", Err(GreFault::UnknownPeer)), // not our end
        ("240.0.254.1", ours, "80000800de830000", Err(GreFault::Checksum)),
        ("240.0.254.1", ours, "00010800", Err(GreFault::Version)), // version 1: PPTP's
        ("240.0.254.1", ours, "40000800", Err(GreFault::Malformed)), // routing
        ("240.0.254.1", ours, "000086dd", Err(GreFault::NotIp)),   // says IPv6, is IPv4
        ("240.0.254.1", ours, "00000806", Err(GreFault::NotIp)),
    ] {
        let packet = [octets(header), inner.clone()].concat();
        let got = tunnels.receive(address(from), address(to), &packet);
        assert_eq!(got, expected.map(|tunnel| (tunnel, Payload::Packet(&inner[..]))), "{from} to {to}, {header}");
    }
    for (header, fault) in [("000008", GreFault::Malformed), ("00000800", GreFault::NotIp)] {
        assert_eq!(tunnels.receive(address("240.0.254.1"), address(ours), &octets(header)), Err(fault));
    }
}

#[test]
fn what_is_wrapped_comes_out_of_the_same_tunnel_at_the_other_end() {
    let here = tunnels();
    let there: Vec<Tunnel> = here
        .iter()
        .map(|(_, tunnel)| Tunnel { local: tunnel.remote, remote: tunnel.local, ..tunnel.clone() })
        .collect();
    let there = Tunnels::new(there).unwrap();
    let six = [vec![0x60], vec![0; 39]].concat();
    for (id, tunnel) in here.iter() {
        for inner in [octets(INNER), six.clone()] {
            let packet = here.wrap(id, &inner).unwrap();
            assert_eq!(there.receive(tunnel.local, tunnel.remote, &packet), Ok((id, Payload::Packet(&inner[..]))));
            let overhead = 4 + if tunnel.key.is_some() { 4 } else { 0 } + if tunnel.checksum { 4 } else { 0 };
            assert_eq!(packet.len(), inner.len() + overhead);
        }
    }
    assert_eq!(here.wrap(TunnelId(3), &octets(INNER)), None);
    assert_eq!(here.wrap(TunnelId(0), &[]), None);
    assert_eq!(here.wrap(TunnelId(0), &[0x10]), None);
    assert_eq!(here.named("alt2"), Some(TunnelId(2)));
    assert_eq!(here.named("alt3"), None);
}

/// As routers of other makers do it: whoever has the far end forwards the inner packet, and it comes back.
#[test]
fn keepalives_go_there_and_back_and_nothing_else_in_gre_does() {
    let here = tunnels();
    let ours = address("240.0.254.10");
    for (id, tunnel) in here.iter() {
        let there = Tunnels::new(vec![Tunnel { local: tunnel.remote, remote: ours, ..tunnel.clone() }]).unwrap();
        let sent = here.wrap(id, &here.keepalive(id).unwrap()).unwrap();
        let Ok((TunnelId(0), Payload::Keepalive(back))) = there.receive(ours, tunnel.remote, &sent) else {
            panic!("{:?}", there.receive(ours, tunnel.remote, &sent))
        };
        assert_eq!(here.receive(tunnel.remote, ours, back), Ok((id, Payload::Returned)));
        // A checksum and a key stand on the way back too.
        assert_eq!((back[0] & 0x80 != 0, back.len()), (tunnel.checksum, (sent.len() - 20) / 2));
    }
    let peer = address("240.0.254.1");
    let inner = |from: &str, to: &str, gre: &str| {
        [octets("00000800"), keepalive::packet(address(from), address(to), &octets(gre))].concat()
    };
    for (what, packet) in [
        ("to somebody else", inner("240.0.254.10", "240.0.254.9", "00000000")),
        ("from somebody else", inner("240.0.254.9", "240.0.254.1", "00000000")),
        ("addressed to us", inner("240.0.254.1", "240.0.254.10", "00000000")),
        ("with a packet in it", inner("240.0.254.10", "240.0.254.1", "00000800450000")),
        ("of another tunnel", inner("240.0.254.10", "240.0.254.1", "2000000000000007")),
        ("cut off", inner("240.0.254.10", "240.0.254.1", "0000")),
        ("of another version", inner("240.0.254.10", "240.0.254.1", "00010000")),
    ] {
        assert_eq!(here.receive(peer, address("240.0.254.10"), &packet), Err(GreFault::Recursion), "{what}");
    }
    let six = address("2001:db8::10");
    let v6 = Tunnels::new(vec![Tunnel {
        local: six,
        remote: address("2001:db8::1"),
        ..tunnel("alt0", "240.0.254.1", None)
    }]);
    let v6 = v6.unwrap();
    let sent = v6.keepalive(TunnelId(0)).unwrap();
    assert_eq!((sent[0], sent[6], sent.len()), (0x60, 47, 44));
}

#[test]
fn tunnels_that_cannot_be_are_refused_with_what_to_change() {
    let fine = || tunnel("alt0", "240.0.254.1", None);
    let with = |address: &str, length| Tunnel { addresses: vec![(address.parse().unwrap(), length)], ..fine() };
    for (tunnels, expected) in [
        (vec![tunnel("", "240.0.254.1", None)], "'' cannot name a tunnel interface"),
        (vec![tunnel("a-name-too-long-", "240.0.254.1", None)], "cannot name a tunnel interface"),
        (vec![tunnel("alt/0", "240.0.254.1", None)], "cannot name a tunnel interface"),
        (vec![fine(), tunnel("alt0", "240.0.254.2", None)], "two ALT tunnels are called 'alt0'"),
        (vec![fine(), tunnel("alt1", "240.0.254.1", None)], "'alt0' and 'alt1' have the same ends"),
        (vec![tunnel("alt0", "240.0.254.10", None)], "must be two different unicast addresses"),
        (vec![tunnel("alt0", "2001:db8::1", None)], "must be two different unicast addresses of one family"),
        (vec![tunnel("alt0", "224.0.0.1", None)], "must be two different unicast addresses"),
        (vec![with("10.0.0.1", 33)], "10.0.0.1/33 cannot be the address"),
        (vec![with("10.0.0.1", 0)], "10.0.0.1/0 cannot be the address"),
        (vec![with("240.0.254.1", 30)], "240.0.254.1/30 cannot be the address"),
        (vec![with("::", 64)], "::/64 cannot be the address"),
        (
            vec![with("10.0.0.1", 30), Tunnel { key: Some(1), name: "alt1".into(), ..with("10.0.0.1", 30) }],
            "10.0.0.1 is the address of two ALT tunnels",
        ),
        (vec![fine(); TUNNELS_MAX + 1], "1025 ALT tunnels"),
    ] {
        let error = Tunnels::new(tunnels).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_does_no_harm(packet in prop::collection::vec(any::<u8>(), 0..64), flags in any::<u16>()) {
        let tunnels = tunnels();
        let (from, to) = (address("240.0.254.1"), address("240.0.254.10"));
        let _ = tunnels.receive(from, to, &packet);
        let packet = [&flags.to_be_bytes(), &packet[..]].concat();
        if let Ok((id, payload)) = tunnels.receive(from, to, &packet) {
            let (Payload::Packet(inner) | Payload::Keepalive(inner)) = payload else { return Ok(()) };
            prop_assert!(tunnels.get(id).is_some_and(|tunnel| tunnel.remote == from) && packet.ends_with(inner));
        }
    }
}
