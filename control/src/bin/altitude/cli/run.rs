//! `altitude run`: what it takes.

use std::path::PathBuf;

use altitude_control::config::{
    AltDraft, Bind, Draft, DscpName, EidPrefixDraft, FeaturesDraft, Given, Hold, KeyDraft, LogFormat, LogLevel,
    MapServerDraft, NeighborDraft, PathMtuName, PetrDraft, PitrPrefixDraft, PortDraft, ProbingDraft, PubSubDraft,
    ResolverName, RibDraft, RolesDraft, RouteDraft, RtrDraft, Settings, SiteRoutes, SourceCheck, SubscribeName,
    TunnelDraft, XdpMode, flags,
};
use clap::{Args, builder::PossibleValuesParser};

use super::{lisp_sec::LispSecFlags, nat::NatFlags};

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

    /// Addresses of the site's hosts, with instance [default: 0], Record TTL in minutes [default: 1440] and Map-Version
    /// [default: none].
    ///
    /// Repeatable. All RLOCs are its locators, with priority 1 and weight 100; write [[eid-prefix]] in the file for
    /// others. Lower the TTL before a change of locators: it is how long other sites may keep the old ones. Count the version up
    /// with each change, at all xTRs of the site alike; 1 follows 4095.
    #[arg(long, value_name = "PREFIX[,instance=N][,ttl=MIN][,version=N]", value_parser = flags::eid_prefix)]
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

    /// Who asks the mapping system for mappings that packets miss [default: built-in].
    ///
    /// off leaves it to a program of yours: a client of the mapping API that subscribes to MISS and answers with ADD, as
    /// ffi/examples/mapd.c does. Packets are held meanwhile as --hold says, and mappings in use are told as missed again before
    /// their time is over. `altitude map monitor` shows what such a program sees.
    #[arg(long, value_name = "WHO", value_parser = PossibleValuesParser::new(ResolverName::NAMES))]
    #[arg(help_heading = "Mapping system")]
    resolver: Option<String>,

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

    /// Be a PETR: send packets out of tunnels on natively whose destination is no EID [default: false].
    ///
    /// They leave by the kernel's route, through one of the ports. Only sites are served: a packet's source must have a
    /// mapping, and the packet must come from one of its locators. [petr] in the file names other instances than 0.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Between LISP and the rest")]
    as_petr: Option<bool>,

    /// Be a re-encapsulating router: packets out of a tunnel that go to an EID go into the next one [default: false].
    ///
    /// A stop in sites' paths (`via`). It takes what comes from a locator of its source's mapping, or from another stop; from anybody,
    /// a PITR too, with --source-check standard. It needs an address of each family of EIDs it asks for. [rtr] names instances.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Between LISP and the rest")]
    as_rtr: Option<bool>,

    /// Be a PITR: encapsulate what anybody behind a native port sends to these EIDs, of this instance [default: 0].
    ///
    /// Repeatable. Give the few aggregates that the sites' EID-prefixes lie in, and announce them yourself to the networks
    /// behind the native port, by your BGP or by static routes there. What turns out to have no mapping is refused with an
    /// ICMP error, unless the kernel's route for it leads out of another port.
    #[arg(long, value_name = "PREFIX[,instance=N]", value_parser = flags::pitr_prefix)]
    #[arg(help_heading = "Between LISP and the rest")]
    pitr_prefix: Vec<PitrPrefixDraft>,

    /// Interface towards networks without LISP, and the instance of the EIDs that packets out of it go to [default
    /// instance: 0]. May be a core port too.
    ///
    /// Repeatable. Only packets to a --pitr-prefix are taken from it; the rest stays with the kernel.
    #[arg(long, value_name = "IF[:IID]", value_parser = flags::native_port)]
    #[arg(help_heading = "Between LISP and the rest")]
    native_port: Vec<PortDraft>,

    /// Look-ups a second that one network of strangers (IPv4 /24, IPv6 /48) may cause at a PITR or PETR [default: 20].
    ///
    /// All of them together may cause a hundred times as many.
    #[arg(long, value_name = "N", help_heading = "Between LISP and the rest")]
    pitr_rate: Option<i64>,

    /// Seconds between two RLOC-probes of a locator in use, 1 to 3600, or off [default: 30].
    ///
    /// A locator that answers neither a probe nor three more is down: its flows move to others, and back when it answers. Where
    /// there is another to move to it is probed every 3 seconds, so that flows move within 10. [rloc-probing] in the file has
    /// the rest.
    #[arg(long, value_name = "off|SECONDS", value_parser = flags::probing, help_heading = "Mapping system")]
    rloc_probing: Option<i64>,

    /// Put versions of mappings into data packets, and heed those of others [default: false].
    ///
    /// A site whose mapping changed is then noticed with its first packet, not when a TTL ends. Only for networks whose
    /// routers trust each other: on the Internet anybody could write versions. Give each --eid-prefix a version; one without
    /// takes no part.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Features for trusted networks")]
    map_versioning: Option<bool>,

    /// Say in data packets which of our locators work, and probe what others say of theirs [default: false].
    ///
    /// A link that fails at another site is then noticed with its next packet. Needs --map-versioning: the bits only mean
    /// something beside the version of the mapping. Only for networks whose routers trust each other.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Features for trusted networks")]
    locator_status_bits: Option<bool>,

    /// Ask locators for a nonce back in data packets, and give theirs back [default: false].
    ///
    /// Shows within 3 seconds that a path carries nothing, where packets flow both ways between two routers. Asked is only who
    /// says in a Map-Reply that it answers. Only for networks whose routers trust each other.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Features for trusted networks")]
    echo_nonce: Option<bool>,

    /// Have Map-Servers tell us of changes to what we look up: lookups or off [default: off].
    ///
    /// A site that moves is then known within one round trip, without waiting for a TTL, a probe or an SMR. Needs
    /// --pubsub-key-file. Who refuses or does not answer leaves mappings that live by look-ups, as without it. [pubsub] in the
    /// file has prefixes to subscribe to in any case, and limits.
    #[arg(long, value_name = "WAY", value_parser = PossibleValuesParser::new(SubscribeName::NAMES))]
    #[arg(help_heading = "Mapping system")]
    pubsub_subscribe: Option<String>,

    /// Let xTRs subscribe at our Map-Server to what its sites register [default: false].
    ///
    /// Whoever has the key of --pubsub-key-file may; [[pubsub.subscriber]] in the file names them one by one, with keys and
    /// prefixes of their own. Only what we answer for (proxy) is published.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(help_heading = "Mapping system")]
    pubsub_publish: Option<bool>,

    /// File whose first line is the secret that subscribers and Map-Servers share.
    #[arg(long, value_name = "PATH", help_heading = "Mapping system")]
    pubsub_key_file: Option<String>,

    #[command(flatten)]
    nat: NatFlags,

    #[command(flatten)]
    lisp_sec: LispSecFlags,

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
    /// standard drops packets with one of our own EIDs as their source; notify also fetches the mapping of a source not known; secure
    /// delivers only what has a mapping and came from one of its locators, which sources behind anycast RLOCs or NAT fail. Given
    /// to an RTR, it replaces the check of what that sends on.
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(SourceCheck::NAMES))]
    #[arg(help_heading = "Tuning")]
    source_check: Option<String>,

    /// Which DSCP a packet out of a tunnel has [default: uniform].
    ///
    /// uniform: the core's, so that what it remarked arrives; pipe: its own, as the host sent it, where the core's classes are
    /// not the site's. ECN goes by RFC 6040 in either.
    #[arg(long, value_name = "MODEL", value_parser = PossibleValuesParser::new(DscpName::NAMES), help_heading = "Tuning")]
    dscp: Option<String>,

    /// How long packets to a locator may be [default: link].
    ///
    /// link: what the link carries that they leave by; longer ones are split, or their host is told. learn: what routers on the
    /// way say that they carry, too, each for ten minutes: for cores that carry less than their edges. Their ICMP errors prove
    /// nothing: whoever knows our RLOCs and a peer's can have packets to it cut down to 576 octets, or to 1280 where our
    /// EID-prefixes are of IPv6, too, or we are an RTR. Of a path that carries less than that no host is told.
    #[arg(long, value_name = "WAY", value_parser = PossibleValuesParser::new(PathMtuName::NAMES), help_heading = "Tuning")]
    path_mtu: Option<String>,

    /// What it means that the kernel has no route to an EID-prefix of ours by a site port [default: heed].
    ///
    /// heed: our mappings say that our RLOCs do not reach it, so that others use the site's other xTRs, until a route to it
    /// or to a part of it is there; ignore: they say nothing of it.
    #[arg(long, value_name = "WAY", value_parser = PossibleValuesParser::new(SiteRoutes::NAMES))]
    #[arg(help_heading = "Tuning")]
    site_routes: Option<String>,

    /// Socket of the mapping API, which `altitude show` asks [default: /run/altitude/map.sock].
    ///
    /// Its directory is made if it is missing. Give a second router on the same machine a path of its own.
    #[arg(long, value_name = "PATH", help_heading = "General")]
    api: Option<String>,

    /// Serve metrics for Prometheus over HTTP at this address, path /metrics [default: off].
    ///
    /// Everybody who can reach it can read it: take an address of the management network, or 127.0.0.1:9347.
    /// docker/grafana.json is a dashboard for them.
    #[arg(long, value_name = "ADDR:PORT", help_heading = "General")]
    metrics: Option<String>,

    /// Socket of the mapping API for everybody, where nothing can be changed, or off [default: beside the one of --api, named
    /// map-ro.sock where that is map.sock].
    ///
    /// Anybody on this machine may read mappings and counters there. Turn it off where that is too much.
    #[arg(long, value_name = "PATH|off", help_heading = "General")]
    api_read_only: Option<String>,

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
        let settings = Settings {
            rlocs: listed("rloc", &self.rloc),
            map_resolvers: listed("map-resolver", &self.map_resolver),
            xtr_id: given("xtr-id", self.xtr_id.as_ref()),
            site_id: given("site-id", self.site_id.as_ref()),
            state_dir: given("state-dir", self.state_dir.as_ref()),
            petrs: listed("petr", &self.petr),
            pitr_rate: given("pitr-rate", self.pitr_rate.as_ref()),
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
            dscp: given("dscp", self.dscp.as_ref()),
            path_mtu: given("path-mtu", self.path_mtu.as_ref()),
            site_routes: given("site-routes", self.site_routes.as_ref()),
            resolver: given("resolver", self.resolver.as_ref()),
            api: given("api", self.api.as_ref()),
            metrics: given("metrics", self.metrics.as_ref()),
            api_read_only: given("api-read-only", self.api_read_only.as_ref()),
            log: given("log", self.log.as_ref()),
            log_format: given("log-format", self.log_format.as_ref()),
        };
        Draft {
            site_ports: self.site_port.clone(),
            core_ports: self.core_port.clone(),
            native_ports: self.native_port.clone(),
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
            roles: RolesDraft {
                petr: self.as_petr.is_some_and(|yes| yes).then(PetrDraft::default),
                rtr: self.as_rtr.is_some_and(|yes| yes).then(RtrDraft::default),
                pitr_prefixes: self.pitr_prefix.clone(),
                ..RolesDraft::default()
            },
            probing: ProbingDraft { interval: given("rloc-probing", self.rloc_probing.as_ref()), ..Default::default() },
            features: FeaturesDraft {
                map_versioning: given("map-versioning", self.map_versioning.as_ref()),
                locator_status_bits: given("locator-status-bits", self.locator_status_bits.as_ref()),
                echo_nonce: given("echo-nonce", self.echo_nonce.as_ref()),
            },
            pubsub: self.pubsub(),
            nat: self.nat.draft(),
            lisp_sec: self.lisp_sec.draft(),
            settings,
        }
    }

    fn pubsub(&self) -> PubSubDraft {
        let key = |file| KeyDraft { secret_file: given("pubsub-key-file", Some(file)), ..KeyDraft::default() };
        PubSubDraft {
            subscribe: given("pubsub-subscribe", self.pubsub_subscribe.as_ref()),
            publish: given("pubsub-publish", self.pubsub_publish.as_ref()),
            key: self.pubsub_key_file.as_ref().map(key),
            ..PubSubDraft::default()
        }
    }
}

pub(super) fn given<T: Clone + std::fmt::Display>(flag: &str, value: Option<&T>) -> Option<Given<T>> {
    value.map(|value| Given::by_flag(value.clone(), format!("--{flag} {value}")))
}

/// The values of a repeatable flag, if it was given.
fn listed(flag: &str, values: &[String]) -> Option<Vec<Given<String>>> {
    let given = values.iter().map(|value| Given::by_flag(value.clone(), format!("--{flag} {value}")));
    (!values.is_empty()).then(|| given.collect())
}
