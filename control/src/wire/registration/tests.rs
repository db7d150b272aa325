use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Ttl};

use super::{super::Message, *};
use crate::wire::Algorithm;

fn mapping() -> Mapping {
    Mapping {
        eid: EidPrefix { instance: InstanceId::DEFAULT, prefix: "192.0.2.0/24".parse().unwrap() },
        ttl: Ttl::Minutes(1440),
        version: 0,
        action: Action::NoAction,
        authoritative: true,
        locators: vec![Locator { local: true, ..Locator::unicast([203, 0, 113, 1].into(), 1, 100) }],
    }
}

const XTR: XtrIdentity = XtrIdentity { xtr_id: [7; 16], site_id: 42 };

fn register(xtr: Option<XtrIdentity>) -> MapRegister {
    MapRegister { nonce: 0x1122, records: vec![mapping(); 2], xtr, ..MapRegister::default() }
}

fn read(octets: &[u8]) -> MapRegister {
    match Message::parse(octets) {
        Ok(Message::MapRegister(register)) => register,
        other => panic!("{other:?}"),
    }
}

const FORMS: [Form; 4] = [
    Form { whole_mac: false, records_only: false },
    Form { whole_mac: true, records_only: false },
    Form { whole_mac: false, records_only: true },
    Form { whole_mac: true, records_only: true },
];

#[test]
fn each_flag_is_the_bit_of_the_rfc() {
    type Set = fn(&mut MapRegister);
    let flags: [(usize, u8, Set); 6] = [
        (0, 0x08, |register| register.proxy = true),
        (0, 0x04, |register| register.security = true),
        (2, 0x10, |register| register.eid_notify = true),
        (2, 0x08, |register| register.ttl_timeout = true),
        (2, 0x04, |register| register.merge = true),
        (2, 0x01, |register| register.want_notify = true),
    ];
    let plain = register(None).encode();
    for (at, bit, set) in flags {
        let (mut octets, mut register) = (plain.clone(), register(None));
        octets[at] |= bit;
        set(&mut register);
        assert_eq!(register.encode(), octets, "octet {at} bit {bit:#04x}");
        assert_eq!(read(&octets), register);
    }
    assert_eq!(register(Some(XTR)).encode()[0], 0x32, "the I bit");
    for (at, bits) in [(0, 0x01_u8), (1, 0xff), (2, 0xe2)] {
        let mut octets = plain.clone();
        octets[at] |= bits;
        assert_eq!(read(&octets), register(None), "reserved bits of octet {at} are ignored");
    }
}

#[test]
fn what_is_signed_is_believed_and_any_change_is_not() {
    for algorithm in Algorithm::ALL {
        let key = Key::new(3, algorithm, b"correct horse");
        for (form, xtr) in FORMS.into_iter().flat_map(|form| [(form, None), (form, Some(XTR))]) {
            let octets = register(xtr).signed(&key, form);
            let keys = [Key::new(1, algorithm, b"another"), key.clone()];
            assert_eq!(read(&octets).verify(&octets, &keys), Ok(&keys[1]), "{algorithm:?} {form:?}");
            for at in (0..octets.len()).filter(|at| !(12..16).contains(at)) {
                let mut changed = octets.clone();
                changed[at] ^= 0x01;
                let Ok(Message::MapRegister(read)) = Message::parse(&changed) else { continue };
                let unprotected = form.records_only && xtr.is_some() && at >= octets.len() - 24;
                assert_eq!(read.verify(&changed, &keys).is_ok(), unprotected, "{algorithm:?} {form:?} octet {at}");
            }
        }
    }
}

#[test]
fn a_wrong_key_algorithm_or_length_is_named() {
    let key = |algorithm, secret: &[u8]| Key::new(1, algorithm, secret);
    let octets = register(None).signed(&key(Algorithm::Sha256, b"right"), Form::default());
    let verify = |octets: &[u8], keys: &[Key]| read(octets).verify(octets, keys).map(|key| key.id);
    assert_eq!(verify(&octets, &[]), Err(AuthenticationError::UnknownKey(1)));
    assert_eq!(verify(&octets, &[key(Algorithm::Sha256, b"wrong")]), Err(AuthenticationError::Mac));
    assert_eq!(verify(&octets, &[key(Algorithm::Sha1, b"right")]), Err(AuthenticationError::Algorithm(2)));
    let none = register(None).encode();
    let zero = Key::new(0, Algorithm::Sha256, b"right");
    assert_eq!(verify(&none, &[zero]), Err(AuthenticationError::Algorithm(0)), "no MAC is no proof");
    for length in (0..=40).filter(|length| ![16, 32].contains(length)) {
        let authentication = Authentication { key_id: 1, algorithm: 2, data: vec![0; length] };
        let octets = MapRegister { authentication, ..register(None) }.encode();
        let keys = [key(Algorithm::Sha256, b"right")];
        assert_eq!(verify(&octets, &keys), Err(AuthenticationError::Length(length)));
    }
}

#[test]
fn each_message_has_a_derived_key_of_its_own() {
    let key = Key::new(1, Algorithm::Sha256Hkdf, b"secret");
    let notify = |ack| MapNotify { ack, nonce: 9, records: vec![mapping()], ..MapNotify::default() };
    let (said, thanked) = (notify(false).signed(&key, Form::default()), notify(true).signed(&key, Form::default()));
    assert_eq!((said[0] >> 4, thanked[0] >> 4), (4, 5));
    assert_ne!(said[16..32], thanked[16..32]);
    let mut forged = said;
    forged[0] = thanked[0];
    let Ok(Message::MapNotify(read)) = Message::parse(&forged) else { panic!("it is well-formed") };
    assert_eq!(read.verify(&forged, std::slice::from_ref(&key)), Err(AuthenticationError::Mac));
    assert!(!format!("{key:?}").contains("secret"));
}

#[test]
fn a_notify_tells_its_identity_by_either_bit() {
    let notify = MapNotify { nonce: 9, records: vec![mapping()], xtr: Some(XTR), ..MapNotify::default() };
    let octets = notify.encode();
    assert_eq!(octets[0], 0x48);
    let read = |octets: &[u8]| match Message::parse(octets) {
        Ok(Message::MapNotify(notify)) => Ok(notify),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let mut copied = octets.clone();
    copied[0] = 0x42;
    assert_eq!((read(&octets), read(&copied)), (Ok(notify.clone()), Ok(notify.clone())));
    copied[0] = 0x40;
    assert!(read(&copied).is_err(), "octets that nothing announces");
    let without = MapNotify { xtr: None, ..notify };
    let mut announced = without.encode();
    announced[0] = 0x48;
    assert_eq!(read(&announced), Ok(without), "the bit alone is no identity");
}

#[test]
fn what_is_announced_must_be_there_and_nothing_else() {
    let key = Key::new(1, Algorithm::Sha256, b"secret");
    let octets = register(Some(XTR)).signed(&key, Form::default());
    for length in 1..octets.len() {
        assert!(Message::parse(&octets[..length]).is_err(), "cut to {length}");
    }
    assert!(Message::parse(&[&octets[..], &[0]].concat()).is_err(), "one octet more");
    let many = MapRegister { records: vec![mapping(); 300], ..register(None) };
    assert_eq!(read(&many.encode()).records.len(), MapRegister::RECORDS_MAX);
}
