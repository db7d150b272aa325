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

use altitude_dataplane::{mapping::Mapping, wire::WireError as Malformed};

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
    /// (RFC 9301 §5.4).
    #[must_use]
    pub fn probe_is_authoritative(&self) -> bool {
        self.probe && self.records.iter().all(|mapping| mapping.authoritative)
    }
}
