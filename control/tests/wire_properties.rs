//! Whatever value is written reads back as the same value.

use std::net::{IpAddr, SocketAddr};

use altitude_control::wire::{
    Algorithm, Form, Info, Key, MapNotify, MapRegister, MapReply, MapRequest, Message, RequestRecord, Translation,
    XtrIdentity, gre::GreHeader, packet::UdpPacket,
};
use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl};
use proptest::{collection::vec, option, prelude::*};

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn instance() -> impl Strategy<Value = InstanceId> {
    let number = prop_oneof![Just(0), Just(1), Just(InstanceId::MAX), 0..=InstanceId::MAX];
    number.prop_map(|number| InstanceId::new(number).expect("24 bits"))
}

fn eid() -> impl Strategy<Value = Eid> {
    (instance(), address()).prop_map(|(instance, address)| Eid { instance, address })
}

fn eid_prefix() -> impl Strategy<Value = EidPrefix> {
    (eid(), 0_u8..=128).prop_map(|(Eid { instance, address }, length)| {
        let length = if address.is_ipv4() { length.min(32) } else { length };
        EidPrefix { instance, prefix: Prefix::new(address, length).expect("a length of the family") }
    })
}

fn locator() -> impl Strategy<Value = Locator> {
    (address(), any::<[u8; 4]>(), any::<[bool; 3]>()).prop_map(|(address, numbers, [local, probed, reachable])| {
        let [priority, weight, multicast_priority, multicast_weight] = numbers;
        let direct = Locator::unicast(address, priority, weight);
        Locator { multicast_priority, multicast_weight, local, probed, reachable, ..direct }
    })
}

fn mapping() -> impl Strategy<Value = Mapping> {
    let ttl = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()].prop_map(Ttl::from_wire);
    let action = (0_u8..6).prop_map(Action::from_bits);
    (eid_prefix(), ttl, 0_u16..0x1000, action, any::<bool>(), vec(locator(), 0..6)).prop_map(
        |(eid, ttl, version, action, authoritative, locators)| {
            let action = if locators.is_empty() { action } else { Action::NoAction };
            Mapping { eid, ttl, version, action, authoritative, locators }
        },
    )
}

fn map_request() -> impl Strategy<Value = MapRequest> {
    let records = vec((any::<bool>(), eid_prefix()).prop_map(|(notify, eid)| RequestRecord { notify, eid }), 1..5);
    let xtr = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(xtr_id, site_id)| XtrIdentity { xtr_id, site_id });
    let lists = (vec(address(), 0..=32), records, option::of(mapping()), option::of(xtr));
    (any::<u64>(), any::<[bool; 7]>(), option::of(eid()), lists).prop_map(
        |(nonce, flags, source_eid, (itr_rlocs, records, reply_record, xtr))| {
            let [authoritative, probe, smr, pitr, smr_invoked, local_xtr, dont_reply] = flags;
            MapRequest {
                nonce,
                authoritative,
                probe,
                smr,
                pitr,
                smr_invoked,
                local_xtr,
                dont_reply,
                source_eid,
                itr_rlocs,
                records,
                reply_record,
                xtr,
            }
        },
    )
}

fn map_reply() -> impl Strategy<Value = MapReply> {
    (any::<u64>(), any::<[bool; 2]>(), vec(mapping(), 0..6), option::of(vec(any::<u8>(), 1..50))).prop_map(
        |(nonce, [probe, echo_nonce], records, security)| MapReply { nonce, probe, echo_nonce, records, security },
    )
}

fn map_register() -> impl Strategy<Value = MapRegister> {
    let xtr = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(xtr_id, site_id)| XtrIdentity { xtr_id, site_id });
    (any::<u64>(), any::<[bool; 6]>(), vec(mapping(), 0..6), option::of(xtr)).prop_map(
        |(nonce, [proxy, security, eid_notify, ttl_timeout, merge, want_notify], records, xtr)| MapRegister {
            proxy,
            security,
            eid_notify,
            ttl_timeout,
            merge,
            want_notify,
            nonce,
            records,
            xtr,
            ..MapRegister::default()
        },
    )
}

