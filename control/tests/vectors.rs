//! Every vector through the control plane's codecs: octets → value → the same octets, what is left out or refused, and
//! the values an independent decoder shows.

use std::{collections::BTreeMap, net::IpAddr};

use altitude_control::{
    lisp_sec::keys::{OneTimeKey, SharedKey},
    wire::{
        Algorithm, AuthenticationError, Info, Key, MapNotify, MapRegister, MapReply, MapRequest, Message, WireError,
        ecm,
        ecm::Ecm,
        gre,
        gre::GreHeader,
        lisp_sec::{EidData, Hash, ReplyData, RequestData},
        packet::UdpPacket,
    },
};
use altitude_dataplane::{
    mapping::{Action, EidPrefix, Hop, InstanceId, Locator, Mapping},
    wire::{WireError as Malformed, udp::LISP_CONTROL},
};

#[path = "../../dataplane/tests/vectors/load.rs"]
mod load;

use load::Vector;

/// What becomes of a vector's message.
enum Place {
    /// Comes back octet for octet.
    Spoken,
    /// Read, with so many locators left: the others are of LCAF types not spoken (RFC 9306 §3).
    LeftOut { kept: usize },
    /// Refused with this.
    Refused(WireError),
    /// Comes back octet for octet, but answers no probe.
    FalseProbe,
    /// An ECM comes back octet for octet, the message inside it too.
    Ecm,
    /// A message type not spoken yet; its number is told.
    OtherType(u8),
    /// GRE with a Map-Request inside.
    Gre,
    /// No message of this plane's own codecs, because.
    NotControl(&'static str),
}

/// Every vector's place; one without a place fails the test.
fn place(id: &str) -> Place {
    let contradiction = |text| Place::Refused(WireError::Malformed(Malformed::Contradiction(text)));
    let truncated = |need, have| Place::Refused(WireError::Malformed(Malformed::Truncated { need, have }));
    match id {
        "Q01" | "Q02" | "Q03" | "Q04" | "Q05" | "Q06" | "Q07" | "Q08" | "Q09" | "Q10" => Place::Spoken,
        "P01" | "P02" | "P03" | "P04" | "P05" | "P06" | "P10" | "P12" | "P13" | "P14" | "P15" | "P20" | "P21" => {
            Place::Spoken
        }
        "P30" | "L01" | "L02" | "L10" => Place::Spoken,
        // The only locator is an AS number, a geo-point, …: none is left and the record is negative.
        "L03" | "L04" | "L05" | "L08" | "L11" | "L14" | "L15" | "L16" | "L19" => Place::LeftOut { kept: 0 },
        // One of two is left.
        "L17" | "L21" => Place::LeftOut { kept: 1 },
        // An EID not spoken: opaque key, multicast, source/dest, AFI-List around a MAC; a name; a MAC in an instance.
        "L06" => Place::Refused(WireError::UnknownLcaf(6)),
        "L09" => Place::Refused(WireError::UnknownLcaf(9)),
        "L12" => Place::Refused(WireError::UnknownLcaf(12)),
        "L22" => Place::Refused(WireError::UnknownLcaf(1)),
        "L18" => Place::Refused(WireError::UnknownAfi(17)),
        "L23" => Place::Refused(WireError::UnknownAfi(16389)),
        "L20" => Place::Refused(WireError::UnknownLcaf(255)), // a vendor's, though a locator only
        "A01" | "A02" | "A03" => Place::Gre,
        "X01" => truncated(16, 7),
        "X02" => truncated(4, 0),
        "X03" => Place::Refused(WireError::UnknownAfi(0x0020)), // the record, taken for an ITR-RLOC
        "X04" => contradiction("EID mask-len longer than an address of its family"),
        "X05" => truncated(0x4000, 24),
        "X07" => truncated(0xffff, 44),
        "X06" => Place::Refused(WireError::UnknownAfi(0x1234)),
        "X12" => contradiction("Instance-ID inside an Instance-ID"),
        "X08" => Place::FalseProbe,
        "G01" | "G02" | "G03" | "G04" | "G05" | "G06" | "N01" | "N02" | "N03" | "N04" | "K01" | "K02" => Place::Spoken,
        "I01" | "I02" => Place::Spoken,
        "F01" | "F02" | "F03" => Place::OtherType(6),
        "X09" | "E01" | "E02" | "E03" | "E04" | "E05" => Place::Ecm,
        "B01" | "B02" | "B03" | "B04" | "B05" => Place::NotControl("BGP is not spoken yet"),
        "C01" | "C02" => Place::NotControl("ICMP is the dataplane's"),
        "X10" | "X11" => Place::NotControl("LISP data packets are the dataplane's"),
        _ if id.starts_with('D') => Place::NotControl("LISP data packets are the dataplane's"),
        _ => panic!("vector {id} has no place in this test"),
    }
}

/// An ECM, and what is inside.
fn encapsulated(vector: &Vector) {
    let (id, read) = (&vector.id, Ecm::parse(&vector.payload).unwrap());
    assert_eq!(read.encode(), vector.payload, "{id}");
    assert_eq!((read.ddt, read.security().is_some()), (id == "E03", id == "E04" || id == "E05"), "{id}");
    assert_eq!(
        read.security().map(<[u8]>::len),
        match id.as_str() {
            "E04" => Some(36),
            "E05" => Some(64),
            _ => None,
        }
    );
    let inner = read.datagram;
    if id == "X09" {
        let Ok(Message::MapRequest(request)) = Message::parse(inner.payload) else { panic!("{id}") };
        assert!(request.probe, "a probe inside an ECM");
        return;
    }
    assert_eq!((inner.source.port(), inner.destination.port(), inner.ttl), (61000, 4342, 64), "{id}");
    let Ok(Message::MapRequest(request)) = Message::parse(inner.payload) else { panic!("{id}") };
    assert_eq!(request.encode(), inner.payload, "{id}");
    let asked = request.records[0].eid.prefix;
    assert!(asked.contains(inner.destination.ip()) && request.itr_rlocs == [inner.source.ip()], "{id}");
}

/// SEC-3, SEC-5, SEC-6: the keys of the vectors, and nothing else, open and sign them.
#[test]
fn lisp_sec_vectors_verify() {
    let vectors = load::all();
    let payload = |id: &str| vectors.iter().find(|vector| vector.id == id).unwrap().payload.clone();
    let octets =
        |hex: &str| -> [u8; 16] { std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()) };
    let itr_otk = OneTimeKey::new(octets("00112233445566778899aabbccddeeff"));
    let ms_otk = itr_otk.derived(Hash::Sha256);
    let nonce = 0x0a0b_0c0d_0e0f_1011;
    let registered: EidPrefix = EidPrefix { instance: InstanceId::DEFAULT, prefix: "198.51.100.0/24".parse().unwrap() };
    let mut eid_ad = EidData::unsigned(2, Hash::Sha256, false, &[registered]);
    itr_otk.sign(Hash::Sha256, &mut eid_ad);

