//! What a mapping costs in the control plane, by the allocator's count and by the map-cache's own.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use altitude_control::map_cache::{Input, MapCache, Settings};
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
