//! What the mapping API shows of the speaker.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use altitude_control::{
    alt::bgp::{
        peer::{MessageCounts, Session},
        route::{AsPath, PeerId, Segment},
        settings::Settings,
        speaker::{NeighborStatus, RouteSource, RouteView, Speaker},
    },
    api::{self, BgpRoute, BgpStatus, RouteOrigin, RoutesAsked, STATES, SessionStatus, SpeakerStatus, Stat},
    config::Config,
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

/// The speaker and its neighbours.
pub(super) fn status(config: &Config, speaker: Option<&Speaker>, now: Instant) -> BgpStatus {
    let Some((speaker, settings)) = speaker.zip(config.speaker.as_ref()) else { return BgpStatus::default() };
    let ours =
        SpeakerStatus { asn: settings.asn, router_id: settings.router_id, restarting: speaker.summary().deferring };
    let neighbors = speaker.neighbors().map(|status| neighbor(config, &status, now)).collect();
    BgpStatus { speaker: Some(ours), neighbors }
}

fn neighbor(config: &Config, status: &NeighborStatus<'_>, now: Instant) -> api::NeighborStatus {
    let NeighborStatus { settings, session, .. } = status;
    let seconds = |duration: Duration| Duration::from_secs(duration.as_secs());
    let past = |moment: Instant| seconds(now.saturating_duration_since(moment));
    let until = |moment: Instant| seconds(moment.saturating_duration_since(now));
    api::NeighborStatus {
        name: settings.name.clone(),
        address: settings.remote,
        local: settings.local,
        tunnel: config.tunnels.get(settings.tunnel.0).map_or_else(String::new, |tunnel| tunnel.name.clone()),
        instance: settings.instance,
        asn: settings.asn,
        state: STATES[session.state as usize],
        since: past(session.since),
        session: session.session.as_ref().map(agreed),
        received: status.received as u64,
        advertised: status.advertised as u64,
        last_down: session.last_down.as_ref().map(|(when, reason)| (past(*when), reason.to_string())),
        retry: session.retry_at.map(until),
        stale: status.stale_until.map(until),
        stats: stats(status),
    }
}

fn agreed(session: &Session) -> SessionStatus {
    let capabilities = [
        ("ipv4-unicast", session.families.v4),
        ("ipv6-unicast", session.families.v6),
        ("4-octet-as", session.four_octet),
        ("route-refresh", session.route_refresh),
        ("enhanced-route-refresh", session.enhanced_refresh),
        ("graceful-restart", session.graceful.is_some()),
    ];
    SessionStatus {
        router_id: session.router_id,
        hold: Duration::from_secs(session.hold.into()),
        capabilities: capabilities.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()).collect(),
    }
}

fn stats(status: &NeighborStatus<'_>) -> Vec<Stat> {
    let session = &status.session;
    let messages = |names: [&'static str; 5], counts: &MessageCounts| {
        let MessageCounts { opens, updates, keepalives, notifications, refreshes } = *counts;
        let counts = [opens, updates, keepalives, notifications, refreshes];
        names.into_iter().zip(counts).map(|(name, count)| Stat::new(name, count)).collect::<Vec<_>>()
    };
    let received =
        ["opens-received", "updates-received", "keepalives-received", "notifications-received", "refreshes-received"];
    let sent = ["opens-sent", "updates-sent", "keepalives-sent", "notifications-sent", "refreshes-sent"];
    let mut stats = vec![Stat::new("sessions", session.established)];
    stats.extend(messages(received, &session.received));
    stats.extend(messages(sent, &session.sent));
    stats.extend(session.faults.iter().map(|(name, count)| Stat::new(name, count)));
    stats.extend(status.refused.iter().map(|(name, count)| Stat::new(name, count)));
    stats
}

/// Faults and refusals of all neighbours together, for the counters of the control thread.
pub(super) fn totals(speaker: Option<&Speaker>) -> Vec<Stat> {
    let mut totals: Vec<Stat> = Vec::new();
    for status in speaker.into_iter().flat_map(Speaker::neighbors) {
        for (name, count) in status.session.faults.iter().chain(status.refused.iter()) {
            match totals.iter_mut().find(|stat| stat.name == name) {
                Some(stat) => stat.value = stat.value.wrapping_add(count),
                None => totals.push(Stat::new(name, count)),
            }
        }
    }
    totals
}

