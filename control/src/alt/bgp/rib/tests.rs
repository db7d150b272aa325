//! The table and what neighbours were told of it, against looking at every route.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::alt::bgp::{
    aggregate::originated,
    route::{AsPath, Attributes, Origin, Segment},
    settings::{Families, PrefixList, Rule},
};

/// Attributes with this path and nothing else.
pub(in crate::alt::bgp) fn attributes(path: &[u32]) -> Attributes {
    let segments: Box<[Segment]> =
        if path.is_empty() { Box::default() } else { Box::new([Segment::Sequence(path.into())]) };
    Attributes { as_path: AsPath(segments), ..originated() }
}

/// Neighbours of the model: two of other ASes, one of our own, one more of the first one's AS.
const NEIGHBORS: [(u32, bool); 4] = [(64513, true), (64514, true), (64512, false), (64513, true)];

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn address(peer: usize) -> IpAddr {
    [10, 42, 0, 10 - peer as u8].into()
}

/// A quick way to one of few prefixes of both families, nested.
fn some_prefix(index: u8) -> Prefix {
    prefix(
        [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.1.0/24",
            "10.1.2.0/24",
            "10.2.0.0/16",
            "192.0.2.1/32",
            "::/0",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "2001:db8:1::/64",
            "2001:db8:2::1/128",
        ][usize::from(index) % 12],
    )
}

fn some_attributes(peer: usize, index: u8) -> Attributes {
    let asn = NEIGHBORS[peer].0;
    let plain = |path: &[u32]| match asn {
        64512 => attributes(path),
        _ => attributes(&[&[asn], path].concat()),
    };
    match index % 6 {
        0 => plain(&[]),
        1 => plain(&[7]),
        2 => Attributes { med: Some(5), ..plain(&[]) },
        3 => Attributes { origin: Origin::Egp, local_pref: (asn == 64512).then_some(200), ..plain(&[]) },
        4 => Attributes { communities: [0xffff_ff01].into(), ..plain(&[]) },
        _ => Attributes { communities: [0xffff_ff02].into(), ..plain(&[]) },
    }
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Learn { peer: usize, prefix: Prefix, attributes: u8, dampened: bool },
    Forget { peer: usize, prefix: Prefix },
    Reuse { peer: usize, prefix: Prefix },
    Originate { prefix: Prefix },
    Withdraw { prefix: Prefix },
    Age { peer: usize, family: Family },
    Sweep { peer: usize },
    Summarize { prefix: Prefix, only: bool },
    Aggregate { prefix: Prefix, on: bool },
    Open { peer: usize },
    Close { peer: usize },
    Refresh { peer: usize },
    Compare { peer: usize, max: usize },
}

fn change() -> impl Strategy<Value = Change> {
    (0_u8..26, 0_usize..4, any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(kind, peer, which, index, flag)| {
        let prefix = some_prefix(which);
        match kind {
            0..8 => Change::Learn { peer, prefix, attributes: index, dampened: index > 220 },
            8..11 => Change::Forget { peer, prefix },
            11 => Change::Reuse { peer, prefix },
            12 => Change::Originate { prefix },
            13 => Change::Withdraw { prefix },
            14 => Change::Age { peer, family: if flag { Family::V4 } else { Family::V6 } },
            15 => Change::Sweep { peer },
            16 => Change::Summarize { prefix, only: flag },
            17 => Change::Open { peer },
            18 => Change::Close { peer },
            19 => Change::Refresh { peer },
            20 | 21 => Change::Aggregate { prefix, on: flag },
            _ => Change::Compare { peer, max: usize::from(index % 5) + 1 },
        }
    })
}

/// One route as the model keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Plain {
    attributes: Attributes,
    dampened: bool,
    stale: bool,
}

/// Everything in plain maps, looked through from end to end.
#[derive(Default)]
struct Model {
    routes: BTreeMap<(Prefix, RouteSource), Plain>,
    summaries: BTreeSet<Prefix>,
    /// What was there once, in an aggregate.
    known: BTreeSet<Prefix>,
}

