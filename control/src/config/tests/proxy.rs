//! `[petr]`, `[[pitr-prefix]]`, `[[native-port]]` and their flags.

use altitude_dataplane::mapping::Hop;

use super::*;
use crate::config::flags;

const CORE: &str = "rlocs = [\"240.0.254.60\"]\n[[core-port]]\nname = \"eth0\"\n";

fn with(text: &str) -> Config {
    read(&format!("{CORE}{text}")).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn the_roles_are_off_unless_they_are_named() {
    let plain = read(SITE).unwrap().roles.proxies;
    assert!(!plain.is_on() && !plain.petr && plain.aggregates.is_empty());
    assert_eq!(plain.rate, 20);
    let petr = with("[petr]\n").roles.proxies;
    assert!(petr.is_on() && petr.petr);
    assert_eq!(petr.instances, [InstanceId::DEFAULT]);
    let petr = with("[petr]\ninstances = [7, 9]\n").roles.proxies;
    assert_eq!(petr.instances.iter().map(|instance| instance.get()).collect::<Vec<_>>(), [7, 9]);
}

/// PITR-1: what is attracted is what the operator announces: aggregates, not everything, and nothing that we need ourselves.
#[test]
fn a_pitr_attracts_what_it_is_told() {
    let text = "[[native-port]]\nname = \"eth1\"\n[[native-port]]\nname = \"eth0\"\ninstance = 7\n\
                [[pitr-prefix]]\nprefix = \"2.0.0.0/8\"\n[[pitr-prefix]]\nprefix = \"2001:db8::/32\"\ninstance = 7\n";
    let config = with(text);
    let eids: Vec<String> = config.roles.proxies.aggregates.iter().map(ToString::to_string).collect();
    assert_eq!(eids, ["2.0.0.0/8", "[7]2001:db8::/32"]);
    let roles: Vec<_> = config.ports.iter().map(|port| (port.name.as_str(), port.core, port.native)).collect();
    assert_eq!(roles, [("eth1", false, true), ("eth0", true, true)]);
    assert_eq!(config.ports[1].instance.get(), 7);
}

#[test]
fn each_mistake_of_the_roles_is_told() {
    let native = "[[native-port]]\nname = \"eth1\"\n";
    let attracted = |prefix: &str| format!("{CORE}{native}[[pitr-prefix]]\nprefix = \"{prefix}\"\n");
    let many: String = (0..65).map(|n| format!("[[pitr-prefix]]\nprefix = \"2.{n}.0.0/16\"\n")).collect();
    for (text, said) in [
        (
            attracted("0.0.0.0/0"),
            "x.toml:7: 0.0.0.0/0 would attract everything; give the EID-prefixes that LISP sites have",
        ),
        (
            attracted("240.0.0.0/8"),
            "x.toml:7: 240.0.0.0/8 holds our RLOC 240.0.254.60; an RLOC is reached without LISP",
        ),
        (
            format!("{}[[pitr-prefix]]\nprefix = \"2.0.0.0/8\"", attracted("2.0.0.0/8")),
            "x.toml:9: 2.0.0.0/8 is attracted twice",
        ),
        (
            format!("{CORE}[[pitr-prefix]]\nprefix = \"2.0.0.0/8\""),
            "x.toml: EID-prefix 2.0.0.0/8 is to be attracted, but no native port is of instance 0; add --native-port IF",
        ),
        (format!("{CORE}{native}"), "x.toml: nothing is to be done with native port eth1; add --pitr-prefix PREFIX"),
        (format!("{CORE}{native}{many}"), "x.toml:135: 65 prefixes are more than the 64 of a PITR"),
        (format!("petrs = [\"240.0.254.61\"]\n{CORE}[petr]"), "x.toml:1: we are a PETR, and it uses none"),
        (
            format!("petrs = [\"240.0.254.61\"]\n{}", attracted("2.0.0.0/8")),
            "x.toml:1: we are a PITR: what has no mapping would come back from the PETR",
        ),
        (
            format!("{SITE}[[native-port]]\nname = \"eth1\"\n"),
            "x.toml:9: port eth1 is named as a site port and as a native one; hosts with EIDs and networks without LISP",
        ),
        ("[petr]".to_owned(), "x.toml: no core port; add --core-port IF"),
        (format!("pitr-rate = 0\n{CORE}[petr]"), "x.toml:1: pitr-rate 0 is out of range; give 1 to 100000"),
        (format!("{CORE}[petr]\ninstances = [16777216]"), "x.toml:5: Instance-ID 16777216 is out of range"),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.starts_with(said)), "{said}\n{found:#?}");
    }
}

