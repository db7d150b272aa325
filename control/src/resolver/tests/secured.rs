//! LISP-SEC: only answers with proof count.

use super::*;
use crate::{
    lisp_sec::{
        gate::{self, Client, Gate, Protection},
        keys::SharedKey,
    },
    wire::{
        Message,
        lisp_sec::{EidData, Hash, ReplyData, RequestData},
    },
};

use self::Output::{Insecure, Proven};

fn key() -> SharedKey {
    SharedKey::new(1, b"of the ITR and its Map-Resolver")
}

fn stage(algorithms: &[Hash], downgrade: bool) -> Stage {
    let security = Asking { key: key(), algorithms: algorithms.to_vec(), downgrade };
    Stage::new(Settings { security: Some(security), ..settings() })
}

/// The one Map-Request among the outputs: its nonce, and what a Map-Server makes of its authentication data.
fn sent(outputs: &[Output]) -> (u64, Option<Protection>) {
    let mut requests = outputs.iter().filter_map(|output| match output {
        Output::Request { message, security, .. } => Some((message.nonce, security)),
        _ => None,
    });
    let (nonce, security) = requests.next().unwrap_or_else(|| panic!("no request in {outputs:?}"));
    assert!(requests.next().is_none());
    let clients = vec![Client { from: vec![], keys: vec![key()] }];
    let gate = Gate::new(Some(gate::Settings { clients, ..gate::Settings::default() }));
    let read = |octets: &[u8]| gate.admit([240, 0, 254, 40].into(), nonce, Some(octets)).unwrap().unwrap();
    (nonce, security.as_deref().map(read))
}

fn plain(nonce: u64, records: Vec<Mapping>) -> MapReply {
    MapReply { nonce, probe: false, echo_nonce: false, records, security: None }
}

/// A Map-Reply as a Map-Server signs it.
fn signed(nonce: u64, by: &Protection, about: &str, records: Vec<Mapping>, cant_sign: bool) -> Input {
    let mut reply = plain(nonce, records);
    by.sign(&mut reply, eid(about), cant_sign);
    secured(&reply.encode())
}

fn secured(octets: &[u8]) -> Input {
    let Ok(Message::MapReply(reply)) = Message::parse(octets) else { panic!("a Map-Reply") };
    Input::SecuredReply { reply, octets: octets.to_vec() }
}

const BEST: &[Hash] = &[Hash::Sha256];

/// SEC-1, SEC-7: each try has a key of its own; forged and stripped answers neither count nor keep the right one out, and what
/// was taken once is not taken again.
#[test]
fn only_an_answer_with_proof_is_installed_and_only_once() {
    let mut stage = stage(BEST, false);
    let (first, of_first) = sent(&stage.step(0, miss("2.2.2.2")));
    let (second, of_second) = sent(&stage.step(1000, Input::Wake));
    let (of_first, of_second) = (of_first.unwrap(), of_second.unwrap());
    assert_ne!(of_first, of_second);

    let good = || vec![mapping("2.2.0.0/16")];
    assert_eq!(stage.step(1100, reply(first, good())), [Insecure(SecurityFault::Stripped)]);
    let other_key = signed(first, &of_second, "2.2.0.0/16", good(), false);
    assert_eq!(stage.step(1200, other_key), [Insecure(SecurityFault::EidMac)]);
    let Input::SecuredReply { mut octets, .. } = signed(first, &of_first, "2.2.0.0/16", good(), false) else {
        unreachable!()
    };
    octets[29] ^= 1; // a weight
    assert_eq!(stage.step(1300, secured(&octets)), [Insecure(SecurityFault::PacketMac)]);
    assert_eq!(stage.resolver.pending().count(), 1, "still asked for");

    let answer = || signed(first, &of_first, "2.2.0.0/16", good(), false);
    assert_eq!(stage.step(1400, answer()), [Proven, Install(good())]);
    assert_eq!(stage.step(1500, answer()), [Discard(ResolverFault::NonceUnknown)], "replayed");
    let late = signed(second, &of_second, "2.2.0.0/16", good(), false);
    assert_eq!(stage.step(1600, late), [Discard(ResolverFault::NonceUnknown)], "its key went with the first");
    assert!(stage.resolver.outstanding.is_empty());
}

