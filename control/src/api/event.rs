//! What subscribers are told, and which of it they want ⇄ TLVs.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Locator, Prefix};

use super::{
    Entry, EntryLocator, PROBE_STATES, Table,
    entry::{self, Entries},
    message::{Fields, Flags, Header, Op, ProtocolError, Tlvs, kind, put},
};

/// Why a packet found no mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissReason {
    /// There is none.
    NoEntry = 1,
    /// There is one whose time is nearly over, or in doubt, and packets use it.
    Expiring = 2,
    /// There is one, and it says that the mapping system is to be asked (ACT 2).
    SendMapRequest = 3,
}

/// How much of a packet that found no mapping a subscriber wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MissDetail {
    /// Its EID.
    #[default]
    Eid = 0,
    /// Its IP header and the 8 octets behind it.
    Header = 1,
    /// All of it.
    Packet = 2,
}

/// Whose copy of a mapping is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Ours of another site's.
    Local = 1,
    /// A peer's of ours.
    Remote = 2,
}

/// How the router came to its verdict on a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// RLOC-probes.
    Probe = 1,
    /// Echoed nonces.
    EchoNonce = 2,
    /// Locator status bits.
    StatusBits = 3,
    /// ICMP errors.
    Icmp = 4,
    /// Routes of the core.
    Rib = 5,
    /// A client said so.
    Admin = 6,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A mapping came.
    Added(Entry),
    /// A mapping says something else now.
    Changed(Entry),
    /// A mapping left.
    Deleted {
        /// Where.
        table: Table,
        /// Which.
        eid: EidPrefix,
        /// Because its time was over.
        expired: bool,
    },
    /// A table was emptied.
    Flushed {
        /// Which.
        table: Table,
        /// Of this instance alone.
        instance: Option<InstanceId>,
        /// Static entries too.
        all: bool,
    },
    /// Packets want a mapping.
    Missed {
        /// What they want to reach; a prefix where one is known.
        eid: EidPrefix,
        /// Why.
        reason: MissReason,
        /// Misses of this EID since the last event that made none.
        suppressed: u16,
        /// Where the first of them came from.
        from: Option<IpAddr>,
        /// An IP packet that missed, as long as it was handed over; empty: none was.
        packet: Vec<u8>,
    },
    /// A map-version in a packet showed that somebody's copy of a mapping is old.
    Stale {
        /// The mapping.
        eid: EidPrefix,
        /// Whose copy.
        which: Stale,
        /// The version that the packet carried.
        seen: u16,
        /// That of our copy.
        ours: u16,
        /// The RLOC that the packet came from.
        peer: IpAddr,
    },
    /// Packets carry other Locator-Status-Bits than before.
    StatusBits {
        /// The mapping that they are about.
        eid: EidPrefix,
        /// Bit i is the locator of ordinal i.
        bits: u32,
        /// How many bits there was room for: 8 or 32.
        width: u8,
        /// The RLOC that the packet came from.
        peer: IpAddr,
    },
    /// A verdict on a locator changed.
    Judged {
        /// The locator.
        locator: IpAddr,
        /// Whether it is used.
        up: bool,
        /// Who found out.
        method: Method,
        /// One of [`PROBE_STATES`].
        state: &'static str,
        /// Round trip, whole microseconds, if one was measured.
        rtt: Option<Duration>,
    },
}

impl Event {
    /// Its operation.
    #[must_use]
    pub const fn op(&self) -> Op {
        match self {
            Self::Added(_) => Op::ADD,
            Self::Changed(_) => Op::CHANGE,
            Self::Deleted { .. } => Op::DELETE,
            Self::Flushed { .. } => Op::FLUSH,
            Self::Missed { .. } => Op::MISS,
            Self::Judged { up: true, .. } => Op::REACH,
            Self::Judged { up: false, .. } => Op::BADREACH,
            Self::Stale { .. } => Op::STALE,
            Self::StatusBits { .. } => Op::LSBITS,
        }
    }

    /// Its own flags, with EVENT.
    #[must_use]
    pub const fn flags(&self) -> Flags {
        match self {
            Self::Deleted { expired: true, .. } => Flags::EVENT.with(Flags::EXPIRED),
            Self::Flushed { all: true, .. } => Flags::EVENT.with(Flags::ALL),
            _ => Flags::EVENT,
        }
    }

