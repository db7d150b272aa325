//! Our own mappings while the router runs: what the configuration says, and what clients of the mapping API made of that.
//!
//! The configuration is the operator's word: what it names is so again when it is read again. What clients put in beside it stays
//! over that, until they take it out, or leave if it was to go with them; what they made of a mapping of the configuration
//! is then as that says.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Bound, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, MapVersion, Mapping};

use crate::api::{Asker, Origin};

/// One of our mappings.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// What is told of it; R bits as they were given.
    pub mapping: Mapping,
    /// [`Origin::Static`] or [`Origin::Api`].
    pub origin: Origin,
    /// Since when it is there.
    pub since: Instant,
    /// It need not have a locator of ours.
    pub foreign: bool,
    /// It goes with this client.
    pub owner: Option<Asker>,
    /// How many a client had put in when this one was; see [`Database::puts`].
    pub put: u64,
}

/// What a change made of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Prefixes that are ours no more.
    pub gone: Vec<EidPrefix>,
    /// Prefixes that are ours from now on.
    pub new: Vec<EidPrefix>,
    /// Prefixes of ours whose mapping says something else.
    pub changed: Vec<EidPrefix>,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Database {
    /// What the configuration says.
    written: BTreeMap<EidPrefix, Mapping>,
    running: BTreeMap<EidPrefix, Own>,
    /// What clients have taken out of what the configuration says, as it was last: peers may hold it yet.
    taken: BTreeMap<EidPrefix, Mapping>,
    puts: u64,
}

impl Database {
    /// As the configuration says.
    #[must_use]
    pub fn new(written: &[Mapping], now: Instant) -> Self {
        let written: BTreeMap<EidPrefix, Mapping> = written.iter().map(|own| (own.eid, own.clone())).collect();
        let running = written.iter().map(|(eid, mapping)| (*eid, as_written(mapping, now))).collect();
        Self { written, running, taken: BTreeMap::new(), puts: 0 }
    }

    /// The mapping of exactly this prefix.
    #[must_use]
    pub fn get(&self, eid: &EidPrefix) -> Option<&Own> {
        self.running.get(eid)
    }

    /// All mappings, ascending by prefix.
    pub fn iter(&self) -> impl Iterator<Item = &Own> {
        self.running.values()
    }

    /// The same, from this prefix on.
    pub fn iter_from(&self, start: Bound<EidPrefix>) -> impl Iterator<Item = &Own> {
        self.running.range((start, Bound::Unbounded)).map(|(_, own)| own)
    }

    /// Their prefixes, ascending.
    #[must_use]
    pub fn eids(&self) -> Vec<EidPrefix> {
        self.running.keys().copied().collect()
    }

    /// What peers may hold of exactly this prefix: what there is, or was before a client took it out.
    #[must_use]
    pub fn held(&self, eid: &EidPrefix) -> Option<&Mapping> {
        self.running.get(eid).map(|own| &own.mapping).or_else(|| self.taken.get(eid))
    }

    /// How often clients have put one in. One whose [`Own::put`] is not above is what a client made before now.
    #[must_use]
    pub const fn puts(&self) -> u64 {
        self.puts
    }

    /// Those that clients have put in or changed.
    pub fn by_clients(&self) -> impl Iterator<Item = &Own> {
        self.iter().filter(|own| own.origin == Origin::Api)
    }

    /// Whether any mapping goes with this client.
    #[must_use]
    pub fn owns_some(&self, asker: Asker) -> bool {
        self.iter().any(|own| own.owner == Some(asker))
    }

    /// A client's mapping takes the place of what is there.
    pub fn put(&mut self, now: Instant, mapping: Mapping, foreign: bool, owner: Option<Asker>) -> Difference {
        let eid = mapping.eid;
        self.puts += 1;
        self.taken.remove(&eid);
        let own = Own { mapping, origin: Origin::Api, since: now, foreign, owner, put: self.puts };
        let mut difference = Difference::default();
        match self.running.get_mut(&eid) {
            None => {
                self.running.insert(eid, own);
                difference.new.push(eid);
            }
            Some(before) => {
                *before = Own { since: before.since, ..own };
                difference.changed.push(eid);
            }
        }
        difference
    }

    /// Takes one out, whoever put it in.
    pub fn take(&mut self, eid: &EidPrefix) -> Difference {
        let Some(own) = self.running.remove(eid) else { return Difference::default() };
        if self.written.contains_key(eid) {
            self.taken.insert(*eid, own.mapping);
        }
        Difference { gone: vec![*eid], ..Difference::default() }
    }

