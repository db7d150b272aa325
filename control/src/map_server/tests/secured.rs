//! LISP-SEC: who answers a protected Map-Request, and what the answer grants.

use super::*;
use crate::{
    lisp_sec::{
        SecurityFault,
        asking::{Asking, Proof, Sealed},
        gate::{self, Client, Gate},
        keys::SharedKey,
    },
    wire::lisp_sec::{Hash, RequestData},
};

const NONCE: u64 = 7;

/// What an ITR keeps, and what comes to the Map-Server.
fn asked() -> (Sealed, Protection) {
    let key = SharedKey::new(9, b"of the ITR");
    let asking = Asking { key: key.clone(), algorithms: vec![Hash::Sha256], downgrade: false };
    let (sealed, octets) = asking.seal(NONCE, 0, &mut || 5);
    let clients = vec![Client { from: vec![], keys: vec![key] }];
    let gate = Gate::new(Some(gate::Settings { clients, ..gate::Settings::default() }));
    (sealed, gate.admit(address(ITR), NONCE, Some(&octets)).unwrap().unwrap())
}

/// The answer to a protected request for the EID; the proof, if it is a Map-Reply.
fn ask(world: &mut World, asked_for: &str) -> (Output, Option<Result<Proof, SecurityFault>>) {
    let (sealed, protection) = asked();
    let output = world.ask_protected(ITR, asked_for, Some(&protection), |request| request);
    let proof = match &output {
        Output::Reply { message, .. } => Some(sealed.verify(message, &message.encode())),
        _ => None,
    };
    (output, proof)
}

/// An ETR with an xTR-ID of its own registers 10.1.0.0/16, or a part of it.
fn register(world: &mut World, etr: u8, prefix: &str, flags: MapRegister) {
    let rloc = IpAddr::from([240, 0, 254, etr]).to_string();
    let xtr = Some(XtrIdentity { xtr_id: [etr; 16], site_id: 0 });
    let message = MapRegister { records: vec![record(prefix, &[&rloc])], xtr, ..flags };
    let outputs = world.register(&rloc, &key(ONE), message);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Drop(_))), "{outputs:?}");
}

fn signs() -> MapRegister {
    MapRegister { security: true, ..MapRegister::default() }
}

/// To whom a request was handed, and what the ECM grants: read with the site's key, as the ETR does.
fn handed(output: &Output) -> (String, Vec<EidPrefix>, bool) {
    let Output::Encapsulate { to, message } = output else { panic!("{output:?}") };
    let ecm = Ecm::parse(message).unwrap();
    let security = ecm.security().expect("authentication data");
    let site_keys = vec![SharedKey::from(&key(ONE))];
    let etr = Gate::new(Some(gate::Settings { site_keys, ..gate::Settings::default() }));
    assert!(etr.admit(address(US), NONCE, Some(security)).unwrap().is_some());
    let signed = RequestData::parse(security).unwrap().eids.signed.expect("an EID-AD");
    (to.to_string(), signed.prefixes, signed.cant_sign)
}

/// SEC-4, SEC-5: with a P bit we answer; else an ETR that can sign does, and E tells that another cannot; where none can, we say so.
#[test]
fn the_three_cases_of_the_rfc() {
    let mut world = World::new(settings());
    register(&mut world, 21, "10.1.0.0/16", MapRegister::default());
    let (output, proof) = ask(&mut world, "10.1.1.1");
    let Output::Reply { message, .. } = &output else { panic!("{output:?}") };
    assert_eq!((message.records[0].action, message.records[0].ttl), (Action::DropAuthFailure, Ttl::Minutes(1)));
    let proof = proof.unwrap().unwrap();
    assert!(proof.cant_sign && proof.signed && proof.covers(&message.records[0]), "said under signature");

    register(&mut world, 22, "10.1.0.0/16", signs());
    for _ in 0..4 {
        world.now += Duration::from_secs(2);
        let (output, _) = ask(&mut world, "10.1.1.1");
        let expected = ("240.0.254.22".to_owned(), vec![eid("10.1.0.0/16")], true);
        assert_eq!(handed(&output), expected, "only to the one that signs");
    }
    register(&mut world, 21, "10.1.0.0/16", signs());
    let mut etrs: Vec<String> = (0..2)
        .map(|_| {
            world.now += Duration::from_secs(2);
            let (etr, granted, cant_sign) = handed(&ask(&mut world, "10.1.1.1").0);
            assert_eq!((granted, cant_sign), (vec![eid("10.1.0.0/16")], false));
            etr
        })
        .collect();
    etrs.sort_unstable();
    assert_eq!(etrs, ["240.0.254.21", "240.0.254.22"], "in turn");

    register(&mut world, 23, "10.1.0.0/16", MapRegister { proxy: true, ..MapRegister::default() });
    let (output, proof) = ask(&mut world, "10.1.1.9");
    let Output::Reply { message, .. } = &output else { panic!("{output:?}") };
    let proof = proof.unwrap().unwrap();
    assert!(!proof.cant_sign && proof.signed && message.records.iter().all(|record| proof.covers(record)));
    assert!(!message.records[0].is_negative());
}

