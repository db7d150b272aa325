//! Prefixes there and back.

use altitude_perf::lab::Software;

use crate::pair::{OUR_AS, OURS, Ours, Pair};

const OUR_PREFIXES: [&str; 2] = ["10.8.0.0/16", "2001:db8:8::/48"];
const THEIR_PREFIXES: [&str; 2] = ["10.7.0.0/16", "2001:db8:7::/48"];

pub(crate) fn both_families_both_ways(mut pair: Pair) {
    pair.start(&Ours { originate: &OUR_PREFIXES, ..Ours::default() }, |settings| {
        settings.originate = THEIR_PREFIXES.map(str::to_owned).to_vec();
    });
    for prefix in OUR_PREFIXES {
        pair.wait_they_know(prefix, true);
        assert_eq!(pair.theirs().route(prefix).unwrap().unwrap().as_path, [OUR_AS], "{prefix}");
    }
    for prefix in THEIR_PREFIXES {
        pair.wait_we_know(prefix, true);
        let way = pair.stand.way("ours", prefix.split('/').next().unwrap().parse().unwrap()).unwrap();
        assert_eq!(way.as_deref(), Some("theirs"));
    }

    // What comes later, and what goes.
    for prefix in ["10.9.0.0/16", "2001:db8:9::/48"] {
        pair.theirs().announce(prefix).unwrap();
        pair.wait_we_know(prefix, true);
        pair.theirs().withdraw(prefix).unwrap();
        pair.wait_we_know(prefix, false);
    }
    assert!(THEIR_PREFIXES.iter().all(|prefix| pair.we_know(prefix)));

    // They ask for everything again; GoBGP has kept it and asks nobody.
    if pair.software != Software::GoBgp {
        let count = |pair: &Pair, name: &str| pair.neighbour().count(name).unwrap();
        let (asked, sent) = (count(&pair, "refreshes-received"), count(&pair, "updates-sent"));
        pair.theirs().ask_refresh(OURS).unwrap();
        pair.wait("question for each family", |pair| count(pair, "refreshes-received") >= asked + 2);
        pair.wait("our routes of each family again", |pair| count(pair, "updates-sent") >= sent + 2);
        for prefix in OUR_PREFIXES {
            pair.wait_they_know(prefix, true);
        }
        assert!(pair.neighbour().established(), "{:?}", pair.neighbour());
    }

    // They end the session and begin anew.
    let before = pair.sessions();
    pair.theirs().reset(OURS).unwrap();
    pair.wait("new session", |pair| pair.sessions() > before);
    pair.wait_established();
    for (ours, theirs) in OUR_PREFIXES.into_iter().zip(THEIR_PREFIXES) {
        pair.wait_they_know(ours, true);
        pair.wait_we_know(theirs, true);
    }
}

pub(crate) fn secured(mut pair: Pair) {
    let neighbour = "password = \"secret-of-both\"\nttl-security = true\n";
    pair.start(&Ours { neighbour, originate: &OUR_PREFIXES }, |settings| {
        settings.originate = THEIR_PREFIXES.map(str::to_owned).to_vec();
        settings.neighbours[0].password = Some("secret-of-both".into());
        settings.neighbours[0].ttl_security = true;
    });
    for (ours, theirs) in OUR_PREFIXES.into_iter().zip(THEIR_PREFIXES) {
        pair.wait_they_know(ours, true);
        pair.wait_we_know(theirs, true);
    }
}
