//! What the path to each locator carries, learned from what routers say of our outer packets (RFC 9300 §7.2).
//!
//! An ICMP error is believed if it quotes a packet that we could have sent: from an RLOC of ours to a locator in use, to the
//! LISP data port, from a port that flows have, longer than what it is said to be too long for. That is no proof, so what is
//! learned has a floor, never raises anything, and is forgotten after a while: then a packet tries the whole link again (RFC
//! 1191 §6.3, RFC 8201 §5.3).

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
/// Octets that an outer header over IPv4 adds.
const HEADERS_V4: u16 = 36;
/// Less than this no IPv4 path that hosts rely on carries (RFC 1122 §3.3.3), and no IPv6 one at all (RFC 8200 §5), octets.
const FLOOR_V4: u16 = 576 + HEADERS_V4;
const FLOOR_V6: u16 = 1280;
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
    /// An error came. Of its destination `in_use` says whether it is a locator that packets are sent to.
    TooBig {
        /// What it says.
        told: TooBig,
        /// Whether the quoted destination is a locator in use.
        in_use: bool,
    },
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
        /// Less than every path carries.
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
            Input::TooBig { told, in_use } => match self.learn(now, &told, in_use) {
                Ok(()) => todo.push(Output::Changed(told.destination)),
                Err(fault) => todo.push(Output::Discard(fault)),
            },
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

    fn learn(&mut self, now: Instant, told: &TooBig, in_use: bool) -> Result<(), PathMtuFault> {
        let &TooBig { mtu, source, destination, ports, length } = told;
        let own = self.settings.rlocs.contains(&source) && in_use;
        if !own || ports.1 != LISP_DATA || ports.0 < FLOW_PORTS {
            return Err(PathMtuFault::Foreign);
        }
        let mtu = match mtu {
            0 if destination.is_ipv4() => {
                PLATEAUS.into_iter().find(|plateau| *plateau < length).ok_or(PathMtuFault::BelowFloor)?
            }
            mtu => u16::try_from(mtu).unwrap_or(u16::MAX),
        };
        if mtu >= length {
            return Err(PathMtuFault::Fits);
        }
        if mtu < if destination.is_ipv4() { FLOOR_V4 } else { FLOOR_V6 } {
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
}

#[cfg(test)]
mod tests;