    let bare = EidData::bare(2);
    for (id, shared, otk, eids) in [
        ("E04", SharedKey::new(1, b"itr-mr-psk"), &itr_otk, &bare[..]),
        ("E05", SharedKey::new(2, b"ms-etr-psk"), &ms_otk, &eid_ad[..]),
    ] {
        let payload = payload(id);
        let ecm = Ecm::parse(&payload).unwrap();
        let data = RequestData::parse(ecm.security().unwrap()).unwrap();
        assert_eq!((data.hmac, data.key_id, data.wrapping, data.eids.octets()), (2, shared.id, 2, eids), "{id}");
        assert_eq!(OneTimeKey::unwrapped(nonce, &data.wrapped, &shared).as_ref(), Ok(otk), "{id}");
        assert_eq!(data.wrapped, otk.wrapped(nonce, &shared), "{id}");
        assert_eq!(ecm::encapsulate_secured(&data.encode(), ecm.packet), payload, "{id}");
    }

    let payload = payload("P30");
    let Ok(Message::MapReply(mut reply)) = Message::parse(&payload) else { panic!("P30") };
    let security = reply.security.take().unwrap();
    let data = ReplyData::parse(&security).unwrap();
    let signed = data.eids.signed.as_ref().unwrap();
    assert_eq!((data.eids.octets(), &signed.prefixes[..], signed.cant_sign), (&eid_ad[..], &[registered][..], false));
    assert!(itr_otk.verifies(Hash::Sha256, data.eids.covered(), signed.mac));
    let (hmac, mac) = data.packet.unwrap();
    assert!(hmac == 2 && ms_otk.verifies(Hash::Sha256, &payload[..payload.len() - mac.len()], mac));
    let mut again = MapReply { security: Some(ReplyData::unsigned(&eid_ad, Some(Hash::Sha256))), ..reply }.encode();
    ms_otk.sign(Hash::Sha256, &mut again);
    assert_eq!(again, payload);
}

