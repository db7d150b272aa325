//! A NAT before our site: what the machine for it says is done here.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_control::{
    api::Stat,
    config::Config,
    fault::Tally,
    map_cache,
    nat::site::{Input, NatFault, Output, Settings, Site, Standing},
    registrar,
    wire::{Info, ecm, packet::UdpPacket},
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl};
use rand_chacha::{ChaCha20Rng, rand_core::Rng};

use super::{Driver, ROUND, messages::CONTROL_PORT, registration::Registration, sweeps::Bypass};

/// TTL of inner packets.
const TTL: u8 = 64;
/// The ports that data may come from, those of flows (RFC 9300 §12): the first, and how many there are.
const PORTS: (u16, u64) = (0xc000, 0x4000);

/// The machine and what belongs to it.
#[derive(Default)]
pub(super) struct NatSite {
    /// `None` unless it is switched on.
    pub(super) site: Option<Site>,
    /// What leads to an RTR.
    pub(super) led: Vec<EidPrefix>,
    /// What was learned before, and leads past it.
    pub(super) bypass: Bypass,
    questions: u64,
    notifies: u64,
    faults: Tally<NatFault>,
}

impl NatSite {
    pub(super) fn new(config: &Config, registration: &Registration, random: &mut ChaCha20Rng, now: Instant) -> Self {
        let wanted = config.nat.keepalive.zip(registration.identity);
        let site = wanted.map(|(keepalive, (xtr, _))| {
            let settings = Settings {
                rlocs: config.rlocs.clone(),
                servers: config.map_servers.clone(),
                eid: config.database.first().map(|mapping| mapping.eid),
                xtr_id: xtr.xtr_id,
                keepalive,
                port: data_port(random),
            };
            Site::new(settings, now)
        });
        Self { site, ..Self::default() }
    }

    /// Nobody could answer our Map-Requests.
    pub(super) fn is_hidden(&self) -> bool {
        self.site.as_ref().is_some_and(Site::is_hidden)
    }

    /// Map-Servers can tell us of changes.
    pub(super) fn is_open(&self) -> bool {
        self.site.as_ref().is_none_or(Site::is_open)
    }

    /// What others say of places that lead to an RTR is not taken in, or packets would pass the RTR by: it is an answer to a question
    /// from before it began to lead. That something is gone is.
    pub(super) fn let_in(&self, input: map_cache::Input) -> map_cache::Input {
        use map_cache::Input::{Install, Published};
        let is_led = |mapping: &Mapping| self.led.iter().any(|all| all.covers(&mapping.eid));
        let kept = |mut records: Vec<Mapping>| {
            records.retain(|mapping| mapping.ttl == Ttl::Remove || !is_led(mapping));
            records
        };
        match input {
            Install(records) => Install(kept(records)),
            Published(records, notice) => Published(kept(records), notice),
            other => other,
        }
    }

    fn source_port(&self) -> Option<u16> {
        self.site.as_ref().and_then(Site::source_port)
    }
}

/// The one port of a run that all data comes from behind a NAT.
fn data_port(random: &mut ChaCha20Rng) -> u16 {
    PORTS.0 + (random.next_u64() % PORTS.1) as u16
}

/// Everything there is, in the instances of our own mappings.
fn everything<'a>(database: impl Iterator<Item = &'a Mapping>) -> Vec<EidPrefix> {
    let instances: BTreeSet<InstanceId> = database.map(|mapping| mapping.eid.instance).collect();
    let all = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
    let prefixes = all.map(|address| Prefix::new(address, 0).expect("a length of 0 suits every family"));
    instances.iter().flat_map(|instance| prefixes.map(|prefix| EidPrefix { instance: *instance, prefix })).collect()
}

