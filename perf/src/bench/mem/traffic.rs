//! Packets of many flows at little cost: a template out of the cache, and the dozen octets in which flows differ.
//!
//! A million flows as whole headers would be 60 to 120 MB that have to be read and written for every round of them, and
//! that would be what is measured. The octets of a flow are read in the order in which they lie, so the processor has
//! them ready; subject and reference get their packets alike.

use std::net::IpAddr;

use altitude_dataplane::{
    frame::{Frame, Umem},
    mapping::Prefix,
};

use crate::bench::{
    Direction, Families, Size,
    mappings::Mappings,
    packets::{Ends, HEAD_MAX, HOSTS, Template, local, template},
};

/// Packets after which traffic drawn by chance repeats itself.
const DRAWN: u32 = 1 << 20;

/// Which flow each packet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Order {
    /// Every flow in its turn, in an order without order; flow n is to prefix n, over and over the prefixes.
    Turns,
    /// Every packet to another host of a prefix that chance picks: nothing is like the packet before.
    Random,
    /// By chance, flow n with a weight of 1/n: few make most of the traffic.
    Zipf,
}

/// What makes up the traffic of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) direction: Direction,
    pub(super) families: Families,
    pub(super) size: Size,
    pub(super) flows: u32,
    pub(super) order: Order,
    /// Share of the packets that have a mapping, percent.
    pub(super) hit: u8,
}

/// The octets of a flow in the inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inner {
    /// The remote address: all of it, or the first half.
    eid: [u8; 8],
    balance: [u8; 2],
    port: [u8; 2],
}

/// Which address of the inner header is the remote one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

impl Inner {
    /// Into the IP header `AT` these octets.
    #[inline(always)]
    fn write<const AT: usize>(&self, v4: bool, side: Side, octets: &mut [u8; HEAD_MAX]) {
        if v4 {
            let eid = AT + if side == Side::Destination { 16 } else { 12 };
            octets[AT + 4..AT + 6].copy_from_slice(&self.balance);
            octets[eid..eid + 4].copy_from_slice(&self.eid[..4]);
            octets[AT + 20..AT + 22].copy_from_slice(&self.port);
        } else {
            let eid = AT + if side == Side::Destination { 24 } else { 8 };
            octets[eid..eid + 8].copy_from_slice(&self.eid);
            octets[AT + 40..AT + 42].copy_from_slice(&self.port);
        }
    }
}

/// The octets of a flow in the outer packet.
#[derive(Debug, Clone, Copy)]
struct Outer {
    /// The last four of the RLOC.
    rloc: [u8; 4],
    balance: [u8; 2],
    port: [u8; 2],
}

/// All packets of a case, ready to be written.
#[derive(Debug)]
pub(in crate::bench) struct Traffic {
    families: Families,
    /// One for each packet of the mix of sizes, of each host of the site.
    templates: Vec<Template>,
    inner: Vec<Inner>,
    /// As many, if packets are encapsulated; else none.
    outer: Vec<Outer>,
}

/// Where a port is in the traffic.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::bench) struct Place {
    packet: usize,
    size: usize,
}

impl Traffic {
    pub(super) fn new(shape: Shape, mappings: &Mappings) -> Self {
        let Shape { direction, families, size, flows, order, hit } = shape;
        let mut chance = Chance(0x0a17_17d5);
        let strangers = if hit < 100 { mappings.strangers(flows.min(1 << 16) as usize) } else { Vec::new() };
        let mut flow = |index: usize| {
            let random = chance.next();
            let known = mappings.prefixes()[index % mappings.len()];
            let prefix = if random % 100 < u64::from(hit) { known } else { strangers[index % strangers.len()] };
            let rlocs = mappings.rlocs(mappings.set_of(index % mappings.len()));
            let [_, .., a, b, c, d] = random.to_le_bytes();
            let rloc = rlocs[usize::from(a) % rlocs.len()];
            (inner(prefix, a, [b, c]), outer(rloc, [0xc0 | d, a]))
        };
        let order: Vec<usize> = match order {
            Order::Turns => shuffled(flows, &mut Chance(flows.into())),
            Order::Random => {
                let mut pick = Chance(u64::from(flows) + 1);
                (0..flows).map(|_| pick.below(mappings.len() as u64) as usize).collect()
            }
            Order::Zipf => zipf(flows, &mut Chance(u64::from(flows) + 2)),
        };
        let flows: Vec<(Inner, Outer)> = match shape.order {
            // A host of its own for every packet.
            Order::Random => order.into_iter().map(&mut flow).collect(),
            Order::Turns | Order::Zipf => {
                let flows: Vec<_> = (0..flows as usize).map(&mut flow).collect();
                order.into_iter().map(|index| flows[index]).collect()
            }
        };
        let (inner, mut outer): (Vec<_>, Vec<_>) = flows.into_iter().unzip();
        if direction == Direction::Encap {
            outer = Vec::new();
        }
        let sizes = size.inners(families);
        let templates = (0..sizes.len() * usize::from(HOSTS))
            .map(|number| base(direction, families, sizes[number % sizes.len()], (number % usize::from(HOSTS)) as u8))
            .collect();
        Self { families, templates, inner, outer }
    }

