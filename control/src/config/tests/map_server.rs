//! Map-Servers, the keys shared with them, and who we are to them.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::wire::{Algorithm, Form, Key};

/// A site whose first Map-Server begins on line 8; what is appended starts on line 10.
fn with(more: &str) -> String {
    format!("{SITE}[[map-server]]\naddress = \"240.0.254.40\"\n{more}")
}

#[test]
fn a_map_server_with_nothing_but_defaults() {
    let config = read(&with("key = { secret = \"open sesame\" }")).unwrap();
    let expected = MapServer {
        address: [240, 0, 254, 40].into(),
        keys: vec![Key::new(1, Algorithm::Sha256, b"open sesame")],
        form: Form::default(),
        proxy: false,
        merge: false,
    };
    assert_eq!(config.map_servers, [expected]);
    assert_eq!((config.identity, config.state_dir.to_str()), (Identity::default(), Some(STATE_DIR)));
    assert!(config.summary().contains("1 Map-Server,"), "{}", config.summary());
    assert!(!format!("{config:?}").contains("sesame"));
}

#[test]
fn a_map_server_with_all_there_is() {
    let text = with(
        r#"keys = [{ id = 2, algorithm = "sha256-hkdf", secret = "new" }, { id = 0, algorithm = "sha1", secret = "old" }]
proxy = true
merge = true
legacy = ["records-only", "whole-mac"]
"#,
    );
    let top = "xtr-id = \"000102030405060708090a0b0c0d0e0F\"\nsite-id = \"000000000000002a\"\nstate-dir = \"/tmp/x\"\n";
    let config = read(&format!("{top}{text}")).unwrap();
    let [server] = &config.map_servers[..] else { panic!("{:?}", config.map_servers) };
    let keys = [Key::new(2, Algorithm::Sha256Hkdf, b"new"), Key::new(0, Algorithm::Sha1, b"old")];
    assert_eq!((&server.keys[..], server.proxy, server.merge), (&keys[..], true, true));
    assert_eq!(server.form, Form { whole_mac: true, records_only: true });
    let xtr_id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    assert_eq!(config.identity, Identity { xtr_id: Some(xtr_id), site_id: 42 });
    assert_eq!(config.state_dir.to_str(), Some("/tmp/x"));
}

