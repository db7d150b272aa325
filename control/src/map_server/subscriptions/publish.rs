//! Map-Notifies to subscribers: at once where one was asked for, at a pace where something changed, and again until they are
//! acknowledged.

use std::{net::SocketAddr, time::Instant};

use altitude_dataplane::mapping::{Action, EidPrefix, Mapping, Ttl};

use super::{
    super::{payload_max, reply_length, subscribe::BEYOND_REPLY},
    Acked, CONTROL_PORT, LAST, Output, PENDING_MAX, Proven, Registry, SPACINGS, Sent, SiteFault, Subscriptions,
    covering,
};
use crate::wire::{Form, MapNotify};

/// Map-Notify-Acks with one nonce: of how many subscriptions the keys are tried.
const SAME_NONCE_MAX: usize = 16;
/// Minutes that the news of a lost subscription may be kept.
const LOST_MINUTES: u32 = 1;

impl Subscriptions {
    /// Something else is registered of `eid` than before.
    pub(in crate::map_server) fn changed(&mut self, registry: &Registry, eid: EidPrefix) {
        let mut told: Vec<u32> = covering(&self.by_scope, &eid).flatten().copied().collect();
        // Those who asked for a part of it hear of it where nothing longer says what that part maps to.
        for (scope, numbers) in self.by_scope.within(&eid).filter(|(scope, _)| *scope != eid) {
            let match_of = registry.table.index.covering(&scope).map(|(found, _)| found.prefix.length());
            if match_of.is_none_or(|length| length <= eid.prefix.length()) {
                told.extend(numbers);
            }
        }
        for number in told {
            // One too many is enough to know that there are too many.
            let pending = &mut self.table[number].pending;
            if pending.len() <= PENDING_MAX {
                pending.insert(eid);
            }
            self.queue(number);
        }
    }

    fn queue(&mut self, number: u32) {
        let one = &mut self.table[number];
        let waits = one.sent.is_none() && !one.pending.is_empty() && one.ended.is_none();
        if waits && !std::mem::replace(&mut one.queued, true) {
            self.queue.push_back(number);
        }
    }

    /// Sends what is due, as far as the pace allows, and ends what has run out.
    pub(in crate::map_server) fn run(&mut self, now: Instant, registry: &Registry, todo: &mut Vec<Output>) {
        if self.resync.is_some_and(|at| at <= now) {
            self.resync = None;
            let live: Vec<u32> = self.by_name.values().copied().collect();
            for number in live {
                let one = &mut self.table[number];
                one.pending.insert(one.scope);
                self.queue(number);
            }
        }
        while let Some((at, number)) = self.temporary.first().copied().filter(|(at, _)| *at <= now) {
            self.temporary.remove(&(at, number));
            self.end(number, todo);
            self.note(number);
        }
        while let Some((_, number)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            if !self.bucket.take(now, self.settings.pace) {
                return;
            }
            self.repeat(now, number, todo);
        }
        while let Some(number) = self.queue.front().copied() {
            if !self.bucket.take(now, self.settings.pace) {
                return;
            }
            self.queue.pop_front();
            self.table[number].queued = false;
            self.publish(now, number, registry, todo);
        }
    }

    /// Tells a subscriber of as many of its pending prefixes as fit a message, with the next nonce (RFC 9437 §6).
    fn publish(&mut self, now: Instant, number: u32, registry: &Registry, todo: &mut Vec<Output>) {
        let one = &mut self.table[number];
        if one.sent.is_some() || one.ended.is_some() || one.pending.is_empty() {
            return;
        }
        if one.pending.len() > PENDING_MAX {
            return self.lose(now, number, todo);
        }
        let limit = one.rlocs.get(one.turn).map_or(0, |to| payload_max(*to)) - BEYOND_REPLY;
        let mut records: Vec<Mapping> = Vec::new();
        while let Some(eid) = one.pending.pop_first() {
            records.push(registry.published(eid));
            // One that is too large by itself goes alone, and the network layer cuts it up.
            if records.len() > 1 && reply_length(&records) > limit {
                records.pop();
                one.pending.insert(eid);
                break;
            }
        }
        one.nonce = one.nonce.wrapping_add(1);
        let (scope, until) = (one.scope, one.until);
        let serves = registry.knows(&scope);
        if serves || until.is_none() {
            self.set_until(number, (!serves).then(|| now + self.settings.temporary()));
        }
        self.send(now, number, records, false, todo);
        self.note(number);
    }

