//! PubSub subscriptions as the mapping API shows them.

use std::{ops::Bound, time::Instant};

use altitude_control::{
    api::{SubscriptionStatus, SubscriptionsAfter, SubscriptionsPage},
    map_server::{MapServer, Subscriber as Other},
    pubsub::{Subscribed, Subscriber},
    wire::XtrIdentity,
};

/// Ours, then those at our Map-Server, then those that nobody has confirmed there: at most `max`, after this one.
pub(super) fn page(
    ours: Option<&Subscriber>,
    server: &MapServer,
    after: Option<SubscriptionsAfter>,
    max: usize,
    now: Instant,
) -> SubscriptionsPage {
    // Where each of the three parts begins; none: it is behind.
    let (own_from, others_from, asks_after) = match after {
        None => (Some(Bound::Unbounded), Some(Bound::Unbounded), 0),
        Some(SubscriptionsAfter::Ours(eid)) => (Some(Bound::Excluded(eid)), Some(Bound::Unbounded), 0),
        Some(SubscriptionsAfter::Others(xtr_id, site_id, eid)) => {
            (None, Some(Bound::Excluded((XtrIdentity { xtr_id, site_id }, eid))), 0)
        }
        Some(SubscriptionsAfter::Unconfirmed(place)) => (None, None, place),
    };
    let ours = ours.zip(own_from).into_iter().flat_map(|(ours, from)| ours.iter_from(from));
    let ours = ours.map(|one| (SubscriptionsAfter::Ours(one.eid), own(&one, now)));
    let others = others_from.into_iter().flat_map(|from| server.subscriptions(from));
    let others =
        others.map(|one| (SubscriptionsAfter::Others(one.xtr.xtr_id, one.xtr.site_id, one.eid), other(&one, now)));
    let asks = server.unconfirmed(asks_after);
    let asks = asks.map(|(place, one)| (SubscriptionsAfter::Unconfirmed(place), other(&one, now)));
    let (mut page, mut last) = (SubscriptionsPage::default(), None);
    for (name, status) in ours.chain(others).chain(asks) {
        // An xTR has as many to one prefix as it has LISP-SEC keys: they are one to who goes on after them.
        if page.list.len() >= max && last.as_ref() != Some(&name) {
            page.next = last;
            break;
        }
        page.list.push(status);
        last = Some(name);
    }
    page
}

fn own(one: &Subscribed, now: Instant) -> SubscriptionStatus {
    SubscriptionStatus {
        ours: true,
        eid: one.eid,
        standing: one.standing.name(),
        since: now.saturating_duration_since(one.since),
        left: None,
        nonce: one.nonce,
        count: one.notifies,
        xtr: None,
        peers: one.server.into_iter().collect(),
    }
}

