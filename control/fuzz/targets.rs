//! What is asserted of any octets whatsoever; shared by the fuzz targets here and by `tests/fuzz_smoke.rs`.
//!
//! Nothing panics, and what can be read can be written and reads back as the same value. A target tells whether there was
//! anything it could read, so that a run that reaches nothing shows.

use std::{
    net::IpAddr,
    time::{Duration, Instant, UNIX_EPOCH},
};

use altitude_control::{
    alt::{
        bgp::{
            message::{self as bgp_message, Context, Splitter},
            peer::{ConnectionId, Peer, PeerInput, PeerOutput},
            route::{PeerId, Update},
            settings::{NeighborSettings, Settings},
        },
        tunnels::TunnelId,
    },
    api::{
        self, AltStatus, Asker, BATCH_MAX, Counts, Done, Entry, Event, Failed, Flags, Header, MESSAGE_MAX, Operation,
        Origin, Outcome, PortStatus, Refused, Rights, Router, Session, Table, View,
    },
    lisp_sec::keys::{OneTimeKey, SharedKey},
    wire::{
        Algorithm, Key, Message, Translation, data_map_notify,
        ecm::Ecm,
        gre::GreHeader,
        lisp_sec::{EidData, Hash, ReplyData, RequestData},
        packet::UdpPacket,
    },
};
use altitude_dataplane::{
    mapping::{Action, EidPrefix, InstanceId, Mapping, Ttl},
    wire::{
        checksum,
        ipv4::Ipv4Header,
        ipv6::{self, Ipv6Header},
        udp::UdpHeader,
    },
};

/// A name, and what it does with any octets: whether it could read them.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// Targets that read LISP's messages and packets.
pub(crate) const ALL: &[Target] =
    &[("message", message), ("packet", packet), ("gre", gre), ("ecm", ecm), ("data_map_notify", data_map_notify)];

/// Targets that read what a client of the mapping API sends.
pub(crate) const API: &[Target] = &[("api", api)];

/// Targets that read what a BGP neighbour sends.
pub(crate) const BGP: &[Target] = &[("bgp", bgp), ("bgp_peer", bgp_peer)];

/// A map-cache of one mapping, which takes each operation for done.
struct Obedient {
    entry: Entry,
    /// The last one, as it came.
    asked: Option<Operation>,
}

impl View for Obedient {
    fn generation(&self) -> u64 {
        1
    }

    fn entries(&self, _: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new([self.entry.clone()].into_iter())
    }

    fn counts(&self) -> Vec<Counts> {
        Vec::new()
    }

    fn ports(&self) -> Vec<PortStatus> {
        Vec::new()
    }

    fn alt(&self) -> AltStatus {
        AltStatus::default()
    }
}

impl Router for Obedient {
    fn view(&self) -> &dyn View {
        self
    }

    fn perform(&mut self, _: Asker, operation: Operation) -> Result<Outcome, Refused> {
        if let Operation::Add(offer) | Operation::Change { offer, .. } = &operation {
            assert_eq!(offer.check(), Ok(()), "what makes no sense is refused before");
        }
        self.asked = Some(operation);
        Ok(Outcome::Done(Done { entry: Some(self.entry.clone()), count: 1 }))
    }

    fn perform_all(&mut self, asker: Asker, operations: Vec<Operation>) -> Result<Done, Failed> {
        assert!((1..=BATCH_MAX).contains(&operations.len()), "no more than may be");
        for operation in operations {
            let changes = matches!(operation, Operation::Add(_) | Operation::Change { .. } | Operation::Delete { .. });
            assert!(changes, "nothing else comes in a batch");
            let _ = self.perform(asker, operation);
        }
        Ok(Done::default())
    }

    fn try_all(&mut self, operations: Vec<Operation>, ahead: i32) -> Result<i32, Failed> {
        assert!((1..=BATCH_MAX).contains(&operations.len()), "no more than may be");
        Ok(ahead)
    }
}

