//! Adj-RIB-Out of one neighbour: what it was told, and what it has yet to be told (RFC 4271 §3.2, §9.1.3).
//!
//! It reads the table's log from where it stands; a new session, a refresh and a change of the aggregates go through all destinations
//! first. Either way a destination is compared, as it is now, with what the neighbour was told of it.

use altitude_dataplane::mapping::Prefix;

use super::{AttributesId, Position, RouteSource, Table, interned::Scope};
use crate::alt::bgp::{
    route::{Family, PeerId},
    settings::{Families, PrefixList},
};

/// What each destination's number was announced with.
pub(crate) type Told = Vec<Option<AttributesId>>;

/// What a neighbour is told of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Export<'a> {
    pub(crate) peer: PeerId,
    /// It is of another AS.
    pub(crate) external: bool,
    pub(crate) families: Families,
    pub(crate) list: &'a PrefixList,
    /// It is told of a default route of our own in any case.
    pub(crate) default_originate: bool,
}

/// A portion of what a neighbour has yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) withdrawn: Vec<Prefix>,
    /// In any order.
    pub(crate) announced: Vec<(AttributesId, Prefix)>,
    /// Destinations looked at.
    pub(crate) visited: usize,
}

#[derive(Debug)]
struct Scan {
    next: u32,
    /// To be told once more even if nothing changed.
    again: Families,
}

/// What one neighbour was told.
#[derive(Debug)]
pub(crate) struct AdjOut {
    told: Told,
    count: usize,
    position: Position,
    scan: Option<Scan>,
}

impl AdjOut {
    /// For a neighbour that knows nothing yet.
    pub(crate) fn new(table: &mut Table) -> Self {
        table.readers += 1;
        let scan = Some(Scan { next: 0, again: Families::NONE });
        Self { told: Vec::new(), count: 0, position: table.log.join(), scan }
    }

    /// Prefixes it was told of.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Compares everything once more; of the families `again`, what has not changed is told too.
    pub(crate) fn scan(&mut self, again: Families) {
        let mut all = again;
        self.scan.iter().flat_map(|scan| scan.again.iter()).for_each(|family| all.insert(family));
        self.scan = Some(Scan { next: 0, again: all });
    }

    /// Whether all destinations have been gone through that were there when the last scan began.
    pub(crate) const fn scanned(&self) -> bool {
        self.scan.is_none()
    }

    /// Where in the log it stands.
    pub(crate) const fn position(&self) -> Position {
        self.position
    }

    /// Whether there is something to compare before `end` in the log.
    pub(crate) fn behind(&self, table: &Table, end: Position) -> bool {
        self.scan.is_some() || self.position < end.min(table.log.end())
    }

    /// Compares up to `max` destinations, those of the log up to `end`, and puts what is to be told into `batch`.
    pub(crate) fn compare(
        &mut self,
        table: &mut Table,
        export: &Export<'_>,
        end: Position,
        max: usize,
        batch: &mut Batch,
    ) {
        if table.log.missed(self.position) {
            self.position = table.log.join();
            self.scan(Families::NONE);
        }
        while batch.visited < max {
            let (number, again) = match &mut self.scan {
                Some(scan) if scan.next < table.destinations.places() => {
                    scan.next += 1;
                    (scan.next - 1, scan.again)
                }
                Some(_) => {
                    self.scan = None;
                    continue;
                }
                None if self.position < end => match table.log.get(self.position) {
                    Some(number) => {
                        self.position += 1;
                        (number, Families::NONE)
                    }
                    None => return,
                },
                None => return,
            };
            batch.visited += 1;
            self.visit(table, export, number, again, batch);
        }
    }

    fn visit(&mut self, table: &mut Table, export: &Export<'_>, number: u32, again: Families, batch: &mut Batch) {
        let Some(destination) = table.destinations.get(number) else { return };
        let prefix = destination.prefix;
        let wanted = table.wanted(number, export);
        let place = number as usize;
        let told = self.told.get(place).copied().flatten();
        if wanted != told {
            if place >= self.told.len() {
                self.told.resize(table.destinations.places() as usize, None);
            }
            self.told[place] = wanted;
        } else if wanted.is_none() || !again.contains(Family::of(&prefix)) {
            return;
        }
        match wanted {
            Some(id) => {
                batch.announced.push((id, prefix));
                if wanted != told {
                    table.attributes.hold_again(id);
                }
            }
            None => batch.withdrawn.push(prefix),
        }
        let difference = isize::from(wanted.is_some()) - isize::from(told.is_some());
        self.count = self.count.saturating_add_signed(difference);
        if difference > 0 {
            table.destinations[number].told += 1;
        }
        if let Some(told) = told.filter(|_| wanted != told) {
            table.attributes.release(told);
        }
        if difference < 0 {
            table.untell(number);
        }
    }

    /// The session is gone; what it was told is to be given to [`Table::let_go`].
    pub(crate) fn close(self, table: &mut Table) -> Told {
        table.readers -= 1;
        self.told
    }
}

impl Table {
    /// Where the log ends now.
    pub(crate) fn end(&self) -> Position {
        self.log.end()
    }

    /// Forgets the log before `position`, which all neighbours with a session have reached.
    pub(crate) fn forget_log(&mut self, position: Position) {
        let places = self.destinations.places() as usize;
        self.log.forget(position, places);
    }

    /// Lets go of up to `max` of what a neighbour was told that is no longer there.
    pub(crate) fn let_go(&mut self, told: &mut Told, max: usize) -> usize {
        let start = told.len().saturating_sub(max);
        let visited = told.len() - start;
        for place in (start..told.len()).rev() {
            if let Some(id) = told.pop().flatten() {
                self.attributes.release(id);
                self.untell(place as u32);
            }
        }
        visited
    }

    fn untell(&mut self, number: u32) {
        self.destinations[number].told -= 1;
        self.drop_if_unused(number);
    }

    /// What a neighbour is to be told of a destination.
    fn wanted(&self, number: u32, export: &Export<'_>) -> Option<AttributesId> {
        let (origin, attributes) = self.choice(number)?;
        let source = origin.source();
        let prefix = &self.destinations[number].prefix;
        let to_itself = source == RouteSource::Peer(export.peer);
        // Within an AS each neighbour tells what it learned outside to all the others itself (RFC 4271 §9.2).
        let within = matches!(source, RouteSource::Peer(peer) if !self.neighbors[peer.0].external && !export.external);
        let is_default = export.default_originate && prefix.length() == 0;
        if to_itself || within || is_default || !export.families.contains(Family::of(prefix)) {
            return None;
        }
        let leaves = match self.attributes.get(attributes).scope {
            Scope::Any => true,
            Scope::Internal => !export.external,
            Scope::Here => false,
        };
        let beneath = |summary: &Prefix| summary.length() < prefix.length() && summary.covers(prefix);
        let tell = leaves && !self.summaries.iter().any(beneath) && export.list.permits(prefix);
        tell.then_some(attributes)
    }
}