impl Model {
    /// Written without a look at the decision process: each rule throws out whoever another one beats by it.
    fn selected(&self, prefix: Prefix) -> Option<(RouteSource, &Attributes)> {
        let of_prefix = self.routes.iter().filter(|((other, _), plain)| *other == prefix && !plain.dampened);
        let mut left: Vec<(RouteSource, &Attributes)> =
            of_prefix.map(|((_, source), plain)| (*source, &plain.attributes)).collect();
        let peer = |source: &RouteSource| match source {
            RouteSource::Peer(peer) => Some(peer.0),
            _ => None,
        };
        let external = |source: &RouteSource| peer(source).is_some_and(|peer| NEIGHBORS[peer].1);
        type Route<'a> = (RouteSource, &'a Attributes);
        type Rule<'a> = &'a dyn Fn(&Route<'_>, &Route<'_>) -> bool;
        let beaten_by: [Rule<'_>; 9] = [
            &|one, other| peer(&other.0).is_none() && peer(&one.0).is_some(),
            &|one, other| other.0 == RouteSource::Local && one.0 == RouteSource::Aggregate,
            &|one, other| {
                let preference = |(source, attributes): &(RouteSource, &Attributes)| match external(source) {
                    true => 100,
                    false => attributes.local_pref.unwrap_or(100),
                };
                preference(other) > preference(one)
            },
            &|one, other| other.1.as_path.length() < one.1.as_path.length(),
            &|one, other| other.1.origin < one.1.origin,
            &|one, other| {
                let first = |attributes: &Attributes| match attributes.as_path.0.first() {
                    Some(Segment::Sequence(asns)) => asns[0],
                    _ => 0,
                };
                first(one.1) == first(other.1) && other.1.med.unwrap_or(0) < one.1.med.unwrap_or(0)
            },
            &|one, other| external(&other.0) && !external(&one.0),
            // Identifiers run with the numbers of the neighbours, two by two the same; addresses against them.
            &|one, other| peer(&other.0).map(|peer| peer / 2) < peer(&one.0).map(|peer| peer / 2),
            &|one, other| peer(&other.0) > peer(&one.0),
        ];
        for beaten in beaten_by {
            let all = left.clone();
            left.retain(|one| !all.iter().any(|other| beaten(one, other)));
        }
        assert!(left.len() <= 1, "{left:?}");
        left.pop()
    }

    fn exported(&self, peer: usize, list: &PrefixList, families: Families) -> BTreeMap<Prefix, Attributes> {
        let prefixes: BTreeSet<Prefix> = self.routes.keys().map(|(prefix, _)| *prefix).collect();
        let mut told = BTreeMap::new();
        for prefix in prefixes {
            let Some((source, attributes)) = self.selected(prefix) else { continue };
            let internal = matches!(source, RouteSource::Peer(from) if !NEIGHBORS[from.0].1);
            let kept = attributes.communities.contains(&0xffff_ff02)
                || attributes.communities.contains(&0xffff_ff01) && NEIGHBORS[peer].1;
            let beneath = self.summaries.iter().any(|summary| *summary != prefix && summary.covers(&prefix));
            let back = source == RouteSource::Peer(PeerId(peer)) || internal && !NEIGHBORS[peer].1;
            if !back && !kept && !beneath && list.permits(&prefix) && families.contains(Family::of(&prefix)) {
                told.insert(prefix, attributes.clone());
            }
        }
        told
    }

    fn lookup(&self, address: IpAddr) -> Option<(u8, RouteSource)> {
        let mut holding: Vec<Prefix> =
            self.routes.keys().map(|(prefix, _)| *prefix).chain(self.known.iter().copied()).collect();
        holding.retain(|prefix| prefix.contains(address));
        holding.sort_by_key(Prefix::length);
        let lost = |prefix: &Prefix| self.known.contains(prefix) && self.selected(*prefix).is_none();
        let best = holding.iter().rev().find(|prefix| self.selected(**prefix).is_some())?;
        let (source, _) = self.selected(*best)?;
        let above = holding.iter().any(|prefix| prefix.length() > best.length() && lost(prefix));
        (source != RouteSource::Aggregate || !above).then_some((best.length(), source))
    }

    fn usable(&self) -> BTreeSet<Prefix> {
        let prefixes: BTreeSet<Prefix> = self.routes.keys().map(|(prefix, _)| *prefix).collect();
        prefixes.into_iter().filter(|prefix| self.selected(*prefix).is_some()).collect()
    }

    /// After a change: what was usable before and is not any more is known, if an aggregate is around it.
    fn remember(&mut self, before: &BTreeSet<Prefix>) {
        let aggregates: Vec<Prefix> = self
            .routes
            .keys()
            .filter(|(_, source)| *source == RouteSource::Aggregate)
            .map(|(prefix, _)| *prefix)
            .collect();
        if aggregates.is_empty() {
            self.known.clear();
        }
        let around = |prefix: &Prefix| aggregates.iter().any(|one| one != prefix && one.covers(prefix));
        let gone = before.difference(&self.usable()).filter(|prefix| around(prefix)).copied().collect::<Vec<_>>();
        self.known.extend(gone);
    }
}

