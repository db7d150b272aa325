//! A plan, standing: namespaces, cables, programs.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    asker::Asker,
    plan::{Bgp, Plan, Role},
};
use crate::lab::{
    BgpSettings, CORE_MTU, Daemon, LabError, Link, Namespace, Pings, Router, ping, remove_left_over, veth, work_folder,
};

const SITE_MTU: u16 = 1500;
const RLOC_LENGTHS: (u8, u8) = (24, 64);
const CABLE_LENGTH: u8 = 30;
/// Nobody's: what is sent there is lost without a word.
const NO_MAC: &str = "02:00:00:00:00:00";

/// How a cable is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both ends see the link go down.
    LinkDown,
    /// Packets are lost, and nothing says so.
    Silent,
}

/// The namespaces, cabled and addressed, and what runs in them. Everything goes on drop.
#[derive(Debug)]
pub struct Stand {
    /// What it was built from.
    pub plan: Plan,
    /// The running Altitudes, by router.
    pub routers: Vec<Option<Router>>,
    /// The running daemons, by router.
    pub daemons: Vec<Option<Box<dyn Daemon>>>,
    namespaces: Vec<Namespace>,
    /// One for each router with a site.
    hosts: Vec<Option<Namespace>>,
    core: Namespace,
    owner: String,
    folder: PathBuf,
    kept: bool,
}

impl Stand {
    /// Builds a plan beside whatever else this process has; nothing runs in it yet.
    ///
    /// # Errors
    /// What `ip` and its like said.
    pub fn new(plan: Plan) -> Result<Self, LabError> {
        /// Stands of one process live side by side.
        static STANDS: AtomicU32 = AtomicU32::new(0);
        let serial = STANDS.fetch_add(1, Ordering::Relaxed);
        Self::build(plan, &format!("alt{}-{serial}", std::process::id()))
    }

    /// Builds a plan in place of an older one of that name, to be found by its name.
    ///
    /// # Errors
    /// What `ip` and its like said.
    pub fn to_keep(plan: Plan) -> Result<Self, LabError> {
        let owner = kept_name(&plan);
        remove_left_over(&owner);
        Self::build(plan, &owner)
    }

    /// Removes what of this plan was left standing; returns the namespaces' names.
    #[must_use]
    pub fn remove_kept(plan: &Plan) -> Vec<String> {
        remove_left_over(&kept_name(plan))
    }

    fn build(plan: Plan, owner: &str) -> Result<Self, LabError> {
        let folder = work_folder(owner)?;
        let make = |name: &str| Namespace::create(owner, name);
        let stand = Self {
            namespaces: plan.routers.iter().map(|router| make(router.name)).collect::<Result<_, _>>()?,
            hosts: plan
                .routers
                .iter()
                .map(|router| router.site.as_ref().map(|site| make(site.name)).transpose())
                .collect::<Result<_, _>>()?,
            core: make("core")?,
            routers: plan.routers.iter().map(|_| None).collect(),
            daemons: plan.routers.iter().map(|_| None).collect(),
            plan,
            owner: owner.to_owned(),
            folder,
            kept: false,
        };
        stand.cable()?;
        Ok(stand)
    }

    /// Where logs, captures and sockets go.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its namespaces' names begin with.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The namespace of a router.
    #[must_use]
    pub fn namespace(&self, router: &str) -> &Namespace {
        &self.namespaces[self.plan.place(router)]
    }

