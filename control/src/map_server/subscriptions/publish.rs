//! Map-Notifies to subscribers: at once where one was asked for, at a pace where something changed, and again until they are
//! acknowledged.

use std::{net::SocketAddr, time::Instant};

use altitude_dataplane::mapping::{Action, Mapping, Ttl};

use super::{
    super::{payload_max, reply_length, subscribe::BEYOND_REPLY},
    Acked, CONTROL_PORT, LAST, Output, PENDING_MAX, Registry, SPACINGS, Sent, SiteFault, Standing, Subscriptions,
    notes::SLICE,
};
use crate::wire::{Form, MapNotify, Message};

/// Map-Notify-Acks with one nonce: of how many subscriptions the keys are tried.
const SAME_NONCE_MAX: usize = 16;
/// Minutes that the news of a lost subscription may be kept.
const LOST_MINUTES: u32 = 1;

impl Subscriptions {
    pub(super) fn queue(&mut self, number: u32) {
        let one = &mut self.table[number];
        let waits = one.sent.is_none() && !one.pending.is_empty() && one.standing == Standing::Live;
        if waits && !std::mem::replace(&mut one.queued, true) {
            self.queue.push_back(number);
        }
    }

    /// Sends what is due, as far as the pace allows, and ends what has run out.
    pub(in crate::map_server) fn run(&mut self, now: Instant, registry: &Registry, todo: &mut Vec<Output>) {
        if self.resync.is_some_and(|at| at <= now) {
            self.resync = None;
            self.tell_all(registry);
        }
        self.note_changes(registry);
        self.goes_on = (!self.notes.is_done()).then_some(now);
        for _ in 0..SLICE {
            let Some((at, number)) = self.temporary.first().copied().filter(|(at, _)| *at <= now) else { break };
            self.temporary.remove(&(at, number));
            self.end(number, todo);
            self.note(number);
        }
        self.repeat_asks(now, todo);
        loop {
            let again = self.retries.first().filter(|(at, _)| *at <= now).map(|(_, number)| *number);
            if (again.is_none() && self.queue.is_empty()) || !self.bucket.take(now, self.settings.pace) {
                return;
            }
            // By turns: those who are silent do not keep news from the others.
            self.again_first = !self.again_first;
            if let Some(number) = again.filter(|_| self.again_first || self.queue.is_empty()) {
                self.repeat(now, number, todo);
            } else if let Some(number) = self.queue.pop_front() {
                self.publish(now, number, registry, todo);
            }
        }
    }

    /// Tells a subscriber of as many of its pending prefixes as fit a message, with the next nonce (RFC 9437 §6).
    fn publish(&mut self, now: Instant, number: u32, registry: &Registry, todo: &mut Vec<Output>) {
        let Some(one) = self.table.get_mut(number) else { return };
        one.queued = false;
        if one.sent.is_some() || one.standing != Standing::Live || one.pending.is_empty() {
            return;
        }
        if one.pending.len() > PENDING_MAX {
            return self.lose(now, number, todo);
        }
        let limit = one.rlocs.get(one.turn).map_or(0, |to| payload_max(*to)).saturating_sub(BEYOND_REPLY);
        let mut records: Vec<Mapping> = Vec::new();
        while let Some(eid) = one.pending.pop_first() {
            let whole = eid == one.scope;
            records.push(if whole { registry.published_whole(eid) } else { registry.published(eid) });
            // One that is too large by itself goes alone, and the network layer cuts it up.
            if records.len() > 1 && reply_length(&records) > limit {
                records.pop();
                one.pending.insert(eid);
                break;
            }
        }
        let (scope, until) = (one.scope, one.until);
        self.table[number].nonce = self.next_nonce(number);
        let serves = registry.knows(&scope);
        if serves || until.is_none() {
            self.set_until(number, (!serves).then(|| now + self.settings.temporary()));
        }
        self.send(now, number, records, todo);
        self.note(number);
    }

