//! Whether the kernel's own packets can leave towards a destination: what tunnels need to know.

use std::net::IpAddr;

use super::{HopKey, Route, Underlay};

impl Route {
    /// Where it leads, if anywhere.
    pub(super) const fn hop(self) -> Option<HopKey> {
        match self {
            Self::Via { hop, .. } => Some(hop),
            Self::Unknown | Self::Unreachable => None,
        }
    }
}

impl Underlay {
    /// Whether the kernel has a route to a watched destination out of a link that can carry packets, be it a port of ours or
    /// not. True as long as it has not answered.
    #[must_use]
    pub fn reaches(&self, destination: IpAddr) -> bool {
        match self.watched.get(&destination).map(|watched| watched.route) {
            None | Some(Route::Unknown) => true,
            Some(Route::Unreachable) => false,
            Some(Route::Via { hop: (index, _), .. }) => self.links.get(&index).is_none_or(|link| link.up),
        }
    }
}

impl Underlay {
    /// Whether this is an address of ours on a link that can carry packets, be it a port or not.
    #[must_use]
    pub fn is_up(&self, address: IpAddr) -> bool {
        let here = self.addresses.range((address, 0)..=(address, u32::MAX));
        here.map(|((_, index), _)| index).any(|index| self.links.get(index).is_some_and(|link| link.up))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::underlay::{Input, Output, RouteHop};

    /// A tunnel over a link that is no port: its going down is told at once, and routes are asked for again.
    #[test]
    fn a_link_that_is_no_port_counts_too() {
        let far: IpAddr = "240.0.254.20".parse().unwrap();
        let (mut underlay, start) = (Underlay::new(vec![]), Instant::now());
        let link = |up| Input::Link { index: 3, name: "eth9".to_owned(), mac: None, mtu: 1500, up };
        let via = Some(RouteHop { index: 3, gateway: None, source: None });
        let route = |hop| Input::Route { destination: far, hop };
        for (line, (ms, input, asked, reaches)) in [
            (0, link(true), false, true),
            (0, Input::Watch(far), true, true), // not answered yet
            (1, route(via), false, true),
            (1_000, link(false), true, false),
            (1_001, route(None), false, false),
            (2_000, link(true), true, false),
            (2_001, route(via), false, true),
        ]
        .into_iter()
        .enumerate()
        {
            let mut todo = Vec::new();
            underlay.step(start + Duration::from_millis(ms), input, &mut todo);
            assert_eq!(todo.contains(&Output::AskRoute(far)), asked, "line {line}: {todo:?}");
            assert_eq!(underlay.reaches(far), reaches, "line {line}");
        }
    }

    #[test]
    fn an_address_is_up_while_one_of_its_links_is() {
        let rloc: IpAddr = "240.0.254.10".parse().unwrap();
        let (mut underlay, now) = (Underlay::new(vec![]), Instant::now());
        let link = |index, up| Input::Link { index, name: format!("eth{index}"), mac: None, mtu: 1500, up };
        let address = |index| Input::Address { index, address: rloc, length: 24 };
        for (line, (input, up)) in [
            (link(3, true), false),
            (address(3), true),
            (link(3, false), false),
            (address(4), false), // of a link that is not known yet
            (link(4, true), true),
            (Input::AddressGone { index: 4, address: rloc }, false),
            (link(3, true), true),
        ]
        .into_iter()
        .enumerate()
        {
            underlay.step(now, input, &mut Vec::new());
            assert_eq!(underlay.is_up(rloc), up, "line {line}");
        }
    }
}
