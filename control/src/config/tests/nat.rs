//! `[nat]`.

use super::*;
use crate::config::{Nat, NatPeer};

const SERVER: &str = "[[map-server]]\naddress = \"240.0.254.40\"\nkey = { secret = \"of the site\" }\n";
const RTR: &str = "[rtr]\n";
const PEER: &str = "[[nat.map-server]]\naddress = \"240.0.254.50\"\nkey = { id = 3, secret = \"of both\" }\n";
const SITES: &str = "[[site]]\nname = \"one\"\neid-prefixes = [\"2.2.0.0/16\"]\nkey = { secret = \"of one\" }\n";

fn nat(text: &str) -> Nat {
    read(&format!("{SITE}{text}")).unwrap().nat
}

/// Nobody asks for a NAT, and nothing is relayed, unless it is switched on.
#[test]
fn nat_traversal_is_off_by_default() {
    assert_eq!(nat(SERVER), Nat::default());
    assert_eq!(nat(&format!("{SERVER}{RTR}[nat]\nsite = false\nrtr = false\n")), Nat::default());
}

/// RTR-11.
#[test]
fn each_side_of_it_by_itself() {
    let seconds =
        |text: &str| nat(&format!("{SERVER}[nat]\nsite = true\n{text}")).keepalive.map(|every| every.as_secs());
    assert_eq!((seconds(""), seconds("keepalive = 120")), (Some(30), Some(120)));
    let Nat { keepalive, map_servers, relays } = nat(&format!("{RTR}[nat]\nrtr = true\n{PEER}"));
    let [NatPeer { address, keys }] = &map_servers.unwrap()[..] else { panic!("one Map-Server") };
    assert_eq!((address.to_string().as_str(), keys[0].id, keepalive, relays.len()), ("240.0.254.50", 3, None, 0));
    let both = "[[nat.relay]]\naddress = \"240.0.254.60\"\n[[nat.relay]]\naddress = \"240.0.254.61\"\n";
    let relays = nat(&format!("{SITES}{both}")).relays;
    let told: Vec<(String, usize)> = relays.iter().map(|peer| (peer.address.to_string(), peer.keys.len())).collect();
    assert_eq!(told, [("240.0.254.60".to_owned(), 0), ("240.0.254.61".to_owned(), 0)]);
}

#[test]
fn each_mistake_of_nat_traversal_has_its_remedy() {
    let relay = "[[nat.relay]]\naddress = \"240.0.254.60\"\n";
    let top = "[[eid-prefix]]\nprefix = \"3.0.0.0/8\"\ninstance = 16777215\n[[site-port]]\nname = \"eth7\"\ninstance = 16777215\n";
    for (text, remedy) in [
        ("[nat]\nsite = true\n".to_owned(), "it says whether there is a NAT"),
        (format!("{SERVER}[nat]\nsite = true\nkeepalive = 121\n"), "give 1 to 120"),
        (format!("{SERVER}{RTR}[nat]\nsite = true\nrtr = true\n{PEER}"), "keep one of both"),
        (format!("{SERVER}{top}[nat]\nsite = true\n"), "give it another instance"),
        (format!("[nat]\nrtr = true\n{PEER}"), "add --as-rtr or [rtr]"),
        (format!("{RTR}[nat]\nrtr = true\n"), "add [[nat.map-server]] with its address"),
        (format!("{RTR}[nat]\nrtr = true\n{PEER}{PEER}"), "keep one, with all its keys"),
        (format!("{RTR}[nat]\nrtr = true\n{}", PEER.replace("254.50", "254.10")), "give the address of the other one"),
        (format!("[nat]\n{relay}"), "add a [[site]] with a key"),
        ("[nat]\ncolour = 7".to_owned(), "site"),
    ] {
        let problems = read(&format!("{SITE}{text}")).unwrap_err();
        assert!(problems.to_string().contains(remedy), "{text}: {problems}");
    }
    let rlocs = |list: &str| read(&format!("{}{RTR}[nat]\nrtr = true\n{PEER}", SITE.replace("\"240.0.254.10\"", list)));
    let two = rlocs("\"240.0.254.10\", \"240.0.254.11\"").unwrap_err();
    assert!(two.to_string().contains("keep one of each family"), "{two}");
    assert!(rlocs("\"240.0.254.10\", \"2001:db8:f::10\"").is_ok());
    let warned = |text: &str| read(&format!("{SITE}{text}")).unwrap().warnings[0].to_string();
    assert!(warned("[nat]\nkeepalive = 30\n").contains("add --nat-site"));
    let subscribing = "[pubsub]\nsubscribe = \"lookups\"\nkey = { secret = \"of both\" }\n";
    let resolver = "map-resolvers = [\"240.0.254.40\"]\n";
    let both = read(&format!("{resolver}{SITE}{SERVER}[nat]\nsite = true\n{subscribing}")).unwrap();
    assert!(both.warnings[0].to_string().contains("only while no NAT is found"));
    assert!(read(&format!("{SITE}{SERVER}[nat]\nsite = true\n")).unwrap().warnings.is_empty());
    assert!(warned(&format!("[nat]\n{PEER}")).contains("add --nat-rtr"));
    // Each Map-Server whose word nothing proves.
    let keyless = |host: u8| format!("[[nat.map-server]]\naddress = \"240.0.254.{host}\"\n");
    let text = format!("{SITE}{RTR}[nat]\nrtr = true\n{}{PEER}{}", keyless(51), keyless(52));
    let warnings: Vec<String> = read(&text).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, address) in warnings.iter().zip(["240.0.254.51", "240.0.254.52"]) {
        assert!(warning.contains(address) && warning.contains("add key ="), "{warning}");
    }
}
