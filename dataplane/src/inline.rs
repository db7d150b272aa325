//! One packet at a time, in memory of the caller's: for dataplanes that are not ours, which receive and send by themselves.
//!
//! IP in, IP out: what stands in front of a packet on its links is the caller's. The packet takes the same two paths as a
//! worker's, with the same checks, counters and reasons; only what becomes of it is told instead of done. A link-layer header is
//! written in front of it where those paths look for one.

#![forbid(unsafe_code)]

use std::{net::IpAddr, ops::Range, sync::Arc};

use crate::{
    batch::Batch,
    cache::Snapshot,
    classify::{FlowKey, Rlocs},
    counters::Counters,
    encap::{Context, Setup},
    features::Features,
    frame::{HEADROOM, SLOT},
    mapping::{Adjacency, InstanceId},
    port,
    proxy::Proxy,
    verdict::{Reason, Verdict},
    wire::ethernet::{IPV4, IPV6},
    worker::{DscpModel, PortRole, SourceCheck},
};

/// Longest IP packet, octets.
pub const PACKET_MAX: usize = SLOT - HEADROOM;
/// Most octets that a packet grows by, and those of the link-layer header in front of it: what must be free there.
pub const ROOM: usize = 40 + 8 + 8 + LINK;
/// Octets of a link-layer header.
const LINK: usize = 14;

/// One thread's state.
#[derive(Debug)]
pub struct Inline {
    setup: Setup,
    batch: Box<Batch>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// With [`Verdict::Send`] the packet goes out; with any other it is as it came. The port says nothing.
    pub verdict: Verdict,
    /// Where it is now: octets of the memory.
    pub start: usize,
    /// Its length, octets.
    pub length: usize,
    /// It goes out without an outer header (ACT 1).
    pub native: bool,
    /// With [`Verdict::Split`] the longest packet that passes, octets; else 0.
    pub limit: u16,
    /// The instance that its LISP header named; of packets to be encapsulated the one that was asked about.
    pub instance: InstanceId,
}

/// The next hop that tables for this have everywhere: the caller finds its own. `mtu` is the largest IP packet there, octets.
#[must_use]
pub const fn next_hop(mtu: u16) -> Adjacency {
    Adjacency { port: 0, destination: [0; 6], source: [0; 6], vlan: None, mtu }
}

impl Inline {
    /// A thread that encapsulates and decapsulates for these RLOCs. All threads of a table have the same seed, so that a flow
    /// takes one way. No other thread writes to `counters`.
    #[must_use]
    pub fn new(rlocs: &[IpAddr], hash_seed: u32, source_check: SourceCheck, counters: Arc<Counters>) -> Self {
        let setup = Setup {
            ports: vec![role(true, InstanceId::DEFAULT), role(false, InstanceId::DEFAULT)],
            rlocs: Rlocs::new(rlocs),
            key: FlowKey::new(hash_seed),
            hash_seed,
            source_check,
            asks_sources: source_check != SourceCheck::Standard,
            proxy: Proxy::default(),
            features: Features::default(),
            kept: DscpModel::Uniform.kept(),
            counters,
        };
        Self { setup, batch: Box::default() }
    }

    /// What it counts.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.setup.counters
    }

    /// Encapsulates the IP packet in this part of `memory`, which came from a site of `instance`. What lies in front of it, up
    /// to [`ROOM`] octets, is written over.
    ///
    /// # Panics
    /// If the part reaches beyond the memory.
    pub fn output(
        &mut self,
        cache: &Snapshot<'_>,
        instance: InstanceId,
        memory: &mut [u8],
        packet: Range<usize>,
    ) -> Decided {
        self.decide(cache, &role(true, instance), memory, packet)
    }

    /// Decapsulates the IP packet in this part of `memory`, which came from the core. What lies in front of it, up to [`ROOM`]
    /// octets, may be written over; 14 must be free.
    ///
    /// # Panics
    /// If the part reaches beyond the memory.
    pub fn input(&mut self, cache: &Snapshot<'_>, memory: &mut [u8], packet: Range<usize>) -> Decided {
        self.decide(cache, &role(false, InstanceId::DEFAULT), memory, packet)
    }

    fn decide(&mut self, cache: &Snapshot<'_>, role: &PortRole, memory: &mut [u8], packet: Range<usize>) -> Decided {
        let Range { start, end } = packet;
        let length = end - start;
        let refused = Decided {
            verdict: Verdict::Drop(Reason::NoHeadroom),
            start,
            length,
            native: false,
            limit: 0,
            instance: role.instance,
        };
        if start < LINK || length > PACKET_MAX {
            count(&self.setup.counters, refused.verdict);
            return refused;
        }
        let front = start.min(ROOM);
        let lent = &mut memory[start - front..end];
        let ethertype = if lent.get(front).is_some_and(|first| first >> 4 == 6) { IPV6 } else { IPV4 };
        lent[front - LINK..front].fill(0);
        lent[front - 2..front].copy_from_slice(&ethertype.to_be_bytes());

        let Self { setup, batch } = self;
        port::with_lent(lent, front - LINK, |umem, frame| {
            let one = std::slice::from_mut(frame);
            batch.look_up(umem, one, role, cache, setup);
            let instance = batch.first_instance(umem.octets(&one[0])).unwrap_or(role.instance);
            let context = Context { cache, setup };
            let _same = batch.decide(umem, one, role.instance, &context, None);
            let verdict = batch.verdicts().next().expect("one was decided on");
            count(&setup.counters, verdict);
            if verdict == Verdict::Split {
                let limit = batch.first_limit(cache).min(usize::from(u16::MAX)) as u16;
                return Decided { verdict, limit, ..refused };
            }
            let (Verdict::Send(_) | Verdict::SendAndAsk(..)) = verdict else {
                return Decided { verdict, instance, ..refused };
            };
            Decided {
                verdict,
                start: start - front + one[0].start() + LINK,
                length: one[0].len() - LINK,
                limit: 0,
                // By where it begins: what padded it behind its end is gone.
                native: role.site && one[0].start() + LINK == front,
                instance,
            }
        })
    }
}

/// As a worker counts what it does not send.
fn count(counters: &Counters, verdict: Verdict) {
    match verdict {
        Verdict::Drop(reason) | Verdict::DropAndAsk(reason, _) | Verdict::Refuse(reason, _) => counters.drop(reason),
        Verdict::Miss(_) => counters.missed.add(1),
        Verdict::Send(_) | Verdict::SendAndAsk(..) | Verdict::Split => {}
    }
}

const fn role(site: bool, instance: InstanceId) -> PortRole {
    PortRole { site, core: !site, native: false, instance, mac: [0; 6], address4: None, address6: None }
}
