//! lig: asks the mapping system for an EID as an ITR would, and says what came back.
//!
//! ```text
//! Ask ─▶ Send: an ECM with a Map-Request to the Map-Resolver ── no answer ─▶ again, with a new nonce ─▶ GaveUp
//!                    └ a Map-Reply with one of our nonces ─▶ Answered
//! ```
//!
//! With LISP-SEC each request has a One-Time Key, and only what proves itself under it answers; what does not is remembered, to be
//! told if nothing better comes.
//!
//! Sources: RFC 6835 §4; RFC 9303 §6.4, §6.9.

#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, Mapping};

use crate::{
    alt::datagrams::CONTROL_PORT,
    lisp_sec::{
        SecurityFault,
        asking::{Asking, Proof, Sealed},
    },
    wire::{MapRequest, Message, ecm, packet::UdpPacket},
};

/// TTL and Hop Limit of the Map-Request inside the ECM.
const TTL: u8 = 64;

/// What is asked, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The EID asked for.
    pub eid: Eid,
    /// Our RLOC and the UDP port that answers come to.
    pub rloc: SocketAddr,
    /// Source of the Map-Request inside the ECM, of the EID's family.
    pub source: IpAddr,
    /// Map-Requests at most, 1 or more.
    pub tries: u32,
    /// From one to the next, and from the last to the end.
    pub patience: Duration,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to port 4342 of the Map-Resolver.
    Send(Vec<u8>),
    /// An answer came: the end.
    Answered(Answer),
    /// None came: the end.
    GaveUp,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answered: an ETR of the site, or whoever speaks for it.
    pub from: IpAddr,
    /// From the request it answers.
    pub rtt: Duration,
    /// Which of the requests, from 1.
    pub of: u32,
    /// The longest match first; with LISP-SEC those that were proven.
    pub records: Vec<Mapping>,
    /// What LISP-SEC proves of it; `None`: it was not asked for.
    pub proof: Option<Proven>,
}

/// How far a Map-Reply proved itself (RFC 9303 §6.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proven {
    /// The Map-Server vouches for the EID-Prefixes, and the message is signed and as it was sent.
    Signed,
    /// The Map-Server vouches for the EID-Prefixes alone, and says that some ETR cannot sign (E bit): the rest is as good as
    /// without LISP-SEC. An answer only where the question allows the downgrade.
    PrefixesOnly,
}

/// One question under way.
#[derive(Debug)]
pub struct Lig {
    question: Question,
    security: Option<Asking>,
    sent: Vec<Sent>,
    /// Which algorithm of LISP-SEC is asked for next.
    algorithm: usize,
    refused: Option<(IpAddr, SecurityFault)>,
}

/// One request.
#[derive(Debug)]
struct Sent {
    nonce: u64,
    at: Instant,
    sealed: Option<Sealed>,
}

impl Lig {
    /// A question; [`wake`](Self::wake) asks it, protected if there is something to protect it with.
    #[must_use]
    pub const fn new(question: Question, security: Option<Asking>) -> Self {
        Self { question, security, sent: Vec::new(), algorithm: 0, refused: None }
    }

    /// Who answered last what was not believed, and why not.
    #[must_use]
    pub const fn refused(&self) -> Option<(IpAddr, SecurityFault)> {
        self.refused
    }

    /// When [`wake`](Self::wake) is due: at once if nothing was sent.
    #[must_use]
    pub fn due(&self, now: Instant) -> Instant {
        self.sent.last().map_or(now, |sent| sent.at + self.question.patience)
    }

    /// The next request, or the end; `random` gives 64 random bits at each call, a nonce first.
    pub fn wake(&mut self, now: Instant, random: &mut dyn FnMut() -> u64) -> Output {
        if self.sent.len() >= self.question.tries as usize {
            return Output::GaveUp;
        }
        let nonce = random();
        let sealed = self.security.as_ref().map(|asking| asking.seal(nonce, self.algorithm, random));
        let (sealed, security) = sealed.unzip();
        self.sent.push(Sent { nonce, at: now, sealed });
        let Question { eid, rloc, source, .. } = self.question;
        let request = MapRequest::lookup(nonce, None, &[rloc.ip()], EidPrefix::host(eid));
        let packet = UdpPacket {
            source: SocketAddr::new(source, rloc.port()),
            destination: SocketAddr::new(eid.address, CONTROL_PORT),
            ttl: TTL,
            payload: &request.encode(),
        };
        Output::Send(match security {
            Some(security) => ecm::encapsulate_secured(&security, &packet.encode()),
            None => ecm::encapsulate(&packet.encode()),
        })
    }

