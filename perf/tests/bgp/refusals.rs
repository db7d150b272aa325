//! Neighbours that are not who they should be.

use crate::pair::{OURS, Ours, Pair};

pub(crate) fn another_as(mut pair: Pair) {
    pair.start_carrier();
    pair.start_ours(&Ours::default());
    pair.start_theirs(|settings| settings.asn = 65_001);
    pair.wait_we_say("we sent", "Bad Peer AS");
    assert!(!pair.neighbour().established());
    // Once it is who it should be, it is welcome.
    pair.start_theirs(|_| ());
    pair.wait_established();
}

pub(crate) fn other_as_expected(mut pair: Pair) {
    pair.start_carrier();
    pair.start_ours(&Ours::default());
    pair.start_theirs(|settings| settings.neighbours[0].asn = 65_001);
    pair.wait_we_say("the neighbour sent", "Bad Peer AS");
    assert!(!pair.neighbour().established());
    assert!(!pair.theirs().session(OURS).unwrap().established);
}

pub(crate) fn wrong_password(mut pair: Pair) {
    pair.start_carrier();
    pair.start_ours(&Ours { neighbour: "password = \"right\"\n", ..Ours::default() });
    pair.start_theirs(|settings| settings.neighbours[0].password = Some("wrong".into()));
    // The kernels drop what is signed with another key: both sides dial, neither is heard.
    for router in ["ours", "theirs"] {
        pair.wait("segment with a wrong signature", |pair| pair.tcp_count(router, "TCPMD5Failure").unwrap() > 1);
    }
    assert!(!pair.neighbour().established());
    assert!(!pair.theirs().session(OURS).unwrap().established);
    pair.start_theirs(|_| ());
    for router in ["ours", "theirs"] {
        let name = if router == "ours" { "TCPMD5NotFound" } else { "TCPMD5Unexpected" };
        pair.wait("segment without a signature", |pair| pair.tcp_count(router, name).unwrap() > 1);
    }
    assert!(!pair.neighbour().established());
    pair.start_theirs(|settings| settings.neighbours[0].password = Some("right".into()));
    pair.wait_established();
}
