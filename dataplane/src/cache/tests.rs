//! The whole map-cache: against a plain map under random operations, and under threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::*;
use crate::mapping::{Adjacency, Candidate, Eid, LocatorSet, OuterHeader, Prefix};

/// SplitMix64: the same operations in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Few values per octet, so that prefixes nest and look-ups meet them.
    fn address(&mut self) -> IpAddr {
        const OCTETS: [u8; 8] = [0, 1, 2, 10, 0x7f, 0x80, 0xfe, 0xff];
        if self.below(2) == 0 {
            IpAddr::from([(); 4].map(|()| self.pick(&OCTETS)))
        } else {
            IpAddr::from([(); 16].map(|()| self.pick(&OCTETS[..4])))
        }
    }

    fn instance(&mut self) -> InstanceId {
        InstanceId::new(self.pick(&[0, 1, 2, 0x40, 0xfff, InstanceId::MAX])).unwrap()
    }

    fn eid_prefix(&mut self) -> EidPrefix {
        let address = self.address();
        let length = match address {
            IpAddr::V4(_) => self.pick(&[0, 1, 5, 6, 7, 8, 12, 15, 16, 17, 23, 24, 25, 29, 30, 31, 32]),
            IpAddr::V6(_) => self.pick(&[0, 1, 6, 7, 16, 32, 47, 48, 60, 64, 65, 66, 67, 120, 126, 127, 128, 128]),
        };
        EidPrefix { instance: self.instance(), prefix: Prefix::new(address, length).unwrap() }
    }
}

fn numbered(number: u64) -> Adjacency {
    let octets = number.to_be_bytes();
    let [mut destination, mut source] = [[0; 6]; 2];
    destination.copy_from_slice(&octets[2..]);
    source.copy_from_slice(&octets[2..]);
    Adjacency { port: octets[7], destination, source, vlan: None, mtu: u16::from_be_bytes([octets[6], octets[7]]) }
}

/// Something to forward by that tells `number`, below 2^48, again.
fn forwarding(number: u64) -> Forwarding {
    Forwarding::Local(Delivery::Adjacent(numbered(number)))
}

fn number(snapshot: &Snapshot<'_>, entry: Entry) -> u64 {
    let Way::Deliver(next_hop) = snapshot.way(entry, 0) else { panic!("not one of ours") };
    let adjacency = next_hop.adjacency();
    let number = adjacency.destination.iter().fold(0, |number, &octet| number << 8 | u64::from(octet));
    assert_eq!(adjacency, numbered(number), "torn, or in new use");
    number
}

