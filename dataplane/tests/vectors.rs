//! Every vector through the dataplane's codecs: octets → value → the same octets, and the values an independent decoder
//! shows.

use std::{collections::BTreeMap, net::IpAddr};

use altitude_dataplane::wire::{
    WireError, checksum, ethernet,
    ethernet::EthernetHeader,
    icmp::{Icmp6Error, IcmpError},
    ipv4::Ipv4Header,
    ipv6::{self, Ipv6Header},
    lisp::{DataHeader, Tag},
    protocol, udp,
    udp::UdpHeader,
};

#[path = "vectors/load.rs"]
mod load;

use load::Vector;

/// What this crate does with the message inside a vector's outer headers.
enum Message {
    /// A LISP data packet that comes back octet for octet.
    Data,
    /// One whose header holds what must not be sent; these are the first octets it is written as instead.
    DataCorrected([u8; 4]),
    /// LISP-GPE: read as from a peer known to speak it.
    Gpe,
    /// A LISP data packet to refuse.
    BadData,
    /// An ICMP error.
    Icmp,
    /// The control plane's: control/tests/vectors.rs says how far it is spoken there.
    Control,
}

/// Every vector's place; one without a place fails the test.
fn place(id: &str) -> Message {
    match id {
        "D07" => Message::DataCorrected([0x80, 0x12, 0x34, 0x56]), // N and V: a nonce
        "D08" => Message::DataCorrected([0; 4]),                   // E without N means nothing
        "D09" => Message::Gpe,
        "D01" | "D02" | "D03" | "D04" | "D05" | "D06" | "D10" | "D11" | "D12" | "D13" => Message::Data,
        "X10" | "X11" => Message::BadData,
        "C01" | "C02" => Message::Icmp,
        "X01" | "X02" | "X03" | "X04" | "X05" | "X06" | "X07" | "X08" | "X09" | "X12" => Message::Control,
        _ if id.starts_with(['A', 'B', 'E', 'F', 'G', 'I', 'K', 'L', 'N', 'P', 'Q']) => Message::Control,
        _ => panic!("vector {id} has no place in this test"),
    }
}

#[test]
fn every_vector_has_its_place_and_comes_back_octet_for_octet() {
    let vectors = load::all();
    let (mut spoken, mut passed_on) = (0, 0);
    for vector in &vectors {
        let outer = outer_headers(vector);
        assert!(outer.payload.ends_with(&vector.payload), "{}", vector.id);
        match place(&vector.id) {
            Message::Data => data(vector, &outer, DataHeader::split, None),
            Message::DataCorrected(first) => data(vector, &outer, DataHeader::split, Some(first)),
            Message::Gpe => data(vector, &outer, DataHeader::split_gpe, None),
            Message::BadData => bad_data(vector),
            Message::Icmp => icmp(vector, &outer),
            Message::Control => {
                passed_on += 1;
                continue;
            }
        }
        spoken += 1;
    }
    println!("{} vectors: outer headers of all, payload of {spoken}, {passed_on} are control's", vectors.len());
    assert_eq!((vectors.len(), spoken, passed_on), (102, 17, 85));
}

/// What the outer headers of a frame say.
struct Outer<'a> {
    source: IpAddr,
    destination: IpAddr,
    tos: u8,
    udp: Option<UdpHeader>,
    payload: &'a [u8],
}