/// A neighbour: what it was told, as it would keep it itself.
#[derive(Default)]
struct Told {
    out: Option<AdjOut>,
    kept: BTreeMap<Prefix, Attributes>,
}

/// The table, its model, and the neighbours.
struct Rig {
    table: Table,
    model: Model,
    neighbors: [Told; 4],
    lists: [PrefixList; 4],
    graves: Vec<adj_out::Told>,
}

impl Rig {
    fn new() -> Self {
        let mut table =
            Table::new(NEIGHBORS.iter().enumerate().map(|(peer, (_, external))| (*external, address(peer))));
        for peer in 0..4 {
            table.identify(PeerId(peer), [10, 0, 0, peer as u8 / 2].into());
        }
        let deny = Rule { permit: false, prefix: prefix("10.1.0.0/16"), ge: 24, le: 24 };
        let rest = |text| Rule { permit: true, prefix: prefix(text), ge: 0, le: 128 };
        let some = PrefixList(vec![deny, rest("0.0.0.0/0"), rest("::/0")]);
        let all = PrefixList::default;
        let lists = [all(), some, all(), all()];
        Self { table, model: Model::default(), neighbors: Default::default(), lists, graves: Vec::new() }
    }

    /// The third neighbour's session carries IPv6 alone.
    fn families(peer: usize) -> Families {
        if peer == 2 { Families { v4: false, v6: true } } else { Families::ALL }
    }

    fn learn(&mut self, source: RouteSource, prefix: Prefix, attributes: Attributes, dampened: bool) {
        let id = self.table.attributes.hold(attributes.clone());
        let before = self.model.routes.get(&(prefix, source)).map(|plain| plain.attributes != attributes);
        assert_eq!(self.table.learn(source, prefix, id, dampened), before);
        self.model.routes.insert((prefix, source), Plain { attributes, dampened, stale: false });
    }

    fn forget(&mut self, source: RouteSource, prefix: Prefix) {
        assert_eq!(self.table.forget(source, &prefix), self.model.routes.remove(&(prefix, source)).is_some());
    }

    fn apply(&mut self, change: Change) {
        let before = self.model.usable();
        self.apply_to_both(change);
        self.model.remember(&before);
    }

    fn apply_to_both(&mut self, change: Change) {
        let of = |peer: usize| RouteSource::Peer(PeerId(peer));
        match change {
            Change::Learn { peer, prefix, attributes, dampened } => {
                self.learn(of(peer), prefix, some_attributes(peer, attributes), dampened);
            }
            Change::Forget { peer, prefix } => self.forget(of(peer), prefix),
            Change::Reuse { peer, prefix } => {
                self.table.dampen(of(peer), &prefix, false);
                if let Some(plain) = self.model.routes.get_mut(&(prefix, of(peer))) {
                    plain.dampened = false;
                }
            }
            Change::Originate { prefix } => self.learn(RouteSource::Local, prefix, originated(), false),
            Change::Withdraw { prefix } => self.forget(RouteSource::Local, prefix),
            Change::Age { peer, family } => {
                self.table.age(PeerId(peer), family);
                let aged = |prefix: &Prefix, source: &RouteSource| *source == of(peer) && Family::of(prefix) == family;
                let routes = self.model.routes.iter_mut().filter(|((prefix, source), _)| aged(prefix, source));
                routes.for_each(|(_, plain)| plain.stale = true);
            }
            Change::Sweep { peer } => {
                let mut next = Some(0);
                while let Some(start) = next {
                    next = self.table.sweep(PeerId(peer), [true; 2], start, 2);
                }
                self.model.routes.retain(|(_, source), plain| *source != of(peer) || !plain.stale);
            }
            Change::Summarize { prefix, only } => {
                self.table.summarize(prefix, only);
                self.model.summaries.remove(&prefix);
                if only {
                    self.model.summaries.insert(prefix);
                }
                self.neighbors.iter_mut().filter_map(|told| told.out.as_mut()).for_each(|out| out.scan(Families::NONE));
            }
            Change::Aggregate { prefix, on: true } => self.learn(RouteSource::Aggregate, prefix, originated(), false),
            Change::Aggregate { prefix, on: false } => self.forget(RouteSource::Aggregate, prefix),
            Change::Open { peer } => {
                if self.neighbors[peer].out.is_none() {
                    self.neighbors[peer].out = Some(AdjOut::new(&mut self.table));
                }
            }
            Change::Close { peer } => {
                if let Some(out) = self.neighbors[peer].out.take() {
                    self.graves.push(out.close(&mut self.table));
                    self.neighbors[peer].kept.clear();
                }
            }
            Change::Refresh { peer } => {
                if let Some(out) = &mut self.neighbors[peer].out {
                    out.scan(Families::ALL);
                }
            }
            Change::Compare { peer, max } => self.compare(peer, max),
        }
    }