fn info() -> impl Strategy<Value = Info> {
    let translation =
        (any::<[u16; 2]>(), address(), option::of(address()), option::of(address()), vec(address(), 0..=16)).prop_map(
            |([map_server_port, etr_port], etr, map_server, private_etr, rtrs)| Translation {
                map_server_port,
                etr_port,
                etr,
                map_server,
                private_etr,
                rtrs,
            },
        );
    (any::<u64>(), any::<u32>(), eid_prefix(), option::of(translation)).prop_map(|(nonce, ttl, eid, reply)| Info {
        nonce,
        authentication: Default::default(),
        ttl,
        eid,
        reply,
    })
}

fn key() -> impl Strategy<Value = Key> {
    (any::<u8>(), 0..Algorithm::ALL.len(), vec(any::<u8>(), 1..80))
        .prop_map(|(id, algorithm, secret)| Key::new(id, Algorithm::ALL[algorithm], &secret))
}

fn endpoints() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![
        any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(a, p, b, q)| ((a, p).into(), (b, q).into())),
        any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(|(a, p, b, q)| ((a, p).into(), (b, q).into())),
    ]
}

proptest! {
    #[test]
    fn map_requests(request in map_request()) {
        let octets = request.encode();
        prop_assert_eq!(Message::parse(&octets), Ok(Message::MapRequest(request)));
        prop_assert!(Message::parse(&octets[..octets.len() - 1]).is_err());
    }

    #[test]
    fn map_replies(reply in map_reply()) {
        let octets = reply.encode();
        let cut = Message::parse(&octets[..octets.len() - 1]);
        // The authentication data are opaque, so losing one of several octets of it goes unseen here.
        let opaque = reply.security.as_ref().is_some_and(|data| data.len() > 1);
        prop_assert_eq!(cut.is_ok(), opaque);
        prop_assert_eq!(Message::parse(&octets), Ok(Message::MapReply(reply)));
    }

    #[test]
    fn registrations(register in map_register(), ack: bool, key in key(), whole_mac: bool, records_only: bool) {
        let form = Form { whole_mac, records_only };
        let octets = register.clone().signed(&key, form);
        let Ok(Message::MapRegister(read)) = Message::parse(&octets) else { panic!("a Map-Register") };
        prop_assert_eq!(read.verify(&octets, std::slice::from_ref(&key)), Ok(&key));
        prop_assert_eq!(read.encode(), &octets[..]);
        prop_assert_eq!(MapRegister { authentication: Default::default(), ..read }, register.clone());
        let MapRegister { nonce, records, xtr, .. } = register;
        let notify = MapNotify { ack, nonce, records, xtr, ..MapNotify::default() };
        let octets = notify.signed(&key, form);
        let Ok(Message::MapNotify(read)) = Message::parse(&octets) else { panic!("a Map-Notify") };
        prop_assert_eq!(read.verify(&octets, std::slice::from_ref(&key)), Ok(&key));
        prop_assert_eq!(read.encode(), octets);
    }

    #[test]
    fn info_messages(info in info(), key in key(), whole_mac: bool) {
        let octets = info.clone().signed(&key, Form { whole_mac, records_only: false });
        let Ok(Message::Info(read)) = Message::parse(&octets) else { panic!("an Info message") };
        prop_assert_eq!(read.verify(&octets, std::slice::from_ref(&key)), Ok(&key));
        prop_assert_eq!(read.encode(), &octets[..]);
        prop_assert_eq!(Info { authentication: Default::default(), ..read }, info);
        prop_assert!(Message::parse(&octets[..octets.len() - 1]).is_err());
    }

    #[test]
    fn gre(
        checksum: bool,
        key in option::of(any::<u32>()),
        sequence in option::of(any::<u32>()),
        protocol: u16,
        payload in vec(any::<u8>(), 0..200),
    ) {
        let header = GreHeader { checksum, key, sequence, protocol };
        let octets = header.encode(&payload);
        prop_assert_eq!(GreHeader::split(&octets), Ok((header, &payload[..])));
    }

    #[test]
    fn udp_packets((source, destination) in endpoints(), ttl: u8, payload in vec(any::<u8>(), 0..300)) {
        let packet = UdpPacket { source, destination, ttl, payload: &payload };
        let octets = packet.encode();
        prop_assert_eq!(UdpPacket::parse(&octets), Ok(packet));
        prop_assert!(UdpPacket::parse(&octets[..octets.len() - 1]).is_err());
    }

    #[test]
    fn any_octets_at_all(octets in vec(any::<u8>(), 0..300)) {
        let _ = Message::parse(&octets);
        let _ = GreHeader::split(&octets);
        let _ = UdpPacket::parse(&octets);
    }
}