    /// Sends one Map-Notify with the subscription's nonce, and waits for its acknowledgement.
    pub(super) fn send(
        &mut self,
        now: Instant,
        number: u32,
        records: Vec<Mapping>,
        confirms: bool,
        todo: &mut Vec<Output>,
    ) {
        self.drop_sent(number);
        let one = &mut self.table[number];
        let key = &self.settings.peers[one.peer].keys[0];
        let octets = MapNotify { nonce: one.nonce, records, ..MapNotify::default() }.signed(key, Form::default());
        let again_at = now + SPACINGS[0];
        self.by_nonce.insert((one.nonce, number));
        self.retries.insert((again_at, number));
        one.sent = Some(Sent { nonce: one.nonce, octets, again_at, times: 0, confirms });
        self.transmit(number, todo);
    }

    fn transmit(&self, number: u32, todo: &mut Vec<Output>) {
        let one = &self.table[number];
        let (Some(sent), Some(to)) = (&one.sent, one.rlocs.get(one.turn)) else { return };
        let local = self.rlocs.iter().find(|rloc| rloc.is_ipv4() == to.is_ipv4()).copied();
        let Some(local) = local else { return };
        todo.push(Output::Notify { to: SocketAddr::new(*to, CONTROL_PORT), local, octets: sent.octets.clone() });
    }

    /// Sends again what was not acknowledged, to the next ITR-RLOC (RFC 9437 §6), or gives up.
    fn repeat(&mut self, now: Instant, number: u32, todo: &mut Vec<Output>) {
        let one = &mut self.table[number];
        one.turn = (one.turn + 1) % one.rlocs.len().max(1);
        let Some(sent) = one.sent.as_mut().filter(|sent| sent.times < SPACINGS.len()) else {
            return self.give_up(now, number, todo);
        };
        sent.times += 1;
        let before = sent.again_at;
        sent.again_at = now + SPACINGS.get(sent.times).copied().unwrap_or(LAST);
        let again = (sent.again_at, number);
        self.retries.remove(&(before, number));
        self.retries.insert(again);
        self.transmit(number, todo);
    }

    /// Nobody acknowledged: what was never proven goes back to what was, the rest is lost.
    fn give_up(&mut self, now: Instant, number: u32, todo: &mut Vec<Output>) {
        let confirms = self.table[number].sent.as_ref().is_some_and(|sent| sent.confirms);
        if self.table[number].ended.is_some() {
            return self.drop_sent(number);
        }
        let proven = self.table[number].proven.clone().filter(|_| confirms);
        let Some(Proven { nonce, rlocs }) = proven else { return self.lose(now, number, todo) };
        self.drop_sent(number);
        let one = &mut self.table[number];
        (one.nonce, one.rlocs, one.turn) = (nonce, rlocs, 0);
        self.queue(number);
        self.note(number);
        todo.push(Output::Drop(SiteFault::SubscriptionLost));
    }

    /// Ends a subscription whose xTR cannot be told: one Map-Notify says so, once (RFC 9437 §5).
    fn lose(&mut self, now: Instant, number: u32, todo: &mut Vec<Output>) {
        let (_, eid) = self.table[number].name;
        let was_proven = self.table[number].proven.is_some();
        let lost = Mapping::negative(eid, Ttl::Minutes(LOST_MINUTES), Action::DropAuthFailure);
        self.send(now, number, vec![lost], false, todo);
        self.end(number, todo);
        todo.push(Output::Drop(SiteFault::SubscriptionLost));
        self.note(number);
        // What nobody ever proved to have said is not worth its place.
        if !was_proven {
            self.remove(number);
        }
    }

    /// Takes in a Map-Notify-Ack.
    pub(in crate::map_server) fn acknowledge(&mut self, message: &MapNotify, octets: &[u8]) -> Acked {
        let waiting = self.by_nonce.range((message.nonce, 0)..=(message.nonce, u32::MAX));
        let waiting: Vec<u32> = waiting.map(|(_, number)| *number).take(SAME_NONCE_MAX).collect();
        let verifies =
            |number: &u32| message.verify(octets, &self.settings.peers[self.table[*number].peer].keys).is_ok();
        let Some(number) = waiting.iter().copied().find(verifies) else {
            return if waiting.is_empty() { Acked::Nothing } else { Acked::Forged };
        };
        self.drop_sent(number);
        let one = &mut self.table[number];
        one.proven = Some(Proven { nonce: one.nonce, rlocs: one.rlocs.clone() });
        self.queue(number);
        Acked::Taken
    }
}
