//! Our subscriptions: what the subscriber says is done here.

use std::{net::SocketAddr, time::Instant};

use altitude_control::{
    api::Stat,
    config::Config,
    fault::Tally,
    map_cache::{self, Notice, Origin},
    pubsub::{Input, Output, PubSubFault, Settings, Subscriber},
    wire::{MapNotify, MapReply},
};
use altitude_dataplane::mapping::{Eid, EidPrefix, Mapping, Ttl};
use rand_chacha::{ChaCha20Rng, rand_core::Rng};

use super::{Driver, registration::Registration};

/// Shortest IPv4 and IPv6 prefixes with locators that are believed, as of the resolver.
pub(super) const SHORTEST: [u8; 2] = [8, 16];

/// The subscriber and what belongs to it.
#[derive(Default)]
pub(super) struct PubSub {
    /// `None` unless it is switched on.
    pub(super) subscriber: Option<Subscriber>,
    pub(super) requests: u64,
    pub(super) notifies: u64,
    pub(super) acks: u64,
    pub(super) faults: Tally<PubSubFault>,
}

impl PubSub {
    pub(super) fn new(config: &Config, registration: &Registration, random: &mut ChaCha20Rng, now: Instant) -> Self {
        let wanted = config.pubsub.subscribe.as_ref().zip(registration.identity);
        let subscriber = wanted.map(|(own, (xtr, first_nonce))| {
            let settings = Settings {
                xtr,
                itr_rlocs: config.rlocs.clone(),
                keys: own.keys.clone(),
                security: config.lisp_sec.as_ref().and_then(|settings| settings.asking.clone()),
                lookups: own.lookups,
                fixed: own.fixed.clone(),
                database: config.database.iter().map(|mapping| mapping.eid).collect(),
                shortest: SHORTEST,
                subscriptions_max: own.max,
                first_nonce,
            };
            Subscriber::new(settings, now, &mut || random.next_u64())
        });
        Self { subscriber, ..Self::default() }
    }
}

impl Driver<'_> {
    pub(super) fn pubsub_due(&self) -> Option<Instant> {
        self.pubsub.subscriber.as_ref().and_then(Subscriber::due)
    }

    pub(super) fn wake_pubsub(&mut self, now: Instant) {
        if self.pubsub_due().is_some_and(|due| due <= now) {
            self.pubsub_step(now, Input::Wake);
        }
    }

    /// The resolver brought these into the map-cache.
    pub(super) fn learned(&mut self, now: Instant, eids: &[EidPrefix]) {
        if self.pubsub.subscriber.is_some() && self.nat_site.is_open() {
            self.pubsub_step(now, Input::Learned(eids));
        }
    }

    /// Takes in a Map-Reply if it refuses a subscription; false: it is for somebody else.
    pub(super) fn refuses_subscription(&mut self, now: Instant, reply: &MapReply, octets: &[u8]) -> bool {
        let ours = self.pubsub.subscriber.as_ref().is_some_and(|subscriber| subscriber.asked(reply.nonce));
        if ours {
            self.pubsub_step(now, Input::Replied { reply, octets });
        }
        ours
    }

    /// Whether a Map-Notify is for the subscriber: it speaks of EIDs that are not ours, or of ours inside of what was subscribed
    /// to (RFC 9437 §6).
    pub(super) fn is_publication(&self, message: &MapNotify, octets: &[u8]) -> bool {
        let ours = |record: &Mapping| self.responder.database().any(|own| own.eid.covers(&record.eid));
        let subscriber = self.pubsub.subscriber.as_ref();
        subscriber.is_some_and(|own| !message.records.iter().all(ours) || own.expects(message, octets))
    }

    /// Whether all unsubscriptions were confirmed.
    pub(super) fn subscriptions_ended(&self) -> bool {
        self.pubsub.subscriber.as_ref().is_none_or(Subscriber::has_left)
    }

    /// Takes in such a Map-Notify.
    pub(super) fn published(&mut self, now: Instant, from: SocketAddr, message: MapNotify, octets: &[u8]) {
        self.pubsub.notifies += 1;
        // Where a Map-Notify is the answer, the Map-Resolver has done its work.
        self.map_resolvers.answered(message.nonce);
        self.pubsub_step(now, Input::Notify { from, message, octets });
    }

    /// Unsubscribes from everything.
    pub(super) fn end_subscriptions(&mut self, now: Instant) {
        self.pubsub_step(now, Input::Stop);
    }

    pub(super) fn pubsub_stats(&self) -> Vec<Stat> {
        let own = &self.pubsub;
        let mut stats = vec![
            Stat::new("subscriptions", own.subscriber.as_ref().map_or(0, Subscriber::len) as u64),
            Stat::new("subscribers", self.map_server.subscribed_len() as u64),
            Stat::new("subscriptions-sent", own.requests),
            Stat::new("publications-received", own.notifies),
            Stat::new("publication-acks-sent", own.acks),
        ];
        stats.extend(own.faults.iter().map(|(name, value)| Stat::new(name, value)));
        stats
    }

    /// Steps the subscriber and does what it says.
    fn pubsub_step(&mut self, now: Instant, input: Input<'_>) {
        let Some(mut subscriber) = self.pubsub.subscriber.take() else { return };
        let mut todo = Vec::new();
        let learned = |origin| matches!(origin, Origin::Reply | Origin::PubSub);
        let in_use = |eid: &EidPrefix| self.map_cache.get(eid).is_some_and(|cached| learned(cached.origin));
        subscriber.step(now, input, &in_use, &mut || self.nonces.next_u64(), &mut todo);
        self.pubsub.subscriber = Some(subscriber);
        for output in todo {
            match output {
                // It goes again until it can be answered.
                Output::Request { .. } if !self.nat_site.is_open() => {}
                Output::Request { message, security } => {
                    self.pubsub.requests += 1;
                    let Some(eid) = message.records.first().map(|record| record.eid) else { continue };
                    let target = Eid { instance: eid.instance, address: eid.prefix.address() };
                    match security {
                        Some(security) => self.request_secured(now, target.address, &message, &security),
                        None => self.request(now, target, &message),
                    }
                }
                Output::Acknowledge { to, octets } => {
                    // What does not arrive is asked for again.
                    self.pubsub.acks += u64::from(self.try_send(None, to, &octets).is_ok());
                }
                Output::Install { records, notice } => self.take_publication(now, records, notice),
                Output::Stands(eid, standing) => {
                    tracing::debug!(%eid, standing = standing.name(), "subscription");
                }
                Output::Drop(fault) => {
                    tracing::debug!(?fault, "a subscription, or a Map-Notify for one, came to nothing");
                    self.pubsub.faults.count(fault);
                }
                Output::Insecure(fault) => self.insecure(fault, "Map-Reply to a subscription"),
            }
        }
    }

    fn take_publication(&mut self, now: Instant, records: Vec<Mapping>, notice: Notice) {
        for record in records.iter().filter(|record| record.ttl != Ttl::Remove) {
            self.resolver.settle(&record.eid);
        }
        self.cache(now, map_cache::Input::Published(records, notice));
    }
}
