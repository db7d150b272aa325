//! Into and out of the encapsulation of a Map-Request.

use std::net::{IpAddr, SocketAddr};

use altitude_dataplane::{mapping::Eid, wire::WireError as Malformed};

use crate::{
    alt::datagrams::CONTROL_PORT,
    fault::faults,
    wire::{
        MapRequest, Message, WireError,
        ecm::{self, Ecm},
        packet::UdpPacket,
    },
};

/// TTL of the inner packets we make.
const TTL: u8 = 64;

/// A Map-Request out of an ECM.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened<'a> {
    /// The inner IP packet, whole.
    pub packet: &'a [u8],
    /// Its datagram.
    pub datagram: UdpPacket<'a>,
    /// LISP-SEC's authentication data, which nobody has looked at.
    pub security: Option<&'a [u8]>,
    /// The message in it.
    pub request: MapRequest,
    /// The EID asked for: the inner destination, in the instance of the record that holds it.
    pub eid: Eid,
}

faults! {
    /// Why an ECM was dropped before anybody looked at who sent it.
    EcmFault {
        /// Cut off, or fields that contradict each other, or no control message inside.
        Malformed = "ecm-malformed",
        /// A wrong inner IPv4 header or UDP checksum, or none.
        Checksum = "ecm-bad-checksum",
        /// A Map-Referral is asked for (RFC 8111 §5).
        Ddt = "ecm-ddt",
        /// The inner packet is not UDP to port 4342: a Data-Probe, for instance (RFC 6836 §8.2).
        NotControl = "ecm-not-control",
        /// An ECM inside an ECM.
        Nested = "ecm-in-ecm",
        /// A control message other than a Map-Request.
        NotMapRequest = "ecm-not-map-request",
        /// An RLOC-probe (RFC 9301 §5.2).
        Probe = "ecm-probe",
        /// A Solicit-Map-Request, which goes to an RLOC.
        Smr = "ecm-smr",
        /// No record holds the EID that the inner packet is addressed to.
        EidMismatch = "ecm-eid-mismatch",
        /// The EID is not ours, and this router is no Map-Resolver.
        NotResolver = "ecm-no-map-resolver",
    }
}

/// Takes a Map-Request for the mapping system out of an ECM.
///
/// # Errors
/// [`EcmFault`]: drop and count.
pub fn open(octets: &[u8]) -> Result<Opened<'_>, EcmFault> {
    let ecm = Ecm::parse(octets).map_err(|error| match error {
        WireError::Malformed(Malformed::Checksum(_)) => EcmFault::Checksum,
        // The inner packet is no UDP, or a fragment.
        WireError::Malformed(Malformed::Contradiction("not UDP")) => EcmFault::NotControl,
        _ => EcmFault::Malformed,
    })?;
    let Ecm { ddt, packet, datagram, .. } = ecm;
    if ddt {
        return Err(EcmFault::Ddt);
    }
    if datagram.destination.port() != CONTROL_PORT {
        return Err(EcmFault::NotControl);
    }
    let request = match Message::parse(datagram.payload).map_err(|_| EcmFault::Malformed)? {
        Message::MapRequest(request) if request.probe => return Err(EcmFault::Probe),
        Message::MapRequest(request) if request.smr => return Err(EcmFault::Smr),
        Message::MapRequest(request) => request,
        Message::Other(ecm::TYPE) => return Err(EcmFault::Nested),
        _ => return Err(EcmFault::NotMapRequest),
    };
    let address = datagram.destination.ip();
    let record = request.records.iter().find(|record| record.eid.prefix.contains(address));
    let instance = record.ok_or(EcmFault::EidMismatch)?.eid.instance;
    Ok(Opened { packet, datagram, security: ecm.security(), request, eid: Eid { instance, address } })
}

/// The ECM in which an ITR asks its Map-Resolver for `target`: from `rloc`, or where that is of the other family from the
/// EID that asks (RFC 9301 §5.8). `None` where neither is of the target's family. `security` are LISP-SEC's authentication data.
#[must_use]
pub fn enclose(request: &MapRequest, rloc: Option<IpAddr>, target: IpAddr, security: Option<&[u8]>) -> Option<Vec<u8>> {
    let asking = request.source_eid.map(|eid| eid.address);
    let fits = |address: &IpAddr| address.is_ipv4() == target.is_ipv4();
    let source = rloc.filter(fits).or(asking.filter(fits))?;
    let packet = UdpPacket {
        source: SocketAddr::new(source, CONTROL_PORT),
        destination: SocketAddr::new(target, CONTROL_PORT),
        ttl: TTL,
        payload: &request.encode(),
    };
    let packet = packet.encode();
    Some(match security {
        Some(security) => ecm::encapsulate_secured(security, &packet),
        None => ecm::encapsulate(&packet),
    })
}
