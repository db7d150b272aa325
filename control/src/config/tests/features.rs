//! `[features]`, and the versions of mappings.

use altitude_dataplane::features::Features;

use super::*;
use crate::config::flags;

fn config(text: &str) -> Config {
    read(&format!("{SITE}{text}")).unwrap()
}

/// MV-10, G-11: the public Internet's profile unless a feature is switched on by name.
#[test]
fn every_feature_is_off_unless_it_is_switched_on() {
    let off = Features::default();
    assert_eq!((config("").features, off.any()), (off, false));
    let one = |text: &str| config(&format!("[features]\n{text}")).features;
    assert_eq!(one("map-versioning = true"), Features { versions: true, ..off });
    assert_eq!(one("echo-nonce = true"), Features { nonces: true, ..off });
    assert_eq!(one("map-versioning = true\nlocator-status-bits = true"), Features { nonces: false, ..ALL });
    assert_eq!(one("map-versioning = true\nlocator-status-bits = true\necho-nonce = true"), ALL);
    assert_eq!(one("map-versioning = false\nlocator-status-bits = false\necho-nonce = false"), off);
}

const ALL: Features = Features { versions: true, status: true, nonces: true };

/// MV-3, MV-11: a version is what the configuration says, the same at all routers that share it; without one there is none.
#[test]
fn versions_come_from_the_configuration() {
    let versions = |config: &Config| config.database.iter().map(|own| own.version).collect::<Vec<_>>();
    let with = |version: &str| {
        let text = SITE.replace("[[eid-prefix]]\n", &format!("[[eid-prefix]]\n{version}\n"));
        read(&text).unwrap()
    };
    assert_eq!(versions(&config("")), [0]);
    assert_eq!(versions(&with("version = 4095")), [4095]);
    assert_eq!(versions(&with("version = 7")), versions(&with("version = 7")));
    let flag = flags::eid_prefix("1.1.0.0/16,version=9").unwrap();
    assert_eq!(flag.version.map(|given| given.value), Some(9));
    let text = format!(
        "{SITE}[[map-cache]]\neid = \"2.2.0.0/16\"\nversion = 5\nlocators = [{{ address = \"240.0.254.20\" }}]"
    );
    assert_eq!(read(&text).unwrap().map_cache[0].version, 5);
}

#[test]
fn a_prefix_without_a_version_is_warned_of_where_versions_are_on() {
    let warned = |text: &str| config(text).warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(warned(""), Vec::<String>::new());
    let [said] = &warned("[features]\nmap-versioning = true")[..] else { panic!("one warning") };
    assert!(said.starts_with("x.toml:9: map-versioning is on, and EID-prefix 1.1.0.0/16 has no version"), "{said}");
}

#[test]
fn each_mistake_is_told() {
    for (text, said) in [
        ("[features]\nlocator-status-bits = true", "x.toml:9: locator-status-bits without map-versioning"),
        (
            "[features]\nmap-versioning = true\nlocator-status-bits = true\n[rloc-probing]\ninterval = 0",
            "x.toml:10: locator-status-bits without RLOC-probing",
        ),
        ("[features]\necho = true", "x.toml:9: unknown field `echo` in [features]"),
        ("[features]\necho-nonce = 1", "x.toml:9: "),
        (
            "[[eid-prefix]]\nprefix = \"1.2.0.0/16\"\nversion = 0",
            "x.toml:10: version 0 is out of range; give 1 to 4095",
        ),
        ("[[eid-prefix]]\nprefix = \"1.2.0.0/16\"\nversion = 4096", "x.toml:10: version 4096 is out of range"),
    ] {
        let found = problems(&format!("{SITE}{text}"));
        assert!(found[0].starts_with(said), "{text}: {found:?}");
    }
}
