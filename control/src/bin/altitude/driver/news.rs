//! What subscribers of the mapping API are told.
//!
//! News are gathered while anybody listens, and handed out before a client is served and at the end of a round.

use std::{net::IpAddr, sync::Arc, time::Instant};

use altitude_control::{
    api::{Asker, Event, Method, MissReason, Misses, PROBE_STATES, Table, View},
    prober,
    underlay::Progress,
};
use altitude_dataplane::mapping::EidPrefix;

use super::Driver;

/// Events that wait to be handed out.
#[derive(Default)]
pub(super) struct News {
    /// Clients that want events.
    pub(super) listeners: usize,
    /// Whose operation is being carried out,
    pub(super) cause: Option<Asker>,
    /// and which entry it is about; `None`: all that changes meanwhile.
    pub(super) about: Option<EidPrefix>,
    /// One event says it all: single ones are not told.
    pub(super) muted: bool,
    waiting: Vec<(Option<Asker>, Event)>,
    misses: Misses,
}

/// What became of an entry of the map-cache.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    Came,
    Changed,
    Left { expired: bool },
}

impl Driver<'_> {
    /// An entry of the map-cache came, changed or left.
    pub(super) fn turned(&mut self, eid: EidPrefix, turn: Turn) {
        self.generation += 1;
        // Of what is gone nobody asks whether it has changed: a FLUSH does not push out what others want to know.
        if !(self.news.muted && matches!(turn, Turn::Left { .. })) {
            self.operations.changes.note(eid, self.generation);
        }
        if matches!(turn, Turn::Left { .. }) {
            self.operations.disown(&eid);
        }
        // What ends by its time, or gives way to another, is nobody's doing.
        let by_itself =
            matches!(turn, Turn::Left { expired: true }) || self.news.about.is_some_and(|about| about != eid);
        if self.news.listeners == 0 || (self.news.muted && !by_itself) {
            return;
        }
        let event = match turn {
            Turn::Left { expired } => Event::Deleted { table: Table::Cache, eid, expired },
            // What has left since is told as that.
            Turn::Came | Turn::Changed => match (self.exact(Table::Cache, &eid), turn) {
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
        if let Some(suppressed) = self.news.misses.tell(now, eid) {
            self.tell(Event::Missed { eid, reason, suppressed, from });
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
            let mut shared: Option<Arc<[u8]>> = None;
            for connection in self.connections.values_mut() {
                connection.tell(now, &event, cause, &mut || shared.get_or_insert_with(|| event.body().into()).clone());
            }
            if shared.is_some() {
                let subscribers = self.connections.iter().filter(|(_, connection)| connection.is_subscriber());
                self.ready.extend(subscribers.map(|(token, _)| *token));
            }
        }
    }
}