impl Driver<'_> {
    pub(super) fn nat_site_due(&self) -> Option<Instant> {
        self.nat_site.site.as_ref().and_then(Site::due)
    }

    pub(super) fn wake_nat_site(&mut self, now: Instant) {
        if self.nat_site_due().is_some_and(|due| due <= now) {
            self.nat_step(now, Input::Wake);
        }
    }

    /// Reads one UDP 4341 socket, where the steering program leaves Data-Map-Notifies alone; true if it may have more.
    pub(super) fn serve_data(&mut self, index: usize, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..ROUND {
            match self.sockets.data[index].receive(&mut buffer) {
                Ok((length, from)) => {
                    self.nat_site.notifies += 1;
                    self.nat_step(now, Input::Data { from, octets: &buffer[..length] });
                }
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    /// Takes in an Info-Reply.
    pub(super) fn told_of_nat(&mut self, now: Instant, local: IpAddr, from: IpAddr, message: Info, octets: &[u8]) {
        if self.nat_site.site.is_none() {
            self.nat_site.faults.count(NatFault::Unasked);
            return;
        }
        self.nat_step(now, Input::Info { local, from, message, octets });
    }

    /// The registrar hears from no Map-Server.
    pub(super) fn nothing_through_nat(&mut self, now: Instant) {
        self.nat_step(now, Input::Silent);
    }

    /// Our mappings are these now. Map-Servers know those of the file, and not all that clients of the mapping API add.
    pub(super) fn tell_nat_site(&mut self, now: Instant, database: &[Mapping]) {
        let is_there = |eid: &EidPrefix| database.iter().any(|own| own.eid == *eid);
        let written = self.config.database.iter().map(|mapping| mapping.eid).find(is_there);
        self.nat_step(now, Input::Change(written.or_else(|| Some(database.first()?.eid))));
        self.lead_again(now);
    }

    /// Sends a message for a Map-Server to an RTR, from the port that its answer and our data are to come back to
    /// (draft-ermagan-lisp-nat-traversal-19 §4.3).
    pub(super) fn send_by_rtr(&mut self, rtr: IpAddr, to: IpAddr, octets: &[u8]) -> io::Result<()> {
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no RLOC of ours is of its family");
        let towards = |to| self.nat_site.site.as_ref().and_then(|site| site.rloc_towards(to)).ok_or_else(none);
        let (source, rloc) = (towards(to)?, towards(rtr)?);
        let packet = UdpPacket {
            source: SocketAddr::new(source, CONTROL_PORT),
            destination: SocketAddr::new(to, CONTROL_PORT),
            ttl: TTL,
            payload: octets,
        };
        let message = ecm::encapsulate_for_rtr(&packet.encode());
        let socket = self.sockets.data.iter().find(|socket| socket.local() == rloc).ok_or_else(none)?;
        socket.send_to(SocketAddr::new(rtr, CONTROL_PORT), &message)
    }

    /// Of both ends: the site behind a NAT, and the RTR.
    pub(super) fn nat_stats(&self) -> Vec<Stat> {
        let own = &self.nat_site;
        let standing = own.site.as_ref().map(Site::standing);
        let mut stats = vec![
            Stat::new("behind-nat", u64::from(own.source_port().is_some())),
            Stat::new("reached-through-rtr", u64::from(matches!(standing, Some(Standing::Behind(_))))),
            Stat::new("info-requests-sent", own.questions),
            Stat::new("data-map-notifies-received", own.notifies),
        ];
        let faults = own.faults.iter().chain(self.relaying.faults().iter());
        stats.extend(faults.map(|(name, value)| Stat::new(name, value)));
        stats.extend(self.relay_stats());
        stats
    }

    /// Steps the machine and does what it says.
    fn nat_step(&mut self, now: Instant, input: Input<'_>) {
        let Some(registrar) = &mut self.registration.registrar else { return };
        let Some(mut site) = self.nat_site.site.take() else { return };
        let (before, mut todo) = (site.source_port(), Vec::new());
        site.step(now, input, &mut || registrar.nonce(), &mut todo);
        let after = site.source_port();
        self.nat_site.site = Some(site);
        if before != after {
            self.reachability.source_port = after;
            let known = self.reachability.known(&self.kernel.underlay);
            self.publisher.ports_changed(&known);
        }
        for output in todo {
            match output {
                Output::Ask { from, to, octets } => {
                    // What does not arrive is asked again.
                    let sent = self.try_send(Some(from), SocketAddr::new(to, CONTROL_PORT), &octets);
                    self.nat_site.questions += u64::from(sent.is_ok());
                }
                Output::Way(way) => drop(self.register_step(now, registrar::Input::Way(way))),
                Output::Notify { from, message, octets } => {
                    self.registration.notifies_received += 1;
                    if self.register_step(now, registrar::Input::Notify { from, delivered: true, message, octets }) {
                        self.nat_step(now, Input::Confirmed);
                        self.lead_again(now);
                    }
                }
                Output::Lead(rtr) => {
                    self.lead(now, rtr);
                    if rtr.is_some() {
                        self.forget_learned(now);
                    }
                }
                Output::Stands(standing) => report(standing),
                Output::Drop(fault) => {
                    if fault == NatFault::OtherXtr {
                        tracing::warn!(
                            "the RTR sends us what is for another xTR: see that xTR-IDs are unique, and the NAT"
                        );
                    }
                    tracing::debug!(?fault, "a message about a NAT came to nothing");
                    self.nat_site.faults.count(fault);
                }
            }
        }
    }

    /// What leads to the RTR is to be there: a client may have taken it out, and our instances may be others.
    fn lead_again(&mut self, now: Instant) {
        if let Some(Standing::Behind(rtr)) = self.nat_site.site.as_ref().map(Site::standing) {
            self.lead(now, Some(rtr));
        }
    }

    /// Has everything beyond our site go to an RTR, or nowhere in particular.
    fn lead(&mut self, now: Instant, rtr: Option<IpAddr>) {
        let all = if rtr.is_some() { everything(self.responder.database()) } else { Vec::new() };
        for eid in std::mem::replace(&mut self.nat_site.led, all.clone()) {
            if !all.contains(&eid) {
                self.cache(now, map_cache::Input::NatGone(eid));
            }
        }
        let Some(rtr) = rtr else { return };
        for eid in all {
            let mapping = Mapping::negative(eid, Ttl::ReceiverDecides, Action::NoAction);
            let locators = vec![Locator::unicast(rtr, 1, 100)];
            self.cache(now, map_cache::Input::Nat(Mapping { locators, ..mapping }));
        }
    }
}

/// One line for each change.
fn report(standing: Standing) {
    match standing {
        Standing::Unknown => tracing::debug!("nobody has said yet whether there is a NAT"),
        Standing::Open => tracing::info!("no Map-Server sees a NAT between us"),
        Standing::Stranded => tracing::warn!(
            "we are behind a NAT, and no Map-Server names an RTR: nobody can send to us; name RTRs at the Map-Server \
             ([[nat.relay]])"
        ),
        Standing::Trying(rtr) => tracing::info!(%rtr, "we are behind a NAT; registering through an RTR"),
        Standing::Behind(rtr) => tracing::info!(%rtr, "registered through the RTR; everything goes there from now on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RTR-10: each start has another port, of those that flows have.
    #[test]
    fn each_start_draws_its_port() {
        let starts = (0..64).map(|_| data_port(&mut crate::driver::messages::nonces().unwrap()));
        let ports: BTreeSet<u16> = starts.collect();
        assert!(ports.iter().all(|port| *port >= 0xc000), "{ports:?}");
        // Of 16,384 ports, 64 draws have hardly any twice.
        assert!(ports.len() > 56, "{ports:?}");
    }

    #[test]
    fn everything_is_two_prefixes_in_each_instance_of_ours() {
        let own = |instance: u32, prefix: &str| {
            let instance = InstanceId::new(instance).unwrap();
            let eid = EidPrefix { instance, prefix: prefix.parse().unwrap() };
            Mapping::negative(eid, Ttl::Minutes(1), Action::NoAction)
        };
        let all = everything([own(7, "1.1.0.0/16"), own(0, "1.2.0.0/16"), own(7, "2001:db8::/32")].iter());
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["0.0.0.0/0", "::/0", "[7]0.0.0.0/0", "[7]::/0"]);
        assert_eq!(everything([].iter()), []);
    }

    #[test]
    fn while_an_rtr_leads_nothing_is_learned_that_would_pass_it_by() {
        use map_cache::Input::{Install, Put};
        let mapping = |instance: u32, text: &str, ttl| {
            let eid = EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() };
            Mapping::negative(eid, ttl, Action::Drop)
        };
        let late = mapping(0, "2.2.0.0/16", Ttl::Minutes(60));
        let gone = mapping(0, "2.3.0.0/16", Ttl::Remove);
        let elsewhere = mapping(7, "2.2.0.0/16", Ttl::Minutes(60));
        let all = vec![late.clone(), gone.clone(), elsewhere.clone()];
        let mut site = NatSite::default();
        assert_eq!(site.let_in(Install(all.clone())), Install(all.clone()), "nobody leads");
        site.led = everything([&late].into_iter());
        assert_eq!(site.let_in(Install(all)), Install(vec![gone, elsewhere]));
        let client = Put(late, None);
        assert_eq!(site.let_in(client.clone()), client, "a client knows what it does");
    }
}
