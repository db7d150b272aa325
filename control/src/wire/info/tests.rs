use altitude_dataplane::mapping::InstanceId;

use super::*;
use crate::wire::{Algorithm, Message};

/// An Info-Reply of four RTRs, by hand.
fn reply() -> Info {
    Info {
        nonce: 0x0102_0304_0506_0708,
        authentication: Authentication::default(),
        ttl: 10,
        eid: EidPrefix { instance: InstanceId::DEFAULT, prefix: "2.2.0.0/16".parse().unwrap() },
        reply: Some(Translation {
            map_server_port: 4342,
            etr_port: 40_001,
            etr: [203, 0, 113, 50].into(),
            map_server: Some([203, 0, 113, 100].into()),
            private_etr: None,
            rtrs: vec![[203, 0, 113, 200].into(), "2001:db8::200".parse().unwrap()],
        }),
    }
}

fn read(octets: &[u8]) -> Result<Message, WireError> {
    Message::parse(octets)
}

/// RTR-2.
#[test]
fn octets_and_value() {
    let head = [0x78, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 10, 0, 16, 0, 1, 2, 2, 0, 0];
    let body = [
        &[0x40, 3, 0, 0, 7, 0, 0, 42, 0x10, 0xf6, 0x9c, 0x41][..],
        &[0, 1, 203, 0, 113, 50, 0, 1, 203, 0, 113, 100, 0, 0],
        &[0, 1, 203, 0, 113, 200],
        &[0, 2, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0],
    ];
    let octets = [&head[..], &body.concat()].concat();
    assert_eq!(reply().encode(), octets);
    assert_eq!(read(&octets), Ok(Message::Info(reply())));
    for length in 0..octets.len() {
        // Between two RTRs it would end well, did not the LCAF's length say more.
        assert!(read(&octets[..length]).is_err(), "cut to {length}");
    }
    let request = Info { reply: None, ..reply() };
    let octets = request.encode();
    assert_eq!((octets[0], &octets[octets.len() - 2..]), (0x70, &[0, 0][..]));
    assert_eq!(read(&octets), Ok(Message::Info(request)));
}

#[test]
fn question_and_answer_are_not_mixed_up() {
    let flipped = |info: Info| {
        let mut octets = info.encode();
        octets[0] ^= REPLY;
        read(&octets)
    };
    let contradiction = |text| Err(Malformed::Contradiction(text).into());
    assert_eq!(flipped(reply()), contradiction("an Info-Request that answers"));
    assert_eq!(flipped(Info { reply: None, ..reply() }), contradiction("an Info-Reply that tells nothing"));
    // Another LCAF, and a plain address, where the NAT-Traversal LCAF stands.
    let octets = Info { reply: None, ..reply() }.encode();
    let before = &octets[..octets.len() - 2];
    for end in [&[0x40, 3, 0, 0, 1, 0, 0, 0][..], &[0, 1, 1, 2, 3, 4]] {
        assert_eq!(read(&[before, end].concat()), contradiction("neither nothing nor a NAT-Traversal LCAF"));
    }
    let mut nobody = reply();
    nobody.reply.as_mut().unwrap().rtrs.clear();
    assert_eq!(read(&nobody.encode()), Ok(Message::Info(nobody)));
}

#[test]
fn no_more_rtrs_are_believed_than_may_be() {
    let many: Vec<IpAddr> = (0..40).map(|last| [203, 0, 113, last].into()).collect();
    let mut body = reply().reply.unwrap();
    body.rtrs.clear();
    let mut body = body.body();
    many.iter().for_each(|rtr| lcaf::write_rloc(*rtr, &mut body));
    let read = Translation::parse(Cursor::new(&body)).unwrap();
    assert_eq!(read.rtrs, many[..Translation::RTRS_MAX]);
    // What is no address refuses the message, also behind the last that counts.
    body.extend([0x12, 0x34]);
    assert_eq!(Translation::parse(Cursor::new(&body)), Err(WireError::UnknownAfi(0x1234)));
}

/// RTR-2: nobody but who has the key asks or answers.
#[test]
fn the_mac_is_over_the_whole_message() {
    for algorithm in Algorithm::ALL {
        let key = [Key::new(3, algorithm, b"site key")];
        for info in [reply(), Info { reply: None, ..reply() }] {
            let octets = info.clone().signed(&key[0], Form::default());
            let Ok(Message::Info(read)) = read(&octets) else { panic!("an Info message") };
            assert_eq!(read.verify(&octets, &key), Ok(&key[0]));
            assert_eq!(Info { authentication: Authentication::default(), ..read.clone() }, info);
            for at in 0..octets.len() {
                let mut forged = octets.clone();
                forged[at] ^= 1;
                let Ok(Message::Info(read)) = Message::parse(&forged) else { continue };
                assert!(read.verify(&forged, &key).is_err(), "octet {at}");
            }
            let other = [Key::new(3, algorithm, b"another")];
            assert_eq!(read.verify(&octets, &other), Err(AuthenticationError::Mac));
            assert_eq!(read.verify(&octets, &[]), Err(AuthenticationError::UnknownKey(3)));
        }
    }
}
