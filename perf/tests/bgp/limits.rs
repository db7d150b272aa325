//! More prefixes than a neighbour may announce.

use crate::pair::{Ours, Pair};

const PREFIXES: [&str; 5] = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"];
/// Cease, Maximum Number of Prefixes Reached (RFC 4486).
const TOO_MANY: &str = "Maximum Number of Prefixes Reached";

pub(crate) fn ours(mut pair: Pair) {
    pair.start(&Ours { neighbour: "max-prefixes = 3\nmax-prefixes-action = \"idle\"\n", ..Ours::default() }, |_| ());
    for prefix in &PREFIXES[..3] {
        pair.theirs().announce(prefix).unwrap();
        pair.wait_we_know(prefix, true);
    }
    assert!(pair.neighbour().established());
    pair.theirs().announce(PREFIXES[3]).unwrap();
    pair.wait("end of the session", |pair| pair.neighbour().last_down().contains(TOO_MANY));
    for prefix in PREFIXES {
        pair.wait_we_know(prefix, false);
    }
    assert!(!pair.neighbour().established());
}

pub(crate) fn theirs(mut pair: Pair) {
    pair.start_carrier();
    pair.start_ours(&Ours { originate: &PREFIXES, ..Ours::default() });
    pair.start_theirs(|settings| settings.neighbours[0].max_prefixes = Some(3));
    pair.wait_we_say("the neighbour sent", TOO_MANY);
}
