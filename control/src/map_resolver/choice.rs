//! Which of its Map-Resolvers an ITR asks.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long the one in use may leave all requests without an answer: the time of two tries (RFC 9301 §5.3 spaces them by a
/// second and more).
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests whose answers are known.
const NONCES_MAX: usize = 64;

/// The Map-Resolvers in the order given; the one that answered last is asked until it falls silent.
#[derive(Debug, Clone)]
pub struct Choice {
    servers: Vec<IpAddr>,
    current: usize,
    /// When the first request left that nothing has answered since, and the last few nonces from then on.
    waiting: Option<(Instant, VecDeque<u64>)>,
}

impl Choice {
    /// The first is asked first.
    #[must_use]
    pub const fn new(servers: Vec<IpAddr>) -> Self {
        Self { servers, current: 0, waiting: None }
    }

    /// Whom a request with this nonce that leaves now goes to; `None` if there is nobody.
    pub fn ask(&mut self, now: Instant, nonce: u64) -> Option<IpAddr> {
        if self.waiting.as_ref().is_some_and(|(since, _)| now.saturating_duration_since(*since) > PATIENCE) {
            self.current = (self.current + 1) % self.servers.len();
            self.waiting = None;
        }
        let chosen = self.servers.get(self.current).copied()?;
        let (_, nonces) = self.waiting.get_or_insert_with(|| (now, VecDeque::new()));
        if nonces.len() == NONCES_MAX {
            nonces.pop_front();
        }
        nonces.push_back(nonce);
        Some(chosen)
    }

    /// A Map-Reply with this nonce came. Only one to what was asked here speaks for the Map-Resolver.
    pub fn answered(&mut self, nonce: u64) {
        if self.waiting.as_ref().is_some_and(|(_, nonces)| nonces.contains(&nonce)) {
            self.waiting = None;
        }
    }

    /// Whom the next request would go to.
    #[must_use]
    pub fn current(&self) -> Option<IpAddr> {
        self.servers.get(self.current).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ITR-43.
    #[test]
    fn a_resolver_that_loses_two_tries_gives_way_and_the_good_one_stays() {
        let [one, two]: [IpAddr; 2] = ["240.0.254.1", "240.0.254.2"].map(|text| text.parse().unwrap());
        let start = Instant::now();
        let mut choice = Choice::new(vec![one, two]);
        let at = |ms: u64| start + Duration::from_millis(ms);
        let asked: Vec<_> = [0, 1_000, 3_000, 3_100].map(|ms| choice.ask(at(ms), ms).unwrap()).into();
        assert_eq!(asked, [one, one, two, two]);
        choice.answered(3_000);
        for ms in [10_000, 60_000, 600_000] {
            assert_eq!(choice.ask(at(ms), ms), Some(two), "the last good one");
            choice.answered(ms);
        }
        assert_eq!(choice.ask(at(700_000), 7), Some(two));
        choice.answered(3_000); // an answer over the ALT, or a late one, says nothing of it
        assert_eq!(choice.ask(at(702_001), 8), Some(one), "round it goes");
        assert_eq!((choice.current(), Choice::new(vec![]).ask(start, 1)), (Some(one), None));
        let mut only = Choice::new(vec![one]);
        assert_eq!((only.ask(at(0), 1), only.ask(at(9_000), 2)), (Some(one), Some(one)));
        for nonce in 0..1000 {
            only.ask(at(9_000), nonce);
        }
        assert!(only.waiting.is_some_and(|(_, nonces)| nonces.len() == NONCES_MAX));
    }
}
