//! Errors that are believed, those that are not, and how long.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the links carry.
const LINK: Option<u16> = Some(9000);

fn machine(carries_v6: bool) -> PathMtu {
    PathMtu::new(Settings { rlocs: vec![ip("240.0.254.10"), ip("2001:db8:f::10")], carries_v6 })
}

/// What a router says of a packet of ours of 1536 octets.
fn told(mtu: u32) -> TooBig {
    TooBig { mtu, source: ip("240.0.254.10"), destination: ip("240.0.254.20"), ports: (0xc001, 4341), length: 1536 }
}

fn told_v6(mtu: u32) -> TooBig {
    TooBig { source: ip("2001:db8:f::10"), destination: ip("2001:db8:f::20"), ..told(mtu) }
}

/// MTU-5: what does not quote a packet that we could have sent has no effect, nor what is below the floors.
#[test]
fn only_what_quotes_a_packet_of_ours_is_believed() {
    use PathMtuFault::{BelowFloor, Fits, Foreign};
    for (line, (told, link, expected)) in [
        (told(1400), LINK, Ok(1400)),
        (told(1400), None, Err(Foreign)), // nothing is sent there
        (told(1400), Some(1536), Ok(1400)),
        (told(1400), Some(1535), Err(Foreign)), // longer than it could be
        (TooBig { source: ip("240.0.254.11"), ..told(1400) }, LINK, Err(Foreign)),
        (TooBig { ports: (0xc001, 4342), ..told(1400) }, LINK, Err(Foreign)),
        (TooBig { ports: (0xbfff, 4341), ..told(1400) }, LINK, Err(Foreign)),
        (told(1535), LINK, Ok(1535)),
        (told(1536), LINK, Err(Fits)),
        (told(70_000), LINK, Err(Fits)),
        (told(612), LINK, Ok(612)),
        (told(611), LINK, Err(BelowFloor)),
        (told(68), LINK, Err(BelowFloor)),
        (told_v6(1280), LINK, Ok(1280)),
        (told_v6(1279), LINK, Err(BelowFloor)),
        (told_v6(0), LINK, Err(BelowFloor)),
        // A router that says no MTU means the plateau below the packet's length (RFC 1191 §7.1).
        (told(0), LINK, Ok(1492)),
        (TooBig { length: 1492, ..told(0) }, LINK, Ok(1006)),
        (TooBig { length: 9000, ..told(0) }, LINK, Ok(8166)),
        (TooBig { length: 600, ..told(0) }, LINK, Err(BelowFloor)),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut machine, mut todo) = (machine(false), Vec::new());
        machine.step(Instant::now(), Input::TooBig { told, link }, &mut todo);
        let output = match expected {
            Ok(_) => Output::Changed(told.destination),
            Err(fault) => Output::Discard(fault),
        };
        assert_eq!((todo, machine.mtu(told.destination)), (vec![output], expected.ok()), "line {line}");
    }
}

