//! The command line: what it takes, and the help that teaches it.

mod eid;
mod examples;
mod lig;

use std::path::PathBuf;

use altitude_control::config::{
    API_PATH, AltDraft, Bind, Draft, EidPrefixDraft, Given, Hold, LogFormat, LogLevel, MapServerDraft, NeighborDraft,
    PortDraft, ProbingDraft, RibDraft, RouteDraft, Settings, SourceCheck, TunnelDraft, XdpMode, flags,
};
use altitude_dataplane::mapping::EidPrefix;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

pub(crate) use self::lig::{EidOrSelf, Lig};
use self::{
    eid::eid_prefix,
    examples::{LIG_EXAMPLES, RUN_ABOUT, RUN_EXAMPLES, SHOW_EXAMPLES},
};

/// A LISP tunnel router (xTR) in user space, on AF_XDP, with LISP+ALT.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120, after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward packets and speak the control protocols until SIGTERM or SIGINT.
    #[command(long_about = RUN_ABOUT, after_long_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Say what is wrong in a configuration file, and where; change nothing.
    ///
    /// Each mistake is one line `FILE:LINE: what is wrong; what to do`, all of them at once, and the exit code is 1.
    /// Cores are checked against this machine.
    Check {
        /// The TOML file that `altitude run --config` would read.
        file: PathBuf,
    },
    /// Ask a running router what it knows and counts.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Ask the mapping system for an EID, as an ITR would, and print what it answers (RFC 6835).
    #[command(after_long_help = LIG_EXAMPLES)]
    Lig(Lig),
}

/// `altitude show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What to show.
    #[arg(value_enum)]
    pub(crate) what: What,

    /// Of bgp: the routes instead of the neighbours.
    #[arg(value_enum)]
    pub(crate) part: Option<Part>,

    /// Of the BGP routes: only those to exactly this prefix, `[5]10.0.0.0/8` in instance 5.
    #[arg(requires = "part", value_parser = eid_prefix)]
    pub(crate) prefix: Option<EidPrefix>,

    /// Of bgp: all about one neighbour, by its address or name.
    #[arg(long, value_name = "ADDR|NAME", conflicts_with = "part")]
    pub(crate) neighbor: Option<String>,

    /// Print one JSON document instead of tables: for programs, stable from version to version.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show the counters at zero too (JSON always has them).
    #[arg(long)]
    pub(crate) all: bool,

    /// Socket of the router's mapping API: what it was started with.
    #[arg(long, value_name = "PATH", default_value = API_PATH)]
    pub(crate) api: PathBuf,
}

impl Show {
    /// What the definition of the arguments cannot say.
    ///
    /// # Errors
    /// Of usage.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        if self.what == What::Bgp || (self.part.is_none() && self.neighbor.is_none()) {
            return Ok(());
        }
        let text = "`routes` and --neighbor belong to `altitude show bgp`";
        Err(Cli::command().error(clap::error::ErrorKind::ArgumentConflict, text))
    }
}

/// What `show bgp` can show instead of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Every route of every neighbour, the best (*) first, and why the others are not.
    Routes,
}

/// What a router can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Mappings of other sites: how long yet, who said so, locators and their state, packets and octets.
    ///
    /// State of a locator: up (packets can be sent to it), no path (no route or next hop, or no answer to probes:
    /// `altitude show locators` says which), unreachable (its site says so), not offered (priority 255).
    MapCache,
    /// Our own EID-prefixes and locators, as Map-Requests for them are answered.
    Database,
    /// Locators of other sites: whether they can be used and why not, what RLOC-probes found, how many mappings have them.
    ///
    /// MAPPINGS have it in their locator-set, and flows of CARRYING of them go to it now.
    Locators,
    /// What each worker and the control thread counted, drops by reason.
    Counters,
    /// The interfaces: role, link, packets, what the kernel says of the rings, what was steered where.
    Ports,
    /// Tunnels of the ALT, where its routes come from, and the static ones.
    Alt,
    /// BGP neighbours: state and since when, prefixes received and advertised, why the last session ended.
    Bgp,
    /// Map-Servers that our EID-prefixes are registered with: what each says of each prefix, and why it is not registered.
    ///
    /// Standings: waiting (the first answer is not there yet), registered, silent (no answer to what was sent again and
    /// again), wrong-key (its answers are not signed with our key), partial (it refuses some prefixes, or is silent about
    /// them). Below the tables stands what to do about it.
    Registrations,
    /// Sites of our Map-Server: who registered each prefix, with which key, until when, and what was refused last.
    Sites,
}

