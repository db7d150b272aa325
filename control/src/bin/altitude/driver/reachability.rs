//! Which locators work, theirs and ours: RLOC-probes, ICMP hints, the states of our own links, and SMRs.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_control::{
    api::MissReason,
    config::{Config, PathMtuName},
    echo_nonce,
    fault::Tally,
    map_cache,
    os::icmp_socket::Heard,
    path_mtu::{self, PathMtu, PathMtuFault},
    prober::{self, ProbeFault, Prober},
    resolver,
    responder::Arrival,
    smr::{self, Smr, SmrFault},
    underlay::Underlay,
    wire::{MapReply, MapRequest},
};
use altitude_dataplane::mapping::{EidPrefix, Locator, Mapping};
use rand_chacha::rand_core::Rng;

use super::{Driver, ROUND, features::Features, messages::CONTROL_PORT, tables::Known};

/// Shortest time that use of an entry counts for. Looks at a million entries take almost as long.
const USED_FOR: Duration = Duration::from_secs(60);
/// How soon a new locator-set is looked at: whether it carries more than the packet that asked for it.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// What is known of locators beyond routes.
pub(super) struct Reachability {
    /// `None` where probing is switched off.
    pub(super) prober: Option<Prober>,
    /// Locators that a client of the mapping API has taken out of use.
    pub(super) banned: BTreeSet<IpAddr>,
    smr: Smr,
    /// `None` where a path is as wide as its first link.
    pub(super) path_mtu: Option<PathMtu>,
    pub(super) features: Features,
    /// The one port that our data packets come from, behind a NAT.
    pub(super) source_port: Option<u16>,
    /// Our RLOCs that packets can come to.
    pub(super) offered: BTreeSet<IpAddr>,
    pub(super) probe_faults: Tally<ProbeFault>,
    pub(super) smr_faults: Tally<SmrFault>,
    pub(super) path_mtu_faults: Tally<PathMtuFault>,
    pub(super) counts: Counts,
}

/// Messages by kind.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) probes_sent: u64,
    pub(super) probes_confirmed: u64,
    pub(super) probes_answered: u64,
    pub(super) icmp_hints: u64,
    pub(super) smrs_sent: u64,
    pub(super) smrs_received: u64,
    /// Changes of what probes say of a locator.
    pub(super) changes: u64,
}

