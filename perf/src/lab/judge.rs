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
