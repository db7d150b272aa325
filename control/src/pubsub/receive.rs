//! Map-Notifies from the Map-Servers that we subscribed at.

use std::{net::SocketAddr, time::Instant};

use altitude_dataplane::mapping::{Action, EidPrefix, Mapping, Prefix, settle, sort_locators};

use super::{FIRST_AFTER, LOST_SPACING, NONCES_AHEAD_MAX, One, Output, PubSubFault, RENEW_EVERY, Standing, Subscriber};
use crate::{
    map_cache::Notice,
    map_server::is_newer,
    rloc,
    wire::{AuthenticationError, Form, Key, MapNotify},
};

/// Subscriptions whose keys are tried on one message, up to three of each: nonces of two lie far apart, but for what is forged.
const TRIALS_MAX: usize = 16;

/// Whose a Map-Notify is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// It answers a Map-Request that unsubscribed.
    Left(u64),
    /// It came before; our thanks may have been lost.
    Repeated,
    /// It is of this subscription.
    Of(EidPrefix),
}

/// What it is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A key that is shared with the Map-Servers.
    Shared,
    /// The key of the try that has its nonce.
    Try,
    /// A key of the subscription, 0 the newer one.
    Own(usize),
}

/// A Map-Notify that may be believed.
#[derive(Debug)]
pub(super) struct Found {
    whose: Whose,
    by: By,
    key: Key,
}

