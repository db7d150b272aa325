//! What everybody does with the vectors' keys, from end to end.

use std::net::IpAddr;

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Ttl};

use super::{
    SecurityFault,
    asking::{Asking, Sealed},
    gate::{Client, Gate, Protection, Server, Settings},
    keys::SharedKey,
};
use crate::wire::{
    MapReply, MapRequest, Message,
    lisp_sec::{EidData, Hash, ReplyData, RequestData},
};

const NONCE: u64 = 0x0a0b_0c0d_0e0f_1011;
const ITR: &str = "203.0.113.1";

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn host(text: &str) -> Eid {
    Eid { instance: InstanceId::DEFAULT, address: text.parse().unwrap() }
}

fn key(id: u8, secret: &str) -> SharedKey {
    SharedKey::new(id, secret.as_bytes())
}

fn asking(algorithms: &[Hash]) -> Asking {
    Asking { key: key(1, "itr-mr-psk"), algorithms: algorithms.to_vec(), downgrade: false }
}

/// The key of the vectors: two words of it.
fn vectors_key() -> impl FnMut() -> u64 {
    let mut words = [0x0011_2233_4455_6677_u64, 0x8899_aabb_ccdd_eeff].map(u64::from_be).into_iter();
    move || words.next().unwrap()
}

fn sealed(algorithms: &[Hash]) -> (Sealed, Vec<u8>) {
    asking(algorithms).seal(NONCE, 0, &mut vectors_key())
}

fn gate(clients: &[(&str, SharedKey)], site_keys: Vec<SharedKey>, strict: bool) -> Gate {
    let client = |(from, key): &(&str, SharedKey)| {
        let from = if from.is_empty() { vec![] } else { vec![from.parse().unwrap()] };
        Client { from, keys: vec![key.clone()] }
    };
    let clients = clients.iter().map(client).collect();
    Gate::new(Some(Settings { clients, site_keys, servers: vec![], strict }))
}

fn admit(gate: &Gate, octets: &[u8]) -> Protection {
    gate.admit(ITR.parse().unwrap(), NONCE, Some(octets)).unwrap().unwrap()
}

/// The reply of vector P30, not signed.
fn reply() -> MapReply {
    let mut locator = Locator::unicast([203, 0, 113, 2].into(), 1, 100);
    locator.local = true;
    let record = Mapping {
        authoritative: true,
        locators: vec![locator],
        ..Mapping::negative(eid("198.51.100.0/24"), Ttl::Minutes(1440), Action::NoAction)
    };
    MapReply { nonce: NONCE, probe: false, echo_nonce: false, records: vec![record], security: None }
}