/// Reads a request of the mapping API, with its length put right.
pub(crate) fn api(octets: &[u8]) -> bool {
    let mut request = octets.to_vec();
    if let Some(length) = request.get_mut(4..8) {
        length.copy_from_slice(&(octets.len() as u32).to_le_bytes());
    }
    let prefix = "2.2.0.0/16".parse().expect("a prefix");
    let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix };
    let mapping = Mapping::negative(eid, Ttl::ReceiverDecides, Action::Drop);
    let entry = Entry::new(Table::Cache, &mapping, Origin::Api, UNIX_EPOCH, |_| false);
    let mut router = Obedient { entry, asked: None };
    let mut replies = Vec::new();
    // Whoever may only read is told the same, and changes nothing.
    let mut reader = Session::new(Asker(1), Rights::Read);
    api::handle(&request, &mut router, &mut reader, &mut replies);
    assert!(router.asked.is_none(), "a reader changes nothing");
    let mut session = Session::new(Asker(2), Rights::Write);
    api::handle(&request, &mut router, &mut session, &mut replies);
    replies.extend(std::iter::from_fn(|| api::next_page(&router, &mut session)));
    replies.extend(batch(&request, &mut router, &mut session));
    let mut done = false;
    for reply in &replies {
        let (header, body) = Header::split(reply).expect("a reply can be read");
        assert!(header.flags.has(Flags::REPLY) && reply.len() <= MESSAGE_MAX);
        // As an event it is read or refused.
        let _ = Event::read(&header, body);
        done |= header.errno == 0;
    }
    if let Ok((header, body)) = Header::split(&request)
        && let Ok(event) = Event::read(&header, body)
    {
        let flags = event.flags();
        let again = Header { flags, ..header }.message(&event.body());
        let (header, body) = Header::split(&again).expect("what was written");
        assert_eq!(Event::read(&header, body), Ok(event));
        done = true;
    }
    done
}

/// The same request twice as a batch: one reply, or none to what is no message.
fn batch(request: &[u8], router: &mut Obedient, session: &mut Session) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    let Ok((asked, body)) = Header::split(request) else { return replies };
    // Ends the run that it may have begun.
    let last = Header { flags: Flags::ATOMIC, ..asked };
    api::handle(&last.message(body), router, session, &mut replies);
    replies.clear();
    let first = Header { flags: Flags::ATOMIC.with(Flags::MORE), ..asked };
    api::handle(&first.message(body), router, session, &mut replies);
    assert!(replies.is_empty(), "only the last one is answered");
    api::handle(&last.message(body), router, session, &mut replies);
    assert_eq!(replies.len(), 1, "a batch has one answer");
    replies
}

/// Reads a control message.
pub(crate) fn message(octets: &[u8]) -> bool {
    let Ok(read) = Message::parse(octets) else { return false };
    let again = match &read {
        Message::MapRequest(request) => {
            assert!(request.itr_rlocs.len() <= 32 && !request.records.is_empty());
            request.encode()
        }
        Message::MapReply(reply) => {
            let _ = reply.probe_is_authoritative();
            reply.security.as_deref().map(reply_data);
            reply.encode()
        }
        Message::MapRegister(register) => {
            let key = [Key::new(register.authentication.key_id, Algorithm::Sha256Hkdf, b"secret")];
            assert!(register.verify(octets, &key).is_err(), "nobody guesses a MAC");
            register.encode()
        }
        Message::MapNotify(notify) => {
            let key = [Key::new(notify.authentication.key_id, Algorithm::Sha1, b"secret")];
            assert!(notify.verify(octets, &key).is_err(), "nobody guesses a MAC");
            notify.encode()
        }
        Message::Info(info) => {
            let key = [Key::new(info.authentication.key_id, Algorithm::Sha256, b"secret")];
            assert!(info.verify(octets, &key).is_err(), "nobody guesses a MAC");
            assert!(info.reply.as_ref().is_none_or(|told| told.rtrs.len() <= Translation::RTRS_MAX));
            info.encode()
        }
        Message::Other(_) => return false,
    };
    assert!(again.len() <= octets.len(), "nothing is added");
    assert_eq!(Message::parse(&again), Ok(read));
    true
}

