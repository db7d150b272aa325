//! Registrations, packed for millions: in numbered places, those of one prefix in a chain, locator-sets shared.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use altitude_dataplane::mapping::{Action, EidPrefix, Locator, MapVersion, Mapping, Ttl, routes, sort_locators};

use crate::{
    map_cache::{
        sets::{SetNumber, Sets},
        wheel::Wheel,
    },
    prefix_map::PrefixMap,
    slab::Slab,
};

/// The end of a chain.
pub(in crate::map_server) const END: u32 = u32::MAX;

/// Flags of a registration.
pub(in crate::map_server) mod flag {
    use crate::wire::MapRegister;

    pub(in crate::map_server) const PROXY: u8 = 1;
    pub(in crate::map_server) const MERGE: u8 = 2;
    pub(in crate::map_server) const BY_TTL: u8 = 4;
    /// The xTR speaks LISP-SEC.
    pub(in crate::map_server) const SIGNS: u8 = 8;
    /// It came through an RTR: no Map-Notify reaches the xTR but the answer to its Map-Register.
    pub(in crate::map_server) const RELAYED: u8 = 16;

    /// Those that the message sets.
    pub(in crate::map_server) fn of(message: &MapRegister) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(message.proxy, PROXY)
            | flag(message.merge, MERGE)
            | flag(message.ttl_timeout, BY_TTL)
            | flag(message.security, SIGNS)
    }
}

/// One EID-Prefix as one xTR registered it. 52 octets; its deadline is in the wheel.
#[derive(Debug, Clone)]
pub(in crate::map_server) struct Registration {
    pub(in crate::map_server) eid: EidPrefix,
    /// Who registered it.
    pub(in crate::map_server) registrant: u32,
    /// The registration of the same prefix that is next older, or [`END`].
    next: u32,
    /// Without one it is negative.
    set: Option<SetNumber>,
    ttl: u32,
    /// Since when it is registered without a break, seconds since 1970.
    pub(in crate::map_server) since: u32,
    version: u16,
    /// The Key ID used last.
    pub(in crate::map_server) key: u8,
    pub(in crate::map_server) flags: u8,
    /// How often a Map-Request went to an ETR, as far as choosing the next one needs it.
    turn: u8,
}

const _: () = assert!(size_of::<Option<Registration>>() <= 56, "each octet here is a megabyte with a million of them");

impl Registration {
    pub(in crate::map_server) const fn version(&self) -> Option<MapVersion> {
        MapVersion::new(self.version)
    }

    pub(in crate::map_server) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What an xTR is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Its xTR-ID (RFC 9301 §5.6).
    Xtr([u8; 16]),
    /// Without one, the address that it registers from.
    Source(IpAddr),
}

/// The last Map-Register that was accepted under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::map_server) struct Last {
    pub(in crate::map_server) key: u8,
    pub(in crate::map_server) nonce: u64,
    /// The start of its MAC, which tells it from another one with its nonce.
    pub(in crate::map_server) mac: u64,
}

impl Last {
    /// The start of a MAC.
    pub(in crate::map_server) fn start_of(mac: &[u8]) -> u64 {
        mac.first_chunk().map_or(0, |start| u64::from_be_bytes(*start))
    }
}

/// An xTR of a site. It is kept when its registrations end, for its nonces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::map_server) struct Registrant {
    pub(in crate::map_server) site: u32,
    pub(in crate::map_server) who: Who,
    pub(in crate::map_server) site_id: u64,
    /// Where its last Map-Register came from.
    pub(in crate::map_server) source: SocketAddr,
    /// Which of our addresses it was sent to.
    pub(in crate::map_server) local: IpAddr,
    /// One for each key it has used.
    pub(in crate::map_server) last: Vec<Last>,
    /// The Key ID used last.
    pub(in crate::map_server) key: u8,
    /// Its MACs are not cut off.
    pub(in crate::map_server) whole_mac: bool,
    /// When its last Map-Register came, seconds since 1970.
    pub(in crate::map_server) heard: u64,
    /// Registrations it has.
    pub(in crate::map_server) registrations: u32,
}

/// A registration to put in or renew.
#[derive(Debug, Clone, Copy)]
pub(in crate::map_server) struct New<'a> {
    pub(in crate::map_server) mapping: &'a Mapping,
    pub(in crate::map_server) registrant: u32,
    pub(in crate::map_server) key: u8,
    pub(in crate::map_server) flags: u8,
    pub(in crate::map_server) since: u32,
    /// Seconds since 1970.
    pub(in crate::map_server) expires: u64,
}