/// G-1, G-2, G-8.
#[test]
fn every_vector_has_its_place() {
    let vectors = load::all();
    let mut counts = BTreeMap::<&str, usize>::new();
    for vector in &vectors {
        let id = &vector.id;
        let place = place(id);
        if !matches!(place, Place::NotControl(_) | Place::Gre) {
            let packet = UdpPacket::parse(&vector.frame[14..]).unwrap();
            assert_eq!(packet.payload, vector.payload, "{id}");
            let ports = [packet.source.port(), packet.destination.port()];
            assert!(ports.contains(&LISP_CONTROL), "{id}");
            let again = packet.encode();
            assert_eq!(UdpPacket::parse(&again), Ok(packet), "{id}");
        }
        let read = Message::parse(&vector.payload);
        *counts
            .entry(match place {
                Place::Spoken => {
                    spoken(vector, &read.unwrap());
                    "octet for octet"
                }
                Place::LeftOut { kept } => {
                    left_out(vector, &read.unwrap(), kept);
                    "locators left out"
                }
                Place::Refused(error) => {
                    assert_eq!(read, Err(error), "{id}");
                    "refused"
                }
                Place::FalseProbe => {
                    let Ok(Message::MapReply(reply)) = read else { panic!("{id}: {read:?}") };
                    assert_eq!(reply.encode(), vector.payload, "{id}");
                    assert!(reply.probe && !reply.probe_is_authoritative(), "{id}");
                    "refused"
                }
                Place::Ecm => {
                    assert_eq!(read, Ok(Message::Other(ecm::TYPE)), "{id}");
                    encapsulated(vector);
                    "ECM"
                }
                Place::OtherType(number) => {
                    assert_eq!(read, Ok(Message::Other(number)), "{id}");
                    "of a type not spoken yet"
                }
                Place::Gre => {
                    gre_packet(vector);
                    "octet for octet"
                }
                Place::NotControl(because) => because,
            })
            .or_default() += 1;
    }
    println!("{} vectors: {counts:?}", vectors.len());
    let expected = BTreeMap::from([
        ("octet for octet", 44),
        ("locators left out", 11),
        ("refused", 16),
        ("ECM", 6),
        ("of a type not spoken yet", 3),
        ("BGP is not spoken yet", 5),
        ("ICMP is the dataplane's", 2),
        ("LISP data packets are the dataplane's", 15),
    ]);
    assert_eq!(counts, expected);
}

#[test]
fn probes_are_answered_by_authority_only() {
    let reply = |id: &str| {
        let vector = load::all().into_iter().find(|vector| vector.id == id).unwrap();
        let Ok(Message::MapReply(reply)) = Message::parse(&vector.payload) else { panic!("{id}") };
        reply
    };
    assert!(reply("P03").probe_is_authoritative());
    assert!(!reply("P01").probe_is_authoritative(), "no probe at all");
    assert!(!reply("X08").probe_is_authoritative());
}

