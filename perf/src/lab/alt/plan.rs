//! What a lab of the ALT consists of, and the numbers that follow from it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::lab::Software;

/// A whole lab.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As `altitude-perf lab NAME` takes it: lower-case letters.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The routers.
    pub routers: Vec<RouterPlan>,
    /// The tunnels between them.
    pub tunnels: Vec<TunnelPlan>,
}

/// One router: a namespace with an interface `core`.
#[derive(Debug, Clone)]
pub struct RouterPlan {
    /// At most 12 letters and digits: interfaces of its neighbours are called after it.
    pub name: &'static str,
    /// Its addresses in the core.
    pub rloc: (Ipv4Addr, Ipv6Addr),
    /// What runs there.
    pub role: Role,
    /// Makes it an xTR.
    pub site: Option<SitePlan>,
    /// What it announces in place of what lies in it.
    pub aggregates: Vec<AggregatePlan>,
}

/// A prefix that is announced in place of those in it.
#[derive(Debug, Clone)]
pub struct AggregatePlan {
    /// Which.
    pub prefix: &'static str,
    /// Names of the neighbours that announce what is in it (rule ALT-8).
    pub components: Vec<&'static str>,
}

/// What runs in a router's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Altitude, an ALT router of this AS.
    Alt {
        /// Its AS.
        asn: u32,
        /// Who speaks BGP.
        bgp: Bgp,
    },
    /// Nothing: the lab itself asks from there ([`Asker`](super::Asker)).
    Asker,
}

/// Who speaks BGP on an ALT router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bgp {
    /// Altitude itself.
    Embedded,
    /// A daemon over Altitude's tunnels, which leaves its routes to Altitude in a kernel table.
    Beside(Software),
    /// A daemon over Altitude's tunnels; its routes are nobody's.
    Carried(Software),
}

/// A site behind an xTR: one host.
#[derive(Debug, Clone)]
pub struct SitePlan {
    /// Name of the host's namespace.
    pub name: &'static str,
    /// The host's addresses, EIDs.
    pub host: (Ipv4Addr, Ipv6Addr),
    /// The xTR's addresses inside the site.
    pub gateway: (Ipv4Addr, Ipv6Addr),
    /// The EID-prefixes, which are also the site's subnets.
    pub prefixes: [String; 2],
}

/// A tunnel between two routers, by their places in the plan.
#[derive(Debug, Clone, Copy)]
pub struct TunnelPlan {
    /// Between whom.
    pub ends: [usize; 2],
    /// Over a cable of its own rather than over the core.
    pub cable: bool,
}

impl TunnelPlan {
    /// The end, 0 or 1, that is at this router.
    #[must_use]
    pub fn end_at(&self, router: usize) -> Option<usize> {
        self.ends.iter().position(|end| *end == router)
    }
}

/// Length of a tunnel's IPv4 subnet, and of its IPv6 subnet.
pub(super) const TUNNEL_LENGTHS: (u8, u8) = (30, 64);

impl Plan {
    /// The router of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn place(&self, name: &str) -> usize {
        let place = self.routers.iter().position(|router| router.name == name);
        place.unwrap_or_else(|| panic!("{} has no router {name}", self.name))
    }

    /// The tunnel between two routers.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn tunnel_between(&self, one: &str, other: &str) -> usize {
        let ends = [self.place(one), self.place(other)];
        let joins = |tunnel: &TunnelPlan| ends.iter().all(|end| tunnel.ends.contains(end));
        let place = self.tunnels.iter().position(joins);
        place.unwrap_or_else(|| panic!("{} has no tunnel between {one} and {other}", self.name))
    }

    /// The tunnels of a router, each with the end that is here.
    pub(super) fn tunnels_of(&self, router: usize) -> impl Iterator<Item = (usize, usize)> {
        let tunnels = self.tunnels.iter().enumerate();
        tunnels.filter_map(move |(index, tunnel)| Some((index, tunnel.end_at(router)?)))
    }

    /// The far end of a tunnel: its router.
    pub(super) fn far(&self, tunnel: usize, end: usize) -> &RouterPlan {
        &self.routers[self.tunnels[tunnel].ends[1 - end]]
    }

    /// The address inside a tunnel at this end, of both families.
    #[must_use]
    pub fn inside(&self, tunnel: usize, end: usize) -> (Ipv4Addr, Ipv6Addr) {
        let (net, host) = (tunnel as u8 + 1, end as u8 + 1);
        (Ipv4Addr::new(10, 42, net, host), Ipv6Addr::new(0xfd00, 0x42, net.into(), 0, 0, 0, 0, host.into()))
    }

    /// The outer address of a tunnel at this end.
    #[must_use]
    pub fn outside(&self, tunnel: usize, end: usize) -> Ipv4Addr {
        if self.tunnels[tunnel].cable {
            return Ipv4Addr::new(240, 1, tunnel as u8 + 1, end as u8 + 1);
        }
        self.routers[self.tunnels[tunnel].ends[end]].rloc.0
    }

    /// The /16 whose every address is an asker's RLOC: a site answers each RLOC a few times only (RFC 9301 §5.4).
    #[must_use]
    pub fn askers_block(&self, router: usize) -> Ipv4Addr {
        Ipv4Addr::new(240, 100 + router as u8, 0, 0)
    }

    /// Whether all that it needs is installed; what to do if not.
    ///
    /// # Errors
    /// A line for the user.
    pub fn available(&self) -> Result<(), String> {
        crate::lab::available()?;
        self.routers.iter().try_for_each(|router| match router.role {
            Role::Alt { bgp: Bgp::Beside(software) | Bgp::Carried(software), .. } => software.installed(),
            _ => Ok(()),
        })
    }
}
