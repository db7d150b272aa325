//! Where a session begins, where it ends, and when it is tried again.

use std::time::{Duration, Instant};

use super::{DownReason, Peer, PeerOutput, Session, Which};
use crate::alt::bgp::{
    fsm::{Direction, Event, Fsm, State},
    message::Cease,
};

/// First wait after a failure; each further one doubles it (RFC 4271 §8.1.1, DampPeerOscillations).
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// A session this long ends the row of failures.
const STABLE: Duration = Duration::from_secs(60);
/// Different reasons of failed attempts that are told between two sessions.
const TOLD_MAX: usize = 8;

impl Peer {
    /// A connection has become Established: the session is there.
    pub(super) fn up(&mut self, now: Instant, which: Which, todo: &mut Vec<PeerOutput>) {
        // The other connection, or the attempt at one, has lost.
        self.advance(now, which.other(), Event::Collision, todo);
        if which == Which::Second {
            std::mem::swap(&mut self.main, &mut self.second);
        }
        self.second = Fsm::new(Direction::Incoming);
        self.advance(now, Which::Second, Event::Start, todo);
        self.retry_at = None;
        self.unwelcome = false;
        self.since = now;
        self.established += 1;
        self.told = 0;
        self.failures_told.clear();
        if let Some(session) = self.session() {
            todo.push(PeerOutput::Up(session.clone()));
        }
    }

    /// A connection is over, and with it its session or an attempt.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        reason: DownReason,
        session: Option<&Session>,
        todo: &mut Vec<PeerOutput>,
    ) {
        // That nobody answers afterwards says less than what went wrong before.
        if reason != DownReason::Refused || self.last_down.is_none() {
            self.last_down = Some((now, reason.clone()));
        }
        let collided = is_collision(&reason);
        let unwelcome = is_our_complaint(&reason);
        if let Some(session) = session {
            self.main = Fsm::new(Direction::Outgoing);
            if now.saturating_duration_since(self.since) >= STABLE {
                self.failures = 0;
            }
            self.since = now;
            // A session that ended with a NOTIFICATION takes its routes along, and so does a tunnel that is down.
            let keep = matches!(reason, DownReason::Closed | DownReason::Restarted);
            let graceful = session.graceful.clone().filter(|_| keep);
            todo.push(PeerOutput::Down { reason, graceful });
        } else if !collided {
            let first = self.failures_told.len() < TOLD_MAX && !self.failures_told.contains(&reason);
            if first {
                self.failures_told.push(reason.clone());
            }
            todo.push(PeerOutput::Failed { reason, first });
        }
        if !self.wanted || !self.link_up {
            return;
        }
        self.advance(now, Which::Second, Event::Start, todo);
        let another = self.main.connection.is_some() || self.second.connection.is_some();
        if self.main.state == State::Idle && !another {
            self.failures += u32::from(!collided);
            let doubled = BACK_OFF.saturating_mul(1 << self.failures.saturating_sub(1).min(6)).min(BACK_OFF_MAX);
            self.retry_at = Some(now + self.random.jitter(doubled));
            self.unwelcome = unwelcome;
        }
    }
}

/// One of two connections was given up: no failure.
const fn is_collision(reason: &DownReason) -> bool {
    match reason {
        DownReason::Sent(notification) | DownReason::Received(notification) => {
            notification.code == 6 && notification.subcode == Cease::Collision.subcode()
        }
        _ => false,
    }
}

/// The neighbour said something that it will say again.
const fn is_our_complaint(reason: &DownReason) -> bool {
    match reason {
        DownReason::Sent(notification) => {
            matches!(notification.code, 1 | 2 | 3 | 5 | 7)
                || (notification.code == 6 && notification.subcode == Cease::OutOfResources.subcode())
        }
        _ => false,
    }
}