    /// Its TLVs.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.body_for(MissDetail::Packet)
    }

    /// The same, with as much of a packet as this.
    #[must_use]
    pub fn body_for(&self, detail: MissDetail) -> Vec<u8> {
        let mut out = Vec::new();
        let place = |out: &mut Vec<u8>, table: Table, eid: &EidPrefix| {
            entry::put_table(out, Some(table));
            entry::put_instance(out, eid.instance);
            entry::put_prefix(out, eid.prefix);
        };
        match self {
            Self::Added(entry) | Self::Changed(entry) => entry::put_entry(&mut out, entry),
            Self::Deleted { table, eid, .. } => place(&mut out, *table, eid),
            Self::Flushed { table, instance, .. } => {
                entry::put_table(&mut out, Some(*table));
                if let Some(instance) = instance {
                    entry::put_instance(&mut out, *instance);
                }
            }
            Self::Stale { eid, which, seen, ours, peer } => {
                place(&mut out, if *which == Stale::Local { Table::Cache } else { Table::Database }, eid);
                put(&mut out, kind::STALE_INFO, |out| {
                    out.push(*which as u8);
                    out.extend(seen.to_le_bytes());
                    out.extend(ours.to_le_bytes());
                    super::message::put_address(out, *peer);
                });
            }
            Self::StatusBits { eid, bits, width, peer } => {
                place(&mut out, Table::Cache, eid);
                put(&mut out, kind::STATUS_BITS, |out| {
                    out.extend(bits.to_le_bytes());
                    out.push(*width);
                    super::message::put_address(out, *peer);
                });
            }
            Self::Missed { eid, reason, suppressed, from, packet } => {
                place(&mut out, Table::Cache, eid);
                put(&mut out, kind::MISS_INFO, |out| {
                    out.extend([*reason as u8, if eid.prefix.address().is_ipv4() { 4 } else { 6 }]);
                    out.extend(suppressed.to_le_bytes());
                });
                if let Some(from) = from {
                    put(&mut out, kind::FROM, |out| super::message::put_address(out, *from));
                }
                let packet = match detail {
                    MissDetail::Eid => &[],
                    MissDetail::Header => &packet[..header_length(packet).min(packet.len())],
                    MissDetail::Packet => &packet[..],
                };
                if !packet.is_empty() {
                    put(&mut out, kind::PACKET, |out| out.extend(packet));
                }
            }
            Self::Judged { locator, up, method, state, rtt } => {
                put_named_locator(&mut out, *locator, *up);
                let state = PROBE_STATES.iter().position(|name| name == state).unwrap_or(0) as u8;
                put_reach_info(&mut out, *method, state, *rtt);
            }
        }
        out
    }

    /// Reads an event.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn read(header: &Header, body: &[u8]) -> Result<Self, ProtocolError> {
        const LACKS: ProtocolError = ProtocolError::Value("an event lacks a TLV");
        let parts = Parts::read(body)?;
        let eid = |parts: &Parts| {
            let prefix = parts.prefix.ok_or(LACKS)?;
            Ok::<_, ProtocolError>(EidPrefix { instance: parts.instance.unwrap_or_default(), prefix })
        };
        let table = parts.table.unwrap_or(Table::Cache);
        Ok(match header.op {
            Op::ADD => Self::Added(parts.entry()?),
            Op::CHANGE => Self::Changed(parts.entry()?),
            Op::DELETE => Self::Deleted { table, eid: eid(&parts)?, expired: header.flags.has(Flags::EXPIRED) },
            Op::FLUSH => Self::Flushed { table, instance: parts.instance, all: header.flags.has(Flags::ALL) },
            Op::MISS => {
                let (reason, suppressed) = parts.miss.ok_or(LACKS)?;
                Self::Missed { eid: eid(&parts)?, reason, suppressed, from: parts.from, packet: parts.packet }
            }
            Op::STALE => {
                let (which, seen, ours, peer) = parts.stale.ok_or(LACKS)?;
                Self::Stale { eid: eid(&parts)?, which, seen, ours, peer }
            }
            Op::LSBITS => {
                let (bits, width, peer) = parts.bits.ok_or(LACKS)?;
                Self::StatusBits { eid: eid(&parts)?, bits, width, peer }
            }
            Op::REACH | Op::BADREACH => {
                let (locator, (method, state, rtt)) = parts.locator.zip(parts.reach).ok_or(LACKS)?;
                Self::Judged { locator, up: header.op == Op::REACH, method, state, rtt }
            }
            _ => return Err(ProtocolError::Value("an event of an unknown kind")),
        })
    }
}