/// `altitude run`.
#[derive(Debug, Args, Default)]
pub(crate) struct Run {
    /// TOML file with the configuration; flags win over it [default: none].
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub(crate) config: Option<PathBuf>,

    /// Interface towards the hosts of the site, and the Instance-ID of their packets [default instance: 0].
    ///
    /// Repeatable. Packets from it whose source is in an EID-prefix of this instance are encapsulated. Give an
    /// Instance-ID to keep sites with overlapping addresses apart.
    #[arg(long, value_name = "IF[:IID]", value_parser = flags::site_port, help_heading = "Site and core")]
    site_port: Vec<PortDraft>,

    /// Interface towards the RLOCs. May be a site port too.
    ///
    /// Repeatable. LISP data packets (UDP 4341) to our RLOCs are taken from it; the rest stays with the kernel.
    #[arg(long, value_name = "IF", value_parser = flags::core_port, help_heading = "Site and core")]
    core_port: Vec<PortDraft>,

    /// Our address in the core: source of LISP packets, and the locator of our EID-prefixes.
    ///
    /// Repeatable; the first of each family is the one packets are sent from. Must be an address of this machine,
    /// outside every EID-prefix.
    #[arg(long, value_name = "ADDR", help_heading = "Site and core")]
    rloc: Vec<String>,

    /// Addresses of the site's hosts, with instance [default: 0] and Record TTL in minutes [default: 1440].
    ///
    /// Repeatable. All RLOCs are its locators, with priority 1 and weight 100; write [[eid-prefix]] in the file for
    /// others. Lower the TTL before a change of locators: it is how long other sites may keep the old ones.
    #[arg(long, value_name = "PREFIX[,instance=N][,ttl=MIN]", value_parser = flags::eid_prefix)]
    #[arg(help_heading = "Site and core")]
    eid_prefix: Vec<EidPrefixDraft>,

