//! A side that falls silent, and sides that restart (RFC 4724).

use altitude_perf::lab::Software;
use nix::sys::signal::Signal;

use crate::pair::{LIMIT, OURS, Ours, Pair};

const OUR_PREFIX: &str = "10.8.0.0/16";
const THEIR_PREFIX: &str = "10.7.0.0/16";
/// Long enough for a restart, seconds.
const RESTART: u16 = 60;

pub(crate) fn hold_time(mut pair: Pair) {
    pair.start(&Ours { originate: &[OUR_PREFIX], ..Ours::default() }, |settings| {
        settings.originate = vec![THEIR_PREFIX.into()];
    });
    pair.wait_we_know(THEIR_PREFIX, true);
    pair.theirs().freeze().unwrap();
    pair.wait("end of the session", |pair| pair.neighbour().last_down().contains("Hold Timer Expired"));
    pair.wait_we_know(THEIR_PREFIX, false);
    pair.theirs().thaw().unwrap();
    pair.wait_established();
    pair.wait_we_know(THEIR_PREFIX, true);

    pair.wait_they_know(OUR_PREFIX, true);
    pair.stand.router("ours").process.signal(Signal::SIGSTOP).unwrap();
    pair.wait("end of their session", |pair| !pair.theirs().session(OURS).unwrap().established);
    pair.wait_they_know(OUR_PREFIX, false);
    pair.stand.router("ours").process.signal(Signal::SIGCONT).unwrap();
    pair.wait_established();
    pair.wait_they_know(OUR_PREFIX, true);
}

pub(crate) fn theirs(mut pair: Pair) {
    pair.start(&Ours { originate: &[OUR_PREFIX], ..Ours::default() }, |settings| {
        settings.originate = vec![THEIR_PREFIX.into()];
        settings.neighbours[0].graceful_restart = Some(RESTART);
    });
    pair.wait_we_know(THEIR_PREFIX, true);
    let before = pair.sessions();
    pair.theirs().kill().unwrap();
    pair.wait("end of the session", |pair| !pair.neighbour().established());
    assert!(pair.we_know(THEIR_PREFIX), "routes of a neighbour that restarts are kept");
    pair.theirs().restart().unwrap();
    pair.wait("new session", |pair| {
        assert!(pair.we_know(THEIR_PREFIX), "the route went during the restart");
        pair.sessions() > before
    });
    pair.wait_established();
    pair.wait("end of the restart", |pair| {
        assert!(pair.we_know(THEIR_PREFIX), "the route went during the restart");
        !pair.neighbour().has_stale_routes()
    });
    pair.wait_they_know(OUR_PREFIX, true);
}

pub(crate) fn ours(mut pair: Pair) {
    let start = |pair: &mut Pair| {
        pair.start_ours(&Ours { originate: &[OUR_PREFIX], ..Ours::default() });
    };
    pair.start_carrier();
    start(&mut pair);
    pair.start_theirs(|settings| {
        settings.originate = vec![THEIR_PREFIX.into()];
        settings.neighbours[0].graceful_restart = Some(RESTART);
    });
    pair.wait_established();
    pair.wait_they_know(OUR_PREFIX, true);
    let place = pair.stand.plan.place("ours");
    // What ends it without a word to its neighbours.
    let router = pair.stand.routers[place].as_mut().unwrap();
    router.process.signal(Signal::SIGUSR1).unwrap();
    router.process.wait(LIMIT).unwrap();
    pair.wait("end of their session", |pair| !pair.theirs().session(OURS).unwrap().established);
    let route = pair.theirs().route(OUR_PREFIX).unwrap().expect("a route kept over our restart");
    // BIRD shows no mark in this answer.
    assert!(route.stale || pair.software == Software::Bird, "{route:?}");
    start(&mut pair);
    pair.wait("new session", |pair| {
        assert!(pair.theirs().route(OUR_PREFIX).unwrap().is_some(), "the route went during our restart");
        pair.neighbour().established()
    });
    pair.wait("fresh route", |pair| {
        let route = pair.theirs().route(OUR_PREFIX).unwrap();
        !route.expect("the route went during our restart").stale
    });
    pair.wait_we_know(THEIR_PREFIX, true);
}
