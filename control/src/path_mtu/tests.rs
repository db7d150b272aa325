//! Errors that are believed, those that are not, and how long.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn machine() -> PathMtu {
    PathMtu::new(Settings { rlocs: vec![ip("240.0.254.10"), ip("2001:db8:f::10")] })
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
    for (line, (told, in_use, expected)) in [
        (told(1400), true, Ok(1400)),
        (told(1400), false, Err(Foreign)), // nothing is sent there
        (TooBig { source: ip("240.0.254.11"), ..told(1400) }, true, Err(Foreign)),
        (TooBig { ports: (0xc001, 4342), ..told(1400) }, true, Err(Foreign)),
        (TooBig { ports: (0xbfff, 4341), ..told(1400) }, true, Err(Foreign)),
        (told(1535), true, Ok(1535)),
        (told(1536), true, Err(Fits)),
        (told(70_000), true, Err(Fits)),
        (told(612), true, Ok(612)),
        (told(611), true, Err(BelowFloor)),
        (told(68), true, Err(BelowFloor)),
        (told_v6(1280), true, Ok(1280)),
        (told_v6(1279), true, Err(BelowFloor)),
        (told_v6(0), true, Err(BelowFloor)),
        // A router that says no MTU means the plateau below the packet's length (RFC 1191 §7.1).
        (told(0), true, Ok(1492)),
        (TooBig { length: 1492, ..told(0) }, true, Ok(1006)),
        (TooBig { length: 9000, ..told(0) }, true, Ok(8166)),
        (TooBig { length: 600, ..told(0) }, true, Err(BelowFloor)),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut machine, mut todo) = (machine(), Vec::new());
        machine.step(Instant::now(), Input::TooBig { told, in_use }, &mut todo);
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
    let (mut machine, start) = (machine(), Instant::now());
    let no_news = Output::Discard(PathMtuFault::NoNews);
    let heard = |told| Input::TooBig { told, in_use: true };
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

/// MTU-5: what is remembered has a bound.
#[test]
fn no_more_is_learned_than_there_is_room_for() {
    let (mut machine, now) = (machine(), Instant::now());
    let to = |number: usize| IpAddr::from((0xf000_0000 + number as u32).to_be_bytes());
    for number in 0..=LOCATORS_MAX {
        let mut todo = Vec::new();
        let told = TooBig { destination: to(number), ..told(1400) };
        machine.step(now, Input::TooBig { told, in_use: true }, &mut todo);
        let full = number == LOCATORS_MAX;
        assert_eq!(todo == [Output::Discard(PathMtuFault::Full)], full, "{number}");
    }
    let mut todo = Vec::new();
    machine.step(now, Input::TooBig { told: TooBig { destination: to(0), ..told(1300) }, in_use: true }, &mut todo);
    assert_eq!((todo, machine.len()), (vec![Output::Changed(to(0))], LOCATORS_MAX));
}