    /// GRE tunnel to an ALT router, and the TUN interface that stands for it.
    ///
    /// Repeatable. `local` is our first RLOC of the remote's family if not given. `key` (0 to 4294967295) and
    /// `checksum` must be the same at both ends. `address` (repeatable) numbers the interface; routing daemons and
    /// ping use it, look-ups do not. `keepalive` asks the far end every so many seconds whether it is there, and
    /// `keepalive-losses` [default: 3] unanswered ones end the tunnel. `ingress-rate` [default: 20000] is how many look-ups
    /// a second are taken from it. `kernel` has the kernel's GRE do the work, where it has one; an interface of that name
    /// that is there already, such as one you made with `ip link add`, is used as it is.
    #[arg(
        long,
        value_name = "NAME,remote=ADDR[,local=ADDR][,key=N][,checksum][,address=ADDR/LEN][,OPTION=N]...",
        value_parser = flags::tunnel,
        help_heading = "LISP+ALT"
    )]
    alt_tunnel: Vec<TunnelDraft>,

    /// Where Map-Requests for these EIDs go; `discard` makes a hole that is answered negatively [default instance: 0].
    ///
    /// Repeatable; the longest prefix wins. A site without BGP needs a default route (0.0.0.0/0, ::/0) to its ALT router, an
    /// ALT router without BGP the prefixes behind each of its tunnels. With `announce` our BGP neighbours are told of it.
    #[arg(long, value_name = "PREFIX=TUNNEL|discard[,instance=N][,announce]", value_parser = flags::route)]
    #[arg(help_heading = "LISP+ALT")]
    alt_route: Vec<RouteDraft>,

    /// Our AS number, 1 to 4294967294: switches our own BGP speaker on.
    ///
    /// Each ALT router is an AS of its own, and the numbers need not be those of the Internet: take private ones, 64512 to
    /// 65534. Our EID-prefixes are announced to the neighbours.
    #[arg(long, value_name = "AS", help_heading = "LISP+ALT")]
    alt_as: Option<i64>,

    /// Our BGP Identifier, written as an IPv4 address [default: our first IPv4 tunnel address, else RLOC].
    ///
    /// No two ALT routers may have the same.
    #[arg(long, value_name = "A.B.C.D", help_heading = "LISP+ALT")]
    alt_router_id: Option<String>,

    /// BGP neighbour at the far end of a tunnel, with its AS.
    ///
    /// Repeatable. ADDR lies on the subnet of a tunnel's `address`. `password-file` names a file whose first line is the
    /// TCP-MD5 password of both ends. `hold` is how many seconds a silent neighbour is believed in [default: 90], 0 or at
    /// least 3. More options: name=TEXT, instance=N, ttl-security, connect-retry=SECONDS, advertisement-interval=SECONDS,
    /// passive, max-prefixes=N, graceful-restart=BOOL, dampening, default-originate. Write [[alt.neighbor]] in the file for
    /// prefix lists.
    #[arg(long, value_name = "ADDR,as=N[,password-file=PATH][,hold=S]...", value_parser = flags::neighbor)]
    #[arg(help_heading = "LISP+ALT")]
    alt_neighbor: Vec<NeighborDraft>,

    /// Where EID routes come from, beside static ones: static (nowhere), embedded (our own speaker), netlink:table=N
    /// [default: embedded for instances with neighbours, else static].
    ///
    /// Repeatable. netlink:table=N reads a routing table of the kernel that FRR or BIRD fills; routes out of a tunnel's
    /// interface lead through that tunnel, blackhole and unreachable routes are holes. Give an Instance-ID in front to say
    /// it for one instance alone: 5=netlink:table=4343.
    #[arg(long, value_name = "[IID=]SOURCE", value_parser = flags::rib, help_heading = "LISP+ALT")]
    alt_rib: Vec<RibDraft>,

    /// Map-Resolver that is asked about EIDs which no ALT route leads to [default: none].
    ///
    /// Repeatable: the next one is asked when one gives no answer. With one, refreshes of what is known go there too.
    #[arg(long, value_name = "ADDR", help_heading = "Mapping system")]
    map_resolver: Vec<String>,

    /// Map-Server that our EID-prefixes are registered with, and the key shared with it [default: none].
    ///
    /// Repeatable: each is told everything. `key-file` names a file whose first line is the secret; keep it from others
    /// (chmod 600). `key-id` [default: 1] and `algorithm` [default: sha256], one of sha256-hkdf, sha256, sha1, must be what
    /// the Map-Server has. With `proxy` it answers Map-Requests for us, which hides that we are gone for up to three
    /// minutes; with `merge` it unites what all xTRs of the site register. `legacy=whole-mac` and `legacy=records-only` are
    /// for routers whose messages are not those of RFC 9301: openoverlayrouter needs algorithm=sha1, key-id=0 and
    /// legacy=whole-mac. Write [[map-server]] in the file for several keys. `altitude show registrations` says how it goes.
    #[arg(
        long,
        value_name = "ADDR,key-file=PATH[,key-id=N][,algorithm=NAME][,proxy][,merge][,legacy=SWITCH]...",
        value_parser = flags::map_server,
        help_heading = "Mapping system"
    )]
    map_server: Vec<MapServerDraft>,

    /// Who we are among the xTRs of our site, 32 hexadecimal digits [default: made up at the first start, kept in the
    /// state directory].
    ///
    /// No two xTRs of one site may have the same: a Map-Server takes them for one.
    #[arg(long, value_name = "HEX", help_heading = "Mapping system")]
    xtr_id: Option<String>,

    /// The site we belong to, 16 hexadecimal digits, the same for all its xTRs [default: 0000000000000000].
    #[arg(long, value_name = "HEX", help_heading = "Mapping system")]
    site_id: Option<String>,

    /// PETR that takes packets whose destination is no EID [default: none, they are forwarded natively].
    ///
    /// Repeatable: several share the packets. It may be of the other family than the packets: IPv6 hosts reach the IPv6
    /// Internet through a PETR over an IPv4 core.
    #[arg(long, value_name = "ADDR", help_heading = "Mapping system")]
    petr: Vec<String>,

    /// Seconds between two RLOC-probes of a locator in use, 1 to 3600, or off [default: 30].
    ///
    /// A locator that answers neither a probe nor three more is down: its flows move to others, and back when it answers. Where
    /// there is another to move to it is probed every 3 seconds, so that flows move within 10. [rloc-probing] in the file has
    /// the rest.
    #[arg(long, value_name = "off|SECONDS", value_parser = flags::probing, help_heading = "Mapping system")]
    rloc_probing: Option<i64>,

    /// Cores of the workers, one worker each: numbers and ranges [default: the last core].
    ///
    /// Worker n serves queue n of every port, so give each port as many queues (ethtool -L). More workers carry more
    /// packets; a core of its own each, away from interrupts, keeps them even.
    #[arg(long, value_name = "CORES", help_heading = "Tuning")]
    workers: Option<String>,

    /// Core of the control thread [default: not pinned].
    ///
    /// Pin it away from the workers when they busy-poll.
    #[arg(long, value_name = "CORE", help_heading = "Tuning")]
    control_core: Option<i64>,

    /// How the steering program is attached [default: auto].
    ///
    /// auto tries the driver and falls back to the kernel's generic path; native insists on the driver, so that a slow
    /// fallback is not overlooked; generic works on every interface, slowly.
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(XdpMode::NAMES), help_heading = "Tuning")]
    xdp: Option<String>,

    /// How AF_XDP sockets are bound [default: auto].
    ///
    /// auto takes zero-copy where the driver can; zerocopy insists; copy helps when a driver's zero-copy is faulty.
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(Bind::NAMES), help_heading = "Tuning")]
    bind: Option<String>,

    /// Busy-poll sockets for so many microseconds, 0 to 10000; 0 is off [default: 0].
    ///
    /// Lower latency and no interrupts, for a core that is always busy. Try 20.
    #[arg(long, value_name = "USEC", help_heading = "Tuning")]
    busy_poll: Option<i64>,

    /// Descriptors of each AF_XDP ring, a power of two from 64 to 32768 [default: 2048].
    ///
    /// Raise it when `altitude show ports` counts full rings under bursts. It costs memory only: a port uses more than
    /// 1024 when it sees such bursts, to keep the frames in the cache.
    #[arg(long, value_name = "N", help_heading = "Tuning")]
    ring: Option<i64>,

    /// Frames of 2048 octets for each worker [default: 9280, or what the rings of all ports need if more].
    ///
    /// At least 2 x ring for each port and 1088 beyond. More only costs memory.
    #[arg(long, value_name = "N", help_heading = "Tuning")]
    frames: Option<i64>,

    /// Take frame memory from huge pages; where there are none left, ordinary ones and a warning [default: false].
    ///
    /// Fewer TLB misses; reserve pages first (sysctl vm.nr_hugepages).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Tuning")]
    hugepages: Option<bool>,

    /// Most entries of the map-cache, 1 to 16777216 [default: 65536].
    ///
    /// Raise it when `altitude show counters` counts map-cache-evicted; memory is taken as entries come.
    #[arg(long, value_name = "N", help_heading = "Tuning")]
    map_cache_max: Option<i64>,

    /// Most frames that a worker takes from a port at once, 8 to 256 [default: 64].
    ///
    /// Lower it for shorter turns, and with them less delay under load: 32 costs some 6 % of the rate, 16 a sixth, 8 a third,
    /// and with hundreds of thousands of mappings twice that. Above 64 little is gained.
    #[arg(long, value_name = "N", help_heading = "Tuning")]
    batch: Option<i64>,

    /// What happens to packets whose mapping is being fetched [default: queue].
    ///
    /// queue holds up to 4 packets per EID and 1024 per worker for 3 seconds, so that no first packet is lost; drop
    /// drops them at once, which keeps every frame free for packets that can leave.
    #[arg(long, value_name = "WAY", value_parser = PossibleValuesParser::new(Hold::NAMES), help_heading = "Tuning")]
    hold: Option<String>,

    /// What is asked of the source of a packet out of a tunnel before it is delivered [default: standard].
    ///
    /// standard drops packets with one of our own EIDs as their source; notify also fetches the mapping of a source that
    /// is not known; secure delivers only what has a mapping and came from one of its locators. Sources behind anycast
    /// RLOCs or NAT fail secure.
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(SourceCheck::NAMES))]
    #[arg(help_heading = "Tuning")]
    source_check: Option<String>,

    /// Socket of the mapping API, which `altitude show` asks [default: /run/altitude/map.sock].
    ///
    /// Its directory is made if it is missing. Give a second router on the same machine a path of its own.
    #[arg(long, value_name = "PATH", help_heading = "General")]
    api: Option<String>,

    /// Directory for what must survive a restart: the xTR-ID, and which nonces are used [default: /var/lib/altitude].
    ///
    /// Made if it is missing; only a router with Map-Servers or sites of its own writes there. Give a second router on the
    /// same machine a directory of its own.
    #[arg(long, value_name = "PATH", help_heading = "General")]
    state_dir: Option<String>,

    /// Least severe log level written to stderr [default: info].
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LogLevel::NAMES))]
    #[arg(help_heading = "General")]
    log: Option<String>,

    /// Shape of a log line: text for people, json for collectors [default: text].
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(LogFormat::NAMES))]
    #[arg(help_heading = "General")]
    log_format: Option<String>,
}