/// G-3.
#[test]
fn damaged_packets_and_those_without_a_udp_checksum_are_refused() {
    let vectors = load::all();
    let packet = |id: &str| vectors.iter().find(|vector| vector.id == id).unwrap().frame[14..].to_vec();
    for id in ["D01", "D04"] {
        assert_eq!(UdpPacket::parse(&packet(id)), Err(Malformed::Checksum("UDP").into()), "{id}");
    }
    let (first, second) = (packet("Q01"), packet("Q02"));
    for (octets, name) in [(&first, "IPv4"), (&second, "IPv6")] {
        assert!(UdpPacket::parse(octets).is_ok());
        for at in 0..octets.len() {
            let mut flipped = octets.clone();
            flipped[at] ^= 0x01;
            // IPv6 has no checksum over Traffic Class, Flow Label and Hop Limit.
            let unprotected = name == "IPv6" && matches!(at, 0..=3 | 7);
            assert_eq!(UdpPacket::parse(&flipped).is_ok(), unprotected, "{name} octet {at}");
        }
    }
}

fn encode(message: &Message) -> Vec<u8> {
    match message {
        Message::MapRequest(request) => request.encode(),
        Message::MapReply(reply) => reply.encode(),
        Message::MapRegister(register) => register.encode(),
        Message::MapNotify(notify) => notify.encode(),
        Message::Info(info) => info.encode(),
        Message::Other(number) => panic!("type {number} cannot be written"),
    }
}

fn spoken(vector: &Vector, message: &Message) {
    assert_eq!(encode(message), vector.payload, "{}", vector.id);
    let shown = match message {
        Message::MapRequest(request) => request_fields(request),
        Message::MapReply(reply) => reply_fields(reply),
        Message::MapRegister(register) => register_fields(register),
        Message::MapNotify(notify) => notify_fields(notify),
        Message::Info(info) => info_fields(info),
        Message::Other(_) => unreachable!("encode would have failed"),
    };
    assert!(verified(vector, message).is_none_or(|verdict| verdict.is_ok()), "{}: its MAC", vector.id);
    for (field, value) in &vector.expected {
        match field.as_str() {
            "udp.checksum.status" => {} // verified with the packet
            _ => assert_eq!(shown.get(field.as_str()), Some(value), "{}: {field}", vector.id),
        }
    }
}

/// What is thought of the authentication data of a message that has some, by someone who has the vectors' key.
fn verified(vector: &Vector, message: &Message) -> Option<Result<(), AuthenticationError>> {
    let given = match message {
        Message::MapRegister(register) => &register.authentication,
        Message::MapNotify(notify) => &notify.authentication,
        Message::Info(info) => &info.authentication,
        _ => return None,
    };
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.number() == given.algorithm);
    let key = [Key::new(given.key_id, algorithm.expect("an algorithm of RFC 9301"), b"lisp-psk-1")];
    let verdict = match message {
        Message::MapRegister(register) => register.verify(&vector.payload, &key),
        Message::MapNotify(notify) => notify.verify(&vector.payload, &key),
        Message::Info(info) => info.verify(&vector.payload, &key),
        _ => return None,
    };
    Some(verdict.map(|_| ()))
}

/// The value is as without the locators, and writes as that.
fn left_out(vector: &Vector, message: &Message, kept: usize) {
    let id = &vector.id;
    let Message::MapReply(reply) = message else { panic!("{id}: {message:?}") };
    let [record] = &reply.records[..] else { panic!("{id}: {message:?}") };
    assert_eq!(record.locators.len(), kept, "{id}");
    assert_eq!(record.is_negative(), kept == 0, "{id}");
    assert_eq!(record.action, Action::NoAction, "{id}");
    assert_eq!(record.eid.to_string(), "198.51.100.0/24", "{id}");
    assert_eq!(Message::parse(&encode(message)).as_ref(), Ok(message), "{id}");
    let shown = reply_fields(reply);
    for (field, value) in &vector.expected {
        if !field.starts_with("lisp.lcaf") && field != "lisp.mapping.loccnt" {
            assert_eq!(shown.get(field.as_str()), Some(value), "{id}: {field}");
        }
    }
}

