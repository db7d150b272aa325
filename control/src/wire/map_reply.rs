//! Map-Reply, type 2.
//!
//! ```text
//! |Type=2 |P|E|S|          Reserved (17)          | Record Count  |
//! |                         Nonce (64)                            |
//! | EID-records ...                               Record Count times
//! | LISP-SEC authentication data ...              if S
//! ```
//!
//! Source: RFC 9301 §5.4; the S bit RFC 9303 §6.2.

use altitude_dataplane::{
    mapping::{Action, EidPrefix, Mapping, Ttl},
    wire::WireError as Malformed,
};

use super::{WireError, cursor::Cursor, record};

pub(super) const TYPE: u8 = 2;

const PROBE: u8 = 8;
const ECHO_NONCE: u8 = 4;
const SECURITY: u8 = 2;

/// The answer to a Map-Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapReply {
    /// As in the request.
    pub nonce: u64,
    /// P bit: answers an RLOC-probe.
    pub probe: bool,
    /// E bit: the site echoes nonces.
    pub echo_nonce: bool,
    /// What the mapping system says, up to 255; more-specifics come along with the prefix asked for.
    pub records: Vec<Mapping>,
    /// S bit: the authentication data as it came, neither read nor verified here; never empty when there.
    pub security: Option<Vec<u8>>,
}

impl MapReply {
    /// Records that fit the Record Count.
    pub const RECORDS_MAX: usize = 255;

    /// The answer that `eid` has no locators: one negative record, not authoritative (RFC 9301 §8.3, §8.4).
    #[must_use]
    pub fn negative(nonce: u64, eid: EidPrefix, ttl: Ttl, action: Action) -> Self {
        let records = vec![Mapping::negative(eid, ttl, action)];
        Self { nonce, probe: false, echo_nonce: false, records, security: None }
    }