/// As the ETR signs it that a Map-Server handed the request to.
fn signed(by_itr: &[u8], cant_sign: bool) -> MapReply {
    let server = gate(&[("", key(1, "itr-mr-psk"))], vec![], false);
    let handed = admit(&server, by_itr).to_etr(NONCE, &key(2, "ms-etr-psk"), eid("198.51.100.0/24"), cant_sign);
    let etr = gate(&[], vec![key(2, "ms-etr-psk")], false);
    let mut reply = reply();
    admit(&etr, &handed).sign_about(&mut reply, host("198.51.100.20"), false);
    reply
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// P30 as the vectors have it.
const P30: &str = "220000010a0b0c0d0e0f1011000005a00118100000000001c63364000164ff0000050001cb007102010000000020000201000002001800\
                   01c63364006c7f92fc9d9b8c4c4d87eb738b1cbd7a001400024dbc02816124ba9f9076cf7ed5ad1292";
/// The authentication data of E04 and E05.
const E04: &str = "01000002001801022a0350ea098a2cfb46684b5ed5467f7777764416124d131f00040002";
const E05: &str = "01000002001802023eb78888a45c193e69b12f6d2578cfade6e75d7f022bed9c00200002010000020018\
                   0001c63364006c7f92fc9d9b8c4c4d87eb738b1cbd7a";

/// SEC-2, SEC-3, SEC-5, SEC-6, G-10: ITR, Map-Server and ETR together make the octets of the vectors.
#[test]
fn everybody_makes_the_vectors_octets() {
    let (sealed, by_itr) = sealed(&[Hash::Sha256]);
    assert_eq!(by_itr, hex(E04));
    let server = gate(&[("", key(1, "itr-mr-psk"))], vec![], false);
    let handed = admit(&server, &by_itr).to_etr(NONCE, &key(2, "ms-etr-psk"), eid("198.51.100.0/24"), false);
    assert_eq!(handed, hex(E05));
    let octets = signed(&by_itr, false).encode();
    assert_eq!(octets, hex(P30));
    let Ok(Message::MapReply(reply)) = Message::parse(&octets) else { panic!("a Map-Reply") };
    let proof = sealed.verify(&reply, &octets).unwrap();
    assert!(proof.signed && !proof.cant_sign && proof.covers(&reply.records[0]));
}

/// SEC-7: no bit of it can be another one; what nobody reads may be.
#[test]
fn no_bit_of_a_signed_reply_can_be_another() {
    let sealed = sealed(&[Hash::Sha256]).0;
    let whole = hex(P30);
    let mut refused = [0; 4];
    for bit in 0..whole.len() * 8 {
        let mut octets = whole.clone();
        octets[bit / 8] ^= 0x80 >> (bit % 8);
        let Ok(Message::MapReply(reply)) = Message::parse(&octets) else {
            refused[0] += 1;
            continue;
        };
        // Another nonce finds no key at all.
        if reply.nonce != NONCE {
            refused[1] += 1;
            continue;
        }
        match sealed.verify(&reply, &octets) {
            Err(SecurityFault::EidMac | SecurityFault::PacketMac) => refused[2] += 1,
            Err(_) => refused[3] += 1,
            Ok(_) => panic!("bit {} of octet {}", bit % 8, bit / 8),
        }
    }
    assert!(refused.iter().all(|count| *count > 0), "{refused:?}");
    assert_eq!(refused[1], 64);
}

/// SEC-7, SEC-12: without S bit, EID-AD or PKT-AD it is nothing, unless a Map-Server says that nobody can sign.
#[test]
fn what_was_stripped_is_refused() {
    let (sealed, by_itr) = sealed(&[Hash::Sha256]);
    let verify = |reply: &MapReply| sealed.verify(reply, &reply.encode());
    assert_eq!(verify(&reply()), Err(SecurityFault::Stripped));
    let with = |security: &[u8]| MapReply { security: Some(security.to_vec()), ..reply() };
    assert_eq!(verify(&with(&[1, 0, 0, 0, 0, 4, 0, 2])), Err(SecurityFault::Stripped));
    assert_eq!(verify(&with(&[9, 9, 9])), Err(SecurityFault::Malformed));
    for (cant_sign, expected) in [(false, Err(SecurityFault::Stripped)), (true, Ok((true, false)))] {
        let security = signed(&by_itr, cant_sign).security.unwrap();
        let eids = ReplyData::parse(&security).unwrap().eids.octets().to_vec();
        let said = verify(&with(&ReplyData::unsigned(&eids, None)));
        assert_eq!(said.map(|proof| (proof.cant_sign, proof.signed)), expected);
    }
    // E = 1 and signed all the same: another ETR cannot.
    let proof = verify(&signed(&by_itr, true)).unwrap();
    assert!(proof.cant_sign && proof.signed);
}

/// SEC-8: answered with another algorithm than was asked for, as somebody does who knows only one.
#[test]
fn another_algorithm_is_refused_and_each_is_kept_to() {
    for hash in [Hash::Sha1, Hash::Sha256] {
        let (sealed, by_itr) = sealed(&[hash]);
        let reply = signed(&by_itr, false);
        assert!(sealed.verify(&reply, &reply.encode()).is_ok(), "{hash:?}");
        let other = if hash == Hash::Sha1 { Hash::Sha256 } else { Hash::Sha1 };
        let (_, asked_otherwise) = self::sealed(&[other]);
        let reply = signed(&asked_otherwise, false);
        assert_eq!(sealed.verify(&reply, &reply.encode()), Err(SecurityFault::Algorithm), "{hash:?}");
    }
    // No preference is answered with the best.
    let mut by_itr = sealed(&[Hash::Sha256]).1;
    for at in [2, 3, 34, 35] {
        by_itr[at] = 0;
    }
    let reply = signed(&by_itr, false);
    assert!(sealed(&[Hash::Sha256]).0.verify(&reply, &reply.encode()).is_ok());
}

/// SEC-9: of the RFC's example one record is left: the first is not granted, the last is wider than what is.
#[test]
fn only_records_within_what_is_granted_count() {
    let sealed = sealed(&[Hash::Sha256]).0;
    let granted = [eid("2001:db8:103::/48"), eid("2001:db8:203::/48")];
    let mut eids = EidData::unsigned(2, Hash::Sha256, false, &granted);
    let octets: [u8; 16] = hex("00112233445566778899aabbccddeeff").try_into().unwrap();
    let itr_otk = super::keys::OneTimeKey::new(octets);
    itr_otk.sign(Hash::Sha256, &mut eids);
    let record = |prefix: &str| Mapping { eid: eid(prefix), ..reply().records[0].clone() };
    let records = ["2001:db8:102::/48", "2001:db8:103::/48", "2001:db8:200::/40"].map(record).to_vec();
    let mut reply = MapReply { records, security: Some(ReplyData::unsigned(&eids, Some(Hash::Sha256))), ..reply() };
    let mut octets = reply.encode();
    itr_otk.derived(Hash::Sha256).sign(Hash::Sha256, &mut octets);
    let Ok(Message::MapReply(read)) = Message::parse(&octets) else { panic!("a Map-Reply") };
    let proof = sealed.verify(&read, &octets).unwrap();
    reply.records.retain(|record| proof.covers(record));
    assert_eq!(reply.records, [record("2001:db8:103::/48")]);
    assert!(proof.covers(&record("2001:db8:203:8000::/49")), "a part of what is granted");
}

/// SEC-2, MR-12: what an ITR may not ask with, and what goes on to a Map-Server: the same key, under theirs.
#[test]
fn keys_are_taken_from_those_who_share_one_and_handed_on_under_another() {
    let by_itr = hex(E04);
    let from = |address: &str| -> IpAddr { address.parse().unwrap() };
    let resolver = gate(&[("203.0.113.0/24", key(1, "itr-mr-psk"))], vec![key(2, "ms-etr-psk")], false);
    let admit_from = |address: &str, octets: &[u8]| resolver.admit(from(address), NONCE, Some(octets));
    let protection = admit_from(ITR, &by_itr).unwrap().unwrap();
    assert_eq!(admit_from("192.0.2.1", &by_itr), Err(SecurityFault::UnknownKey), "not the client's address");
    let mut changed = by_itr.clone();
    for (at, octet, fault) in [
        (6, 9, SecurityFault::UnknownKey),
        (7, 1, SecurityFault::Wrapping), // NULL-KEY-WRAP-128 without DTLS
        (7, 3, SecurityFault::Wrapping),
        (0, 2, SecurityFault::Malformed),
        (20, 0xff, SecurityFault::NotOurKey),
    ] {
        let before = std::mem::replace(&mut changed[at], octet);
        assert_eq!(admit_from(ITR, &changed), Err(fault), "octet {at}");
        changed[at] = before;
    }
    assert_eq!(resolver.admit(from(ITR), NONCE + 1, Some(&by_itr)), Err(SecurityFault::NotOurKey), "another nonce");
    // What has an EID-AD is for an ETR, whoever sends it.
    assert!(admit_from("192.0.2.1", &hex(E05)).unwrap().is_some());

    let onward = protection.onward(NONCE, &key(7, "mr-ms-psk"));
    let data = RequestData::parse(&onward).unwrap();
    assert_eq!((data.hmac, data.key_id, data.wrapping, data.eids.octets()), (2, 7, 2, &[0, 4, 0, 2][..]));
    assert_ne!(onward[8..32], by_itr[8..32]);
    let server = gate(&[("", key(7, "mr-ms-psk"))], vec![], false);
    let [here, there] = [&protection, &admit(&server, &onward)].map(|own| own.association(NONCE).unwrap());
    assert_eq!((&here.key, here.mark), (&there.key, there.mark));
    assert_ne!(here.client, there.client, "there the Map-Resolver asks");
    assert_eq!(format!("{protection:?}").matches("OneTimeKey(..)").count(), 1);
}

/// SEC-13: off, on, and strict.
#[test]
fn a_message_without_protection_passes_unless_the_gate_is_strict() {
    let from = ITR.parse().unwrap();
    let off = Gate::new(None);
    assert_eq!((off.admit(from, NONCE, None), off.is_strict()), (Ok(None), false));
    assert_eq!(off.admit(from, NONCE, Some(&hex(E04))), Err(SecurityFault::Off));
    let (on, strict) = (gate(&[], vec![], false), gate(&[("", key(1, "itr-mr-psk"))], vec![], true));
    assert_eq!((on.admit(from, NONCE, None), on.is_strict()), (Ok(None), false));
    assert_eq!((strict.admit(from, NONCE, None), strict.is_strict()), (Err(SecurityFault::Unprotected), true));
    assert!(strict.admit(from, NONCE, Some(&hex(E04))).unwrap().is_some());
}

/// SEC-13: what comes by itself or over the ALT has no protection; probes are taken all the same.
#[test]
fn a_strict_gate_lets_nothing_but_probes_pass_without_protection() {
    let (on, strict) = (gate(&[], vec![], false), gate(&[("", key(1, "itr-mr-psk"))], vec![], true));
    let request = MapRequest::lookup(NONCE, None, &[ITR.parse().unwrap()], eid("198.51.100.20/32"));
    let probe = MapRequest { probe: true, ..request.clone() };
    assert_eq!(strict.permit(&request, None), Err(SecurityFault::Unprotected));
    assert_eq!((strict.permit(&probe, None), on.permit(&request, None)), (Ok(()), Ok(())));
    assert_eq!(strict.permit(&request, Some(&admit(&strict, &hex(E04)))), Ok(()));
}

/// Whoever sends it, a message costs no more than some trials.
#[test]
fn no_more_keys_are_tried_than_may_be() {
    let among = |others: usize| {
        let mut clients: Vec<_> = (0..others).map(|other| ("", key(1, &other.to_string()))).collect();
        clients.push(("", key(1, "itr-mr-psk")));
        gate(&clients, vec![], false).admit(ITR.parse().unwrap(), NONCE, Some(&hex(E04)))
    };
    assert!(among(15).is_ok());
    assert_eq!(among(16), Err(SecurityFault::NotOurKey));
}

#[test]
fn a_request_is_handed_to_the_server_of_the_longest_prefix() {
    let server = |address: &str, eids: &[&str]| Server {
        address: address.parse().unwrap(),
        eids: eids.iter().map(|text| eid(text)).collect(),
        key: key(1, "x"),
    };
    let servers =
        vec![server("240.0.254.1", &["10.0.0.0/8", "2001:db8::/32"]), server("240.0.254.2", &["10.1.0.0/16"])];
    let gate = Gate::new(Some(Settings { servers, ..Settings::default() }));
    let to = |asked: &str| gate.server(host(asked)).map(|server| server.address.to_string());
    assert_eq!((to("10.1.2.3").as_deref(), to("10.2.2.3").as_deref()), (Some("240.0.254.2"), Some("240.0.254.1")));
    assert_eq!((to("2001:db8::1").as_deref(), to("11.0.0.1")), (Some("240.0.254.1"), None));
}

/// G-5: what is added is what was reckoned with.
#[test]
fn answers_grow_by_no_more_than_they_may() {
    let protection = admit(&gate(&[("", key(1, "itr-mr-psk"))], vec![], false), &hex(E04));
    let widest = EidPrefix { instance: InstanceId::new(77).unwrap(), prefix: "2001:db8::/32".parse().unwrap() };
    let mut reply = reply();
    let before = reply.encode().len();
    protection.sign(&mut reply, widest, true);
    assert_eq!(reply.encode().len() - before, protection.growth());
    let handed = admit(&gate(&[], vec![key(2, "ms-etr-psk")], false), &hex(E05));
    let mut reply = MapReply { security: None, ..reply };
    handed.sign(&mut reply, widest, true);
    assert_eq!(reply.encode().len() - before, handed.growth());
}