    fn compare(&mut self, peer: usize, max: usize) {
        let told = &mut self.neighbors[peer];
        let Some(out) = &mut told.out else { return };
        let export = Export {
            peer: PeerId(peer),
            external: NEIGHBORS[peer].1,
            families: Self::families(peer),
            list: &self.lists[peer],
            default_originate: false,
        };
        let mut batch = Batch::default();
        let end = self.table.end();
        out.compare(&mut self.table, &export, end, max, &mut batch);
        assert!(batch.visited <= max);
        for prefix in batch.withdrawn {
            assert!(told.kept.remove(&prefix).is_some(), "{prefix} was never announced");
        }
        for (id, prefix) in batch.announced {
            told.kept.insert(prefix, self.table.attributes.get(id).attributes.clone());
        }
        assert_eq!(out.count(), told.kept.len());
        let positions = self.neighbors.iter().filter_map(|told| told.out.as_ref()).map(AdjOut::position);
        self.table.forget_log(positions.min().unwrap());
    }

    /// Everything told, everything compared.
    fn settle(&mut self) {
        for peer in 0..4 {
            while self.neighbors[peer].out.as_ref().is_some_and(|out| out.behind(&self.table, Position::MAX)) {
                self.compare(peer, 3);
            }
            let expected = self.model.exported(peer, &self.lists[peer], Self::families(peer));
            if self.neighbors[peer].out.is_some() {
                assert_eq!(self.neighbors[peer].kept, expected, "neighbour {peer}");
            }
            let held =
                self.model.routes.keys().filter(|(_, source)| *source == RouteSource::Peer(PeerId(peer))).count();
            assert_eq!(self.table.held(PeerId(peer)), held);
        }
        let mut shown = Vec::new();
        self.table.show(None, &mut |one| {
            shown.push((one.prefix, one.source, one.selected, one.stale, one.dampened, one.attributes.clone()));
            ControlFlow::Continue(())
        });
        assert!(shown.is_sorted_by_key(|(prefix, ..)| *prefix));
        assert_eq!(shown.len(), self.model.routes.len());
        for (prefix, source, selected, stale, dampened, attributes) in shown {
            let plain = &self.model.routes[&(prefix, source)];
            assert_eq!((stale, dampened, &attributes), (plain.stale, plain.dampened, &plain.attributes));
            assert_eq!(selected, self.model.selected(prefix).is_some_and(|(best, _)| best == source), "{prefix}");
        }
        for which in 0..12 {
            let address = some_prefix(which).address();
            assert_eq!(self.table.lookup(address), self.model.lookup(address), "{address}");
        }
    }

    /// Nothing is kept that nobody needs.
    fn empty(&mut self) {
        for peer in 0..4 {
            self.apply(Change::Close { peer });
            Family::ALL.into_iter().for_each(|family| self.apply(Change::Age { peer, family }));
            self.apply(Change::Sweep { peer });
        }
        (0..12).for_each(|which| self.apply(Change::Withdraw { prefix: some_prefix(which) }));
        (0..12).for_each(|which| self.apply(Change::Aggregate { prefix: some_prefix(which), on: false }));
        for grave in &mut self.graves {
            while !grave.is_empty() {
                self.table.let_go(grave, 2);
            }
        }
        assert_eq!((self.table.counts(), self.table.attributes.len()), ((0, 0), 0));
        assert!((0..self.table.destinations.places()).all(|number| self.table.destinations.get(number).is_none()));
    }
}

proptest! {
    #[test]
    fn neighbours_know_what_they_should_whatever_happened(changes in prop::collection::vec(change(), 1..160)) {
        let mut rig = Rig::new();
        rig.apply(Change::Open { peer: 0 });
        let half = changes.len() / 2;
        for (count, change) in changes.into_iter().enumerate() {
            rig.apply(change);
            if count == half {
                rig.settle();
            }
        }
        rig.settle();
        rig.empty();
    }
}