    /// Sends one Map-Notify with the subscription's nonce, and waits for its acknowledgement.
    pub(super) fn send(&mut self, now: Instant, number: u32, records: Vec<Mapping>, todo: &mut Vec<Output>) {
        self.drop_sent(number);
        let message = MapNotify { nonce: self.table[number].nonce, records, ..MapNotify::default() };
        let Some(octets) = self.keys(number).first().map(|key| message.signed(key, Form::default())) else { return };
        let again_at = now + SPACINGS[0];
        let one = &mut self.table[number];
        self.by_nonce.insert((one.nonce, number));
        one.sent = Some(Sent { nonce: one.nonce, octets, again_at, times: 0 });
        self.wait(number, again_at);
        self.transmit(number, todo);
    }

    fn wait(&mut self, number: u32, until: Instant) {
        let asked = matches!(self.table[number].standing, Standing::Asked { .. });
        let retries = if asked { &mut self.asks.retries } else { &mut self.retries };
        retries.insert((until, number));
    }

    fn transmit(&self, number: u32, todo: &mut Vec<Output>) {
        let one = &self.table[number];
        let (Some(sent), Some(to)) = (&one.sent, one.rlocs.get(one.turn)) else { return };
        let local = self.rlocs.iter().find(|rloc| rloc.is_ipv4() == to.is_ipv4()).copied();
        let Some(local) = local else { return };
        todo.push(Output::Notify { to: SocketAddr::new(*to, CONTROL_PORT), local, octets: sent.octets.clone() });
    }

    /// Sends again what was not acknowledged, to the next ITR-RLOC (RFC 9437 §6), or gives up.
    pub(super) fn repeat(&mut self, now: Instant, number: u32, todo: &mut Vec<Output>) {
        let one = &mut self.table[number];
        one.turn = (one.turn + 1) % one.rlocs.len().max(1);
        let Some(sent) = one.sent.as_mut().filter(|sent| sent.times < SPACINGS.len()) else {
            return self.lose(now, number, todo);
        };
        sent.times += 1;
        let before = sent.again_at;
        sent.again_at = now + SPACINGS.get(sent.times).copied().unwrap_or(LAST);
        let again_at = sent.again_at;
        self.retries.remove(&(before, number));
        self.asks.retries.remove(&(before, number));
        self.wait(number, again_at);
        self.transmit(number, todo);
    }

    /// Ends a subscription whose xTR cannot be told, or may not be told any more: one Map-Notify says so, once (RFC 9437 §5).
    pub(in crate::map_server) fn lose(&mut self, now: Instant, number: u32, todo: &mut Vec<Output>) {
        let eid = self.table[number].name.eid;
        let lost = Mapping::negative(eid, Ttl::Minutes(LOST_MINUTES), Action::DropAuthFailure);
        self.table[number].nonce = self.next_nonce(number);
        self.send(now, number, vec![lost], todo);
        self.end(number, todo);
        self.note(number);
        todo.push(Output::Drop(SiteFault::SubscriptionLost));
    }

    /// Takes in a Map-Notify-Ack: of one that lives, or of an ask, which lives from then on.
    pub(in crate::map_server) fn acknowledge(
        &mut self,
        message: &MapNotify,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Acked {
        let waiting = self.by_nonce.range((message.nonce, 0)..=(message.nonce, u32::MAX));
        let mut waiting: Vec<u32> = waiting.map(|(_, number)| *number).take(SAME_NONCE_MAX).collect();
        if waiting.is_empty() {
            return Acked::Nothing;
        }
        waiting.retain(|number| message.verify(octets, self.keys(*number)).is_ok());
        if waiting.is_empty() {
            return Acked::Forged;
        }
        // The nonce alone does not tell what was received: others use the same numbers.
        waiting.retain(|number| self.table[*number].sent.as_ref().is_some_and(|sent| says_the_same(sent, message)));
        let lives = |number: &&u32| self.table[**number].standing == Standing::Live;
        let Some(number) = waiting.iter().find(lives).or(waiting.first()).copied() else { return Acked::Nothing };
        if let Standing::Asked { ends, .. } = self.table[number].standing {
            self.proven(number, ends, todo);
        } else {
            self.drop_sent(number);
            self.queue(number);
        }
        Acked::Taken
    }
}

fn says_the_same(sent: &Sent, message: &MapNotify) -> bool {
    matches!(Message::parse(&sent.octets), Ok(Message::MapNotify(sent)) if sent.records == message.records)
}
