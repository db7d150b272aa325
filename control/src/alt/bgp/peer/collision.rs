//! A neighbour's OPEN: whether it is acceptable (RFC 4271 §6.2), and which of two connections stays (§6.8).
//!
//! Both sides must come to the same verdict without a word. It is given when an OPEN arrives, by the BGP Identifiers alone, even
//! if the other connection has not seen an OPEN yet: the identifier in it will be the same. A connection that is not there yet
//! does not count, and one that comes after the session is up has lost, but for a neighbour that has restarted.

use std::{cmp::Ordering, time::Instant};

use super::{Peer, PeerOutput, Session, Which};
use crate::alt::bgp::{
    fsm::{Direction, Event, State},
    message::{BgpFault, Graceful, Message, Notification, Open},
    peer::DownReason,
    route::Family,
};

impl Peer {
    /// Takes in an OPEN on one of the connections.
    pub(super) fn opened(&mut self, now: Instant, which: Which, open: &Open, todo: &mut Vec<PeerOutput>) {
        let fsm = self.fsm(which);
        let (Some(connection), state) = (fsm.connection, fsm.state) else { return };
        let session = Session {
            families: self.open.families.and(open.families),
            four_octet: self.open.four_octet && open.four_octet,
            graceful: open.graceful.clone().filter(|_| self.open.graceful.is_some()),
            route_refresh: self.open.route_refresh && open.route_refresh,
            enhanced_refresh: self.open.enhanced_refresh && open.enhanced_refresh,
            router_id: open.router_id,
            asn: open.asn,
            hold: self.open.hold.min(open.hold),
            connection,
        };
        if state == State::OpenSent {
            if let Err(notification) = self.acceptable(open, &session) {
                return self.advance(now, which, Event::Bad(BgpFault::OpenRefused, notification), todo);
            }
            if !self.stays(now, which, open, todo) {
                return self.advance(now, which, Event::Collision, todo);
            }
        }
        self.advance(now, which, Event::Open(Box::new(session)), todo);
    }

    /// What of an OPEN depends on who the neighbour is meant to be.
    fn acceptable(&self, open: &Open, session: &Session) -> Result<(), Notification> {
        if open.asn != self.settings.asn {
            return Err(Notification::new(2, 2, &[]));
        }
        // Identifiers are unique inside an AS only (RFC 6286 §2.1).
        if open.router_id == self.open.router_id && open.asn == self.open.asn {
            return Err(Notification::new(2, 3, &open.router_id.octets()));
        }
        if session.families.is_empty() {
            // The capability that was missed (RFC 5492 §5).
            let wanted = self.open.families.iter().next().unwrap_or(Family::V4);
            let afi = if wanted == Family::V4 { 1 } else { 2 };
            return Err(Notification::new(2, 7, &[1, 4, 0, afi, 0, 1]));
        }
        Ok(())
    }

    /// Whether the connection an acceptable OPEN came on stays; the other one is ended if so, and if there is one.
    fn stays(&mut self, now: Instant, which: Which, open: &Open, todo: &mut Vec<PeerOutput>) -> bool {
        let other = which.other();
        let ours_is_preferred = match self.open.router_id.cmp(&open.router_id) {
            // The same identifier in two ASes: the larger AS number (RFC 6286 §2.3).
            Ordering::Equal => self.open.asn > open.asn,
            order => order == Ordering::Greater,
        };
        let (direction, other_state) = (self.fsm(which).direction, self.fsm(other).state);
        match other_state {
            State::Idle | State::Active => true,
            State::Connect => {
                self.advance(now, other, Event::Collision, todo);
                true
            }
            State::OpenSent | State::OpenConfirm => {
                let stays = ours_is_preferred == (direction == Direction::Outgoing);
                if stays {
                    self.advance(now, other, Event::Collision, todo);
                }
                stays
            }
            State::Established => self.has_restarted(now, open.graceful.as_ref(), todo),
        }
    }

    /// Whether an OPEN on a second connection means that the session is a thing of the past (RFC 4724 §4.2).
    fn has_restarted(&mut self, now: Instant, graceful: Option<&Graceful>, todo: &mut Vec<PeerOutput>) -> bool {
        let agreed = self.session().is_some_and(|session| session.graceful.is_some());
        if agreed && graceful.is_some_and(|graceful| graceful.restarting) {
            self.advance(now, Which::Main, Event::Abort(DownReason::Restarted), todo);
            return true;
        }
        // If it has restarted without saying so, its kernel answers this with a reset, and the session is over at once.
        self.send(&Message::Keepalive, todo);
        false
    }
}
