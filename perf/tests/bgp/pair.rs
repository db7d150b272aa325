//! Altitude and a daemon, joined by a tunnel.

use std::{net::IpAddr, time::Duration};

use altitude_perf::lab::{
    BgpSettings, Daemon, LabError, Software,
    alt::{self, Neighbour, Stand},
    wait_until,
};

pub(crate) const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 1, 1));
pub(crate) const THEIRS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 1, 2));
pub(crate) const OUR_AS: u32 = 64_801;
/// Far more than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Tells a story, or says that the daemon is not here.
pub(crate) fn told_with(software: Software, story: fn(Pair)) {
    let plan = alt::pair(software);
    match plan.available() {
        Ok(()) => story(Pair { stand: Stand::new(plan).unwrap(), software }),
        Err(why) => println!("SKIP: {why}"),
    }
}

/// The two of them.
pub(crate) struct Pair {
    pub(crate) stand: Stand,
    pub(crate) software: Software,
}

/// What Altitude is told beyond the plan.
#[derive(Default)]
pub(crate) struct Ours<'a> {
    /// Lines about the neighbour.
    pub(crate) neighbour: &'a str,
    /// Prefixes to announce.
    pub(crate) originate: &'a [&'a str],
}

impl Pair {
    /// Starts the Altitude that carries the daemon's tunnel: nothing of BGP.
    pub(crate) fn start_carrier(&mut self) {
        let theirs = self.stand.plan.place("theirs");
        self.stand.start_altitude("theirs", &self.stand.plan.altitude_config(theirs)).unwrap();
    }

    pub(crate) fn start_ours(&mut self, ours: &Ours) {
        let mut config = self.stand.plan.altitude_config(self.stand.plan.place("ours"));
        config.push_str(ours.neighbour);
        for prefix in ours.originate {
            config.push_str(&format!("\n[[alt.route]]\nprefix = \"{prefix}\"\nvia = \"discard\"\nannounce = true\n"));
        }
        self.stand.start_altitude("ours", &config).unwrap();
    }

    pub(crate) fn start_theirs(&mut self, change: impl FnOnce(&mut BgpSettings)) {
        let mut settings = self.stand.plan.daemon_settings(self.stand.plan.place("theirs"));
        change(&mut settings);
        self.stand.start_daemon("theirs", &settings).unwrap();
    }

    /// Everything, with the session established at both sides.
    pub(crate) fn start(&mut self, ours: &Ours, change: impl FnOnce(&mut BgpSettings)) {
        self.start_carrier();
        self.start_ours(ours);
        self.start_theirs(change);
        self.wait_established();
    }

    pub(crate) fn theirs(&mut self) -> &mut dyn Daemon {
        self.stand.daemon("theirs")
    }

    /// Their session as we see it.
    pub(crate) fn neighbour(&self) -> Neighbour {
        self.stand.router("ours").neighbour(THEIRS).unwrap()
    }

    /// How many sessions there were with the daemon.
    pub(crate) fn sessions(&self) -> u64 {
        self.neighbour().count("sessions").unwrap()
    }

    /// Waits until our log has a line with both words: why a session ended, or did not come to be.
    pub(crate) fn wait_we_say(&mut self, one: &str, other: &str) {
        self.wait(&format!("line of ours with {one} and {other}"), |pair| {
            let log = pair.stand.router("ours").process.output();
            log.lines().any(|line| line.contains(one) && line.contains(other))
        });
    }

    pub(crate) fn wait_established(&mut self) {
        self.wait("session at our side", |pair| pair.neighbour().established());
        self.wait("session at their side", |pair| pair.theirs().session(OURS).unwrap().established);
    }

    /// Waits until `condition` holds; a failure shows what both sides say of the session.
    pub(crate) fn wait(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let waited = wait_until(what, LIMIT, || Ok(condition(self).then_some(())));
        if let Err(error) = waited {
            let theirs = self.stand.daemon("theirs");
            let (session, log) = (theirs.session(OURS), theirs.log());
            let ours = self.stand.router("ours").neighbour(THEIRS);
            panic!("{}: {error}\nours: {ours:?}\ntheirs: {session:?}\n{log}", self.software);
        }
    }

    /// Whether our EID routes have this very prefix.
    pub(crate) fn we_know(&self, prefix: &str) -> bool {
        let wanted = prefix.parse().unwrap();
        self.stand.eid_routes("ours").unwrap().iter().any(|route| route.eid == wanted)
    }

    /// Waits until our EID routes have this prefix, through the tunnel, or no longer have it.
    pub(crate) fn wait_we_know(&mut self, prefix: &str, known: bool) {
        self.wait(&format!("{prefix} at our side: {known}"), |pair| pair.we_know(prefix) == known);
    }

    /// Waits until the daemon has a route to this prefix, or none.
    pub(crate) fn wait_they_know(&mut self, prefix: &str, known: bool) {
        self.wait(&format!("{prefix} at their side: {known}"), |pair| {
            pair.theirs().route(prefix).unwrap().is_some() == known
        });
    }

    /// A counter of TCP in a router's namespace, as the kernel names it.
    pub(crate) fn tcp_count(&self, router: &str, name: &str) -> Result<u64, LabError> {
        let text = altitude_perf::lab::run(self.stand.namespace(router).command("cat").arg("/proc/net/netstat"))?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Ok(0) };
        let pairs = names.split_whitespace().zip(values.split_whitespace());
        Ok(pairs.filter(|(word, _)| *word == name).filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
    }

    /// How many TCP connections with port 179 at either end a router has in this state, as the kernel writes it.
    pub(crate) fn connections(&self, router: &str, state: &str) -> usize {
        let text = altitude_perf::lab::run(self.stand.namespace(router).command("cat").arg("/proc/net/tcp")).unwrap();
        let of_bgp = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[1..3].iter().any(|end| end.ends_with(":00B3")) && words[3] == state
        };
        text.lines().filter(of_bgp).count()
    }
}