fn gre_packet(vector: &Vector) {
    let id = &vector.id;
    let (header, payload) = GreHeader::split(&vector.payload).unwrap();
    assert_eq!(header.encode(payload), vector.payload, "{id}");
    let packet = UdpPacket::parse(payload).unwrap();
    assert_eq!(packet.destination.port(), LISP_CONTROL, "{id}");
    assert_eq!(header.protocol, if packet.source.is_ipv4() { gre::IPV4 } else { gre::IPV6 }, "{id}");
    let Ok(Message::MapRequest(request)) = Message::parse(packet.payload) else { panic!("{id}") };
    assert_eq!(request.encode(), packet.payload, "{id}");
    assert!(request.records[0].eid.prefix.contains(packet.destination.ip()), "{id}: sent to the EID");
    for (field, value) in &vector.expected {
        let shown = match field.as_str() {
            "gre.checksum.status" => u8::from(header.checksum).to_string(),
            "gre.key" => format!("{:#010x}", header.key.unwrap()),
            "gre.sequence_number" => header.sequence.unwrap().to_string(),
            "gre.proto" => format!("{:#06x}", header.protocol),
            "ip.dst" => format!("203.0.113.2,{}", packet.destination.ip()),
            "lisp.type" => "1".to_owned(),
            _ => panic!("{id}: {field} is not compared"),
        };
        assert_eq!(&shown, value, "{id}: {field}");
    }
}

type Fields = BTreeMap<&'static str, String>;

fn flag(set: bool) -> String {
    u8::from(set).to_string()
}

fn join<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

/// Adds the addresses of one family under a name for each, as the independent decoder does.
fn add_addresses(fields: &mut Fields, ipv4: &'static str, ipv6: &'static str, addresses: &[IpAddr]) {
    for (name, is_ipv4) in [(ipv4, true), (ipv6, false)] {
        let of_family = addresses.iter().filter(|address| address.is_ipv4() == is_ipv4);
        let text = join(of_family);
        if !text.is_empty() {
            fields.insert(name, text);
        }
    }
}

/// Adds what is shown of EIDs that travel in an Instance-ID LCAF.
fn add_instances(fields: &mut Fields, eids: &[(InstanceId, IpAddr)]) {
    let extended: Vec<_> = eids.iter().filter(|(instance, _)| *instance != InstanceId::DEFAULT).collect();
    if !extended.is_empty() {
        fields.insert("lisp.lcaf.iid", join(extended.iter().map(|(instance, _)| instance)));
        fields.insert("lisp.lcaf.type", join(extended.iter().map(|_| 2)));
        fields.insert("lisp.lcaf.length", join(extended.iter().map(|(_, a)| if a.is_ipv4() { 10 } else { 22 })));
        let addresses: Vec<IpAddr> = extended.iter().map(|(_, address)| *address).collect();
        add_addresses(fields, "lisp.lcaf.iid.ipv4", "lisp.lcaf.iid.ipv6", &addresses);
    }
}

