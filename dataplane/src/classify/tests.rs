use proptest::prelude::*;

use super::*;

/// A right IPv4 packet with everything that varies drawn by chance, cut or padded to `length` octets.
fn packet(options: usize, fragment: u16, total: u16, rest: [u8; 16], length: usize) -> Vec<u8> {
    let mut octets = vec![0; length.max(20 + 4 * options)];
    octets[0] = 0x45 + options as u8;
    octets[2..4].copy_from_slice(&total.to_be_bytes());
    octets[6..8].copy_from_slice(&fragment.to_be_bytes());
    octets[1] = rest[0];
    octets[8..10].copy_from_slice(&rest[1..3]);
    octets[12..20].copy_from_slice(&rest[3..11]);
    let ports = 20 + 4 * options;
    for (octet, value) in octets[ports..].iter_mut().zip(&rest[11..]) {
        *octet = *value;
    }
    let sealed = checksum::checksum(&octets[..20 + 4 * options]);
    octets[10..12].copy_from_slice(&sealed.to_be_bytes());
    octets.truncate(length);
    octets
}

fn arbitrary() -> impl Strategy<Value = Vec<u8>> {
    let options = prop_oneof![9 => Just(0), 1 => 1..=10_usize];
    let fragment = prop_oneof![6 => Just(0), 3 => Just(0x4000), 1 => any::<u16>()];
    let total = prop_oneof![1 => Just(20_u16), 4 => 20..60_u16, 1 => any::<u16>()];
    let flip = prop_oneof![4 => Just(None), 1 => any::<(prop::sample::Index, u8)>().prop_map(Some)];
    (options, fragment, total, any::<[u8; 16]>(), 0..80_usize, flip).prop_map(
        |(options, fragment, total, rest, length, flip)| {
            let mut octets = packet(options, fragment, total, rest, length);
            if let (Some((at, value)), false) = (flip, octets.is_empty()) {
                let at = at.index(octets.len());
                octets[at] ^= value;
            }
            octets
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// What is plain is right, and read alike; what is right and looks plain is plain.
    #[test]
    fn plain_headers_are_those_that_the_general_way_reads_too(octets in arbitrary()) {
        let key = FlowKey::new(7);
        let general = IpHeader::read(&octets).ok().filter(|header| {
            header.source.is_ipv4() && header.length == 20 && header.part == Part::Whole && header.total >= Plain::LENGTH
        });
        let plain = Plain::read(&octets);
        prop_assert_eq!(plain.is_some(), general.is_some());
        if let (Some(plain), Some(general)) = (plain, general) {
            prop_assert_eq!(IpAddr::V4(plain.source.into()), general.source);
            prop_assert_eq!(IpAddr::V4(plain.destination.into()), general.destination);
            prop_assert_eq!((plain.tos, plain.ttl, plain.protocol), (general.tos, general.ttl, general.protocol));
            prop_assert_eq!(usize::from(plain.total), general.total);
            prop_assert_eq!(key.flow_plain(&plain), key.flow(&octets, &general));
        }
    }

    /// The same for IPv6.
    #[test]
    fn plain_v6_headers_are_those_that_the_general_way_reads_too(octets in arbitrary_v6()) {
        let key = FlowKey::new(7);
        let general = IpHeader::read(&octets).ok().filter(|header| {
            let ports = matches!(header.protocol, TCP | UDP | SCTP);
            header.source.is_ipv6() && ports && header.total >= PlainV6::LENGTH
        });
        let plain = PlainV6::read(&octets);
        prop_assert_eq!(plain.is_some(), general.is_some());
        if let (Some(plain), Some(general)) = (plain, general) {
            prop_assert_eq!(IpAddr::V6(plain.source.into()), general.source);
            prop_assert_eq!(IpAddr::V6(plain.destination.into()), general.destination);
            prop_assert_eq!((plain.ttl, plain.protocol, plain.total), (general.ttl, general.protocol, general.total));
            prop_assert_eq!(key.flow_plain_v6(&plain), key.flow(&octets, &general));
        }
    }

    /// Every martian is suspected.
    #[test]
    fn no_martian_is_overlooked(address: u32, high: u16, low in prop_oneof![Just(0), Just(1), any::<u128>()]) {
        prop_assert!(may_be_martian(address) || !is_martian_v4(address));
        for v6 in [low, u128::from(high) << 112 | low >> 16] {
            prop_assert!(may_be_martian_v6(v6) || !is_martian(IpAddr::V6(v6.into())));
        }
    }

    #[test]
    fn multiples_of_ffff_are_told(quotient: u32, rest in 0..0xffff_u64) {
        prop_assert_eq!(is_multiple_of_ffff(u64::from(quotient) * 0xffff + rest), rest == 0);
    }
}

/// An IPv6 packet, right or nearly so.
fn arbitrary_v6() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![9 => Just(0x60_u8), 1 => any::<u8>()];
    let next = prop_oneof![6 => prop_oneof![Just(TCP), Just(UDP), Just(SCTP)], 2 => any::<u8>()];
    let payload = prop_oneof![1 => 0..6_u16, 4 => 0..60_u16, 1 => any::<u16>()];
    (first, next, payload, any::<[u8; 32]>(), any::<[u8; 6]>(), 0..120_usize).prop_map(
        |(first, next, payload, addresses, rest, length)| {
            let mut octets = vec![first, 0, 0, 0, 0, 0, next, rest[0]];
            octets[4..6].copy_from_slice(&payload.to_be_bytes());
            octets.extend(addresses);
            octets.extend(&rest[1..]);
            octets.resize(length, 0);
            octets
        },
    )
}

#[test]
fn a_packet_of_all_ones_adds_up_too() {
    // Words that add up to 0x2fffd and to 0xffff: the sum folds to all ones, never to zero.
    let rest = [0xff; 16];
    for tos in 0..=255 {
        let mut rest = rest;
        rest[0] = tos;
        let octets = packet(0, 0x4000, 64, rest, 64);
        assert!(Plain::read(&octets).is_some() && IpHeader::read(&octets).is_ok(), "tos {tos}");
    }
}

#[test]
fn all_rlocs_are_ours_however_many() {
    let v4 = |n: u32| IpAddr::V4((0xf000_0000 + n).into());
    let v6 = |n: u128| IpAddr::V6((0x2001 << 112 | n).into());
    for count in 0..10 {
        let all: Vec<IpAddr> = (0..count).map(v4).chain((0..u128::from(count)).map(v6)).collect();
        let rlocs = Rlocs::new(&all);
        assert!(all.iter().all(|address| rlocs.contains(*address)));
        assert!(!rlocs.contains(v4(count)) && !rlocs.contains(v6(count.into())));
    }
}
