//! Explicit locator paths (RFC 8060 §4.6): routers that re-encapsulate on the way to an ETR.
//!
//! In a locator-set a path is a run of [`Locator`]s with the same priority, weight and flags, one for each stop, the ETR last:
//! so a locator stays a small value, and what a set is shared, compared and stored by knows of paths without being told.
//!
//! The addresses of an AFI-List (RFC 8060 §4.10.5) are such a run, too, in their order. Who forwards packets has the one it
//! can use put in its place ([`settle`]); a Map-Server hands the list on.

use std::{net::IpAddr, num::NonZeroU8};

use super::Locator;

/// What a path says of one stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop(NonZeroU8);

impl Hop {
    // As on the wire, and two of our own.
    const STRICT: u8 = 1;
    const PROBED: u8 = 2;
    const LOOKED_UP: u8 = 4;
    const LAST: u8 = 8;
    const ALTERNATIVE: u8 = 16;
    const PRESENT: NonZeroU8 = NonZeroU8::new(0x80).expect("not zero");

    /// From the three bits on the wire, L, P and S; the stop is not the last.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(Self::PRESENT).with(bits & (Self::STRICT | Self::PROBED | Self::LOOKED_UP))
    }

    /// No stop, but one address of an AFI-List; not the last.
    #[must_use]
    pub const fn alternative() -> Self {
        Self(Self::PRESENT).with(Self::ALTERNATIVE)
    }

    /// Whether it is one address of an AFI-List.
    #[must_use]
    pub const fn is_alternative(self) -> bool {
        self.0.get() & Self::ALTERNATIVE != 0
    }

    const fn with(self, bits: u8) -> Self {
        match NonZeroU8::new(self.0.get() | bits) {
            Some(all) => Self(all),
            None => self,
        }
    }

    /// The same, at the end of its path.
    #[must_use]
    pub const fn last(self) -> Self {
        self.with(Self::LAST)
    }

    /// The three bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0.get() & (Self::STRICT | Self::PROBED | Self::LOOKED_UP)
    }

    /// S bit: it may not be passed by.
    #[must_use]
    pub const fn is_strict(self) -> bool {
        self.0.get() & Self::STRICT != 0
    }

    /// L bit: the address is no RLOC, but to be looked up itself.
    #[must_use]
    pub const fn is_looked_up(self) -> bool {
        self.0.get() & Self::LOOKED_UP != 0
    }

    /// The path ends here.
    #[must_use]
    pub const fn is_last(self) -> bool {
        self.0.get() & Self::LAST != 0
    }
}

impl Locator {
    /// Whether it is where packets go in the end: an ETR's, not a stop before it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.hop.is_none_or(Hop::is_last)
    }

    /// Whether packets may be sent to it without a stop before it: an ETR's, be it by one address of several.
    #[must_use]
    pub fn is_etr(&self) -> bool {
        self.is_end() || self.hop.is_some_and(Hop::is_alternative)
    }

    /// This locator, reached by a path over `stops`.
    #[must_use]
    pub fn over(self, stops: &[(IpAddr, Hop)], end: Hop) -> Vec<Self> {
        let mut path: Vec<Self> =
            stops.iter().map(|&(address, hop)| Self { address, hop: Some(hop), ..self }).collect();
        path.push(Self { hop: Some(end.last()), ..self });
        path
    }
}

/// The locators of a set one by one: a path is several elements, all others are one.
pub fn routes(locators: &[Locator]) -> impl Iterator<Item = &[Locator]> + Clone {
    locators.split_inclusive(Locator::is_end)
}

