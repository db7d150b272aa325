//! What must be seen on the wire, and nothing else.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::{Header, Kind, LabError, Packet};

const LISP_DATA: u16 = 4341;
const LISP_CONTROL: u16 = 4342;

/// What a capture on the core held.
#[derive(Debug, Default)]
pub struct Core {
    /// LISP data packets.
    pub data: usize,
    /// Inner flows among them, by addresses and ports.
    pub flows: usize,
    /// Different outer UDP source ports.
    pub source_ports: usize,
    /// Map-Requests inside GRE, in the order seen.
    pub requests: Vec<Asked>,
    /// Map-Replies outside any tunnel: nonce, source and destination.
    pub replies: Vec<(u64, IpAddr, IpAddr)>,
}

/// A Map-Request on its way over the ALT.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Nonce.
    pub nonce: u64,
    /// The tunnel's header: from endpoint to endpoint.
    pub tunnel: Header,
    /// The ALT datagram's header: from the ITR's RLOC to the EID asked for.
    pub datagram: Header,
}

/// Judges a capture on the core: right outer headers, no damaged packet, and no site packet without one.
///
/// `rlocs` are those of the two xTRs; `eids` tells addresses of the sites.
///
/// # Errors
/// [`LabError::Wrong`] naming the first packet that must not be.
pub fn judge_core(packets: &[Packet], rlocs: &[IpAddr], eids: impl Fn(IpAddr) -> bool) -> Result<Core, LabError> {
    let mut core = Core::default();
    let mut flows: HashMap<(IpAddr, IpAddr, &str), u16> = HashMap::new();
    let mut probes = HashSet::new();
    for packet in packets {
        let wrong = |what: &str| LabError::Wrong(format!("on the core, {what}: {packet:?}"));
        if packet.damaged {
            return Err(wrong("malformed or a bad checksum"));
        }
        match (packet.kind, &packet.headers[..]) {
            (Kind::Data, [outer, inner]) => {
                let port = outer_is_right(packet, *outer, *inner, rlocs).map_err(|what| wrong(&what))?;
                core.data += 1;
                let known = flows.entry((inner.source, inner.destination, &packet.flow)).or_insert(port);
                if *known != port {
                    return Err(wrong(&format!("the source port of a flow changed from {known}")));
                }
            }
            (Kind::Control { message: 1, nonce, tunnelled: true }, [tunnel, datagram]) => {
                core.requests.push(Asked { nonce, tunnel: *tunnel, datagram: *datagram });
            }
            // RLOC-probes leave and are answered between RLOCs, whenever they are due.
            (Kind::Control { message: 1, nonce, tunnelled: false }, [header])
                if rlocs.contains(&header.source) && rlocs.contains(&header.destination) =>
            {
                probes.insert(nonce);
            }
            (Kind::Control { message: 2, nonce, tunnelled: false }, _) if probes.contains(&nonce) => {}
            (Kind::Control { message: 2, nonce, tunnelled: false }, [header]) => {
                core.replies.push((nonce, header.source, header.destination));
            }
            (Kind::Neighbour, _) => {}
            (Kind::Ip, [header, ..]) if !eids(header.source) && !eids(header.destination) => {}
            _ => return Err(wrong("unexpected")),
        }
    }
    core.flows = flows.len();
    core.source_ports = flows.values().collect::<HashSet<_>>().len();
    // Two of a handful of flows may share a port by chance, all of them may not.
    if core.source_ports * 4 < core.flows * 3 {
        let Core { flows, source_ports, .. } = core;
        return Err(LabError::Wrong(format!("{flows} flows on the core share {source_ports} UDP source ports")));
    }
    Ok(core)
}

/// The outer source port, if the header says what the RFCs want of it.
fn outer_is_right(packet: &Packet, outer: Header, inner: Header, rlocs: &[IpAddr]) -> Result<u16, String> {
    let Some((source, LISP_DATA)) = packet.ports else { return Err("the destination port is not 4341".into()) };
    if packet.udp_checksum != Some(0) {
        return Err("the UDP checksum is not zero".into());
    }
    if !(rlocs.contains(&outer.source) && rlocs.contains(&outer.destination) && outer.source != outer.destination) {
        return Err("the outer addresses are not the two RLOCs".into());
    }
    if (outer.ttl, outer.tos) != (inner.ttl, inner.tos) {
        return Err("TTL or TOS differ between inner and outer header".into());
    }
    Ok(source)
}