fn eid_prefix(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

/// The plain map that the cache must agree with: by prefix the number, and the hits of this life of the entry.
#[derive(Default)]
struct Model {
    entries: BTreeMap<EidPrefix, (u64, Hits)>,
    /// How many entries there are of each instance, family and length.
    lengths: BTreeMap<(InstanceId, bool), BTreeMap<u8, u32>>,
}

fn family(eid: &EidPrefix) -> (InstanceId, bool) {
    (eid.instance, eid.prefix.address().is_ipv6())
}

impl Model {
    fn insert(&mut self, eid: EidPrefix, number: u64) {
        let count = |lengths: &mut BTreeMap<_, BTreeMap<u8, u32>>| {
            *lengths.entry(family(&eid)).or_default().entry(eid.prefix.length()).or_default() += 1;
        };
        match self.entries.get_mut(&eid) {
            Some(entry) => entry.0 = number,
            None => {
                count(&mut self.lengths);
                self.entries.insert(eid, (number, Hits::default()));
            }
        }
    }

    fn remove(&mut self, eid: &EidPrefix) -> bool {
        if self.entries.remove(eid).is_none() {
            return false;
        }
        let lengths = self.lengths.get_mut(&family(eid)).unwrap();
        let count = lengths.get_mut(&eid.prefix.length()).unwrap();
        *count -= 1;
        if *count == 0 {
            lengths.remove(&eid.prefix.length());
        }
        true
    }

    fn longest(&mut self, eid: Eid) -> Option<&mut (u64, Hits)> {
        let lengths = self.lengths.get(&(eid.instance, eid.address.is_ipv6()))?;
        let key = lengths.keys().rev().find_map(|&length| {
            let key = EidPrefix { instance: eid.instance, prefix: Prefix::new(eid.address, length).unwrap() };
            self.entries.contains_key(&key).then_some(key)
        })?;
        self.entries.get_mut(&key)
    }

    fn knows(&self, instance: InstanceId) -> bool {
        [false, true].iter().any(|&v6| self.lengths.get(&(instance, v6)).is_some_and(|lengths| !lengths.is_empty()))
    }

    fn some(&self, random: &mut Random) -> Option<EidPrefix> {
        let from = random.eid_prefix();
        let mut range = self.entries.range(from..).chain(&self.entries);
        range.next().map(|(eid, _)| *eid)
    }
}

/// First and last address of a prefix, and the ones just outside.
fn edges(prefix: Prefix) -> [IpAddr; 4] {
    match prefix.address() {
        IpAddr::V4(v4) => {
            let (first, host) = (v4.to_bits(), u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0));
            let last = first | host;
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(v6) => {
            let (first, host) = (v6.to_bits(), u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0));
            let last = first | host;
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

/// Looks each EID up alone and all together, compares, and counts a hit in both.
fn agree(snapshot: &Snapshot<'_>, model: &mut Model, lookups: &mut Lookups, eids: &[Eid]) {
    lookups.clear();
    let tickets: Vec<usize> = eids.iter().map(|eid| lookups.push(eid.instance, eid.address)).collect();
    snapshot.lookup_all(lookups);
    for (octets, (eid, ticket)) in eids.iter().zip(tickets).enumerate() {
        let found = snapshot.lookup(eid.instance, eid.address);
        assert_eq!(lookups.found(ticket), found, "{eid}: batch and single differ");
        let expected = model.longest(*eid);
        let shown = found.map(|entry| number(snapshot, entry));
        assert_eq!(shown, expected.as_ref().map(|(number, _)| *number), "{eid}");
        if let (Some(entry), Some((_, hits))) = (found, expected) {
            snapshot.hit(entry, octets);
            hits.packets += 1;
            hits.octets += octets as u64;
        }
    }
}

/// Changes the cache and the model alike.
fn change(random: &mut Random, writer: &mut Writer, model: &mut Model, capacity: usize, serial: u64) {
    let known = |random: &mut Random, model: &Model| model.some(random).unwrap_or_else(|| random.eid_prefix());
    match random.below(20) {
        0..=8 => {
            let eid = if random.below(3) == 0 { known(random, model) } else { random.eid_prefix() };
            let new = !model.entries.contains_key(&eid);
            let inserted = writer.insert(eid, forwarding(serial));
            if new && model.entries.len() == capacity {
                assert_eq!(inserted, Err(CacheError::Full(capacity)));
            } else if inserted.is_ok() {
                model.insert(eid, serial);
            } else {
                assert!(matches!(inserted, Err(CacheError::Waiting(waiting)) if waiting >= capacity), "{inserted:?}");
                assert!(new, "a replacement needs no slot");
            }
        }
        9..=14 => {
            let eid = if random.below(5) == 0 { random.eid_prefix() } else { known(random, model) };
            assert_eq!(writer.remove(&eid), model.remove(&eid));
        }
        15 => writer.publish(),
        16 => {
            writer.reclaim();
        }
        _ => {
            let eid = known(random, model);
            assert_eq!(writer.hits(&eid), model.entries.get(&eid).map(|&(_, hits)| hits), "{eid}");
        }
    }
    assert_eq!((writer.len(), writer.is_empty()), (model.entries.len(), model.entries.is_empty()));
}

/// Operations until `limit`, in turns of two readers, with changes between and during them.
fn random_operations(seed: u64, capacity: usize, limit: usize) {
    let mut random = Random(seed);
    let (mut writer, mut readers) = new(capacity, 2);
    let (mut model, mut lookups) = (Model::default(), Lookups::new(160));
    let (mut operations, mut serial) = (0, 0);
    let mut eids = Vec::new();
    while operations < limit {
        let (first, second) = readers.split_at_mut(1);
        if random.below(4) == 0 {
            second[0].go_offline();
        }
        let snapshot = first[0].snapshot();
        for _ in 0..random.below(40) {
            serial += 1;
            change(&mut random, &mut writer, &mut model, capacity, serial);
            operations += 1;
        }
        eids.clear();
        for _ in 0..random.below(40) {
            eids.push(Eid { instance: random.instance(), address: random.address() });
            let again = random.below(3);
            eids.extend(std::iter::repeat_n(eids[eids.len() - 1], again));
            if let Some(known) = model.some(&mut random) {
                eids.push(Eid { instance: known.instance, address: random.pick(&edges(known.prefix)) });
            }
        }
        agree(&snapshot, &mut model, &mut lookups, &eids);
        operations += 2 * eids.len();
        for eid in &eids {
            assert_eq!(snapshot.knows(eid.instance), model.knows(eid.instance));
        }
        second[0].snapshot();
    }
    empties(writer, model);
}

/// Everything that was put in can be taken out, and leaves nothing behind.
fn empties(mut writer: Writer, model: Model) {
    for (eid, (_, hits)) in model.entries {
        assert_eq!(writer.hits(&eid), Some(hits));
        assert!(writer.remove(&eid));
    }
    writer.publish();
    let waiting = writer.reclaim();
    if waiting > 0 {
        return;
    }
    let Store { nodes, leaves, blocks_used, next_hops, instance_indices, instances, crowds, live_hosts, .. } =
        &writer.store;
    // The default instance keeps its index.
    let ours = [&writer.store.ours4, &writer.store.ours6];
    let all = [(nodes, 0), (leaves, 0), (next_hops, 0), (instance_indices, 1), (ours[0], 0), (ours[1], 0)];
    let names = ["nodes", "leaves", "next hops", "instances", "ours v4", "ours v6"];
    for (name, (arrays, kept)) in names.into_iter().zip(all) {
        assert_eq!(arrays.extent().0, kept, "{name} leaked");
    }
    assert_eq!((instances.len(), crowds.len(), *live_hosts, *blocks_used), (0, 0, 0, 0));
}

/// Of the model test, about, over all its sizes.
const OPERATIONS: usize = 10_000_000;

/// ITR-1, ITR-3.
#[test]
fn the_cache_agrees_with_a_plain_map() {
    for (seed, capacity, share) in [(1, 8, 10), (2, 60, 10), (3, 400, 3), (4, 3000, 2)] {
        random_operations(seed, capacity, OPERATIONS / share);
    }
}

/// Prefixes of all lengths, the shorter ones of few heads, so that they nest.
fn nested(random: &mut Random, count: u64) -> Vec<EidPrefix> {
    let eid = |address: IpAddr, length: u64| {
        let prefix = Prefix::new(address, length as u8).unwrap();
        EidPrefix { instance: InstanceId::DEFAULT, prefix }
    };
    (0..count)
        .map(|number| {
            let bits = u128::from(random.next()) << 64 | u128::from(random.next());
            match number % 4 {
                0 => eid(IpAddr::from((bits as u32).to_be_bytes()), (number / 4 % 33).max(number % 7)),
                1 => eid(IpAddr::from((10 << 24 | bits as u32 >> 10).to_be_bytes()), 12 + number / 4 % 21),
                2 => eid(IpAddr::from((0x2001 << 112 | bits >> 16).to_be_bytes()), number / 4 % 129),
                _ => eid(IpAddr::from((0x2001_0db8 << 96 | bits >> 88 << 40).to_be_bytes()), 44 + number / 4 % 22),
            }
        })
        .collect()
}

/// Puts `eids` in and takes them out again, agreeing with the model all the way.
fn lives_through(eids: &[EidPrefix], random: &mut Random, check: impl Fn(&mut Writer)) {
    let (mut writer, mut readers) = new(eids.len(), 1);
    let (mut model, mut lookups) = (Model::default(), Lookups::new(64));
    let probe = |random: &mut Random, among: &[EidPrefix]| -> Vec<Eid> {
        let near = |known: EidPrefix| edges(known.prefix).map(|address| Eid { instance: known.instance, address });
        (0..8).flat_map(|_| near(among[random.below(among.len())])).collect()
    };
    for (serial, eid) in eids.iter().enumerate() {
        writer.insert(*eid, forwarding(serial as u64)).unwrap();
        model.insert(*eid, serial as u64);
        if serial.is_multiple_of(16) {
            writer.publish();
            agree(&readers[0].snapshot(), &mut model, &mut lookups, &probe(random, &eids[..=serial]));
        }
    }
    check(&mut writer);
    for (serial, eid) in eids.iter().enumerate().step_by(3) {
        writer.insert(*eid, forwarding(1 << 32 | serial as u64)).unwrap();
        model.insert(*eid, 1 << 32 | serial as u64);
    }
    let all: BTreeSet<EidPrefix> = eids.iter().copied().collect();
    for (count, eid) in all.iter().enumerate() {
        if count.is_multiple_of(32) {
            writer.publish();
            agree(&readers[0].snapshot(), &mut model, &mut lookups, &probe(random, eids));
        }
        assert!(writer.remove(eid) && model.remove(eid));
    }
    drop(readers);
    empties(writer, model);
}

#[test]
fn roots_grow_with_their_prefixes_and_every_prefix_survives() {
    let mut random = Random(7);
    let eids = nested(&mut random, 60_000);
    lives_through(&eids, &mut random, |writer| {
        let state = writer.store.instances[&InstanceId::DEFAULT];
        let bits = [false, true].map(|v6| writer.store.root(state, v6).unwrap().bits);
        assert_eq!(bits, [18, 24], "roots as wide as they become: {state:?}");
    });
}

#[test]
fn a_large_ipv4_table_has_a_flat_root() {
    let mut random = Random(8);
    let mut eids: Vec<EidPrefix> = nested(&mut random, 260_000);
    eids.retain(|eid| eid.prefix.address().is_ipv4());
    lives_through(&eids, &mut random, |writer| {
        let state = writer.store.instances[&InstanceId::DEFAULT];
        assert_eq!(writer.store.root(state, false).unwrap().bits, tables::FLAT, "{state:?}");
        assert!(writer.store.blocks_used > 10_000);
    });
}

#[test]
fn a_large_table_of_hosts_keeps_its_nodes() {
    let (mut writer, _readers) = new(140_000, 1);
    for host in 0..140_000_u32 {
        let prefix = Prefix::host(IpAddr::from((10 << 24 | host).to_be_bytes()));
        writer.insert(EidPrefix { instance: InstanceId::DEFAULT, prefix }, Forwarding::Request).unwrap();
        writer.publish();
    }
    let state = writer.store.instances[&InstanceId::DEFAULT];
    assert_eq!(writer.store.root(state, false).unwrap().bits, 18);
}

/// Instances of all sizes in one batch.
#[test]
fn a_batch_may_mix_instances_with_roots_of_any_width() {
    let mut random = Random(9);
    let (mut writer, mut readers) = new(500_000, 1);
    let mut model = Model::default();
    let instance = |number: usize| InstanceId::new(number as u32).unwrap();
    for (number, count) in [10, 600, 40_000, 260_000].into_iter().enumerate() {
        for (serial, eid) in nested(&mut random, count).into_iter().enumerate() {
            let eid = EidPrefix { instance: instance(number), ..eid };
            writer.insert(eid, forwarding(serial as u64)).unwrap();
            model.insert(eid, serial as u64);
        }
        writer.publish();
    }
    let snapshot = readers[0].snapshot();
    let mut lookups = Lookups::new(300);
    for _ in 0..200 {
        let eids: Vec<Eid> = (0..300)
            .map(|_| {
                let known = nested(&mut random, 4)[random.below(4)];
                Eid { instance: instance(random.below(5)), address: known.prefix.address() }
            })
            .collect();
        agree(&snapshot, &mut model, &mut lookups, &eids);
    }
}

/// Arrays of addresses, beside pushes, repeats and skips, under a flat root that then fills with hosts: slots, junctions
/// and nothing in all numbers.
#[test]
fn arrays_of_addresses_find_what_each_finds_alone() {
    let mut random = Random(12);
    let (mut writer, mut readers) = new(200_000, 1);
    let mut put = |number: u32, length| {
        let prefix = Prefix::new(IpAddr::from(number.to_be_bytes()), length).unwrap();
        let _ = writer.insert(EidPrefix { instance: InstanceId::DEFAULT, prefix }, forwarding(u64::from(number)));
    };
    (0..70_000).for_each(|net: u32| put(0x0a00_0000 + (net << 8), 24));
    (0..20_000).for_each(|host: u32| put(0x0b00_0000 + host * 7, 32));
    for net in 0..200_u128 {
        let prefix = Prefix::new(IpAddr::from((0x2001_0db8 << 96 | net << 64).to_be_bytes()), 64).unwrap();
        let _ = writer.insert(EidPrefix { instance: InstanceId::DEFAULT, prefix }, forwarding(net as u64));
    }
    let state = writer.store.instances[&InstanceId::DEFAULT];
    assert_eq!(writer.store.root(state, false).unwrap().bits, tables::FLAT);
    let snapshot = readers[0].snapshot();
    let mut lookups = Lookups::new(200);
    for _ in 0..2000 {
        let base = random.pick(&[0x0a00_0000, 0x0b00_0000, 0x0b00_0000, 0xe000_0000]);
        let spread = random.pick(&[1, 7, 300]);
        let v4: Vec<u32> = (0..random.below(150)).map(|_| base + random.below(20_000) as u32 * spread).collect();
        let v6: Vec<u128> = v4.iter().map(|bits| 0x2001_0db8 << 96 | u128::from(bits % 300) << 64).collect();
        lookups.clear();
        assert_eq!(lookups.skip(), 0);
        v4.iter().for_each(|bits| {
            lookups.push_v4(InstanceId::DEFAULT, *bits);
        });
        snapshot.lookup_all(&mut lookups);
        // Longer than what is asked, or shorter.
        let [mut found4, mut found6] = [vec![None; v4.len() + 7], vec![None; v6.len()]];
        snapshot.lookup_array_v4(InstanceId::DEFAULT, &v4, &mut found4);
        snapshot.lookup_array_v6(InstanceId::DEFAULT, &v6, &mut found6);
        let some = random.below(v4.len() + 1);
        let mut few = vec![None; some];
        snapshot.lookup_array_v4(InstanceId::DEFAULT, &v4, &mut few);
        assert_eq!(few, found4[..some]);
        // What this processor does eight abreast, another does one after the other.
        let mut slots = vec![0; v4.len()];
        Walk::plain().array_v4(snapshot.tables, InstanceId::DEFAULT, &v4, &mut slots);
        assert!(slots.iter().zip(&found4).all(|(slot, found)| Entry::from_slot(*slot) == *found), "{base:x} {spread}");
        assert_eq!(found4[v4.len()..], [None; 7]);
        for place in 0..v4.len() {
            let [v4, v6] = [IpAddr::from(v4[place].to_be_bytes()), IpAddr::from(v6[place].to_be_bytes())];
            let alone = [v4, v6].map(|address| snapshot.lookup(InstanceId::DEFAULT, address));
            assert_eq!([found4[place], found6[place]], alone, "{v4} {v6}");
            assert_eq!(lookups.found(place + 1), alone[0], "{v4}");
        }
    }
}

#[test]
fn both_builds_of_the_walk_find_the_same() {
    let mut random = Random(11);
    let (mut writer, mut readers) = new(5000, 1);
    for serial in 0..5000 {
        let _ = writer.insert(random.eid_prefix(), forwarding(serial));
    }
    let snapshot = readers[0].snapshot();
    let plain = Walk::plain();
    let [mut fast, mut slow] = [Lookups::new(100), Lookups::new(100)];
    for _ in 0..1000 {
        fast.clear();
        slow.clear();
        for _ in 0..100 {
            let (instance, address) = (random.instance(), random.address());
            fast.push(instance, address);
            slow.push(instance, address);
        }
        snapshot.lookup_all(&mut fast);
        plain.all(snapshot.tables, &mut slow);
        (0..100).for_each(|ticket| assert_eq!(fast.found(ticket), slow.found(ticket)));
    }
}

#[test]
fn changes_show_at_once_and_generations_count_publications() {
    let (mut writer, mut readers) = new(4, 1);
    let address = [1, 1, 2, 3].into();
    let find =
        |snapshot: &Snapshot<'_>| snapshot.lookup(InstanceId::DEFAULT, address).map(|entry| number(snapshot, entry));
    let snapshot = readers[0].snapshot();
    assert_eq!((find(&snapshot), snapshot.knows(InstanceId::DEFAULT), snapshot.generation()), (None, false, 0));
    writer.insert(eid_prefix("1.1.0.0/16"), forwarding(16)).unwrap();
    assert_eq!((find(&snapshot), snapshot.generation()), (Some(16), 0));
    writer.insert(eid_prefix("1.1.2.0/24"), forwarding(24)).unwrap();
    writer.publish();
    assert_eq!((find(&snapshot), snapshot.generation()), (Some(24), 0));
    let snapshot = readers[0].snapshot();
    assert_eq!(snapshot.generation(), 1);
    writer.remove(&eid_prefix("1.1.2.0/24"));
    assert_eq!(find(&snapshot), Some(16));
    writer.remove(&eid_prefix("1.1.0.0/16"));
    assert_eq!((find(&snapshot), snapshot.knows(InstanceId::DEFAULT)), (None, false));
}

#[test]
fn a_full_table_refuses_new_prefixes_only() {
    let (mut writer, _readers) = new(2, 1);
    writer.insert(eid_prefix("1.0.0.0/8"), forwarding(1)).unwrap();
    writer.insert(eid_prefix("2.0.0.0/8"), forwarding(2)).unwrap();
    assert_eq!(writer.insert(eid_prefix("3.0.0.0/8"), forwarding(3)), Err(CacheError::Full(2)));
    writer.insert(eid_prefix("2.0.0.0/8"), forwarding(4)).unwrap();
    assert!(writer.remove(&eid_prefix("1.0.0.0/8")));
    writer.insert(eid_prefix("3.0.0.0/8"), forwarding(3)).unwrap();
    assert_eq!(writer.len(), 2);
}

#[test]
fn a_full_table_is_exchanged_once_while_a_worker_hangs_and_again_when_it_moves() {
    let (mut writer, mut readers) = new(2, 1);
    let sets = [["1.0.0.0/8", "1.1.0.0/16"], ["2.0.0.0/8", "::/0"], ["3.0.0.0/8", "3.3.3.3"]];
    let [first, second, third] = sets.map(|set| set.map(eid_prefix));
    let insert = |writer: &mut Writer, set: [EidPrefix; 2]| {
        let done = set.iter().try_for_each(|&eid| writer.insert(eid, forwarding(1)));
        writer.publish();
        done
    };
    let hanging = readers[0].snapshot();
    assert_eq!(insert(&mut writer, first), Ok(()));
    first.iter().for_each(|eid| assert!(writer.remove(eid)));
    assert_eq!(insert(&mut writer, second), Ok(()));
    second.iter().for_each(|eid| assert!(writer.remove(eid)));
    assert!(matches!(insert(&mut writer, third), Err(CacheError::Waiting(parts)) if parts > 4));
    assert_eq!(hanging.generation(), 0);
    readers[0].snapshot();
    assert_eq!(insert(&mut writer, third), Ok(()), "room was made without a call of reclaim");
}

#[test]
fn limbo_waits_for_online_readers_and_not_for_sleeping_ones() {
    let (mut writer, mut readers) = new(4, 2);
    readers[0].snapshot();
    readers[1].snapshot();
    for round in 1..=3 {
        writer.insert(eid_prefix("1.0.0.0/8"), forwarding(round)).unwrap();
        writer.publish();
    }
    readers[0].snapshot();
    assert_eq!(writer.reclaim(), 2, "reader 1 may still hold the next hops of the first two");
    readers[1].go_offline();
    assert_eq!(writer.reclaim(), 0);
    assert_eq!(readers[1].snapshot().generation(), 3);
    writer.remove(&eid_prefix("1.0.0.0/8"));
    writer.publish();
    assert!(writer.reclaim() > 0);
    drop(readers);
    assert_eq!(writer.reclaim(), 0);
}

fn candidate(last: u8, weight: u8, up: bool, mac: u8) -> Candidate {
    let address = IpAddr::from([240, 0, 254, last]);
    let adjacency = Adjacency { port: 0, destination: [mac; 6], source: [4; 6], vlan: None, mtu: 1500 };
    let outer = OuterHeader::new(&adjacency, [240, 0, 254, 1].into(), address, InstanceId::DEFAULT);
    Candidate { address, priority: 1, weight, outer: outer.filter(|_| up) }
}

fn choice(candidates: &[Candidate]) -> Choice {
    LocatorSet::compile(candidates).map_or(Choice::Unusable, Choice::Tunnel)
}

/// A set of `count` locators under 1.1.0.0/16, through all that can happen to it.
fn a_set_lives(count: u8) {
    let (mut writer, mut readers) = new(4, 1);
    let candidates = |down: &[u8], mac| -> Vec<Candidate> {
        (1..=count).map(|last| candidate(last, last, !down.contains(&last), mac)).collect()
    };
    let members: Vec<IpAddr> = (1..=count).map(|last| IpAddr::from([240, 0, 254, last])).collect();
    let set = writer.add_set(&members, &Choice::Request).unwrap();
    writer.insert(eid_prefix("1.1.0.0/16"), Forwarding::Encapsulate(set)).unwrap();
    let snapshot = readers[0].snapshot();
    let entry = snapshot.lookup(InstanceId::DEFAULT, [1, 1, 1, 1].into()).unwrap();
    let all_flows = |expected: &Choice| {
        for slot in 0..64_u32 {
            let flow = slot << 26 | 12345;
            let expected = match expected {
                Choice::Tunnel(set) => Way::Tunnel(set.choose(flow)),
                Choice::Request => Way::Request,
                Choice::Unusable => Way::Drop(crate::verdict::Reason::NoUsableLocator),
            };
            assert_eq!(snapshot.way(entry, flow), expected, "slot {slot}");
        }
    };
    all_flows(&Choice::Request);
    let everyone: Vec<u8> = (1..=count).collect();
    for (down, mac) in [(&[][..], 1), (&[count], 1), (&[], 2), (&[1], 3), (&everyone, 3), (&[], 1)] {
        let choice = choice(&candidates(down, mac));
        writer.change_set(set, &choice).unwrap();
        all_flows(&choice);
        writer.publish();
        readers_pass(&mut writer);
        all_flows(&choice);
    }
    assert!(!snapshot.is_local(entry));
    members.iter().for_each(|member| assert!(snapshot.has_member(entry, *member)));
    assert!(!snapshot.has_member(entry, [240, 0, 254, 200].into()));
    let stranger = choice(&[candidate(200, 1, true, 1)]);
    let refused = Err(CacheError::NotAMember([240, 0, 254, 200].into()));
    assert_eq!(writer.change_set(set, &stranger), refused);
    assert_eq!(writer.add_set(&members, &stranger).map(|_| ()), refused);
    drop(readers);
    writer.remove(&eid_prefix("1.1.0.0/16"));
    writer.remove_set(set);
    writer.publish();
    assert_eq!(writer.reclaim(), 0);
    assert_eq!((writer.store.lines.extent().0, writer.store.headers.extent().0), (0, 0), "a line or a header leaked");
}

/// Nothing to wait for: the test's own snapshot is the only reader's, and holds what it found on purpose.
fn readers_pass(writer: &mut Writer) {
    writer.reclaim();
}

#[test]
fn sets_of_any_size_follow_their_choice_for_every_flow() {
    for count in [1, 2, 7, 8, 9, 24, 32, 33, 100] {
        a_set_lives(count);
    }
}

#[test]
fn headers_are_shared_by_the_sets_that_use_them() {
    let (mut writer, _readers) = new(4, 0);
    let one = candidate(1, 1, true, 1);
    let sets: Vec<SetId> =
        (0..10).map(|_| writer.add_set(&[one.address], &choice(std::slice::from_ref(&one))).unwrap()).collect();
    assert_eq!(writer.store.headers.extent().0, 1);
    sets.into_iter().for_each(|set| writer.remove_set(set));
    writer.publish();
    assert_eq!(writer.store.headers.extent().0, 0);
}

#[test]
fn hits_add_up_over_workers_and_begin_anew_with_a_new_entry() {
    let (mut writer, mut readers) = new(4, 3);
    let eid = eid_prefix("1.1.0.0/16");
    assert_eq!(writer.hits(&eid), None);
    writer.insert(eid, forwarding(1)).unwrap();
    assert_eq!(writer.hits(&eid), Some(Hits::default()));
    writer.publish();
    std::thread::scope(|scope| {
        for (worker, reader) in readers.iter_mut().enumerate() {
            scope.spawn(move || {
                for _ in 0..10_000 {
                    let snapshot = reader.snapshot();
                    let entry = snapshot.lookup(InstanceId::DEFAULT, [1, 1, 1, 1].into()).unwrap();
                    snapshot.hit(entry, 100 + worker);
                }
            });
        }
    });
    assert_eq!(writer.hits(&eid), Some(Hits { packets: 30_000, octets: 10_000 * (100 + 101 + 102) }));
    writer.insert(eid, forwarding(2)).unwrap();
    writer.publish();
    assert_eq!(writer.hits(&eid).unwrap().packets, 30_000, "replaced");

    let late = readers[0].snapshot();
    let entry = late.lookup(InstanceId::DEFAULT, [1, 1, 1, 1].into()).unwrap();
    writer.remove(&eid);
    assert_eq!(writer.hits(&eid), None);
    writer.insert(eid, forwarding(3)).unwrap();
    writer.publish();
    late.hit(entry, 9);
    assert_eq!(writer.hits(&eid), Some(Hits::default()), "removed and put in again");
    drop(readers);
    assert_eq!(writer.hits(&eid), Some(Hits::default()));
}

#[test]
fn small_instances_cost_little() {
    let (mut writer, _readers) = new(100_000, 1);
    let before = writer.octets().total();
    let instances = 5000;
    for instance in 1..=instances {
        for prefix in ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "2001:db8::/32"] {
            let eid = EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: prefix.parse().unwrap() };
            writer.insert(eid, Forwarding::Request).unwrap();
        }
    }
    writer.publish();
    let each = (writer.octets().total() - before) / instances as usize;
    assert!(each < 3000, "an instance with four prefixes takes {each} octets");
}

/// Tells the readers to end, also when the writer's part of the test fails.
struct Finished<'a>(&'a AtomicBool);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Workers look up while the writer inserts, replaces, removes and publishes as fast as it can. Every entry found must be
/// whole, belong to a prefix that holds the address, and be newer than what was surely gone.
#[test]
fn workers_never_find_torn_freed_or_foreign_entries() {
    const CHANGES: u64 = 100_000;
    // In several nodes, families and instances; hosts and nested prefixes among them.
    let mut random = Random(5);
    let mut eids: Vec<EidPrefix> = (0..600).map(|_| random.eid_prefix()).collect();
    eids.sort();
    eids.dedup();
    let (mut writer, readers) = new(eids.len() + 1, 3);
    let done = AtomicBool::new(false);
    let hits = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _finished = Finished(&done);
        for (worker, mut reader) in readers.into_iter().enumerate() {
            let (eids, done, hits) = (&eids, &done, &hits);
            scope.spawn(move || hits.fetch_add(watch(&mut reader, eids, done, worker), Ordering::Relaxed));
        }
        for change in 0..CHANGES {
            let place = random.below(eids.len());
            if random.below(3) > 0 {
                // The prefix's place and a serial number: what is found tells where it belongs.
                while writer.insert(eids[place], forwarding((change << 16 & 0xffff_ffff_0000) | place as u64)).is_err()
                {
                    writer.publish();
                    std::thread::yield_now();
                }
            } else {
                writer.remove(&eids[place]);
            }
            if random.below(4) == 0 {
                writer.publish();
            }
        }
    });
    writer.publish();
    assert_eq!(writer.reclaim(), 0);
    assert!(hits.load(Ordering::Relaxed) > 0);
    let mut model = Model::default();
    for eid in &eids {
        if let Some(hits) = writer.hits(eid) {
            model.insert(*eid, 0);
            model.entries.get_mut(eid).unwrap().1 = hits;
        }
    }
    empties(writer, model);
}

