//! The routes of one destination: a list whose first is the selected one.

use super::{
    AttributesId, NONE, Origin, Route, RouteSource, Table,
    decision::{self, Candidate},
    family,
    interned::LOCAL_PREF,
    trie::Key,
};

/// What others see of a selection.
pub(super) type Selection = Option<(Origin, AttributesId)>;

impl Table {
    /// The selected route of a destination.
    pub(super) fn choice(&self, number: u32) -> Selection {
        let destination = &self.destinations[number];
        let route = destination.selected.then(|| &self.routes[destination.first])?;
        Some((route.origin, route.attributes))
    }

    /// The route of `origin`, and the one before it in the list.
    pub(super) fn find(&self, number: u32, origin: Origin) -> Option<(Option<u32>, u32)> {
        let (mut before, mut at) = (None, self.destinations[number].first);
        while at != NONE {
            let route = &self.routes[at];
            if route.origin == origin {
                return Some((before, at));
            }
            (before, at) = (Some(at), route.next);
        }
        None
    }

    /// Puts a route at the end of the list, so that one that is not selected stays out of the way.
    pub(super) fn append(&mut self, number: u32, route: Route) {
        if let RouteSource::Peer(peer) = route.origin.source() {
            self.neighbors[peer.0].held += 1;
        }
        let at = self.routes.insert(route);
        let first = self.destinations[number].first;
        self.counts.1 += 1;
        if first == NONE {
            self.destinations[number].first = at;
            self.counts.0 += 1;
            return;
        }
        let mut last = first;
        while self.routes[last].next != NONE {
            last = self.routes[last].next;
        }
        self.routes[last].next = at;
    }

    /// Takes the route at `at` out of the list and lets go of what only it kept.
    pub(super) fn take_out(&mut self, number: u32, before: Option<u32>, at: u32) {
        let choice = self.choice(number);
        let Some(route) = self.routes.remove(at) else { return };
        self.unlink(number, before, route.next);
        self.counts.1 -= 1;
        if let RouteSource::Peer(peer) = route.origin.source() {
            self.neighbors[peer.0].held -= 1;
        }
        self.counts.0 -= usize::from(self.destinations[number].first == NONE);
        self.select(number);
        self.note(number, choice);
        self.attributes.release(route.attributes);
        self.drop_if_unused(number);
    }

    fn unlink(&mut self, number: u32, before: Option<u32>, next: u32) {
        match before {
            Some(before) => self.routes[before].next = next,
            None => self.destinations[number].first = next,
        }
    }

    /// Forgets a destination without routes that no neighbour was told of and that is not remembered.
    pub(super) fn drop_if_unused(&mut self, number: u32) {
        let destination = &self.destinations[number];
        if destination.first == NONE && destination.told == 0 && !destination.remembered {
            let prefix = destination.prefix;
            self.tries[family(&prefix)].remove(Key::from(&prefix));
            self.destinations.remove(number);
        }
    }

    /// Brings the best usable route to the front.
    pub(super) fn select(&mut self, number: u32) {
        let first = self.destinations[number].first;
        if first == NONE || self.routes[first].next == NONE {
            self.destinations[number].selected = first != NONE && !self.routes[first].dampened;
            return;
        }
        let mut usable = Vec::new();
        let (mut before, mut at) = (None, first);
        while at != NONE {
            let route = &self.routes[at];
            if !route.dampened {
                usable.push((before, at));
            }
            (before, at) = (Some(at), route.next);
        }
        let candidates: Vec<Candidate> = usable.iter().map(|(_, at)| self.candidate(&self.routes[*at])).collect();
        let best = decision::best(&candidates).map(|place| usable[place]);
        self.destinations[number].selected = best.is_some();
        if let Some((Some(before), at)) = best {
            let next = std::mem::replace(&mut self.routes[at].next, first);
            self.routes[before].next = next;
            self.destinations[number].first = at;
        }
    }

    fn candidate(&self, route: &Route) -> Candidate {
        let set = self.attributes.get(route.attributes);
        let (rank, neighbor) = match route.origin.source() {
            RouteSource::Local => (0, None),
            RouteSource::Aggregate => (1, None),
            RouteSource::Peer(peer) => (2, Some(&self.neighbors[peer.0])),
        };
        let external = neighbor.is_some_and(|neighbor| neighbor.external);
        let local_pref = set.attributes.local_pref.filter(|_| !external);
        Candidate {
            rank,
            local_pref: local_pref.unwrap_or(LOCAL_PREF),
            path_length: set.path_length,
            origin: set.attributes.origin,
            neighbor_as: set.neighbor_as,
            med: set.attributes.med.unwrap_or(0),
            external,
            router_id: neighbor.map_or(std::net::Ipv4Addr::UNSPECIFIED, |neighbor| neighbor.router_id),
            address: neighbor.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |neighbor| neighbor.address),
        }
    }

    /// Notes the destination in the log if its selection is not `before` any more.
    pub(super) fn note(&mut self, number: u32, before: Selection) {
        let choice = self.choice(number);
        if choice == before {
            return;
        }
        self.changed = true;
        if let (Some((origin, _)), None) = (before, choice)
            && matches!(origin.source(), RouteSource::Peer(_))
        {
            self.gone.push(self.destinations[number].prefix);
        }
        let place = number as usize;
        if place >= self.ways.len() {
            self.ways.resize(place + 1, Origin::NOBODY);
        }
        self.ways[place] = match choice {
            Some((origin, _)) => origin,
            None => self.left_behind(number),
        };
        if self.readers > 0 {
            let destination = &mut self.destinations[number];
            destination.noted = Some(self.log.note(number, destination.noted));
        }
    }
}