/// SEC-1: keys that nobody answered go with the request.
#[test]
fn keys_go_when_the_machine_gives_up() {
    let mut stage = stage(BEST, false);
    stage.step(0, miss("2.2.2.2"));
    while let Some(due) = stage.due() {
        stage.step(due as u64, Input::Wake);
    }
    assert!(stage.resolver.outstanding.is_empty() && stage.resolver.pending().count() == 0);
}

/// SEC-8: another algorithm than was asked for is refused, and the next try asks for another one, not before its second is over.
#[test]
fn the_next_try_asks_for_another_algorithm() {
    let mut stage = stage(&[Hash::Sha1, Hash::Sha256], false);
    let outputs = stage.step(0, miss("2.2.2.2"));
    let asked_for = |outputs: &[Output]| {
        let security = outputs.iter().find_map(|output| match output {
            Output::Request { security, .. } => security.clone(),
            _ => None,
        });
        let security = security.unwrap();
        let data = RequestData::parse(&security).unwrap();
        (data.hmac, data.eids.kdf)
    };
    assert_eq!(asked_for(&outputs), (1, 1));
    let nonce = sent(&outputs).0;
    // The stub knows nothing but HMAC ID 2; what it signs with does not matter.
    let stub = || {
        let eids = EidData::unsigned(2, Hash::Sha256, false, &[eid("2.2.0.0/16")]);
        let security = Some(ReplyData::unsigned(&eids, Some(Hash::Sha256)));
        secured(&MapReply { security, ..plain(nonce, vec![mapping("2.2.0.0/16")]) }.encode())
    };
    for ms in [10, 20, 999] {
        assert_eq!(stage.step(ms, stub()), [Insecure(SecurityFault::Algorithm)]);
    }
    assert_eq!(stage.due(), Some(1000));
    let outputs = stage.step(1000, Input::Wake);
    assert_eq!(asked_for(&outputs), (2, 2));
    let (nonce, protection) = sent(&outputs);
    let answer = signed(nonce, &protection.unwrap(), "2.2.0.0/16", vec![mapping("2.2.0.0/16")], false);
    assert_eq!(stage.step(1100, answer), [Proven, Install(vec![mapping("2.2.0.0/16")])]);
}

/// SEC-9: a record beyond what is granted is left out and counted, a wider one too; the rest counts.
#[test]
fn an_overclaim_is_left_out() {
    let mut stage = stage(BEST, false);
    let (nonce, protection) = sent(&stage.step(0, miss("2.2.2.2")));
    let records = vec![mapping("2.2.0.0/16"), mapping("2.2.2.0/24"), mapping("2.0.0.0/8")];
    let answer = signed(nonce, &protection.unwrap(), "2.2.0.0/16", records, false);
    let installed = Install(vec![mapping("2.2.0.0/16"), mapping("2.2.2.0/24")]);
    assert_eq!(stage.step(1, answer), [Insecure(SecurityFault::Overclaim), Proven, installed]);

    let (nonce, protection) = sent(&stage.step(2000, miss("3.3.3.3")));
    let answer = signed(nonce, &protection.unwrap(), "3.3.0.0/16", vec![mapping("3.0.0.0/8")], false);
    let refused = [Insecure(SecurityFault::Overclaim), Discard(ResolverFault::NotCovering)];
    assert_eq!(stage.step(2001, answer), refused, "nothing is left");
}

