//! What packets have subscribers told: MISS with the packet, STALE, LSBITS.

use altitude_control::api::{MissDetail, Stale};
use altitude_perf::lab::{Family, SITES};

use super::*;

/// An xTR of a site, whose mapping has this version, with what makes packets tell something.
fn xtr(lab: &Lab, index: usize, version: u16) -> Router {
    let mut flags = lab.xtr_flags(index, Family::V4);
    for pair in flags.chunks_mut(2).filter(|pair| pair[0] == "--eid-prefix") {
        pair[1] += &format!(",version={version}");
    }
    flags.extend(["--map-versioning", "--locator-status-bits"].map(str::to_owned));
    let name = format!("xtr{}-v{version}", index + 1);
    Router::start(&name, &lab.xtrs[index], &flags, lab.folder()).unwrap()
}

#[test]
fn packets_have_subscribers_told_what_they_show() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let mut one = xtr(&lab, 0, 7);
    let mut two = xtr(&lab, 1, 9);
    let (mut listener, mut brief) = (connect(&one), connect(&one));
    let misses = Filter { detail: MissDetail::Packet, ..Filter::of(&[Op::MISS, Op::STALE, Op::LSBITS]) };
    listener.subscribe(&[misses], false).unwrap();
    brief.subscribe(&[Filter { detail: MissDetail::Header, ..Filter::of(&[Op::MISS]) }], false).unwrap();

    let [to, _] = lab.hosts(1);
    let [prefix, _] = SITES[1].eid_prefixes();
    assert_eq!(lab.ping(0, to, 3).unwrap().answered, 3);
    let missed = |client: &mut Client| loop {
        if let Event::Missed { eid, packet, from, .. } = next(client).event {
            assert_eq!(
                eid,
                EidPrefix::host(altitude_dataplane::mapping::Eid { instance: InstanceId::DEFAULT, address: to })
            );
            return (packet, from);
        }
    };
    let ((packet, from), (header, _)) = (missed(&mut listener), missed(&mut brief));
    let std::net::IpAddr::V4(v4) = to else { panic!("{to}") };
    assert_eq!((packet[0] >> 4, &packet[16..20]), (4, &v4.octets()[..]), "the packet as it came");
    assert_eq!(u16::from_be_bytes([packet[2], packet[3]]) as usize, packet.len(), "and whole");
    assert!(from.is_some_and(|from| lab.hosts(0).contains(&from)) && packet.len() > 28);
    assert_eq!(header, packet[..28], "its header and 8 octets for who asked for that");

    // The first packets with bits tell them: 32, as they carry no Instance-ID.
    let (eid, bits, width) = loop {
        if let Event::StatusBits { eid, bits, width, .. } = next(&mut listener).event {
            break (eid, bits, width);
        }
    };
    assert_eq!((eid.prefix.to_string(), bits, width), (prefix.clone(), 1, 32), "of its one locator the lowest");

    // The other site comes back with a newer mapping: its packets show that our copy is old.
    two.stop().unwrap();
    let _two = xtr(&lab, 1, 10);
    let local = stale(&lab, &mut listener, Stale::Local, to);
    assert_eq!(local, (prefix, Stale::Local, 10, 9));

    // We come back with a newer mapping: packets of the other site show that it has the old one.
    one.stop().unwrap();
    let one = xtr(&lab, 0, 8);
    let mut listener = connect(&one);
    listener.subscribe(&[Filter { table: Some(Table::Database), ..Filter::of(&[Op::STALE]) }], false).unwrap();
    let [ours, _] = SITES[0].eid_prefixes();
    assert_eq!(stale(&lab, &mut listener, Stale::Remote, to), (ours, Stale::Remote, 7, 8));
}

/// Sends packets to the other site and back until one of them shows such a copy: prefix, whose, the version seen and ours.
fn stale(lab: &Lab, listener: &mut Client, which: Stale, to: std::net::IpAddr) -> (String, Stale, u16, u16) {
    lab::wait_until("STALE", LIMIT, || {
        lab.ping(0, to, 1)?;
        while let Some(told) = listener.next_event(Some(Duration::from_millis(1))).unwrap() {
            if let Event::Stale { eid, which: found, seen, ours, .. } = told.event
                && found == which
            {
                return Ok(Some((eid.prefix.to_string(), found, seen, ours)));
            }
        }
        Ok(None)
    })
    .unwrap()
}
