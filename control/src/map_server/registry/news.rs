//! Map-Notifies that answer nothing, until they are acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::EidPrefix;

use super::super::{Output, SiteFault, SiteId};

/// Time from each sending to the next (RFC 9301 §5.7).
pub(in crate::map_server) const SPACINGS: [Duration; 6] = [
    Duration::from_secs(3),
    Duration::from_secs(3),
    Duration::from_secs(3),
    Duration::from_secs(6),
    Duration::from_secs(12),
    Duration::from_secs(24),
];
/// How long the last one is waited for.
pub(in crate::map_server) const LAST: Duration = Duration::from_secs(24);
/// Most that wait at a time.
const WAITING_MAX: usize = 4096;

/// One piece of news.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) site: SiteId,
    /// The xTR, and the prefix: later news of it takes the place of this one.
    pub(super) about: (u32, EidPrefix),
    pub(super) to: SocketAddr,
    pub(super) local: IpAddr,
    pub(super) octets: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    sent: Sent,
    again_at: Instant,
    times: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct News {
    /// The last nonce.
    nonce: u64,
    by_nonce: BTreeMap<u64, Waiting>,
    by_time: BTreeSet<(Instant, u64)>,
    about: BTreeMap<(u32, EidPrefix), u64>,
}

impl News {
    pub(super) const fn new(nonce: u64) -> Self {
        Self { nonce, by_nonce: BTreeMap::new(), by_time: BTreeSet::new(), about: BTreeMap::new() }
    }

    /// A nonce greater than all before.
    pub(super) const fn nonce(&mut self) -> u64 {
        self.nonce = self.nonce.wrapping_add(1);
        self.nonce
    }

    pub(super) fn send(&mut self, now: Instant, nonce: u64, sent: Sent, todo: &mut Vec<Output>) {
        if let Some(older) = self.about.get(&sent.about).copied() {
            self.acknowledged(older);
        }
        todo.push(Output::Notify { to: sent.to, local: sent.local, octets: sent.octets.clone() });
        if self.by_nonce.len() >= WAITING_MAX {
            todo.push(Output::Drop(SiteFault::NotifyTableFull));
            return;
        }
        let again_at = now + SPACINGS[0];
        self.by_time.insert((again_at, nonce));
        self.about.insert(sent.about, nonce);
        self.by_nonce.insert(nonce, Waiting { sent, again_at, times: 0 });
    }

    /// Whose news waits under this nonce.
    pub(super) fn waiting(&self, nonce: u64) -> Option<SiteId> {
        self.by_nonce.get(&nonce).map(|waiting| waiting.sent.site)
    }

    pub(super) fn acknowledged(&mut self, nonce: u64) {
        if let Some(waiting) = self.by_nonce.remove(&nonce) {
            self.by_time.remove(&(waiting.again_at, nonce));
            self.about.remove(&waiting.sent.about);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Sends again what is due, and gives up what was sent often enough.
    pub(super) fn repeat(&mut self, now: Instant, todo: &mut Vec<Output>) {
        while let Some((at, nonce)) = self.by_time.first().copied().filter(|(at, _)| *at <= now) {
            let Some(waiting) = self.by_nonce.get_mut(&nonce).filter(|waiting| waiting.times < SPACINGS.len()) else {
                self.acknowledged(nonce);
                self.by_time.remove(&(at, nonce));
                todo.push(Output::Drop(SiteFault::Unacknowledged));
                continue;
            };
            waiting.times += 1;
            let Sent { to, local, octets, .. } = &waiting.sent;
            todo.push(Output::Notify { to: *to, local: *local, octets: octets.clone() });
            waiting.again_at = now + SPACINGS.get(waiting.times).copied().unwrap_or(LAST);
            let next = (waiting.again_at, nonce);
            self.by_time.remove(&(at, nonce));
            self.by_time.insert(next);
        }
    }
}