fn other(one: &Other<'_>, now: Instant) -> SubscriptionStatus {
    SubscriptionStatus {
        ours: false,
        eid: one.eid,
        standing: match (one.unacknowledged, one.confirmed) {
            (_, false) => "unconfirmed",
            (true, true) => "unacknowledged",
            (false, true) => "confirmed",
        },
        since: now.saturating_duration_since(one.since),
        left: one.until.map(|until| until.saturating_duration_since(now)),
        nonce: one.nonce,
        count: one.pending as u64,
        xtr: Some((one.xtr.xtr_id, one.xtr.site_id)),
        peers: one.rlocs.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use altitude_control::{
        lisp_sec::{
            asking::Asking,
            gate::{self, Client, Gate},
            keys::SharedKey,
        },
        map_server::{Input, Output, Peer, Publishing, Settings, Site},
        pubsub,
        wire::{Algorithm, Form, Key, MapNotify, MapRequest, Message, lisp_sec::Hash},
    };
    use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId};

    use super::*;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn key() -> Key {
        Key::new(1, Algorithm::Sha256, b"of all")
    }

    fn ours(count: u8) -> Subscriber {
        let settings = pubsub::Settings {
            xtr: XtrIdentity { xtr_id: [1; 16], site_id: 0 },
            itr_rlocs: vec![[240, 0, 254, 10].into()],
            keys: vec![key()],
            security: None,
            lookups: false,
            fixed: (0..count).map(|number| eid(&format!("10.0.{number}.0/24"))).collect(),
            database: Vec::new(),
            shortest: [8, 16],
            subscriptions_max: 100,
            first_nonce: 1,
        };
        Subscriber::new(settings, Instant::now(), &mut || 0)
    }

    /// Others subscribe to prefixes of nobody; every other one says that it got the answer.
    fn server(count: u8) -> MapServer {
        let (now, rloc) = (Instant::now(), SocketAddr::from(([240, 0, 254, 20], 4342)));
        let site = Site { eids: vec![eid("2.2.0.0/16")], keys: vec![key()], ..Site::default() };
        let peers = vec![Peer { xtr_id: None, keys: vec![key()], eids: Vec::new() }];
        let settings = Settings::new(vec![site], vec![[240, 0, 254, 1].into()]);
        let mut server = MapServer::new(Settings { publishing: Some(Publishing::new(peers)), ..settings }, now);
        for number in 0..count {
            let wanted = eid(&format!("10.1.{number}.0/24"));
            let mut request = MapRequest::lookup(u64::from(number) + 1, None, &[rloc.ip()], wanted);
            request.xtr = Some(XtrIdentity { xtr_id: [number; 16], site_id: 3 });
            request.records[0].notify = true;
            let host = Eid { instance: wanted.instance, address: wanted.prefix.address() };
            let mut todo = Vec::new();
            let input = Input::Request { eid: host, request: &request, source: rloc, packet: &[], protection: None };
            server.step(now, input, &mut todo);
            let [Output::Notify { octets, .. }] = &todo[..] else { panic!("{todo:?}") };
            let Ok(Message::MapNotify(notify)) = Message::parse(octets) else { panic!("{octets:?}") };
            if number % 2 == 0 {
                let octets = MapNotify { ack: true, ..notify }.signed(&key(), Form::default());
                let Ok(Message::MapNotify(ack)) = Message::parse(&octets) else { panic!("{octets:?}") };
                server.step(now, Input::Acknowledge { message: &ack, octets: &octets }, &mut Vec::new());
            }
        }
        server
    }

    /// PS-10: what one xTR has to one prefix under several LISP-SEC keys comes on one page, each once.
    #[test]
    fn those_of_one_name_stay_together() {
        let (now, rloc) = (Instant::now(), SocketAddr::from(([240, 0, 254, 20], 4342)));
        let peers = vec![Peer { xtr_id: None, keys: Vec::new(), eids: Vec::new() }];
        let settings = Settings::new(Vec::new(), vec![[240, 0, 254, 1].into()]);
        let mut server = MapServer::new(Settings { publishing: Some(Publishing::new(peers)), ..settings }, now);
        for (nonce, secret) in (1..=4).zip([&b"of one"[..], b"of another", b"of a third", b"of one"]) {
            let wanted = eid(if nonce == 4 { "10.2.0.0/24" } else { "10.1.0.0/24" });
            let mut request = MapRequest::lookup(nonce, None, &[rloc.ip()], wanted);
            request.xtr = Some(XtrIdentity { xtr_id: [1; 16], site_id: 3 });
            request.records[0].notify = true;
            let key = SharedKey::new(9, secret);
            let asking = Asking { key: key.clone(), algorithms: vec![Hash::Sha256], downgrade: false };
            let (sealed, octets) = asking.seal(nonce, 0, &mut || nonce);
            let clients = vec![Client { from: Vec::new(), keys: vec![key] }];
            let gate = Gate::new(Some(gate::Settings { clients, ..gate::Settings::default() }));
            let protection = gate.admit(rloc.ip(), nonce, Some(&octets)).unwrap();
            let host = Eid { instance: wanted.instance, address: wanted.prefix.address() };
            let mut todo = Vec::new();
            let protection = protection.as_ref();
            server.step(
                now,
                Input::Request { eid: host, request: &request, source: rloc, packet: &[], protection },
                &mut todo,
            );
            let [Output::Notify { octets, .. }] = &todo[..] else { panic!("{todo:?}") };
            let Ok(Message::MapNotify(notify)) = Message::parse(octets) else { panic!("{octets:?}") };
            let octets = MapNotify { ack: true, ..notify }.signed(&sealed.pubsub_key(nonce), Form::default());
            let Ok(Message::MapNotify(ack)) = Message::parse(&octets) else { panic!("{octets:?}") };
            server.step(now, Input::Acknowledge { message: &ack, octets: &octets }, &mut Vec::new());
        }
        for (max, pages) in [(1, [3, 1]), (2, [3, 1]), (3, [3, 1]), (4, [4, 0])] {
            let first = page(None, &server, None, max, now);
            let rest = first.next.map_or(0, |next| page(None, &server, Some(next), max, now).list.len());
            assert_eq!([first.list.len(), rest], pages, "{max}");
        }
    }

    /// PS-10: whatever the size of a page, each subscription comes once: ours, others', those that nobody has confirmed.
    #[test]
    fn pages_make_up_the_whole() {
        let (ours, server) = (ours(7), server(9));
        let now = Instant::now();
        let whole = page(Some(&ours), &server, None, 100, now);
        assert_eq!((whole.list.len(), whole.next), (16, None));
        let standings = |name: &str| whole.list.iter().filter(|one| one.standing == name).count();
        assert_eq!((standings("asking"), standings("confirmed"), standings("unconfirmed")), (7, 5, 4));
        for max in 1..20 {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = page(Some(&ours), &server, after, max, now);
                assert!(page.list.len() <= max);
                all.extend(page.list);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, whole.list, "{max}");
        }
    }
}
