//! Altitude's map-cache as a subject.

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Duration};

use altitude_dataplane::{
    cache::{self, CacheError, Choice, Entry, Forwarding, Reader, SetId, Snapshot, Writer},
    mapping::{Adjacency, Candidate, EidPrefix, InstanceId, LocatorSet, OuterHeader, Prefix},
};

use super::{
    LpmError,
    model::NONE,
    subject::{BATCH_MAX, STRETCH, Subject, timed},
    table::Table,
    traffic::Queries,
};

/// Look-ups of a worker's turn at least: so many share a snapshot.
const TURN: usize = 32;

/// Prefixes put in between two publications, as the records of a few Map-Replies are.
pub(super) const GROUP: usize = 32;

/// Locator-sets that the prefixes of a table share; which one it is makes no difference to a look-up.
const SETS: usize = 256;

/// A map-cache with a table in the default instance, and one worker's way of looking up.
pub(super) struct Altitude {
    pub(super) cache: Filled,
    pub(super) reading: Reading,
}

/// The writer's end, and what is in it.
pub(super) struct Filled {
    pub(super) writer: Writer,
    pub(super) prefixes: Vec<Prefix>,
    sets: Vec<SetId>,
}

/// A worker's end.
pub(super) struct Reading {
    pub(super) reader: Reader,
    found: [Option<Entry>; BATCH_MAX],
    queries: Arc<Queries>,
    position: usize,
}

/// A prefix in the default instance.
pub(super) const fn eid(prefix: Prefix) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix }
}

/// The compiled locator-set of two RLOCs out of 240.0.0.0/8, sharing equally.
pub(super) fn pair(numbers: [u32; 2]) -> (Vec<IpAddr>, Choice) {
    let adjacency = Adjacency { port: 0, destination: [2; 6], source: [4; 6], vlan: None, mtu: 1500 };
    let addresses = numbers.map(|number| IpAddr::from((0xf000_0100 + number).to_be_bytes()));
    let candidates = addresses.map(|address| Candidate {
        address,
        priority: 1,
        weight: 50,
        outer: OuterHeader::new(&adjacency, [240, 0, 0, 1].into(), address, InstanceId::DEFAULT),
    });
    (addresses.to_vec(), Choice::Tunnel(LocatorSet::compile(&candidates).expect("both can be used")))
}

impl Altitude {
    /// Fills a map-cache with room for some more than the table.
    ///
    /// # Errors
    /// [`LpmError::Cache`].
    pub(super) fn new(table: &Table) -> Result<Self, LpmError> {
        let (mut writer, mut readers) = cache::new(table.prefixes.len() + 1024, 1);
        let sets = (0..SETS as u32)
            .map(|set| {
                let (members, choice) = pair([2 * set, 2 * set + 1]);
                writer.add_set(&members, &choice)
            })
            .collect::<Result<Vec<SetId>, CacheError>>()?;
        let mut cache = Filled { writer, prefixes: table.prefixes.clone(), sets };
        for index in 0..table.prefixes.len() {
            cache.writer.insert(eid(table.prefixes[index]), cache.forwarding(index))?;
            if index % GROUP == 0 {
                cache.writer.publish();
            }
        }
        cache.writer.publish();
        let reading = Reading {
            reader: readers.remove(0),
            found: [None; BATCH_MAX],
            queries: Arc::new(Queries::V4(Vec::new())),
            position: 0,
        };
        Ok(Self { cache, reading })
    }
}

impl Filled {
    /// What the prefix at a place of the table gets.
    pub(super) fn forwarding(&self, index: usize) -> Forwarding {
        Forwarding::Encapsulate(self.sets[index % SETS])
    }
}

impl Reading {
    /// Looks a stretch of queries up, a snapshot each turn.
    #[inline]
    fn stretch(&mut self, batch: usize, start: usize) {
        let Self { reader, found, queries, .. } = self;
        for turn in (start..start + STRETCH).step_by(batch.max(TURN)) {
            let snapshot = reader.snapshot();
            let turn = turn..turn + batch.max(TURN);
            if batch == 1 {
                each(&snapshot, queries, turn);
                continue;
            }
            for first in turn.step_by(batch) {
                together(&snapshot, queries, first..first + batch, found);
                black_box(&mut *found);
            }
        }
    }

