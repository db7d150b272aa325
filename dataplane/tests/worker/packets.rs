//! Packets by hand: nothing here comes from the crate under test, so that a wrong offset cannot agree with itself.

use std::net::IpAddr;

pub(crate) const HOST: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub(crate) const SITE: [u8; 6] = [2, 0, 0, 0, 1, 2];
pub(crate) const CORE: [u8; 6] = [2, 0, 0, 0, 2, 2];
pub(crate) const PEER: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// An IP packet to be; change the fields that matter.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    /// IPv4: flags and fragment offset.
    pub(crate) fragment: u16,
    /// IPv4 options, a multiple of four octets.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DF: u16 = 0x4000;
pub(crate) const MF: u16 = 0x2000;

/// A UDP packet between two hosts.
pub(crate) fn udp(source: &str, destination: &str, ports: (u16, u16), data: usize) -> Ip {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut payload = Vec::new();
    payload.extend(ports.0.to_be_bytes());
    payload.extend(ports.1.to_be_bytes());
    payload.extend((data as u16 + 8).to_be_bytes());
    payload.extend([0, 0]);
    payload.extend((0..data).map(|n| n as u8));
    Ip { source, destination, tos: 0, ttl: 64, protocol: 17, fragment: DF, options: Vec::new(), payload }
}

impl Ip {
    pub(crate) fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    pub(crate) fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    pub(crate) fn fragment(mut self, fragment: u16) -> Self {
        self.fragment = fragment;
        self
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + self.options.len();
                octets.extend([0x40 | (header / 4) as u8, self.tos]);
                octets.extend(((header + self.payload.len()) as u16).to_be_bytes());
                octets.extend([0x12, 0x34]);
                octets.extend(self.fragment.to_be_bytes());
                octets.extend([self.ttl, self.protocol, 0, 0]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
                octets.extend(&self.options);
                seal(&mut octets);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                octets.extend([0x60 | self.tos >> 4, self.tos << 4 | 0x0a, 0xbc, 0xde]);
                octets.extend((self.payload.len() as u16).to_be_bytes());
                octets.extend([self.protocol, self.ttl]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
            }
            _ => panic!("families differ"),
        }
        octets.extend(&self.payload);
        octets
    }

    /// The frame a host sends to the xTR.
    pub(crate) fn host_frame(&self) -> Vec<u8> {
        frame(SITE, HOST, &[], &self.octets())
    }

    /// The frame a peer's xTR sends to ours.
    pub(crate) fn peer_frame(&self) -> Vec<u8> {
        frame(CORE, PEER, &[], &self.octets())
    }
}

/// A LISP packet between two RLOCs, with this first flags octet and second word.
pub(crate) fn lisp(source: &str, destination: &str, flags: u8, word: u32, inner: &[u8]) -> Ip {
    let mut outer = udp(source, destination, (0xc123, 4341), 0);
    let length = (inner.len() + 16) as u16;
    outer.payload[4..6].copy_from_slice(&length.to_be_bytes());
    outer.payload.extend([flags, 0, 0, 0]);
    outer.payload.extend(word.to_be_bytes());
    outer.payload.extend(inner);
    outer
}

/// Puts the right UDP checksum into an IP packet's payload.
pub(crate) fn with_udp_checksum(mut packet: Ip) -> Ip {
    let mut covered = Vec::new();
    for address in [packet.source, packet.destination] {
        match address {
            IpAddr::V4(v4) => covered.extend(v4.octets()),
            IpAddr::V6(v6) => covered.extend(v6.octets()),
        }
    }
    covered.extend([0, 17]);
    covered.extend((packet.payload.len() as u16).to_be_bytes());
    packet.payload[6..8].fill(0);
    covered.extend(&packet.payload);
    let checksum = !ones_sum(&covered);
    packet.payload[6..8].copy_from_slice(&if checksum == 0 { 0xffff } else { checksum }.to_be_bytes());
    packet
}

/// An Ethernet frame with VLAN tags; short ones are padded to 60 octets as a wire would.
pub(crate) fn frame(to: [u8; 6], from: [u8; 6], tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut octets = [to, from].concat();
    for (tpid, tci) in tags {
        octets.extend(tpid.to_be_bytes());
        octets.extend(tci.to_be_bytes());
    }
    octets.extend(if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    octets.extend(packet);
    octets.resize(octets.len().max(60), 0xee);
    octets
}

/// Adds tags to a frame on its way.
pub(crate) fn tagged(mut octets: Vec<u8>, tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat()).collect();
    octets.splice(12..12, tags);
    octets
}

/// Writes the right checksum into the IPv4 header at the front.
pub(crate) fn seal(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 0xf) * 4;
    packet[10..12].fill(0);
    let checksum = !ones_sum(&packet[..header.min(packet.len())]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// The one's-complement sum, word by word with the carry put back each time: slow and by the definition.
pub(crate) fn ones_sum(octets: &[u8]) -> u16 {
    let mut sum = 0_u16;
    for word in octets.chunks(2) {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (next, carry) = sum.overflowing_add(word);
        sum = next + u16::from(carry);
    }
    sum
}

/// Checks the IP header at the front and gives the packet without padding.
pub(crate) fn sound(packet: &[u8]) -> &[u8] {
    match packet[0] >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0xf) * 4;
            assert_eq!(ones_sum(&packet[..header]), 0xffff, "IPv4 header checksum of {packet:02x?}");
            &packet[..usize::from(u16::from_be_bytes([packet[2], packet[3]]))]
        }
        6 => &packet[..40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]))],
        version => panic!("IP version {version}"),
    }
}

/// What an encapsulated frame says, read by hand and checked.
pub(crate) struct Tunnelled {
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) source_port: u16,
    pub(crate) lisp: [u8; 8],
    pub(crate) inner: Vec<u8>,
    /// Length of the outer IP header.
    pub(crate) outer: usize,
}

/// Takes an untagged LISP frame apart.
pub(crate) fn open(octets: &[u8]) -> Tunnelled {
    let packet = sound(&octets[14..]);
    assert_eq!(octets.len(), 14 + packet.len(), "no octets behind the packet");
    let (outer, tos, ttl, protocol) = match packet[0] >> 4 {
        4 => {
            assert_eq!(packet[6..8], [0x40, 0], "DF, no fragment");
            (20, packet[1], packet[8], packet[9])
        }
        _ => (40, packet[0] << 4 | packet[1] >> 4, packet[7], packet[6]),
    };
    let udp = &packet[outer..];
    assert_eq!((protocol, &udp[2..4], &udp[6..8]), (17, &4341_u16.to_be_bytes()[..], &[0, 0][..]));
    assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
    let inner = sound(&udp[16..]).to_vec();
    assert_eq!(inner.len(), udp.len() - 16, "no octets behind the inner packet");
    let source_port = u16::from_be_bytes([udp[0], udp[1]]);
    assert!(source_port >= 0xc000);
    Tunnelled { tos, ttl, source_port, lisp: udp[8..16].try_into().unwrap(), inner, outer }
}
