//! From the plan to what the programs read: Altitude's TOML, and the settings of a BGP daemon.

use std::{fmt::Write, net::Ipv4Addr};

use super::plan::{AggregatePlan, Bgp, Plan, Role, TUNNEL_LENGTHS};
use crate::lab::{BgpNeighbour, BgpSettings};

/// Kernel table for what daemons learn of EIDs.
pub(super) const TABLE: u32 = 4342;
/// Hold time of all sessions, seconds: the smallest there is.
const HOLD: u16 = 3;

impl Plan {
    /// Altitude's configuration of a router. Neighbours come last, so that lines added to it speak of the last of them.
    #[must_use]
    pub fn altitude_config(&self, router: usize) -> String {
        let plan = &self.routers[router];
        let Role::Alt { asn, bgp } = plan.role else { return String::new() };
        let mut text = format!("rlocs = [\"{}\", \"{}\"]\n", plan.rloc.0, plan.rloc.1);
        if let Some(site) = &plan.site {
            // One worker per router, spread over the cores there are.
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let _ = writeln!(text, "workers = \"{}\"", router % cores);
            text.push_str("\n[[site-port]]\nname = \"site\"\n\n[[core-port]]\nname = \"core\"\n");
            for prefix in &site.prefixes {
                let _ = write!(text, "\n[[eid-prefix]]\nprefix = \"{prefix}\"\n");
                // Sites of these labs talk over IPv4; the IPv6 RLOC is there to be asked and answered.
                let _ = writeln!(text, "locators = [{{ address = \"{}\" }}]", plan.rloc.0);
            }
        }
        match bgp {
            Bgp::Embedded => drop(write!(text, "\n[alt]\nas = {asn}\nrouter-id = \"{}\"\n", router_id(router))),
            Bgp::Beside(_) => drop(write!(text, "\n[alt]\nrib = \"netlink:table={TABLE}\"\n")),
            Bgp::Carried(_) => {}
        }
        for (tunnel, end) in self.tunnels_of(router) {
            text.push_str(&self.tunnel_lines(tunnel, end));
        }
        if bgp == Bgp::Embedded {
            for AggregatePlan { prefix, components } in &plan.aggregates {
                let names = components.iter().map(|name| self.address_of(router, name));
                let names: Vec<String> = names.map(|address| format!("\"{address}\"")).collect();
                let _ = write!(text, "\n[[alt.aggregate]]\nprefix = \"{prefix}\"\nsummary-only = true\n");
                let _ = writeln!(text, "components = [{}]", names.join(", "));
            }
            for (tunnel, end) in self.speaking(router) {
                let (remote, asn) = (self.inside(tunnel, 1 - end).0, self.asn_beyond(tunnel, end));
                let _ = write!(text, "\n[[alt.neighbor]]\naddress = \"{remote}\"\nas = {asn}\nhold = {HOLD}\n");
                text.push_str("connect-retry = 1\n");
            }
        }
        text
    }

    fn tunnel_lines(&self, tunnel: usize, end: usize) -> String {
        let ((v4, v6), (length4, length6)) = (self.inside(tunnel, end), TUNNEL_LENGTHS);
        let (local, remote) = (self.outside(tunnel, end), self.outside(tunnel, 1 - end));
        let mut text = format!("\n[[alt.tunnel]]\nname = \"{}\"\n", self.far(tunnel, end).name);
        let _ = write!(text, "local = \"{local}\"\nremote = \"{remote}\"\n");
        let _ = writeln!(text, "addresses = [\"{v4}/{length4}\", \"{v6}/{length6}\"]");
        text
    }

    /// The address of a router's neighbour of this name.
    fn address_of(&self, router: usize, name: &str) -> Ipv4Addr {
        let tunnel = self.tunnel_between(self.routers[router].name, name);
        self.inside(tunnel, self.tunnels[tunnel].end_at(self.place(name)).unwrap_or_default()).0
    }

    /// The tunnels of a router to which there is a BGP speaker at the far end.
    pub(super) fn speaking(&self, router: usize) -> impl Iterator<Item = (usize, usize)> {
        self.tunnels_of(router).filter(|&(tunnel, end)| matches!(self.far(tunnel, end).role, Role::Alt { .. }))
    }

    fn asn_beyond(&self, tunnel: usize, end: usize) -> u32 {
        match self.far(tunnel, end).role {
            Role::Alt { asn, .. } => asn,
            Role::Asker => 0,
        }
    }

    /// What the daemon of a router is told.
    #[must_use]
    pub fn daemon_settings(&self, router: usize) -> BgpSettings {
        let Role::Alt { asn, bgp } = self.routers[router].role else {
            panic!("{} has no BGP daemon", self.routers[router].name);
        };
        let neighbour = |(tunnel, end): (usize, usize)| {
            let remote = self.inside(tunnel, 1 - end).0.into();
            BgpNeighbour {
                hold: HOLD,
                ..BgpNeighbour::new(self.inside(tunnel, end), remote, self.asn_beyond(tunnel, end))
            }
        };
        let site = self.routers[router].site.iter().flat_map(|site| &site.prefixes);
        BgpSettings {
            asn,
            router_id: router_id(router),
            neighbours: self.speaking(router).map(neighbour).collect(),
            originate: site.cloned().collect(),
            table: matches!(bgp, Bgp::Beside(_)).then_some(TABLE),
        }
    }
}

fn router_id(router: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, router as u8 + 1)
}
