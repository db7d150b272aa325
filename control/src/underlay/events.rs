//! What goes into the underlay machine, what comes out, and what it can be asked.

use std::{fmt, net::IpAddr};

use altitude_dataplane::mapping::{MacAddress, PortIndex};

#[cfg(doc)]
use super::Underlay;

/// What the kernel or the driver tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A link appeared or changed.
    Link {
        /// Interface index.
        index: u32,
        /// Interface name.
        name: String,
        /// Own link-layer address; `None` where the link has none of 48 bits (loopback may, TUN does not).
        mac: Option<MacAddress>,
        /// Largest IP packet, octets.
        mtu: u16,
        /// Administratively up and with carrier.
        up: bool,
    },
    /// The link with this index is gone, and with it its addresses and neighbours.
    LinkGone(u32),
    /// An address of ours appeared.
    Address {
        /// Interface index.
        index: u32,
        /// The address.
        address: IpAddr,
        /// Prefix length.
        length: u8,
    },
    /// An address of ours is gone.
    AddressGone {
        /// Interface index.
        index: u32,
        /// The address.
        address: IpAddr,
    },
    /// A neighbour changed.
    Neighbour {
        /// Interface index.
        index: u32,
        /// Its address.
        address: IpAddr,
        /// Its link-layer address while the kernel would use it; `None` when failed, incomplete or deleted.
        mac: Option<MacAddress>,
        /// Set by an administrator: valid for good, and asking for it would undo that.
        permanent: bool,
    },
    /// Answer to [`Output::AskRoute`].
    Route {
        /// The destination asked for.
        destination: IpAddr,
        /// Where it leads; `None` if unreachable, prohibited or blackholed.
        hop: Option<RouteHop>,
    },
    /// Some route or rule changed: all answers may be old.
    RoutesChanged,
    /// Everything is told anew from here to [`Input::SyncEnd`], because notifications may have been lost.
    SyncBegin,
    /// What was not told since [`Input::SyncBegin`] no longer exists.
    SyncEnd,
    /// From now on, keep an adjacency for this destination.
    Watch(IpAddr),
    /// This destination is no longer of interest.
    Unwatch(IpAddr),
    /// Time passed; see [`Underlay::due`].
    Wake,
}

/// The kernel's answer to a route question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteHop {
    /// Egress interface.
    pub index: u32,
    /// Next hop; `None` if the destination is on the link itself. Its family may differ from the destination's.
    pub gateway: Option<IpAddr>,
    /// Source address the kernel would choose.
    pub source: Option<IpAddr>,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask the kernel for the route to this destination; the answer comes as [`Input::Route`].
    AskRoute(IpAddr),
    /// Make the kernel resolve or confirm this neighbour.
    Resolve {
        /// Interface index.
        index: u32,
        /// The neighbour.
        address: IpAddr,
    },
    /// The answer of [`Underlay::adjacency`] for this watched destination changed, or it became clear that there will be
    /// none, or it is being looked for again.
    Changed(IpAddr),
    /// The answer of [`Underlay::own_addresses`] changed.
    AddressesChanged,
    /// [`Input::Watch`] was refused: [`Limits::watched`] destinations are watched already. Count it.
    Refused(IpAddr),
}

/// Bounds on what the machine remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Destinations watched at a time.
    pub watched: usize,
    /// Neighbours remembered; further ones are ignored and counted. The kernel has its own bound (`gc_thresh3`).
    pub neighbours: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { watched: 65_536, neighbours: 131_072 }
    }
}

/// How far the way to a destination is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Nobody asked for it.
    NotWatched,
    /// It is an address of this machine.
    Own,
    /// The kernel has not yet answered the route question.
    WaitingForRoute,
    /// The kernel has no route, or one that forbids.
    NoRoute,
    /// The route leads through an interface that is not one of our ports.
    NotOnPort,
    /// The egress port is down or has no carrier.
    LinkDown,
    /// The next hop has not answered ARP or ND.
    WaitingForNeighbour,
    /// Frames can be sent.
    Ready,
}

impl Progress {
    /// Whether an answer is on its way; otherwise this is the answer.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::NotWatched | Self::WaitingForRoute | Self::WaitingForNeighbour)
    }

    /// The text an operator reads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotWatched => "not watched",
            Self::Own => "address of this machine",
            Self::WaitingForRoute => "waiting for the route",
            Self::NoRoute => "no route",
            Self::NotOnPort => "next hop not on one of our ports",
            Self::LinkDown => "egress port down",
            Self::WaitingForNeighbour => "waiting for ARP or ND of the next hop",
            Self::Ready => "ready",
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of our ports, as long as its interface exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortLink {
    /// Which port.
    pub port: PortIndex,
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// Own link-layer address.
    pub mac: Option<MacAddress>,
    /// Largest IP packet, octets.
    pub mtu: u16,
    /// Up and with carrier.
    pub up: bool,
    /// Own addresses with prefix lengths, in order.
    pub addresses: Vec<(IpAddr, u8)>,
}