/// SEC-12: an ETR that cannot sign is not believed, unless the operator allows it; then each such answer is counted.
#[test]
fn who_cannot_sign_is_believed_only_where_that_is_allowed() {
    let unsigned = |nonce, protection: &Protection| {
        let Input::SecuredReply { reply, .. } = signed(nonce, protection, "2.2.0.0/16", vec![], true) else {
            unreachable!()
        };
        let eids = ReplyData::parse(reply.security.as_deref().unwrap()).unwrap().eids.octets().to_vec();
        let security = Some(ReplyData::unsigned(&eids, None));
        secured(&MapReply { security, ..plain(nonce, vec![mapping("2.2.0.0/16"), mapping("2.0.0.0/8")]) }.encode())
    };
    let mut refusing = stage(BEST, false);
    let (nonce, protection) = sent(&refusing.step(0, miss("2.2.2.2")));
    assert_eq!(refusing.step(1, unsigned(nonce, &protection.unwrap())), [Insecure(SecurityFault::Stripped)]);
    let mut taking = stage(BEST, true);
    let (nonce, protection) = sent(&taking.step(0, miss("2.2.2.2")));
    let taken =
        [Insecure(SecurityFault::Overclaim), Insecure(SecurityFault::Downgraded), Install(vec![mapping("2.2.0.0/16")])];
    assert_eq!(taking.step(1, unsigned(nonce, &protection.unwrap())), taken);
}

/// SEC-12: where a Map-Server says under signature that no ETR can sign, that is the answer, or the request goes once more without
/// protection, as the operator allows.
#[test]
fn where_no_etr_can_sign_the_request_is_dropped_or_goes_without_protection() {
    let none = Mapping::negative(eid("2.2.0.0/16"), Ttl::Minutes(1), Action::DropAuthFailure);
    let mut refusing = stage(BEST, false);
    let (nonce, protection) = sent(&refusing.step(0, miss("2.2.2.2")));
    let said = signed(nonce, &protection.unwrap(), "2.2.0.0/16", vec![none.clone()], true);
    assert_eq!(refusing.step(1, said), [Proven, Install(vec![none.clone()])]);

    let mut asking_again = stage(BEST, true);
    let (nonce, protection) = sent(&asking_again.step(0, miss("2.2.2.2")));
    let said = signed(nonce, &protection.unwrap(), "2.2.0.0/16", vec![none], true);
    assert_eq!(asking_again.step(1, said), [Insecure(SecurityFault::Downgraded)]);
    assert_eq!(asking_again.due(), Some(1000));
    let (nonce, protection) = sent(&asking_again.step(1000, Input::Wake));
    assert_eq!(protection, None);
    assert_eq!(
        asking_again.step(1001, reply(nonce, vec![mapping("2.2.0.0/16")])),
        [Install(vec![mapping("2.2.0.0/16")])]
    );
}

/// SEC-7, SEC-12: who changes the EID of a Map-Request on its way gets a true answer about another one: it neither spends the
/// nonce, nor has anything asked for without protection.
#[test]
fn a_true_answer_about_another_eid_changes_nothing() {
    for (cant_sign, downgrade) in [(true, true), (true, false), (false, false)] {
        let mut stage = stage(BEST, downgrade);
        let (nonce, protection) = sent(&stage.step(0, miss("2.2.2.2")));
        let protection = protection.unwrap();
        let other = Mapping::negative(eid("3.3.0.0/16"), Ttl::Minutes(1), Action::DropAuthFailure);
        for records in [vec![other], vec![]] {
            let answer = signed(nonce, &protection, "3.3.0.0/16", records, cant_sign);
            assert_eq!(stage.step(1, answer), [Discard(ResolverFault::NotCovering)]);
        }
        let (_, second) = sent(&stage.step(1000, Input::Wake));
        assert!(second.is_some(), "still protected");
        let answer = signed(nonce, &protection, "2.2.0.0/16", vec![mapping("2.2.0.0/16")], false);
        assert_eq!(stage.step(1001, answer), [Proven, Install(vec![mapping("2.2.0.0/16")])], "its nonce is still good");
    }
}