/// What came of that.
#[derive(Debug, Clone, Copy)]
pub(in crate::map_server) struct Put {
    pub(in crate::map_server) number: u32,
    /// It is new, or says something else than before.
    pub(in crate::map_server) changed: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(in crate::map_server) struct Table {
    pub(in crate::map_server) registrations: Slab<Registration>,
    pub(in crate::map_server) registrants: Slab<Registrant>,
    by_name: BTreeMap<(u32, Who), u32>,
    /// The first of each prefix's chain: the one renewed last.
    pub(in crate::map_server) index: PrefixMap<u32>,
    sets: Sets,
    wheel: Wheel,
    len: usize,
}

impl Table {
    /// An empty table; `second` is the time.
    pub(in crate::map_server) fn new(second: u64) -> Self {
        let mut wheel = Wheel::new();
        wheel.pop(second);
        Self {
            registrations: Slab::new(),
            registrants: Slab::new(),
            by_name: BTreeMap::new(),
            index: PrefixMap::new(),
            sets: Sets::new(),
            wheel,
            len: 0,
        }
    }

    /// Registrations.
    pub(in crate::map_server) const fn len(&self) -> usize {
        self.len
    }

    pub(in crate::map_server) fn registrant(&self, site: u32, who: Who) -> Option<u32> {
        self.by_name.get(&(site, who)).copied()
    }

    /// All xTRs of a site.
    pub(in crate::map_server) fn registrants_of(&self, site: u32) -> impl Iterator<Item = u32> + '_ {
        let from = (site, Who::Xtr([0; 16]));
        self.by_name.range(from..).take_while(move |((of, _), _)| *of == site).map(|(_, number)| *number)
    }

    pub(in crate::map_server) fn add_registrant(&mut self, registrant: Registrant) -> u32 {
        let name = (registrant.site, registrant.who);
        let number = self.registrants.insert(registrant);
        self.by_name.insert(name, number);
        number
    }

    pub(in crate::map_server) fn remove_registrant(&mut self, number: u32) -> Option<Registrant> {
        let registrant = self.registrants.remove(number)?;
        self.by_name.remove(&(registrant.site, registrant.who));
        Some(registrant)
    }

    /// All registrations of a prefix, the one renewed last first.
    pub(in crate::map_server) fn chain(&self, eid: &EidPrefix) -> impl Iterator<Item = (u32, &Registration)> {
        let head = self.index.get(eid).copied().unwrap_or(END);
        self.chain_from(head)
    }

    pub(in crate::map_server) fn chain_from(&self, head: u32) -> impl Iterator<Item = (u32, &Registration)> {
        let mut at = head;
        std::iter::from_fn(move || {
            let registration = self.registrations.get(at)?;
            Some((std::mem::replace(&mut at, registration.next), registration))
        })
    }

    /// When a registration ends, seconds since 1970.
    pub(in crate::map_server) fn expires(&self, number: u32) -> u64 {
        self.wheel.deadline(number).unwrap_or(0)
    }

    /// When to call [`expired`](Self::expired) next.
    pub(in crate::map_server) fn due(&self) -> Option<u64> {
        self.wheel.due()
    }

    /// A registration that has ended, not taken out yet.
    pub(in crate::map_server) fn expired(&mut self, second: u64) -> Option<u32> {
        self.wheel.pop(second).map(|(_, number)| number)
    }

    /// Puts in a registration, or renews the one of the same prefix and xTR; it is the first of its chain then.
    pub(in crate::map_server) fn put(&mut self, new: New<'_>) -> Put {
        let eid = new.mapping.eid;
        let locators = &new.mapping.locators[..];
        let set = (!locators.is_empty()).then(|| self.sets.share(eid.instance, locators));
        let fresh = Registration {
            eid,
            registrant: new.registrant,
            next: END,
            set,
            ttl: new.mapping.ttl.to_wire(),
            since: new.since,
            version: new.mapping.version,
            key: new.key,
            flags: new.flags,
            turn: 0,
        };
        let before = self.chain(&eid).find(|(_, one)| one.registrant == new.registrant).map(|(number, _)| number);
        let (number, changed) = match before {
            Some(number) => {
                self.unlink(&eid, number);
                let place = &mut self.registrations[number];
                let (since, turn) = (place.since, place.turn);
                let old = std::mem::replace(place, Registration { since, turn, ..fresh.clone() });
                old.set.map(|set| self.sets.leave(set));
                let said = |one: &Registration| (one.set, one.ttl, one.version, one.key, one.flags);
                (number, said(&old) != said(&fresh))
            }
            None => {
                self.len += 1;
                self.registrants[new.registrant].registrations += 1;
                (self.registrations.insert(fresh), true)
            }
        };
        self.registrations[number].next = self.index.insert(eid, number).unwrap_or(END);
        self.wheel.arm(number, new.expires);
        Put { number, changed }
    }

