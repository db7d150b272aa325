//! The whole map-cache: against a plain map under random operations, and under threads.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::mapping::{Adjacency, Eid, Prefix};

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

    /// Few values per octet, so that prefixes nest and lookups meet them.
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
            IpAddr::V6(_) => self.pick(&[0, 1, 6, 7, 16, 32, 47, 48, 56, 64, 65, 120, 126, 127, 128]),
        };
        EidPrefix { instance: self.instance(), prefix: Prefix::new(address, length).unwrap() }
    }
}

/// Something to forward by that tells `number` again.
fn numbered(number: u64) -> Forwarding {
    let mut destination = [0; 6];
    destination.copy_from_slice(&number.to_be_bytes()[2..]);
    let adjacency = Adjacency { port: 0, destination, source: [4; 6], vlan: None, mtu: 1500 };
    Forwarding::Local(Delivery::Adjacent(adjacency))
}

fn number(entry: &Entry) -> u64 {
    let Forwarding::Local(Delivery::Adjacent(adjacency)) = entry.forwarding() else { panic!("not one of ours") };
    adjacency.destination.iter().fold(0, |number, &octet| number << 8 | u64::from(octet))
}

fn eid_prefix(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

/// One life of a prefix in the table, from insert to remove: what its hits belong to.
type Life = usize;
type Entries = BTreeMap<EidPrefix, (u64, Life)>;

/// The plain map that the cache must agree with.
#[derive(Default)]
struct Model {
    next: Entries,
    published: Entries,
    hits: Vec<Hits>,
}

fn longest(entries: &Entries, eid: Eid) -> Option<(EidPrefix, (u64, Life))> {
    let bits = if eid.address.is_ipv4() { 32 } else { 128 };
    (0..=bits).rev().find_map(|length| {
        let prefix = Prefix::new(eid.address, length).unwrap();
        let key = EidPrefix { instance: eid.instance, prefix };
        entries.get(&key).map(|&value| (key, value))
    })
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

/// Looks `eid` up in both, compares, and counts a hit in both.
fn agree(snapshot: &Snapshot<'_>, shown: &Entries, hits: &mut [Hits], eid: Eid, octets: usize) {
    let found = snapshot.lookup(eid.instance, eid.address);
    let expected = longest(shown, eid);
    assert_eq!(
        found.map(|entry| (entry.eid(), number(entry))),
        expected.map(|(key, (number, _))| (key, number)),
        "{eid}"
    );
    if let (Some(entry), Some((_, (_, life)))) = (found, expected) {
        snapshot.hit(entry, octets);
        hits[life].packets += 1;
        hits[life].octets += octets as u64;
    }
}

/// Changes the cache and the model alike.
fn change(random: &mut Random, writer: &mut Writer, model: &mut Model, capacity: usize, serial: u64) {
    let known = |random: &mut Random, model: &Model| {
        let place = random.below(model.next.len().max(1));
        model.next.keys().nth(place).copied().unwrap_or_else(|| random.eid_prefix())
    };
    match random.below(20) {
        0..=7 => {
            let eid = if random.below(3) == 0 { known(random, model) } else { random.eid_prefix() };
            let full = model.next.len() == capacity && !model.next.contains_key(&eid);
            let inserted = writer.insert(eid, numbered(serial));
            if full {
                assert_eq!(inserted, Err(CacheError::Full(capacity)));
            } else if inserted.is_ok() {
                let next_life = model.hits.len();
                let entry = model.next.entry(eid).or_insert((0, next_life));
                entry.0 = serial;
                if entry.1 == next_life {
                    model.hits.push(Hits::default());
                }
            } else {
                assert!(matches!(inserted, Err(CacheError::Waiting(waiting)) if waiting >= capacity), "{inserted:?}");
                assert!(!model.next.contains_key(&eid), "a replacement needs no slot");
            }
        }
        8..=14 => {
            let eid = if random.below(5) == 0 { random.eid_prefix() } else { known(random, model) };
            assert_eq!(writer.remove(&eid), model.next.remove(&eid).is_some());
        }
        15 => {
            assert!(writer.publish());
            model.published.clone_from(&model.next);
        }
        16 => {
            writer.reclaim();
        }
        _ => {
            let eid = known(random, model);
            assert_eq!(writer.hits(&eid), model.next.get(&eid).map(|&(_, life)| model.hits[life]), "{eid}");
        }
    }
    assert_eq!((writer.len(), writer.is_empty()), (model.next.len(), model.next.is_empty()));
}

/// `rounds` turns of two readers, with changes between and during them.
fn random_operations(seed: u64, capacity: usize, rounds: usize) -> usize {
    let mut random = Random(seed);
    let (mut writer, mut readers) = new(capacity, 2);
    let mut model = Model::default();
    let mut operations = 0;
    for round in 0..rounds {
        let (first, second) = readers.split_at_mut(1);
        let shown = model.published.clone();
        if random.below(4) == 0 {
            second[0].go_offline();
        }
        let snapshot = first[0].snapshot();
        for step in 0..random.below(40) {
            change(&mut random, &mut writer, &mut model, capacity, (round * 100 + step) as u64);
            let inside = shown.keys().nth(random.below(shown.len().max(1))).copied();
            let eid = Eid { instance: random.instance(), address: random.address() };
            agree(&snapshot, &shown, &mut model.hits, eid, step);
            assert_eq!(snapshot.knows(eid.instance), shown.keys().any(|key| key.instance == eid.instance));
            if let Some(inside) = inside {
                let address = random.pick(&edges(inside.prefix));
                agree(&snapshot, &shown, &mut model.hits, Eid { instance: inside.instance, address }, step);
            }
            operations += 4;
        }
        let late = second[0].snapshot();
        for key in model.published.clone().into_keys().take(5) {
            for address in edges(key.prefix) {
                agree(&late, &model.published, &mut model.hits, Eid { instance: key.instance, address }, 64);
                operations += 1;
            }
        }
    }
    for (eid, &(_, life)) in &model.next {
        assert_eq!(writer.hits(eid), Some(model.hits[life]));
    }
    operations
}

#[test]
fn the_cache_agrees_with_a_plain_map() {
    let operations: usize = [(1, 8, 1200), (2, 60, 1000), (3, 400, 1000)]
        .into_iter()
        .map(|(seed, capacity, rounds)| random_operations(seed, capacity, rounds))
        .sum();
    assert!(operations >= 200_000, "only {operations} operations");
}

#[test]
fn changes_show_together_at_the_next_snapshot_and_not_before() {
    let (mut writer, mut readers) = new(4, 1);
    let address = [1, 1, 2, 3].into();
    let find = |snapshot: &Snapshot<'_>| snapshot.lookup(InstanceId::DEFAULT, address).map(number);
    writer.insert(eid_prefix("1.1.0.0/16"), numbered(16)).unwrap();
    assert_eq!((find(&readers[0].snapshot()), readers[0].snapshot().generation()), (None, 0));
    assert!(writer.publish());
    let snapshot = readers[0].snapshot();
    writer.insert(eid_prefix("1.1.2.0/24"), numbered(24)).unwrap();
    writer.remove(&eid_prefix("1.1.0.0/16"));
    assert!(writer.publish());
    assert_eq!((find(&snapshot), snapshot.generation()), (Some(16), 1));
    let snapshot = readers[0].snapshot();
    assert_eq!((find(&snapshot), snapshot.generation()), (Some(24), 2));
    assert!(snapshot.knows(InstanceId::DEFAULT));
    writer.remove(&eid_prefix("1.1.2.0/24"));
    writer.publish();
    assert!(!readers[0].snapshot().knows(InstanceId::DEFAULT));
}

#[test]
fn a_full_table_refuses_new_prefixes_only() {
    let (mut writer, _readers) = new(2, 1);
    writer.insert(eid_prefix("1.0.0.0/8"), numbered(1)).unwrap();
    writer.insert(eid_prefix("2.0.0.0/8"), numbered(2)).unwrap();
    assert_eq!(writer.insert(eid_prefix("3.0.0.0/8"), numbered(3)), Err(CacheError::Full(2)));
    writer.insert(eid_prefix("2.0.0.0/8"), numbered(4)).unwrap();
    assert!(writer.remove(&eid_prefix("1.0.0.0/8")));
    writer.insert(eid_prefix("3.0.0.0/8"), numbered(3)).unwrap();
    assert_eq!(writer.len(), 2);
}

#[test]
fn a_full_table_is_exchanged_once_while_a_worker_hangs_and_again_when_it_moves() {
    let (mut writer, mut readers) = new(2, 1);
    let sets = [["1.0.0.0/8", "1.1.0.0/16"], ["2.0.0.0/8", "::/0"], ["3.0.0.0/8", "3.3.3.3"]];
    let [first, second, third] = sets.map(|set| set.map(eid_prefix));
    let insert = |writer: &mut Writer, set: [EidPrefix; 2]| {
        let done = set.iter().try_for_each(|&eid| writer.insert(eid, numbered(1)));
        writer.publish();
        done
    };
    assert_eq!(insert(&mut writer, first), Ok(()));
    let hanging = readers[0].snapshot();
    first.iter().for_each(|eid| assert!(writer.remove(eid)));
    assert_eq!(insert(&mut writer, second), Ok(()));
    second.iter().for_each(|eid| assert!(writer.remove(eid)));
    assert_eq!(insert(&mut writer, third), Err(CacheError::Waiting(4)));
    assert_eq!(hanging.generation(), 1);
    readers[0].snapshot();
    assert_eq!(insert(&mut writer, third), Ok(()), "room was made without a call of reclaim");
}

#[test]
fn hits_add_up_over_workers_and_begin_anew_with_a_new_entry() {
    let (mut writer, mut readers) = new(4, 3);
    let eid = eid_prefix("1.1.0.0/16");
    assert_eq!(writer.hits(&eid), None);
    writer.insert(eid, numbered(1)).unwrap();
    assert_eq!(writer.hits(&eid), Some(Hits::default()), "an entry has its hits before it is shown");
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
    writer.insert(eid, numbered(2)).unwrap();
    writer.publish();
    assert_eq!(writer.hits(&eid).unwrap().packets, 30_000, "replaced");

    let late = readers[0].snapshot();
    let entry = late.lookup(InstanceId::DEFAULT, [1, 1, 1, 1].into()).unwrap();
    writer.remove(&eid);
    assert_eq!(writer.hits(&eid), None);
    writer.insert(eid, numbered(3)).unwrap();
    writer.publish();
    late.hit(entry, 9);
    assert_eq!(writer.hits(&eid), Some(Hits::default()), "removed and put in again");
    drop(readers);
    assert_eq!(writer.hits(&eid), Some(Hits::default()));
}

#[test]
fn workers_never_see_half_of_a_publication() {
    const PUBLICATIONS: u64 = 20_000;
    // In several nodes, families and instances, so that no single store could show them together.
    let eids: Vec<EidPrefix> =
        ["0.0.0.0/0", "1.1.0.0/16", "1.1.1.0/24", "200.0.0.1", "::/0", "2001:db8::/32", "2001:db8::1"]
            .into_iter()
            .flat_map(|text| [0, 7, InstanceId::MAX].map(|iid| (text, InstanceId::new(iid).unwrap())))
            .map(|(text, instance)| EidPrefix { instance, prefix: text.parse().unwrap() })
            .collect();
    let (mut writer, readers) = new(eids.len() + 1, 3);
    let done = AtomicBool::new(false);
    let passing = eid_prefix("1.1.1.128/25");
    let hits: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(worker, mut reader)| {
                let (eids, done) = (&eids, &done);
                scope.spawn(move || watch(&mut reader, eids, done, worker > 0))
            })
            .collect();
        for publication in 1..=PUBLICATIONS {
            for &eid in &eids {
                writer.insert(eid, numbered(publication)).unwrap();
            }
            // Comes and goes, so that nodes and slots are freed and made anew.
            while !writer.remove(&passing) && writer.insert(passing, numbered(publication)).is_err() {
                std::thread::yield_now();
            }
            while !writer.publish() {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(writer.reclaim(), 0);
    let counted: u64 = eids.iter().map(|eid| writer.hits(eid).unwrap().packets).sum();
    assert_eq!(counted, hits.iter().sum::<u64>(), "a hit was lost or counted twice");
}

/// Turns of one worker until `done`: every turn, all entries must be of the publication that the snapshot names.
/// Returns its hits.
fn watch(reader: &mut Reader, eids: &[EidPrefix], done: &AtomicBool, sleeps: bool) -> u64 {
    let (mut last, mut hits) = (0, 0);
    loop {
        let over = done.load(Ordering::Acquire);
        let snapshot = reader.snapshot();
        let generation = snapshot.generation();
        assert!(generation >= last, "time runs backwards: {generation} after {last}");
        last = generation;
        for eid in eids {
            let found = snapshot.lookup(eid.instance, eid.prefix.address());
            assert_eq!(found.map_or(0, number), generation, "{eid}");
            if let Some(entry) = found {
                snapshot.hit(entry, 64);
                hits += 1;
            }
        }
        if over {
            return hits;
        }
        if sleeps && generation.is_multiple_of(3) {
            reader.go_offline();
            std::thread::yield_now();
        }
    }
}

#[test]
fn either_end_may_go_first() {
    for writer_first in [true, false] {
        let (mut writer, mut readers) = new(4, 2);
        writer.insert(eid_prefix("1.0.0.0/8"), numbered(1)).unwrap();
        writer.publish();
        readers[0].snapshot();
        writer.remove(&eid_prefix("1.0.0.0/8"));
        writer.publish();
        if writer_first {
            drop(writer);
            assert!(!readers[0].snapshot().knows(InstanceId::DEFAULT));
            assert_eq!(readers[1].snapshot().generation(), 2);
        } else {
            drop(readers);
            assert_eq!(writer.reclaim(), 0);
        }
    }
}

#[test]
fn limbo_waits_for_online_readers_and_not_for_sleeping_ones() {
    let (mut writer, mut readers) = new(4, 2);
    readers[0].snapshot();
    readers[1].snapshot();
    for round in 1..=3 {
        writer.insert(eid_prefix("1.0.0.0/8"), numbered(round)).unwrap();
        writer.publish();
    }
    readers[0].snapshot();
    assert_eq!(writer.reclaim(), 3, "reader 1 may still hold the first table");
    readers[1].go_offline();
    assert_eq!(writer.reclaim(), 0);
    assert_eq!(readers[1].snapshot().generation(), 3);
    writer.publish();
    assert_eq!(writer.reclaim(), 1);
    drop(readers);
    assert_eq!(writer.reclaim(), 0);
}