/// A page of routes.
pub(super) fn routes(settings: &Settings, speaker: &Speaker, asked: RoutesAsked, max: usize) -> Vec<BgpRoute> {
    let shown = match asked.exact {
        Some(eid) => {
            let mut routes = speaker.routes(before(&eid), 1);
            routes.retain(|route| route.eid == eid);
            routes
        }
        None => speaker.routes(asked.after, max),
    };
    let mut routes = Vec::with_capacity(shown.len());
    for group in shown.chunk_by(|one, other| one.eid == other.eid) {
        for route in group {
            let neighbor = match route.source {
                RouteSource::Peer(PeerId(id)) => settings.neighbors.get(id).map(|neighbor| neighbor.name.clone()),
                RouteSource::Local | RouteSource::Aggregate => None,
            };
            routes.push(BgpRoute {
                eid: route.eid,
                origin: match route.source {
                    RouteSource::Local => RouteOrigin::Local,
                    RouteSource::Aggregate => RouteOrigin::Aggregate,
                    RouteSource::Peer(_) => RouteOrigin::Neighbor,
                },
                neighbor: neighbor.unwrap_or_default(),
                best: route.selected,
                stale: route.stale,
                why_not: why_not(route, group).to_owned(),
                as_path: as_path(&route.attributes.as_path),
                med: route.attributes.med,
                communities: route.attributes.communities.to_vec(),
            });
        }
    }
    routes
}

/// The last prefix that the order of routes can have before this one.
fn before(eid: &EidPrefix) -> Option<EidPrefix> {
    let EidPrefix { instance, prefix } = *eid;
    let within =
        |address: IpAddr, length| Prefix::new(address, length).ok().map(|prefix| EidPrefix { instance, prefix });
    let (address, length) = (prefix.address(), prefix.length());
    match (address, length) {
        (IpAddr::V6(_), 0) => within(Ipv4Addr::BROADCAST.into(), 32),
        (IpAddr::V4(_), 0) => {
            let instance = InstanceId::new(instance.get().checked_sub(1)?)?;
            let prefix = Prefix::host(Ipv6Addr::from_bits(u128::MAX).into());
            Some(EidPrefix { instance, prefix })
        }
        // The shorter prefix at the same address, or, where there can be none, the address before.
        _ => {
            let shorter = within(address, length - 1).filter(|shorter| shorter.prefix.address() == address);
            shorter.or_else(|| match address {
                IpAddr::V4(address) => within(Ipv4Addr::from_bits(address.to_bits() - 1).into(), 32),
                IpAddr::V6(address) => within(Ipv6Addr::from_bits(address.to_bits() - 1).into(), 128),
            })
        }
    }
}

/// Why the decision process (RFC 4271 §9.1.2.2) left a route out, among those to its prefix; empty for the one it took.
fn why_not(route: &RouteView, group: &[RouteView]) -> &'static str {
    if route.selected {
        return "";
    }
    if route.dampened {
        return "held back because it flaps";
    }
    let Some(best) = group.iter().find(|route| route.selected) else { return "not usable" };
    let rank = |route: &RouteView| match route.source {
        RouteSource::Local => 0,
        RouteSource::Aggregate => 1,
        RouteSource::Peer(_) => 2,
    };
    let (ours, theirs) = (&route.attributes, &best.attributes);
    let preference = |local_pref: Option<u32>| local_pref.unwrap_or(100);
    let neighbor_as = |path: &AsPath| match path.0.first() {
        Some(Segment::Sequence(asns)) => asns.first().copied(),
        _ => None,
    };
    let same_as = |other: &&RouteView| neighbor_as(&other.attributes.as_path) == neighbor_as(&ours.as_path);
    if rank(route) != rank(best) {
        "a prefix of our own"
    } else if preference(ours.local_pref) != preference(theirs.local_pref) {
        "lower LOCAL_PREF"
    } else if ours.as_path.length() != theirs.as_path.length() {
        "longer AS path"
    } else if ours.origin != theirs.origin {
        "higher ORIGIN"
    } else if group.iter().filter(same_as).any(|other| other.attributes.med.unwrap_or(0) < ours.med.unwrap_or(0)) {
        "higher MED"
    } else {
        "higher router ID or address"
    }
}

