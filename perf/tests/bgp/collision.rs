//! Both sides dial at the same moment (RFC 4271 §6.8).

use nix::sys::signal::Signal;

use crate::pair::{Ours, Pair};

/// TCP states as the kernel writes them.
const ESTABLISHED: &str = "01";
const SYN_SENT: &str = "02";

pub(crate) fn both_dial(mut pair: Pair) {
    pair.start_carrier();
    // While the daemon's tunnel stands still, both dial; then both calls arrive.
    pair.stand.router("theirs").process.signal(Signal::SIGSTOP).unwrap();
    // With graceful restart FRR takes a connection that reaches it after the session is up for a restart of ours (RFC 4724
    // §4.2), and ends the session: a SYN of ours that was under way does that.
    pair.start_ours(&Ours { neighbour: "graceful-restart = false\n", originate: &["10.8.0.0/16"] });
    pair.start_theirs(|settings| settings.originate = vec!["10.7.0.0/16".into()]);
    pair.wait("SYN of both", |pair| ["ours", "theirs"].iter().all(|router| pair.connections(router, SYN_SENT) == 1));
    pair.stand.router("theirs").process.signal(Signal::SIGCONT).unwrap();
    pair.wait_established();
    pair.wait_they_know("10.8.0.0/16", true);
    pair.wait_we_know("10.7.0.0/16", true);
    for router in ["ours", "theirs"] {
        pair.wait("end of the other connection", |pair| {
            pair.connections(router, ESTABLISHED) == 1 && pair.connections(router, SYN_SENT) == 0
        });
    }
    assert!(pair.neighbour().established(), "{:?}", pair.neighbour());
    assert_eq!(pair.sessions(), 1, "{:?}", pair.neighbour());
}