    /// Takes out a registration; true if it was the last of its prefix.
    pub(in crate::map_server) fn remove(&mut self, number: u32) -> bool {
        let Some(eid) = self.registrations.get(number).map(|one| one.eid) else { return false };
        self.unlink(&eid, number);
        self.wheel.disarm(number);
        if let Some(registration) = self.registrations.remove(number) {
            self.len -= 1;
            self.registrants[registration.registrant].registrations -= 1;
            registration.set.map(|set| self.sets.leave(set));
        }
        self.index.get(&eid).is_none()
    }

    /// Takes a registration out of its chain.
    fn unlink(&mut self, eid: &EidPrefix, number: u32) {
        let next = self.registrations[number].next;
        let before = self.chain(eid).find(|(_, one)| one.next == number).map(|(before, _)| before);
        match before {
            Some(before) => self.registrations[before].next = next,
            None if next == END => drop(self.index.remove(eid)),
            None => drop(self.index.insert(*eid, next)),
        }
    }

    pub(in crate::map_server) fn locators(&self, registration: &Registration) -> &[Locator] {
        registration.set.map_or(&[], |set| self.sets.locators(set))
    }

    /// One registration as a mapping, as it came.
    pub(in crate::map_server) fn mapping(&self, registration: &Registration) -> Mapping {
        Mapping {
            eid: registration.eid,
            ttl: Ttl::from_wire(registration.ttl),
            version: registration.version,
            action: Action::NoAction,
            authoritative: true,
            locators: self.locators(registration).to_vec(),
        }
    }

    /// What is registered of a prefix: what the last xTR said, or where it wants that the union of all that want it
    /// (RFC 9301 §5.6).
    pub(in crate::map_server) fn merged(&self, head: u32) -> Option<Mapping> {
        let first = self.registrations.get(head)?;
        let mut mapping = self.mapping(first);
        if !first.has(flag::MERGE) || first.next == END {
            return Some(mapping);
        }
        for (_, other) in self.chain_from(first.next).filter(|(_, other)| other.has(flag::MERGE)) {
            mapping.locators.extend(self.locators(other));
            mapping.ttl = Ttl::from_wire(mapping.ttl.to_wire().min(other.ttl));
            if mapping.version != other.version {
                mapping.version = 0;
            }
        }
        // Two paths may have stops in common, but not be mixed.
        if mapping.locators.iter().filter_map(|locator| locator.hop).any(|hop| !hop.is_alternative()) {
            sort_locators(&mut mapping.locators);
            return Some(mapping);
        }
        // Of an address, or list of them, that several xTRs have, the best that is said of it, whoever spoke last.
        let rank = |one: &Locator| (!one.reachable, one.priority, !one.weight);
        if mapping.locators.iter().all(|locator| locator.hop.is_none()) {
            mapping.locators.sort_by_key(|one| (one.address, rank(one)));
            mapping.locators.dedup_by_key(|one| one.address);
            return Some(mapping);
        }
        let addresses = |list: &Vec<Locator>| list.iter().map(|one| one.address).rev().collect::<Vec<_>>();
        let mut lists: Vec<Vec<Locator>> = routes(&mapping.locators).map(<[Locator]>::to_vec).collect();
        lists.sort_by_cached_key(|list| (addresses(list), list.last().map(rank)));
        lists.dedup_by_key(|list| addresses(list));
        mapping.locators = lists.concat();
        Some(mapping)
    }

    /// Counts a Map-Request for the chain, and says how many there were before.
    pub(in crate::map_server) fn turn(&mut self, head: u32) -> usize {
        let turn = &mut self.registrations[head].turn;
        *turn = turn.wrapping_add(1);
        usize::from(turn.wrapping_sub(1))
    }

    /// Octets in use, as far as the tables tell.
    pub(in crate::map_server) fn octets(&self) -> usize {
        let names = self.by_name.len() * 2 * size_of::<((u32, Who), u32)>();
        let keys = self.by_name.len() * size_of::<Last>();
        let tables = self.registrations.octets() + self.registrants.octets();
        tables + names + keys + self.index.octets() + self.sets.octets() + self.wheel.octets()
    }
}
