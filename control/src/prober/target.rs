//! What is known of one locator that is probed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::EidPrefix;

use super::{Rtt, SPACING_MIN, Settings, State};

/// A probe that may be answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) nonce: u64,
    pub(super) sent: Instant,
    /// Counted as lost.
    late: bool,
}

/// One locator.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) state: State,
    /// Since when.
    pub(super) since: Instant,
    /// The cached prefix that it is asked about.
    pub(super) eid: EidPrefix,
    /// Until when an entry in use wants it probed.
    pub(super) wanted: Instant,
    /// Until when an entry in use could move its flows elsewhere.
    pub(super) rivalled: Instant,
    /// When something is next due.
    pub(super) due: Instant,
    /// A probe is on its way and may yet be answered in time.
    pub(super) waiting: bool,
    /// Probes since the last answer, or since it was last given up.
    tries: u32,
    /// Probes whose nonces are still good, oldest first.
    pub(super) awaited: VecDeque<Awaited>,
    /// When the last probe went out.
    pub(super) asked: Option<Instant>,
    pub(super) rtt: Option<Rtt>,
    /// When it last came up from being down.
    rose: Option<Instant>,
    /// It came up and went down so soon that answers alone do not bring it up.
    held: bool,
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) lost: u64,
}

impl Target {
    /// A locator that is to be asked at once.
    pub(super) const fn new(now: Instant, eid: EidPrefix) -> Self {
        Self {
            state: State::Unknown,
            since: now,
            eid,
            wanted: now,
            rivalled: now,
            due: now,
            waiting: false,
            tries: 0,
            awaited: VecDeque::new(),
            asked: None,
            rtt: None,
            rose: None,
            held: false,
            sent: 0,
            answered: 0,
            lost: 0,
        }
    }

    /// Whether it is down and would be up but for its flapping.
    pub(super) const fn is_held(&self) -> bool {
        matches!(self.state, State::Held)
    }

    /// The time between two probes, before jitter. What is down and wanted is looked at as often as what has rivals: a router
    /// that was started again shall not wait to be found.
    pub(super) fn interval(&self, now: Instant, settings: &Settings) -> Duration {
        if self.rivalled > now || matches!(self.state, State::Down | State::Held) {
            settings.failover_interval
        } else {
            settings.interval
        }
    }

    /// A probe goes out; a nonce that it pushes out of the list is returned.
    pub(super) fn send(&mut self, now: Instant, nonce: u64, settings: &Settings) -> Option<u64> {
        self.awaited.push_back(Awaited { nonce, sent: now, late: false });
        self.asked = Some(now);
        self.sent += 1;
        self.tries += 1;
        self.waiting = true;
        let known = self.rtt.map_or(settings.retry_interval, Rtt::patience);
        self.due = now + known.clamp(SPACING_MIN, settings.retry_interval.max(SPACING_MIN));
        let room = settings.retries as usize + 1;
        if self.awaited.len() > room { self.awaited.pop_front().map(|oldest| oldest.nonce) } else { None }
    }

    /// The probe on its way was not answered in time; true if that was the last try of the round.
    pub(super) fn lose(&mut self, settings: &Settings) -> bool {
        self.waiting = false;
        self.lost += 1;
        if let Some(last) = self.awaited.back_mut() {
            last.late = true;
        }
        let alive = matches!(self.state, State::Unknown | State::Up);
        !alive || self.tries > settings.retries
    }

    /// The round ends without an answer; true if the state changes.
    pub(super) fn give_up(&mut self, now: Instant, settings: &Settings) -> bool {
        self.tries = 0;
        let state = match self.state {
            State::Unknown => State::Mute,
            State::Up | State::Held => State::Down,
            State::Mute | State::Down => return false,
        };
        self.held |= self.rose.is_some_and(|rose| now < rose + settings.hold_down);
        (self.state, self.since) = (state, now);
        true
    }

    /// Takes the probe with this nonce out. One that is answered late was not lost after all.
    pub(super) fn take(&mut self, nonce: u64) -> Option<Instant> {
        let place = self.awaited.iter().position(|awaited| awaited.nonce == nonce)?;
        let awaited = self.awaited.remove(place)?;
        self.lost -= u64::from(awaited.late);
        Some(awaited.sent)
    }

    /// An answer came that took `measured`; true if the state changes.
    pub(super) fn answer(&mut self, now: Instant, measured: Duration, settings: &Settings) -> bool {
        self.answered += 1;
        match &mut self.rtt {
            Some(rtt) => rtt.update(measured),
            None => self.rtt = Some(Rtt::first(measured)),
        }
        (self.waiting, self.tries) = (false, 0);
        match self.state {
            State::Up => return false,
            State::Down if self.held => {
                (self.state, self.since) = (State::Held, now);
                return true;
            }
            State::Held if now < self.since + settings.hold_down => return false,
            State::Held => self.rose = Some(now),
            State::Down => self.rose = Some(now),
            State::Unknown | State::Mute => {}
        }
        self.held = false;
        (self.state, self.since) = (State::Up, now);
        true
    }
}
