//! The table of a dataplane that is not ours: the map-cache and the publisher as the router has them, filled by the caller and
//! read by threads of the caller's through [`altitude_dataplane::inline`].
//!
//! There is no underlay: each locator has a path unless the caller says that it has none, and what stands in front of packets on
//! their links is the caller's. Mappings stay until they are taken out.

#![forbid(unsafe_code)]

use std::{collections::BTreeSet, net::IpAddr, ops::Bound, time::Instant};

use altitude_dataplane::{
    cache::{self, Hits, Reader},
    features::Features,
    inline::next_hop,
    mapping::{EidPrefix, Mapping},
};

use crate::{
    api::{self, Offer, Refused},
    map_cache::{self, MapCache},
    prefix_map::PrefixMap,
    prober::State,
    publisher::{self, Path, Paths, Publisher},
};

/// What a table is made for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most mappings and EID-prefixes of its own together.
    pub capacity: usize,
    /// Most threads that read it.
    pub threads: usize,
    /// Our RLOCs, the preferred ones of a family first: where outer packets come from, and where they are taken in.
    pub rlocs: Vec<IpAddr>,
    /// Largest IP packet towards other tunnel routers, octets.
    pub core_mtu: u16,
    /// Largest IP packet towards hosts of the site, octets.
    pub site_mtu: u16,
}

/// See the module's text.
pub struct Table {
    settings: Settings,
    map_cache: MapCache,
    publisher: Publisher,
    own: PrefixMap<()>,
    down: BTreeSet<IpAddr>,
}

/// What the publisher asks of the underlay.
struct Ends<'a> {
    core_mtu: u16,
    down: &'a BTreeSet<IpAddr>,
}

impl Paths for Ends<'_> {
    fn path(&self, _: IpAddr) -> Path {
        Path::Ready(next_hop(self.core_mtu))
    }

    fn source(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }

    fn probed(&self, locator: IpAddr) -> State {
        if self.down.contains(&locator) { State::Down } else { State::Unknown }
    }
}

/// Locators that cannot be reached, at one time.
const DOWN_MAX: usize = 4096;

const FULL: Refused =
    Refused::Full("the table is full, or a thread that reads it has neither read nor gone offline for long");

