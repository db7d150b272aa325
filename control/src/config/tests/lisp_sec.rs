//! `[lisp-sec]`.

use super::*;
use crate::{
    lisp_sec::{asking::Asking, keys::SharedKey},
    wire::lisp_sec::Hash,
};

/// A site that asks a Map-Resolver; what is appended starts on line 9.
fn with(more: &str) -> String {
    format!("map-resolvers = [\"240.0.254.40\"]\n{SITE}{more}")
}

fn warned(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

/// G-10, ETR-30: off where nothing is said of it; an ETR needs no more than the table.
#[test]
fn it_is_on_where_the_table_is() {
    assert_eq!(read(&with("")).unwrap().lisp_sec, None);
    let config = read(&format!("{SITE}[lisp-sec]\n")).unwrap();
    let settings = config.lisp_sec.clone().unwrap();
    assert_eq!((settings.asking, settings.gate.clients.len(), settings.gate.strict), (None, 0, false));
    assert_eq!(warned(&config), Vec::<String>::new());
    let config = read(&with("[lisp-sec]\n")).unwrap();
    let [said] = &warned(&config)[..] else { panic!("{:?}", config.warnings) };
    assert!(said.contains("LISP-SEC is on, and our own Map-Requests go without it; add key"), "{said}");
}

#[test]
fn all_there_is() {
    let text = with(
        r#"[map-resolver]
[[map-server]]
address = "240.0.254.50"
key = { id = 2, secret = "of the site" }
[lisp-sec]
key = { id = 3, secret = "of the ITR" }
algorithms = ["sha256", "sha1"]
downgrade = true
[[lisp-sec.client]]
from = ["240.0.254.0/24"]
keys = [{ id = 4, secret = "a" }, { id = 5, secret = "b" }]
[[lisp-sec.client]]
key = { secret = "c" }
[[lisp-sec.map-server]]
address = "240.0.254.51"
eid-prefixes = ["3.0.0.0/8"]
instance = 7
key = { secret = "d" }
"#,
    );
    let config = read(&text).unwrap();
    let settings = config.lisp_sec.clone().unwrap();
    let key = SharedKey::new(3, b"of the ITR");
    let asking = Asking { key, algorithms: vec![Hash::Sha256, Hash::Sha1], downgrade: true };
    assert_eq!(settings.asking, Some(asking));
    let gate = settings.gate;
    let ids: Vec<Vec<u8>> = gate.clients.iter().map(|client| client.keys.iter().map(|key| key.id).collect()).collect();
    assert_eq!((ids, gate.clients[0].from.len(), gate.clients[1].from.len()), (vec![vec![4, 5], vec![1]], 1, 0));
    assert_eq!(gate.site_keys, [SharedKey::new(2, b"of the site")]);
    let [server] = &gate.servers[..] else { panic!("{:?}", gate.servers) };
    assert_eq!(
        (server.address.to_string(), server.eids[0].to_string()),
        ("240.0.254.51".into(), "[7]3.0.0.0/8".into())
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("of the") && shown.contains("SharedKey { id: 3, .. }"), "{shown}");
}

/// SEC-10, SEC-12, SEC-13: keys of their own, and settings that go together.
#[test]
fn each_mistake_has_its_remedy() {
    let key = "key = { secret = \"s\" }\n";
    let server = "[[map-server]]\naddress = \"240.0.254.50\"\nkey = { secret = \"s\" }\n";
    let site = "[[site]]\nname = \"bern\"\neid-prefixes = [\"10.1.0.0/16\"]\nkey = { secret = \"s\" }\n";
    let tunnel = "[[alt.tunnel]]\nname = \"alt0\"\nremote = \"240.0.254.30\"\n";
    let cases: Vec<(String, &str)> = vec![
        (
            with(&format!("{server}[lisp-sec]\n{key}")),
            "x.toml:13: the secret of our Map-Resolvers is also that of Map-Server 240.0.254.50; make one of its own",
        ),
        (
            with(&format!("{site}[lisp-sec]\n[[lisp-sec.client]]\n{key}")),
            "the secret of a client of LISP-SEC is also that of site 'bern'; make one of its own",
        ),
        (
            with("[lisp-sec]\nkey = { algorithm = \"sha1\", secret = \"s\" }"),
            "x.toml:10: a key of our Map-Resolvers has an algorithm; take it away",
        ),
        (with("[lisp-sec]\n[[lisp-sec.client]]\nfrom = []"), "a client of LISP-SEC has no key; add key"),
        (
            with(&format!(
                "[lisp-sec]\n[[lisp-sec.client]]\nfrom = [\"240.0.254.0/24\"]\n{key}[[lisp-sec.client]]\n{key}"
            )),
            "x.toml:14: Key ID 1 is that of two clients of LISP-SEC whose addresses overlap; give them keys of other IDs",
        ),
        (with("[lisp-sec]\nkey = { id = 1 }"), "a key of our Map-Resolvers has no secret; add secret-file"),
        (
            with("[lisp-sec]\nalgorithms = [\"md5\"]"),
            "x.toml:10: algorithm 'md5' is unknown; write one of sha256, sha1",
        ),
        (
            with(&format!("[lisp-sec]\n{key}strict = true\ndowngrade = true")),
            "x.toml:12: downgrade and strict exclude each other; keep one",
        ),
        (
            with("[lisp-sec]\ndowngrade = true"),
            "x.toml:10: downgrade is for an ITR, and there is no key to ask with; take it away",
        ),
        (
            with("[lisp-sec]\nstrict = true"),
            "x.toml:10: strict LISP-SEC, and no key is shared with the Map-Resolvers; add key",
        ),
        // The ALT carries no One-Time Keys.
        (
            format!("{SITE}{tunnel}[lisp-sec]\nstrict = true"),
            "strict LISP-SEC, and there is no Map-Resolver to ask: what goes over the ALT has no protection; add --map-resolver",
        ),
        (
            format!("{SITE}{tunnel}[lisp-sec]\n{key}"),
            "[lisp-sec] has a key for Map-Resolvers, and there is none to ask; add --map-resolver",
        ),
        (with("[lisp-sec]\nkeys = []"), "unknown field `keys` in [lisp-sec]"),
    ];
    for (text, said) in cases {
        let problems = read(&text).unwrap_err().to_string();
        assert!(problems.contains(said), "{said}\n{problems}\n{text}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

/// One Key ID may serve clients elsewhere.
#[test]
fn clients_in_other_places_may_use_one_key_id() {
    let client = |from: &str| format!("[[lisp-sec.client]]\nfrom = [\"{from}\"]\nkey = {{ secret = \"of {from}\" }}\n");
    let both = |one: &str, other: &str| read(&with(&format!("[lisp-sec]\n{}{}", client(one), client(other))));
    assert!(both("240.0.0.0/9", "240.128.0.0/9").is_ok() && both("240.0.0.0/8", "2001:db8::/32").is_ok());
    assert!(both("240.1.0.0/16", "240.0.0.0/8").is_err() && both("240.0.0.0/8", "240.1.0.0/16").is_err());
}

#[test]
fn a_map_resolver_on_the_alt_is_told_what_cannot_go_there() {
    let text = "rlocs = [\"240.0.254.40\"]\n[map-resolver]\n[[alt.tunnel]]\nname = \"alt0\"\nremote = \"240.0.254.30\"\n\
                [lisp-sec]\n[[lisp-sec.client]]\nkey = { secret = \"s\" }\n";
    let [said] = &warned(&read(text).unwrap())[..] else { panic!("one warning") };
    assert!(said.contains("cannot go over the ALT") && said.contains("[[lisp-sec.map-server]]"), "{said}");
}