/// Turns of one worker until `done`. Returns its hits.
fn watch(reader: &mut Reader, eids: &[EidPrefix], done: &AtomicBool, worker: usize) -> u64 {
    let mut random = Random(100 + worker as u64);
    let mut lookups = Lookups::new(64);
    let (mut hits, mut generation) = (0, 0);
    for turn in 0_u64.. {
        let over = done.load(Ordering::Acquire);
        let snapshot = reader.snapshot();
        assert!(snapshot.generation() >= generation, "time runs backwards");
        generation = snapshot.generation();
        lookups.clear();
        let asked: Vec<Eid> = (0..40)
            .map(|_| {
                let known = eids[random.below(eids.len())];
                Eid { instance: known.instance, address: random.pick(&edges(known.prefix)) }
            })
            .collect();
        asked.iter().for_each(|eid| assert!(lookups.push(eid.instance, eid.address) < 64));
        snapshot.lookup_all(&mut lookups);
        for (ticket, eid) in asked.iter().enumerate() {
            let found =
                if ticket % 2 == 0 { lookups.found(ticket) } else { snapshot.lookup(eid.instance, eid.address) };
            let Some(entry) = found else { continue };
            let place = (number(&snapshot, entry) & 0xffff) as usize;
            assert!(eids[place].contains(*eid), "{eid} found the entry of {}", eids[place]);
            snapshot.hit(entry, 1);
            hits += 1;
        }
        if over {
            break;
        }
        if worker > 0 && turn.is_multiple_of(worker as u64 * 7) {
            reader.go_offline();
            std::thread::yield_now();
        }
    }
    hits
}

