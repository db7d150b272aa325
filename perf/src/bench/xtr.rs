//! What is measured, and what it is measured against: Altitude's worker with a filled table, and a forwarder that only
//! swaps link-layer addresses.

use std::sync::Arc;

use altitude_dataplane::{
    cache::{self, Choice, Delivery, Forwarding, Reader, SetId, Writer},
    counters::Counters,
    frame::{Frame, Umem},
    mapping::{Adjacency, Candidate, EidPrefix, InstanceId, LocatorSet, OuterHeader, Prefix},
    port::Port,
    proxy::Proxy,
    queue, tap,
    verdict::Miss,
    worker::{BATCH_DEFAULT, Hold, PortRole, Settings, SourceCheck, Worker},
};

use super::{
    Families,
    mappings::{Mappings, site},
    packets::{CORE_MAC, HOSTS, OUR_MAC, SITE_MAC, local, rloc},
};

/// The site port's number.
pub(super) const SITE: u8 = 0;
/// The core port's number.
pub(super) const CORE: u8 = 1;
/// Of all links of the benches, octets.
pub(super) const MTU: u16 = 1600;

/// A worker without a table.
pub(super) struct Ready {
    pub(super) worker: Worker,
    pub(super) counters: Arc<Counters>,
    pub(super) misses: queue::Consumer<Miss>,
    /// Where somebody could look on.
    pub(super) watch: tap::Watch,
}

/// How a worker goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuning {
    pub(super) source_check: SourceCheck,
    /// Most frames of a turn.
    pub(super) batch: usize,
}

impl Default for Tuning {
    /// As the program's defaults.
    fn default() -> Self {
        Self { source_check: SourceCheck::Standard, batch: BATCH_DEFAULT }
    }
}

impl Ready {
    pub(super) fn new(families: Families, umem: Umem, tuning: Tuning) -> Self {
        let role = |site: bool| PortRole {
            site,
            core: !site,
            native: false,
            instance: InstanceId::DEFAULT,
            mac: OUR_MAC,
            address4: None,
            address6: None,
        };
        let settings = Settings {
            ports: vec![role(true), role(false)],
            rlocs: vec![rloc(families.outer4, true)],
            hash_seed: 0x5eed,
            hold: Hold::Queue,
            source_check: tuning.source_check,
            proxy: Proxy::default(),
            batch: tuning.batch,
        };
        let (queue, misses) = queue::misses(64);
        let counters = Arc::<Counters>::default();
        // As the program has it.
        let (tap, watch) = tap::tap();
        let worker = Worker::new(settings, umem, queue, counters.clone()).with_tap(tap);
        Self { worker, counters, misses, watch }
    }
}

/// The prefix that holds `address`, as long as sites' prefixes are.
pub(super) fn site_prefix(v4: bool) -> Prefix {
    site(local(v4, 0), (16, 48))
}

/// A table with the site's prefix and hosts, and the remote prefixes behind their locators.
pub(super) fn table(families: Families, mappings: &Mappings, readers: usize) -> (Writer, Vec<Reader>) {
    let (mut writer, readers) = cache::new(mappings.len() + 1 + usize::from(HOSTS), readers);
    let core = Adjacency { port: CORE, destination: CORE_MAC, source: OUR_MAC, vlan: None, mtu: MTU };
    let candidate = |address| {
        let outer = OuterHeader::new(&core, rloc(families.outer4, true), address, InstanceId::DEFAULT);
        Candidate { address, priority: 1, weight: 50, outer }
    };
    let sets: Vec<SetId> = mappings
        .sets()
        .map(|rlocs| {
            let candidates: Vec<Candidate> = rlocs.iter().copied().map(candidate).collect();
            let choice = Choice::Tunnel(LocatorSet::compile(&candidates).expect("a usable locator"));
            writer.add_set(&rlocs, &choice).expect("a table with room")
        })
        .collect();
    let v4 = families.inner4;
    let host = Adjacency { port: SITE, destination: SITE_MAC, source: OUR_MAC, vlan: None, mtu: MTU };
    let mut insert = |prefix, forwarding| {
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix };
        writer.insert(eid, forwarding).expect("a table with room");
    };
    insert(site_prefix(v4), Forwarding::Local(Delivery::Unresolved));
    for number in 0..HOSTS {
        insert(site(local(v4, number), (32, 128)), Forwarding::Local(Delivery::Adjacent(host)));
    }

    for (index, prefix) in mappings.prefixes().iter().enumerate() {
        insert(*prefix, Forwarding::Encapsulate(sets[mappings.set_of(index) as usize]));
    }
    writer.publish();
    (writer, readers)
}

/// Packets of one turn of the address-swapping forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Swapped {
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// One turn of the address-swapping forwarder between two ports, both ways, with as many frames at a time as `batch` has
/// room for.
pub(super) fn swap_turn<P: Port>(umem: &mut Umem, ports: &mut [P], batch: &mut Vec<Frame>) -> Swapped {
    let mut turn = Swapped::default();
    for ingress in 0..ports.len() {
        let limit = batch.capacity();
        ports[ingress].receive(umem, batch, limit);
        turn.received += batch.len();
        for frame in batch.iter_mut() {
            if let Some((addresses, _)) = umem.octets_mut(frame).split_at_mut_checked(12) {
                let (destination, source) = addresses.split_at_mut(6);
                destination.swap_with_slice(source);
            }
        }
        turn.sent += ports[1 - ingress].transmit(umem, batch);
        // What the ring refuses is lost, as with any forwarder.
        batch.drain(..).for_each(|frame| umem.release(frame));
    }
    turn
}