impl Subscriber {
    /// Verifies before it believes anything.
    pub(super) fn notified(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: MapNotify,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<(), PubSubFault> {
        let Found { whose, by, key } = self.find(&message, octets)?;
        let mac = start_of(&message);
        let eid = match whose {
            Whose::Left(nonce) => {
                self.leaving.iter_mut().filter(|left| left.nonce == nonce).for_each(|left| left.confirmed = true);
                // It may come again, as these thanks may be lost.
                todo.push(acknowledgement(message, &key, from));
                return Ok(());
            }
            Whose::Repeated => {
                todo.push(acknowledgement(message, &key, from));
                return Err(PubSubFault::Repeated);
            }
            Whose::Of(eid) => eid,
        };
        let one = self.list.get(&eid).ok_or(PubSubFault::Unrelated)?;
        let (confirms, lost) = (one.confirms(message.nonce), is_lost(&message.records, &eid));
        let wide = message.records.iter().map(|record| record.eid).find(|wide| wide.covers(&eid));
        // A publication may cross a renewal and have its nonce: then it is about a part. The next try is answered.
        let crosses = one.standing == Standing::Live && wide.is_none() && one.scope != eid && one.tries.len() == 1;
        let confirms = match by {
            By::Shared => confirms && !crosses,
            By::Try => true,
            By::Own(_) => false,
        };
        let scope = if confirms { wide.unwrap_or(eid) } else { one.scope };
        let notice = match (confirms, one.standing) {
            (false, _) => Notice::Change,
            (true, Standing::Live) => Notice::Again,
            (true, _) => Notice::Answer { scope },
        };
        let records = if lost { Vec::new() } else { self.admit(&eid, scope, &message.records, todo)? };
        let one = self.list.get_mut(&eid).ok_or(PubSubFault::Unrelated)?;
        (one.seen, one.seen_mac, one.server) = (message.nonce, mac, Some(from.ip()));
        todo.push(acknowledgement(message, &key, from));
        if lost {
            self.lost(now, &eid, todo);
            return Err(PubSubFault::Lost);
        }
        one.notifies += 1;
        match by {
            By::Try => {
                one.keys.insert(0, key);
                one.keys.truncate(2);
            }
            // The Map-Server has taken to the new one.
            By::Own(0) => one.keys.truncate(1),
            By::Own(_) | By::Shared => {}
        }
        if confirms {
            self.set_scope(&eid, scope);
            self.settle(&eid);
            self.set_due(&eid, now + RENEW_EVERY);
        }
        self.stand(now, &eid, Standing::Live, todo);
        todo.push(Output::Install { records, notice });
        Ok(())
    }

    /// Whose a Map-Notify is, and what it is signed with.
    pub(super) fn find(&self, message: &MapNotify, octets: &[u8]) -> Result<Found, PubSubFault> {
        let shared = if self.settings.keys.is_empty() {
            None
        } else {
            Some(message.verify(octets, &self.settings.keys).map_err(|error| match error {
                AuthenticationError::UnknownKey(_) => PubSubFault::UnknownKey,
                _ => PubSubFault::Mac,
            })?)
        };
        let Some(left) = self.leaving.iter().find(|left| left.nonce == message.nonce) else {
            return self.subscription(message, octets, shared);
        };
        let whose = Whose::Left(left.nonce);
        match shared {
            Some(key) => Ok(Found { whose, by: By::Shared, key: key.clone() }),
            None => {
                let key = left.key.as_ref().and_then(|key| signs(key, message, octets));
                Ok(Found { whose, by: By::Try, key: key.ok_or(PubSubFault::Mac)? })
            }
        }
    }

    /// Which subscription a Map-Notify belongs to: the one that waits for its nonce, or of those that its records are about
    /// the one whose next nonce is nearest.
    fn subscription(&self, message: &MapNotify, octets: &[u8], shared: Option<&Key>) -> Result<Found, PubSubFault> {
        let first = message.records.first().ok_or(PubSubFault::Unrelated)?.eid;
        let mac = start_of(message);
        let mut fault = PubSubFault::Unrelated;
        let mut nearest: Option<(u64, Found)> = None;
        let mut trials = 0;
        let mut signed = |one: &One| match shared {
            Some(key) => Ok((By::Shared, key.clone())),
            // A MAC is computed only where the nonce could be right, and not for ever.
            None if trials == TRIALS_MAX => Err(PubSubFault::Crowded),
            None => {
                trials += 1;
                signer(one, message, octets).ok_or(PubSubFault::Mac)
            }
        };
        for (eid, one) in self.candidates(&first, message.nonce) {
            let about = |record: &EidPrefix| record.covers(&eid) || eid.covers(record) || one.scope.covers(record);
            if !message.records.iter().any(|record| about(&record.eid)) && !one.confirms(message.nonce) {
                continue;
            }
            // The news of the end has the nonce of what was not acknowledged.
            let again = mac == one.seen_mac;
            if message.nonce == one.seen && one.notifies > 0 && (again || is_lost(&message.records, &eid)) {
                let (by, key) = signed(one)?;
                return Ok(Found { whose: if again { Whose::Repeated } else { Whose::Of(eid) }, by, key });
            }
            if !is_newer(message.nonce, one.seen) {
                fault = PubSubFault::Replayed;
                continue;
            }
            let ahead = message.nonce.wrapping_sub(one.seen);
            let taken = one.confirms(message.nonce) || (one.notifies > 0 && ahead <= NONCES_AHEAD_MAX);
            if taken && nearest.as_ref().is_none_or(|(other, _)| ahead < *other) {
                match signed(one) {
                    Ok((by, key)) => nearest = Some((ahead, Found { whose: Whose::Of(eid), by, key })),
                    Err(why) => fault = why,
                }
            }
        }
        nearest.map(|(_, found)| found).ok_or(fault)
    }

    /// Subscriptions that a record of `eid` may be about: those around it, those inside, and the one that asked with this nonce.
    fn candidates(&self, eid: &EidPrefix, nonce: u64) -> Vec<(EidPrefix, &One)> {
        let mut candidates: Vec<(EidPrefix, &One)> = self.list.all_covering(eid).collect();
        candidates.extend(self.list.within(eid).filter(|(inside, _)| inside != eid));
        // A publication may be of a prefix beside the one asked for, where the answer spoke of a wider one.
        let beside = self.scopes.all_covering(eid).flat_map(|(_, asked)| asked);
        let is_there = |asked: &EidPrefix| asked.covers(eid) || eid.covers(asked);
        let asked = beside.chain(self.outstanding.get(&nonce)).filter(|asked| !is_there(asked));
        candidates.extend(asked.filter_map(|asked| Some((*asked, self.list.get(asked)?))));
        candidates
    }

    /// The records as they may be installed: without those of our own prefixes, and those that are too wide to be true. What
    /// the Map-Server says of these it must say to whoever asks for what is around them, so the rest is believed.
    fn admit(
        &self,
        asked: &EidPrefix,
        scope: EidPrefix,
        records: &[Mapping],
        todo: &mut Vec<Output>,
    ) -> Result<Vec<Mapping>, PubSubFault> {
        let wide = records.iter().map(|record| record.eid).find(|eid| eid.covers(asked)).unwrap_or(scope);
        let inside = |eid: &EidPrefix| wide.covers(eid) || scope.covers(eid) || asked.covers(eid);
        if !records.iter().all(|record| inside(&record.eid)) {
            return Err(PubSubFault::Unrelated);
        }
        let mut admitted = Vec::with_capacity(records.len());
        for record in records {
            match self.admit_one(asked, record.clone()) {
                Ok(record) => admitted.push(record),
                Err(fault) => todo.push(Output::Drop(fault)),
            }
        }
        Ok(admitted)
    }

    fn admit_one(&self, asked: &EidPrefix, mut record: Mapping) -> Result<Mapping, PubSubFault> {
        if self.database.covering(&record.eid).is_some() {
            return Err(PubSubFault::OwnPrefix);
        }
        let shortest = self.settings.shortest[usize::from(!asked.prefix.address().is_ipv4())];
        if record.eid.prefix.length() < shortest {
            // A wide hole is believed for what was asked about.
            let floor = Prefix::new(asked.prefix.address(), shortest).map(|prefix| EidPrefix { prefix, ..*asked });
            let floor = floor.ok().filter(|floor| record.is_negative() && floor.covers(asked));
            record.eid = floor.ok_or(PubSubFault::TooShort)?;
        }
        let families = rloc::Families::of(&self.settings.itr_rlocs);
        settle(&mut record.locators, |address| families.reach(address) && rloc::routable(address));
        for locator in &mut record.locators {
            locator.reachable &= rloc::routable(locator.address);
            locator.probed = false;
        }
        sort_locators(&mut record.locators);
        Ok(record)
    }

    /// The Map-Server has given the subscription up: it is asked for anew, soon, but not again and again.
    fn lost(&mut self, now: Instant, eid: &EidPrefix, todo: &mut Vec<Output>) {
        self.settle(eid);
        let Some(one) = self.list.get_mut(eid) else { return };
        let again = one.lost_at.replace(now).is_some_and(|before| now < before + LOST_SPACING);
        one.notifies = 0;
        one.keys.clear();
        self.stand(now, eid, Standing::Asking, todo);
        self.set_due(eid, now + if again { RENEW_EVERY } else { FIRST_AFTER });
    }
}

/// The key of the subscription, or of its try with this nonce, that the message is signed with.
fn signer(one: &One, message: &MapNotify, octets: &[u8]) -> Option<(By, Key)> {
    let sealed = one.asked(message.nonce).and_then(|asked| asked.sealed.as_ref());
    let of_try = sealed.map(|sealed| (By::Try, sealed.pubsub_key(message.nonce)));
    let own = one.keys.iter().enumerate().map(|(place, key)| (By::Own(place), key.clone()));
    of_try.into_iter().chain(own).find_map(|(by, key)| Some((by, signs(&key, message, octets)?)))
}

/// The key under the message's Key ID, as RFC 9437 §7.1 names none, if the message is signed with it.
fn signs(key: &Key, message: &MapNotify, octets: &[u8]) -> Option<Key> {
    let key = key.with_id(message.authentication.key_id);
    message.verify(octets, std::slice::from_ref(&key)).is_ok().then_some(key)
}

/// The start of its MAC: what tells one message from another.
fn start_of(message: &MapNotify) -> u64 {
    message.authentication.data.first_chunk().map_or(0, |start| u64::from_be_bytes(*start))
}

/// Whether the records say that the subscription is no more (RFC 9437 §5).
fn is_lost(records: &[Mapping], eid: &EidPrefix) -> bool {
    matches!(records, [one] if one.eid == *eid && one.is_negative() && one.action == Action::DropAuthFailure)
}

fn acknowledgement(message: MapNotify, key: &Key, to: SocketAddr) -> Output {
    let octets = MapNotify { ack: true, ..message }.signed(key, Form::default());
    Output::Acknowledge { to, octets }
}
