//! What a neighbour's session brings: its beginning and end, its routes, its marks.

use std::{collections::VecDeque, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, Prefix};

use super::{
    Event, Output, RouteFault, Speaker,
    neighbor::{Link, Neighbor},
};
use crate::{
    alt::bgp::{
        aggregate::aggregated,
        dampening::{Flap, Full},
        message::{Cease, Graceful, RefreshKind},
        peer::{Again, DownReason, PeerInput, PeerOutput, Session},
        rib::{RouteSource, Table},
        route::{Family, PeerId, Update},
        settings::{Families, MaxPrefixes, MaxPrefixesAction},
    },
    fault::Fault,
};

/// Sessions of one neighbour whose remains are let go of in portions; those of more at once.
const GRAVES_MAX: usize = 4;

impl Speaker {
    /// Gives a neighbour an input and does what it wants.
    pub(super) fn drive(&mut self, peer: PeerId, input: PeerInput<'_>, todo: &mut Vec<Output>) {
        let mut outputs = Vec::new();
        self.neighbors[peer.0].peer.step(self.now, input, &mut outputs);
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            let stop = self.obey(peer, output, todo);
            if let Some((cease, again)) = stop {
                // What follows from it comes before what the neighbour had said after.
                let mut first = Vec::new();
                let stop = PeerInput::Stop { cease, text: "", again };
                self.neighbors[peer.0].peer.step(self.now, stop, &mut first);
                first.into_iter().rev().for_each(|output| outputs.push_front(output));
            }
        }
    }

    fn obey(&mut self, peer: PeerId, output: PeerOutput, todo: &mut Vec<Output>) -> Option<(Cease, Again)> {
        match output {
            PeerOutput::Connect(connection) => todo.push(Output::Connect { connection, peer }),
            PeerOutput::Write(connection, octets) => {
                let link = self.neighbors[peer.0].link.as_mut();
                if let Some(link) = link.filter(|link| link.session.connection == connection) {
                    link.in_flight += octets.len();
                }
                match todo.last_mut() {
                    Some(Output::Write { connection: last, octets: before }) if *last == connection => {
                        before.extend_from_slice(&octets);
                    }
                    _ => todo.push(Output::Write { connection, octets }),
                }
            }
            PeerOutput::Close(connection) => todo.push(Output::Close(connection)),
            PeerOutput::Up(session) => self.up(peer, session, todo),
            PeerOutput::Down { reason, graceful } => self.down(peer, reason, graceful.as_ref(), todo),
            PeerOutput::Failed { reason, first: true } => todo.push(Output::Event(Event::Failed { peer, reason })),
            PeerOutput::Fault { fault, first: true } => todo.push(Output::Event(Event::Fault { peer, fault })),
            PeerOutput::Failed { .. } | PeerOutput::Fault { .. } => {}
            PeerOutput::Update(update) => return self.update(peer, update, todo),
            PeerOutput::EndOfRib(family) => self.end_of_rib(peer, family, todo),
            PeerOutput::Refresh(family, kind) => self.refresh(peer, family, kind, todo),
        }
        None
    }

    fn up(&mut self, peer: PeerId, session: Session, todo: &mut Vec<Output>) {
        let (now, stale_time) = (self.now, self.settings.stale_time);
        let (neighbor, table) = self.parts(peer);
        table.identify(peer, session.router_id);
        let kept = |family| {
            let said = session.graceful.iter().flat_map(|graceful| &graceful.families);
            session.families.contains(family) && said.copied().any(|one| one == (family, true))
        };
        for family in Family::ALL {
            if neighbor.stale[family as usize].take().is_some() {
                match kept(family) {
                    true => neighbor.stale[family as usize] = Some(now + stale_time),
                    false => neighbor.sweep(family),
                }
            }
        }
        let defaults = neighbor.settings().default_originate;
        neighbor.link = Some(Link::new(session.clone(), table, defaults, now));
        todo.push(Output::Event(Event::Up { peer, session }));
        self.review_aggregates(todo);
        self.review_restart(todo);
    }

    fn down(&mut self, peer: PeerId, reason: DownReason, graceful: Option<&Graceful>, todo: &mut Vec<Output>) {
        let (now, stale_time) = (self.now, self.settings.stale_time);
        let (neighbor, table) = self.parts(peer);
        if let Some(link) = neighbor.link.take() {
            neighbor.graves.push(link.out.close(table));
        }
        while neighbor.graves.len() > GRAVES_MAX {
            table.let_go(&mut neighbor.graves.remove(0), usize::MAX);
        }
        let graceful = graceful.filter(|_| neighbor.settings().graceful_restart);
        for family in Family::ALL {
            table.age(peer, family);
            let keeps = |graceful: &&Graceful| graceful.families.iter().any(|(one, _)| *one == family);
            neighbor.stale[family as usize] =
                graceful.filter(keeps).map(|graceful| now + stale_time.min(super::seconds(graceful.time)));
            if neighbor.stale[family as usize].is_none() {
                neighbor.sweep(family);
            }
        }
        let kept = neighbor.stale.iter().any(Option::is_some);
        todo.push(Output::Event(Event::Down { peer, reason, kept }));
        self.review_aggregates(todo);
    }

    fn end_of_rib(&mut self, peer: PeerId, family: Family, todo: &mut Vec<Output>) {
        let neighbor = &mut self.neighbors[peer.0];
        let Some(link) = &mut neighbor.link else { return };
        link.awaited = link.awaited.iter().filter(|other| *other != family).collect();
        if neighbor.stale[family as usize].take().is_some() {
            neighbor.sweep(family);
        }
        self.review_restart(todo);
    }

    fn refresh(&mut self, peer: PeerId, family: Family, kind: RefreshKind, todo: &mut Vec<Output>) {
        let (now, stale_time) = (self.now, self.settings.stale_time);
        let (neighbor, table) = self.parts(peer);
        if neighbor.link.is_none() {
            return;
        }
        match kind {
            RefreshKind::Request => self.repeat(peer, [family].into_iter().collect(), todo),
            RefreshKind::Begin => {
                table.age(peer, family);
                neighbor.stale[family as usize] = Some(now + stale_time);
            }
            RefreshKind::End => {
                if neighbor.stale[family as usize].take().is_some() {
                    neighbor.sweep(family);
                }
            }
        }
    }

    /// Tells a neighbour everything once more, between marks if it speaks of them (RFC 7313 §4).
    pub(super) fn repeat(&mut self, peer: PeerId, families: Families, todo: &mut Vec<Output>) {
        let neighbor = &mut self.neighbors[peer.0];
        let defaults = neighbor.settings().default_originate;
        let Some(link) = &mut neighbor.link else { return };
        link.out.scan(families);
        let marks = if link.session.enhanced_refresh { families } else { Families::NONE };
        marks.iter().for_each(|family| link.end_of_refresh.insert(family));
        if defaults {
            families.and(link.session.families).iter().for_each(|family| link.defaults.insert(family));
        }
        for family in marks.iter() {
            self.drive(peer, PeerInput::SendRefresh(family, RefreshKind::Begin), todo);
        }
    }

    /// Takes routes in; says how the session must end if they are too many.
    fn update(&mut self, peer: PeerId, update: Update, todo: &mut Vec<Output>) -> Option<(Cease, Again)> {
        let (now, asn) = (self.now, self.settings.asn);
        let (neighbor, table) = self.parts(peer);
        neighbor.link.as_ref()?;
        let mut intake = Intake { now, peer, neighbor, table, todo };
        update.withdrawn.iter().for_each(|prefix| intake.withdraw(*prefix));
        let attributes = update.attributes?;
        let prefixes = update.announced.iter().flat_map(|(_, prefixes)| prefixes);
        if attributes.as_path.contains(asn) {
            prefixes.for_each(|prefix| intake.refuse(*prefix, RouteFault::AsLoop));
            return None;
        }
        let id = intake.table.attributes.hold(attributes);
        let mut too_many = None;
        for prefix in prefixes {
            too_many = intake.too_many(*prefix);
            match too_many {
                None if !intake.neighbor.settings().import.permits(prefix) => {
                    intake.refuse(*prefix, RouteFault::ImportDenied);
                }
                None => intake.announce(*prefix, id),
                Some(MaxPrefixes { action: MaxPrefixesAction::Warn, .. }) => {
                    too_many = None;
                    intake.refuse(*prefix, RouteFault::MaxPrefixes);
                }
                Some(_) => break,
            }
        }
        intake.table.attributes.release(id);
        let MaxPrefixes { action, .. } = too_many?;
        Some((
            Cease::MaxPrefixes,
            match action {
                MaxPrefixesAction::Restart(after) => Again::After(after),
                MaxPrefixesAction::Warn | MaxPrefixesAction::Idle => Again::Never,
            },
        ))
    }

    /// Which aggregates begin and which end.
    pub(super) fn review_aggregates(&mut self, todo: &mut Vec<Output>) {
        let neighbors = &self.neighbors;
        let turns = self.aggregates.review(|peer| neighbors[peer.0].present());
        for turn in turns {
            let attributes = aggregated(self.settings.asn, self.settings.router_id);
            let EidPrefix { instance, prefix } = turn.eid;
            let table = self.table(instance);
            table.summarize(prefix, turn.announced && turn.summary_only);
            if turn.announced {
                let id = table.attributes.hold(attributes);
                table.learn(RouteSource::Aggregate, prefix, id, false);
            } else {
                table.forget(RouteSource::Aggregate, &prefix);
            }
            if turn.summary_only {
                let of_instance = self.neighbors.iter_mut().filter(|one| one.settings().instance == instance);
                of_instance.filter_map(|one| one.link.as_mut()).for_each(|link| link.out.scan(Families::NONE));
            }
            let event = if turn.announced { Event::AggregateUp } else { Event::AggregateDown };
            todo.push(Output::Event(event(turn.eid)));
        }
    }

    /// Ends the silence after a restart of ours once all neighbours that know of restarts have said all they have
    /// (RFC 4724 §4.1), or the time for it is over.
    pub(super) fn review_restart(&mut self, todo: &mut Vec<Output>) {
        let Some(until) = self.deferred_until else { return };
        let complete = |neighbor: &Neighbor| match &neighbor.link {
            Some(link) => {
                let restarting = link.session.graceful.as_ref().is_some_and(|graceful| graceful.restarting);
                restarting || link.awaited.is_empty()
            }
            None => !neighbor.settings().graceful_restart,
        };
        if self.now < until && !self.neighbors.iter().all(complete) {
            return;
        }
        self.deferred_until = None;
        todo.push(Output::Event(Event::RestartOver));
        for peer in (0..self.neighbors.len()).map(PeerId) {
            self.drive(peer, PeerInput::Restarted, todo);
        }
    }
}

