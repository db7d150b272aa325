//! One Map-Server as the registrar sees it: what it was asked, and what it said.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Mapping};
use hashbrown::HashMap;

use super::{
    CONFIRM_EVERY, MapServer, NotifyFault, Output, RETRY_FIRST, RETRY_MAX, Way,
    nonces::Nonces,
    status::{PrefixStanding, ServerStatus, Standing},
};
use crate::wire::{AuthenticationError, MapNotify};

/// Of the nonces of one message that is sent again and again, how many an answer may name: a slow answer is one too.
const NONCES_MAX: usize = 4;

/// How long nothing may come back for a prefix: two whole retries.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Most withdrawals through an RTR whose answers are known.
const WITHDRAWN_MAX: usize = 64;

/// A Map-Register that waits for its Map-Notify.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// What it was sent with, the last one last.
    pub(super) nonces: Vec<u64>,
    pub(super) records: Vec<Mapping>,
    /// Time from sending it until it goes again.
    pub(super) spacing: Duration,
    again_at: Instant,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) settings: MapServer,
    waiting: Vec<Waiting>,
    /// What is to be taken back once the next round has told of what takes its place.
    pub(super) leaving: Vec<Mapping>,
    prefixes: BTreeMap<EidPrefix, (PrefixStanding, Instant)>,
    /// Since when no question about a prefix was answered, over all rounds: nothing for those of which none waits.
    asked: BTreeMap<EidPrefix, Instant>,
    /// Nonces of withdrawals, whose answers are for the RTR in between.
    withdrawn: VecDeque<u64>,
    standing: Standing,
    since: Instant,
    /// Why the last Map-Notify was not believed, and when it came; gone with the next that is.
    doubtful: Option<(AuthenticationError, Instant)>,
    next_round: Instant,
    last_round: Option<Instant>,
    rounds: u32,
    sent: u64,
    confirmed: u64,
    last_notify: Option<Instant>,
    /// Of the Map-Notifies that answered nothing, the greatest nonce.
    last_unasked: Option<u64>,
}

impl Server {
    pub(super) fn new(settings: MapServer, database: &[Mapping], now: Instant) -> Self {
        Self {
            settings,
            waiting: Vec::new(),
            leaving: Vec::new(),
            prefixes: database.iter().map(|mapping| (mapping.eid, (PrefixStanding::Waiting, now))).collect(),
            asked: BTreeMap::new(),
            withdrawn: VecDeque::new(),
            standing: Standing::Waiting,
            since: now,
            doubtful: None,
            next_round: now,
            last_round: None,
            rounds: 0,
            sent: 0,
            confirmed: 0,
            last_notify: None,
            last_unasked: None,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.waiting.iter().map(|waiting| waiting.again_at).fold(self.next_round, Instant::min)
    }

    pub(super) fn status(&self, way: &Way) -> ServerStatus {
        let key = &self.settings.keys[0];
        ServerStatus {
            address: self.settings.address,
            way: way.clone(),
            standing: self.standing,
            since: self.since,
            prefixes: self.prefixes.iter().map(|(eid, (standing, since))| (*eid, *standing, *since)).collect(),
            key_id: key.id,
            algorithm: key.algorithm,
            sent: self.sent,
            confirmed: self.confirmed,
            last_notify: self.last_notify,
        }
    }

    /// Begins a round if it is time for one, with the time to the next one and whether all of it is to be confirmed; tells after what time without an answer its messages shall go again, `None` if
    /// no answer is wanted. What the last round still waits for is part of the new one.
    pub(super) fn begin_round(
        &mut self,
        now: Instant,
        (interval, confirmed): (Duration, bool),
    ) -> Option<Option<Duration>> {
        if self.next_round > now {
            return None;
        }
        // As long as something is not confirmed, every round asks for it.
        let unconfirmed = !self.waiting.is_empty() || self.standing != Standing::Registered;
        let confirm = confirmed || unconfirmed || self.rounds.is_multiple_of(CONFIRM_EVERY);
        let spacing = self.waiting.iter().map(|waiting| waiting.spacing).max().unwrap_or(RETRY_FIRST);
        self.waiting.clear();
        self.rounds += 1;
        self.last_round = Some(now);
        self.next_round = now + interval;
        Some(confirm.then_some(spacing))
    }

    /// Takes out a message whose answer is late.
    pub(super) fn late(&mut self, now: Instant) -> Option<Waiting> {
        let index = self.waiting.iter().position(|waiting| waiting.again_at <= now)?;
        Some(self.waiting.remove(index))
    }

    /// A message was sent that wants no answer.
    pub(super) const fn sent(&mut self) {
        self.sent += 1;
    }

    /// A message was sent, the last of `nonces` in it, and its answer is waited for.
    pub(super) fn await_answer(
        &mut self,
        now: Instant,
        records: Vec<Mapping>,
        mut nonces: Vec<u64>,
        spacing: Duration,
        todo: &mut Vec<Output>,
    ) {
        // What was confirmed before is in doubt, however short a round is.
        let mut silent = Vec::new();
        for record in &records {
            let since = *self.asked.entry(record.eid).or_insert(now);
            if now.saturating_duration_since(since) >= SILENT_AFTER {
                silent.push(record.eid);
            }
        }
        if !silent.is_empty() {
            self.doubt(now, &silent, todo);
        }
        nonces.drain(..nonces.len().saturating_sub(NONCES_MAX));
        self.waiting.push(Waiting { nonces, records, spacing, again_at: now + spacing });
    }

    /// A withdrawal was sent, the answer to which tells the RTR in between.
    pub(super) fn told_rtr(&mut self, nonce: u64) {
        self.withdrawn.truncate(WITHDRAWN_MAX - 1);
        self.withdrawn.push_front(nonce);
    }

    /// Verifies before it believes anything (RFC 9301 §5.7); `ours` has the nonces that were used so far, `through` is the RTR
    /// that thanks go through.
    pub(super) fn notified(
        &mut self,
        now: Instant,
        message: MapNotify,
        octets: &[u8],
        (ours, through): (&Nonces, Option<IpAddr>),
        todo: &mut Vec<Output>,
    ) -> Result<(), NotifyFault> {
        let key = match message.verify(octets, &self.settings.keys) {
            Ok(key) => key.clone(),
            Err(error) => {
                self.doubtful = Some((error, now));
                self.settle(now, todo);
                return Err(error.into());
            }
        };
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.nonces.contains(&message.nonce)) {
            let Waiting { records, .. } = self.waiting.remove(index);
            self.confirm(now, &records, &message.records, todo);
            return Ok(());
        }
        if let Some(index) = self.withdrawn.iter().position(|nonce| *nonce == message.nonce) {
            self.withdrawn.remove(index);
            return Ok(());
        }
        // Nobody waits for it: an answer that comes twice, or news of the Map-Server's own. The last news is thanked for
        // again: our thanks may have been lost.
        if ours.has_drawn(message.nonce) || self.last_unasked.is_some_and(|last| message.nonce < last) {
            return Err(NotifyFault::Replayed);
        }
        self.last_unasked = Some(message.nonce);
        let octets = MapNotify { ack: true, ..message }.signed(&key, self.settings.form);
        todo.push(Output::Send { to: self.settings.address, through, octets });
        Ok(())
    }

