//! What subscribers of the mapping API are told.
//!
//! News are gathered while anybody listens, and handed out before a client is served and at the end of a round.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use altitude_control::{
    api::{Asker, Event, Method, MissDetail, MissReason, Misses, PROBE_STATES, Table, View},
    map_cache,
    os::api_socket::Connection,
    prober,
    underlay::Progress,
};
use altitude_dataplane::mapping::EidPrefix;

use super::Driver;

/// Packets of misses kept while these are taken,
const PACKETS_MAX: usize = 256;
/// and for how long at most: in a flood some miss is always left for the next round.
const PACKETS_KEPT: Duration = Duration::from_secs(1);

/// Events that wait to be handed out.
#[derive(Default)]
pub(super) struct News {
    /// Clients that want events.
    pub(super) listeners: usize,
    /// Whose operation is being carried out,
    pub(super) cause: Option<Asker>,
    /// and which entries it is about, ascending; `None`: all that changes meanwhile.
    pub(super) about: Option<Vec<EidPrefix>>,
    /// One event says it all: single ones are not told.
    pub(super) muted: bool,
    packets: Packets,
    waiting: Vec<(Option<Asker>, Event)>,
    misses: Misses,
}

/// Packets whose misses are being taken, by what they wanted. A packet comes before its miss, so it stays for one round more.
#[derive(Default)]
struct Packets {
    kept: HashMap<EidPrefix, Kept>,
    round: u64,
    /// Those that found no room.
    lost: u64,
}

struct Kept {
    round: u64,
    since: Instant,
    packet: Vec<u8>,
}

impl Packets {
    fn keep(&mut self, now: Instant, eid: EidPrefix, packet: &[u8]) {
        if self.kept.len() < PACKETS_MAX || self.kept.contains_key(&eid) {
            self.kept.insert(eid, Kept { round: self.round, since: now, packet: packet.to_vec() });
        } else {
            self.lost += 1;
        }
    }

    fn take(&mut self, eid: &EidPrefix) -> Vec<u8> {
        self.kept.remove(eid).map(|kept| kept.packet).unwrap_or_default()
    }

    /// Misses were taken; `left` if some are still there, whose packets may be here.
    fn end_round(&mut self, now: Instant, left: bool) {
        let fresh = |kept: &Kept| now.saturating_duration_since(kept.since) < PACKETS_KEPT;
        self.kept.retain(|_, kept| if left { fresh(kept) } else { kept.round == self.round });
        self.round += u64::from(!left);
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Came,
    Changed,
    Left { expired: bool },
}

impl Driver<'_> {
    /// An entry of a table came, changed or left.
    pub(super) fn turned(&mut self, table: Table, eid: EidPrefix, turn: Turn) {
        let cached = self.map_cache.get(&eid).filter(|_| table == Table::Cache);
        let turn = cached.map_or(turn, |cached| self.operations.seen(&eid, cached.origin, turn));
        self.generation += 1;
        // Of what is gone nobody asks whether it has changed: a FLUSH does not push out what others want to know.
        if !(self.news.muted && matches!(turn, Turn::Left { .. })) {
            self.operations.changes.note(eid, self.generation);
        }
        // A client may have put another in its place in the same step.
        let is_api = |cached: map_cache::Cached<'_>| cached.origin == map_cache::Origin::Api;
        let left = table == Table::Cache && matches!(turn, Turn::Left { .. });
        if left && !self.map_cache.get(&eid).is_some_and(is_api) {
            self.operations.disown(&eid);
        }
        let about = self.news.about.as_ref();
        // What ends by its time, or gives way to another, is nobody's doing.
        let by_itself = matches!(turn, Turn::Left { expired: true })
            || about.is_some_and(|about| about.binary_search(&eid).is_err());
        if self.news.listeners == 0 || (self.news.muted && !by_itself) {
            return;
        }
        let event = match turn {
            Turn::Left { expired } => Event::Deleted { table, eid, expired },
            // What has left since is told as that.
            Turn::Came | Turn::Changed => match (self.exact(table, &eid), turn) {
                (Some(entry), Turn::Came) => Event::Added(entry),
                (Some(entry), _) => Event::Changed(entry),
                (None, _) => return,
            },
        };
        let cause = self.news.cause.filter(|_| !by_itself);
        self.news.waiting.push((cause, event));
    }

    /// Has subscribers told.
    pub(super) fn tell(&mut self, event: Event) {
        if self.news.listeners > 0 {
            self.news.waiting.push((self.news.cause, event));
        }
    }

