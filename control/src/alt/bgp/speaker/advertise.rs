//! Work done in portions: announcing, withdrawing, sweeping.

use super::{Event, Output, Speaker};
use crate::alt::bgp::{
    aggregate::originated,
    message::RefreshKind,
    peer::PeerInput,
    policy::exported,
    rib::{Batch, Export, Position, RouteSource},
    route::{Family, PeerId, Update},
};

/// Destinations of one portion: the more, the more prefixes share an UPDATE.
const PORTION: usize = 4096;
/// Destinations compared with what neighbours were told in one step, or looked at for stale routes.
const VISITS_PER_STEP: usize = 8192;

impl Speaker {
    /// Does a portion of what is left.
    pub(super) fn work(&mut self, todo: &mut Vec<Output>) {
        let mut left = VISITS_PER_STEP;
        let count = self.neighbors.len();
        for turn in 0..count {
            let peer = PeerId((self.turn + turn) % count);
            if self.neighbors[peer.0].has_chores() {
                left = left.saturating_sub(self.tidy(peer, left));
            }
            if self.neighbors[peer.0].link.is_some() && self.deferred_until.is_none() {
                left = left.saturating_sub(self.tell(peer, left, todo));
            }
            if left == 0 {
                break;
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        self.forget_logs();
    }

    /// Takes stale routes out and lets go of what was told in sessions that are gone; returns how much was looked at.
    fn tidy(&mut self, peer: PeerId, max: usize) -> usize {
        let (neighbor, table) = self.parts(peer);
        if let Some(mut sweep) = neighbor.sweep.take() {
            if let Some(next) = table.sweep(peer, sweep.families, sweep.next, max as u32) {
                sweep.next = next;
                neighbor.sweep = Some(sweep);
            }
            return max;
        }
        let Some(grave) = neighbor.graves.first_mut() else { return 0 };
        let visited = table.let_go(grave, max);
        if grave.is_empty() {
            neighbor.graves.remove(0);
        }
        visited
    }

    /// Tells a neighbour what is new to it, as far as its connection takes it; returns how much was looked at.
    fn tell(&mut self, peer: PeerId, max: usize, todo: &mut Vec<Output>) -> usize {
        let mut visited = 0;
        self.tell_defaults(peer, todo);
        while visited < max {
            let Some(end) = self.round(peer) else { break };
            let batch = self.compare(peer, end, PORTION.min(max - visited));
            visited += batch.visited;
            self.send(peer, batch, todo);
        }
        self.end_marks(peer, todo);
        visited
    }

    /// Up to where in the log the neighbour may be told now; `None` if there is nothing, or it must wait.
    fn round(&mut self, peer: PeerId) -> Option<Position> {
        let (now, jitter) = (self.now, self.jitter());
        let (neighbor, table) = self.parts(peer);
        let interval = neighbor.settings().advertisement_interval;
        let link = neighbor.link.as_mut().filter(|link| !link.blocked())?;
        if interval.is_zero() {
            return link.out.behind(table, Position::MAX).then_some(Position::MAX);
        }
        if let Some(end) = link.round {
            if link.out.behind(table, end) {
                return Some(end);
            }
            link.round = None;
            if std::mem::take(&mut link.spoke) {
                link.next_round = now + interval.mul_f64(jitter);
            }
        }
        if now < link.next_round || !link.out.behind(table, Position::MAX) {
            return None;
        }
        link.round = Some(table.end());
        link.round
    }

    fn compare(&mut self, peer: PeerId, end: Position, max: usize) -> Batch {
        let asn = self.settings.asn;
        let (neighbor, table) = self.parts(peer);
        let mut batch = Batch::default();
        let Some(mut link) = neighbor.link.take() else { return batch };
        let spoken = |family: &Family| neighbor.next_hop(*family).is_some();
        let settings = neighbor.settings();
        let export = Export {
            peer,
            external: settings.asn != asn,
            families: link.session.families.iter().filter(spoken).collect(),
            list: &settings.export,
            default_originate: settings.default_originate,
        };
        link.out.compare(table, &export, end, max, &mut batch);
        link.spoke |= !(batch.withdrawn.is_empty() && batch.announced.is_empty());
        neighbor.link = Some(link);
        batch
    }

    /// Sends a batch, the prefixes of one set of attributes together.
    fn send(&mut self, peer: PeerId, mut batch: Batch, todo: &mut Vec<Output>) {
        if !batch.withdrawn.is_empty() {
            let update = Update { withdrawn: batch.withdrawn, ..Update::default() };
            self.drive(peer, PeerInput::Send(&update), todo);
        }
        batch.announced.sort_by_key(|(id, prefix)| (*id, Family::of(prefix)));
        for group in batch.announced.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((id, _)) = group.first() else { continue };
            let neighbor = &self.neighbors[peer.0];
            let table = &self.tables[&neighbor.settings().instance];
            let external = neighbor.settings().asn != self.settings.asn;
            let attributes = exported(&table.attributes.get(*id).attributes, self.settings.asn, external);
            let announced = group
                .chunk_by(|(_, one), (_, other)| Family::of(one) == Family::of(other))
                .filter_map(|of_family| {
                    let (_, first) = of_family.first()?;
                    let prefixes = of_family.iter().map(|(_, prefix)| *prefix).collect();
                    Some((neighbor.next_hop(Family::of(first))?, prefixes))
                })
                .collect();
            let update = Update { withdrawn: Vec::new(), announced, attributes: Some(attributes) };
            self.drive(peer, PeerInput::Send(&update), todo);
        }
    }

    fn tell_defaults(&mut self, peer: PeerId, todo: &mut Vec<Output>) {
        let neighbor = &mut self.neighbors[peer.0];
        let Some(link) = neighbor.link.as_mut().filter(|link| !link.defaults.is_empty() && !link.blocked()) else {
            return;
        };
        let families = std::mem::take(&mut link.defaults);
        let default = |family| Some((neighbor.next_hop(family)?, vec![super::everything(family)]));
        let announced: Vec<_> = families.iter().filter_map(default).collect();
        if announced.is_empty() {
            return;
        }
        let external = neighbor.settings().asn != self.settings.asn;
        let attributes = exported(&originated(), self.settings.asn, external);
        let update = Update { withdrawn: Vec::new(), announced, attributes: Some(attributes) };
        self.drive(peer, PeerInput::Send(&update), todo);
    }

    /// Says what is complete now: the first exchange, or a repetition.
    fn end_marks(&mut self, peer: PeerId, todo: &mut Vec<Output>) {
        let Some(link) = self.neighbors[peer.0].link.as_mut() else { return };
        if link.blocked() || !link.out.scanned() {
            return;
        }
        let first = std::mem::take(&mut link.end_of_rib);
        let again = std::mem::take(&mut link.end_of_refresh);
        first.iter().for_each(|family| self.drive(peer, PeerInput::SendEndOfRib(family), todo));
        again.iter().for_each(|family| self.drive(peer, PeerInput::SendRefresh(family, RefreshKind::End), todo));
    }

    /// Forgets what all neighbours of an instance have read.
    fn forget_logs(&mut self) {
        for (instance, table) in &mut self.tables {
            let of_instance = self.neighbors.iter().filter(|one| one.settings().instance == *instance);
            let positions = of_instance.filter_map(|one| one.link.as_ref()).map(|link| link.out.position());
            table.forget_log(positions.min().unwrap_or(Position::MAX));
        }
    }

    /// What time alone brings: stale routes whose time is over, routes that are stable again, the end of our restart.
    pub(super) fn expire(&mut self, todo: &mut Vec<Output>) {
        let now = self.now;
        let mut gone = false;
        for peer in (0..self.neighbors.len()).map(PeerId) {
            let (neighbor, table) = self.parts(peer);
            for family in Family::ALL {
                if neighbor.stale[family as usize].is_some_and(|until| until <= now) {
                    neighbor.stale[family as usize] = None;
                    neighbor.sweep(family);
                    gone = true;
                    todo.push(Output::Event(Event::StaleGone { peer }));
                }
            }
            if let Some(dampener) = &mut neighbor.dampener {
                let mut left = PORTION;
                while let Some(prefix) = (left > 0).then(|| dampener.reuse(now)).flatten() {
                    table.dampen(RouteSource::Peer(peer), &prefix, false);
                    left -= 1;
                }
            }
        }
        if gone {
            self.review_aggregates(todo);
        }
        self.review_restart(todo);
    }

    /// 0.75 … 1, for the next interval (RFC 4271 §10).
    fn jitter(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (self.seed >> 32) as u32;
        0.75 + f64::from(part) / f64::from(u32::MAX) / 4.0
    }
}
