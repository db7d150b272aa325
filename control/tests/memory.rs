//! What a mapping and a registration cost in the control plane, by the allocator's count and by the tables' own.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use altitude_control::{
    map_cache::{Input, MapCache, Settings},
    map_server::{self, MapServer, Site},
    wire::{Algorithm, Form, Key, MapRegister, Message},
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl};

/// Five of six in IPv4.
const COUNT: u32 = 60_000;
const SETS: u32 = 1000;

/// Prefixes in no order, as answers come.
fn mapping(index: u32) -> Mapping {
    let scattered = index.wrapping_mul(0x9e37_79b1);
    let (address, length): (IpAddr, u8) = if index.is_multiple_of(6) {
        (Ipv6Addr::from(u128::from(scattered) << 96).into(), 32)
    } else {
        (Ipv4Addr::from(scattered).into(), 32)
    };
    let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::new(address, length).unwrap() };
    let rloc = |number: u32| Locator::unicast(Ipv4Addr::from(0xcb00_0000 + number % SETS).into(), 1, 50);
    let locators = vec![rloc(index), rloc(index + 1)];
    Mapping { locators, ..Mapping::negative(eid, Ttl::Minutes(1440), Action::NoAction) }
}

#[test]
fn a_mapping_takes_at_most_130_octets_and_the_map_cache_knows_it() {
    let start = Instant::now();
    let mut kept = None;
    let measured = allocation_counter::measure(|| {
        let cache = kept.insert(MapCache::new(Settings { capacity: COUNT as usize }, start));
        let mut todo = Vec::new();
        for index in 0..COUNT {
            cache.step(start, Input::Install(vec![mapping(index)]), &|_| 0, &mut todo);
            todo.clear();
        }
    });
    let cache = kept.expect("filled above");
    assert_eq!((cache.len(), cache.sets()), (COUNT as usize, SETS as usize));
    let (counted, own) = (measured.bytes_current as usize, cache.octets().total());
    assert!(own <= COUNT as usize * 130, "{} octets a mapping", own / COUNT as usize);
    // Its own account takes B-trees at their worst filling.
    assert!(counted <= own && counted * 5 >= own * 4, "{counted} by the allocator, {own} by its own account");

    // What leaves gives its place to what comes.
    let mut cache = cache;
    let measured = allocation_counter::measure(|| {
        let mut todo = Vec::new();
        for index in 0..COUNT {
            cache.step(start, Input::Remove(mapping(index).eid), &|_| 0, &mut todo);
            cache.step(start, Input::Install(vec![mapping(COUNT + index)]), &|_| 0, &mut todo);
            todo.clear();
        }
    });
    assert_eq!(cache.len(), COUNT as usize);
    assert!(measured.bytes_current < (COUNT * 8).into(), "it grew by {} octets", measured.bytes_current);
}

const SITES: u32 = 4000;
/// Prefixes of a site.
const PREFIXES: u32 = 10;

#[test]
fn a_registration_takes_at_most_200_octets_and_the_registry_knows_it() {
    let start = Instant::now();
    let key = || Key::new(1, Algorithm::Sha256, b"secret");
    let eids = |site: u32| (0..PREFIXES).map(move |index| mapping((site * PREFIXES + index) * 6 + 1).eid);
    let site = |site: u32| Site {
        name: format!("site {site}"),
        eids: eids(site).collect(),
        keys: vec![key()],
        ..Site::default()
    };
    let us = IpAddr::from([203, 0, 113, 1]);
    let settings = map_server::Settings::new((0..SITES).map(site).collect(), vec![us]);
    let mut server = MapServer::new(settings, start);
    let messages: Vec<Vec<u8>> = (0..SITES)
        .map(|site| {
            let records = eids(site).map(|eid| Mapping { eid, ..mapping(site) }).collect();
            MapRegister { nonce: 1, records, ..MapRegister::default() }.signed(&key(), Form::default())
        })
        .collect();
    let measured = allocation_counter::measure(|| {
        let mut todo = Vec::new();
        for (site, octets) in messages.iter().enumerate() {
            let Ok(Message::MapRegister(message)) = Message::parse(octets) else { panic!("a Map-Register") };
            let from = (Ipv4Addr::from(0xcb00_0000 + site as u32), 4342).into();
            let input = map_server::Input::Register { from, local: us, message: &message, octets };
            server.step(start, input, &mut todo);
            todo.clear();
        }
    });
    let count = (SITES * PREFIXES) as usize;
    assert_eq!(server.len(), count);
    let (counted, own) = (measured.bytes_current as usize, server.octets());
    assert!(counted <= count * 200, "{} octets a registration", counted / count);
    assert!(own <= count * 250 && own * 5 >= counted * 4, "{counted} by the allocator, {own} by its own account");
}