    /// Undoes what clients have made of at most `max` of these prefixes: what they put in goes, what they changed is again as the
    /// configuration says. The latter comes first, as those who hold what was there until now have something to learn. What clients
    /// have taken out stays out until the configuration is read again. For `versions` see [`follow`].
    pub fn undo(&mut self, now: Instant, which: impl Fn(&Own) -> bool, max: usize, versions: bool) -> Difference {
        let made = self.by_clients().filter(|own| which(own)).map(|own| own.mapping.eid);
        let (again, gone): (Vec<EidPrefix>, Vec<EidPrefix>) = made.partition(|eid| self.written.contains_key(eid));
        let mut difference = Difference::default();
        for eid in again.into_iter().chain(gone).take(max) {
            let Some(before) = self.running.remove(&eid) else { continue };
            if let Some(mapping) = self.written.get(&eid) {
                let mapping = if versions { follow(mapping.clone(), &before.mapping) } else { mapping.clone() };
                self.running.insert(eid, as_written(&mapping, now));
                difference.changed.push(eid);
            } else {
                difference.gone.push(eid);
            }
        }
        difference
    }

    /// What it would be with this configuration: as that says, and beside it what clients put in. For `versions` see [`follow`]: it
    /// is about mappings of which the configuration says what it said before.
    #[must_use]
    pub fn rewritten(&self, written: &[Mapping], now: Instant, versions: bool) -> Self {
        let mut next = Self { puts: self.puts, ..Self::new(written, now) };
        for (eid, own) in &mut next.running {
            if let Some(before) = self.running.get(eid) {
                own.since = before.since;
            }
            if let Some(before) = self.held(eid).filter(|_| versions && self.written.get(eid) == Some(&own.mapping)) {
                own.mapping = follow(own.mapping.clone(), before);
            }
        }
        for own in self.by_clients() {
            next.running.entry(own.mapping.eid).or_insert_with(|| own.clone());
        }
        next
    }

    /// What changes from this to `next`.
    #[must_use]
    pub fn difference(&self, next: &Self) -> Difference {
        let mut difference = Difference::default();
        difference.gone.extend(self.running.keys().filter(|eid| !next.running.contains_key(eid)));
        for (eid, own) in &next.running {
            match self.running.get(eid) {
                None => difference.new.push(*eid),
                Some(before) if before.mapping != own.mapping || before.origin != own.origin => {
                    difference.changed.push(*eid);
                }
                Some(_) => {}
            }
        }
        difference
    }
}

impl Difference {
    /// What both have made, one after the other, of different prefixes.
    pub fn extend(&mut self, other: Self) {
        self.gone.extend(other.gone);
        self.new.extend(other.new);
        self.changed.extend(other.changed);
    }

    /// All prefixes that it is about; first those of which peers hold what is wrong now, last those of which they need nothing.
    #[must_use]
    pub fn concerned(&self) -> Vec<EidPrefix> {
        [&self.changed[..], &self.new, &self.gone].concat()
    }
}

/// A mapping in the place of `before`, with the version that it must have where packets carry versions: the next one if its
/// locators are others, else the one there is. With an older one packets of peers that know `before` would be dropped (RFC 9302
/// §7.1). What peers knew no version of has its own.
#[must_use]
pub fn follow(mapping: Mapping, before: &Mapping) -> Mapping {
    match MapVersion::new(before.version) {
        Some(version) if mapping.locators != before.locators => Mapping { version: version.next().get(), ..mapping },
        Some(version) => Mapping { version: version.get(), ..mapping },
        None => mapping,
    }
}

