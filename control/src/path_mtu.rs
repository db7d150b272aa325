//! What the path to each locator carries, learned from what routers say of our outer packets (RFC 9300 §7.2).
//!
//! An ICMP error is believed if it quotes a packet that we could have sent: from an RLOC of ours to a locator in use, to the
//! LISP data port, from a port that flows have, longer than what it is said to be too long for, and no longer than its
//! own link carries. That is no proof, so what is learned has a floor, never raises anything, and is forgotten after a while: then
//! a packet tries the whole link again (RFC 1191 §6.3, RFC 8201 §5.3).
//!
//! The floor leaves room for what every inner packet may have. With IPv6 inside that is 1280 octets: its hosts send no less
//! whatever they are told, so a lower one would let whoever forges an error stop them.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::wire::udp::LISP_DATA;

use crate::fault::faults;

/// How long what is learned counts (RFC 1191 §6.3, RFC 8201 §5.3).
pub const LIFE: Duration = Duration::from_secs(600);
/// Locators whose path is narrower than its link.
const LOCATORS_MAX: usize = 16_384;
/// Octets that an outer header adds, over IPv4 and over IPv6.
const HEADERS: [u16; 2] = [36, 56];
/// Less than this no IPv4 path that hosts rely on carries (RFC 1122 §3.3.3), and no IPv6 one at all (RFC 8200 §5), octets.
const LEAST: [u16; 2] = [576, 1280];
/// MTUs that are met with, octets: what routers mean that say none (RFC 1191 §7.1).
const PLATEAUS: [u16; 8] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 636];
/// The first source port of flows (RFC 9300 §12).
const FLOW_PORTS: u16 = 0xc000;

/// What an ICMP error says that a packet of ours is too big.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBig {
    /// What the next link carries, octets; 0: its router does not say.
    pub mtu: u32,
    /// The packet: its source and destination,
    pub source: IpAddr,
    /// and
    pub destination: IpAddr,
    /// its UDP ports,
    pub ports: (u16, u16),
    /// and its length, octets.
    pub length: u16,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// An error came.
    TooBig {
        /// What it says.
        told: TooBig,
        /// What the link carries that packets to the quoted destination leave by, octets; `None`: none are sent there.
        link: Option<u16>,
    },
    /// Whether IPv6 packets may be inside from now on. What is too narrow for them is forgotten.
    CarriesV6(bool),
    /// Time passed; see [`PathMtu::due`].
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The answer of [`PathMtu::mtu`] for this locator is another one.
    Changed(IpAddr),
    /// Count this.
    Discard(PathMtuFault),
}

faults! {
    /// Why an ICMP error about a packet of ours that is too big had no effect.
    PathMtuFault {
        /// It quotes a packet that is not of ours, or to nobody we send to.
        Foreign = "path-mtu-foreign",
        /// The packet it quotes would have fitted.
        Fits = "path-mtu-fits",
        /// Less than every path carries, or than every packet inside needs.
        BelowFloor = "path-mtu-below-floor",
        /// As narrow as is known, or wider.
        NoNews = "path-mtu-no-news",
        /// As many locators are remembered as may be.
        Full = "path-mtu-table-full",
    }
}

/// Settings of the machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs.
    pub rlocs: Vec<IpAddr>,
    /// Whether IPv6 packets may be inside.
    pub carries_v6: bool,
}

/// The machine.
#[derive(Debug)]
pub struct PathMtu {
    settings: Settings,
    learned: BTreeMap<IpAddr, (u16, Instant)>,
    ends: BTreeSet<(Instant, IpAddr)>,
}

impl PathMtu {
    /// A machine that has learned nothing.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings, learned: BTreeMap::new(), ends: BTreeSet::new() }
    }

    /// The longest outer packet that the path to a locator carries, octets, if that is known to be less than its link does.
    #[must_use]
    pub fn mtu(&self, locator: IpAddr) -> Option<u16> {
        self.learned.get(&locator).map(|(mtu, _)| *mtu)
    }

    /// Locators of which something is known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.learned.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.learned.is_empty()
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        match input {
            Input::TooBig { told, link } => match self.learn(now, &told, link) {
                Ok(()) => todo.push(Output::Changed(told.destination)),
                Err(fault) => todo.push(Output::Discard(fault)),
            },
            Input::CarriesV6(carries_v6) => self.carry(carries_v6, todo),
            Input::Wake => {
                while let Some(&(at, locator)) = self.ends.first()
                    && at <= now
                {
                    self.ends.remove(&(at, locator));
                    self.learned.remove(&locator);
                    todo.push(Output::Changed(locator));
                }
            }
        }
    }

    fn learn(&mut self, now: Instant, told: &TooBig, link: Option<u16>) -> Result<(), PathMtuFault> {
        let &TooBig { mtu, source, destination, ports, length } = told;
        let fits_link = link.is_some_and(|link| length <= link);
        if !fits_link || !self.settings.rlocs.contains(&source) || ports.1 != LISP_DATA || ports.0 < FLOW_PORTS {
            return Err(PathMtuFault::Foreign);
        }
        let mtu = match mtu {
            0 if destination.is_ipv4() => {
                let guess = PLATEAUS.into_iter().find(|plateau| *plateau < length).ok_or(PathMtuFault::BelowFloor)?;
                guess.max(self.floor(destination))
            }
            mtu => u16::try_from(mtu).unwrap_or(u16::MAX),
        };
        if mtu >= length {
            return Err(PathMtuFault::Fits);
        }
        if mtu < self.floor(destination) {
            return Err(PathMtuFault::BelowFloor);
        }
        match self.learned.get(&destination) {
            Some((known, _)) if *known <= mtu => return Err(PathMtuFault::NoNews),
            Some((_, until)) => drop(self.ends.remove(&(*until, destination))),
            None if self.learned.len() >= LOCATORS_MAX => return Err(PathMtuFault::Full),
            None => {}
        }
        self.learned.insert(destination, (mtu, now + LIFE));
        self.ends.insert((now + LIFE, destination));
        Ok(())
    }

    /// The least that is believed of a path, octets.
    const fn floor(&self, locator: IpAddr) -> u16 {
        match (locator, self.settings.carries_v6) {
            (IpAddr::V4(_), false) => LEAST[0] + HEADERS[0],
            (IpAddr::V4(_), true) => LEAST[1] + HEADERS[0],
            (IpAddr::V6(_), false) => LEAST[1],
            (IpAddr::V6(_), true) => LEAST[1] + HEADERS[1],
        }
    }

    fn carry(&mut self, carries_v6: bool, todo: &mut Vec<Output>) {
        self.settings.carries_v6 = carries_v6;
        let all = self.learned.iter().map(|(locator, (mtu, until))| (*locator, *mtu, *until));
        let narrow: Vec<_> = all.filter(|(locator, mtu, _)| *mtu < self.floor(*locator)).collect();
        for (locator, _, until) in narrow {
            self.learned.remove(&locator);
            self.ends.remove(&(until, locator));
            todo.push(Output::Changed(locator));
        }
    }
}

#[cfg(test)]
mod tests;
