//! Subscriber and Map-Server across a network that loses, delays and reorders: in the end the map-cache says what is registered.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    lisp_sec::{
        asking::Asking,
        gate::{self, Client, Gate},
        keys::SharedKey,
    },
    map_cache::{self, MapCache},
    map_server::{self, MapServer, Peer, Publishing, Site},
    wire::{MapRegister, lisp_sec::Hash},
};

const WHOLE: &str = "198.51.0.0/16";
const PARTS: [&str; 3] = ["198.51.100.0/24", "198.51.101.0/24", "198.51.100.128/25"];
/// Seconds of trouble, and of peace after them: longer than all retries and one renewal.
const TROUBLE: u64 = 400;
const PEACE: u64 = 900;

/// A message under way.
enum Message {
    Request(MapRequest, Option<Box<[u8]>>),
    Notify(Vec<u8>),
    Ack(Vec<u8>),
}

struct Model {
    server: MapServer,
    subscriber: Subscriber,
    cache: MapCache,
    /// By arrival, then by order of sending.
    network: BTreeMap<(Instant, u64), Message>,
    sent: u64,
    nonce: u64,
    /// The last random number.
    random: u64,
    gate: Gate,
    /// Pairs of loss and delay, used round and round.
    fate: Vec<(bool, u8)>,
    peaceful: bool,
    registered: BTreeMap<&'static str, [u8; 4]>,
}

fn etr_key() -> Key {
    Key::new(1, Algorithm::Sha256, b"of the site")
}

impl Model {
    /// Without LISP-SEC a key is shared beforehand.
    fn new(now: Instant, fate: Vec<(bool, u8)>, secured: bool) -> Self {
        let keys = if secured { Vec::new() } else { vec![key()] };
        let shared = SharedKey::new(7, b"of the ITR");
        let asking = Asking { key: shared.clone(), algorithms: vec![Hash::Sha256], downgrade: false };
        let clients = vec![Client { from: Vec::new(), keys: vec![shared] }];
        let site = Site { eids: vec![eid(WHOLE)], more_specifics: true, keys: vec![etr_key()], ..Site::default() };
        let peers = vec![Peer { xtr_id: None, keys: keys.clone(), eids: Vec::new() }];
        let own = map_server::Settings::new(vec![site], vec![[203, 0, 113, 200].into()]);
        let publishing = Some(Publishing::new(peers));
        let security = secured.then_some(asking);
        let fixed = Settings { fixed: vec![eid(WHOLE)], keys, security, ..super::settings() };
        Self {
            server: MapServer::new(map_server::Settings { publishing, ..own }, now),
            subscriber: Subscriber::new(fixed, now, &mut || 0),
            cache: MapCache::new(map_cache::Settings { capacity: 100 }, now),
            network: BTreeMap::new(),
            sent: 0,
            nonce: 0,
            random: 0,
            gate: Gate::new(secured.then(|| gate::Settings { clients, ..gate::Settings::default() })),
            fate,
            peaceful: false,
            registered: BTreeMap::new(),
        }
    }

    fn send(&mut self, now: Instant, message: Message) {
        let (lost, delay) = self.fate[self.sent as usize % self.fate.len()];
        self.sent += 1;
        if self.peaceful || !lost {
            let delay = if self.peaceful { 0 } else { delay };
            self.network.insert((now + Duration::from_millis(u64::from(delay) * 50), self.sent), message);
        }
    }

    fn serve(&mut self, now: Instant, input: map_server::Input<'_>) {
        let mut todo = Vec::new();
        self.server.step(now, input, &mut todo);
        for output in todo {
            if let map_server::Output::Notify { octets, to, .. } = output
                && to.ip() == self.subscriber.settings.itr_rlocs[0]
            {
                self.send(now, Message::Notify(octets));
            }
        }
    }

    /// The site's ETR registers, or takes back, one prefix.
    fn register(&mut self, now: Instant, prefix: &'static str, rloc: Option<[u8; 4]>) {
        self.nonce += 1;
        let record = rloc.map_or_else(|| gone(prefix), |rloc| at(prefix, rloc));
        match rloc {
            Some(rloc) => drop(self.registered.insert(prefix, rloc)),
            None => drop(self.registered.remove(prefix)),
        }
        let message = MapRegister { nonce: self.nonce, proxy: true, records: vec![record], ..MapRegister::default() };
        let octets = message.signed(&etr_key(), Form::default());
        let Ok(crate::wire::Message::MapRegister(message)) = crate::wire::Message::parse(&octets) else { panic!() };
        let (from, local) = (SocketAddr::from(([240, 0, 254, 99], 4342)), [203, 0, 113, 200].into());
        self.serve(now, map_server::Input::Register { from, local, message: &message, octets: &octets });
    }

