//! Frames that come from the core and do no good.

use std::net::IpAddr;

use altitude_control::wire::{MapRequest, packet::UdpPacket};
use altitude_dataplane::{
    mapping::{Eid, EidPrefix, InstanceId},
    wire::ethernet::{self, EthernetHeader},
};

use crate::bench::{
    Direction, Families,
    packets::{CORE_MAC, Ends, OUR_MAC, local, rloc, template},
};

/// Frames of each kind: their flows differ.
const EACH: u16 = 64;

/// LISP packets to our RLOC with something wrong inside: a version that is none, a checksum, a length.
pub(super) fn malformed() -> Vec<Vec<u8>> {
    // Ethernet, IPv4, UDP and LISP header are in front of the inner packet.
    const INNER: usize = 14 + 20 + 8 + 8;
    let families = Families { inner4: true, outer4: true };
    let changes: [fn(&mut [u8]); 3] = [|inner| inner[0] = 0x95, |inner| inner[10] ^= 0x55, |inner| inner[2] = 0x40];
    let frame = |number: u16| {
        let ends = Ends {
            local: local(true, 0),
            remote: IpAddr::from([2, 2, 0, 1]),
            rloc: rloc(true, false),
            port: 1000 + number,
            outer_port: 0xc000 + number,
            balance: [0, 0],
        };
        let template = template(Direction::Decap, families, ends, 46);
        let mut octets = template.room()[..template.total().min(template.room().len())].to_vec();
        changes[usize::from(number) % changes.len()](&mut octets[INNER..]);
        octets
    };
    (0..EACH).map(frame).collect()
}

/// Map-Requests for an EID of ours, as well-formed as can be; whoever asks cannot be reached, so that no answer disturbs.
pub(super) fn map_requests() -> Vec<Vec<u8>> {
    let ours = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: local(true, 0) });
    let frame = |number: u16| {
        let asker = IpAddr::from([198, 51, 100, number as u8]);
        let source = Eid { instance: InstanceId::DEFAULT, address: [2, 2, 0, 1].into() };
        let message = MapRequest::lookup(u64::from(number) + 1, Some(source), &[asker], ours).encode();
        let (from, to) = ((rloc(true, false), 4342).into(), (rloc(true, true), 4342).into());
        let packet = UdpPacket { source: from, destination: to, ttl: 64, payload: &message }.encode();
        let mut octets = vec![0; 14];
        EthernetHeader { destination: OUR_MAC, source: CORE_MAC, ethertype: ethernet::IPV4 }.write(&mut octets);
        octets.extend(packet);
        octets
    };
    (0..EACH).map(frame).collect()
}

#[cfg(test)]
mod tests {
    use altitude_control::wire::Message;
    use altitude_dataplane::classify::{Fault, IpHeader};

    use super::*;

    #[test]
    fn frames_are_wrong_where_they_are_meant_to_be_and_nowhere_else() {
        let mut faults = Vec::new();
        for octets in malformed() {
            let (link, outer) = IpHeader::in_frame(&octets).unwrap();
            assert_eq!((link, outer.destination, outer.total), (14, rloc(true, true), octets.len() - 14));
            faults.push(IpHeader::read(&octets[50..]).unwrap_err());
        }
        assert_eq!(faults[..3], [Fault::NotIp, Fault::BadChecksum, Fault::Truncated]);
        for octets in map_requests() {
            let packet = UdpPacket::parse(&octets[14..]).unwrap();
            assert!(matches!(Message::parse(packet.payload), Ok(Message::MapRequest(_))));
        }
    }
}