/// Reads Ethernet, IP and UDP of the frame, and writes them back.
fn outer_headers(vector: &Vector) -> Outer<'_> {
    let id = &vector.id;
    let (link, packet) = EthernetHeader::split(&vector.frame).unwrap();
    let mut written = vec![0xee; EthernetHeader::LENGTH];
    link.write(&mut written);
    let (source, destination, tos, protocol, payload): (IpAddr, IpAddr, _, _, _) = match link.ethertype {
        ethernet::IPV4 => {
            let (ip, payload) = Ipv4Header::split(packet).unwrap();
            assert!(checksum::verifies(&packet[..ip.length()]), "{id}");
            assert!(!ip.is_fragment(), "{id}");
            written.resize(14 + ip.length(), 0xee);
            ip.write(&mut written[14..]);
            (ip.source.into(), ip.destination.into(), ip.tos, ip.protocol, payload)
        }
        ethernet::IPV6 => {
            let (ip, payload) = Ipv6Header::split(packet).unwrap();
            written.resize(14 + 40, 0xee);
            ip.write(&mut written[14..]);
            let found = ipv6::transport(ip.next_header, payload).unwrap();
            assert_eq!((found.offset, found.fragment), (0, false), "{id}");
            (ip.source.into(), ip.destination.into(), ip.traffic_class, found.protocol, payload)
        }
        other => panic!("{id}: EtherType {other:#x}"),
    };
    let (udp, payload) = if protocol == protocol::UDP {
        let (udp, data) = UdpHeader::split(payload).unwrap();
        assert_eq!(usize::from(udp.length), payload.len(), "{id}");
        assert!(udp.checksum == 0 || udp.verifies(source, destination, data), "{id}: UDP checksum");
        let at = written.len();
        written.resize(at + 8, 0xee);
        udp.write(&mut written[at..]);
        (Some(udp), data)
    } else {
        (None, payload)
    };
    written.extend(payload);
    assert_eq!(written, vector.frame, "{id}");
    Outer { source, destination, tos, udp, payload }
}

type Split = fn(&[u8]) -> Result<(DataHeader, &[u8]), WireError>;

/// Reads a LISP data packet, writes its headers back and compares the fields. `first`: what the first word becomes.
fn data(vector: &Vector, outer: &Outer<'_>, split: Split, first: Option<[u8; 4]>) {
    let id = &vector.id;
    assert_eq!(outer.udp.unwrap().destination, udp::LISP_DATA, "{id}");
    let (header, inner) = split(outer.payload).unwrap();
    let mut written = vec![0xee; 8];
    header.write(&mut written);
    let mut fields = fields(&header);

    match inner[0] >> 4 {
        _ if header.key != 0 => written.extend(inner),
        _ if matches!(header.tag, Tag::NextProtocol(3)) => {
            let (link, rest) = EthernetHeader::split(inner).unwrap();
            written.resize(8 + 14, 0xee);
            link.write(&mut written[8..]);
            written.extend(rest);
        }
        4 => {
            let (ip, payload) = Ipv4Header::split(inner).unwrap();
            assert!(checksum::verifies(&inner[..ip.length()]), "{id}: inner IPv4 checksum");
            written.resize(8 + ip.length(), 0xee);
            ip.write(&mut written[8..]);
            written.extend(payload);
            add_inner(&mut fields, outer, ip.source.into(), ip.destination.into(), ip.tos);
        }
        _ => {
            let (ip, payload) = Ipv6Header::split(inner).unwrap();
            written.resize(8 + 40, 0xee);
            ip.write(&mut written[8..]);
            written.extend(payload);
            add_inner(&mut fields, outer, ip.source.into(), ip.destination.into(), ip.traffic_class);
        }
    }

    let mut expected = vector.payload.clone();
    if let Some(first) = first {
        expected[..4].copy_from_slice(&first);
        let again = split(&written).unwrap().0;
        assert_eq!(again, header, "{id}: what is written instead means the same");
    } else {
        for (field, value) in &vector.expected {
            match field.as_str() {
                "udp.checksum.status" => assert_ne!(outer.udp.unwrap().checksum, 0, "{id}: verified above"),
                "udp.dstport" => assert_eq!(value, "4341", "{id}"),
                _ => assert_eq!(fields.get(field.as_str()), Some(value), "{id}: {field}"),
            }
        }
    }
    assert_eq!(written, expected, "{id}");
}

