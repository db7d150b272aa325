use std::time::Instant;

use super::*;
use crate::mapping::{EidPrefix, Prefix};

const PORT: PortIndex = 3;
const AT_HOME: u32 = 5;

fn instance(number: u32) -> InstanceId {
    InstanceId::new(number).unwrap()
}

/// A small generator: the same numbers each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.0 >> 33) as usize) % sides
    }

    fn address(&mut self, v4: bool) -> IpAddr {
        let last = self.roll(4) as u8;
        let text = if v4 { format!("10.0.0.{last}") } else { format!("2001:db8::{last}") };
        text.parse().unwrap()
    }

    /// An IP packet around `payload`, with a right checksum or a wrong one.
    fn ip(&mut self, payload: &[u8]) -> Vec<u8> {
        let v4 = self.roll(2) == 0;
        let (source, destination) = (self.address(v4), self.address(v4));
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options = 4 * [0, 0, 1, 10][self.roll(4)];
                let mut octets = vec![0; 20 + options];
                octets[0] = 0x40 | (5 + options / 4) as u8;
                octets[2..4].copy_from_slice(&((20 + options + payload.len()) as u16).to_be_bytes());
                (octets[8], octets[9]) = (64, 17);
                octets[12..16].copy_from_slice(&source.octets());
                octets[16..20].copy_from_slice(&destination.octets());
                let sum = crate::wire::checksum::checksum(&octets) ^ u16::from(self.roll(8) == 0);
                octets[10..12].copy_from_slice(&sum.to_be_bytes());
                [&octets, payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut octets = vec![0x60, 0, 0, 0];
                octets.extend((payload.len() as u16).to_be_bytes());
                octets.extend([17, 64]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
                [&octets, payload].concat()
            }
            _ => unreachable!("both of one family"),
        }
    }

    fn udp(&mut self, payload: &[u8]) -> Vec<u8> {
        let port: u16 = if self.roll(3) == 0 { 53 } else { 4341 };
        let length = (8 + payload.len()) as u16;
        [&[0x12, 0x34], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
    }

    fn frame(&mut self) -> Vec<u8> {
        let inner = self.ip(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let packet = if self.roll(2) == 0 {
            inner
        } else {
            let flags = if self.roll(2) == 0 { 0x08 } else { 0 };
            let lisp = [&[flags, 0, 0, 0, 0, 0, self.roll(3) as u8 * AT_HOME as u8, 0], &inner[..]].concat();
            let udp = self.udp(&lisp);
            self.ip(&udp)
        };
        let tag: &[u8] = if self.roll(3) == 0 { &[0x81, 0, 0, 9] } else { &[] };
        let ethertype: [u8; 2] = match (packet[0] >> 4, self.roll(12)) {
            (_, 0) => [0x88, 0xcc],
            (4, _) => [0x08, 0x00],
            _ => [0x86, 0xdd],
        };
        let mut octets = [&[2; 12], tag, &ethertype, &packet].concat();
        if self.roll(6) == 0 {
            octets.truncate(self.roll(octets.len()));
        }
        octets
    }

    fn filter(&mut self) -> Filter {
        let v4 = self.roll(2) == 0;
        let length = if v4 { [0, 24, 31, 32][self.roll(4)] } else { [0, 64, 127, 128][self.roll(4)] };
        let prefix = Prefix::new(self.address(v4), length).unwrap();
        let eid = EidPrefix { instance: instance([0, AT_HOME][self.roll(2)]), prefix };
        let v4 = self.roll(2) == 0;
        let rloc = self.address(v4);
        let named = self.roll(4);
        Filter {
            trace: 1,
            eid: (named & 1 == 1).then_some(eid),
            rloc: (named & 2 == 2).then_some(rloc),
            ports: u16::MAX,
            reasons: None,
            snaplen: 100,
        }
    }
}

fn note(fate: Fate) -> Note {
    Note { at: Instant::now(), port: PORT, side: Side::In, came: Came::Arrived, fate, egress: None }
}

/// The first question never loses what the second one wants, and of packets that go nowhere both say the same.
#[test]
fn what_is_let_go_before_the_copy_is_what_nobody_wants() {
    let mut dice = Dice(7);
    let (mut wanted, mut let_go) = (0, 0);
    for round in 0..200_000 {
        let (octets, filter) = (dice.frame(), dice.filter());
        let sieve = Sieve::new(filter);
        let home = instance([0, AT_HOME][dice.roll(2)]);
        let sought = sieve.seek(&octets, PORT, home, &Lead::Way(None));
        let wants = filter.wants(&note(Fate::Decapsulated), &octets, home);
        assert_eq!(sought.is_some(), wants, "{round}: {filter:?} of {octets:02x?}");
        wanted += u32::from(wants);
        let_go += u32::from(!wants);
        // Into a tunnel to nobody knows where: only what is written tells.
        let to = [filter.rloc.unwrap_or(IpAddr::from([9; 4])), IpAddr::from([9; 4])];
        let sought = sieve.seek(&octets, PORT, home, &Lead::Tunnel);
        for fate in to.map(Fate::Reencapsulated) {
            let wants = filter.wants(&note(fate), &octets, home);
            let told = sought.is_some_and(|sought| filter.wants_sought(&note(fate), sought));
            assert_eq!(told, wants, "{round}: {filter:?} of {octets:02x?}, {fate:?}");
        }
    }
    assert!(wanted > 20_000 && let_go > 20_000, "{wanted} and {let_go}");
}
