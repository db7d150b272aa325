use super::*;
use crate::wire::Algorithm;

fn inner() -> Vec<u8> {
    let (source, destination) = ("203.0.113.1:61000".parse().unwrap(), "198.51.100.20:4342".parse().unwrap());
    UdpPacket { source, destination, ttl: 64, payload: &[1, 2, 3] }.encode()
}

#[test]
fn octets_and_value() {
    let inner = inner();
    let plain = encapsulate(&inner);
    let read = Ecm::parse(&plain).unwrap();
    assert_eq!(
        read,
        Ecm { ddt: false, for_rtr: false, relayed: false, proof: None, packet: &inner, datagram: read.datagram }
    );
    assert_eq!(read.datagram.payload, &[1, 2, 3]);
    assert_eq!(read.encode(), plain);
    // The reserved bits say nothing; what lies behind the inner packet is no part of it.
    let mut odd = [&plain[..], &[9; 5]].concat();
    odd[..4].copy_from_slice(&[0x80, 0xff, 0xff, 0xff]);
    assert_eq!(Ecm::parse(&odd), Ok(read));
    for length in 0..plain.len() {
        assert!(Ecm::parse(&plain[..length]).is_err(), "cut to {length}");
    }
    assert!(Ecm::parse(&[&[0x10, 0, 0, 0], &inner[..]].concat()).is_err(), "another type");
}

/// RTR-3, RTR-5: the bits that tell an RTR's from a Map-Server's.
#[test]
fn flags_one_by_one() {
    let inner = inner();
    let flags = |octets: &[u8]| {
        let read = Ecm::parse(octets).unwrap();
        assert_eq!(read.encode(), octets);
        (octets[0], read.ddt, read.for_rtr, read.relayed)
    };
    assert_eq!(flags(&encapsulate_for_rtr(&inner)), (0x82, false, true, false));
    assert_eq!(flags(&encapsulate_relayed(&inner)), (0x81, false, false, true));
    assert_eq!(flags(&[&[0x84, 0, 0, 0], &inner[..]].concat()), (0x84, true, false, false));
}

#[test]
fn authentication_data_are_stepped_over_by_their_lengths() {
    let inner = inner();
    let with = |ad: &[u8]| [&[0x88, 0, 0, 0], ad, &inner].concat();
    let otk = [7; 24];
    for (length, eid_ad) in [(24_u8, &[0, 4, 0, 2][..]), (28, &[0, 4, 0, 2]), (24, &[0, 8, 0, 2, 1, 0, 0, 2])] {
        let ad = [&[1, 0, 0, 2, 0, length, 1, 2], &otk[..], eid_ad].concat();
        let message = with(&ad);
        let read = Ecm::parse(&message).unwrap();
        assert_eq!((read.security(), read.packet), (Some(&ad[..]), &inner[..]));
        assert_eq!(read.encode(), message);
        assert_eq!(read.verify(&message, &[]), None, "no Map-Server says anything");
    }
    for wrong in [
        &[3, 0, 0, 0][..],
        &[1, 0, 0, 2, 0, 0, 1, 2, 0, 3, 0, 2],
        &[1, 0, 0, 2, 0xff, 0xff, 1, 2],
        &[2, 0, 0, 0, 1, 2, 0xff, 0xff],
        &[2, 0, 0, 0, 1],
    ] {
        assert!(Ecm::parse(&with(wrong)).is_err(), "{wrong:?}");
    }
}

/// RTR-5, RTR-6: what a Map-Server vouches for, and that nothing of it can be changed.
#[test]
fn a_map_server_vouches_for_a_whole_message() {
    let (source, destination) = ("203.0.113.100:4342".parse().unwrap(), "10.0.0.2:4342".parse().unwrap());
    let notify = [&[0x40, 0, 0, 0][..], &[7; 8], &[0; 4]].concat();
    let inner = UdpPacket { source, destination, ttl: 64, payload: &notify }.encode();
    for (algorithm, length) in Algorithm::ALL.into_iter().zip([12, 16, 16]) {
        let key = [Key::new(5, algorithm, b"between MS and RTR")];
        let octets = encapsulate_vouched(&key[0], Form::default(), &inner);
        let read = Ecm::parse(&octets).unwrap();
        assert_eq!(octets[..12], [0x8a, 0, 0, 0, 2, 0, 0, 0, 5, algorithm.number(), 0, length]);
        assert_eq!((read.for_rtr, read.relayed, read.packet), (true, false, &inner[..]));
        assert_eq!((read.security(), read.encode()), (None, octets.clone()));
        assert_eq!(read.verify(&octets, &key), Some(Ok(&key[0])));
        // What lies behind the inner packet is no part of it.
        let longer = [&octets[..], &[1, 2]].concat();
        assert_eq!(Ecm::parse(&longer).unwrap().verify(&longer, &key), Some(Ok(&key[0])));
        for at in 0..octets.len() {
            let mut forged = octets.clone();
            forged[at] ^= 1;
            let Ok(read) = Ecm::parse(&forged) else { continue };
            assert!(!matches!(read.verify(&forged, &key), Some(Ok(_))), "octet {at}");
        }
        let wrong = |key| read.verify(&octets, &[key]).unwrap().unwrap_err();
        assert_eq!(wrong(Key::new(5, algorithm, b"another")), AuthenticationError::Mac);
        assert_eq!(wrong(Key::new(6, algorithm, b"between MS and RTR")), AuthenticationError::UnknownKey(5));
    }
    // The derived key differs with the nonce inside: one message's MAC is not another's.
    let key = Key::new(5, Algorithm::Sha256Hkdf, b"between MS and RTR");
    let other = [&[0x40, 0, 0, 0][..], &[8; 8], &[0; 4]].concat();
    let other = UdpPacket { source, destination, ttl: 64, payload: &other }.encode();
    let [first, second] = [&inner, &other].map(|inner| encapsulate_vouched(&key, Form::default(), inner));
    assert_ne!(first[12..28], second[12..28]);
}