/// Octets of an IP packet's header, and 8 behind it.
fn header_length(packet: &[u8]) -> usize {
    let header = match packet.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 0xf) * 4,
        _ => 40,
    };
    header + 8
}

fn stale_info(mut fields: Fields<'_>) -> Result<(Stale, u16, u16, IpAddr), ProtocolError> {
    let which = match fields.u8()? {
        1 => Stale::Local,
        2 => Stale::Remote,
        _ => return Err(ProtocolError::Value("STALE_INFO says 1 or 2")),
    };
    let told = (which, fields.u16()?, fields.u16()?, fields.address()?);
    fields.end()?;
    Ok(told)
}

fn status_bits(mut fields: Fields<'_>) -> Result<(u32, u8, IpAddr), ProtocolError> {
    let told = (fields.u32()?, fields.u8()?, fields.address()?);
    fields.end()?;
    Ok(told)
}

/// Appends an RLOC of which only the address matters.
pub(super) fn put_named_locator(out: &mut Vec<u8>, address: IpAddr, up: bool) {
    let locator = Locator::unicast(address, 0, 0);
    entry::put_locator(out, &EntryLocator { locator, up, bad: !up });
}

/// Appends REACH_INFO.
pub(super) fn put_reach_info(out: &mut Vec<u8>, method: Method, state: u8, rtt: Option<Duration>) {
    put(out, kind::REACH_INFO, |out| {
        out.extend([method as u8, state]);
        let micros = rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        out.extend(micros.to_le_bytes());
    });
}

type ReachInfo = (Method, &'static str, Option<Duration>);

/// Reads REACH_INFO.
pub(super) fn reach_info(mut fields: Fields<'_>) -> Result<ReachInfo, ProtocolError> {
    let (method, state, rtt) = (fields.u8()?, fields.u8()?, fields.u32()?);
    fields.end()?;
    let method = match method {
        1 => Method::Probe,
        2 => Method::EchoNonce,
        3 => Method::StatusBits,
        4 => Method::Icmp,
        5 => Method::Rib,
        6 => Method::Admin,
        _ => return Err(ProtocolError::Value("a method of REACH_INFO is 1 to 6")),
    };
    let state = PROBE_STATES.get(usize::from(state)).ok_or(ProtocolError::Value("a state of REACH_INFO is 0 to 4"))?;
    Ok((method, state, Some(rtt).filter(|&rtt| rtt != 0).map(|rtt| Duration::from_micros(rtt.into()))))
}

fn miss_info(mut fields: Fields<'_>) -> Result<(MissReason, u16), ProtocolError> {
    let (reason, _family, suppressed) = (fields.u8()?, fields.u8()?, fields.u16()?);
    fields.end()?;
    let reason = match reason {
        1 => MissReason::NoEntry,
        2 => MissReason::Expiring,
        3 => MissReason::SendMapRequest,
        _ => return Err(ProtocolError::Value("a reason of MISS_INFO is 1 to 3")),
    };
    Ok((reason, suppressed))
}

/// The TLVs of an event as they come.
#[derive(Default)]
struct Parts {
    table: Option<Table>,
    instance: Option<InstanceId>,
    prefix: Option<Prefix>,
    locator: Option<IpAddr>,
    miss: Option<(MissReason, u16)>,
    reach: Option<ReachInfo>,
    from: Option<IpAddr>,
    packet: Vec<u8>,
    stale: Option<(Stale, u16, u16, IpAddr)>,
    bits: Option<(u32, u8, IpAddr)>,
    entries: Entries,
}

impl Parts {
    fn read(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut parts = Self::default();
        for tlv in Tlvs(body) {
            let (kind, mut fields) = tlv?;
            match kind {
                kind::TABLE => parts.table = entry::table(fields)?,
                kind::IID => parts.instance = Some(entry::instance(fields)?),
                kind::EID => parts.prefix = Some(entry::prefix(fields)?),
                kind::RLOC => parts.locator = Some(entry::locator(fields)?.locator.address),
                kind::MISS_INFO => parts.miss = Some(miss_info(fields)?),
                kind::REACH_INFO => parts.reach = Some(reach_info(fields)?),
                kind::FROM => parts.from = Some(fields.address()?),
                kind::PACKET => parts.packet = fields.0.to_vec(),
                kind::STALE_INFO => parts.stale = Some(stale_info(fields)?),
                kind::STATUS_BITS => parts.bits = Some(status_bits(fields)?),
                _ => {}
            }
            // RLOCs without a MAPPING are no part of an entry.
            if kind != kind::RLOC || parts.entries.has_one() {
                parts.entries.take(kind, fields)?;
            }
        }
        Ok(parts)
    }

    fn entry(self) -> Result<Entry, ProtocolError> {
        self.entries.finish().pop().ok_or(ProtocolError::Value("an event lacks its entry"))
    }
}

/// Which events a subscriber wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Bit n stands for operation n.
    pub ops: u32,
    /// Of this table alone.
    pub table: Option<Table>,
    /// Of this instance alone.
    pub instance: Option<InstanceId>,
    /// Inside this prefix alone.
    pub prefix: Option<Prefix>,
    /// MISS events a second at most; `None` is the router's own bound.
    pub rate: Option<u32>,
    /// How much of packets comes with MISS events.
    pub detail: MissDetail,
}