/// SEC-8, SEC-12: an EID that was given up lately is asked for once more all the same, with another algorithm or without protection.
#[test]
fn an_exhausted_eid_is_asked_for_otherwise_too() {
    let exhausted = |algorithms: &[Hash], downgrade| {
        let mut stage = stage(algorithms, downgrade);
        stage.step(0, miss("2.2.2.2"));
        while let Some(due) = stage.due() {
            stage.step(due as u64, Input::Wake);
        }
        let (nonce, protection) = sent(&stage.step(400_000, miss("2.2.2.2")));
        assert_eq!(stage.due(), Some(403_000), "one try");
        (stage, nonce, protection.unwrap())
    };
    let (mut stage, nonce, protection) = exhausted(BEST, true);
    let none = Mapping::negative(eid("2.2.0.0/16"), Ttl::Minutes(1), Action::DropAuthFailure);
    let said = signed(nonce, &protection, "2.2.0.0/16", vec![none], true);
    assert_eq!(stage.step(400_001, said), [Insecure(SecurityFault::Downgraded)]);
    assert_eq!(sent(&stage.step(401_000, Input::Wake)).1, None);

    let (mut stage, nonce, _) = exhausted(&[Hash::Sha1, Hash::Sha256], false);
    let eids = EidData::unsigned(2, Hash::Sha256, false, &[eid("2.2.0.0/16")]);
    let security = Some(ReplyData::unsigned(&eids, Some(Hash::Sha256)));
    let said = secured(&MapReply { security, ..plain(nonce, vec![]) }.encode());
    assert_eq!(stage.step(400_001, said), [Insecure(SecurityFault::Algorithm)]);
    let (nonce, protection) = sent(&stage.step(401_000, Input::Wake));
    let answer = signed(nonce, &protection.unwrap(), "2.2.0.0/16", vec![mapping("2.2.0.0/16")], false);
    assert_eq!(stage.step(401_001, answer), [Proven, Install(vec![mapping("2.2.0.0/16")])]);
}

/// RCH-6, SEC-7: an answer to a probe proves nothing, not even to a refresh.
#[test]
fn probes_do_not_answer_protected_requests() {
    let mut stage = stage(BEST, false);
    let outputs = stage.step(0, Input::Refresh(eid("2.2.0.0/16")));
    let (nonce, protection) = sent(&outputs);
    let probe = MapReply { probe: true, ..plain(nonce, vec![mapping("2.2.0.0/16")]) };
    assert_eq!(stage.step(1, Input::Reply(probe)), [Discard(ResolverFault::ProbeReply)]);
    let answer = signed(nonce, &protection.unwrap(), "2.2.0.0/16", vec![mapping("2.2.0.0/16")], false);
    assert_eq!(stage.step(2, answer), [Proven, Install(vec![mapping("2.2.0.0/16")])]);
}

/// RCH-6: what a probe says of weights has the mapping system asked; R bits and what is cached have not.
#[test]
fn a_probe_that_says_something_else_is_a_reason_to_ask() {
    let cached = mapping("2.2.0.0/16");
    let with = |change: fn(&mut Locator)| {
        let mut record = cached.clone();
        change(&mut record.locators[0]);
        says_other(Some(&cached), &record)
    };
    assert!(!with(|_| ()) && !with(|locator| locator.reachable = false));
    assert!(with(|locator| locator.weight = 50) && with(|locator| locator.priority = 2));
    assert!(says_other(None, &cached) && says_other(Some(&cached), &negative("2.2.0.0/16")));
}

/// Switched off, an S bit changes nothing: the answer is what it was without it.
#[test]
fn without_lisp_sec_nothing_is_asked_of_an_answer() {
    let mut asked = stage(BEST, false);
    let protection = sent(&asked.step(0, miss("2.2.2.2"))).1.unwrap();
    let mut off = Stage::new(settings());
    let (nonce, none) = sent(&off.step(0, miss("2.2.2.2")));
    assert_eq!(none, None);
    let answer = signed(nonce, &protection, "3.0.0.0/8", vec![mapping("2.2.0.0/16")], false);
    assert_eq!(off.step(1, answer), [Install(vec![mapping("2.2.0.0/16")])]);
}