    /// The running Altitude of a router.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn router(&self, router: &str) -> &Router {
        self.routers[self.plan.place(router)].as_ref().expect("a started router")
    }

    /// The running daemon of a router.
    ///
    /// # Panics
    /// If there is none.
    pub fn daemon(&mut self, router: &str) -> &mut dyn Daemon {
        let place = self.plan.place(router);
        self.daemons[place].as_mut().expect("a started daemon").as_mut()
    }

    fn cable(&self) -> Result<(), LabError> {
        self.core.ip("link add br0 type bridge stp_state 0 mcast_snooping 0 forward_delay 0")?;
        self.core.ip(&format!("link set br0 mtu {CORE_MTU} up"))?;
        for (plan, namespace) in self.plan.routers.iter().zip(&self.namespaces) {
            let outside = Link { namespace, name: "core" };
            veth(outside, Link { namespace: &self.core, name: plan.name }, CORE_MTU)?;
            self.core.ip(&format!("link set {} master br0", plan.name))?;
            outside.address(plan.rloc.0.into(), RLOC_LENGTHS.0)?;
            outside.address(plan.rloc.1.into(), RLOC_LENGTHS.1)?;
        }
        for (asker, plan) in self.plan.routers.iter().enumerate().filter(|(_, plan)| plan.role == Role::Asker) {
            let block = self.plan.askers_block(asker);
            self.namespaces[asker].ip(&format!("route add local {block}/16 dev lo"))?;
            for other in self.namespaces.iter().enumerate().filter(|(other, _)| *other != asker) {
                other.1.ip(&format!("route add {block}/16 via {}", plan.rloc.0))?;
            }
        }
        for (place, host) in self.hosts.iter().enumerate() {
            host.as_ref().map_or(Ok(()), |host| self.cable_site(place, host))?;
        }
        for (tunnel, plan) in self.plan.tunnels.iter().enumerate().filter(|(_, plan)| plan.cable) {
            let names = [1, 0].map(|other| format!("to-{}", self.plan.routers[plan.ends[other]].name));
            let end = |end: usize| Link { namespace: &self.namespaces[plan.ends[end]], name: &names[end] };
            veth(end(0), end(1), CORE_MTU)?;
            for index in [0, 1] {
                end(index).address(self.plan.outside(tunnel, index).into(), CABLE_LENGTH)?;
            }
        }
        Ok(())
    }

    fn cable_site(&self, place: usize, host: &Namespace) -> Result<(), LabError> {
        let Some(site) = &self.plan.routers[place].site else { return Ok(()) };
        let (outer, inner) =
            (Link { namespace: host, name: "eth0" }, Link { namespace: &self.namespaces[place], name: "site" });
        veth(outer, inner, SITE_MTU)?;
        let length = |prefix: &str| prefix.rsplit_once('/').and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
        let [length4, length6] = site.prefixes.each_ref().map(|prefix| length(prefix));
        for (link, (v4, v6)) in [(outer, site.host), (inner, site.gateway)] {
            link.address(v4.into(), length4)?;
            link.address(v6.into(), length6)?;
        }
        host.ip(&format!("route add default via {}", site.gateway.0))?;
        host.ip(&format!("-6 route add default via {}", site.gateway.1))?;
        Ok(())
    }

    /// Starts everything as planned.
    ///
    /// # Errors
    /// As of [`Router::start`] and [`Software::start`](crate::lab::Software::start).
    pub fn start(&mut self) -> Result<(), LabError> {
        let names: Vec<&'static str> = self.plan.routers.iter().map(|router| router.name).collect();
        for (place, name) in names.iter().enumerate() {
            if self.speaks(place).is_some() {
                self.launch_altitude(name, &self.plan.altitude_config(place))?;
            }
        }
        self.routers.iter_mut().flatten().try_for_each(Router::wait_ready)?;
        // A daemon asks for its neighbours' interfaces at once: the tunnels are there by now.
        for (place, name) in names.iter().enumerate() {
            if let Some(Bgp::Beside(_) | Bgp::Carried(_)) = self.speaks(place) {
                self.start_daemon(name, &self.plan.daemon_settings(place))?;
            }
        }
        Ok(())
    }

    fn speaks(&self, place: usize) -> Option<Bgp> {
        match self.plan.routers[place].role {
            Role::Alt { bgp, .. } => Some(bgp),
            Role::Asker => None,
        }
    }

    /// Starts a router's Altitude with this configuration and waits until it is ready.
    ///
    /// # Errors
    /// As of [`Router::start`].
    pub fn start_altitude(&mut self, name: &str, config: &str) -> Result<(), LabError> {
        self.launch_altitude(name, config)?.wait_ready()
    }

    fn launch_altitude(&mut self, name: &str, config: &str) -> Result<&mut Router, LabError> {
        let place = self.plan.place(name);
        let file = self.folder.join(format!("{name}.toml"));
        fs::write(&file, config).map_err(LabError::os(file.display().to_string()))?;
        let flags = ["--config".to_owned(), file.display().to_string()];
        let router = Router::launch(name, &self.namespaces[place], &flags, &self.folder)?;
        Ok(self.routers[place].insert(router))
    }

    /// Starts a router's daemon with these settings, in place of one that runs, and waits until it answers.
    ///
    /// # Errors
    /// As of [`Software::start`](crate::lab::Software::start).
    ///
    /// # Panics
    /// If the plan has none there.
    pub fn start_daemon(&mut self, name: &str, settings: &BgpSettings) -> Result<(), LabError> {
        let place = self.plan.place(name);
        let Some(Bgp::Beside(software) | Bgp::Carried(software)) = self.speaks(place) else {
            panic!("{name} has no daemon");
        };
        // An older one would hold the sockets.
        self.daemons[place] = None;
        let daemon = software.start(&format!("{name}-bgp"), &self.namespaces[place], settings, &self.folder)?;
        self.daemons[place] = Some(daemon);
        Ok(())
    }

    /// Opens the asker of this name.
    ///
    /// # Errors
    /// As of [`Asker::open`].
    ///
    /// # Panics
    /// If it has no tunnel.
    pub fn asker(&self, name: &str) -> Result<Asker, LabError> {
        let place = self.plan.place(name);
        let (tunnel, end) = self.plan.tunnels_of(place).next().expect("an asker's tunnel");
        Asker::open(
            &self.namespaces[place],
            self.plan.routers[place].rloc,
            self.plan.askers_block(place),
            self.plan.outside(tunnel, 1 - end),
        )
    }

    /// Cuts the cable between two routers.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn cut(&self, one: &str, other: &str, how: Cut) -> Result<(), LabError> {
        match how {
            Cut::LinkDown => self.namespace(one).ip(&format!("link set to-{other} down")).map(drop),
            Cut::Silent => self.neighbours(one, other, &format!("lladdr {NO_MAC} nud permanent")),
        }
    }

    /// Mends what [`cut`](Self::cut) did, either way.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn mend(&self, one: &str, other: &str) -> Result<(), LabError> {
        self.namespace(one).ip(&format!("link set to-{other} up"))?;
        // Stale: it is asked for again.
        self.neighbours(one, other, &format!("lladdr {NO_MAC} nud failed"))
    }

    /// Says at both ends of a cable what the neighbour entry of the far end is to be.
    fn neighbours(&self, one: &str, other: &str, entry: &str) -> Result<(), LabError> {
        let tunnel = self.plan.tunnel_between(one, other);
        for (here, there) in [(one, other), (other, one)] {
            let far = self.plan.tunnels[tunnel].end_at(self.plan.place(there)).unwrap_or_default();
            let address = self.plan.outside(tunnel, far);
            self.namespace(here).ip(&format!("neighbour replace {address} dev to-{there} {entry}"))?;
        }
        Ok(())
    }

    /// Pings a host of `to`'s site from a host of `from`'s, both families; `count` requests each.
    ///
    /// # Errors
    /// [`LabError::Os`].
    ///
    /// # Panics
    /// If either has no site.
    pub fn ping(&self, from: &str, to: &str, count: u16) -> Result<Pings, LabError> {
        let host = self.hosts[self.plan.place(from)].as_ref().expect("a site");
        let site = self.plan.routers[self.plan.place(to)].site.as_ref().expect("a site");
        let targets: [IpAddr; 2] = [site.host.0.into(), site.host.1.into()];
        let mut all = Pings { sent: 0, answered: 0 };
        for target in targets {
            let pings = ping(host, target, count)?;
            all = Pings { sent: all.sent + pings.sent, answered: all.answered + pings.answered };
        }
        Ok(all)
    }

    /// Leaves everything standing.
    pub fn keep(&mut self) {
        self.kept = true;
        let hosts = self.hosts.iter_mut().flatten();
        self.namespaces.iter_mut().chain(hosts).chain([&mut self.core]).for_each(Namespace::keep);
        self.routers.iter_mut().flatten().for_each(|router| router.process.keep());
        self.daemons.iter_mut().flatten().for_each(|daemon| daemon.keep());
    }
}

fn kept_name(plan: &Plan) -> String {
    format!("altlab{}", plan.name)
}

impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("logs of the failed lab: {}", self.folder.display());
        } else if !self.kept {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