    /// Makes `frame` the next packet, as a port would have received it. Only the headers are written; the payload is
    /// whatever was there.
    pub(in crate::bench) fn write(&self, place: &mut Place, umem: &mut Umem, frame: &mut Frame) {
        let template = &self.templates[place.size];
        umem.renew(frame);
        assert!(umem.set_len(frame, HEAD_MAX), "a fresh frame has room for the headers");
        let octets: &mut [u8; HEAD_MAX] = umem.octets_mut(frame).try_into().expect("the length just set");
        let Families { inner4, outer4 } = self.families;
        match self.outer.get(place.packet) {
            None => {
                // One cache line holds all headers.
                octets[..64].copy_from_slice(&template.room()[..64]);
                self.inner[place.packet].write::<14>(inner4, Side::Destination, octets);
            }
            Some(outer) if outer4 => {
                *octets = *template.room();
                octets[18..20].copy_from_slice(&outer.balance);
                octets[26..30].copy_from_slice(&outer.rloc);
                octets[34..36].copy_from_slice(&outer.port);
                self.inner[place.packet].write::<{ 14 + 36 }>(inner4, Side::Source, octets);
            }
            Some(outer) => {
                *octets = *template.room();
                octets[34..38].copy_from_slice(&outer.rloc);
                octets[54..56].copy_from_slice(&outer.port);
                self.inner[place.packet].write::<{ 14 + 56 }>(inner4, Side::Source, octets);
            }
        }
        assert!(umem.set_len(frame, template.total()), "a packet of a size that was checked");
        place.packet = if place.packet + 1 == self.inner.len() { 0 } else { place.packet + 1 };
        place.size = if place.size + 1 == self.templates.len() { 0 } else { place.size + 1 };
    }

    /// A place `share` hundredths into the traffic: two workers do not take the same packets at the same time.
    pub(in crate::bench) const fn place(&self, share: usize) -> Place {
        Place { packet: self.inner.len() * share / 100, size: 0 }
    }
}

/// The packet that all flows are variants of: where they differ, it is zero, and its checksums are right for whatever
/// adds up to zero there.
fn base(direction: Direction, families: Families, inner: usize, host: u8) -> Template {
    let zero = |v4| if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0_u8; 16]) };
    // The locators of `Mappings` without their last four octets.
    let rloc = if families.outer4 { zero(true) } else { "2001:db8:fe::".parse().expect("an address") };
    let remote = zero(families.inner4);
    let balance = [0xffff, 0xffff];
    template(
        direction,
        families,
        Ends { local: local(families.inner4, host), remote, rloc, port: 0, outer_port: 0, balance },
        inner,
    )
}

fn inner(prefix: Prefix, host: u8, port: [u8; 2]) -> Inner {
    let mut eid = [0; 8];
    match prefix.address() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            eid[..4].copy_from_slice(&[a, b, c, host]);
        }
        IpAddr::V6(v6) => {
            eid.copy_from_slice(&v6.octets()[..8]);
            eid[7] = host;
        }
    }
    Inner { eid, balance: balance(&eid[..4]), port }
}

fn outer(rloc: IpAddr, port: [u8; 2]) -> Outer {
    let last: [u8; 4] = match rloc {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => (v6.to_bits() as u32).to_be_bytes(),
    };
    Outer { rloc: last, balance: balance(&last), port }
}

/// What makes the sum of the words 0xffff, one's complement's zero.
fn balance(octets: &[u8]) -> [u8; 2] {
    let sum: u32 = octets.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// 0 … `count` − 1, shuffled.
fn shuffled(count: u32, chance: &mut Chance) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count as usize).collect();
    for last in (1..all.len()).rev() {
        all.swap(last, chance.below(last as u64 + 1) as usize);
    }
    all
}

/// Ranks below `count`, drawn with weight 1/(rank + 1).
fn zipf(count: u32, chance: &mut Chance) -> Vec<usize> {
    let mut total = 0.0;
    let sums: Vec<f64> = (1..=count)
        .map(|rank| {
            total += 1.0 / f64::from(rank);
            total
        })
        .collect();
    let draw = |at: f64| sums.partition_point(|sum| *sum < at).min(sums.len() - 1);
    (0..DRAWN).map(|_| draw((chance.next() >> 11) as f64 / (1_u64 << 53) as f64 * total)).collect()
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `bound`, each alike but for a share that no measurement sees.
    const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }
}
