//! Traces: what is asked for and what is shown, as octets and back.

use std::time::Instant;

use altitude_dataplane::{
    mapping::Eid,
    tap::{Came, Fate, Reasons, Record, Side},
    verdict::{Reason, Wanted},
};

use super::*;
use crate::api::{TraceAsk, TraceEnd, TraceNews, TracePages, TraceVerdict, Traced, trace};

/// Notes what it is asked to show.
#[derive(Default)]
struct Shower(Vec<Option<TraceAsk>>);

impl View for Shower {
    fn generation(&self) -> u64 {
        0
    }

    fn entries(&self, _: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(std::iter::empty())
    }

    fn counts(&self) -> Vec<Counts> {
        Vec::new()
    }

    fn ports(&self) -> Vec<PortStatus> {
        Vec::new()
    }

    fn alt(&self) -> AltStatus {
        AltStatus::default()
    }
}

impl Router for Shower {
    fn view(&self) -> &dyn View {
        self
    }

    fn perform(&mut self, _: Asker, _: Operation) -> Result<Outcome, Refused> {
        unreachable!("nothing else is asked")
    }

    fn trace(&mut self, _: Asker, ask: Option<TraceAsk>) -> Result<(), Refused> {
        self.0.push(ask);
        Ok(())
    }
}

/// The error number of the answer.
fn asked(router: &mut dyn Router, rights: Rights, body: &[u8]) -> u32 {
    let header = Header { op: Op::TRACE, flags: Flags::default(), errno: 0, sequence: 3, generation: 0 };
    let mut replies = Vec::new();
    handle(&header.message(body), router, &mut Session::new(Asker(1), rights), &mut replies);
    let [reply] = &replies[..] else { panic!("{replies:?}") };
    let (header, _) = Header::split(reply).unwrap();
    assert_eq!((header.op, header.sequence, header.flags), (Op::TRACE, 3, Flags::REPLY));
    header.errno
}

fn body(ask: &TraceAsk) -> Vec<u8> {
    let mut body = Vec::new();
    ask.put(&mut body);
    body
}