impl Run {
    /// The flags as a configuration, to be laid over the file's.
    pub(crate) fn draft(&self) -> Draft {
        let rlocs = self.rloc.iter().map(|rloc| Given::by_flag(rloc.clone(), format!("--rloc {rloc}"))).collect();
        let server = |server: &String| Given::by_flag(server.clone(), format!("--map-resolver {server}"));
        let servers = self.map_resolver.iter().map(server).collect();
        let petr = |petr: &String| Given::by_flag(petr.clone(), format!("--petr {petr}"));
        let petrs: Vec<_> = self.petr.iter().map(petr).collect();
        let settings = Settings {
            rlocs: Some(rlocs).filter(|rlocs: &Vec<_>| !rlocs.is_empty()),
            map_resolvers: Some(servers).filter(|servers: &Vec<_>| !servers.is_empty()),
            xtr_id: given("xtr-id", self.xtr_id.as_ref()),
            site_id: given("site-id", self.site_id.as_ref()),
            state_dir: given("state-dir", self.state_dir.as_ref()),
            petrs: Some(petrs).filter(|petrs| !petrs.is_empty()),
            workers: given("workers", self.workers.as_ref()),
            control_core: given("control-core", self.control_core.as_ref()),
            xdp: given("xdp", self.xdp.as_ref()),
            bind: given("bind", self.bind.as_ref()),
            busy_poll: given("busy-poll", self.busy_poll.as_ref()),
            ring: given("ring", self.ring.as_ref()),
            frames: given("frames", self.frames.as_ref()),
            hugepages: given("hugepages", self.hugepages.as_ref()),
            map_cache_max: given("map-cache-max", self.map_cache_max.as_ref()),
            batch: given("batch", self.batch.as_ref()),
            hold: given("hold", self.hold.as_ref()),
            source_check: given("source-check", self.source_check.as_ref()),
            api: given("api", self.api.as_ref()),
            log: given("log", self.log.as_ref()),
            log_format: given("log-format", self.log_format.as_ref()),
        };
        Draft {
            site_ports: self.site_port.clone(),
            core_ports: self.core_port.clone(),
            eid_prefixes: self.eid_prefix.clone(),
            tunnels: self.alt_tunnel.clone(),
            routes: self.alt_route.clone(),
            neighbors: self.alt_neighbor.clone(),
            aggregates: Vec::new(),
            ribs: self.alt_rib.clone(),
            alt: AltDraft {
                asn: given("alt-as", self.alt_as.as_ref()),
                router_id: given("alt-router-id", self.alt_router_id.as_ref()),
                ..AltDraft::default()
            },
            map_cache: Vec::new(),
            map_servers: self.map_server.clone(),
            roles: altitude_control::config::RolesDraft::default(),
            probing: ProbingDraft { interval: given("rloc-probing", self.rloc_probing.as_ref()), ..Default::default() },
            settings,
        }
    }
}