/// While a prefix is replaced again and again, a worker never finds nothing, and never what covers it.
#[test]
fn a_replacement_never_uncovers_what_lies_beneath() {
    for (outer, inner) in
        [("1.0.0.0/8", "1.1.0.0/16"), ("2001:db8::/32", "2001:db8::1"), ("1.1.0.0/16", "1.1.128.0/17")]
    {
        let (mut writer, mut readers) = new(8, 1);
        let (outer, inner) = (eid_prefix(outer), eid_prefix(inner));
        writer.insert(outer, forwarding(0)).unwrap();
        writer.insert(inner, forwarding(1)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let done = &done;
            let _finished = Finished(done);
            scope.spawn(move || {
                let mut last = 1;
                while !done.load(Ordering::Acquire) {
                    let snapshot = readers[0].snapshot();
                    let entry =
                        snapshot.lookup(InstanceId::DEFAULT, inner.prefix.address()).expect("it is always there");
                    let found = number(&snapshot, entry);
                    assert!(found >= last, "{found} after {last}");
                    last = found;
                }
            });
            for serial in 2..4_000 {
                while writer.insert(inner, forwarding(serial)).is_err() {
                    writer.publish();
                    std::thread::yield_now();
                }
                if serial % 3 == 0 {
                    writer.publish();
                }
            }
        });
    }
}

