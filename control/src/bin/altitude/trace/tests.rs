use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use altitude_dataplane::{
    mapping::{Eid, InstanceId},
    verdict::Reason,
};
use pcap_file::pcapng::{
    Block, PcapNgReader,
    blocks::{enhanced_packet::EnhancedPacketOption, interface_description::InterfaceDescriptionOption},
};

use super::*;

const AT: Duration = Duration::new(1_700_000_000, 123_456_789);

fn traced(side: Side, came: Came, verdict: TraceVerdict, egress: Option<u8>) -> Traced {
    let port = if side == Side::In { 0 } else { 1 };
    Traced { at: UNIX_EPOCH + AT, port, side, came, verdict, egress, length: 98, octets: vec![7; 60] }
}

fn names() -> Vec<String> {
    vec!["eth1".to_owned(), "eth0".to_owned()]
}

fn cases() -> Vec<(Traced, &'static str)> {
    use Came::{Arrived, Part, Waited};
    use Side::{In, Out};
    use TraceVerdict::*;
    let rloc = "240.0.254.20".parse().unwrap();
    let eid = |number: u32, address: &str| Eid {
        instance: InstanceId::new(number).unwrap(),
        address: address.parse().unwrap(),
    };
    vec![
        (traced(In, Arrived, Encapsulated(rloc), Some(1)), "in by eth1: encapsulated to 240.0.254.20, out by eth0"),
        (traced(Out, Arrived, Encapsulated(rloc), Some(1)), "out by eth0: encapsulated to 240.0.254.20"),
        (traced(In, Arrived, Decapsulated, Some(1)), "in by eth1: decapsulated, out by eth0"),
        (
            traced(In, Arrived, Reencapsulated(rloc), Some(9)),
            "in by eth1: re-encapsulated to 240.0.254.20, out by a port that is gone",
        ),
        (traced(In, Waited, Native, Some(1)), "in by eth1: after its wait forwarded natively, out by eth0"),
        (traced(In, Arrived, Split, None), "in by eth1: split in two"),
        (
            traced(In, Part, Decapsulated, Some(1)),
            "in by eth1: part of a packet that was split, decapsulated, out by eth0",
        ),
        (
            traced(In, Arrived, Held { neighbour: false, eid: eid(5, "2.2.2.2") }, None),
            "in by eth1: missed: held until a mapping for [5]2.2.2.2 comes",
        ),
        (
            traced(In, Arrived, Held { neighbour: true, eid: eid(0, "1.1.1.1") }, None),
            "in by eth1: missed: held until the link-layer address of 1.1.1.1 comes",
        ),
        (traced(In, Arrived, Dropped(Cow::Borrowed("ttl-expired")), None), "in by eth1: dropped, ttl-expired"),
        (
            traced(In, Waited, Dropped(Cow::Borrowed("hold-expired")), None),
            "in by eth1: after its wait dropped, hold-expired",
        ),
        (traced(Out, Arrived, IcmpError, None), "out by eth0: an ICMP error of ours"),
    ]
}

#[test]
fn comments_say_port_direction_and_verdict() {
    for (packet, expected) in cases() {
        assert_eq!(comment(&packet, &names()), expected);
    }
}

#[test]
fn a_capture_has_an_interface_for_each_port_and_a_comment_on_each_packet() {
    let mut file = Vec::new();
    let mut capture = Capture::begin(&mut file, &names(), 128).unwrap();
    for (packet, comment) in cases() {
        capture.add(&packet, comment).unwrap();
    }
    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                interfaces.push((interface.snaplen, interface.into_owned().options));
            }
            Block::EnhancedPacket(packet) => {
                assert_eq!((packet.timestamp, packet.original_len, &packet.data[..]), (AT, 98, &[7; 60][..]));
                packets.push((packet.interface_id, packet.into_owned().options));
            }
            other => panic!("{other:?}"),
        }
    }
    let interface = |name: &'static str| {
        (128, vec![InterfaceDescriptionOption::IfName(name.into()), InterfaceDescriptionOption::IfTsResol(9)])
    };
    assert_eq!(interfaces, [interface("eth1"), interface("eth0")]);
    let expected = cases().into_iter().map(|(packet, comment)| {
        let direction = if packet.side == Side::In { 1 } else { 2 };
        (
            packet.port.into(),
            vec![EnhancedPacketOption::Comment(comment.into()), EnhancedPacketOption::Flags(direction)],
        )
    });
    assert_eq!(packets, expected.collect::<Vec<(u32, _)>>());
}

#[test]
fn ports_are_asked_for_by_their_numbers_and_the_end_is_told() {
    use clap::Parser;
    let asked = |given: &[&str]| {
        let all = ["altitude", "trace"].iter().chain(given);
        match crate::cli::Cli::try_parse_from(all).unwrap().command {
            crate::cli::Command::Trace(arguments) => ask(&arguments, &names()),
            other => panic!("{other:?} is not trace"),
        }
    };
    assert_eq!(asked(&[]).unwrap(), TraceAsk::default());
    let given = asked(&[
        "--port",
        "eth0",
        "--drops",
        "--reason=too-big,ttl-expired",
        "--eid=[5]10.0.0.0/8",
        "--rloc=240.0.254.20",
        "--snaplen=96",
        "-c",
        "3",
        "-s",
        "9",
    ]);
    let expected = TraceAsk {
        eid: Some(altitude_dataplane::mapping::EidPrefix {
            instance: InstanceId::new(5).unwrap(),
            prefix: "10.0.0.0/8".parse().unwrap(),
        }),
        rloc: Some("240.0.254.20".parse().unwrap()),
        ports: 0b10,
        drops: true,
        reasons: vec![Reason::TooBig, Reason::TtlExpired],
        snaplen: 96,
        count: 3,
        time: Duration::from_secs(9),
    };
    assert_eq!(given.unwrap(), expected);
    let unknown = asked(&["--port", "eth7"]).unwrap_err().to_string();
    assert_eq!(unknown, "eth7 is no port of this router: it has eth1, eth0");
    for wrong in ["--reason=bad-luck", "--count=0", "--seconds=0", "--snaplen=4000"] {
        assert_eq!(
            crate::cli::Cli::try_parse_from(["altitude", "trace", wrong]).unwrap_err().exit_code(),
            2,
            "{wrong}"
        );
    }
    assert_eq!(said(TraceEnd { shown: 1, lost: 0 }), "1 packet\n");
    assert_eq!(said(TraceEnd { shown: 7, lost: 12 }), "7 packets; 12 packets were not traced\n");
}

#[test]
fn a_line_has_time_addresses_and_comment() {
    let mut packet = traced(Side::In, Came::Arrived, TraceVerdict::Dropped("site-not-ip".into()), None);
    packet.at = SystemTime::UNIX_EPOCH + Duration::from_millis(3_661_001);
    let printed = line(&packet, "in by eth1: dropped, site-not-ip");
    assert_eq!(printed, "01:01:01.001  no IP packet to be read  98 octets  in by eth1: dropped, site-not-ip");
}