    /// Packets want a mapping that is not there, or not for long.
    pub(super) fn miss_news(&mut self, now: Instant, eid: EidPrefix, reason: MissReason, from: Option<IpAddr>) {
        if self.news.listeners == 0 {
            return;
        }
        let packet = self.news.packets.take(&eid);
        if let Some(suppressed) = self.news.misses.tell(now, eid) {
            // Packets and time are nobody's doing: whoever is being served hears of them too.
            self.news.waiting.push((None, Event::Missed { eid, reason, suppressed, from, packet }));
        }
    }

    /// Takes the packets of a worker's misses, if anybody wants to see them.
    pub(super) fn take_samples(&mut self, now: Instant, worker: usize) {
        while let Ok(sample) = self.workers[worker].samples.pop() {
            self.news.packets.keep(now, EidPrefix::host(sample.destination), sample.octets());
        }
    }

    /// Forgets packets whose misses were taken before; `left` if some are still to be taken.
    pub(super) fn end_samples(&mut self, now: Instant, left: bool) {
        self.news.packets.end_round(now, left);
    }

    /// Packets of misses that found no room.
    pub(super) const fn samples_lost(&self) -> u64 {
        self.news.packets.lost
    }

    /// What clients want to hear of has changed.
    pub(super) fn count_listeners(&mut self) {
        let connections = self.connections.values();
        self.news.listeners = connections.clone().filter(|connection| connection.is_subscriber()).count();
        let detail = connections.map(Connection::detail).max().unwrap_or_default();
        for worker in &self.workers {
            // Relaxed: it looks at that once a turn.
            worker.samples_wanted.store(detail > MissDetail::Eid, Ordering::Relaxed);
        }
    }

    /// What probes say of a locator changed.
    pub(super) fn probe_news(&mut self, locator: IpAddr, state: prober::State) {
        if state != prober::State::Unknown {
            self.judged(locator, state == prober::State::Up, Method::Probe);
        }
    }

    /// The path to a locator changed.
    pub(super) fn path_news(&mut self, destination: IpAddr, progress: Progress) {
        if progress.is_waiting() || !self.publisher.has_locator(destination) {
            return;
        }
        self.judged(destination, progress == Progress::Ready, Method::Rib);
    }

    /// A verdict on a locator changed.
    pub(super) fn judged(&mut self, locator: IpAddr, up: bool, method: Method) {
        let report = self.reachability.prober.as_ref().and_then(|prober| prober.report(locator));
        let state = PROBE_STATES[report.as_ref().map_or(0, |report| report.state as usize)];
        let rtt = report.and_then(|report| report.rtt).map(|rtt| rtt.smoothed);
        self.tell(Event::Judged { locator, up, method, state, rtt });
    }

    /// Hands out what happened; who was told something is served in the next round.
    pub(super) fn distribute(&mut self, now: Instant) {
        for (cause, event) in std::mem::take(&mut self.news.waiting) {
            // One for each detail; of all but MISS the first.
            let mut shared: [Option<Arc<[u8]>>; 3] = [const { None }; 3];
            let is_miss = matches!(event, Event::Missed { .. });
            for connection in self.connections.values_mut() {
                connection.tell(now, &event, cause, &mut |detail| {
                    let place = &mut shared[if is_miss { detail as usize } else { 0 }];
                    place.get_or_insert_with(|| event.body_for(detail).into()).clone()
                });
            }
            if shared.iter().any(Option::is_some) {
                let subscribers = self.connections.iter().filter(|(_, connection)| connection.is_subscriber());
                self.ready.extend(subscribers.map(|(token, _)| *token));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Eid, InstanceId};

    use super::*;

    #[test]
    fn a_packet_stays_until_its_miss_is_taken_or_the_round_after_and_they_are_bounded() {
        let eid =
            |last: u32| EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: last.to_be_bytes().into() });
        let (mut packets, now) = (Packets::default(), Instant::now());
        packets.keep(now, eid(1), &[1]);
        packets.keep(now, eid(2), &[2]);
        assert_eq!(packets.take(&eid(1)), [1]);
        packets.end_round(now, false);
        packets.keep(now, eid(3), &[3]);
        assert_eq!((packets.take(&eid(2)), packets.take(&eid(2))), (vec![2], vec![]), "it came before its miss");
        packets.keep(now, eid(2), &[4]);
        packets.end_round(now, false);
        packets.end_round(now, false);
        assert_eq!((packets.take(&eid(2)), packets.take(&eid(3))), (vec![], vec![]));
        for last in 0..=PACKETS_MAX as u32 {
            packets.keep(now, eid(last), &[5]);
        }
        assert_eq!((packets.kept.len(), packets.lost), (PACKETS_MAX, 1));
        // In a flood, where misses are always left.
        packets.end_round(now + PACKETS_KEPT / 2, true);
        assert_eq!(packets.kept.len(), PACKETS_MAX);
        packets.end_round(now + PACKETS_KEPT, true);
        assert_eq!(packets.kept.len(), 0);
    }
}
