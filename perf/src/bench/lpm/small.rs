//! Many Instance-IDs with few prefixes each: what one more virtual network costs.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv6Addr},
};

use altitude_dataplane::{
    cache::{self, Forwarding, Lookups, Reader, Writer},
    mapping::{EidPrefix, InstanceId, Prefix},
};

use super::{
    Bench, LpmError,
    altitude::pair,
    model::NONE,
    random::Random,
    subject::{STRETCH, timed},
    table::inside,
};
use crate::bench::median;

/// Prefixes of each family in an instance.
const PREFIXES: u32 = 4;

/// Look-ups together.
const BATCH: usize = 32;

struct Query {
    instance: InstanceId,
    address: IpAddr,
    /// What must be found.
    eid: EidPrefix,
}

impl Bench<'_> {
    /// Memory per instance, and look-ups that jump from instance to instance.
    pub(super) fn small(&self) -> Result<(), LpmError> {
        let (instances, label) = self.sizes.instances;
        let name = format!("small/{label} instances");
        let (memory, rand) = (format!("{name}/memory"), format!("{name}/rand/b{BATCH}"));
        if !self.wants(&memory) && !self.wants(&rand) {
            return Ok(());
        }
        let (mut writer, mut readers) = cache::new(instances as usize * 2 * PREFIXES as usize, 1);
        let (members, choice) = pair([0, 1]);
        let set = writer.add_set(&members, &choice)?;
        let eids: Vec<EidPrefix> = (1..=instances).flat_map(eids).collect();
        eids.iter().try_for_each(|eid| writer.insert(*eid, Forwarding::Encapsulate(set)))?;
        writer.publish();
        let octets = writer.octets();
        let per_instance = |octets: usize| octets as f64 / f64::from(instances);
        self.figure(memory.clone(), "altitude", per_instance(octets.total()), "octets/instance");
        self.figure(format!("{memory}/trie"), "altitude", per_instance(octets.trie), "octets/instance");
        if self.wants(&rand) {
            let queries = queries(&eids, self.sizes.queries);
            verify(&writer, &mut readers[0], &queries[..self.sizes.verified])?;
            let (mut position, mut values) = (0, Vec::new());
            for round in 0..=self.options.effort.rounds {
                let value = self.small_round(&mut readers[0], &queries, &mut position);
                if round > 0 {
                    values.push(value);
                }
            }
            self.figure(rand, "altitude", median(&values), "ns");
        }
        Ok(())
    }

    fn small_round(&self, reader: &mut Reader, queries: &[Query], position: &mut usize) -> f64 {
        let mut lookups = Lookups::new(BATCH);
        timed(position, queries.len(), self.options.effort.round, |start| {
            for queries in queries[start..start + STRETCH].chunks(BATCH) {
                let snapshot = reader.snapshot();
                lookups.clear();
                for Query { instance, address, .. } in queries {
                    lookups.push(*instance, *address);
                }
                snapshot.lookup_all(&mut lookups);
                black_box(&mut lookups);
            }
        })
    }
}

/// The same private prefixes in every instance, as tenants have them.
fn eids(instance: u32) -> impl Iterator<Item = EidPrefix> {
    let instance = InstanceId::new(instance).expect("24 bits");
    let prefix = |address: IpAddr, length| Prefix::new(address, length).expect("a length of the family");
    (0..PREFIXES).flat_map(move |number| {
        let v4 = IpAddr::from((0x0a00_0000 | number << 8).to_be_bytes());
        let v6 = Ipv6Addr::from_bits((0xfd00 << 112) | u128::from(number) << 64).into();
        [prefix(v4, 24), prefix(v6, 64)].map(|prefix| EidPrefix { instance, prefix })
    })
}

fn queries(eids: &[EidPrefix], count: usize) -> Vec<Query> {
    let mut random = Random::new(0x5a11);
    (0..count)
        .map(|_| {
            let eid = eids[random.below(eids.len())];
            let bits = inside(eid.prefix, &mut random);
            let address = match eid.prefix.address() {
                IpAddr::V4(_) => IpAddr::V4(((bits >> 96) as u32).into()),
                IpAddr::V6(_) => IpAddr::V6(bits.into()),
            };
            Query { instance: eid.instance, address, eid }
        })
        .collect()
}

/// A hit counted for what is found must show at the prefix that the address was drawn from.
fn verify(writer: &Writer, reader: &mut Reader, queries: &[Query]) -> Result<(), LpmError> {
    let mut lookups = Lookups::new(BATCH);
    for queries in queries.chunks(BATCH) {
        let snapshot = reader.snapshot();
        lookups.clear();
        for Query { instance, address, .. } in queries {
            lookups.push(*instance, *address);
        }
        snapshot.lookup_all(&mut lookups);
        for (ticket, Query { address, eid, .. }) in queries.iter().enumerate() {
            let packets = || writer.hits(eid).map(|hits| hits.packets);
            let before = packets();
            if let Some(entry) = lookups.found(ticket) {
                snapshot.hit(entry, 64);
            }
            if packets() != before.map(|packets| packets + 1) {
                let (subject, address) = ("altitude", *address);
                return Err(LpmError::Mismatch { subject, address, expected: NONE, found: None });
            }
        }
    }
    Ok(())
}