/// AS numbers with blanks between, sets in braces.
fn as_path(path: &AsPath) -> String {
    let numbers = |asns: &[u32]| asns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let segment = |segment: &Segment| match segment {
        Segment::Sequence(asns) => numbers(asns),
        Segment::Set(asns) => format!("{{{}}}", numbers(asns)),
    };
    path.0.iter().map(segment).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use altitude_control::alt::{
        bgp::route::{Attributes, Origin},
        rib::Hop,
    };

    fn route(peer: usize, path: &[u32], med: u32) -> RouteView {
        RouteView {
            eid: EidPrefix { instance: InstanceId::DEFAULT, prefix: "10.0.0.0/8".parse().unwrap() },
            source: RouteSource::Peer(PeerId(peer)),
            hop: Hop::Discard,
            selected: peer == 0,
            stale: false,
            dampened: false,
            attributes: Attributes {
                origin: Origin::Igp,
                as_path: AsPath([Segment::Sequence(path.into())].into()),
                med: Some(med),
                local_pref: None,
                atomic_aggregate: false,
                aggregator: None,
                communities: [].into(),
                foreign: [].into(),
            },
        }
    }

    #[test]
    fn a_route_is_told_why_it_was_left_out() {
        let best = route(0, &[64510, 64520], 0);
        let with = |change: &dyn Fn(&mut RouteView)| {
            let mut other = route(1, &[64511, 64520], 0);
            change(&mut other);
            why_not(&other, &[best.clone(), other.clone(), route(2, &[64512, 64520], 5)])
        };
        assert_eq!(why_not(&best, std::slice::from_ref(&best)), "");
        assert_eq!(with(&|other| other.dampened = true), "held back because it flaps");
        assert_eq!(with(&|other| other.attributes.local_pref = Some(50)), "lower LOCAL_PREF");
        assert_eq!(with(&|other| *other = route(1, &[1, 2, 3], 0)), "longer AS path");
        assert_eq!(with(&|other| other.attributes.origin = Origin::Incomplete), "higher ORIGIN");
        assert_eq!(with(&|other| *other = route(1, &[64510, 64520], 7)), "higher MED");
        // A MED counts among routes of one AS only.
        assert_eq!(with(&|other| *other = route(1, &[64511, 64520], 7)), "higher router ID or address");
        assert_eq!(with(&|other| *other = route(1, &[64512, 64520], 7)), "higher MED");
        let ours = RouteView { source: RouteSource::Local, ..best.clone() };
        assert_eq!(why_not(&route(1, &[1], 0), &[ours]), "a prefix of our own");
    }

    #[test]
    fn nothing_stands_between_a_prefix_and_the_one_before() {
        let eid = |instance, text: &str| EidPrefix {
            instance: InstanceId::new(instance).unwrap(),
            prefix: text.parse().unwrap(),
        };
        for (of, expected) in [
            (eid(0, "0.0.0.0/0"), None),
            (eid(5, "0.0.0.0/0"), Some(eid(4, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"))),
            (eid(5, "::/0"), Some(eid(5, "255.255.255.255/32"))),
            (eid(0, "10.0.0.0/8"), Some(eid(0, "10.0.0.0/7"))),
            (eid(0, "11.0.0.0/8"), Some(eid(0, "10.255.255.255/32"))),
            (eid(0, "2001:db8::/32"), Some(eid(0, "2001:db8::/31"))),
            (eid(0, "2001:db8:1::/48"), Some(eid(0, "2001:db8:0:ffff:ffff:ffff:ffff:ffff/128"))),
        ] {
            assert_eq!(before(&of), expected, "{of}");
        }
    }

    #[test]
    fn a_path_is_written_as_operators_do() {
        let path = AsPath([Segment::Sequence([1, 2].into()), Segment::Set([3, 4].into())].into());
        assert_eq!((as_path(&path).as_str(), as_path(&AsPath::default()).as_str()), ("1 2 {3 4}", ""));
    }
}