#[test]
fn who_may_write_has_packets_shown_and_others_may_not() {
    let eid = "[5]10.0.0.0/8".strip_prefix("[5]").unwrap();
    let whole = TraceAsk {
        eid: Some(EidPrefix { instance: InstanceId::new(5).unwrap(), prefix: eid.parse().unwrap() }),
        rloc: Some("2001:db8::1".parse().unwrap()),
        ports: 5,
        drops: true,
        reasons: vec![Reason::TooBig, Reason::HoldExpired],
        snaplen: 96,
        count: 12,
        time: Duration::from_secs(9),
    };
    let mut router = Shower::default();
    for ask in [&whole, &TraceAsk::default()] {
        assert_eq!(asked(&mut router, Rights::Read, &body(ask)), 1, "EPERM");
        assert_eq!(asked(&mut router, Rights::Write, &body(ask)), 0);
    }
    let end = TraceAsk { count: 0, ..TraceAsk::default() };
    assert_eq!(asked(&mut router, Rights::Write, &body(&end)), 0);
    assert_eq!(router.0, [Some(whole), Some(TraceAsk::default()), None]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let plain = TraceAsk::default;
    let mut unknown = body(&plain());
    put(&mut unknown, kind::REASON, |out| out.extend(b"bad-luck"));
    let mut mandatory = body(&plain());
    put(&mut mandatory, kind::MANDATORY | 0x123, |_| ());
    let longer = Duration::from_secs(86_401);
    for wrong in [
        Vec::new(),
        unknown,
        mandatory,
        body(&TraceAsk { snaplen: 0, ..plain() }),
        body(&TraceAsk { snaplen: 2049, ..plain() }),
        body(&TraceAsk { time: Duration::ZERO, ..plain() }),
        body(&TraceAsk { time: longer, ..plain() }),
        body(&plain())[..9].to_vec(),
    ] {
        let mut router = Shower::default();
        assert_eq!(asked(&mut router, Rights::Write, &wrong), 22, "EINVAL: {wrong:?}");
        assert_eq!(router.0, []);
    }
}

#[test]
fn reasons_are_those_named_or_all_or_none() {
    let named = TraceAsk { reasons: vec![Reason::TooBig], drops: true, ..TraceAsk::default() };
    assert_eq!(named.reasons(), Some(Reasons::default().with(Reason::TooBig)));
    assert_eq!(TraceAsk { drops: true, ..TraceAsk::default() }.reasons(), Some(Reasons::ALL));
    assert_eq!(TraceAsk::default().reasons(), None);
}

#[test]
fn packets_come_through_in_as_many_messages_as_it_takes() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let rloc = "240.0.254.20".parse().unwrap();
    let eid = Eid { instance: InstanceId::new(5).unwrap(), address: "2001:db8::5".parse().unwrap() };
    let fates = [
        (Fate::Encapsulated(rloc), TraceVerdict::Encapsulated(rloc)),
        (Fate::Decapsulated, TraceVerdict::Decapsulated),
        (Fate::Reencapsulated(rloc), TraceVerdict::Reencapsulated(rloc)),
        (Fate::Native, TraceVerdict::Native),
        (Fate::Split, TraceVerdict::Split),
        (Fate::Held(Wanted::Mapping, eid), TraceVerdict::Held { neighbour: false, eid }),
        (Fate::Held(Wanted::Neighbour, eid), TraceVerdict::Held { neighbour: true, eid }),
        (Fate::Dropped(Reason::TooBig), TraceVerdict::Dropped("too-big".into())),
        (Fate::IcmpError, TraceVerdict::IcmpError),
    ];
    let (mut pages, mut messages, mut expected) = (TracePages::default(), Vec::new(), Vec::new());
    for number in 0..90_u32 {
        let (fate, verdict) = &fates[number as usize % fates.len()];
        let side = [Side::In, Side::Out][number as usize % 2];
        let came = [Came::Arrived, Came::Waited, Came::Part][number as usize % 3];
        let egress = (number % 4 != 0).then_some(2);
        let octets = vec![number as u8; 1514];
        let (port, length, captured) = (number as u8 % 16, 1600 + number, 1514);
        let record = Record { trace: 1, at: Instant::now(), port, side, came, fate: *fate, egress, length, captured };
        messages.extend(pages.add(at, &record, &octets));
        expected.push(Traced { at, port, side, came, verdict: verdict.clone(), egress, length, octets });
    }
    messages.extend(pages.finish());
    assert_eq!(messages.len(), 3, "about forty packets in each");
    assert_eq!(pages.finish(), None);
    messages.push(pages.end(12));
    let mut found = Vec::new();
    for message in &messages {
        assert!(message.len() <= MESSAGE_MAX);
        let (header, body) = Header::split(message).unwrap();
        assert_eq!((header.op, header.flags), (Op::TRACE, Flags::EVENT));
        match trace::news(body).unwrap() {
            TraceNews::Packets(packets) => found.extend(packets),
            TraceNews::End(end) => assert_eq!(end, TraceEnd { shown: 90, lost: 12 }),
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn damaged_packets_of_a_trace_are_refused_and_never_panic() {
    let mut pages = TracePages::default();
    let fate = Fate::Dropped(Reason::TooBig);
    let (side, came) = (Side::In, Came::Arrived);
    let record =
        Record { trace: 1, at: Instant::now(), port: 0, side, came, fate, egress: None, length: 60, captured: 9 };
    assert_eq!(pages.add(SystemTime::UNIX_EPOCH, &record, &[7; 9]), None);
    let message = pages.finish().unwrap();
    let (_, body) = Header::split(&message).unwrap();
    assert!(matches!(trace::news(body), Ok(TraceNews::Packets(packets)) if packets.len() == 1));
    for cut in 1..body.len() {
        trace::news(&body[..cut]).unwrap_err();
    }
    let mut refused = 0;
    for at in 0..body.len() {
        for bit in 0..8 {
            let mut damaged = body.to_vec();
            damaged[at] ^= 1 << bit;
            refused += u32::from(trace::news(&damaged).is_err());
        }
    }
    assert!(refused > 40, "{refused} refused");
}