/// SEC-4: xTRs of one site name each other in their locator-sets; only the one that signs is asked.
#[test]
fn of_a_shared_locator_set_only_the_own_locators_of_who_signs_are_asked() {
    let mut world = World::new(settings());
    let mut shared = |etr: u8, own: &[&str], flags: MapRegister| {
        let mut mapping = record("10.1.0.0/16", &["240.0.254.21", "240.0.254.22"]);
        for locator in &mut mapping.locators {
            locator.local = own.contains(&locator.address.to_string().as_str());
        }
        let xtr = Some(XtrIdentity { xtr_id: [etr; 16], site_id: 0 });
        let message = MapRegister { records: vec![mapping], xtr, ..flags };
        world.register(&format!("240.0.254.{etr}"), &key(ONE), message);
        world.now += Duration::from_secs(5);
        let mut asked = || {
            world.now += Duration::from_secs(1);
            handed(&ask(&mut world, "10.1.1.1").0)
        };
        [asked(), asked(), asked()]
    };
    let handed_to = |etr: &str, cant_sign| {
        let one = || (format!("240.0.254.{etr}"), vec![eid("10.1.0.0/16")], cant_sign);
        [one(), one(), one()]
    };
    // L bits, and without any the address that it registers from, in the locator-set or not.
    assert_eq!(shared(21, &["240.0.254.21"], signs()), handed_to("21", false));
    assert_eq!(shared(22, &["240.0.254.22"], MapRegister::default()), handed_to("21", true));
    assert_eq!(shared(21, &[], signs()), handed_to("21", true));
    let mut world = World::new(settings());
    let message = MapRegister { records: vec![record("10.1.0.0/16", &["240.0.254.22"])], ..signs() };
    let not_local = |mut message: MapRegister| {
        message.records[0].locators[0].local = false;
        message
    };
    world.register("240.0.254.21", &key(ONE), not_local(message));
    assert_eq!(handed(&ask(&mut world, "10.1.1.1").0), handed_to("21", false)[0]);
}

