//! Map-Requests that subscribe, renew and unsubscribe, and Map-Replies that refuse them.

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::{Action, Eid, EidPrefix};

use super::{
    InUse, Left, Output, PubSubFault, RENEW_EVERY, SPACING_FIRST, Standing, Subscriber, TRIES_MAX, standing::Try,
};
use crate::{
    lisp_sec::{
        SecurityFault,
        asking::{Asking, Sealed},
    },
    map_server::is_newer,
    prefix_map::PrefixMap,
    wire::{MapReply, MapRequest, RequestRecord},
};

impl Subscriber {
    /// Its time has come: it is asked for, given up, or ended.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        eid: EidPrefix,
        in_use: InUse<'_>,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) {
        let Some(one) = self.list.get_mut(&eid) else { return };
        if one.tries.len() >= TRIES_MAX {
            self.settle(&eid);
            self.stand(now, &eid, Standing::Silent, todo);
            self.set_due(&eid, now + RENEW_EVERY);
            return todo.push(Output::Drop(PubSubFault::Unanswered));
        }
        let unwanted = !one.fixed && (!in_use(&eid) || self.database.covering(&eid).is_some());
        if one.tries.is_empty() && unwanted {
            return self.leave(&eid, random, todo);
        }
        let nonce = one.next_nonce();
        let wait = SPACING_FIRST.saturating_mul(1 << one.tries.len());
        let (sealed, security) = seal(self.settings.security.as_ref(), nonce, one.algorithm, random);
        one.tries.push(Try { nonce, sealed });
        one.sent = nonce;
        if one.standing != Standing::Live {
            one.standing = Standing::Asking;
        }
        self.outstanding.insert(nonce, eid);
        self.set_due(&eid, now + wait);
        let message = Box::new(self.request(eid, nonce, &self.settings.itr_rlocs));
        todo.push(Output::Request { message, security });
    }

    fn request(&self, eid: EidPrefix, nonce: u64, itr_rlocs: &[IpAddr]) -> MapRequest {
        let records = vec![RequestRecord { notify: true, eid }];
        // Where we have no RLOC of the EID's family, an EID of ours is what the packet inside the ECM comes from.
        let like = |own: &&EidPrefix| {
            own.instance == eid.instance && own.prefix.address().is_ipv4() == eid.prefix.address().is_ipv4()
        };
        let own = self.settings.database.iter().find(like);
        let source = own.map(|own| Eid { instance: own.instance, address: own.prefix.address() });
        MapRequest { xtr: Some(self.settings.xtr), records, ..MapRequest::lookup(nonce, source, itr_rlocs, eid) }
    }

    /// Unsubscribes and forgets, all but the nonce (RFC 9437 §5).
    pub(super) fn leave(&mut self, eid: &EidPrefix, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        self.settle(eid);
        self.set_scope(eid, *eid);
        let Some(one) = self.list.remove(eid) else { return };
        self.deadlines.remove(&(one.due, *eid));
        let mut last = one.next_nonce().wrapping_sub(1);
        // A Map-Server that refused a renewal may have kept what was before.
        if one.standing != Standing::Silent && one.notifies > 0 {
            last = last.wrapping_add(1);
            let (sealed, security) = seal(self.settings.security.as_ref(), last, one.algorithm, random);
            let key = sealed.filter(|_| self.settings.keys.is_empty()).map(|sealed| sealed.pubsub_key(last));
            self.leaving.push_back(Left { nonce: last, key, confirmed: false });
            if self.leaving.len() > self.settings.subscriptions_max.max(self.settings.fixed.len()) {
                self.leaving.pop_front();
            }
            todo.push(Output::Request { message: Box::new(self.request(*eid, last, &[])), security });
        }
        if self.forgotten.len() >= self.settings.subscriptions_max {
            let highest = self.forgotten.iter().map(|(_, nonce)| *nonce);
            self.floor = highest.fold(self.floor, |floor, nonce| if is_newer(nonce, floor) { nonce } else { floor });
            self.forgotten = PrefixMap::new();
        }
        self.forgotten.insert(*eid, last);
    }

    /// A Map-Reply that counts is the answer. What lived ends with it only where LISP-SEC proves it, and not with action 5: that
    /// may be so for the moment. Else the Map-Server tells by a Map-Notify if it has ended it, and what it publishes is taken.
    pub(super) fn replied(&mut self, now: Instant, reply: &MapReply, octets: &[u8], todo: &mut Vec<Output>) {
        let Some(eid) = self.outstanding.get(&reply.nonce).copied() else { return };
        let Some(one) = self.list.get_mut(&eid) else { return };
        let mut ends = false;
        let sealed = one.asked(reply.nonce).and_then(|asked| asked.sealed.as_ref());
        if let Some((sealed, asking)) = sealed.zip(self.settings.security.as_ref()) {
            let proof = sealed.verify(reply, octets);
            let is_enough =
                |signed: bool| if signed || asking.downgrade { Ok(signed) } else { Err(SecurityFault::Stripped) };
            ends = match proof.and_then(|proof| is_enough(proof.signed)) {
                Ok(signed) => signed && reply.records.iter().any(|record| record.action != Action::DropAuthFailure),
                Err(fault) => {
                    if fault == SecurityFault::Algorithm {
                        one.algorithm = asking.after(sealed);
                    }
                    return todo.push(Output::Insecure(fault));
                }
            };
        }
        if ends {
            one.notifies = 0;
            one.keys.clear();
            self.set_scope(&eid, eid);
        }
        self.settle(&eid);
        self.stand(now, &eid, Standing::Refused, todo);
        self.set_due(&eid, now + RENEW_EVERY);
        todo.push(Output::Drop(PubSubFault::Refused));
    }
}

/// A One-Time Key for the Map-Request with this nonce, where LISP-SEC is on: what is kept of it, and what its ECM carries.
fn seal(
    security: Option<&Asking>,
    nonce: u64,
    algorithm: usize,
    random: &mut dyn FnMut() -> u64,
) -> (Option<Sealed>, Option<Box<[u8]>>) {
    security.map(|asking| asking.seal(nonce, algorithm, random)).map(|(sealed, octets)| (sealed, octets.into())).unzip()
}