#[test]
fn flags_of_the_roles_say_what_they_take() {
    let prefix = flags::pitr_prefix("2.0.0.0/8,instance=7").unwrap();
    assert_eq!((prefix.prefix.value.as_str(), prefix.instance.unwrap().value), ("2.0.0.0/8", 7));
    assert_eq!(flags::native_port("eth1:7").unwrap().instance.unwrap().value, 7);
    for (said, why) in [
        (flags::pitr_prefix("2.0.0.0/8,ttl=7").unwrap_err(), "'ttl' is no option here: the options are instance=N"),
        (flags::pitr_prefix("").unwrap_err(), "a prefix is missing"),
        (flags::native_port("eth1:x").unwrap_err(), "the Instance-ID is a number, not 'x'"),
    ] {
        assert_eq!(said, why);
    }
}

#[test]
fn a_locator_may_lie_behind_stops() {
    let mapped = |locator: &str| format!("{SITE}[[map-cache]]\neid = \"2.2.0.0/16\"\nlocators = [{{ {locator} }}]\n");
    let locators = |text: &str| read(&mapped(text)).unwrap().map_cache.remove(0).locators;
    let via = locators("address = \"240.0.254.20\", via = [\"240.0.254.31\", \"240.0.254.32\"], weight = 7");
    let stops: Vec<_> = via.iter().map(|stop| (stop.address.to_string(), stop.weight, stop.is_end())).collect();
    let stop = |last: u8, end| (format!("240.0.254.{last}"), 7, end);
    assert_eq!(stops, [stop(31, false), stop(32, false), stop(20, true)]);
    let strict = locators("address = \"240.0.254.20\", via = [\"240.0.254.31\"], strict = true");
    assert!(strict.iter().all(|stop| stop.hop.is_some_and(Hop::is_strict)));
    for (text, said) in [
        ("address = \"240.0.254.20\", via = [\"240.0.254.20\"]", "the path to 240.0.254.20 passes 240.0.254.20 twice"),
        ("address = \"240.0.254.20\", strict = true", "'strict' speaks of the stops in via"),
        ("address = \"240.0.254.20\", via = [\"x\"]", "'x' is not an address"),
        (
            "address = \"240.0.254.20\", via = [\"1.1.0.1\"]",
            "stop 1.1.0.1 of a path lies inside our own EID-prefix 1.1.0.0/16",
        ),
        ("address = \"240.0.254.20\", via = [\"240.0.254.10\"]", "stop 240.0.254.10 of a path is our own RLOC"),
    ] {
        let found = problems(&mapped(text));
        assert!(found[0].contains(said), "{found:?}");
    }
    let config = with("[rtr]\ninstances = [7]\n").roles.proxies;
    assert!(config.rtr && !config.petr && config.is_on() && config.instances[0].get() == 7);
    assert!(!with("[petr]\n").roles.proxies.known, "a PETR asks more of them");
    for (check, known, warned) in
        [("", true, false), ("standard", false, true), ("notify", false, true), ("secure", false, false)]
    {
        let check = if check.is_empty() { String::new() } else { format!("source-check = \"{check}\"\n") };
        let config = read(&format!("{check}{CORE}[rtr]\n")).unwrap();
        assert_eq!(config.roles.proxies.known, known, "{check}");
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.iter().any(|warning| warning.contains("anybody's packets")), warned, "{warnings:?}");
        let config = read(&format!("{check}{CORE}[petr]\n")).unwrap();
        assert_eq!(config.warnings.len(), 0, "{check} of a PETR");
    }
    let both = problems(&format!("{CORE}[petr]\ninstances = [1]\n[rtr]\ninstances = [2]\n"));
    assert!(both[0].contains("the instances of PETR and RTR are those of one router"), "{both:?}");
}
