//! Shows a client of the mapping API what workers do with packets.
//!
//! One trace at a time. Workers choose what is shown and copy it; here it is only carried on, some of it in each round, and only
//! while the client takes it. What finds no room meanwhile is lost in the worker's ring, and counted there.

use std::time::{Duration, Instant, SystemTime};

use altitude_control::api::{Asker, Refused, TraceAsk, TracePages};
use altitude_dataplane::tap::{Filter, RECORDS, Record};
use mio::Token;

use super::{Driver, ROUND};

/// How often workers' rings are looked at.
const EVERY: Duration = Duration::from_millis(10);

/// Traces so far, and the one that runs.
#[derive(Default)]
pub(super) struct Traces {
    number: u32,
    running: Option<Trace>,
}

struct Trace {
    client: Token,
    left: u64,
    until: Instant,
    next: Instant,
    /// Two names of one moment.
    began: (Instant, SystemTime),
    /// What workers had no room for before.
    lost_before: u64,
    pages: TracePages,
}

impl Traces {
    /// When it is to be looked at again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.running.as_ref().map(|trace| trace.next.min(trace.until))
    }
}

impl Driver<'_> {
    /// Begins a trace, or ends the client's own.
    pub(super) fn start_trace(&mut self, asker: Asker, ask: Option<TraceAsk>) -> Result<(), Refused> {
        let (now, client) = (Instant::now(), Token(asker.0 as usize));
        let Some(ask) = ask else {
            // Its end comes behind the answer to this.
            if let Some(trace) = self.traces.running.as_mut().filter(|trace| trace.client == client) {
                trace.until = now;
            }
            return Ok(());
        };
        if self.traces.running.is_some() {
            return Err(Refused::Busy(
                "a trace runs already, and there is one at a time: end it, or wait until it ends",
            ));
        }
        if self.workers.is_empty() {
            return Err(Refused::Unsupported("this router has no ports, so no packets pass"));
        }
        self.traces.number = self.traces.number.wrapping_add(1);
        let filter = Filter {
            trace: self.traces.number,
            eid: ask.eid,
            rloc: ask.rloc,
            ports: ask.ports,
            reasons: ask.reasons(),
            snaplen: ask.snaplen,
        };
        // Where it has, this order and the one that ends it find room.
        if !self.workers.iter().all(|worker| worker.watch.is_settled()) {
            return Err(Refused::Busy("a worker has not ended the trace before yet: try again"));
        }
        self.order(Some(filter));
        tracing::info!(client = asker.0, packets = ask.count, seconds = ask.time.as_secs(), "a trace begins");
        self.traces.running = Some(Trace {
            client,
            left: ask.count,
            until: now + ask.time,
            next: now,
            began: (now, SystemTime::now()),
            lost_before: self.untraced(),
            pages: TracePages::default(),
        });
        Ok(())
    }

    fn order(&mut self, filter: Option<Filter>) {
        for worker in &mut self.workers {
            let told = worker.watch.order(filter);
            debug_assert!(told, "there is room for a begin and an end");
            worker.waker.wake();
        }
    }

    fn untraced(&self) -> u64 {
        self.workers.iter().map(|worker| worker.counters.untraced.get()).sum()
    }

    /// Carries packets on to the client; ends a trace whose time or count is over.
    pub(super) fn wake_trace(&mut self, now: Instant) {
        if self.traces.due().is_none_or(|due| due > now) {
            return;
        }
        let more = self.carry_on();
        let Some(trace) = &mut self.traces.running else { return };
        trace.next = if more { now } else { now + EVERY };
        if trace.left == 0 || trace.until <= now {
            self.end_trace();
        }
    }

    /// Hands the client what it has room for, some from each worker, in the order of time; true if there may be more.
    fn carry_on(&mut self) -> bool {
        let Some(trace) = &mut self.traces.running else { return false };
        let Some(connection) = self.connections.get_mut(&trace.client) else { return false };
        if !connection.takes_traced() {
            return false;
        }
        let (mut octets, mut records, mut more) = (Vec::new(), Vec::new(), false);
        for worker in &mut self.workers {
            for turn in 0..ROUND {
                let start = octets.len();
                let Some(record) = worker.watch.take(&mut octets) else { break };
                records.push((record, start));
                more |= turn + 1 == ROUND;
            }
        }
        // Of a trace before it, what was still under way.
        records.retain(|(record, _)| record.trace == self.traces.number);
        records.sort_by_key(|(record, _)| record.at);
        records.truncate(usize::try_from(trace.left).unwrap_or(usize::MAX));
        trace.left -= records.len() as u64;
        for (record, start) in &records {
            let at = moment(trace.began, record);
            let octets = &octets[*start..start + record.captured as usize];
            if let Some(message) = trace.pages.add(at, record, octets) {
                connection.add_traced(message);
            }
        }
        if let Some(message) = trace.pages.finish() {
            connection.add_traced(message);
        }
        if !records.is_empty() {
            self.ready.insert(trace.client);
        }
        more
    }

    /// Ends the trace that runs, and tells the client how it went.
    fn end_trace(&mut self) {
        self.order(None);
        self.carry_on();
        let untraced = self.untraced();
        let Some(trace) = self.traces.running.take() else { return };
        let mut lost = untraced - trace.lost_before;
        if trace.left > 0 {
            lost += self.forget();
        }
        tracing::info!(client = trace.client.0, packets = trace.pages.shown(), lost, "a trace ended");
        if let Some(connection) = self.connections.get_mut(&trace.client) {
            connection.add_traced(trace.pages.end(lost));
            self.ready.insert(trace.client);
        }
    }

    /// Empties workers' rings; how many packets of the last trace were in them.
    fn forget(&mut self) -> u64 {
        let (mut octets, mut forgotten) = (Vec::new(), 0);
        for worker in &mut self.workers {
            for _ in 0..RECORDS {
                octets.clear();
                let Some(record) = worker.watch.take(&mut octets) else { break };
                forgotten += u64::from(record.trace == self.traces.number);
            }
        }
        forgotten
    }

    /// A client is gone, and its trace with it.
    pub(super) fn watcher_left(&mut self, token: Token) {
        if self.traces.running.as_ref().is_some_and(|trace| trace.client == token) {
            self.end_trace();
        }
    }
}

/// The time of a record, by the clock of the wall.
fn moment((instant, time): (Instant, SystemTime), record: &Record) -> SystemTime {
    match record.at.checked_duration_since(instant) {
        Some(since) => time + since,
        None => time - instant.duration_since(record.at),
    }
}