    fn subscribe(&mut self, now: Instant, input: Input<'_>) {
        let mut todo = Vec::new();
        let random = &mut self.random;
        let mut next = || {
            *random += 1;
            *random
        };
        self.subscriber.step(now, input, &|_| true, &mut next, &mut todo);
        for output in todo {
            match output {
                Output::Request { message, security } => self.send(now, Message::Request(*message, security)),
                Output::Acknowledge { octets, .. } => self.send(now, Message::Ack(octets)),
                Output::Install { records, notice } => {
                    self.cache(now, map_cache::Input::Published(records, notice));
                }
                Output::Stands(..) | Output::Drop(_) | Output::Insecure(_) => {}
            }
        }
    }

    /// What the map-cache asks again about is answered by the Map-Server at once, as the resolver would have it.
    fn cache(&mut self, now: Instant, input: map_cache::Input) {
        let mut todo = Vec::new();
        self.cache.step(now, input, &|_| 0, &mut todo);
        for output in todo {
            let map_cache::Output::Refresh(prefix) = output else { continue };
            let found: Vec<Mapping> = {
                let mut records: Vec<Mapping> =
                    self.registered.iter().map(|(prefix, rloc)| at(prefix, *rloc)).collect();
                let widest = records.iter().map(|record| record.eid).filter(|wide| wide.covers(&prefix)).min();
                records.retain(|record| widest.is_some_and(|wide| wide.covers(&record.eid)));
                records
            };
            let absent = || vec![Mapping::negative(prefix, Ttl::Minutes(1), Action::NativelyForward)];
            let records = if found.is_empty() { absent() } else { found };
            self.cache(now, map_cache::Input::Install(records));
        }
    }

    fn second(&mut self, now: Instant) {
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Message::Request(request, security) => {
                    let source = SocketAddr::new(self.subscriber.settings.itr_rlocs[0], 4342);
                    let address = request.records[0].eid.prefix.address();
                    let eid = Eid { instance: InstanceId::DEFAULT, address };
                    let protection = self.gate.admit(source.ip(), request.nonce, security.as_deref()).unwrap();
                    let (request, protection) = (&request, protection.as_ref());
                    self.serve(now, map_server::Input::Request { eid, request, source, packet: &[], protection });
                }
                Message::Notify(octets) => {
                    let Ok(crate::wire::Message::MapNotify(message)) = crate::wire::Message::parse(&octets) else {
                        panic!()
                    };
                    let from = SERVER.parse().unwrap();
                    self.subscribe(now, Input::Notify { from, message, octets: &octets });
                }
                Message::Ack(octets) => {
                    let Ok(crate::wire::Message::MapNotify(message)) = crate::wire::Message::parse(&octets) else {
                        panic!()
                    };
                    self.serve(now, map_server::Input::Acknowledge { message: &message, octets: &octets });
                }
            }
        }
        if self.server.due().is_some_and(|due| due <= now) {
            self.serve(now, map_server::Input::Wake);
        }
        if self.subscriber.due().is_some_and(|due| due <= now) {
            self.subscribe(now, Input::Wake);
        }
        self.cache(now, map_cache::Input::Wake);
    }

    fn locators(&self, prefix: &str) -> Vec<IpAddr> {
        let eid = Eid { instance: InstanceId::DEFAULT, address: eid(prefix).prefix.address() };
        let cached = self.cache.lookup(eid);
        cached.iter().flat_map(|cached| cached.locators).map(|locator| locator.address).collect()
    }

    /// What the longest registered prefix says.
    fn expected(&self, prefix: &str) -> Vec<IpAddr> {
        let covering = self.registered.iter().filter(|(wide, _)| {
            let first = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: eid(prefix).prefix.address() });
            eid(wide).covers(&first)
        });
        let longest = covering.max_by_key(|(wide, _)| eid(wide).prefix.length());
        longest.map(|(_, rloc)| IpAddr::from(*rloc)).into_iter().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// PS-5, PS-7, PS-8, PS-9: with a shared key, and with keys out of One-Time Keys.
    #[test]
    fn the_map_cache_ends_up_with_what_is_registered(
        changes in prop::collection::vec((0_u64..TROUBLE, 0_usize..3, prop::option::of(1_u8..9)), 0..30),
        fate in prop::collection::vec((prop::bool::weighted(0.4), 0_u8..200), 50..200),
        secured in any::<bool>(),
    ) {
        let start = Instant::now();
        let mut model = Model::new(start, fate, secured);
        model.register(start, WHOLE, Some([240, 0, 254, 1]));
        for second in 0..TROUBLE + PEACE {
            let now = start + Duration::from_secs(second);
            model.peaceful = second >= TROUBLE;
            for (_, part, rloc) in changes.iter().filter(|(at, ..)| *at == second) {
                model.register(now, PARTS[*part], rloc.map(|last| [240, 0, 254, 10 + last]));
            }
            // Registrations are renewed.
            if second % 60 == 59 {
                for (prefix, rloc) in model.registered.clone() {
                    model.register(now, prefix, Some(rloc));
                }
            }
            model.second(now);
        }
        prop_assert_eq!(model.subscriber.iter().next().unwrap().standing, Standing::Live);
        for prefix in PARTS.iter().chain([&WHOLE]) {
            prop_assert_eq!(model.locators(prefix), model.expected(prefix), "{}", prefix);
        }
    }
}