/// SEC-5: what is asked for again is a prefix, and more-specifics at its first address are somebody else's.
#[test]
fn a_whole_prefix_is_looked_up_as_a_whole() {
    let mut world = World::new(settings());
    register(&mut world, 21, "10.1.0.0/16", signs());
    register(&mut world, 22, "10.1.0.0/24", signs());
    let whole = |world: &mut World, asked_for: &str| {
        let (sealed, protection) = asked();
        let (address, _) = asked_for.split_once('/').unwrap();
        world.now += Duration::from_secs(1);
        let change =
            |request| MapRequest { records: MapRequest::lookup(7, None, &[], eid(asked_for)).records, ..request };
        (sealed, world.ask_protected(ITR, address, Some(&protection), change))
    };
    for (asked_for, etr, granted) in [
        ("10.1.0.0/16", "240.0.254.21", "10.1.0.0/16"),
        ("10.1.0.0/20", "240.0.254.21", "10.1.0.0/16"),
        ("10.1.0.0/24", "240.0.254.22", "10.1.0.0/24"),
        ("10.1.0.0/25", "240.0.254.22", "10.1.0.0/24"),
        // Wider than the site: what its first address is in.
        ("10.0.0.0/8", "240.0.254.21", ""),
    ] {
        let (sealed, output) = whole(&mut world, asked_for);
        if granted.is_empty() {
            let Output::Reply { message, .. } = &output else { panic!("{output:?}") };
            assert!(sealed.verify(message, &message.encode()).unwrap().covers(&message.records[0]));
            continue;
        }
        assert_eq!(handed(&output), (etr.to_owned(), vec![eid(granted)], false), "{asked_for}");
    }

    // Nobody can sign for the whole, but somebody for the part.
    register(&mut world, 21, "10.1.0.0/16", MapRegister::default());
    assert_eq!(whole(&mut world, "10.1.0.0/16").1, Output::Drop(SiteFault::NoEtr));
    assert_eq!(handed(&whole(&mut world, "10.1.0.0/24").1).0, "240.0.254.22");

    // As a whole from us, too, with its more-specifics.
    for (etr, prefix) in [(21, "10.1.0.0/18"), (22, "10.1.0.0/24")] {
        register(&mut world, etr, prefix, MapRegister { proxy: true, ..signs() });
    }
    let (sealed, output) = whole(&mut world, "10.1.0.0/18");
    let Output::Reply { message, .. } = &output else { panic!("{output:?}") };
    let proof = sealed.verify(message, &message.encode()).unwrap();
    let eids: Vec<EidPrefix> = message.records.iter().map(|record| record.eid).collect();
    assert_eq!(eids, [eid("10.1.0.0/18"), eid("10.1.0.0/24")]);
    assert!(message.records.iter().all(|record| proof.covers(record)));

    // Nobody serves the site inside: of the whole we say no more than a part, as who serves that part has it.
    register(&mut world, 21, "10.1.0.0/16", MapRegister { proxy: true, ..signs() });
    let (_, output) = whole(&mut world, "10.1.0.0/16");
    let Output::Reply { message, .. } = &output else { panic!("{output:?}") };
    let told: Vec<_> = message.records.iter().map(|record| (record.eid, record.locators[0].address)).collect();
    assert_eq!(told, [(eid("10.1.0.0/24"), address("240.0.254.22"))]);
}

/// SEC-5: a part that is registered by itself is granted by itself.
#[test]
fn the_longest_registered_match_is_granted() {
    let mut world = World::new(settings());
    register(&mut world, 21, "10.1.0.0/16", signs());
    register(&mut world, 22, "10.1.8.0/24", signs());
    assert_eq!(handed(&ask(&mut world, "10.1.8.1").0).1, [eid("10.1.8.0/24")]);
    assert_eq!(handed(&ask(&mut world, "10.1.9.1").0).1, [eid("10.1.0.0/16")]);
}

#[test]
fn negative_answers_are_signed_and_fixed_etrs_are_not_asked() {
    let mut world = World::new(settings());
    for (asked_for, cant_sign) in [("10.1.1.1", false), ("10.9.1.1", false), ("10.3.1.1", true)] {
        let (output, proof) = ask(&mut world, asked_for);
        let Output::Reply { message, .. } = &output else { panic!("{output:?}") };
        let proof = proof.unwrap().unwrap();
        assert_eq!((proof.cant_sign, proof.signed), (cant_sign, true), "{asked_for}");
        assert!(message.records[0].is_negative() && proof.covers(&message.records[0]));
    }
    // Without protection as ever.
    assert!(matches!(world.ask("10.3.1.1"), Output::Encapsulate { .. }));
}

/// SEC-13, G-10: in strict mode an ETR without the S bit is not believed.
#[test]
fn a_strict_map_server_takes_only_etrs_that_sign() {
    let mut world = World::new(Settings { signed_only: true, ..settings() });
    assert_eq!(world.up(ONE, "10.1.0.0/16", &["240.0.254.21"]), [Output::Drop(SiteFault::NotSigning)]);
    assert!(world.server.is_empty());
    register(&mut world, 21, "10.1.0.0/16", signs());
    assert_eq!(world.server.len(), 1);
}

/// SEC-4: who signs is still known after a restart.
#[test]
fn the_s_bit_survives_a_restart() {
    let mut before = World::new(settings());
    register(&mut before, 21, "10.1.0.0/16", signs());
    let (mut at, mut saved) = (Cursor::default(), Vec::new());
    while !before.server.snapshot(&mut at, 16, &mut saved) {}
    let mut after = World::new(settings());
    let now = after.now;
    after.server.restore(now, &saved, &mut Vec::new()).unwrap();
    assert_eq!(handed(&ask(&mut after, "10.1.1.1").0).0, "240.0.254.21");
}