/// Reads the authentication data of a Map-Reply.
fn reply_data(octets: &[u8]) {
    let Ok(data) = ReplyData::parse(octets) else { return };
    eid_data(&data.eids);
    if let Some((hmac, mac)) = data.packet {
        let key = OneTimeKey::new(*b"sixteen octets !");
        let hash = Hash::of_id(hmac).unwrap_or(Hash::Sha256);
        assert!(!key.verifies(hash, octets, mac), "nobody guesses a MAC");
    }
}

fn eid_data(eids: &EidData<'_>) {
    let mac = eids.signed.as_ref().map_or(0, |signed| signed.mac.len());
    assert_eq!(eids.covered().len() + mac, eids.octets().len());
}

/// Reads an ECM, as it is and with the inner checksums put right.
pub(crate) fn ecm(octets: &[u8]) -> bool {
    let as_it_is = checked_ecm(octets);
    let repaired = octets.get(4..).and_then(with_checksums);
    repaired.is_some_and(|inner| checked_ecm(&[&octets[..4], &inner].concat())) || as_it_is
}

fn checked_ecm(octets: &[u8]) -> bool {
    let _ = altitude_control::map_resolver::open(octets);
    let Ok(ecm) = Ecm::parse(octets) else { return false };
    let again = ecm.encode();
    assert!(again.len() <= octets.len(), "nothing is added");
    assert_eq!(Ecm::parse(&again), Ok(ecm));
    let key = [Key::new(octets.get(8).copied().unwrap_or(0), Algorithm::Sha256, b"secret")];
    assert!(!matches!(ecm.verify(octets, &key), Some(Ok(_))), "nobody guesses a MAC");
    if let Some(Ok(data)) = ecm.security().map(RequestData::parse) {
        let key = SharedKey::new(data.key_id, b"secret");
        assert!(OneTimeKey::unwrapped(1, &data.wrapped, &key).is_err(), "nobody guesses a wrapping");
        eid_data(&data.eids);
        let again = data.encode();
        assert_eq!(RequestData::parse(&again), Ok(data));
    }
    message(ecm.datagram.payload);
    true
}

/// Reads what came to port 4341 as a Data-Map-Notify: a data packet's header, then as it is and with the inner checksums put
/// right. A header of another instance gets the right one, for hardly any has it.
pub(crate) fn data_map_notify(octets: &[u8]) -> bool {
    let _ = data_map_notify::parse(octets);
    let Some(inner) = octets.get(8..) else { return false };
    let repaired = with_checksums(inner).unwrap_or_else(|| inner.to_vec());
    let octets = data_map_notify::encode(&repaired);
    let Ok(packet) = data_map_notify::parse(&octets) else { return false };
    assert_eq!(UdpPacket::parse(&repaired), Ok(packet));
    message(packet.payload);
    true
}

/// Reads an ALT datagram, as it is and with its checksums put right, for hardly any octets have right ones.
pub(crate) fn packet(octets: &[u8]) -> bool {
    let as_it_is = checked_packet(octets);
    with_checksums(octets).is_some_and(|repaired| checked_packet(&repaired)) || as_it_is
}

fn checked_packet(octets: &[u8]) -> bool {
    let Ok(packet) = UdpPacket::parse(octets) else { return false };
    let again = packet.encode();
    assert_eq!(UdpPacket::parse(&again), Ok(packet));
    message(packet.payload);
    true
}