/// Operations that come as events.
const EVENTS: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11 | 1 << 12;
/// Stands for every instance.
const ANY_INSTANCE: u32 = u32::MAX;

impl Default for Filter {
    /// Every event.
    fn default() -> Self {
        Self { ops: EVENTS, table: None, instance: None, prefix: None, rate: None, detail: MissDetail::Eid }
    }
}

impl Filter {
    /// Events of these operations alone.
    #[must_use]
    pub fn of(ops: &[Op]) -> Self {
        Self { ops: ops.iter().fold(0, |bits, op| bits | 1 << op.0), ..Self::default() }
    }

    /// Whether an event is wanted. Verdicts on locators belong to no table, instance or prefix.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        let place = |table: Table, instance: InstanceId, prefix: Prefix| {
            self.table.is_none_or(|wanted| wanted == table)
                && self.instance.is_none_or(|wanted| wanted == instance)
                && self.prefix.is_none_or(|wanted| wanted.covers(&prefix))
        };
        let wanted = self.ops >> event.op().0 & 1 == 1;
        wanted
            && match event {
                Event::Added(entry) | Event::Changed(entry) => place(entry.table, entry.eid.instance, entry.eid.prefix),
                Event::Deleted { table, eid, .. } => place(*table, eid.instance, eid.prefix),
                Event::Missed { eid, .. }
                | Event::StatusBits { eid, .. }
                | Event::Stale { eid, which: Stale::Local, .. } => place(Table::Cache, eid.instance, eid.prefix),
                Event::Stale { eid, which: Stale::Remote, .. } => place(Table::Database, eid.instance, eid.prefix),
                Event::Flushed { table, instance, .. } => {
                    let touched = |wanted| instance.is_none_or(|flushed| flushed == wanted);
                    self.table.is_none_or(|wanted| wanted == *table) && self.instance.is_none_or(touched)
                }
                Event::Judged { .. } => true,
            }
    }

    /// Appends FILTER.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, kind::FILTER, |out| {
            out.extend(self.ops.to_le_bytes());
            out.extend(self.instance.map_or(ANY_INSTANCE, InstanceId::get).to_le_bytes());
            out.extend(self.rate.unwrap_or(0).to_le_bytes());
            let table = match self.table {
                Some(Table::Cache) => 0,
                Some(Table::Database) => 1,
                None => 2,
            };
            out.extend([table, self.detail as u8]);
            match self.prefix {
                None => out.extend([0; 4]),
                Some(prefix) => entry::put_bare_prefix(out, prefix),
            }
        });
    }

    /// Reads FILTER.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, ProtocolError> {
        let (ops, instance, rate) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (table, detail) = (fields.u8()?, fields.u8()?);
        if ops == 0 || ops & !EVENTS != 0 {
            return Err(ProtocolError::Value("a FILTER names an operation that is no event, or none"));
        }
        let instance = match instance {
            ANY_INSTANCE => None,
            number => Some(InstanceId::new(number).ok_or(ProtocolError::Value("an Instance-ID has 24 bits"))?),
        };
        let table = match table {
            0 => Some(Table::Cache),
            1 => Some(Table::Database),
            2 => None,
            _ => return Err(ProtocolError::Value("TABLE is 0, 1 or 2")),
        };
        let prefix = match fields.0 {
            [0, 0, 0, 0] => None,
            _ => Some(entry::prefix(fields)?),
        };
        let detail = match detail {
            0 => MissDetail::Eid,
            1 => MissDetail::Header,
            2 => MissDetail::Packet,
            _ => return Err(ProtocolError::Value("the detail of MISS events is 0, 1 or 2")),
        };
        Ok(Self { ops, table, instance, prefix, rate: Some(rate).filter(|&rate| rate != 0), detail })
    }
}