    /// Whether a Map-Notify is the Map-Server's; one that is not is no reason to doubt its key.
    pub(super) fn proves(&self, message: &MapNotify, octets: &[u8]) -> Result<(), NotifyFault> {
        message.verify(octets, &self.settings.keys).map(drop).map_err(NotifyFault::from)
    }

    /// Takes in the Map-Notify for a message that asked for `asked`.
    fn confirm(&mut self, now: Instant, asked: &[Mapping], given: &[Mapping], todo: &mut Vec<Output>) {
        self.confirmed += 1;
        self.last_notify = Some(now);
        self.doubtful = None;
        for asked in asked {
            self.asked.remove(&asked.eid);
            let given = given.iter().any(|given| given.eid == asked.eid);
            self.tell(now, asked.eid, if given { PrefixStanding::Registered } else { PrefixStanding::Refused });
        }
        self.settle(now, todo);
    }

    /// Nothing came back for these, again and again.
    fn doubt(&mut self, now: Instant, silent: &[EidPrefix], todo: &mut Vec<Output>) {
        self.doubtful = self.doubtful.filter(|(_, at)| now.saturating_duration_since(*at) <= RETRY_MAX * 2);
        for eid in silent {
            self.tell(now, *eid, PrefixStanding::Silent);
        }
        self.settle(now, todo);
    }

    /// The database is another: what is new or changed waits for its confirmation. It is told at once, but for changes that
    /// come faster than a message is sent again: a locator that flaps is no flood.
    pub(super) fn change(&mut self, now: Instant, old: &[Mapping], new: &[Mapping], todo: &mut Vec<Output>) {
        let mut before = std::mem::take(&mut self.prefixes);
        let old: HashMap<EidPrefix, &Mapping> = old.iter().map(|mapping| (mapping.eid, mapping)).collect();
        let mut asked = std::mem::take(&mut self.asked);
        for mapping in new {
            let as_before = old.get(&mapping.eid).is_some_and(|old| *old == mapping);
            let same = as_before.then(|| before.remove(&mapping.eid)).flatten();
            self.prefixes.insert(mapping.eid, same.unwrap_or((PrefixStanding::Waiting, now)));
            self.asked.extend(asked.remove_entry(&mapping.eid).filter(|_| as_before));
        }
        self.waiting.clear();
        self.next_round = self.last_round.map_or(now, |last| now.max(last + RETRY_FIRST));
        self.settle(now, todo);
    }

    fn tell(&mut self, now: Instant, eid: EidPrefix, standing: PrefixStanding) {
        if let Some(told) = self.prefixes.get_mut(&eid).filter(|(before, _)| *before != standing) {
            *told = (standing, now);
        }
    }

    /// Sums up what is said of the prefixes.
    fn settle(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let count = |like| self.prefixes.values().filter(|(standing, _)| *standing == like).count();
        let (refused, silent) = (count(PrefixStanding::Refused), count(PrefixStanding::Silent));
        let answered = refused + count(PrefixStanding::Registered);
        let standing = match self.doubtful {
            Some((error, _)) if answered == 0 => Standing::WrongKey(error),
            _ if answered == 0 && silent > 0 => Standing::Silent,
            _ if refused + silent > 0 => Standing::Partial { refused, silent },
            _ if answered == self.prefixes.len() => Standing::Registered,
            _ => Standing::Waiting,
        };
        let before = std::mem::replace(&mut self.standing, standing);
        if before.name() != standing.name() {
            self.since = now;
            todo.push(Output::Stands { server: self.settings.address, standing });
        }
    }

    pub(super) const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    pub(super) const fn address(&self) -> IpAddr {
        self.settings.address
    }
}

impl From<AuthenticationError> for NotifyFault {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::UnknownKey(_) => Self::UnknownKey,
            _ => Self::Mac,
        }
    }
}