    /// Reads a whole Map-Reply.
    pub(super) fn parse(mut cursor: Cursor<'_>) -> Result<Self, WireError> {
        let [flags, _, _, count] = cursor.array()?;
        let nonce = cursor.u64()?;
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(record::read_mapping(&mut cursor)?);
        }
        let security = if flags & SECURITY != 0 {
            let data = cursor.rest();
            if data.is_empty() {
                return Err(Malformed::Contradiction("S bit without authentication data").into());
            }
            Some(data.to_vec())
        } else {
            cursor.end()?;
            None
        };
        Ok(Self { nonce, probe: flags & PROBE != 0, echo_nonce: flags & ECHO_NONCE != 0, records, security })
    }

    /// The octets of the message. Records beyond [`RECORDS_MAX`](Self::RECORDS_MAX) are left out, and so are locators of
    /// one record beyond 255; the S bit is set when there are authentication data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let records = &self.records[..self.records.len().min(Self::RECORDS_MAX)];
        let security = self.security.as_deref().unwrap_or_default();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.probe, PROBE) | flag(self.echo_nonce, ECHO_NONCE) | flag(!security.is_empty(), SECURITY);
        let mut octets = vec![TYPE << 4 | flags, 0, 0, records.len() as u8];
        octets.extend(self.nonce.to_be_bytes());
        for mapping in records {
            record::write_mapping(mapping, &mut octets);
        }
        octets.extend(security);
        octets
    }

    /// Whether it may answer an RLOC-probe: the A bit must be set in every record, or the whole message is discarded
    /// (RFC 9301 §5.4). A message without records speaks for nobody.
    #[must_use]
    pub fn probe_is_authoritative(&self) -> bool {
        self.probe && !self.records.is_empty() && self.records.iter().all(|mapping| mapping.authoritative)
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Ttl};

    use super::*;

    /// Vector P20 with a Map-Version: one record, one locator.
    const REPLY: [u8; 40] = [
        0x20, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, // header and nonce
        0, 0, 5, 0xa0, 1, 24, 0x10, 0, 0x01, 0x23, 0, 1, 198, 51, 100, 0, // record
        1, 100, 255, 0, 0, 1, 0, 1, 203, 0, 113, 2, // locator
    ];

    fn parse(octets: &[u8]) -> Result<MapReply, WireError> {
        MapReply::parse(Cursor::new(octets))
    }

    fn plain() -> MapReply {
        let mapping = Mapping {
            eid: EidPrefix { instance: InstanceId::DEFAULT, prefix: "198.51.100.0/24".parse().unwrap() },
            ttl: Ttl::Minutes(1440),
            version: 0x123,
            action: Action::NoAction,
            authoritative: true,
            locators: vec![Locator::unicast([203, 0, 113, 2].into(), 1, 100)],
        };
        MapReply {
            nonce: 0x0102_0304_0506_0708,
            probe: false,
            echo_nonce: false,
            records: vec![mapping],
            security: None,
        }
    }

    #[test]
    fn each_flag_is_the_bit_of_the_rfc() {
        type Set = fn(&mut MapReply);
        let flags: [(usize, u8, u8, Set); 6] = [
            (0, 0, 0x08, |reply| reply.probe = true),
            (0, 0, 0x04, |reply| reply.echo_nonce = true),
            (18, 0x10, 0, |reply| reply.records[0].authoritative = false),
            (33, 0, 0x04, |reply| reply.records[0].locators[0].local = true),
            (33, 0, 0x02, |reply| reply.records[0].locators[0].probed = true),
            (33, 0x01, 0, |reply| reply.records[0].locators[0].reachable = false),
        ];
        assert_eq!(parse(&REPLY), Ok(plain()));
        for (at, clear, set, change) in flags {
            let (mut octets, mut reply) = (REPLY, plain());
            octets[at] = octets[at] & !clear | set;
            change(&mut reply);
            assert_eq!(parse(&octets), Ok(reply.clone()), "octet {at}");
            assert_eq!(reply.encode(), octets);
        }
    }

    /// G-6.
    #[test]
    fn reserved_bits_host_bits_and_act_beside_locators_change_nothing() {
        for (at, bits) in [
            (0, 0x01_u8), // Reserved
            (1, 0xff),
            (2, 0xff),
            (18, 0xef), // ACT and Reserved
            (19, 0xff),
            (20, 0xf0), // Rsvd
            (27, 0xff), // host bits
            (32, 0xff), // unused flags
            (33, 0xf8),
        ] {
            for bit in (0..8).map(|shift| 1 << shift).filter(|bit| bits & bit != 0) {
                let mut octets = REPLY;
                octets[at] |= bit;
                assert_eq!(parse(&octets), Ok(plain()), "octet {at} bit {bit:#04x}");
            }
        }
    }

    /// G-8.
    #[test]
    fn what_is_announced_must_be_there_and_nothing_else() {
        for length in 0..REPLY.len() {
            assert!(parse(&REPLY[..length]).is_err(), "cut to {length}");
        }
        assert!(parse(&[&REPLY[..], &[0]].concat()).is_err(), "one octet more");
        let mut octets = REPLY;
        octets[0] |= SECURITY;
        assert_eq!(parse(&octets), Err(Malformed::Contradiction("S bit without authentication data").into()));
        let secured = [&octets[..], &[1, 2, 3]].concat();
        let reply = parse(&secured).unwrap();
        assert_eq!(reply.security.as_deref(), Some(&[1, 2, 3][..]));
        assert_eq!(reply.encode(), secured);
        octets = REPLY;
        octets[16] = 0; // no locator: a negative record, and twelve octets too many
        octets[18] |= 3 << 5;
        assert!(parse(&octets).is_err());
        assert_eq!(parse(&octets[..28]).unwrap().records[0].action, Action::Drop);
    }

    #[test]
    fn every_record_of_a_probe_reply_must_be_authoritative() {
        let mut reply = MapReply { probe: true, ..plain() };
        assert!(reply.probe_is_authoritative());
        reply.records.push(Mapping { authoritative: false, ..reply.records[0].clone() });
        assert!(!reply.probe_is_authoritative(), "one of two");
        reply.records.clear();
        assert!(!reply.probe_is_authoritative(), "none at all");
        assert!(!plain().probe_is_authoritative(), "no probe");
    }

    #[test]
    fn what_exceeds_the_count_fields_is_left_out() {
        let mut reply = plain();
        reply.records[0].locators = vec![reply.records[0].locators[0]; 300];
        reply.records = vec![reply.records[0].clone(); 300];
        let read = parse(&reply.encode()).unwrap();
        assert_eq!((read.records.len(), read.records[0].locators.len()), (255, 255));
    }
}