/// The packet with right IPv4 header and UDP checksums, if there are such headers.
fn with_checksums(octets: &[u8]) -> Option<Vec<u8>> {
    let mut repaired = octets.to_vec();
    let (source, destination, at) = match octets.first()? >> 4 {
        4 => {
            let (header, _) = Ipv4Header::split(octets).ok()?;
            header.write(&mut repaired);
            (header.source.into(), header.destination.into(), header.length())
        }
        6 => {
            let (header, payload) = Ipv6Header::split(octets).ok()?;
            let found = ipv6::transport(header.next_header, payload)?;
            (header.source.into(), header.destination.into(), Ipv6Header::LENGTH + found.offset)
        }
        _ => return None,
    };
    let (mut udp, data) = UdpHeader::split(&octets[at..]).ok()?;
    udp.checksum = udp.compute(source, destination, data);
    udp.write(&mut repaired[at..]);
    Some(repaired)
}

/// Reads a packet of the ALT's tunnels, as it is and with its checksum put right.
pub(crate) fn gre(octets: &[u8]) -> bool {
    let as_it_is = checked_gre(octets);
    if octets.len() >= 8 && octets[0] & 0x80 != 0 {
        let mut repaired = octets.to_vec();
        repaired[4..6].fill(0);
        let sum = checksum::checksum(&repaired);
        repaired[4..6].copy_from_slice(&sum.to_be_bytes());
        return checked_gre(&repaired);
    }
    as_it_is
}

fn checked_gre(octets: &[u8]) -> bool {
    let Ok((header, payload)) = GreHeader::split(octets) else { return false };
    let again = header.encode(payload);
    assert_eq!(again.len(), octets.len());
    assert_eq!(GreHeader::split(&again), Ok((header, payload)));
    packet(payload);
    true
}

/// We are AS 64512 at 10.42.1.1/30 and fd00::1/64, the neighbour AS 64513 at 10.42.1.2.
pub(crate) fn bgp_settings() -> Settings {
    let [local, remote]: [IpAddr; 2] = [[10, 42, 1, 1].into(), [10, 42, 1, 2].into()];
    let mut neighbor = NeighborSettings::new(TunnelId(0), local, 30, remote, 64513);
    neighbor.tunnel_addresses.push(([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), 64));
    neighbor.passive = true;
    Settings { asn: 64512, router_id: [10, 0, 0, 1].into(), neighbors: vec![neighbor], ..Settings::default() }
}

/// Reads a run of BGP messages, with AS numbers of either width.
pub(crate) fn bgp(octets: &[u8]) -> bool {
    let context = Context::new(64512, &bgp_settings().neighbors[0]);
    let narrow = Context { four_octet: false, ..context.clone() };
    bgp_with(octets, &narrow) | bgp_with(octets, &context)
}

fn bgp_with(octets: &[u8], context: &Context) -> bool {
    let mut splitter = Splitter::default();
    splitter.push(octets);
    let mut any = false;
    while let Some(Ok(framed)) = splitter.next() {
        let Ok(parsed) = bgp_message::parse(framed, context) else { continue };
        assert!(parsed.faults.len() <= framed.len());
        let Some(message) = parsed.message else { continue };
        any = true;
        let mut again = Vec::new();
        let sendable = bgp_message::encode(&message, context, &mut again).is_ok();
        let read = messages(&again, context);
        let bgp_message::Message::Update(update) = message else {
            assert_eq!(read, [message]);
            continue;
        };
        if context.four_octet {
            assert!(sendable, "it has just fitted");
            let parts = read.into_iter().map(|message| match message {
                bgp_message::Message::Update(part) => part,
                other => panic!("{other:?} of an UPDATE"),
            });
            let parts: Vec<Update> = parts.collect();
            assert_eq!(routes(parts.iter()), routes([&update].into_iter()));
            assert!(parts.iter().all(|part| part.attributes.is_none() || part.attributes == update.attributes));
        }
    }
    any
}

/// Messages in octets that we wrote.
fn messages(octets: &[u8], context: &Context) -> Vec<bgp_message::Message> {
    let mut splitter = Splitter::default();
    splitter.push(octets);
    let mut all = Vec::new();
    while let Some(framed) = splitter.next() {
        let parsed = bgp_message::parse(framed.expect("framed by us"), context).expect("written by us");
        assert_eq!(parsed.faults, []);
        all.extend(parsed.message);
    }
    all
}

