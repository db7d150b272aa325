use altitude_control::config::{
    self, API_PATH, Bind, Draft, DscpName, FRAMES, Hold, LogFormat, LogLevel, MAP_CACHE_MAX, Machine, PathMtuName,
    RING, ResolverName, SiteRoutes, SourceCheck, TTL_MINUTES, XdpMode,
};
use clap::CommandFactory;

use super::{show::Part, *};

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
    let subscribe = format!("--pubsub-key-file={key}");
    let secret = concat!("--lisp-sec-key-file=", env!("CARGO_MANIFEST_DIR"), "/src/lib.rs").to_owned();
    let draft = run(&[
        "--site-port=eth1:7", "--core-port=eth0", "--rloc=240.0.254.10", "--eid-prefix=1.1.0.0/16,instance=7,ttl=5,version=9",
        "--alt-tunnel=alt0,remote=240.0.254.30,local=240.0.254.10,key=9,checksum,address=10.42.0.1/30,address=fd00::1/64",
        "--alt-route=0.0.0.0/0=alt0,instance=7", "--alt-route=::/0=discard,announce", "--alt-as=64510",
        "--alt-router-id=10.42.0.9", "--alt-neighbor=10.42.0.2,as=64530,hold=3,name=core,max-prefixes=10,ttl-security",
        "--alt-neighbor=fd00::2,as=64531,passive,dampening,default-originate,connect-retry=7,graceful-restart=false",
        "--alt-rib=embedded", "--alt-rib=7=netlink:table=4343", "--workers=0,2-3", "--control-core=1",
        "--xdp=native", "--bind=zerocopy", "--busy-poll=20", "--ring=2048", "--frames=16384", "--hugepages",
        "--map-cache-max=1000", "--hold=drop", "--batch=32", "--source-check=secure", "--dscp=pipe", "--path-mtu=learn", "--site-routes=ignore", "--api=/tmp/x.sock", "--log=debug",
        "--log-format=json", "--rloc-probing=7", "--as-petr", "--as-rtr", "--pitr-prefix=2.0.0.0/8,instance=9", "--native-port=eth0:9",
        "--pitr-rate=7",
        "--metrics=127.0.0.1:9347",
        "--api-read-only=/tmp/y.sock", "--resolver=off",
        "--pubsub-subscribe=lookups", "--pubsub-publish=false", &subscribe,
        "--nat-site", "--nat-keepalive=7", "--nat-rtr=false",
        "--map-versioning", "--locator-status-bits", "--echo-nonce",
        &server, "--map-resolver=240.0.254.41", "--lisp-sec", &secret, "--lisp-sec-strict",
        "--xtr-id=0123456789abcdef0123456789abcdef", "--site-id=00000000000000ff", "--state-dir=/tmp/state",
    ])
    .unwrap();
    let config = config::load(None, draft, &Machine { cores: vec![0, 1, 2, 3] }).unwrap();
    assert_eq!(config.ports.len(), 2);
    let proxies = &config.roles.proxies;
    assert_eq!(
        (proxies.petr && proxies.rtr, proxies.aggregates[0].to_string().as_str(), proxies.rate),
        (true, "[9]2.0.0.0/8", 7)
    );
    assert!(config.ports[1].native && config.ports[1].core && config.ports[1].instance.get() == 9);
    assert_eq!(
        (config.ports[0].name.as_str(), config.ports[0].instance.get(), config.ports[0].site),
        ("eth1", 7, true)
    );
    assert_eq!(config.database[0].eid.to_string(), "[7]1.1.0.0/16");
    assert_eq!((config.database[0].ttl.to_wire(), config.database[0].version), (5, 9));
    let lisp_sec = config.lisp_sec.as_ref().unwrap();
    assert!(lisp_sec.gate.strict && lisp_sec.asking.as_ref().is_some_and(|asking| asking.key.id == 1));
    let features = config.features;
    assert!(features.versions && features.status && features.nonces);
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
    assert_eq!((config.batch, config.source_check, config.dscp), (32, SourceCheck::Secure, DscpName::Pipe));
    assert_eq!((config.site_routes, config.path_mtu), (SiteRoutes::Ignore, PathMtuName::Learn));
    assert_eq!(config.metrics.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9347"));
    assert_eq!((config.map_cache_max, config.api.to_str()), (1000, Some("/tmp/x.sock")));
    assert_eq!((config.api_read_only.unwrap().to_str(), config.resolver), (Some("/tmp/y.sock"), ResolverName::Off));
    let [server] = &config.map_servers[..] else { panic!("{:?}", config.map_servers) };
    assert_eq!((server.address.to_string().as_str(), server.proxy, server.merge), ("240.0.254.40", true, true));
    assert_eq!((server.keys[0].id, server.keys[0].algorithm), (7, altitude_control::wire::Algorithm::Sha1));
    assert!(server.form.whole_mac && !server.form.records_only);
    assert_eq!((config.identity.xtr_id.map(|id| id[15]), config.identity.site_id), (Some(0xef), 0xff));
    let subscribe = config.pubsub.subscribe.unwrap();
    assert!(subscribe.lookups && subscribe.keys.len() == 1 && config.pubsub.publish.is_none());
    assert_eq!((config.nat.keepalive.map(|every| every.as_secs()), config.nat.map_servers), (Some(7), None));
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
    for (given, seconds) in [(&["--watch", "ports"][..], 2), (&["ports", "--watch=9"], 9)] {
        let all = ["altitude", "show"].iter().chain(given);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Show(show) => assert_eq!((show.what, show.watch), (What::Ports, Some(seconds))),
            other => panic!("{other:?} is not show"),
        }
    }
    for wrong in [&[][..], &["weather"], &["alt", "ports"], &["ports", "--watch=0"]] {
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

/// G-10, SEC-13: what a flag says of LISP-SEC wins over the file, and strictness that is taken away switches nothing on.
#[test]
fn flags_of_lisp_sec_win_over_the_file() {
    let site = "rlocs = [\"240.0.254.10\"]\nmap-resolvers = [\"240.0.254.40\"]\n[[site-port]]\nname = \"eth1\"\n\
                [[core-port]]\nname = \"eth0\"\n[[eid-prefix]]\nprefix = \"1.1.0.0/16\"\n";
    let on = "[lisp-sec]\nkey = { id = 7, secret = \"s\" }\nstrict = true\n";
    let key = concat!("--lisp-sec-key-file=", env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
    let strict = |file: &str, flags: &[&str]| {
        let machine = Machine { cores: vec![0, 1] };
        let config = config::parse("x.toml".as_ref(), &format!("{site}{file}"), run(flags).unwrap(), &machine).unwrap();
        config.lisp_sec.map(|settings| settings.gate.strict)
    };
    for (file, flags, expected) in [
        (on, &[][..], Some(true)),
        (on, &["--lisp-sec=false"], None),
        (on, &["--lisp-sec=false", key], None),
        (on, &["--lisp-sec-strict=false"], Some(false)),
        ("", &["--lisp-sec-strict=false"], None),
        ("", &["--lisp-sec=false"], None),
        ("", &["--lisp-sec"], Some(false)),
        ("", &[key], Some(false)),
        ("", &[key, "--lisp-sec-strict"], Some(true)),
        ("[lisp-sec]\n", &[key, "--lisp-sec-strict"], Some(true)),
    ] {
        assert_eq!(strict(file, flags), expected, "{file} {flags:?}");
    }
}

/// An empty shell variable names no neighbour, and least of all every one.
#[test]
fn bgp_clear_needs_a_name() {
    assert!(Cli::try_parse_from(["altitude", "bgp", "clear", ""]).is_err());
    assert!(Cli::try_parse_from(["altitude", "bgp", "clear", "all"]).is_ok());
}

/// The downgrade of a question belongs to a key on the command line; a configuration has its own.
#[test]
fn lig_takes_a_downgrade_with_a_key_alone() {
    let lig = |flags: &[&str]| {
        let all = ["altitude", "lig", "2.2.2.2", "-m", "240.0.254.40"].iter().chain(flags);
        Cli::try_parse_from(all).map(|cli| match cli.command {
            Command::Lig(lig) => lig.lisp_sec_downgrade,
            other => panic!("{other:?} is not lig"),
        })
    };
    assert!(!lig(&["--lisp-sec-key-file=k"]).unwrap());
    assert!(lig(&["--lisp-sec-key-file=k", "--lisp-sec-downgrade"]).unwrap());
    for refused in [&["--lisp-sec-downgrade"][..], &["--config=c", "--lisp-sec-downgrade"]] {
        assert!(lig(refused).is_err(), "{refused:?}");
    }
}
