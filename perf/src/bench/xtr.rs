//! What is measured, and what it is measured against: Altitude's worker with a filled table, and a forwarder that only
//! swaps link-layer addresses.

use std::sync::Arc;

use altitude_dataplane::{
    cache::{self, Choice, Delivery, Forwarding, Reader, Writer},
    counters::Counters,
    frame::{Frame, Umem},
    mapping::{Adjacency, Candidate, EidPrefix, InstanceId, LocatorSet, OuterHeader, Prefix},
    port::Port,
    queue,
    verdict::Miss,
    worker::{Hold, PortRole, Settings, Worker},
};

use super::{
    Families,
    packets::{CORE_MAC, OUR_MAC, PREFIXES, SITE_MAC, local, remote, rloc},
};

/// The site port's number.
pub(super) const SITE: u8 = 0;
/// The core port's number.
pub(super) const CORE: u8 = 1;
/// Of all links of the benches, octets.
pub(super) const MTU: u16 = 1600;

/// A worker for the packets of one family mix.
pub(super) struct Xtr {
    pub(super) worker: Worker,
    pub(super) reader: Reader,
    pub(super) counters: Arc<Counters>,
    pub(super) rest: Rest,
}

/// The other ends: the table lives as long as its writer; nobody takes misses, because there are none.
pub(super) struct Rest {
    _writer: Writer,
    _misses: queue::Consumer<Miss>,
}

impl Xtr {
    pub(super) fn new(families: Families, umem: Umem) -> Self {
        let role = |site: bool| PortRole {
            site,
            core: !site,
            instance: InstanceId::DEFAULT,
            mtu: MTU,
            mac: OUR_MAC,
            address4: None,
            address6: None,
        };
        let settings = Settings {
            ports: vec![role(true), role(false)],
            rlocs: vec![rloc(families.outer4, true)],
            hash_seed: 0x5eed,
            hold: Hold::Queue,
        };
        let (queue, misses) = queue::misses(64);
        let (mut writer, mut readers) = cache::new(1024, 1);
        fill(&mut writer, families);
        let counters = Arc::<Counters>::default();
        let worker = Worker::new(settings, umem, queue, counters.clone());
        Self { worker, reader: readers.remove(0), counters, rest: Rest { _writer: writer, _misses: misses } }
    }
}

/// The prefix that holds `address`, as long as sites' prefixes are.
pub(super) fn site_prefix(v4: bool) -> Prefix {
    Prefix::new(local(v4), if v4 { 16 } else { 48 }).expect("a length of the family")
}

/// The site's prefix and host, and the remote prefixes behind one locator.
fn fill(writer: &mut Writer, families: Families) {
    let prefix = |address, v4: bool, lengths: (u8, u8)| EidPrefix {
        instance: InstanceId::DEFAULT,
        prefix: Prefix::new(address, if v4 { lengths.0 } else { lengths.1 }).expect("a length of the family"),
    };
    let v4 = families.inner4;
    let host = Adjacency { port: SITE, destination: SITE_MAC, source: OUR_MAC, vlan: None, mtu: MTU };
    let insert = |writer: &mut Writer, eid, forwarding| writer.insert(eid, forwarding).expect("a table with room");
    let site = EidPrefix { instance: InstanceId::DEFAULT, prefix: site_prefix(v4) };
    insert(writer, site, Forwarding::Local(Delivery::Unresolved));
    insert(writer, prefix(local(v4), v4, (32, 128)), Forwarding::Local(Delivery::Adjacent(host)));

    let core = Adjacency { port: CORE, destination: CORE_MAC, source: OUR_MAC, vlan: None, mtu: MTU };
    let (ours, theirs) = (rloc(families.outer4, true), rloc(families.outer4, false));
    let outer = OuterHeader::new(&core, ours, theirs, InstanceId::DEFAULT);
    let set = LocatorSet::compile(&[Candidate { address: theirs, priority: 1, weight: 100, outer }]);
    let choice = Choice::Tunnel(set.expect("a usable locator"));
    let set = writer.add_set(&[theirs], &choice).expect("a table with room");
    for index in 0..PREFIXES {
        insert(writer, prefix(remote(v4, index), v4, (24, 64)), Forwarding::Encapsulate(set));
    }
    writer.publish();
}

/// One turn of the address-swapping forwarder between two ports, both ways. Returns how many packets it sent.
pub(super) fn swap_turn<P: Port>(umem: &mut Umem, ports: &mut [P], batch: &mut Vec<Frame>) -> usize {
    let mut sent = 0;
    for ingress in 0..ports.len() {
        ports[ingress].receive(umem, batch);
        for frame in batch.iter_mut() {
            if let Some((addresses, _)) = umem.octets_mut(frame).split_at_mut_checked(12) {
                let (destination, source) = addresses.split_at_mut(6);
                destination.swap_with_slice(source);
            }
        }
        sent += ports[1 - ingress].transmit(umem, batch);
        // What the ring refuses is lost, as with any forwarder.
        batch.drain(..).for_each(|frame| umem.release(frame));
    }
    sent
}