    /// What a datagram says; nothing if it is no answer to us (RFC 9301 §5.3: only a nonce of ours makes it one).
    pub fn heard(&mut self, now: Instant, from: IpAddr, octets: &[u8]) -> Option<Output> {
        let Ok(Message::MapReply(reply)) = Message::parse(octets) else { return None };
        let place = self.sent.iter().position(|sent| sent.nonce == reply.nonce).filter(|_| !reply.probe)?;
        let sealed = self.sent[place].sealed.as_ref();
        let downgrade = self.security.as_ref().is_none_or(|asking| asking.downgrade);
        let is_enough = |proof: Proof| if proof.signed || downgrade { Ok(proof) } else { Err(SecurityFault::Stripped) };
        let proof = match sealed.map(|sealed| sealed.verify(&reply, octets).and_then(is_enough)).transpose() {
            Ok(proof) => proof,
            Err(fault) => {
                if let Some((sealed, asking)) = sealed.zip(self.security.as_ref())
                    && fault == SecurityFault::Algorithm
                {
                    self.algorithm = asking.after(sealed);
                }
                self.refused = Some((from, fault));
                return None;
            }
        };
        let mut records = reply.records;
        if let Some(proof) = &proof {
            let before = records.len();
            records.retain(|record| proof.covers(record));
            if records.len() < before {
                self.refused = Some((from, SecurityFault::Overclaim));
            }
        }
        let proof = proof.map(|proof| if proof.signed { Proven::Signed } else { Proven::PrefixesOnly });
        if !records.iter().any(|record| record.eid.contains(self.question.eid)) {
            return None;
        }
        records.sort_by_key(|record| {
            (!record.eid.contains(self.question.eid), std::cmp::Reverse(record.eid.prefix.length()))
        });
        let rtt = now.saturating_duration_since(self.sent[place].at);
        Some(Output::Answered(Answer { from, rtt, of: place as u32 + 1, records, proof }))
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Action, InstanceId, Locator, Ttl};

    use super::*;
    use crate::{
        lisp_sec::{
            gate::{self, Client, Gate, Protection},
            keys::SharedKey,
        },
        map_resolver::open,
        wire::{
            MapReply,
            lisp_sec::{Hash, ReplyData},
        },
    };

    const PATIENCE: Duration = Duration::from_secs(2);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn question(eid: &str, source: &str) -> Question {
        let eid = Eid { instance: InstanceId::DEFAULT, address: address(eid) };
        let rloc = SocketAddr::new(address("240.0.254.10"), 50_000);
        Question { eid, rloc, source: address(source), tries: 3, patience: PATIENCE }
    }