/// Replaces the addresses of each AFI-List by the first that `usable` is true of, or the first of all where there is none.
pub fn settle(locators: &mut Vec<Locator>, usable: impl Fn(IpAddr) -> bool) {
    let listed = |locator: &Locator| locator.hop.is_some_and(Hop::is_alternative);
    if !locators.iter().any(listed) {
        return;
    }
    let mut settled = Vec::with_capacity(locators.len());
    for route in routes(locators) {
        match route.first() {
            Some(first) if listed(first) => {
                let chosen = route.iter().find(|locator| usable(locator.address)).unwrap_or(first);
                settled.push(Locator { hop: None, ..*chosen });
            }
            _ => settled.extend(route),
        }
    }
    *locators = settled;
}

/// Puts a locator-set into its order on the wire, a path by where it ends ([`Locator::wire_order`]).
pub fn sort_locators(locators: &mut Vec<Locator>) {
    if locators.iter().all(|locator| locator.hop.is_none()) {
        return locators.sort_by(Locator::wire_order);
    }
    let mut all: Vec<Vec<Locator>> = routes(locators).map(<[Locator]>::to_vec).collect();
    all.sort_by(|one, other| match (one.last(), other.last()) {
        (Some(one), Some(other)) => one.wire_order(other),
        _ => std::cmp::Ordering::Equal,
    });
    *locators = all.concat();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_together() {
        let locator = |text: &str| Locator::unicast(text.parse().unwrap(), 1, 50);
        let stop = |text: &str, bits| (text.parse().unwrap(), Hop::from_bits(bits));
        let path = locator("240.0.0.5").over(&[stop("240.0.0.9", 1), stop("240.0.0.1", 6)], Hop::from_bits(0));
        let mut all = [vec![locator("240.0.0.7")], path.clone(), vec![locator("240.0.0.3")]].concat();
        sort_locators(&mut all);
        assert_eq!(all, [vec![locator("240.0.0.3")], path.clone(), vec![locator("240.0.0.7")]].concat());
        assert_eq!(routes(&all).map(<[Locator]>::len).collect::<Vec<_>>(), [1, 3, 1]);
        let hops: Vec<Hop> = path.iter().filter_map(|locator| locator.hop).collect();
        assert_eq!(
            hops.iter().map(|hop| (hop.bits(), hop.is_last())).collect::<Vec<_>>(),
            [(1, false), (6, false), (0, true)]
        );
        assert!(hops[0].is_strict() && !hops[1].is_strict() && hops[1].is_looked_up());
        assert_eq!(size_of::<Option<Hop>>(), 1);
    }

    /// LOC-10: of each list the first usable address is taken, whatever stands around it; without one the locator stays, and is
    /// nothing that could be used.
    #[test]
    fn of_a_list_the_first_usable_address_stays() {
        let locator = |text: &str| Locator::unicast(text.parse().unwrap(), 1, 50);
        let list = |addresses: &[&str]| {
            let (last, front) = addresses.split_last().unwrap();
            let front: Vec<_> = front.iter().map(|text| (text.parse().unwrap(), Hop::alternative())).collect();
            locator(last).over(&front, Hop::alternative())
        };
        let path = locator("240.0.0.9").over(&[("240.0.0.8".parse().unwrap(), Hop::from_bits(1))], Hop::from_bits(0));
        let first = list(&["2001:db8::1", "240.0.0.1", "240.0.0.2"]);
        let all = [vec![locator("240.0.0.3")], first, path.clone(), list(&["240.0.0.4", "2001:db8::4"])].concat();
        assert!(all.iter().all(|locator| locator.is_etr() != (locator.address == path[0].address)));
        for (v4, v6, left) in [
            (true, false, ["240.0.0.1", "240.0.0.4"]),
            (false, true, ["2001:db8::1", "2001:db8::4"]),
            (true, true, ["2001:db8::1", "240.0.0.4"]),
            (false, false, ["2001:db8::1", "240.0.0.4"]),
        ] {
            let mut settled = all.clone();
            settle(&mut settled, |address| if address.is_ipv4() { v4 } else { v6 });
            let expected =
                [vec![locator("240.0.0.3"), locator(left[0])], path.clone(), vec![locator(left[1])]].concat();
            assert_eq!(settled, expected);
        }
    }
}