/// A mark comes with its entry, is replaced alone, and does not come back with the slot that it was under.
#[test]
fn marks_belong_to_entries_and_not_to_slots() {
    let (mut writer, mut readers) = new(4, 1);
    let (one, two) = (eid_prefix("1.1.0.0/16"), eid_prefix("2.2.0.0/16"));
    let mark = |number| Mark { version: crate::mapping::MapVersion::new(number), status: Some(5), ..Mark::default() };
    let mut seen = |eid: &EidPrefix| {
        let snapshot = readers[0].snapshot();
        snapshot.lookup(eid.instance, eid.prefix.address()).map(|entry| snapshot.mark(entry))
    };
    writer.insert(two, forwarding(2)).unwrap();
    assert_eq!((writer.mark(&one, mark(1)), seen(&one), seen(&two)), (false, None, Some(Mark::default())));
    writer.insert_marked(one, forwarding(1), mark(1)).unwrap();
    assert_eq!((seen(&one), seen(&two)), (Some(mark(1)), Some(Mark::default())));
    assert!(writer.mark(&one, mark(2)));
    assert_eq!(seen(&one), Some(mark(2)));
    writer.insert(one, forwarding(3)).unwrap();
    assert_eq!(seen(&one), Some(Mark::default()), "replaced without one");
    writer.mark(&one, mark(3));
    for round in 0..20 {
        assert!(writer.remove(&one));
        writer.publish();
        assert_eq!(seen(&one), None);
        writer.publish();
        writer.insert(one, forwarding(round)).unwrap();
        assert_eq!(seen(&one), Some(Mark::default()));
        writer.mark(&one, mark(4));
    }
}