    fn mapping(eid: &str) -> Mapping {
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: eid.parse().unwrap() };
        let locators = vec![Locator::unicast(address("240.0.254.20"), 1, 100)];
        Mapping { locators, ..Mapping::negative(eid, Ttl::Minutes(60), Action::NoAction) }
    }

    fn reply(nonce: u64, records: Vec<Mapping>) -> Vec<u8> {
        MapReply { nonce, probe: false, echo_nonce: false, records, security: None }.encode()
    }

    /// LIG-1: three times, two seconds apart, each with a nonce of its own.
    #[test]
    fn a_mute_resolver_is_asked_three_times() {
        for (eid, source) in [("2.2.2.2", "240.0.254.10"), ("2001:db8:2::2", "2001:db8:1::1")] {
            let start = Instant::now();
            let mut lig = Lig::new(question(eid, source), None);
            let mut now = lig.due(start);
            assert_eq!(now, start);
            for nonce in [7, 8, 9] {
                let Output::Send(octets) = lig.wake(now, &mut || nonce) else { panic!("request {nonce}") };
                let opened = open(&octets).expect("an ECM for a Map-Resolver");
                assert_eq!((opened.request.nonce, opened.eid.address), (nonce, address(eid)));
                assert_eq!(opened.request.itr_rlocs, [address("240.0.254.10")]);
                assert_eq!(opened.datagram.source, SocketAddr::new(address(source), 50_000));
                assert_eq!(lig.due(now), now + PATIENCE);
                now += PATIENCE;
            }
            assert_eq!((now - start, lig.wake(now, &mut || 10)), (3 * PATIENCE, Output::GaveUp));
        }
    }

    #[test]
    fn only_a_reply_to_one_of_our_requests_about_that_eid_answers() {
        let start = Instant::now();
        let mut lig = Lig::new(question("2.2.2.2", "240.0.254.10"), None);
        lig.wake(start, &mut || 7);
        lig.wake(start + PATIENCE, &mut || 8);
        let now = start + PATIENCE + Duration::from_millis(5);
        let from = address("240.0.254.20");
        let mut heard = |octets: &[u8]| lig.heard(now, from, octets);
        let good = vec![mapping("2.2.0.0/16")];
        let probe = MapReply { nonce: 8, probe: true, echo_nonce: false, records: good.clone(), security: None };
        for (what, octets) in [
            ("an unknown nonce", reply(6, good.clone())),
            ("another EID", reply(8, vec![mapping("3.3.0.0/16")])),
            ("no record", reply(8, vec![])),
            ("a probe's answer", probe.encode()),
            ("cut off", reply(8, good.clone())[..20].to_vec()),
            ("nothing", vec![]),
        ] {
            assert_eq!(heard(&octets), None, "{what}");
        }
        let rtt = Duration::from_millis(5);
        let all = [mapping("2.2.3.0/24"), mapping("2.2.0.0/16"), mapping("2.2.2.0/24")];
        let sorted = [&all[2], &all[1], &all[0]].map(Clone::clone).to_vec();
        assert_eq!(
            heard(&reply(8, all.to_vec())),
            Some(Output::Answered(Answer { from, rtt, of: 2, records: sorted, proof: None }))
        );
        // Late is better than never.
        let Some(Output::Answered(late)) = heard(&reply(7, good)) else { panic!("the first request's answer") };
        assert_eq!((late.of, late.rtt), (1, PATIENCE + rtt));
    }

    /// A question that is protected, and what whoever answers it has.
    fn protected() -> (Lig, Protection) {
        asking(false)
    }

    fn asking(downgrade: bool) -> (Lig, Protection) {
        let key = SharedKey::new(9, b"with the resolver");
        let asking = Asking { key: key.clone(), algorithms: vec![Hash::Sha256, Hash::Sha1], downgrade };
        let mut lig = Lig::new(question("2.2.2.2", "240.0.254.10"), Some(asking));
        let Output::Send(octets) = lig.wake(Instant::now(), &mut || 7) else { panic!("a request") };
        let opened = open(&octets).unwrap();
        let clients = vec![Client { from: Vec::new(), keys: vec![key] }];
        let gate = Gate::new(Some(gate::Settings { clients, strict: true, ..gate::Settings::default() }));
        let protection = gate.admit(address("240.0.254.10"), 7, opened.security).unwrap().expect("it is protected");
        (lig, protection)
    }

    /// LIG-1, SEC-7: with a key the question is protected, and only what proves itself answers it.
    #[test]
    fn a_protected_question_takes_no_answer_without_proof() {
        let (mut lig, protection) = protected();
        let (from, now) = (address("240.0.254.20"), Instant::now());
        let records = vec![mapping("2.2.0.0/16"), mapping("9.9.0.0/16")];
        let bare = MapReply { nonce: 7, probe: false, echo_nonce: false, records, security: None };
        assert_eq!(lig.heard(now, from, &bare.encode()), None);
        assert_eq!(lig.refused(), Some((from, SecurityFault::Stripped)));
        let mut signed = bare;
        protection.sign(&mut signed, mapping("2.2.0.0/16").eid, false);
        let mut changed = signed.encode();
        changed[20] ^= 1;
        assert_eq!(lig.heard(now, from, &changed), None);
        assert_eq!(lig.refused(), Some((from, SecurityFault::PacketMac)));
        let Some(Output::Answered(answer)) = lig.heard(now, from, &signed.encode()) else { panic!("an answer") };
        assert_eq!((answer.proof, answer.records), (Some(Proven::Signed), vec![mapping("2.2.0.0/16")]));
        assert_eq!(lig.refused(), Some((from, SecurityFault::Overclaim)), "of the other record nothing is proven");
    }

    /// LIG-1, SEC-12: of an ETR that cannot sign the EID-Prefixes alone are proven; that is an answer only where the downgrade is
    /// allowed, as for a router.
    #[test]
    fn prefixes_alone_are_an_answer_only_where_that_is_allowed() {
        let (from, now) = (address("240.0.254.20"), Instant::now());
        for downgrade in [false, true] {
            let (mut lig, protection) = asking(downgrade);
            let records = vec![mapping("2.2.0.0/16")];
            let mut reply = MapReply { nonce: 7, probe: false, echo_nonce: false, records, security: None };
            protection.sign(&mut reply, mapping("2.2.0.0/16").eid, true);
            let eids = ReplyData::parse(reply.security.as_deref().unwrap()).unwrap().eids.octets().to_vec();
            reply.security = Some(ReplyData::unsigned(&eids, None));
            match lig.heard(now, from, &reply.encode()) {
                Some(Output::Answered(answer)) => {
                    assert_eq!((downgrade, answer.proof), (true, Some(Proven::PrefixesOnly)));
                }
                other => {
                    assert_eq!((downgrade, other, lig.refused()), (false, None, Some((from, SecurityFault::Stripped))));
                }
            }
        }
    }
}