#[test]
fn a_route_that_came_and_went_is_told_to_nobody() {
    let mut rig = Rig::new();
    rig.apply(Change::Open { peer: 1 });
    rig.settle();
    let flap = |rig: &mut Rig| {
        rig.apply(Change::Learn { peer: 0, prefix: prefix("10.0.0.0/8"), attributes: 0, dampened: false });
        rig.apply(Change::Forget { peer: 0, prefix: prefix("10.0.0.0/8") });
    };
    (0..100).for_each(|_| flap(&mut rig));
    let mut batch = Batch::default();
    let list = PrefixList::default();
    let export =
        Export { peer: PeerId(1), external: true, families: Families::ALL, list: &list, default_originate: false };
    let end = rig.table.end();
    let mut out = rig.neighbors[1].out.take().unwrap();
    out.compare(&mut rig.table, &export, end, 1000, &mut batch);
    assert!(batch.announced.is_empty() && batch.withdrawn.is_empty());
}

#[test]
fn a_gap_passes_over_routes_that_are_held_back() {
    let mut rig = Rig::new();
    rig.apply(Change::Originate { prefix: prefix("10.1.0.0/16") });
    rig.apply(Change::Learn { peer: 0, prefix: prefix("10.1.1.0/24"), attributes: 0, dampened: true });
    rig.apply(Change::Learn { peer: 0, prefix: prefix("10.1.2.0/24"), attributes: 0, dampened: false });
    let asked: IpAddr = [10, 1, 1, 7].into();
    assert_eq!(rig.table.lookup(asked), Some((16, RouteSource::Local)));
    assert_eq!(rig.table.gap(asked), prefix("10.1.0.0/23"));
    rig.apply(Change::Reuse { peer: 0, prefix: prefix("10.1.1.0/24") });
    assert_eq!(rig.table.gap(asked), prefix("10.1.1.0/24"));
}

#[test]
fn a_component_that_is_lost_is_no_hole() {
    let mut rig = Rig::new();
    let component = prefix("10.1.1.0/24");
    let (inside, hole): (IpAddr, IpAddr) = ([10, 1, 1, 7].into(), [10, 1, 9, 7].into());
    rig.apply(Change::Learn { peer: 0, prefix: prefix("10.2.0.0/16"), attributes: 0, dampened: false });
    rig.apply(Change::Forget { peer: 0, prefix: prefix("10.2.0.0/16") });
    rig.apply(Change::Aggregate { prefix: prefix("10.1.0.0/16"), on: true });
    rig.apply(Change::Learn { peer: 0, prefix: component, attributes: 0, dampened: false });
    let aggregate = Some((16, RouteSource::Aggregate));
    assert_eq!(rig.table.lookup(inside), Some((24, RouteSource::Peer(PeerId(0)))));
    rig.apply(Change::Forget { peer: 0, prefix: component });
    assert_eq!((rig.table.lookup(inside), rig.table.lookup(hole)), (None, aggregate));
    assert_eq!(rig.table.gap(inside), component);
    assert_eq!(rig.table.gap(hole), prefix("10.1.8.0/21"), "the hole around does not reach into it");
    // Where a route of a neighbour leads on around it, that one does.
    rig.apply(Change::Learn { peer: 1, prefix: prefix("10.1.0.0/16"), attributes: 0, dampened: false });
    assert_eq!(rig.table.lookup(inside), None, "ours is before the neighbour's of the same prefix");
    rig.apply(Change::Aggregate { prefix: prefix("10.1.0.0/16"), on: false });
    assert_eq!(rig.table.lookup(inside), Some((16, RouteSource::Peer(PeerId(1)))));
    assert_eq!(rig.table.remembered.len(), 0);
}

#[test]
fn as_many_lost_components_are_remembered_as_fit() {
    let mut rig = Rig::new();
    rig.table.aggregates.push(prefix("10.0.0.0/8"));
    let id = rig.table.attributes.hold(attributes(&[64513]));
    let component = |number: u32| Prefix::new(Ipv4Addr::from_bits(0x0a00_0000 + (number << 7)).into(), 25).unwrap();
    for number in 0..66_000 {
        let held = rig.table.attributes.hold_again(id);
        rig.table.learn(RouteSource::Peer(PeerId(0)), component(number), held, false);
        rig.table.forget(RouteSource::Peer(PeerId(0)), &component(number));
    }
    assert_eq!(rig.table.remembered.len(), 65_536);
    let known = |number: u32| rig.table.tries[0].get(Key::from(&component(number))).is_some();
    assert!(!known(0) && !known(463) && known(464) && known(65_999));
}