fn request_fields(request: &MapRequest) -> Fields {
    let mut fields = Fields::from([
        ("lisp.type", "1".to_owned()),
        ("lisp.nonce", format!("{:#018x}", request.nonce)),
        ("lisp.irc", request.itr_rlocs.len().saturating_sub(1).to_string()),
        ("lisp.records", request.records.len().to_string()),
        ("lisp.mreq.flags.auth", flag(request.authoritative)),
        ("lisp.mreq.flags.mrp", flag(request.reply_record.is_some())),
        ("lisp.mreq.flags.probe", flag(request.probe)),
        ("lisp.mreq.flags.smr", flag(request.smr)),
        ("lisp.mreq.flags.pitr", flag(request.pitr)),
        ("lisp.mreq.flags.smri", flag(request.smr_invoked)),
        ("lisp.mreq.record.prefix.length", join(request.records.iter().map(|record| record.eid.prefix.length()))),
    ]);
    let source_afi = match request.source_eid {
        None => 0,
        Some(eid) if eid.instance != InstanceId::DEFAULT => 16387,
        Some(eid) if eid.address.is_ipv4() => 1,
        Some(_) => 2,
    };
    fields.insert("lisp.mreq.srceid.afi", source_afi.to_string());
    let source: Vec<IpAddr> = request.source_eid.iter().map(|eid| eid.address).collect();
    add_addresses(&mut fields, "lisp.mreq.srceid.ipv4", "lisp.mreq.srceid.ipv6", &source);
    add_addresses(&mut fields, "lisp.mreq.itr_rloc_ipv4", "lisp.mreq.itr_rloc_ipv6", &request.itr_rlocs);
    let asked: Vec<EidPrefix> = request.records.iter().map(|record| record.eid).collect();
    let addresses: Vec<IpAddr> = asked.iter().map(|eid| eid.prefix.address()).collect();
    add_addresses(&mut fields, "lisp.mreq.record.prefix.ipv4", "lisp.mreq.record.prefix.ipv6", &addresses);
    let source = request.source_eid.iter().map(|eid| (eid.instance, eid.address));
    let eids: Vec<_> = source.chain(asked.iter().map(|eid| (eid.instance, eid.prefix.address()))).collect();
    add_instances(&mut fields, &eids);
    add_mappings(&mut fields, request.reply_record.as_slice());
    fields
}

fn reply_fields(reply: &MapReply) -> Fields {
    let mut fields = Fields::from([
        ("lisp.type", "2".to_owned()),
        ("lisp.records", reply.records.len().to_string()),
        ("lisp.mrep.flags.probe", flag(reply.probe)),
        ("lisp.mrep.flags.enlr", flag(reply.echo_nonce)),
        ("lisp.mrep.flags.sec", flag(reply.security.is_some())),
    ]);
    let eids: Vec<_> = reply.records.iter().map(|record| (record.eid.instance, record.eid.prefix.address())).collect();
    add_instances(&mut fields, &eids);
    add_mappings(&mut fields, &reply.records);
    fields
}

fn register_fields(register: &MapRegister) -> Fields {
    let mut fields = Fields::from([
        ("lisp.type", "3".to_owned()),
        ("lisp.records", register.records.len().to_string()),
        ("lisp.mreg.flags.pmr", flag(register.proxy)),
        ("lisp.mreg.flags.sec", flag(register.security)),
        ("lisp.mreg.flags.xtrid", flag(register.xtr.is_some())),
        ("lisp.mreg.flags.wmn", flag(register.want_notify)),
    ]);
    let given = &register.authentication;
    fields.insert("lisp.keyid", format!("{:#06x}", u16::from_be_bytes([given.key_id, given.algorithm])));
    fields.insert("lisp.authlen", given.data.len().to_string());
    if let Some(xtr) = register.xtr {
        fields.insert("lisp.xtrid", xtr.xtr_id.iter().map(|octet| format!("{octet:02x}")).collect());
        fields.insert("lisp.siteid", format!("{:016x}", xtr.site_id));
    }
    add_mappings(&mut fields, &register.records);
    fields
}

fn notify_fields(notify: &MapNotify) -> Fields {
    let alike = MapRegister {
        nonce: notify.nonce,
        authentication: notify.authentication.clone(),
        records: notify.records.clone(),
        xtr: notify.xtr,
        ..MapRegister::default()
    };
    let mut fields = register_fields(&alike);
    fields.insert("lisp.type", if notify.ack { "5" } else { "4" }.to_owned());
    fields.insert("lisp.nonce", format!("{:#018x}", notify.nonce));
    fields.insert("lisp.mnot.flags.xtrid", flag(notify.xtr.is_some()));
    fields
}

