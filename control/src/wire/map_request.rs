//! Map-Request, type 1.
//!
//! ```text
//! |Type=1 |A|M|P|S|p|s|R|I|  Rsvd   |L|D|   IRC   | Record Count  |
//! |                         Nonce (64)                            |
//! | Source-EID-AFI (16) | Source EID ...
//! | ITR-RLOC-AFI 1 (16) | ITR-RLOC 1 ...        IRC + 1 times
//! |N|Reserved(7) | EID mask-len(8) | EID-Prefix-AFI(16) | EID-Prefix ...   Record Count times
//! | Map-Reply Record: an EID-record with its locators     if M
//! | xTR-ID (128) | Site-ID (64)                           if I
//! ```
//!
//! Source: RFC 9301 §5.2, §5.3; the I and N bits and the trailer RFC 9437 §4.

use std::net::IpAddr;

use altitude_dataplane::{
    mapping::{Eid, EidPrefix, Mapping},
    wire::WireError as Malformed,
};

use super::{WireError, cursor::Cursor, lcaf, record};

pub(super) const TYPE: u8 = 1;

// First octet.
const AUTHORITATIVE: u8 = 0x08;
const REPLY_RECORD: u8 = 0x04;
const PROBE: u8 = 0x02;
const SMR: u8 = 0x01;
// Second octet.
const PITR: u8 = 0x80;
const SMR_INVOKED: u8 = 0x40;
const XTR_IDENTITY: u8 = 0x10;
// Third octet.
const LOCAL_XTR: u8 = 0x40;
const DONT_REPLY: u8 = 0x20;
/// ITR-RLOC Count: one less than there are.
const IRC: u8 = 0x1f;
// In a record.
const NOTIFY: u8 = 0x80;

/// A question to the mapping system or to a locator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRequest {
    /// Random for every message; comes back in the Map-Reply.
    pub nonce: u64,
    /// A bit: the site itself shall answer, not the mapping system.
    pub authoritative: bool,
    /// P bit: an RLOC-probe.
    pub probe: bool,
    /// S bit: Solicit-Map-Request.
    pub smr: bool,
    /// p bit: sent by a PITR.
    pub pitr: bool,
    /// s bit: caused by an SMR.
    pub smr_invoked: bool,
    /// L bit: the sender's address belongs to the site's locator-set.
    pub local_xtr: bool,
    /// D bit: no Map-Reply wanted; used with S.
    pub dont_reply: bool,
    /// The inner source that made us ask; `None` (AFI 0) for refreshes and probes.
    pub source_eid: Option<Eid>,
    /// Where the answer may go, 0 … 32. Empty is what a single ITR-RLOC of AFI 0 reads as: nobody to answer.
    pub itr_rlocs: Vec<IpAddr>,
    /// What is asked for, 1 … 255; a sender asks for one (RFC 9301 §5.2).
    pub records: Vec<RequestRecord>,
    /// M: the sender's own mapping. Not verified by anything: never install it as it is (RFC 9301 §5.3).
    pub reply_record: Option<Mapping>,
    /// I: who subscribes (RFC 9437 §4).
    pub xtr: Option<XtrIdentity>,
}

/// One EID-Prefix asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRecord {
    /// N bit: changes shall be notified (RFC 9437 §4).
    pub notify: bool,
    /// A host for a miss; the cached prefix for refreshes, probes and SMRs.
    pub eid: EidPrefix,
}

/// Which xTR of which site sent a message (RFC 9437 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct XtrIdentity {
    /// Unique within the site.
    pub xtr_id: [u8; 16],
    /// The site.
    pub site_id: u64,
}

impl MapRequest {
    /// ITR-RLOCs that fit the IRC field.
    pub const ITR_RLOCS_MAX: usize = 32;
    /// Records that fit the Record Count.
    pub const RECORDS_MAX: usize = 255;

    /// A look-up: one record, no flag, nothing attached. At most [`ITR_RLOCS_MAX`](Self::ITR_RLOCS_MAX) ITR-RLOCs are
    /// kept.
    #[must_use]
    pub fn lookup(nonce: u64, source_eid: Option<Eid>, itr_rlocs: &[IpAddr], eid: EidPrefix) -> Self {
        Self {
            nonce,
            authoritative: false,
            probe: false,
            smr: false,
            pitr: false,
            smr_invoked: false,
            local_xtr: false,
            dont_reply: false,
            source_eid,
            itr_rlocs: itr_rlocs.iter().take(Self::ITR_RLOCS_MAX).copied().collect(),
            records: vec![RequestRecord { notify: false, eid }],
            reply_record: None,
            xtr: None,
        }
    }

