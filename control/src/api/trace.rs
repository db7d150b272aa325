//! What the router does with packets ⇄ messages: what is to be shown, and the packets with what became of them.

use std::{
    borrow::Cow,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use altitude_dataplane::{
    mapping::{Eid, EidPrefix, InstanceId, PortIndex},
    tap::{Came, Fate, Reasons, Record, Side},
    verdict::{Reason, Wanted},
};

use super::{
    Flags, Header, Op, Refused, entry,
    message::{Fields, HEADER, MESSAGE_MAX, ProtocolError, Tlvs, kind, put, put_address},
};

/// Longest trace.
pub const TRACE_LONGEST: Duration = Duration::from_secs(86_400);
/// Most octets of a packet that are shown.
pub const SNAPLEN_MAX: u16 = 2048;
/// In the place of a port: none.
const NO_PORT: u8 = u8::MAX;
/// In the place of an AFI: no address follows.
const NO_ADDRESS: u16 = 0;
/// In the flags of TRACE.
const DROPS: u8 = 1;

/// Which packets are to be shown, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceAsk {
    /// With one end in this prefix.
    pub eid: Option<EidPrefix>,
    /// With this end of their outer header.
    pub rloc: Option<IpAddr>,
    /// Bit n for port n, by which they come or go.
    pub ports: u16,
    /// Dropped, for whatever reason.
    pub drops: bool,
    /// Dropped for one of these, where there are any.
    pub reasons: Vec<Reason>,
    /// Octets of each packet.
    pub snaplen: u16,
    /// So many at most.
    pub count: u64,
    /// For so long at most.
    pub time: Duration,
}

impl Default for TraceAsk {
    /// A thousand packets within a minute, whole.
    fn default() -> Self {
        Self {
            eid: None,
            rloc: None,
            ports: u16::MAX,
            drops: false,
            reasons: Vec::new(),
            snaplen: SNAPLEN_MAX,
            count: 1000,
            time: Duration::from_secs(60),
        }
    }
}

impl TraceAsk {
    /// The reasons as workers take them; `None` where packets that are not dropped are wanted, too.
    #[must_use]
    pub fn reasons(&self) -> Option<Reasons> {
        let named = self.reasons.iter().fold(Reasons::default(), |set, reason| set.with(*reason));
        match (self.reasons.is_empty(), self.drops) {
            (false, _) => Some(named),
            (true, true) => Some(Reasons::ALL),
            (true, false) => None,
        }
    }

