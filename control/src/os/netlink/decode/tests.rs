use netlink_packet_core::NetlinkHeader;

use super::*;

const MAC: MacAddress = [2, 0, 0, 0, 0, 1];

fn octets(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    octets
}

fn decoded(message: RouteNetlinkMessage) -> Option<Input> {
    input(&octets(message)).expect("what the library wrote it reads")
}

fn link(family: AddressFamily, flags: LinkFlags) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.interface_family = family;
    link.header.index = 3;
    link.header.flags = flags;
    link.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Mtu(70_000),
        LinkAttribute::Address(MAC.to_vec()),
    ];
    link
}

#[test]
fn a_link_is_up_with_carrier_only_and_its_mtu_fits() {
    let rows = [
        (LinkFlags::Up | LinkFlags::LowerUp, true),
        (LinkFlags::Up, false), // no carrier
        (LinkFlags::LowerUp, false),
        (LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Dormant, false), // waits for 802.1X
    ];
    for (flags, up) in rows {
        let message = RouteNetlinkMessage::NewLink(link(AddressFamily::Unspec, flags));
        let expected = Input::Link { index: 3, name: "eth0".to_owned(), mac: Some(MAC), mtu: u16::MAX, up };
        assert_eq!(decoded(message), Some(expected), "{flags:?}");
    }
}

#[test]
fn a_port_that_leaves_a_bridge_is_not_gone() {
    let of_bridge = || link(AddressFamily::Bridge, LinkFlags::Up);
    assert_eq!(decoded(RouteNetlinkMessage::NewLink(of_bridge())), None);
    assert_eq!(decoded(RouteNetlinkMessage::DelLink(of_bridge())), None);
    let gone = RouteNetlinkMessage::DelLink(link(AddressFamily::Unspec, LinkFlags::empty()));
    assert_eq!(decoded(gone), Some(Input::LinkGone(3)));
}

#[test]
fn the_own_address_of_a_point_to_point_link_is_the_local_one() {
    let (near, far) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    address.header.index = 3;
    address.header.prefix_len = 32;
    address.attributes = vec![AddressAttribute::Address(far), AddressAttribute::Local(near)];
    let new = RouteNetlinkMessage::NewAddress(address.clone());
    assert_eq!(decoded(new), Some(Input::Address { index: 3, address: near, length: 32 }));
    let gone = RouteNetlinkMessage::DelAddress(address);
    assert_eq!(decoded(gone), Some(Input::AddressGone { index: 3, address: near }));
}

#[test]
fn a_neighbour_serves_in_the_states_in_which_the_kernel_would_use_it() {
    let rows = [
        // state, usable, for good
        (NeighbourState::None, false, false),
        (NeighbourState::Incomplete, false, false),
        (NeighbourState::Reachable, true, false),
        (NeighbourState::Stale, true, false),
        (NeighbourState::Delay, true, false),
        (NeighbourState::Probe, true, false),
        (NeighbourState::Failed, false, false),
        (NeighbourState::Noarp, true, true),
        (NeighbourState::Permanent, true, true),
    ];
    for (state, usable, permanent) in rows {
        let message = RouteNetlinkMessage::NewNeighbour(neighbour(state, MAC, NeighbourFlags::empty()));
        let address = IpAddr::from([192, 0, 2, 2]);
        let expected = Input::Neighbour { index: 3, address, mac: usable.then_some(MAC), permanent };
        assert_eq!(decoded(message), Some(expected), "{state:?}");
    }
}

#[test]
fn entries_without_a_usable_mac_are_none() {
    let loopback = neighbour(NeighbourState::Noarp, [0; 6], NeighbourFlags::empty());
    let address = IpAddr::from([192, 0, 2, 2]);
    let expected = Input::Neighbour { index: 3, address, mac: None, permanent: false };
    assert_eq!(decoded(RouteNetlinkMessage::NewNeighbour(loopback)), Some(expected.clone()));
    let deleted = neighbour(NeighbourState::Reachable, MAC, NeighbourFlags::empty());
    assert_eq!(decoded(RouteNetlinkMessage::DelNeighbour(deleted)), Some(expected));
    let proxy = neighbour(NeighbourState::Permanent, MAC, NeighbourFlags::Proxy);
    assert_eq!(decoded(RouteNetlinkMessage::NewNeighbour(proxy)), None);
}

fn neighbour(state: NeighbourState, mac: MacAddress, flags: NeighbourFlags) -> NeighbourMessage {
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = AddressFamily::Inet;
    neighbour.header.ifindex = 3;
    neighbour.header.state = state;
    neighbour.header.flags = flags;
    let address = NeighbourAddress::Inet([192, 0, 2, 2].into());
    neighbour.attributes =
        vec![NeighbourAttribute::Destination(address), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    neighbour
}

/// G-12: nor is a broadcast address a locator that can be reached
#[test]
fn a_route_leads_somewhere_only_if_packets_may_go_there() {
    let gateway = [192, 0, 2, 2];
    let answer = |kind: RouteType| {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.kind = kind;
        route.attributes = vec![RouteAttribute::Oif(3), RouteAttribute::Gateway(RouteAddress::Inet(gateway.into()))];
        super::route(&octets(RouteNetlinkMessage::NewRoute(route)))
    };
    let hop = RouteHop { index: 3, gateway: Some(gateway.into()), source: None };
    assert_eq!(answer(RouteType::Unicast), Some(Some(hop)));
    let nowhere = [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit];
    for kind in nowhere.into_iter().chain([RouteType::Multicast, RouteType::Broadcast]) {
        assert_eq!(answer(kind), Some(None), "{kind:?}");
    }
    assert_eq!(super::route(&[0; 3]), None);
}

#[test]
fn cached_routes_change_nothing() {
    let message = |flags| {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet6;
        route.header.flags = flags;
        octets(RouteNetlinkMessage::NewRoute(route))
    };
    assert!(changes_routes(&message(RouteFlags::empty())));
    assert!(!changes_routes(&message(RouteFlags::Cloned)));
    assert!(concerns_routes(RTM_DELNEXTHOP) && concerns_routes(RTM_NEWRULE) && !concerns_routes(RTM_BASE));
}

#[test]
fn nonsense_is_refused_not_trusted() {
    let whole = octets(RouteNetlinkMessage::NewLink(link(AddressFamily::Unspec, LinkFlags::Up)));
    for length in 0..whole.len() {
        assert_eq!(input(&whole[..length]), None, "{length} octets of {}", whole.len());
    }
}
