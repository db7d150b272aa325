//! Our own mappings while the router runs: what the configuration says, and what clients of the mapping API made of that.
//!
//! The configuration is the operator's word: what it names is so again when it is read again. What clients put in beside it stays
//! over that, until they take it out, or leave if it was to go with them; what they made of a mapping of the configuration
//! is then as that says.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Bound, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Mapping};

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
}

impl Database {
    /// As the configuration says.
    #[must_use]
    pub fn new(written: &[Mapping], now: Instant) -> Self {
        let written: BTreeMap<EidPrefix, Mapping> = written.iter().map(|own| (own.eid, own.clone())).collect();
        let running = written.iter().map(|(eid, mapping)| (*eid, as_written(mapping, now))).collect();
        Self { written, running }
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
        let own = Own { mapping, origin: Origin::Api, since: now, foreign, owner };
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
        let gone = self.running.remove(eid).map(|_| *eid).into_iter().collect();
        Difference { gone, ..Difference::default() }
    }

    /// A client is gone, and its mappings with it; what the configuration says in their place is so again.
    pub fn leave(&mut self, now: Instant, asker: Asker) -> Difference {
        self.undo(now, |own| own.owner == Some(asker))
    }

    /// All that clients have put in or changed goes, of one instance or of all; what the configuration says in its place is so again.
    /// What they have taken out stays out until the configuration is read again.
    pub fn flush(&mut self, now: Instant, instance: Option<InstanceId>) -> Difference {
        self.undo(now, |own| instance.is_none_or(|instance| own.mapping.eid.instance == instance))
    }

    /// Undoes these changes of clients.
    fn undo(&mut self, now: Instant, which: impl Fn(&Own) -> bool) -> Difference {
        let mut difference = Difference::default();
        let made: Vec<EidPrefix> = self.by_clients().filter(|own| which(own)).map(|own| own.mapping.eid).collect();
        for eid in made {
            if let Some(mapping) = self.written.get(&eid) {
                self.running.insert(eid, as_written(mapping, now));
                difference.changed.push(eid);
            } else {
                self.running.remove(&eid);
                difference.gone.push(eid);
            }
        }
        difference
    }

    /// What it would be with this configuration: as that says, and beside it what clients put in.
    #[must_use]
    pub fn rewritten(&self, written: &[Mapping], now: Instant) -> Self {
        let mut next = Self::new(written, now);
        for (eid, own) in &mut next.running {
            if let Some(before) = self.running.get(eid) {
                own.since = before.since;
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

    /// All prefixes that it is about.
    #[must_use]
    pub fn concerned(&self) -> Vec<EidPrefix> {
        [&self.gone[..], &self.new, &self.changed].concat()
    }
}

fn as_written(mapping: &Mapping, since: Instant) -> Own {
    Own { mapping: mapping.clone(), origin: Origin::Static, since, foreign: false, owner: None }
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
        let again = database.rewritten(&written, now);
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
        let other = database.rewritten(&[mapping("1.9.0.0/16", 12)], now);
        assert_eq!(shown(&other), rows(&[("1.2.0.0/16", 11, true), ("1.9.0.0/16", 12, false)]));
        let difference = database.difference(&other);
        assert_eq!((difference.gone, difference.changed), (vec![eid("1.1.0.0/16")], vec![eid("1.9.0.0/16")]));
    }

    #[test]
    fn a_flush_undoes_what_clients_made_and_nothing_else() {
        let now = Instant::now();
        let written = [mapping("1.1.0.0/16", 10), mapping("1.2.0.0/16", 10), mapping("1.3.0.0/16", 10)];
        let mut database = Database::new(&written, now);
        database.put(now, mapping("1.2.0.0/16", 11), false, None);
        database.put(now, mapping("1.8.0.0/16", 11), false, None);
        database.put(now, mapping("1.9.0.0/16", 11), false, Some(Asker(1)));
        database.take(&eid("1.3.0.0/16"));
        assert_eq!(database.flush(now, InstanceId::new(7)), Difference::default(), "nothing is of that instance");
        let undone = database.flush(now, Some(InstanceId::DEFAULT));
        assert_eq!(
            (undone.gone, undone.changed),
            (vec![eid("1.8.0.0/16"), eid("1.9.0.0/16")], vec![eid("1.2.0.0/16")])
        );
        assert!(undone.new.is_empty());
        assert_eq!(shown(&database), rows(&[("1.1.0.0/16", 10, false), ("1.2.0.0/16", 10, false)]));
        assert_eq!(database.flush(now, None), Difference::default());
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
        let left = database.leave(now, client);
        assert_eq!((left.gone, left.changed), (vec![eid("1.8.0.0/16")], vec![eid("1.1.0.0/16")]));
        assert_eq!(
            shown(&database),
            rows(&[("1.1.0.0/16", 10, false), ("1.2.0.0/16", 12, true), ("1.9.0.0/16", 11, true)])
        );
        assert!(!database.owns_some(client) && database.leave(now, client) == Difference::default());
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
        let again = database.rewritten(&[mapping("1.1.0.0/16", 10)], later);
        assert_eq!(since(&again), [now, later]);
        assert_eq!(again.iter_from(Bound::Excluded(eid("1.1.0.0/16"))).count(), 1);
    }
}