/// Every route withdrawn (without a next hop) and announced.
fn routes<'a>(updates: impl Iterator<Item = &'a Update>) -> Vec<String> {
    let mut all = Vec::new();
    for update in updates {
        all.extend(update.withdrawn.iter().map(|prefix| format!("{prefix}")));
        for (next_hop, prefixes) in &update.announced {
            all.extend(prefixes.iter().map(|prefix| format!("{prefix} by {next_hop}")));
        }
    }
    all.sort_unstable();
    all
}

/// A neighbour that says these octets after as much of a session as the first octet tells, in pieces as long as the second does.
pub(crate) fn bgp_peer(octets: &[u8]) -> bool {
    let (&[stage, piece], octets) = octets.split_first_chunk::<2>().unwrap_or((&[0, 0], octets));
    let settings = bgp_settings();
    let begun = Instant::now();
    let mut peer = Peer::new(&settings, PeerId(0), begun, 1);
    let mut rig = Rig { now: begun, closed: Vec::new() };
    rig.step(&mut peer, PeerInput::Start);
    let connection = peer.admit().expect("welcome");
    rig.step(&mut peer, PeerInput::Accepted(connection));
    let [open, keepalive] = greeting();
    if stage % 3 >= 1 {
        rig.step(&mut peer, PeerInput::Octets(connection, &open));
    }
    if stage % 3 == 2 {
        rig.step(&mut peer, PeerInput::Octets(connection, &keepalive));
        assert!(peer.session().is_some());
    }
    let before = peer.status().received;
    for piece in octets.chunks(usize::from(piece).max(1)) {
        rig.step(&mut peer, PeerInput::Octets(connection, piece));
    }
    let any = peer.status().received != before;
    rig.step(&mut peer, PeerInput::Closed(connection));
    // Whatever it was, the next attempt is a good one.
    let end = rig.now + Duration::from_secs(600);
    while let Some(due) = peer.due().filter(|due| *due <= end) {
        rig.now = rig.now.max(due);
        rig.step(&mut peer, PeerInput::Wake);
    }
    let connection = peer.admit().expect("welcome again");
    rig.step(&mut peer, PeerInput::Accepted(connection));
    rig.step(&mut peer, PeerInput::Octets(connection, &open));
    rig.step(&mut peer, PeerInput::Octets(connection, &keepalive));
    assert!(peer.session().is_some(), "a session again");
    any
}

struct Rig {
    now: Instant,
    closed: Vec<ConnectionId>,
}

impl Rig {
    fn step(&mut self, peer: &mut Peer, input: PeerInput<'_>) {
        let mut todo = Vec::new();
        peer.step(self.now, input, &mut todo);
        for output in todo {
            match output {
                PeerOutput::Write(connection, _) => assert!(!self.closed.contains(&connection)),
                PeerOutput::Close(connection) => {
                    assert!(!self.closed.contains(&connection), "closed once");
                    self.closed.push(connection);
                }
                _ => {}
            }
        }
    }
}

/// OPEN and KEEPALIVE of the neighbour.
fn greeting() -> [Vec<u8>; 2] {
    let open = bgp_message::Open {
        asn: 64513,
        hold: 90,
        router_id: [10, 0, 0, 2].into(),
        families: bgp_settings().neighbors[0].families,
        route_refresh: true,
        enhanced_refresh: true,
        graceful: Some(bgp_message::Graceful { restarting: false, time: 120, families: vec![] }),
        four_octet: true,
    };
    let context = Context::new(64512, &bgp_settings().neighbors[0]);
    [bgp_message::Message::Open(open), bgp_message::Message::Keepalive].map(|message| {
        let mut octets = Vec::new();
        bgp_message::encode(&message, &context, &mut octets).expect("sendable");
        octets
    })
}