/// The header's fields under the names and in the notation of the independent decoder.
fn fields(header: &DataHeader) -> BTreeMap<&'static str, String> {
    let flag = |set: bool| u8::from(set).to_string();
    let mut fields = BTreeMap::from([
        ("lisp-data.flags.nonce", flag(matches!(header.tag, Tag::Nonce { .. }))),
        ("lisp-data.flags.enr", flag(matches!(header.tag, Tag::Nonce { echo: true, .. }))),
        ("lisp-data.flags.mv", flag(matches!(header.tag, Tag::Versions { .. }))),
        ("lisp-data.flags.iid", flag(header.instance.is_some())),
        ("lisp-data.flags.lsb", flag(header.status.is_some())),
    ]);
    match header.tag {
        Tag::Nonce { value, .. } => _ = fields.insert("lisp-data.nonce", value.to_string()),
        Tag::Versions { source, dest } => {
            fields.insert("lisp-data.srcmapver", source.to_string());
            fields.insert("lisp-data.dstmapver", dest.to_string());
        }
        Tag::Absent | Tag::NextProtocol(_) => {}
    }
    if let Some(instance) = header.instance {
        fields.insert("lisp-data.iid", instance.to_string());
    }
    match (header.instance, header.status) {
        (Some(_), Some(status)) => _ = fields.insert("lisp-data.lsb8", format!("{status:#04x}")),
        (None, Some(status)) => _ = fields.insert("lisp-data.lsb", format!("{status:#010x}")),
        (_, None) => {}
    }
    fields
}

/// Adds what the decoder lists for outer and inner header together, outer first; a field of one family has one value
/// where the families differ.
fn add_inner(
    fields: &mut BTreeMap<&'static str, String>,
    outer: &Outer<'_>,
    source: IpAddr,
    destination: IpAddr,
    tos: u8,
) {
    if outer.source.is_ipv4() != source.is_ipv4() {
        return;
    }
    let (from, to, ecn) = if source.is_ipv4() {
        ("ip.src", "ip.dst", "ip.dsfield.ecn")
    } else {
        ("ipv6.src", "ipv6.dst", "ipv6.tclass.ecn")
    };
    fields.insert(from, format!("{},{source}", outer.source));
    fields.insert(to, format!("{},{destination}", outer.destination));
    fields.insert(ecn, format!("{},{}", outer.tos & 3, tos & 3));
}

/// X10 ends within the header; X11 is an inner packet of IP version 5.
fn bad_data(vector: &Vector) {
    match DataHeader::split(&vector.payload) {
        Err(error) => {
            assert_eq!((vector.id.as_str(), error), ("X10", WireError::Truncated { need: 8, have: 4 }));
        }
        Ok((_, inner)) => {
            assert_eq!(vector.id, "X11");
            assert_eq!(Ipv4Header::split(inner).err(), Some(WireError::Contradiction("IP version is not 4")));
            let padded = [inner, &[0; 40]].concat();
            assert_eq!(Ipv6Header::split(&padded).err(), Some(WireError::Contradiction("IP version is not 6")));
        }
    }
}

fn icmp(vector: &Vector, outer: &Outer<'_>) {
    let id = &vector.id;
    let mut written = vector.payload.clone();
    written[..8].fill(0xee);
    let fields = match (outer.source, outer.destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let (error, quote) = IcmpError::split(outer.payload).unwrap();
            assert_eq!(quote, &vector.payload[8..], "{id}");
            error.write(&mut written);
            let IcmpError::FragmentationNeeded { mtu } = error else { panic!("{id}: {error:?}") };
            vec![("icmp.type", 3), ("icmp.code", 4), ("icmp.mtu", u32::from(mtu))]
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (error, quote) = Icmp6Error::split(source, destination, outer.payload).unwrap();
            assert_eq!(quote, &vector.payload[8..], "{id}");
            error.write(source, destination, &mut written);
            let Icmp6Error::PacketTooBig { mtu } = error else { panic!("{id}: {error:?}") };
            vec![("icmpv6.type", 2), ("icmpv6.mtu", mtu)]
        }
        _ => unreachable!("an IP packet has one family"),
    };
    assert_eq!(written, vector.payload, "{id}");
    let shown: BTreeMap<String, String> =
        fields.into_iter().map(|(field, value)| (field.to_owned(), value.to_string())).collect();
    assert_eq!(shown, vector.expected, "{id}");
}