    /// Appends TRACE and what stands beside it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, kind::TRACE, |out| {
            out.extend(self.count.to_le_bytes());
            out.extend((self.time.as_millis() as u32).to_le_bytes());
            out.extend(self.ports.to_le_bytes());
            out.extend(self.snaplen.to_le_bytes());
            out.push(if self.drops { DROPS } else { 0 });
        });
        if let Some(eid) = self.eid {
            entry::put_instance(out, eid.instance);
            entry::put_prefix(out, eid.prefix);
        }
        if let Some(rloc) = self.rloc {
            put(out, kind::FROM, |out| put_address(out, rloc));
        }
        for reason in &self.reasons {
            put(out, kind::REASON, |out| out.extend(reason.name().as_bytes()));
        }
    }

    /// Reads a request; `None` ends the trace that runs.
    ///
    /// # Errors
    /// [`Refused::Invalid`], what makes no sense.
    pub(super) fn read(body: &[u8]) -> Result<Option<Self>, Refused> {
        let mut ask = Self::default();
        let (mut terms, mut instance, mut prefix) = (false, InstanceId::DEFAULT, None);
        for tlv in Tlvs(body) {
            let (kind, mut fields) = tlv?;
            match kind {
                kind::TRACE => {
                    terms = true;
                    ask.count = fields.u64()?;
                    ask.time = Duration::from_millis(fields.u32()?.into());
                    (ask.ports, ask.snaplen) = (fields.u16()?, fields.u16()?);
                    ask.drops = fields.u8()? & DROPS != 0;
                }
                kind::IID => instance = entry::instance(fields)?,
                kind::EID => prefix = Some(entry::prefix(fields)?),
                kind::FROM => ask.rloc = Some(fields.address()?),
                kind::REASON => {
                    let name = fields.text()?;
                    let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
                    let reason =
                        reason.ok_or_else(|| Refused::Invalid(format!("no packet is dropped for '{name}'")))?;
                    ask.reasons.push(*reason);
                }
                other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other).into()),
                _ => {}
            }
        }
        ask.eid = prefix.map(|prefix| EidPrefix { instance, prefix });
        if !terms {
            return Err(Refused::Invalid("TRACE is missing".to_owned()));
        }
        if ask.count == 0 {
            return Ok(None);
        }
        if ask.time.is_zero() || ask.time > TRACE_LONGEST || ask.snaplen == 0 || ask.snaplen > SNAPLEN_MAX {
            return Err(Refused::Invalid(
                "a trace lasts a day at most, and shows 1 to 2048 octets of a packet".to_owned(),
            ));
        }
        Ok(Some(ask))
    }
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceVerdict {
    /// Sent to this RLOC with an outer header.
    Encapsulated(IpAddr),
    /// The inner packet was sent on.
    Decapsulated,
    /// Sent from one tunnel into another, to this RLOC.
    Reencapsulated(IpAddr),
    /// Sent without an outer header.
    Native,
    /// Cut in two, each decided on by itself.
    Split,
    /// Held until this is known: the mapping of an EID, or the link-layer address of a neighbour.
    Held {
        /// Which of the two.
        neighbour: bool,
        /// Whose.
        eid: Eid,
    },
    /// Dropped; the name is that of the counter.
    Dropped(Cow<'static, str>),
    /// An ICMP error of ours.
    IcmpError,
}

/// One packet, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// When, to the turn of the worker.
    pub at: SystemTime,
    /// The port that it came in by or goes out by.
    pub port: PortIndex,
    /// Which of the two.
    pub side: Side,
    /// How it came to be decided on.
    pub came: Came,
    /// What became of it.
    pub verdict: TraceVerdict,
    /// Port that a packet which was sent goes out by.
    pub egress: Option<PortIndex>,
    /// Octets of the packet, from the Ethernet header on.
    pub length: u32,
    /// The first of them.
    pub octets: Vec<u8>,
}

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEnd {
    /// Packets shown.
    pub shown: u64,
    /// Packets that would have been, but found no room on their way.
    pub lost: u64,
}

/// What comes of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceNews {
    /// Packets.
    Packets(Vec<Traced>),
    /// It is over.
    End(TraceEnd),
}

const SIDES: [Side; 2] = [Side::In, Side::Out];
const WAYS: [Came; 3] = [Came::Arrived, Came::Waited, Came::Part];

/// Messages being filled with packets.
#[derive(Debug, Default)]
pub struct TracePages {
    /// Packets so far.
    shown: u64,
    body: Vec<u8>,
}

impl TracePages {
    /// Adds a packet, of which `octets` were copied; gives the message that was full before.
    pub fn add(&mut self, at: SystemTime, record: &Record, octets: &[u8]) -> Option<Vec<u8>> {
        let mut group = Vec::new();
        put_traced(&mut group, at, record, octets);
        let full = HEADER + self.body.len() + group.len() > MESSAGE_MAX;
        let message = if full { self.finish() } else { None };
        self.body.extend(group);
        self.shown += 1;
        message
    }

    /// The message that was begun, if there is one.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let body = std::mem::take(&mut self.body);
        (!body.is_empty()).then(|| self.message(&body))
    }

    /// The last message: `lost` packets found no room.
    #[must_use]
    pub fn end(&self, lost: u64) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, kind::TRACE_END, |out| {
            out.extend(self.shown.to_le_bytes());
            out.extend(lost.to_le_bytes());
        });
        self.message(&body)
    }

    /// Packets so far.
    #[must_use]
    pub const fn shown(&self) -> u64 {
        self.shown
    }

    fn message(&self, body: &[u8]) -> Vec<u8> {
        Header { op: Op::TRACE, flags: Flags::EVENT, errno: 0, sequence: 0, generation: self.shown }.message(body)
    }
}

