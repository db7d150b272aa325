//! Whether the kernel's own packets can leave towards a destination: what tunnels need to know.

use std::net::IpAddr;

use altitude_dataplane::mapping::PortIndex;

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
    /// Whether packets to `rloc`, an address of ours, can come: it is ours yet, and the link that has it, or any port that is
    /// `core` where none of them has it (a loopback's address), can carry packets.
    #[must_use]
    pub fn offers(&self, rloc: IpAddr, core: impl Fn(PortIndex) -> bool) -> bool {
        let on: Vec<u32> = self.addresses.range((rloc, 0)..=(rloc, u32::MAX)).map(|((_, index), _)| *index).collect();
        let ports: Vec<_> = self
            .links
            .iter()
            .filter_map(|(index, link)| {
                let port = *self.ports.get(&link.name)?;
                core(port).then_some((*index, link.up))
            })
            .collect();
        let own = |up: &(u32, bool)| on.contains(&up.0);
        let any = |found: &mut dyn Iterator<Item = &(u32, bool)>| {
            found.fold(None, |any, (_, up)| Some(any == Some(true) || *up))
        };
        let up = any(&mut ports.iter().filter(|port| own(port))).or_else(|| any(&mut ports.iter()));
        !on.is_empty() && up.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::underlay::{Input, Output, RouteHop};

    /// What goes into the R bits of our own locators: one on the link of its own, one on a loopback.
    #[test]
    fn an_rloc_is_offered_while_packets_to_it_can_come() {
        let (first, second, loopback) = ("240.1.0.10", "240.2.0.10", "240.9.0.10");
        let ports = vec![(0, "core".to_owned()), (1, "core2".to_owned()), (2, "site".to_owned())];
        let (mut underlay, now) = (Underlay::new(ports), Instant::now());
        let link =
            |index, name: &str, up| Input::Link { index, name: name.to_owned(), mac: Some([2; 6]), mtu: 1500, up };
        let address = |index, address: &str| Input::Address { index, address: address.parse().unwrap(), length: 24 };
        let links = [link(1, "lo", true), link(3, "core", true), link(4, "core2", true), link(5, "site", true)];
        let addresses = [address(3, first), address(4, second), address(1, loopback)];
        for input in links.into_iter().chain(addresses) {
            underlay.step(now, input, &mut Vec::new());
        }
        let gone = Input::AddressGone { index: 4, address: second.parse().unwrap() };
        for (input, expected) in [
            (Input::Wake, [true, true, true]),
            (link(3, "core", false), [false, true, true]),
            (link(4, "core2", false), [false, false, false]), // the site's link is none for it
            (link(3, "core", true), [true, false, true]),
            (link(4, "core2", true), [true, true, true]),
            (gone, [true, false, true]),
        ] {
            underlay.step(now, input.clone(), &mut Vec::new());
            let offers = |rloc: &str| underlay.offers(rloc.parse().unwrap(), |port| port < 2);
            assert_eq!([first, second, loopback].map(offers), expected, "{input:?}");
        }
    }

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
}