fn given<T: Clone + std::fmt::Display>(flag: &str, value: Option<&T>) -> Option<Given<T>> {
    value.map(|value| Given::by_flag(value.clone(), format!("--{flag} {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use altitude_control::config::{self, FRAMES, MAP_CACHE_MAX, Machine, RING, TTL_MINUTES};

    fn run(arguments: &[&str]) -> Result<Draft, clap::Error> {
        let all = ["altitude", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Run(run) => Ok(run.draft()),
            other => panic!("{other:?} is not run"),
        }
    }

    #[test]
    fn the_definition_is_sound_and_help_names_every_default() {
        Cli::command().debug_assert();
        let help = Cli::command().find_subcommand_mut("run").unwrap().render_long_help().to_string();
        for default in [RING.to_string(), FRAMES.to_string(), MAP_CACHE_MAX.to_string(), TTL_MINUTES.to_string()] {
            assert!(help.contains(&default), "{default} is missing");
        }
        assert!(help.contains(&format!("[default: {API_PATH}]")));
        let undocumented: Vec<_> = Cli::command()
            .get_subcommands()
            .flat_map(clap::Command::get_arguments)
            .filter(|argument| argument.get_help().is_none())
            .map(ToString::to_string)
            .collect();
        assert!(undocumented.is_empty(), "{undocumented:?}");
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        // Any file there is will do for a key.
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let options = "key-id=7,algorithm=sha1,proxy,merge,legacy=whole-mac";
        let server = format!("--map-server=240.0.254.40,key-file={key},{options}");
        let draft = run(&[
            "--site-port=eth1:7", "--core-port=eth0", "--rloc=240.0.254.10", "--eid-prefix=1.1.0.0/16,instance=7,ttl=5",
            "--alt-tunnel=alt0,remote=240.0.254.30,local=240.0.254.10,key=9,checksum,address=10.42.0.1/30,address=fd00::1/64",
            "--alt-route=0.0.0.0/0=alt0,instance=7", "--alt-route=::/0=discard,announce", "--alt-as=64510",
            "--alt-router-id=10.42.0.9", "--alt-neighbor=10.42.0.2,as=64530,hold=3,name=core,max-prefixes=10,ttl-security",
            "--alt-neighbor=fd00::2,as=64531,passive,dampening,default-originate,connect-retry=7,graceful-restart=false",
            "--alt-rib=embedded", "--alt-rib=7=netlink:table=4343", "--workers=0,2-3", "--control-core=1",
            "--xdp=native", "--bind=zerocopy", "--busy-poll=20", "--ring=2048", "--frames=16384", "--hugepages",
            "--map-cache-max=1000", "--hold=drop", "--batch=32", "--source-check=secure", "--api=/tmp/x.sock", "--log=debug",
            "--log-format=json", "--rloc-probing=7",
            &server,
            "--xtr-id=0123456789abcdef0123456789abcdef", "--site-id=00000000000000ff", "--state-dir=/tmp/state",
        ])
        .unwrap();
        let config = config::load(None, draft, &Machine { cores: vec![0, 1, 2, 3] }).unwrap();
        assert_eq!(config.ports.len(), 2);
        assert_eq!(
            (config.ports[0].name.as_str(), config.ports[0].instance.get(), config.ports[0].site),
            ("eth1", 7, true)
        );
        assert_eq!(config.database[0].eid.to_string(), "[7]1.1.0.0/16");
        assert_eq!(config.database[0].ttl.to_wire(), 5);
        let tunnel = &config.tunnels[0];
        assert_eq!((tunnel.key, tunnel.checksum, tunnel.addresses.len()), (Some(9), true, 2));
        let probing = config.probing.as_ref().unwrap();
        assert_eq!((probing.interval.as_secs(), probing.failover_interval.as_secs()), (7, 3));
        assert_eq!(config.routes[0].eid.to_string(), "[7]0.0.0.0/0");
        assert_eq!(
            config.routes.iter().map(|route| route.hop).collect::<Vec<_>>(),
            [config::Hop::Tunnel(config::TunnelId(0)), config::Hop::Discard]
        );
        assert!(!config.routes[0].announce && config.routes[1].announce);
        let speaker = config.speaker.as_ref().unwrap();
        assert_eq!((speaker.asn, speaker.router_id.to_string().as_str()), (64510, "10.42.0.9"));
        let [first, second] = &speaker.neighbors[..] else { panic!("{speaker:?}") };
        assert_eq!((first.asn, first.hold, first.name.as_str(), first.ttl_security), (64530, 3, "core", true));
        assert_eq!(first.max_prefixes.map(|max| max.limit), Some(10));
        assert_eq!((second.passive, second.dampening.is_some(), second.default_originate), (true, true, true));
        assert_eq!((second.connect_retry, second.graceful_restart), (7, false));
        let ribs: Vec<String> = config.ribs.iter().map(|(instance, source)| format!("{instance} {source}")).collect();
        assert_eq!(ribs, ["0 embedded", "7 netlink:table=4343"]);
        assert_eq!((config.workers.as_slice(), config.control_core), ([0, 2, 3].as_slice(), Some(1)));
        assert_eq!((config.xdp, config.bind, config.hold), (XdpMode::Native, Bind::ZeroCopy, Hold::Drop));
        assert_eq!((config.busy_poll, config.ring, config.frames, config.hugepages), (Some(20), 2048, 16384, true));
        assert_eq!((config.batch, config.source_check), (32, SourceCheck::Secure));
        assert_eq!((config.map_cache_max, config.api.to_str()), (1000, Some("/tmp/x.sock")));
        let [server] = &config.map_servers[..] else { panic!("{:?}", config.map_servers) };
        assert_eq!((server.address.to_string().as_str(), server.proxy, server.merge), ("240.0.254.40", true, true));
        assert_eq!((server.keys[0].id, server.keys[0].algorithm), (7, altitude_control::wire::Algorithm::Sha1));
        assert!(server.form.whole_mac && !server.form.records_only);
        assert_eq!((config.identity.xtr_id.map(|id| id[15]), config.identity.site_id), (Some(0xef), 0xff));
        assert_eq!(config.state_dir.to_str(), Some("/tmp/state"));
        assert_eq!((config.log, config.log_format), (LogLevel::Debug, LogFormat::Json));
    }

    #[test]
    fn show_asks_for_one_thing_at_the_default_socket_or_another() {
        let show = |arguments: &[&str]| {
            let all = ["altitude", "show"].iter().chain(arguments);
            Cli::try_parse_from(all).map(|cli| match cli.command {
                Command::Show(show) => (show.what, show.json, show.all, show.api),
                other => panic!("{other:?} is not show"),
            })
        };
        assert_eq!(show(&["map-cache"]).unwrap(), (What::MapCache, false, false, API_PATH.into()));
        let whole = show(&["--json", "counters", "--api", "/tmp/x.sock", "--all"]).unwrap();
        assert_eq!(whole, (What::Counters, true, true, "/tmp/x.sock".into()));
        for wrong in [&[][..], &["weather"], &["alt", "ports"]] {
            assert_eq!(show(wrong).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn show_bgp_takes_routes_a_prefix_or_a_neighbour() {
        let show = |arguments: &[&str]| {
            let all = ["altitude", "show"].iter().chain(arguments);
            Cli::try_parse_from(all).and_then(|cli| match cli.command {
                Command::Show(show) => show.check().map(|()| show),
                other => panic!("{other:?} is not show"),
            })
        };
        let routes = show(&["bgp", "routes", "[5]10.0.0.0/8", "--json"]).unwrap();
        assert_eq!((routes.part, routes.json), (Some(Part::Routes), true));
        assert_eq!(routes.prefix.unwrap().to_string(), "[5]10.0.0.0/8");
        assert_eq!(show(&["bgp", "--neighbor", "east"]).unwrap().neighbor.as_deref(), Some("east"));
        for wrong in [
            &["bgp", "10.0.0.0/8"][..],
            &["bgp", "routes", "10.0.0.0/33"],
            &["bgp", "routes", "[x]10.0.0.0/8"],
            &["bgp", "routes", "--neighbor", "east"],
            &["alt", "routes"],
            &["alt", "--neighbor", "east"],
        ] {
            assert_eq!(show(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn wrong_usage_is_refused_by_the_command_line() {
        for (arguments, said) in [
            (["--site-port", "eth0:x"], "the Instance-ID is a number"),
            (["--alt-tunnel", "alt0,key=3"], "add ,remote=ADDR"),
            (["--alt-tunnel", "alt0,remote=1.2.3.4,colour=red"], "'colour' is no option here"),
            (["--alt-route", "0.0.0.0/0"], "write PREFIX=TUNNEL"),
            (["--alt-neighbor", "10.42.0.2"], "add ,as=N"),
            (["--alt-neighbor", "10.42.0.2,as=x"], "as is a number"),
            (["--alt-neighbor", "10.42.0.2,as=1,password=x"], "write password-file=PATH"),
            (["--alt-neighbor", "10.42.0.2,as=1,colour=red"], "'colour' is no option here"),
            (["--map-server", "240.0.254.40"], "add ,key-file=PATH"),
            (["--map-server", "240.0.254.40,key=x"], "write key-file=PATH"),
            (["--map-server", "240.0.254.40,key-file=x,key-id=y"], "key-id is a number"),
            (["--map-server", "240.0.254.40,key-file=x,colour=red"], "'colour' is no option here"),
            (["--alt-rib", "x=static"], "the Instance-ID is a number"),
            (["--eid-prefix", "1.0.0.0/8,ttl"], "'ttl' is no option here"),
            (["--xdp", "fast"], "[possible values: auto, native, generic]"),
            (["--ring", "big"], "invalid digit"),
        ] {
            let error = run(&arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
