//! Control messages at the door of a running router: what is let in, what is not, and which counter says so.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use altitude_control::{
    os::{control_socket::CONTROL_PORT, ip_socket::IpSocket},
    wire::{MapReply, MapRequest, Message, packet::UdpPacket},
};
use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use altitude_perf::lab::{self, Lab, Router, SITES};
use serde_json::Value;

/// Far more than an answer takes; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(20);
const MESSAGE_MAX: usize = 2048;

/// Who asks: each Map-Request has an ITR-RLOC of its own, so that none meets a rate.
fn itr_rloc(number: u8) -> Ipv4Addr {
    [240, 0, 254, 100 + number].into()
}

/// A Map-Request for site 1's host; its nonce is its number.
fn request(number: u8) -> Vec<u8> {
    let host = Eid { instance: InstanceId::DEFAULT, address: SITES[0].host.0.into() };
    MapRequest::lookup(number.into(), None, &[itr_rloc(number).into()], EidPrefix::host(host)).encode()
}

/// Changes one octet.
fn with(mut message: Vec<u8>, at: usize, change: impl FnOnce(&mut u8)) -> Vec<u8> {
    change(&mut message[at]);
    message
}

/// Sockets of the ITR that asks.
struct Asker {
    /// Port 4342 of all its addresses.
    control: UdpSocket,
    /// Another port of all of them.
    other: UdpSocket,
    raw: IpSocket,
    router: SocketAddr,
}

impl Asker {
    fn new(lab: &Lab) -> Self {
        for number in 0..60 {
            lab.xtrs[1].ip(&format!("address add {}/24 dev core", itr_rloc(number))).unwrap();
        }
        let any = Ipv4Addr::UNSPECIFIED;
        let open =
            move || (UdpSocket::bind((any, CONTROL_PORT)), UdpSocket::bind((any, 0)), IpSocket::open(any.into()));
        let (control, other, raw) = lab.xtrs[1].inside(open).unwrap();
        let asker = Self {
            control: control.unwrap(),
            other: other.unwrap(),
            raw: raw.unwrap(),
            router: (SITES[0].rloc.0, CONTROL_PORT).into(),
        };
        for socket in [&asker.control, &asker.other] {
            socket.set_read_timeout(Some(LIMIT)).unwrap();
        }
        asker
    }

    fn send(&self, message: &[u8]) {
        self.control.send_to(message, self.router).unwrap();
    }

    /// The next Map-Reply at this socket: its nonce, and its octets without.
    fn answer(&self, socket: &UdpSocket) -> (u64, Vec<u8>) {
        let mut octets = [0; MESSAGE_MAX];
        let (length, from) = socket.recv_from(&mut octets).expect("an answer");
        assert_eq!(from, self.router);
        let Ok(Message::MapReply(reply)) = Message::parse(&octets[..length]) else {
            panic!("{:x?}", &octets[..length])
        };
        (reply.nonce, [&octets[..4], &octets[12..length]].concat())
    }

    /// Asks with a good Map-Request; nothing but the answer to it may come.
    fn assert_next(&self, number: u8) -> Vec<u8> {
        self.send(&request(number));
        let (nonce, answer) = self.answer(&self.control);
        assert_eq!(nonce, u64::from(number), "something before it was answered");
        answer
    }
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    json["control"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// G-1, G-3, G-4, G-6, ETR-11, ITR-23, ITR-36, MS-9.
#[test]
fn what_is_let_in_and_what_is_not() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let [v4, v6] = SITES[0].eid_prefixes();
    let flags = format!(
        "--site-port site --core-port core --rloc {} --eid-prefix {v4} --eid-prefix {v6} --map-resolver 240.0.254.40 --workers 0",
        SITES[0].rloc.0
    );
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let router = Router::start("xtr1", &lab.xtrs[0], &flags, lab.folder()).unwrap();
    let asker = Asker::new(&lab);
    let answer = asker.assert_next(0);

    // From any port, and back to that port.
    asker.other.send_to(&request(1), asker.router).unwrap();
    assert_eq!(asker.answer(&asker.other), (1, answer.clone()));

    // Reserved bits of the message and of its record, each in turn.
    let mut number = 2;
    for (at, bits) in [(1, 0x2f_u8), (2, 0x80), (20, 0x7f)] {
        for bit in (0..8).map(|shift| 1 << shift).filter(|bit| bits & bit != 0) {
            asker.send(&with(request(number), at, |octet| *octet |= bit));
            assert_eq!(asker.answer(&asker.control), (number.into(), answer.clone()), "octet {at} bit {bit:#04x}");
            number += 1;
        }
    }

    // What a request says of its sender's own mapping is not believed.
    let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: "9.9.0.0/16".parse().unwrap() };
    let own = Mapping {
        locators: vec![Locator::unicast(itr_rloc(number).into(), 1, 100)],
        ..Mapping::negative(eid, Ttl::Minutes(1440), Action::NoAction)
    };
    let Ok(Message::MapRequest(plain)) = Message::parse(&request(number)) else { unreachable!("it was just written") };
    asker.send(&MapRequest { reply_record: Some(own.clone()), ..plain }.encode());
    assert_eq!(asker.answer(&asker.control), (number.into(), answer.clone()));
    // Nor is a Map-Reply that nobody asked for.
    let reply = MapReply { nonce: 7, probe: false, echo_nonce: false, records: vec![own], security: None };
    asker.send(&reply.encode());
    number += 1;
    assert_eq!(asker.assert_next(number), answer);
    assert_eq!(counter(&router, "reply-nonce-unknown"), 1);
    let known = router.show(&["map-cache"]).unwrap();
    assert!(!known.contains("9.9.0.0"), "{known}");
    number += 1;

    // Families of addresses that nobody knows; half a message; a type that is not spoken.
    let whole = request(number);
    for (at, octet) in [(12, 0x12), (14, 0x12), (22, 0x12)] {
        asker.send(&with(whole.clone(), at, |afi| *afi = octet));
    }
    asker.send(&whole[..whole.len() - 1]);
    asker.send(&with(whole.clone(), 0, |kind| *kind = 0xb0));
    assert_eq!(asker.assert_next(number), answer);
    assert_eq!((counter(&router, "control-malformed"), counter(&router, "control-unknown-type")), (4, 1));

    // A wrong UDP checksum, and none.
    number += 1;
    let source = SocketAddr::new(itr_rloc(number).into(), CONTROL_PORT);
    let packet = UdpPacket { source, destination: asker.router, ttl: 64, payload: &request(number) }.encode();
    let checksum = 26..28;
    let without = [&packet[..checksum.start], &[0, 0], &packet[checksum.end..]].concat();
    for packet in [with(packet, checksum.start, |octet| *octet ^= 1), without] {
        asker.raw.send(IpAddr::from(SITES[0].rloc.0), &packet).unwrap();
    }
    let before = counter(&router, "map-requests-received");
    assert_eq!(asker.assert_next(number + 1), answer);
    assert_eq!(counter(&router, "map-requests-received"), before + 1, "nobody but the kernel saw them");
    assert_eq!(counter(&router, "control-malformed"), 4);
}