fn as_written(mapping: &Mapping, since: Instant) -> Own {
    Own { mapping: mapping.clone(), origin: Origin::Static, since, foreign: false, owner: None, put: 0 }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Action, InstanceId, Locator, Ttl};

    use super::*;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn mapping(text: &str, last: u8) -> Mapping {
        let locators = vec![Locator::unicast([240, 0, 254, last].into(), 1, 100)];
        Mapping { locators, ..Mapping::negative(eid(text), Ttl::Minutes(5), Action::NoAction) }
    }

    /// Prefix, last octet of its locator, and whether a client said so.
    fn shown(database: &Database) -> Vec<(String, u8, bool)> {
        let last = |own: &Own| match own.mapping.locators[0].address {
            std::net::IpAddr::V4(address) => address.octets()[3],
            std::net::IpAddr::V6(_) => panic!("IPv4 only"),
        };
        database.iter().map(|own| (own.mapping.eid.to_string(), last(own), own.origin == Origin::Api)).collect()
    }

    fn rows(rows: &[(&str, u8, bool)]) -> Vec<(String, u8, bool)> {
        rows.iter().map(|(eid, last, api)| ((*eid).to_owned(), *last, *api)).collect()
    }

    #[test]
    fn what_is_written_is_so_again_and_what_clients_put_beside_it_stays() {
        let now = Instant::now();
        let written = [mapping("1.1.0.0/16", 10), mapping("1.2.0.0/16", 10), mapping("1.3.0.0/16", 10)];
        let mut database = Database::new(&written, now);
        assert_eq!(database.put(now, mapping("1.9.0.0/16", 11), false, None).new, [eid("1.9.0.0/16")]);
        assert_eq!(database.put(now, mapping("1.2.0.0/16", 11), false, None).changed, [eid("1.2.0.0/16")]);
        assert_eq!(database.take(&eid("1.3.0.0/16")).gone, [eid("1.3.0.0/16")]);
        assert_eq!(database.take(&eid("1.3.0.0/16")), Difference::default());
        let changed = rows(&[("1.1.0.0/16", 10, false), ("1.2.0.0/16", 11, true), ("1.9.0.0/16", 11, true)]);
        assert_eq!(shown(&database), changed);

        // The same file once more: it holds, and what it says nothing of stays.
        let again = database.rewritten(&written, now, false);
        assert_eq!(
            shown(&again),
            rows(&[
                ("1.1.0.0/16", 10, false),
                ("1.2.0.0/16", 10, false),
                ("1.3.0.0/16", 10, false),
                ("1.9.0.0/16", 11, true)
            ])
        );
        let difference = database.difference(&again);
        assert_eq!((difference.new, difference.changed), (vec![eid("1.3.0.0/16")], vec![eid("1.2.0.0/16")]));
        assert!(difference.gone.is_empty());

        // A file that names what a client put in, and no more what a client changed: that stays the client's.
        let other = database.rewritten(&[mapping("1.9.0.0/16", 12)], now, false);
        assert_eq!(shown(&other), rows(&[("1.2.0.0/16", 11, true), ("1.9.0.0/16", 12, false)]));
        let difference = database.difference(&other);
        assert_eq!((difference.gone, difference.changed), (vec![eid("1.1.0.0/16")], vec![eid("1.9.0.0/16")]));
    }

    #[test]
    fn what_clients_made_is_undone_and_nothing_else() {
        let now = Instant::now();
        let written = [mapping("1.1.0.0/16", 10), mapping("1.2.0.0/16", 10), mapping("1.3.0.0/16", 10)];
        let mut database = Database::new(&written, now);
        database.put(now, mapping("1.2.0.0/16", 11), false, None);
        database.put(now, mapping("1.8.0.0/16", 11), false, None);
        database.put(now, mapping("1.9.0.0/16", 11), false, Some(Asker(1)));
        database.take(&eid("1.3.0.0/16"));
        assert_eq!(database.undo(now, |_| false, 9, false), Difference::default());
        // What is again as it is written comes before what goes, wherever it lies.
        let first = database.undo(now, |_| true, 1, false);
        assert_eq!((first.gone.len(), &first.changed[..]), (0, &[eid("1.2.0.0/16")][..]));
        let one = |own: &Own| own.mapping.eid != eid("1.8.0.0/16");
        let mut undone = database.undo(now, one, 9, false);
        assert_eq!((&undone.gone[..], undone.new.len(), undone.changed.len()), (&[eid("1.9.0.0/16")][..], 0, 0));
        undone.extend(first);
        assert_eq!(undone.concerned(), [eid("1.2.0.0/16"), eid("1.9.0.0/16")]);
        assert_eq!(database.undo(now, |_| true, 9, false).gone, [eid("1.8.0.0/16")]);
        assert_eq!(shown(&database), rows(&[("1.1.0.0/16", 10, false), ("1.2.0.0/16", 10, false)]));
        assert_eq!(database.undo(now, |_| true, 9, false), Difference::default());
    }

    #[test]
    fn where_packets_carry_versions_none_comes_back_that_is_older_than_what_peers_know() {
        let now = Instant::now();
        let of_version = |version, last| Mapping { version, ..mapping("1.1.0.0/16", last) };
        let written = [of_version(7, 10)];
        let version = |database: &Database| {
            let own = database.get(&eid("1.1.0.0/16")).unwrap();
            (own.mapping.version, own.origin)
        };
        for (changed, versions, then) in [
            (of_version(8, 11), true, 9),
            (of_version(4095, 11), true, 1),
            (of_version(8, 10), true, 8),
            (of_version(0, 11), true, 7),
            (of_version(8, 11), false, 7),
        ] {
            let mut database = Database::new(&written, now);
            database.put(now, changed.clone(), false, None);
            assert_eq!(version(&database.rewritten(&written, now, versions)), (then, Origin::Static), "{changed:?}");
            database.undo(now, |_| true, 9, versions);
            assert_eq!(version(&database), (then, Origin::Static), "{changed:?}");
            // Nor with a configuration that says what it said; another one is the operator's word.
            let again = database.rewritten(&written, now, versions);
            assert_eq!((version(&again), again.difference(&database)), ((then, Origin::Static), Difference::default()));
            // Nor when a client has taken it out meanwhile.
            let mut without = Database::new(&written, now);
            without.put(now, changed.clone(), false, None);
            assert_eq!(without.take(&changed.eid).gone, [changed.eid]);
            assert_eq!(without.held(&changed.eid), Some(&changed));
            assert_eq!(version(&without.rewritten(&written, now, versions)), (then, Origin::Static), "{changed:?}");
            let other = database.rewritten(&[of_version(5, 12)], now, versions);
            assert_eq!(version(&other), (5, Origin::Static), "{changed:?}");
        }
    }

    #[test]
    fn what_goes_with_a_client_gives_way_to_what_is_written() {
        let (now, client, other) = (Instant::now(), Asker(1), Asker(2));
        let mut database = Database::new(&[mapping("1.1.0.0/16", 10), mapping("1.2.0.0/16", 10)], now);
        database.put(now, mapping("1.1.0.0/16", 11), false, Some(client));
        database.put(now, mapping("1.8.0.0/16", 11), false, Some(client));
        database.put(now, mapping("1.9.0.0/16", 11), false, Some(other));
        // What another puts in its place is the other's.
        database.put(now, mapping("1.2.0.0/16", 11), false, Some(client));
        database.put(now, mapping("1.2.0.0/16", 12), false, None);
        assert!(database.owns_some(client) && !database.owns_some(Asker(3)));
        let left = database.undo(now, |own| own.owner == Some(client), 9, false);
        assert_eq!((left.gone, left.changed), (vec![eid("1.8.0.0/16")], vec![eid("1.1.0.0/16")]));
        assert_eq!(
            shown(&database),
            rows(&[("1.1.0.0/16", 10, false), ("1.2.0.0/16", 12, true), ("1.9.0.0/16", 11, true)])
        );
        assert!(!database.owns_some(client) && database.owns_some(other));
    }

    #[test]
    fn what_was_put_in_before_is_told_from_what_was_put_in_since() {
        let now = Instant::now();
        let mut database = Database::new(&[mapping("1.1.0.0/16", 10)], now);
        database.put(now, mapping("1.1.0.0/16", 11), false, None);
        database.put(now, mapping("1.8.0.0/16", 11), false, None);
        let before = database.puts();
        database.put(now, mapping("1.8.0.0/16", 12), false, None);
        database.put(now, mapping("1.9.0.0/16", 12), false, None);
        // Also after the configuration was read again.
        let mut again = database.rewritten(&[mapping("1.2.0.0/16", 10)], now, false);
        for database in [&mut database, &mut again] {
            database.undo(now, |own| own.put <= before, 9, false);
            let left: Vec<EidPrefix> = database.by_clients().map(|own| own.mapping.eid).collect();
            assert_eq!(left, [eid("1.8.0.0/16"), eid("1.9.0.0/16")]);
            assert!(database.by_clients().all(|own| own.put > before));
        }
        assert_eq!(again.puts(), database.puts());
    }

    #[test]
    fn an_entry_keeps_its_age_while_it_is_changed() {
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(5);
        let mut database = Database::new(&[mapping("1.1.0.0/16", 10)], now);
        database.put(later, mapping("1.1.0.0/16", 11), false, None);
        database.put(later, mapping("1.2.0.0/16", 11), false, None);
        let since = |database: &Database| database.iter().map(|own| own.since).collect::<Vec<_>>();
        assert_eq!(since(&database), [now, later]);
        let again = database.rewritten(&[mapping("1.1.0.0/16", 10)], later, false);
        assert_eq!(since(&again), [now, later]);
        assert_eq!(again.iter_from(Bound::Excluded(eid("1.1.0.0/16"))).count(), 1);
    }
}
