//! The list says what the trie says, or nothing; and it does say something where it can.

use super::super::{Delivery, Forwarding, Reader, Writer, new};
use crate::{
    mapping::{EidPrefix, InstanceId},
    verdict::Reason,
};

use super::LISTED_MAX;

const LOCAL: Forwarding = Forwarding::Local(Delivery::Unresolved);
const FOREIGN: Forwarding = Forwarding::Drop(Reason::ActDrop);

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

/// What the list says of an address of the default instance.
fn holds(reader: &mut Reader, address: &str) -> Option<bool> {
    reader.snapshot().ours(InstanceId::DEFAULT).holds(address.parse().unwrap())
}

/// One change after the other, and what is then said of 10.1.2.3 and 2001:db8::1.
#[test]
fn the_list_follows_every_change() {
    let (mut writer, mut readers) = new(100, 1);
    let said = |readers: &mut Vec<Reader>| (holds(&mut readers[0], "10.1.2.3"), holds(&mut readers[0], "2001:db8::1"));
    assert_eq!(said(&mut readers), (Some(false), Some(false)), "an empty table");
    let put = Some;
    let script = [
        ("2001:db8::/32", put(LOCAL), (Some(false), Some(true))),
        ("10.1.2.3/32", put(LOCAL), (Some(true), Some(true))),
        ("10.0.0.0/8", put(LOCAL), (Some(true), Some(true))),
        ("10.1.2.3/32", None, (Some(true), Some(true))),
        // Elsewhere: no matter.
        ("11.0.0.0/8", put(FOREIGN), (Some(true), Some(true))),
        // A hole, wherever it is: only the trie knows.
        ("10.9.0.0/16", put(FOREIGN), (None, Some(true))),
        ("2001:db8::/48", put(FOREIGN), (None, None)),
        ("10.9.0.0/16", put(LOCAL), (Some(true), None)),
        ("10.9.0.0/16", put(FOREIGN), (None, None)),
        ("10.9.0.0/16", None, (Some(true), None)),
        ("2001:db8::/32", put(FOREIGN), (Some(true), Some(false))),
        ("10.1.2.0/24", put(LOCAL), (Some(true), Some(false))),
        // What it covered is outermost now.
        ("10.0.0.0/8", None, (Some(true), Some(false))),
        ("10.1.2.0/24", None, (Some(false), Some(false))),
        ("0.0.0.0/0", put(FOREIGN), (Some(false), Some(false))),
        // A prefix that comes after the hole in it.
        ("8.0.0.0/6", put(LOCAL), (None, Some(false))),
        ("11.0.0.0/8", None, (Some(true), Some(false))),
        ("0.0.0.0/0", put(LOCAL), (Some(true), Some(false))),
    ];
    for (step, (prefix, change, expected)) in script.into_iter().enumerate() {
        match change {
            Some(forwarding) => writer.insert(eid(prefix), forwarding).unwrap(),
            None => assert!(writer.remove(&eid(prefix))),
        }
        writer.publish();
        assert_eq!(said(&mut readers), expected, "step {step}: {prefix}");
    }
}

#[test]
fn more_than_a_list_holds_is_left_to_the_trie() {
    let (mut writer, mut readers) = new(100, 1);
    let site = |number: usize| eid(&format!("10.{number}.0.0/16"));
    for number in 0..LISTED_MAX {
        writer.insert(site(number), LOCAL).unwrap();
    }
    assert_eq!(holds(&mut readers[0], "10.0.0.1"), Some(true));
    writer.insert(site(LISTED_MAX), LOCAL).unwrap();
    // Not looked at while there is no list, and found again with it.
    writer.insert(eid("10.2.3.0/24"), FOREIGN).unwrap();
    assert_eq!(holds(&mut readers[0], "10.0.0.1"), None);
    writer.remove(&site(LISTED_MAX));
    assert_eq!(holds(&mut readers[0], "10.0.0.1"), None, "there is a hole");
    writer.remove(&eid("10.2.3.0/24"));
    assert_eq!(holds(&mut readers[0], "10.0.0.1"), Some(true));
    assert_eq!(holds(&mut readers[0], "10.99.0.1"), Some(false));
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 27
}

fn agree(writer: &mut Writer, reader: &mut Reader, state: &mut u64) -> usize {
    writer.publish();
    let snapshot = reader.snapshot();
    let mut told = 0;
    for _ in 0..20 {
        let random = next(state);
        let instance = InstanceId::new((random >> 8 & 1) as u32).unwrap();
        let octets = [10, (random >> 16 & 3) as u8, (random >> 24 & 3) as u8, (random >> 32) as u8];
        let address = if random & 1 == 0 { octets.into() } else { wide(octets) };
        let entry = snapshot.lookup(instance, address);
        let local = entry.is_some_and(|entry| snapshot.is_local(entry));
        if let Some(said) = snapshot.ours(instance).holds(address) {
            assert_eq!(said, local, "{address}");
            told += 1;
        }
    }
    told
}

fn wide([a, b, c, d]: [u8; 4]) -> std::net::IpAddr {
    std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(u32::from_be_bytes([a, b, c, d]))).into()
}

#[test]
fn the_list_agrees_with_the_trie_under_random_changes() {
    let (mut writer, mut readers) = new(2000, 1);
    let (mut state, mut told, mut there) = (7, 0, Vec::new());
    for _ in 0..20_000 {
        let random = next(&mut state);
        let instance = InstanceId::new((random & 1) as u32).unwrap();
        let octets = [10, (random >> 8 & 3) as u8, (random >> 16 & 3) as u8, (random >> 24) as u8];
        let length = [8, 15, 16, 23, 24, 32][(random >> 32) as usize % 6];
        let prefix = if random >> 40 & 1 == 0 {
            crate::mapping::Prefix::new(octets.into(), length)
        } else {
            crate::mapping::Prefix::new(wide(octets), 96 + length)
        };
        let eid = EidPrefix { instance, prefix: prefix.unwrap() };
        let forwarding = if random >> 48 & 7 < 6 { LOCAL } else { FOREIGN };
        // Emptied again and again: few changes leave a list as it is for long.
        if random >> 56 < 16 {
            there.drain(..).for_each(|eid| {
                writer.remove(&eid);
            });
        } else if random >> 56 < 80 && !there.is_empty() {
            let gone = there.swap_remove((random >> 20) as usize % there.len());
            writer.remove(&gone);
        } else {
            writer.insert(eid, forwarding).unwrap();
            there.push(eid);
        }
        told += agree(&mut writer, &mut readers[0], &mut state);
    }
    assert!(told > 100_000, "the list told of {told} addresses only");
    there.iter().for_each(|eid| {
        writer.remove(eid);
    });
    writer.publish();
    readers[0].snapshot();
    assert_eq!(writer.reclaim(), 0);
    assert_eq!((writer.store.ours4.extent().0, writer.store.ours6.extent().0), (0, 0), "a list leaked");
    assert!(writer.store.ours.is_empty());
}