impl Reachability {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            prober: config.probing.clone().map(Prober::new),
            banned: BTreeSet::new(),
            source_port: None,
            path_mtu: (config.path_mtu == PathMtuName::Learn).then(|| {
                let own = config.database.iter().map(|mapping| &mapping.eid);
                let carries_v6 = carries_v6(config, own);
                PathMtu::new(path_mtu::Settings { rlocs: config.rlocs.clone(), carries_v6 })
            }),
            smr: Smr::new(smr::Settings::default()),
            features: Features::new(config, now),
            offered: config.rlocs.iter().copied().collect(),
            probe_faults: Tally::default(),
            smr_faults: Tally::default(),
            path_mtu_faults: Tally::default(),
            counts: Counts::default(),
        }
    }

    /// What the publisher asks.
    pub(super) fn known<'a>(&'a self, underlay: &'a Underlay) -> Known<'a> {
        let (prober, path_mtu, source_port) = (self.prober.as_ref(), self.path_mtu.as_ref(), self.source_port);
        Known { underlay, prober, banned: &self.banned, features: &self.features, source_port, path_mtu }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let path_mtu = self.path_mtu.as_ref().and_then(PathMtu::due);
        [self.prober.as_ref().and_then(Prober::due), path_mtu, self.smr.due(), self.features.due()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Our mappings, with R bits that say what packets can come to now (RFC 9301 §5.4). Of locators of the site's other xTRs nothing
/// is known here: they are told as the operator wrote them. To prefixes that are cut off none of ours leads.
pub(super) fn offering(
    mut database: Vec<Mapping>,
    rlocs: &[IpAddr],
    offered: &BTreeSet<IpAddr>,
    cut_off: &BTreeSet<EidPrefix>,
) -> Vec<Mapping> {
    for mapping in &mut database {
        let leads = !cut_off.contains(&mapping.eid);
        for locator in &mut mapping.locators {
            locator.reachable &= !rlocs.contains(&locator.address) || leads && offered.contains(&locator.address);
        }
    }
    database
}

/// Whether IPv6 packets may go into tunnels here, our EID-prefixes being `own`.
fn carries_v6<'a>(config: &'a Config, own: impl Iterator<Item = &'a EidPrefix>) -> bool {
    let proxies = &config.roles.proxies;
    proxies.rtr || own.chain(&proxies.aggregates).any(|eid| eid.prefix.address().is_ipv6())
}

/// ITR-RLOCs of one Map-Request that are looked at.
const ITR_RLOCS_HEARD: usize = 4;

impl Driver<'_> {
    pub(super) fn wake_reachability(&mut self, now: Instant) {
        if self.reachability.prober.as_ref().and_then(Prober::due).is_some_and(|due| due <= now) {
            self.probe(now, prober::Input::Wake);
        }
        if self.reachability.smr.due().is_some_and(|due| due <= now) {
            self.solicit(now, smr::Input::Wake);
        }
        if self.reachability.path_mtu.as_ref().and_then(PathMtu::due).is_some_and(|due| due <= now) {
            self.measure(now, path_mtu::Input::Wake);
        }
        self.wake_features(now);
    }

    /// Mappings with a new locator-set came: it is looked soon whether they are used.
    pub(super) fn look_soon(&mut self, now: Instant) {
        self.next_look = self.next_look.min(now + FIRST_LOOK);
    }

    /// Packets use a cached entry.
    pub(super) fn in_use(&mut self, now: Instant, eid: EidPrefix) {
        // Through a NAT nothing comes to port 4342, and what keeps a binding tells whether the other end is there.
        let cached = self.map_cache.get(&eid).filter(|cached| cached.origin != map_cache::Origin::Nat);
        let Some(locators) = cached.map(|cached| cached.locators.to_vec()) else { return };
        let until = now + USED_FOR.max(2 * self.map_cache.look_round());
        for locator in locators.iter().filter(|locator| locator.usable()) {
            self.solicit(now, smr::Input::Used(locator.address));
            self.nonce(now, echo_nonce::Input::Used(locator.address, until));
        }
        // Stops of a path answer no probes for others' EIDs.
        let probed: Vec<Locator> = locators.into_iter().filter(|locator| locator.hop.is_none()).collect();
        self.probe(now, prober::Input::Used { eid, locators: &probed, until });
    }

    /// A path to a locator is there again, or a packet's error says that it is gone: a probe tells more.
    pub(super) fn hint(&mut self, now: Instant, locator: IpAddr) {
        self.probe(now, prober::Input::Hint(locator));
    }

    /// Steps the prober and does what it says; gives the prefix and the locator that a reply answers for.
    fn probe(&mut self, now: Instant, input: prober::Input<'_>) -> Option<(EidPrefix, IpAddr)> {
        let Some(prober) = &mut self.reachability.prober else { return None };
        let mut todo = Vec::new();
        prober.step(now, input, &mut || self.nonces.next_u64(), &mut todo);
        let mut confirmed = None;
        for output in todo {
            match output {
                prober::Output::Probe { locator, eid, nonce } => self.send_probe(locator, eid, nonce),
                prober::Output::Changed(locator, state) => self.locator_changed(locator, state),
                prober::Output::Confirmed { eid, locator } => confirmed = Some((eid, locator)),
                prober::Output::Discard(fault) => self.reachability.probe_faults.count(fault),
            }
        }
        confirmed
    }

    /// Sends an RLOC-probe: from the RLOC that packets to the locator leave from, and only there the answer shall come.
    fn send_probe(&mut self, locator: IpAddr, eid: EidPrefix, nonce: u64) {
        self.reachability.counts.probes_sent += 1;
        let source = self.source_towards(locator);
        let request = prober::request(nonce, source, eid);
        tracing::debug!(%locator, %eid, nonce = format_args!("{nonce:#018x}"), "RLOC-probe");
        // A probe that was not sent is one without an answer.
        let _ = self.try_send(source, SocketAddr::new(locator, CONTROL_PORT), &request.encode());
    }

    fn locator_changed(&mut self, locator: IpAddr, state: prober::State) {
        self.reachability.counts.changes += 1;
        match state {
            prober::State::Up => tracing::info!(%locator, "locator is up: it answers RLOC-probes"),
            prober::State::Down => tracing::warn!(%locator, "locator is down: no answer to RLOC-probes"),
            prober::State::Held => {
                tracing::warn!(%locator, "locator answers again, and comes and goes; it is avoided where another answers");
            }
            prober::State::Mute => {
                tracing::info!(%locator, "locator answers no RLOC-probes; it is avoided where another does");
            }
            prober::State::Unknown => tracing::debug!(%locator, "locator is not used any more"),
        }
        let known = self.reachability.known(&self.kernel.underlay);
        self.publisher.path_changed(locator, &known);
        self.probe_news(locator, state);
    }

    /// Takes in a Map-Reply with the P bit. What it says of the prefix asked about refreshes the mapping (RFC 9301 §7.1).
    pub(super) fn probe_replied(&mut self, now: Instant, reply: MapReply) {
        let refused = self.reachability.probe_faults.get(ProbeFault::NonceUnknown);
        let confirmed = self.probe(now, prober::Input::Reply(&reply));
        let Some((asked, locator)) = confirmed else {
            // Not one of the prober's nonces: perhaps a refresh that was asked of a locator.
            if self.reachability.prober.is_none()
                || self.reachability.probe_faults.get(ProbeFault::NonceUnknown) > refused
            {
                self.resolve(now, resolver::Input::Reply(reply));
            }
            return;
        };
        self.reachability.counts.probes_confirmed += 1;
        self.hear_echoes(now, &reply.records, reply.echo_nonce);
        // The locator that a probe found speaks for itself, whatever its echoes did.
        self.nonce(now, echo_nonce::Input::Answered(locator));
        let learned = |cached: map_cache::Cached<'_>| {
            matches!(cached.origin, map_cache::Origin::Reply | map_cache::Origin::PubSub)
        };
        if !self.map_cache.get(&asked).is_some_and(learned) {
            return;
        }
        match self.resolver.confirmed(&asked, reply.records) {
            Ok(records) => {
                let records: Vec<Mapping> = records.into_iter().map(|record| self.as_cached(record)).collect();
                if self.resolver.is_secured() {
                    return self.doubt_mapping(now, asked, &records);
                }
                self.cache(now, map_cache::Input::Install(records));
            }
            Err(fault) => self.faults.resolver.count(fault),
        }
    }

    /// With LISP-SEC a probe tells of locators alone: where it says something else than is cached, the mapping system is asked.
    fn doubt_mapping(&mut self, now: Instant, asked: EidPrefix, records: &[Mapping]) {
        let cached = |record: &Mapping| self.map_cache.get(&record.eid).map(|cached| cached.mapping());
        if records.iter().any(|record| resolver::says_other(cached(record).as_ref(), record)) {
            self.resolve(now, resolver::Input::Refresh(asked));
        }
    }

    /// The record with the L bits that are cached: each xTR of a site sets its own, and that alone makes no other mapping.
    fn as_cached(&self, mut record: Mapping) -> Mapping {
        let Some(cached) = self.map_cache.get(&record.eid) else { return record };
        for locator in &mut record.locators {
            let same = |other: &&Locator| other.address == locator.address;
            locator.local = cached.locators.iter().find(same).map_or(locator.local, |other| other.local);
        }
        record
    }

    /// Reads a socket of ICMP errors; true if it may have more. An error proves nothing, but a probe does (RFC 9301 §7).
    pub(super) fn serve_icmp(&mut self, index: usize, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..ROUND {
            match self.sockets.hints[index].receive(&mut buffer) {
                Ok(Some(Heard::TooBig(told))) => {
                    let to = Some(told.destination).filter(|to| self.publisher.sends_to(*to));
                    let link = to.and_then(|to| self.kernel.underlay.adjacency(to)).map(|adjacency| adjacency.mtu);
                    self.measure(now, path_mtu::Input::TooBig { told, link });
                }
                Ok(Some(Heard::Unreachable { source, locator })) if self.config.rlocs.contains(&source) => {
                    self.reachability.counts.icmp_hints += 1;
                    self.hint(now, locator);
                }
                Ok(_) => {}
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    /// Our EID-prefixes are others.
    pub(super) fn carry(&mut self, now: Instant) {
        let carries_v6 = carries_v6(self.config, self.own.iter().map(|own| &own.mapping.eid));
        self.measure(now, path_mtu::Input::CarriesV6(carries_v6));
    }

    /// Steps what knows the MTUs of paths and does what it says.
    fn measure(&mut self, now: Instant, input: path_mtu::Input) {
        let Some(machine) = &mut self.reachability.path_mtu else { return };
        let mut todo = Vec::new();
        machine.step(now, input, &mut todo);
        for output in todo {
            match output {
                path_mtu::Output::Changed(locator) => {
                    let known = self.reachability.known(&self.kernel.underlay);
                    let mtu = known.path_mtu.and_then(|learned| learned.mtu(locator));
                    tracing::info!(%locator, mtu, "what the path to a locator carries; none: as much as its link");
                    self.publisher.path_changed(locator, &known);
                }
                path_mtu::Output::Discard(fault) => self.reachability.path_mtu_faults.count(fault),
            }
        }
    }

    /// Looks which of our RLOCs packets can come to. Where that changed, our mappings say so in their R bits, and those that
    /// send to us are told.
    pub(super) fn check_own_rlocs(&mut self, now: Instant) {
        let core = |port: u8| self.config.ports.get(usize::from(port)).is_some_and(|port| port.core);
        let underlay = &self.kernel.underlay;
        let offered: BTreeSet<IpAddr> =
            self.config.rlocs.iter().copied().filter(|rloc| underlay.offers(*rloc, core)).collect();
        if offered == self.reachability.offered {
            return;
        }
        for rloc in offered.symmetric_difference(&self.reachability.offered) {
            let up = offered.contains(rloc);
            tracing::info!(%rloc, up, "one of our RLOCs changed: mappings say so, and whoever sends to us is told");
        }
        self.reachability.offered = offered;
        self.tell_own(now, &[]);
    }

    /// Steps the SMR machine and does what it says.
    pub(super) fn solicit(&mut self, now: Instant, input: smr::Input<'_>) {
        let mut todo = Vec::new();
        self.reachability.smr.step(now, input, &mut todo);
        for output in todo {
            match output {
                smr::Output::Solicit(rloc, eid) => self.send_smr(rloc, eid),
                smr::Output::Ask(eid) => {
                    self.miss_news(now, eid, MissReason::Expiring, None);
                    self.resolve(now, resolver::Input::Solicited(eid));
                }
                smr::Output::Discard(fault) => self.reachability.smr_faults.count(fault),
            }
        }
    }

    fn send_smr(&mut self, rloc: IpAddr, eid: EidPrefix) {
        self.reachability.counts.smrs_sent += 1;
        let request = smr::request(self.nonces.next_u64(), &self.config.rlocs, eid);
        tracing::debug!(%rloc, %eid, "SMR");
        self.send(SocketAddr::new(rloc, CONTROL_PORT), &request.encode());
    }

    /// Takes in a Map-Request that came natively: an SMR, a probe, or one for a mapping of ours.
    pub(super) fn requested(&mut self, now: Instant, request: &MapRequest, arrival: Arrival) {
        if request.smr {
            self.reachability.counts.smrs_received += 1;
            let cached = smr::solicited(request, |eid| self.map_cache.around(eid, smr::SOLICITED_MAX));
            tracing::debug!(from = %arrival.source, prefixes = cached.len(), "SMR received");
            return self.solicit(now, smr::Input::Solicited(&cached));
        }
        self.answer(now, request, arrival, None);
    }

    /// A locator that we hold for dead may live if its xTR asks us: a probe tells.
    pub(super) fn doubt_death(&mut self, now: Instant, itr_rlocs: &[IpAddr]) {
        for locator in itr_rlocs.iter().copied().take(ITR_RLOCS_HEARD) {
            let state = self.reachability.prober.as_ref().map(|prober| prober.state(locator));
            if state == Some(prober::State::Down) {
                self.hint(now, locator);
            }
        }
    }

    /// Whoever asks because of an SMR of ours need not be told again.
    pub(super) fn heard(&mut self, now: Instant, request: &MapRequest) {
        let own = self.own.iter().map(|own| own.mapping.eid);
        let asked =
            |eid: &EidPrefix| request.records.iter().any(|record| eid.covers(&record.eid) || record.eid.covers(eid));
        let told: Vec<EidPrefix> = own.filter(asked).collect();
        for eid in told {
            self.solicit(now, smr::Input::Asked(eid, &request.itr_rlocs));
        }
    }

    /// Our RLOC that packets to `destination` leave from: the routing table's choice, else the first of its family that works.
    pub(super) fn source_towards(&self, destination: IpAddr) -> Option<IpAddr> {
        let ours = |address: &IpAddr| self.config.rlocs.contains(address);
        let works = |address: &IpAddr| self.reachability.offered.contains(address);
        let family = || self.config.rlocs.iter().copied().filter(|rloc| rloc.is_ipv4() == destination.is_ipv4());
        let routed = self.kernel.underlay.source_for(destination).filter(ours);
        routed.or_else(|| family().find(works)).or_else(|| family().next())
    }

    /// Whether nothing that is sent to this RLOC arrives, as far as is known.
    pub(super) fn is_dead(&self, rloc: IpAddr) -> bool {
        let known = self.reachability.known(&self.kernel.underlay);
        let down = self.reachability.prober.as_ref().is_some_and(|prober| prober.state(rloc) == prober::State::Down);
        down || known.is_unreachable(rloc)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use altitude_control::config::{self, Draft, Machine};

    use super::*;

    /// ETR-18, ETR-24: of our own locators the R bit tells what is so now, of the other xTRs' what the operator wrote.
    #[test]
    fn an_own_locator_without_a_link_is_told_as_unreachable() {
        let text = r#"
rlocs = ["240.0.254.10", "240.0.254.11"]
[[site-port]]
name = "eth1"
[[core-port]]
name = "eth0"
[[eid-prefix]]
prefix = "1.1.0.0/16"
locators = [{ address = "240.0.254.10" }, { address = "240.0.254.11" }, { address = "240.0.254.12", local = false }]
"#;
        let config = config::parse(Path::new("x.toml"), text, Draft::default(), &Machine { cores: vec![0] }).unwrap();
        for up in [[true, true], [true, false], [false, false]] {
            let offered = config.rlocs.iter().zip(up).filter(|(_, up)| *up).map(|(rloc, _)| *rloc).collect();
            let [mapping] = &offering(config.database.clone(), &config.rlocs, &offered, &BTreeSet::new())[..] else {
                panic!("one mapping")
            };
            let reachable: Vec<bool> = mapping.locators.iter().map(|locator| locator.reachable).collect();
            assert_eq!(reachable, [up[0], up[1], true]);

            let cut_off = BTreeSet::from([mapping.eid]);
            let cut_off = offering(config.database.clone(), &config.rlocs, &offered, &cut_off);
            let reachable: Vec<bool> = cut_off[0].locators.iter().map(|locator| locator.reachable).collect();
            assert_eq!(reachable, [false, false, true], "ETR-18");
        }
    }
}