impl Table {
    /// An empty table, and what its threads read it by.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> (Self, Vec<Reader>) {
        let (writer, readers) = cache::new(settings.capacity, settings.threads);
        let publisher = Publisher::new(
            publisher::Settings {
                rlocs: settings.rlocs.clone(),
                petrs: Vec::new(),
                hosts_max: 0,
                native_by_host: false,
                features: Features::default(),
            },
            writer,
        );
        let map_cache = MapCache::new(map_cache::Settings { capacity: settings.capacity }, now);
        (Self { settings, map_cache, publisher, own: PrefixMap::new(), down: BTreeSet::new() }, readers)
    }

    /// Puts a mapping in, in the place of one that is there; if there is no room, the prefix has none.
    ///
    /// # Errors
    /// [`Refused::Invalid`]: it makes no sense, or is about our own EIDs; [`Refused::Full`].
    pub fn put(&mut self, now: Instant, mapping: Mapping) -> Result<(), Refused> {
        let eid = mapping.eid;
        let offer = Offer { table: api::Table::Cache, mapping, life: None, ephemeral: false, foreign: false };
        offer.check()?;
        if let Some((own, ())) = self.own.covering(&eid) {
            return Err(Refused::Invalid(format!("{eid} lies inside our own EID-prefix {own}")));
        }
        let room = self.map_cache.get(&eid).is_some() || self.len() < self.settings.capacity;
        if room {
            self.step(now, map_cache::Input::Put(offer.mapping, None));
        }
        self.end();
        if room && self.publisher.is_in_force(&eid) {
            return Ok(());
        }
        self.step(now, map_cache::Input::Remove(eid));
        self.end();
        Err(FULL)
    }

    /// Takes the mapping of exactly this prefix out; false if there is none.
    pub fn remove(&mut self, now: Instant, eid: &EidPrefix) -> bool {
        let there = self.map_cache.get(eid).is_some();
        self.step(now, map_cache::Input::Remove(*eid));
        self.end();
        there
    }

    /// Makes a prefix one of ours: packets from it are encapsulated, packets to it delivered.
    ///
    /// # Errors
    /// [`Refused::Invalid`]: there is a mapping of this prefix, or of one inside it; [`Refused::Full`].
    pub fn own(&mut self, eid: EidPrefix) -> Result<(), Refused> {
        // In the table's order what lies inside a prefix stands right behind it.
        let inside = self.map_cache.iter_from(Bound::Included(eid)).next().filter(|cached| eid.covers(&cached.eid));
        if let Some(cached) = inside {
            return Err(Refused::Invalid(format!("{} has a mapping: take it out first", cached.eid)));
        }
        if self.own.get(&eid).is_none() && self.len() >= self.settings.capacity {
            return Err(FULL);
        }
        self.publisher.own_behind(eid, next_hop(self.settings.site_mtu), &mut Vec::new());
        self.own.insert(eid, ());
        self.end();
        if self.publisher.is_in_force(&eid) {
            return Ok(());
        }
        self.disown(&eid);
        Err(FULL)
    }

    /// A prefix is ours no more; false if it was not.
    pub fn disown(&mut self, eid: &EidPrefix) -> bool {
        let there = self.own.remove(eid).is_some();
        if there {
            self.publisher.disown(&[*eid], &mut Vec::new());
            self.end();
        }
        there
    }

    /// A locator can be reached, or cannot: all mappings that have it follow. False if it was known.
    ///
    /// # Errors
    /// [`Refused::Full`]: it is known from now on, and takes effect with a later call; or 4096 locators cannot be reached.
    pub fn judge(&mut self, locator: IpAddr, up: bool) -> Result<bool, Refused> {
        if !up && self.down.len() >= DOWN_MAX && !self.down.contains(&locator) {
            return Err(Refused::Full("as many locators are out of use as may be: take some back"));
        }
        let turned = if up { self.down.remove(&locator) } else { self.down.insert(locator) };
        if turned {
            let ends = Ends { core_mtu: self.settings.core_mtu, down: &self.down };
            self.publisher.path_changed(locator, &ends);
        }
        if self.end() { Ok(turned) } else { Err(FULL) }
    }

    /// What used the entry of exactly this prefix; `None` if there is none.
    #[must_use]
    pub fn hits(&self, eid: &EidPrefix) -> Option<Hits> {
        let there = self.map_cache.get(eid).is_some() || self.own.get(eid).is_some();
        there.then(|| self.publisher.hits(eid))
    }

    /// Mappings and EID-prefixes of its own.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map_cache.len() + self.own.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn step(&mut self, now: Instant, input: map_cache::Input) {
        let (mut todo, mut watches) = (Vec::new(), Vec::new());
        self.map_cache.step(now, input, &|_| 0, &mut todo);
        let ends = Ends { core_mtu: self.settings.core_mtu, down: &self.down };
        for output in todo {
            match output {
                map_cache::Output::Publish(mapping, set) => {
                    self.publisher.show(&mapping, set, &ends, &mut watches);
                }
                map_cache::Output::Withdraw(eid) => self.publisher.hide(&eid, &mut watches),
                map_cache::Output::Release(set) => self.publisher.release(set, &mut watches),
                // Nothing is learned here, so nothing is to be asked for again; what is refused shows in the answer.
                map_cache::Output::Refresh(_) | map_cache::Output::Used(_) | map_cache::Output::Fault(_) => {}
            }
        }
    }

    /// Ends a change, trying again what found no room; false if that still finds none.
    fn end(&mut self) -> bool {
        self.publisher.publish();
        if self.publisher.wants_mending() {
            let ends = Ends { core_mtu: self.settings.core_mtu, down: &self.down };
            self.publisher.mend(&self.map_cache, &ends, &mut Vec::new());
            self.publisher.publish();
        }
        !self.publisher.wants_mending()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use altitude_dataplane::{
        inline::Inline,
        mapping::{Action, Eid, InstanceId, Locator, Ttl},
        verdict::{Miss, Reason, Verdict, Wanted},
        wire::checksum,
        worker::SourceCheck,
    };

    use super::*;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn mapping(text: &str, locators: &[&str]) -> Mapping {
        let locators = locators.iter().map(|rloc| Locator::unicast(rloc.parse().unwrap(), 1, 100)).collect();
        Mapping { locators, ..Mapping::negative(eid(text), Ttl::ReceiverDecides, Action::NoAction) }
    }

    fn settings(side: u8, capacity: usize) -> Settings {
        let rlocs = vec![[240, 0, 254, side].into(), format!("2001:db8:254::{side}").parse().unwrap()];
        Settings { capacity, threads: 1, rlocs, core_mtu: 1500, site_mtu: 1500 }
    }

    /// UDP from 1.1.1.1 to 2.2.2.2 with this many octets of payload, `room` octets into its memory.
    fn packet(room: usize, payload: usize) -> (Vec<u8>, std::ops::Range<usize>) {
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 9, 0, 9, 0, 0, 0, 0];
        ip.resize(28 + payload, 7);
        let total = (ip.len() as u16).to_be_bytes();
        ip[2..4].copy_from_slice(&total);
        let sealed = checksum::checksum(&ip[..20]).to_be_bytes();
        ip[10..12].copy_from_slice(&sealed);
        let range = room..room + ip.len();
        ([vec![0xee; room], ip].concat(), range)
    }

    #[test]
    fn what_goes_into_one_table_comes_out_at_the_other() {
        let start = Instant::now();
        for rloc in ["240.0.254.2", "2001:db8:254::2"] {
            let ((mut ours, mut here), (mut theirs, mut there)) =
                (Table::new(settings(1, 8), start), Table::new(settings(2, 8), start));
            ours.own(eid("1.1.0.0/16")).unwrap();
            ours.put(start, mapping("2.2.0.0/16", &[rloc])).unwrap();
            theirs.own(eid("2.2.0.0/16")).unwrap();
            let inline = |side| Inline::new(&settings(side, 8).rlocs, 5, SourceCheck::Standard, Arc::default());
            let (mut itr, mut etr) = (inline(1), inline(2));
            let (mut memory, range) = packet(100, 300);
            let before = memory[range.clone()].to_vec();
            let out = itr.output(&here[0].snapshot(), InstanceId::DEFAULT, &mut memory, range.clone());
            assert!(matches!(out.verdict, Verdict::Send(_)) && !out.native, "{out:?}");
            let outer = if rloc.contains(':') { 56 } else { 36 };
            assert_eq!((out.start, out.length), (100 - outer, before.len() + outer));
            let back = etr.input(&there[0].snapshot(), &mut memory, out.start..out.start + out.length);
            assert!(matches!(back.verdict, Verdict::Send(_)) && back.instance == InstanceId::DEFAULT, "{back:?}");
            assert_eq!((back.start, back.length), (100, before.len()));
            // One hop was taken off, and the header's checksum is right.
            let after = &memory[100..100 + back.length];
            assert_eq!((after[8], checksum::checksum(&after[..20])), (63, 0));
            assert_eq!((&after[12..], &after[..8]), (&before[12..], &before[..8]));
            assert_eq!(ours.hits(&eid("2.2.0.0/16")).unwrap().packets, 1);
            assert_eq!((itr.counters().encapsulated.get(), etr.counters().decapsulated.get()), (1, 1));
        }
    }

    #[test]
    fn what_cannot_go_says_why_and_stays_as_it_was() {
        let start = Instant::now();
        let (mut table, mut readers) = Table::new(settings(1, 8), start);
        let mut itr = Inline::new(&settings(1, 8).rlocs, 5, SourceCheck::Standard, Arc::default());
        let mut ask = |room, payload| {
            let (mut memory, range) = packet(room, payload);
            let before = memory[range.clone()].to_vec();
            let out = itr.output(&readers[0].snapshot(), InstanceId::DEFAULT, &mut memory, range.clone());
            let verdict = out.verdict;
            if !matches!(verdict, Verdict::Send(_)) {
                assert_eq!((out.start..out.start + out.length, &memory[range.clone()]), (range, &before[..]));
            }
            (verdict, out.native, memory[out.start + 8])
        };
        assert_eq!(ask(100, 9).0, Verdict::Drop(Reason::SourceNotLocal));
        table.own(eid("1.1.0.0/16")).unwrap();
        let destination = Eid { instance: InstanceId::DEFAULT, address: [2, 2, 2, 2].into() };
        let miss = Miss { wanted: Wanted::Mapping, destination, source: [1, 1, 1, 1].into() };
        assert_eq!(ask(100, 9).0, Verdict::Miss(miss));
        table.put(start, Mapping { action: Action::NativelyForward, ..mapping("2.2.0.0/16", &[]) }).unwrap();
        let (verdict, native, ttl) = ask(100, 9);
        assert!(matches!(verdict, Verdict::Send(_)) && native && ttl == 63, "{verdict:?}");
        table.put(start, Mapping { action: Action::Drop, ..mapping("2.2.0.0/16", &[]) }).unwrap();
        assert!(matches!(ask(100, 9).0, Verdict::Refuse(Reason::ActDrop, _)));
        table.put(start, mapping("2.2.0.0/16", &["240.0.254.2"])).unwrap();
        for (room, verdict) in [(49, false), (50, true)] {
            assert_eq!(matches!(ask(room, 9).0, Verdict::Send(_)), verdict, "{room} octets in front");
        }
        assert_eq!(ask(13, 9).0, Verdict::Drop(Reason::NoHeadroom));
        assert!(matches!(ask(100, 1500).0, Verdict::Refuse(Reason::TooBig, _)));
        assert_eq!(ask(100, 1800).0, Verdict::Drop(Reason::NoHeadroom), "longer than any");
        assert!(table.judge([240, 0, 254, 2].into(), false).unwrap());
        assert!(!table.judge([240, 0, 254, 2].into(), false).unwrap(), "it was known");
        assert!(matches!(ask(100, 9).0, Verdict::Refuse(Reason::NoUsableLocator, _)));
        assert!(table.judge([240, 0, 254, 2].into(), true).unwrap());
        assert!(matches!(ask(100, 9).0, Verdict::Send(_)));
        assert!(table.remove(start, &eid("2.2.0.0/16")) && !table.remove(start, &eid("2.2.0.0/16")));
        assert_eq!(ask(100, 9).0, Verdict::Miss(miss));
        assert!(table.disown(&eid("1.1.0.0/16")) && table.is_empty());
        assert_eq!(ask(100, 9).0, Verdict::Drop(Reason::SourceNotLocal));
    }

    #[test]
    fn what_pads_a_packet_does_not_make_it_another() {
        let start = Instant::now();
        let (mut table, mut readers) = Table::new(settings(1, 8), start);
        table.own(eid("1.1.0.0/16")).unwrap();
        let mut itr = Inline::new(&settings(1, 8).rlocs, 5, SourceCheck::Standard, Arc::default());
        let native = Mapping { action: Action::NativelyForward, ..mapping("2.2.0.0/16", &[]) };
        // As many octets of padding as the outer headers have, and others.
        for padding in [0, 7, 36] {
            for (mapping, is_native) in [(native.clone(), true), (mapping("2.2.0.0/16", &["240.0.254.2"]), false)] {
                table.put(start, mapping).unwrap();
                let (mut memory, range) = packet(100, 9);
                memory.resize(range.end + padding, 0);
                let out =
                    itr.output(&readers[0].snapshot(), InstanceId::DEFAULT, &mut memory, 100..range.end + padding);
                assert!(matches!(out.verdict, Verdict::Send(_)), "{out:?}");
                assert_eq!((out.native, out.start), (is_native, if is_native { 100 } else { 64 }), "{padding}");
            }
        }
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let start = Instant::now();
        let (mut table, mut readers) = Table::new(settings(1, 3), start);
        table.own(eid("1.1.0.0/16")).unwrap();
        table.put(start, mapping("2.2.0.0/16", &["240.0.254.2"])).unwrap();
        table.put(start, mapping("3.3.0.0/16", &["240.0.254.2"])).unwrap();
        assert!(matches!(table.put(start, mapping("4.4.0.0/16", &["240.0.254.2"])), Err(Refused::Full(_))));
        assert!(matches!(table.own(eid("5.5.0.0/16")), Err(Refused::Full(_))));
        assert!(matches!(table.put(start, mapping("1.1.1.0/24", &["240.0.254.2"])), Err(Refused::Invalid(_))));
        for outer in ["2.2.0.0/16", "2.0.0.0/8", "0.0.0.0/0"] {
            assert!(matches!(table.own(eid(outer)), Err(Refused::Invalid(_))), "{outer}");
        }
        let known = |table: &mut Reader, last: u8| {
            table.snapshot().lookup(InstanceId::DEFAULT, [last, last, 0, 1].into()).is_some()
        };
        assert_eq!([1, 2, 3, 4, 5].map(|last| known(&mut readers[0], last)), [true, true, true, false, false]);
        // What changes again and again leaves room, as long as the reader reads.
        for round in 0..10_000 {
            let rloc = format!("240.0.254.{}", round % 200 + 3);
            table.put(start + Duration::from_millis(round), mapping("3.3.0.0/16", &[&rloc])).unwrap();
            let _turn = readers[0].snapshot();
        }
        assert_eq!(table.len(), 3);
    }
}