    /// Reads a whole Map-Request.
    pub(super) fn parse(mut cursor: Cursor<'_>) -> Result<Self, WireError> {
        let [first, second, third, count] = cursor.array()?;
        if count == 0 {
            return Err(Malformed::Contradiction("Map-Request without a record").into());
        }
        let nonce = cursor.u64()?;
        let source_eid = lcaf::read_eid(&mut cursor)?;
        let mut itr_rlocs = Vec::new();
        for _ in 0..=third & IRC {
            itr_rlocs.extend(lcaf::read_rlocs(&mut cursor)?);
        }
        // Lists may make them more than their number says.
        itr_rlocs.truncate(Self::ITR_RLOCS_MAX);
        let mut records = Vec::new();
        for _ in 0..count {
            let [notify, length] = cursor.array()?;
            records
                .push(RequestRecord { notify: notify & NOTIFY != 0, eid: record::read_prefix(length, &mut cursor)? });
        }
        let reply_record = if first & REPLY_RECORD != 0 { Some(record::read_mapping(&mut cursor)?) } else { None };
        let xtr = if second & XTR_IDENTITY != 0 {
            Some(XtrIdentity { xtr_id: cursor.array()?, site_id: cursor.u64()? })
        } else {
            None
        };
        cursor.end()?;
        Ok(Self {
            nonce,
            authoritative: first & AUTHORITATIVE != 0,
            probe: first & PROBE != 0,
            smr: first & SMR != 0,
            pitr: second & PITR != 0,
            smr_invoked: second & SMR_INVOKED != 0,
            local_xtr: third & LOCAL_XTR != 0,
            dont_reply: third & DONT_REPLY != 0,
            source_eid,
            itr_rlocs,
            records,
            reply_record,
            xtr,
        })
    }

    /// The octets of the message. What exceeds [`ITR_RLOCS_MAX`](Self::ITR_RLOCS_MAX) or
    /// [`RECORDS_MAX`](Self::RECORDS_MAX) is left out; without ITR-RLOCs one of AFI 0 is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let itr_rlocs = &self.itr_rlocs[..self.itr_rlocs.len().min(Self::ITR_RLOCS_MAX)];
        let records = &self.records[..self.records.len().min(Self::RECORDS_MAX)];
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut octets = vec![
            TYPE << 4
                | flag(self.authoritative, AUTHORITATIVE)
                | flag(self.reply_record.is_some(), REPLY_RECORD)
                | flag(self.probe, PROBE)
                | flag(self.smr, SMR),
            flag(self.pitr, PITR) | flag(self.smr_invoked, SMR_INVOKED) | flag(self.xtr.is_some(), XTR_IDENTITY),
            flag(self.local_xtr, LOCAL_XTR)
                | flag(self.dont_reply, DONT_REPLY)
                | itr_rlocs.len().saturating_sub(1) as u8,
            records.len() as u8,
        ];
        octets.extend(self.nonce.to_be_bytes());
        lcaf::write_eid(self.source_eid, &mut octets);
        for &itr_rloc in itr_rlocs {
            lcaf::write_rloc(itr_rloc, &mut octets);
        }
        if itr_rlocs.is_empty() {
            lcaf::write_absent(&mut octets);
        }
        for record in records {
            octets.extend([flag(record.notify, NOTIFY), record.eid.prefix.length()]);
            record::write_prefix(&record.eid, &mut octets);
        }
        if let Some(mapping) = &self.reply_record {
            record::write_mapping(mapping, &mut octets);
        }
        if let Some(xtr) = &self.xtr {
            octets.extend(xtr.xtr_id);
            octets.extend(xtr.site_id.to_be_bytes());
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::InstanceId;

    use super::*;

    /// Vector Q01: one IPv4 ITR-RLOC, one host asked for.
    const Q01: [u8; 32] = [
        0x10, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, // header and nonce
        0, 1, 192, 0, 2, 10, // source EID
        0, 1, 203, 0, 113, 1, // ITR-RLOC
        0, 32, 0, 1, 198, 51, 100, 20, // record
    ];

    fn parse(octets: &[u8]) -> Result<MapRequest, WireError> {
        MapRequest::parse(Cursor::new(octets))
    }

    fn plain() -> MapRequest {
        let source = Eid { instance: InstanceId::DEFAULT, address: [192, 0, 2, 10].into() };
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: "198.51.100.20".parse().unwrap() };
        MapRequest::lookup(0x0102_0304_0506_0708, Some(source), &[[203, 0, 113, 1].into()], eid)
    }