/// Appended to [`with`] or put before [`SITE`], what is said, and in which line.
#[test]
fn each_mistake_has_its_line_and_its_remedy() {
    let key = "key = { secret = \"s\" }\n";
    let before = |text: &str| format!("{text}\n{SITE}");
    let at = |address: &str| with(key).replace("240.0.254.40", address);
    let cases: Vec<(String, &str)> = vec![
        (with(""), "x.toml:9: Map-Server 240.0.254.40 has no key; add key = { secret-file = \"PATH\" }"),
        (with(&format!("{key}keys = []")), "x.toml:9: Map-Server 240.0.254.40 has both key and keys; keep one"),
        (with("keys = []"), "x.toml:9: the keys of Map-Server 240.0.254.40 are an empty list; give one"),
        (with("key = { id = 1 }"), "x.toml:10: a key of Map-Server 240.0.254.40 has no secret; add secret-file"),
        (with("key = { secret = \"\" }"), "x.toml:10: the secret of Map-Server 240.0.254.40 is empty; give 1 to 256"),
        (with(&format!("key = {{ secret = \"{}\" }}", "s".repeat(257))), "x.toml:10: the secret of Map-Server"),
        (with("key = { id = 256, secret = \"s\" }"), "x.toml:10: Key ID 256 is out of range; give 0 to 255"),
        (
            with("key = { algorithm = \"md5\", secret = \"s\" }"),
            "x.toml:10: algorithm 'md5' is unknown; write one of sha256-hkdf, sha256, sha1",
        ),
        (
            with("keys = [{ id = 3, secret = \"a\" },\n { id = 3, secret = \"b\" }]"),
            "x.toml:11: Key ID 3 of Map-Server 240.0.254.40 is given twice; give each key an ID of its own",
        ),
        (
            with(&format!(
                "keys = [{}]",
                (0..9).map(|id| format!("{{ id = {id}, secret = \"s\" }},")).collect::<String>()
            )),
            "x.toml:9: 9 keys of Map-Server 240.0.254.40 are more than 8",
        ),
        (
            with("key = { secret = \"s\", secret-file = \"f\" }"),
            "x.toml:10: a key of Map-Server 240.0.254.40 has both a secret and a secret file; keep one",
        ),
        (
            with("key = { secret-file = \"/nonexistent/key\" }"),
            "x.toml:10: secret file /nonexistent/key cannot be read: No such file",
        ),
        (
            with(&format!("{key}legacy = [\"whole-mac\", \"nonce\"]")),
            "x.toml:11: legacy switch 'nonce' is unknown here; write one of whole-mac, records-only",
        ),
        (with(&format!("{key}colour = 1")), "x.toml:11: unknown field `colour` in [[map-server]]; expected one of"),
        (with("key = \"s\""), "x.toml:10: 'key': invalid type"),
        (
            at("1.1.1.1"),
            "x.toml:9: Map-Server 1.1.1.1 lies inside our own EID-prefix 1.1.0.0/16; a Map-Server is reached",
        ),
        (at("240.0.254.10"), "x.toml:9: Map-Server 240.0.254.10 is our own RLOC; give another router's"),
        (at("2001:db8::1"), "x.toml:9: no RLOC is of the family of Map-Server 2001:db8::1; give an RLOC"),
        (at("nowhere"), "x.toml:9: 'nowhere' is not an address"),
        (
            format!("{}[[map-server]]\naddress = \"240.0.254.40\"\n{key}", with(key)),
            "x.toml:12: Map-Server 240.0.254.40 is given twice; keep one",
        ),
        (
            format!(
                "rlocs = [\"240.0.254.10\"]\n[[core-port]]\nname = \"eth0\"\n[[map-server]]\naddress = \"240.0.254.40\"\n{key}"
            ),
            "x.toml:5: there is a Map-Server, but nothing to register with it; add --eid-prefix",
        ),
        (
            before("xtr-id = \"0001\""),
            "x.toml:1: xtr-id '0001' is not 32 hexadecimal digits; write all 32, for example",
        ),
        (before("site-id = \"000000000000002g\""), "x.toml:1: site-id '000000000000002g' is not 16 hexadecimal digits"),
        (before("state-dir = \"state\""), "x.toml:1: 'state' cannot be the state directory; give an absolute path"),
    ];
    for (text, said) in cases {
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.starts_with(said)), "{said}\nis not among\n{found:#?}\nfor\n{text}");
        assert_eq!(found.len(), 1, "{found:#?}\nfor\n{text}");
    }
}

#[test]
fn at_most_sixteen_map_servers() {
    let more: String =
        (1..=17).map(|n| format!("[[map-server]]\naddress = \"240.0.1.{n}\"\nkey = {{ secret = \"s\" }}\n")).collect();
    let found = problems(&format!("{SITE}{more}"));
    assert_eq!(
        found,
        ["x.toml:57: 17 Map-Servers are more than 16; give fewer: two or three are enough for one to fail"]
    );
}

#[test]
fn a_secret_may_lie_in_a_file_that_others_had_better_not_read() {
    let folder = std::env::temp_dir().join(format!("altitude-config-key-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (path, secret) = (folder.join("site.toml"), folder.join("ms.key"));
    std::fs::write(&secret, "correct horse \nsecond line\n").unwrap();
    let load = |mode: u32| {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = with("key = { secret-file = \"ms.key\" }\n");
        parse(&path, &text, Draft::default(), &Machine { cores: vec![0] }).unwrap()
    };
    let (open, closed) = (load(0o644), load(0o640));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(closed.map_servers[0].keys, [Key::new(1, Algorithm::Sha256, b"correct horse ")]);
    assert_eq!((closed.warnings, open.map_servers), (vec![], closed.map_servers));
    let [warning] = &open.warnings[..] else { panic!("{:?}", open.warnings) };
    let said = format!(
        "{}:10: secret file {} can be read by anybody here; chmod o-r {2}",
        path.display(),
        secret.display(),
        secret.display()
    );
    assert_eq!(warning.to_string(), said);
}

#[test]
fn a_secret_is_shown_nowhere() {
    let text = with("key = { id = 999, secret = \"hunter2\" }\nproxy = 1");
    assert!(!problems(&text).concat().contains("hunter2"));
    let draft: KeyDraft = toml::from_str("secret = \"hunter2\"").unwrap();
    assert!(!format!("{draft:?}").contains("hunter2"));
}