/// One neighbour's routes on their way into the table.
struct Intake<'a> {
    now: Instant,
    peer: PeerId,
    neighbor: &'a mut Neighbor,
    table: &'a mut Table,
    todo: &'a mut Vec<Output>,
}

impl Intake<'_> {
    fn announce(&mut self, prefix: Prefix, id: crate::alt::bgp::rib::AttributesId) {
        let source = RouteSource::Peer(self.peer);
        let dampened = self.neighbor.dampener.as_ref().is_some_and(|dampener| dampener.suppressed(&prefix));
        let id = self.table.attributes.hold_again(id);
        let changed = self.table.learn(source, prefix, id, dampened);
        if changed == Some(true) {
            self.flap(prefix, Flap::Change);
        }
    }

    fn withdraw(&mut self, prefix: Prefix) {
        if self.table.forget(RouteSource::Peer(self.peer), &prefix) {
            self.flap(prefix, Flap::Withdrawal);
        }
    }

    /// What is not taken also ends what was taken before (RFC 4271 §9.1.4: one route of a neighbour for a prefix).
    fn refuse(&mut self, prefix: Prefix, fault: RouteFault) {
        self.withdraw(prefix);
        self.count(prefix, fault);
    }

    fn flap(&mut self, prefix: Prefix, flap: Flap) {
        let Some(dampener) = &mut self.neighbor.dampener else { return };
        match dampener.flap(self.now, prefix, flap) {
            Ok(false) => {}
            Ok(true) => {
                self.table.dampen(RouteSource::Peer(self.peer), &prefix, true);
                self.count(prefix, RouteFault::Dampened);
            }
            Err(Full) => self.count(prefix, RouteFault::DampeningFull),
        }
    }

    /// Counts a fault, and says it once a session.
    fn count(&mut self, prefix: Prefix, fault: RouteFault) {
        self.neighbor.refused.count(fault);
        let instance = self.neighbor.settings().instance;
        let Some(said) = self.neighbor.link.as_mut().and_then(|link| link.said.get_mut(fault.index())) else { return };
        if !std::mem::replace(said, true) {
            let eid = EidPrefix { instance, prefix };
            self.todo.push(Output::Event(Event::Refused { peer: self.peer, eid, fault }));
        }
    }

    /// The bound that one more prefix would break; said once a session.
    fn too_many(&mut self, prefix: Prefix) -> Option<MaxPrefixes> {
        let bound = self.neighbor.settings().max_prefixes?;
        let full = self.table.held(self.peer) >= bound.limit as usize;
        if !full || self.table.holds(self.peer, &prefix) {
            return None;
        }
        if let Some(link) = self.neighbor.link.as_mut().filter(|link| !link.warned) {
            link.warned = true;
            self.todo.push(Output::Event(Event::MaxPrefixes { peer: self.peer, limit: bound.limit }));
        }
        Some(bound)
    }
}