    pub(super) fn round(&mut self, batch: usize, length: Duration) -> f64 {
        let mut position = self.position;
        let took = timed(&mut position, self.queries.len(), length, |start| self.stretch(batch, start));
        self.position = position;
        // Nobody waits for this reader while others are measured.
        self.reader.go_offline();
        took
    }
}

/// One by one.
#[inline]
fn each(snapshot: &Snapshot<'_>, queries: &Queries, range: std::ops::Range<usize>) {
    match queries {
        Queries::V4(addresses) => addresses[range].iter().for_each(|address| {
            black_box(snapshot.lookup(InstanceId::DEFAULT, IpAddr::V4((*address).into())));
        }),
        Queries::V6(addresses) => addresses[range].iter().for_each(|address| {
            black_box(snapshot.lookup(InstanceId::DEFAULT, IpAddr::V6((*address).into())));
        }),
    }
}

/// A batch: an array of addresses and one for what they find, as every reference takes them. A worker reads addresses out of
/// packets one by one; what that costs is in the figures of whole workers (`mem`).
#[inline]
fn together(snapshot: &Snapshot<'_>, queries: &Queries, range: std::ops::Range<usize>, found: &mut [Option<Entry>]) {
    match queries {
        Queries::V4(addresses) => {
            snapshot.lookup_array_v4(InstanceId::DEFAULT, &addresses[range], found);
        }
        Queries::V6(addresses) => {
            let mut numbers = [0; BATCH_MAX];
            for (number, address) in numbers.iter_mut().zip(&addresses[range.clone()]) {
                *number = u128::from_be_bytes(*address);
            }
            snapshot.lookup_array_v6(InstanceId::DEFAULT, &numbers[..range.len()], found);
        }
    }
}

impl Subject for Altitude {
    fn name(&self) -> &'static str {
        "altitude"
    }

    fn octets(&self) -> u64 {
        self.cache.writer.octets().trie as u64
    }

    fn take(&mut self, queries: &Arc<Queries>) -> Result<(), LpmError> {
        self.reading.queries = queries.clone();
        self.reading.position = 0;
        Ok(())
    }

    /// An entry does not tell its prefix, so a hit is counted for each entry found: it must show at the prefix
    /// expected.
    fn verify(&mut self, batch: usize, expected: &[u32]) -> Result<(), LpmError> {
        let Self { cache, reading: Reading { reader, queries, .. } } = self;
        let addresses = queries.addresses(expected.len());
        for (start, expected) in (0..).step_by(batch).zip(expected.chunks(batch)) {
            let snapshot = reader.snapshot();
            let mut found: [Option<Entry>; BATCH_MAX] = [None; BATCH_MAX];
            if batch == 1 {
                found[0] = snapshot.lookup(InstanceId::DEFAULT, addresses[start]);
            } else {
                together(&snapshot, queries, start..start + expected.len(), &mut found);
            }
            for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
                let hits =
                    || cache.prefixes.get(*expected as usize).and_then(|prefix| cache.writer.hits(&eid(*prefix)));
                let before = hits();
                if let Some(entry) = found {
                    snapshot.hit(entry, 64);
                }
                let counted = match (before, hits()) {
                    (Some(before), Some(after)) => after.packets == before.packets + 1,
                    _ => false,
                };
                if found.is_some() != (*expected != NONE) || found.is_some() != counted {
                    let (subject, address) = ("altitude", addresses[start + place]);
                    return Err(LpmError::Mismatch { subject, address, expected: *expected, found: None });
                }
            }
        }
        self.reading.reader.go_offline();
        Ok(())
    }

    fn round(&mut self, batch: usize, length: Duration) -> Result<f64, LpmError> {
        Ok(self.reading.round(batch, length))
    }
}