    #[test]
    fn each_flag_is_the_bit_of_the_rfc() {
        type Set = fn(&mut MapRequest);
        let flags: [(usize, u8, Set); 8] = [
            (0, 0x08, |request| request.authoritative = true),
            (0, 0x02, |request| request.probe = true),
            (0, 0x01, |request| request.smr = true),
            (1, 0x80, |request| request.pitr = true),
            (1, 0x40, |request| request.smr_invoked = true),
            (2, 0x40, |request| request.local_xtr = true),
            (2, 0x20, |request| request.dont_reply = true),
            (24, 0x80, |request| request.records[0].notify = true),
        ];
        assert_eq!(parse(&Q01), Ok(plain()));
        for (at, bit, set) in flags {
            let (mut octets, mut request) = (Q01, plain());
            octets[at] |= bit;
            set(&mut request);
            assert_eq!(parse(&octets), Ok(request.clone()), "octet {at} bit {bit:#04x}");
            assert_eq!(request.encode(), octets);
        }
    }

    /// LOC-10: an ITR-RLOC may be an AFI-List: all its addresses are ITR-RLOCs, as many as there may be.
    #[test]
    fn the_addresses_of_a_list_are_itr_rlocs() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let with = |addresses: &[IpAddr]| {
            let mut octets = Q01[..18].to_vec();
            lcaf::write_list(addresses, &mut octets);
            octets.extend(&Q01[24..]);
            octets[2] = 1;
            octets.splice(18..18, [0, 1, 203, 0, 113, 9]);
            parse(&octets).map(|request| request.itr_rlocs)
        };
        let (first, second) = (IpAddr::from([203, 0, 113, 9]), IpAddr::from([203, 0, 113, 1]));
        assert_eq!(with(&[v6, second]), Ok(vec![first, v6, second]));
        let three = [&Q01[..18], &[0x40, 3, 0, 0, 1, 0, 0, 96], &[0, 1, 203, 0, 113, 1].repeat(16)].concat();
        let mut octets = [&three[..], &three[18..], &three[18..], &Q01[24..]].concat();
        octets[2] = 2;
        assert_eq!(parse(&octets).map(|request| request.itr_rlocs.len()), Ok(MapRequest::ITR_RLOCS_MAX));
    }

    /// G-6.
    #[test]
    fn reserved_bits_change_nothing() {
        // R and Rsvd in the second and third octet; Reserved in the record.
        for (at, bits) in [(1, 0x2f_u8), (2, 0x80), (24, 0x7f)] {
            for bit in (0..8).map(|shift| 1 << shift).filter(|bit| bits & bit != 0) {
                let mut octets = Q01;
                octets[at] |= bit;
                assert_eq!(parse(&octets), Ok(plain()), "octet {at} bit {bit:#04x}");
            }
        }
    }

    #[test]
    fn what_is_announced_must_be_there_and_nothing_else() {
        for length in 0..Q01.len() {
            assert!(parse(&Q01[..length]).is_err(), "cut to {length}");
        }
        let left_over = Err(Malformed::Contradiction("octets left over after the message").into());
        assert_eq!(parse(&[&Q01[..], &[0]].concat()), left_over);
        let mut octets = Q01;
        octets[1] |= XTR_IDENTITY;
        assert!(parse(&octets).is_err(), "I without its trailer");
        assert_eq!(parse(&[&octets[..], &[7; 24]].concat()).unwrap().xtr.unwrap().site_id, 0x0707_0707_0707_0707);
        assert!(parse(&[&octets[..], &[7; 25]].concat()).is_err());
        octets = Q01;
        octets[0] |= REPLY_RECORD;
        assert!(parse(&octets).is_err(), "M without its record");
        octets = Q01;
        octets[3] = 0;
        assert_eq!(parse(&octets[..24]), Err(Malformed::Contradiction("Map-Request without a record").into()));
        octets = Q01;
        octets[25] = 33;
        assert!(parse(&octets).is_err(), "33 bits of an IPv4 address");
    }

    #[test]
    fn what_exceeds_the_count_fields_is_left_out() {
        let mut request = plain();
        request.itr_rlocs = (0..=255).map(|last| [10, 0, 0, last].into()).collect();
        request.records = vec![request.records[0]; 300];
        let read = parse(&request.encode()).unwrap();
        assert_eq!((&read.itr_rlocs[..], read.records.len()), (&request.itr_rlocs[..32], 255));
    }
}