/// MTU-4, MTU-5: each locator has an MTU of its own, which only falls until it is forgotten, ten minutes after it fell last.
#[test]
fn what_is_learned_falls_and_is_forgotten() {
    let (v4, v6) = (ip("240.0.254.20"), ip("2001:db8:f::20"));
    let (mut machine, start) = (machine(false), Instant::now());
    let no_news = Output::Discard(PathMtuFault::NoNews);
    let heard = |told| Input::TooBig { told, link: LINK };
    for (line, (seconds, input, expected, mtus, due)) in [
        (0, heard(told(1400)), vec![Output::Changed(v4)], [Some(1400), None], Some(600)),
        (10, heard(told_v6(1500)), vec![Output::Changed(v6)], [Some(1400), Some(1500)], Some(600)),
        (20, heard(told(1400)), vec![no_news], [Some(1400), Some(1500)], Some(600)),
        (20, heard(told(1450)), vec![no_news], [Some(1400), Some(1500)], Some(600)),
        (30, heard(told(1300)), vec![Output::Changed(v4)], [Some(1300), Some(1500)], Some(610)),
        (609, Input::Wake, vec![], [Some(1300), Some(1500)], Some(610)),
        (610, Input::Wake, vec![Output::Changed(v6)], [Some(1300), None], Some(630)),
        (630, Input::Wake, vec![Output::Changed(v4)], [None, None], None),
        (631, heard(told(1450)), vec![Output::Changed(v4)], [Some(1450), None], Some(1231)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut todo = Vec::new();
        machine.step(start + Duration::from_secs(seconds), input, &mut todo);
        assert_eq!((todo, [v4, v6].map(|to| machine.mtu(to))), (expected, mtus), "line {line}");
        assert_eq!(machine.due(), due.map(|due| start + Duration::from_secs(due)), "line {line}");
    }
    assert_eq!((machine.len(), machine.is_empty()), (1, false));
}

/// MTU-5: where IPv6 packets are inside, no error has the path carry less than each of them may have, be it learned before
/// or after.
#[test]
fn no_error_stops_ipv6_inside() {
    let (v4, v6) = (ip("240.0.254.20"), ip("2001:db8:f::20"));
    let start = Instant::now();
    let heard = |told| Input::TooBig { told, link: LINK };
    let below = || vec![Output::Discard(PathMtuFault::BelowFloor)];
    let mut machine = machine(true);
    for (line, (input, expected, mtus)) in [
        (heard(told(1280 + 35)), below(), [None, None]),
        (heard(told_v6(1280 + 55)), below(), [None, None]),
        // A guess goes no lower.
        (heard(TooBig { length: 1492, ..told(0) }), vec![Output::Changed(v4)], [Some(1316), None]),
        (Input::CarriesV6(false), vec![], [Some(1316), None]),
        (heard(told(1280)), vec![Output::Changed(v4)], [Some(1280), None]),
        (Input::CarriesV6(true), vec![Output::Changed(v4)], [None, None]),
        (heard(told(1280 + 36)), vec![Output::Changed(v4)], [Some(1316), None]),
        (heard(told_v6(1280 + 56)), vec![Output::Changed(v6)], [Some(1316), Some(1336)]),
        (Input::CarriesV6(false), vec![], [Some(1316), Some(1336)]),
        (heard(told(612)), vec![Output::Changed(v4)], [Some(612), Some(1336)]),
        (heard(told_v6(1280)), vec![Output::Changed(v6)], [Some(612), Some(1280)]),
        (Input::CarriesV6(false), vec![], [Some(612), Some(1280)]),
        (Input::CarriesV6(true), vec![Output::Changed(v4), Output::Changed(v6)], [None, None]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut todo = Vec::new();
        machine.step(start, input, &mut todo);
        assert_eq!((todo, [v4, v6].map(|to| machine.mtu(to))), (expected, mtus), "line {line}");
    }
    assert_eq!(machine.due(), None, "and nothing more to forget");
}

/// MTU-5: what is remembered has a bound.
#[test]
fn no_more_is_learned_than_there_is_room_for() {
    let (mut machine, now) = (machine(false), Instant::now());
    let to = |number: usize| IpAddr::from((0xf000_0000 + number as u32).to_be_bytes());
    for number in 0..=LOCATORS_MAX {
        let mut todo = Vec::new();
        let told = TooBig { destination: to(number), ..told(1400) };
        machine.step(now, Input::TooBig { told, link: LINK }, &mut todo);
        let full = number == LOCATORS_MAX;
        assert_eq!(todo == [Output::Discard(PathMtuFault::Full)], full, "{number}");
    }
    let mut todo = Vec::new();
    machine.step(now, Input::TooBig { told: TooBig { destination: to(0), ..told(1300) }, link: LINK }, &mut todo);
    assert_eq!((todo, machine.len()), (vec![Output::Changed(to(0))], LOCATORS_MAX));
}