fn put_traced(out: &mut Vec<u8>, at: SystemTime, record: &Record, octets: &[u8]) {
    let (number, address, eid, name) = match record.fate {
        Fate::Encapsulated(rloc) => (1, Some(rloc), None, ""),
        Fate::Decapsulated => (2, None, None, ""),
        Fate::Reencapsulated(rloc) => (3, Some(rloc), None, ""),
        Fate::Native => (4, None, None, ""),
        Fate::Split => (5, None, None, ""),
        Fate::Held(Wanted::Mapping, eid) => (6, Some(eid.address), Some(eid), ""),
        Fate::Held(Wanted::Neighbour, eid) => (7, Some(eid.address), Some(eid), ""),
        Fate::Dropped(reason) => (8, None, None, reason.name()),
        Fate::IcmpError => (9, None, None, ""),
    };
    put(out, kind::TRACED, |out| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.extend((since.as_nanos() as u64).to_le_bytes());
        out.extend([record.port, record.side as u8, record.came as u8, number, record.egress.unwrap_or(NO_PORT)]);
        out.extend(record.length.to_le_bytes());
        out.extend(eid.map_or(0, |eid: Eid| eid.instance.get()).to_le_bytes());
        match address {
            Some(address) => put_address(out, address),
            None => out.extend(NO_ADDRESS.to_be_bytes()),
        }
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.extend(octets);
    });
}

fn traced(mut fields: Fields<'_>) -> Result<Traced, ProtocolError> {
    const VALUE: ProtocolError = ProtocolError::Value("a packet of a trace has a value out of its range");
    let at = UNIX_EPOCH + Duration::from_nanos(fields.u64()?);
    let port = fields.u8()?;
    let side = *SIDES.get(usize::from(fields.u8()?)).ok_or(VALUE)?;
    let came = *WAYS.get(usize::from(fields.u8()?)).ok_or(VALUE)?;
    let (number, egress, length) = (fields.u8()?, fields.u8()?, fields.u32()?);
    let instance = InstanceId::new(fields.u32()?).ok_or(VALUE)?;
    let address = match fields.afi()? {
        NO_ADDRESS => None,
        afi => Some(fields.address_of(afi)?),
    };
    let named = usize::from(fields.u8()?);
    let (name, octets) = fields.0.split_at_checked(named).ok_or(ProtocolError::Truncated)?;
    let name = std::str::from_utf8(name).map_err(|_| VALUE)?;
    let eid = || address.map(|address| Eid { instance, address }).ok_or(VALUE);
    let verdict = match number {
        1 => TraceVerdict::Encapsulated(address.ok_or(VALUE)?),
        2 => TraceVerdict::Decapsulated,
        3 => TraceVerdict::Reencapsulated(address.ok_or(VALUE)?),
        4 => TraceVerdict::Native,
        5 => TraceVerdict::Split,
        6 | 7 => TraceVerdict::Held { neighbour: number == 7, eid: eid()? },
        8 => TraceVerdict::Dropped(name.to_owned().into()),
        9 => TraceVerdict::IcmpError,
        _ => return Err(VALUE),
    };
    let egress = Some(egress).filter(|&egress| egress != NO_PORT);
    Ok(Traced { at, port, side, came, verdict, egress, length, octets: octets.to_vec() })
}

/// Reads the TLVs of an event.
///
/// # Errors
/// [`ProtocolError`].
pub(super) fn news(body: &[u8]) -> Result<TraceNews, ProtocolError> {
    let mut packets = Vec::new();
    for tlv in Tlvs(body) {
        let (kind, mut fields) = tlv?;
        match kind {
            kind::TRACED => packets.push(traced(fields)?),
            kind::TRACE_END => return Ok(TraceNews::End(TraceEnd { shown: fields.u64()?, lost: fields.u64()? })),
            _ => {}
        }
    }
    Ok(TraceNews::Packets(packets))
}