fn info_fields(info: &Info) -> Fields {
    let mut fields = Fields::from([
        ("lisp.type", "7".to_owned()),
        ("lisp.info.r", flag(info.reply.is_some())),
        ("lisp.info.ttl", info.ttl.to_string()),
        ("lisp.info.prefix.masklen", info.eid.prefix.length().to_string()),
        ("lisp.info.prefix.ipv4", info.eid.prefix.address().to_string()),
    ]);
    if let Some(told) = &info.reply {
        let address = |address: Option<IpAddr>| 2 + address.map_or(0, |address| if address.is_ipv4() { 4 } else { 16 });
        let named = [Some(told.etr), told.map_server, told.private_etr];
        let rtrs = told.rtrs.iter().copied().map(Some);
        let length: usize = named.into_iter().chain(rtrs).map(address).sum();
        fields.extend([
            ("lisp.lcaf.type", "7".to_owned()),
            ("lisp.lcaf.length", (4 + length).to_string()),
            ("lisp.lcaf.natt.msport", told.map_server_port.to_string()),
            ("lisp.lcaf.natt.etrport", told.etr_port.to_string()),
        ]);
    }
    fields
}

fn add_mappings(fields: &mut Fields, records: &[Mapping]) {
    let each = |field: fn(&Mapping) -> String| join(records.iter().map(field));
    fields.extend([
        ("lisp.mapping.ttl", each(|mapping| mapping.ttl.to_wire().to_string())),
        ("lisp.mapping.loccnt", each(|mapping| mapping.locators.len().to_string())),
        ("lisp.mapping.eid.masklen", each(|mapping| mapping.eid.prefix.length().to_string())),
        ("lisp.mapping.act", each(|mapping| mapping.action.bits().to_string())),
        ("lisp.mapping.auth", each(|mapping| flag(mapping.authoritative))),
        ("lisp.mapping.ver", each(|mapping| mapping.version.to_string())),
    ]);
    let eids: Vec<IpAddr> = records.iter().map(|mapping| mapping.eid.prefix.address()).collect();
    add_addresses(fields, "lisp.mapping.eid.ipv4", "lisp.mapping.eid.ipv6", &eids);
    let locators = || records.iter().flat_map(|mapping| &mapping.locators);
    let each = |field: fn(&Locator) -> String| join(locators().map(field));
    fields.extend([
        ("lisp.loc.priority", each(|locator| locator.priority.to_string())),
        ("lisp.loc.weight", each(|locator| locator.weight.to_string())),
        ("lisp.loc.multicast_priority", each(|locator| locator.multicast_priority.to_string())),
        ("lisp.loc.flags.local", each(|locator| flag(locator.local))),
        ("lisp.loc.flags.probe", each(|locator| flag(locator.probed))),
        ("lisp.loc.flags.reach", each(|locator| flag(locator.reachable))),
        ("lisp.loc.afi", each(|locator| if locator.address.is_ipv4() { "1".into() } else { "2".into() })),
    ]);
    if locators().any(|locator| locator.hop.is_some_and(Hop::is_alternative)) {
        fields.insert("lisp.lcaf.type", "1".to_owned());
        let addresses: Vec<IpAddr> = locators().map(|locator| locator.address).collect();
        let length: usize = addresses.iter().map(|address| if address.is_ipv4() { 2 + 4 } else { 2 + 16 }).sum();
        fields.insert("lisp.lcaf.length", length.to_string());
        add_addresses(fields, "lisp.lcaf.afi_list.ipv4", "lisp.lcaf.afi_list.ipv6", &addresses);
        return;
    }
    let stops: Vec<(&Locator, u8)> = locators().filter_map(|stop| Some((stop, stop.hop?.bits()))).collect();
    if stops.is_empty() {
        return;
    }
    let each = |field: fn(&Locator, u8) -> String| join(stops.iter().map(|(stop, bits)| field(stop, *bits)));
    fields.extend([
        ("lisp.lcaf.type", "10".to_owned()),
        ("lisp.lcaf.elp_hop.ipv4", each(|stop, _| stop.address.to_string())),
        ("lisp.lcaf.elp_hop.flags.local", each(|_, bits| flag(bits & 4 != 0))),
        ("lisp.lcaf.elp_hop.flags.probe", each(|_, bits| flag(bits & 2 != 0))),
        ("lisp.lcaf_elp_hop.flags.strict", each(|_, bits| flag(bits & 1 != 0))),
    ]);
}