/// Judges a capture inside a site: plain IP, ARP and Neighbour Discovery only. Returns how many IP packets there were.
///
/// # Errors
/// [`LabError::Wrong`] naming the first packet that must not be.
pub fn judge_site(packets: &[Packet]) -> Result<usize, LabError> {
    for packet in packets {
        let wrong = |what: &str| LabError::Wrong(format!("inside a site, {what}: {packet:?}"));
        let lisp_port = |(source, destination): (u16, u16)| {
            [source, destination].iter().any(|port| [LISP_DATA, LISP_CONTROL].contains(port))
        };
        if packet.damaged {
            return Err(wrong("malformed or a bad checksum"));
        } else if !matches!(packet.kind, Kind::Ip | Kind::Neighbour)
            || packet.headers.len() > 1
            || packet.protocols.split(':').any(|protocol| protocol == "gre")
            || packet.ports.is_some_and(lisp_port)
        {
            return Err(wrong("more than plain IP"));
        }
    }
    Ok(packets.iter().filter(|packet| packet.kind == Kind::Ip).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RLOCS: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::new(240, 0, 254, 10)), ip(240, 20)];

    const fn ip(first: u8, last: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(first, 0, 254, last))
    }

    fn header(source: IpAddr, destination: IpAddr) -> Header {
        Header { source, destination, ttl: 40, tos: 0x28 }
    }

    fn data(flow: &str, port: u16) -> Packet {
        Packet {
            number: 1,
            protocols: "eth:ethertype:ip:udp:lisp-data:ip:tcp".into(),
            headers: vec![header(RLOCS[0], RLOCS[1]), header(ip(1, 1), ip(2, 2))],
            ports: Some((port, 4341)),
            udp_checksum: Some(0),
            flow: flow.into(),
            icmp: None,
            tcp_fin: false,
            kind: Kind::Data,
            damaged: false,
        }
    }

    fn plain(kind: Kind, source: IpAddr, protocols: &str) -> Packet {
        let headers = vec![header(source, ip(240, 30))];
        Packet { kind, headers, protocols: protocols.into(), ports: None, ..data("", 0) }
    }

    fn is_eid(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] < 3)
    }

    #[test]
    fn a_good_core_is_counted() {
        let asked = Kind::Control { message: 1, nonce: 7, tunnelled: true };
        let answered = Kind::Control { message: 2, nonce: 7, tunnelled: false };
        let probe = |message| Kind::Control { message, nonce: 9, tunnelled: false };
        let between = |from: usize| vec![header(RLOCS[from], RLOCS[1 - from])];
        let packets = [
            Packet { headers: between(0), ..plain(probe(1), RLOCS[0], "eth:ethertype:ip:udp:lisp") },
            Packet { headers: between(1), ..plain(probe(2), RLOCS[1], "eth:ethertype:ip:udp:lisp") },
            Packet { kind: asked, ..data("", 4342) },
            plain(answered, RLOCS[1], "eth:ethertype:ip:udp:lisp"),
            plain(Kind::Neighbour, RLOCS[0], "eth:ethertype:arp"),
            data("1 80", 50_000),
            data("2 80", 50_001),
            data("2 80", 50_001),
        ];
        let core = judge_core(&packets, &RLOCS, is_eid).unwrap();
        assert_eq!((core.data, core.flows, core.source_ports), (3, 2, 2));
        assert_eq!((core.requests[0].nonce, core.requests[0].datagram.destination), (7, ip(2, 2)));
        assert_eq!(core.replies, [(7, RLOCS[1], ip(240, 30))]);
    }

    #[test]
    fn everything_else_on_the_core_is_named() {
        let inner = header(ip(1, 1), ip(2, 2));
        let outer = header(RLOCS[0], RLOCS[1]);
        let with = |outer| Packet { headers: vec![outer, inner], ..data("", 1) };
        for (packet, why) in [
            (Packet { damaged: true, ..data("", 1) }, "malformed"),
            (Packet { udp_checksum: Some(1), ..data("", 1) }, "checksum is not zero"),
            (Packet { ports: Some((4341, 4342)), ..data("", 1) }, "not 4341"),
            (with(header(RLOCS[0], RLOCS[0])), "not the two RLOCs"),
            (with(header(ip(1, 1), RLOCS[1])), "not the two RLOCs"),
            (with(Header { ttl: 41, ..outer }), "TTL or TOS"),
            (with(Header { tos: 0x29, ..outer }), "TTL or TOS"),
            (plain(Kind::Ip, ip(1, 1), "eth:ethertype:ip:icmp"), "unexpected"),
            (plain(Kind::Control { message: 1, nonce: 7, tunnelled: false }, RLOCS[0], "lisp"), "unexpected"),
            (plain(Kind::Other, RLOCS[0], "eth:llc"), "unexpected"),
        ] {
            let wrong = judge_core(&[packet], &RLOCS, is_eid).unwrap_err().to_string();
            assert!(wrong.contains(why), "{wrong}");
        }
        for (packets, why) in [
            ([data("1 80", 50_000), data("1 80", 50_001)], "source port of a flow changed"),
            ([data("1 80", 50_000), data("2 80", 50_000)], "2 flows on the core share 1"),
        ] {
            let wrong = judge_core(&packets, &RLOCS, is_eid).unwrap_err().to_string();
            assert!(wrong.contains(why), "{wrong}");
        }
    }

    #[test]
    fn a_site_sees_plain_ip_only() {
        let udp = Packet { ports: Some((53, 4000)), ..plain(Kind::Ip, ip(1, 1), "eth:ethertype:ip:udp:dns") };
        let arp = plain(Kind::Neighbour, ip(1, 1), "eth:ethertype:arp");
        assert_eq!(judge_site(&[udp.clone(), arp, udp.clone()]).unwrap(), 2);
        for packet in [
            data("", 1),
            Packet { ports: Some((4341, 4000)), ..udp.clone() },
            Packet { damaged: true, ..udp.clone() },
            Packet { headers: data("", 1).headers, ..udp },
            plain(Kind::Ip, ip(1, 1), "eth:ethertype:ip:gre"),
            plain(Kind::Other, ip(1, 1), "eth:llc"),
        ] {
            assert!(judge_site(&[packet]).is_err());
        }
    }
}
