//! The demo's network, with the slides' numbers.
//!
//! ```text
//! site1 ──────────────── xtr1 ───────────── core ───────────── xtr2 ──────────────── site2
//! 1.1.1.1                1.1.0.1            bridge             2.2.0.1               2.2.2.2
//! 2001:db8:1:1::1        2001:db8:1::1        │                2001:db8:2::1         2001:db8:2:2::2
//!                        240.0.254.10         │                240.0.254.20
//!                        2001:db8:f::10      alt               2001:db8:f::20
//!                                            240.0.254.30, 2001:db8:f::30
//! ```
//! Interfaces are called `site` and `core` in the xTRs, `eth0` in the sites, `core` in the ALT router, and after the
//! router at the other end in the core.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{LabError, Link, Namespace, remove_left_over, veth, work_folder};

/// MTU of the core, octets: a 1500-octet site packet fits with any outer header.
pub const CORE_MTU: u16 = 1600;
const SITE_MTU: u16 = 1500;
const RLOC4_LENGTH: u8 = 24;
const RLOC6_LENGTH: u8 = 64;

/// Addresses of one site and its xTR.
#[derive(Debug)]
pub struct Site {
    /// The host.
    pub host: (Ipv4Addr, Ipv6Addr),
    /// The xTR's addresses inside the site: the host's default router.
    pub gateway: (Ipv4Addr, Ipv6Addr),
    /// Lengths of the EID-prefixes, which are also the site's subnets.
    pub length: (u8, u8),
    /// The xTR's addresses in the core.
    pub rloc: (Ipv4Addr, Ipv6Addr),
}

impl Site {
    /// Its EID-prefixes, as the command line takes them.
    #[must_use]
    pub fn eid_prefixes(&self) -> [String; 2] {
        let (v4, v6) = (self.host.0.to_bits() & u32::MAX << (32 - self.length.0), self.host.1.to_bits());
        let v6 = v6 & u128::MAX << (128 - self.length.1);
        [
            format!("{}/{}", Ipv4Addr::from_bits(v4), self.length.0),
            format!("{}/{}", Ipv6Addr::from_bits(v6), self.length.1),
        ]
    }
}

const fn v6(subnet: u16, middle: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, subnet, middle, 0, 0, 0, host)
}

/// The two sites of the slides, with an IPv6 prefix each.
pub const SITES: [Site; 2] = [
    Site {
        host: (Ipv4Addr::new(1, 1, 1, 1), v6(1, 1, 1)),
        gateway: (Ipv4Addr::new(1, 1, 0, 1), v6(1, 0, 1)),
        length: (16, 48),
        rloc: (Ipv4Addr::new(240, 0, 254, 10), v6(0xf, 0, 0x10)),
    },
    Site {
        host: (Ipv4Addr::new(2, 2, 2, 2), v6(2, 2, 2)),
        gateway: (Ipv4Addr::new(2, 2, 0, 1), v6(2, 0, 1)),
        length: (16, 48),
        rloc: (Ipv4Addr::new(240, 0, 254, 20), v6(0xf, 0, 0x20)),
    },
];

/// The ALT router's addresses in the core.
pub(super) const ALT_RLOC: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(240, 0, 254, 30), v6(0xf, 0, 0x30));

/// Labs of one process share its name, so there is one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The namespaces, cabled and addressed, and a folder for logs and captures. No router runs yet.
#[derive(Debug)]
pub struct Lab {
    /// The sites' hosts.
    pub sites: [Namespace; 2],
    /// The sites' tunnel routers.
    pub xtrs: [Namespace; 2],
    /// The bridge between the routers.
    pub core: Namespace,
    /// The ALT router.
    pub alt: Namespace,
    folder: PathBuf,
    kept: bool,
    _one: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes the lab of this process; waits while another thread's stands.
    ///
    /// # Errors
    /// What `ip` and its like said.
    pub fn new() -> Result<Self, LabError> {
        Self::owned_by(&format!("alt{}", std::process::id()))
    }

    /// Makes a lab whose namespaces are called `<owner>-<role>`, in place of an older one of that name.
    ///
    /// # Errors
    /// What `ip` and its like said.
    pub fn owned_by(owner: &str) -> Result<Self, LabError> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        remove_left_over(owner);
        let folder = work_folder(owner)?;
        let make = |role| Namespace::create(owner, role);
        let lab = Self {
            sites: [make("site1")?, make("site2")?],
            xtrs: [make("xtr1")?, make("xtr2")?],
            core: make("core")?,
            alt: make("alt")?,
            folder,
            kept: false,
            _one: one,
        };
        lab.cable()?;
        Ok(lab)
    }

    /// Where logs, captures and API sockets go.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The core's end of xTR `index`'s link: all that this router sends and receives passes there.
    #[must_use]
    pub fn core_link(&self, index: usize) -> Link<'_> {
        Link { namespace: &self.core, name: ["xtr1", "xtr2"][index] }
    }

    /// The host's end of the site's link.
    #[must_use]
    pub fn site_link(&self, index: usize) -> Link<'_> {
        Link { namespace: &self.sites[index], name: "eth0" }
    }

    /// Leaves namespaces and folder standing.
    pub fn keep(&mut self) {
        self.kept = true;
        self.sites.iter_mut().chain(&mut self.xtrs).chain([&mut self.core, &mut self.alt]).for_each(Namespace::keep);
    }

    fn cable(&self) -> Result<(), LabError> {
        self.core.ip("link add br0 type bridge stp_state 0 mcast_snooping 0 forward_delay 0")?;
        self.core.ip(&format!("link set br0 mtu {CORE_MTU} up"))?;
        for (index, site) in SITES.iter().enumerate() {
            let host = self.site_link(index);
            let inside = Link { namespace: &self.xtrs[index], name: "site" };
            veth(host, inside, SITE_MTU)?;
            addresses(host, (site.host.0.into(), site.length.0), (site.host.1.into(), site.length.1))?;
            addresses(inside, (site.gateway.0.into(), site.length.0), (site.gateway.1.into(), site.length.1))?;
            host.namespace.ip(&format!("route add default via {}", site.gateway.0))?;
            host.namespace.ip(&format!("-6 route add default via {}", site.gateway.1))?;

            self.join_core(Link { namespace: &self.xtrs[index], name: "core" }, self.core_link(index), site.rloc)?;
        }
        let inside = Link { namespace: &self.core, name: "alt" };
        self.join_core(Link { namespace: &self.alt, name: "core" }, inside, ALT_RLOC)
    }

    fn join_core(&self, router: Link, port: Link, rloc: (Ipv4Addr, Ipv6Addr)) -> Result<(), LabError> {
        veth(router, port, CORE_MTU)?;
        self.core.ip(&format!("link set {} master br0", port.name))?;
        addresses(router, (rloc.0.into(), RLOC4_LENGTH), (rloc.1.into(), RLOC6_LENGTH))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What was captured is the only witness of a failure that does not come again.
            println!("logs and captures of the failed lab: {}", self.folder.display());
        } else if !self.kept {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn addresses(link: Link, v4: (IpAddr, u8), v6: (IpAddr, u8)) -> Result<(), LabError> {
    link.address(v4.0, v4.1)?;
    link.address(v6.0, v6.1)
}

#[cfg(test)]
mod tests {
    use super::SITES;

    #[test]
    fn eid_prefixes_are_those_of_the_slides() {
        assert_eq!(SITES[0].eid_prefixes(), ["1.1.0.0/16", "2001:db8:1::/48"]);
        assert_eq!(SITES[1].eid_prefixes(), ["2.2.0.0/16", "2001:db8:2::/48"]);
    }
}
