//! Entries ⇄ TLVs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Prefix};

use super::{
    Entry, EntryLocator, Origin, Table,
    message::{Fields, ProtocolError, afi, kind, put, put_address, put_bare_address},
};

// Flags of a MAPPING.
const NEGATIVE: u32 = 1;
const AUTHORITATIVE: u32 = 2;
const EPHEMERAL: u32 = 4;
const FOREIGN: u32 = 8;

// Flags of an RLOC, as the specification numbers them.
const UP: u32 = 1;
const LIF: u32 = 2;
const REACHABLE: u32 = 0x10;
const LOCAL: u32 = 0x20;
const BAD: u32 = 0x40;

/// The mask length that stands for none given.
const NO_MASK: u8 = 255;

const fn origin_number(origin: Origin) -> u8 {
    match origin {
        Origin::Static => 1,
        Origin::MapReply => 2,
        Origin::PubSub => 4,
        Origin::Api => 7,
        Origin::GivenUp => 128,
        Origin::Nat => 129,
    }
}

fn origin(number: u8) -> Result<Origin, ProtocolError> {
    match number {
        1 => Ok(Origin::Static),
        2 => Ok(Origin::MapReply),
        4 => Ok(Origin::PubSub),
        7 => Ok(Origin::Api),
        128 => Ok(Origin::GivenUp),
        129 => Ok(Origin::Nat),
        _ => Err(ProtocolError::Value("an origin is unknown")),
    }
}

/// Appends TABLE.
pub(super) fn put_table(out: &mut Vec<u8>, table: Option<Table>) {
    let number = match table {
        Some(Table::Cache) => 0,
        Some(Table::Database) => 1,
        None => 2,
    };
    put(out, kind::TABLE, |out| out.push(number));
}

/// Reads TABLE; `None` is both.
pub(super) fn table(mut fields: Fields<'_>) -> Result<Option<Table>, ProtocolError> {
    let number = fields.u8()?;
    fields.end()?;
    match number {
        0 => Ok(Some(Table::Cache)),
        1 => Ok(Some(Table::Database)),
        2 => Ok(None),
        _ => Err(ProtocolError::Value("TABLE is 0, 1 or 2")),
    }
}

/// Appends IID.
pub(super) fn put_instance(out: &mut Vec<u8>, instance: InstanceId) {
    put(out, kind::IID, |out| out.extend(instance.get().to_le_bytes()));
}

/// Reads IID.
pub(super) fn instance(mut fields: Fields<'_>) -> Result<InstanceId, ProtocolError> {
    let instance = InstanceId::new(fields.u32()?).ok_or(ProtocolError::Value("an Instance-ID has 24 bits"))?;
    fields.end()?;
    Ok(instance)
}

/// Appends EID.
pub(super) fn put_prefix(out: &mut Vec<u8>, prefix: Prefix) {
    put(out, kind::EID, |out| put_bare_prefix(out, prefix));
}

/// Appends the value of an EID.
pub(super) fn put_bare_prefix(out: &mut Vec<u8>, prefix: Prefix) {
    out.extend(afi(prefix.address()).to_be_bytes());
    out.extend([prefix.length(), 0]);
    put_bare_address(out, prefix.address());
}

/// Reads EID; without a mask it is a host's.
pub(super) fn prefix(mut fields: Fields<'_>) -> Result<Prefix, ProtocolError> {
    let afi = fields.afi()?;
    let (length, _reserved) = (fields.u8()?, fields.u8()?);
    let address = fields.address_of(afi)?;
    fields.end()?;
    if length == NO_MASK {
        return Ok(Prefix::host(address));
    }
    let prefix = Prefix::new(address, length).map_err(|_| ProtocolError::Value("an EID's mask is too long"))?;
    if prefix.address() != address {
        return Err(ProtocolError::Value("an EID has bits beyond its mask"));
    }
    Ok(prefix)
}

/// Appends all TLVs of an entry.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_table(out, Some(entry.table));
    put_instance(out, entry.eid.instance);
    put_prefix(out, entry.eid.prefix);
    put(out, kind::MAPPING, |out| {
        let flags = if entry.locators.is_empty() { NEGATIVE } else { 0 }
            | if entry.authoritative { AUTHORITATIVE } else { 0 }
            | if entry.ephemeral { EPHEMERAL } else { 0 };
        out.extend(flags.to_le_bytes());
        out.extend(entry.ttl.map_or(0, seconds).to_le_bytes());
        out.extend(entry.version.to_le_bytes());
        out.extend([entry.action.bits(), origin_number(entry.origin)]);
        out.extend(entry.packets.to_le_bytes());
        out.extend(milliseconds(entry.created).to_le_bytes());
        out.extend(entry.used.map_or(0, milliseconds).to_le_bytes());
    });
    if let Some(left) = entry.left {
        put(out, kind::EXPIRY, |out| out.extend(seconds(left).to_le_bytes()));
    }
    put(out, kind::VOLUME, |out| out.extend(entry.octets.to_le_bytes()));
    for locator in &entry.locators {
        put_locator(out, locator);
    }
}

/// RTT, volume and nonces are not kept for each locator yet: zero.
pub(super) fn put_locator(out: &mut Vec<u8>, EntryLocator { locator, up, bad }: &EntryLocator) {
    put(out, kind::RLOC, |out| {
        out.extend([locator.priority, locator.weight, locator.multicast_priority, locator.multicast_weight]);
        let flags = if *up { UP } else { 0 }
            | if *bad { BAD } else { 0 }
            | if locator.reachable { REACHABLE } else { 0 }
            | if locator.local { LIF | LOCAL } else { 0 };
        out.extend(flags.to_le_bytes());
        out.extend([0; 4 + 4 + 8 + 8 + 4 + 4]); // MTU, RTT, packets, octets, nonces
        put_address(out, locator.address);
    });
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Collects the TLVs of entries as they come.
#[derive(Debug, Default)]
pub(super) struct Entries {
    done: Vec<Entry>,
    table: Option<Table>,
    instance: InstanceId,
    prefix: Option<Prefix>,
}

impl Entries {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        match kind {
            kind::TABLE => self.table = table(fields)?,
            kind::IID => self.instance = instance(fields)?,
            kind::EID => self.prefix = Some(prefix(fields)?),
            kind::MAPPING => self.mapping(fields)?,
            kind::EXPIRY => self.last()?.left = Some(Duration::from_secs(fields.u32()?.into())),
            kind::VOLUME => self.last()?.octets = fields.u64()?,
            kind::RLOC => self.last()?.locators.push(locator(fields)?),
            other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
            _ => {}
        }
        Ok(())
    }

    /// Whether an entry has begun.
    pub(super) const fn has_one(&self) -> bool {
        !self.done.is_empty()
    }

    /// The entries.
    pub(super) fn finish(self) -> Vec<Entry> {
        self.done
    }

    fn last(&mut self) -> Result<&mut Entry, ProtocolError> {
        self.done.last_mut().ok_or(ProtocolError::Value("a part of an entry comes before its MAPPING"))
    }

    fn mapping(&mut self, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        let prefix = self.prefix.take().ok_or(ProtocolError::Value("a MAPPING comes before its EID"))?;
        let flags = fields.u32()?;
        let ttl =
            Some(fields.u32()?).filter(|&seconds| seconds != 0).map(|seconds| Duration::from_secs(seconds.into()));
        let version = fields.u16()?;
        let (action, origin) = (Action::from_bits(fields.u8()?), origin(fields.u8()?)?);
        let packets = fields.u64()?;
        let time = |milliseconds| UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds));
        let created = time(fields.u64()?).ok_or(ProtocolError::Value("a time is out of range"))?;
        let used = Some(fields.u64()?).filter(|&used| used != 0).and_then(time);
        self.done.push(Entry {
            table: self.table.unwrap_or(Table::Cache),
            eid: EidPrefix { instance: self.instance, prefix },
            ttl,
            left: None,
            version,
            action,
            authoritative: flags & AUTHORITATIVE != 0,
            ephemeral: flags & EPHEMERAL != 0,
            origin,
            packets,
            octets: 0,
            created,
            used,
            locators: Vec::new(),
        });
        Ok(())
    }
}

pub(super) fn locator(mut fields: Fields<'_>) -> Result<EntryLocator, ProtocolError> {
    let [priority, weight, multicast_priority, multicast_weight] = fields.array()?;
    let flags = fields.u32()?;
    let _not_kept = fields.array::<32>()?;
    let address = fields.address()?;
    let locator = Locator {
        address,
        priority,
        weight,
        multicast_priority,
        multicast_weight,
        local: flags & LOCAL != 0,
        probed: false,
        reachable: flags & REACHABLE != 0,
        hop: None,
        translated: None,
    };
    Ok(EntryLocator { locator, up: flags & UP != 0, bad: flags & BAD != 0 })
}

/// What a MAPPING in a request says; the rest of it is the router's to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) negative: bool,
    pub(super) authoritative: bool,
    pub(super) ephemeral: bool,
    pub(super) foreign: bool,
    /// None: until it is taken out.
    pub(super) life: Option<Duration>,
    pub(super) version: u16,
    pub(super) action: Action,
}

/// Reads the MAPPING of a request.
pub(super) fn terms(mut fields: Fields<'_>) -> Result<Terms, ProtocolError> {
    let (flags, life, version) = (fields.u32()?, fields.u32()?, fields.u16()?);
    let (action, _origin) = (fields.u8()?, fields.u8()?);
    let _figures = fields.array::<24>()?;
    fields.end()?;
    if action > Action::DropAuthFailure.bits() {
        return Err(ProtocolError::Value("ACT is 0 to 5"));
    }
    Ok(Terms {
        negative: flags & NEGATIVE != 0,
        authoritative: flags & AUTHORITATIVE != 0,
        ephemeral: flags & EPHEMERAL != 0,
        foreign: flags & FOREIGN != 0,
        life: Some(life).filter(|&life| life != 0).map(|life| Duration::from_secs(life.into())),
        version,
        action: Action::from_bits(action),
    })
}

/// Appends MAPPING as a request has it.
pub(super) fn put_terms(out: &mut Vec<u8>, terms: &Terms) {
    put(out, kind::MAPPING, |out| {
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(terms.negative, NEGATIVE)
            | flag(terms.authoritative, AUTHORITATIVE)
            | flag(terms.ephemeral, EPHEMERAL)
            | flag(terms.foreign, FOREIGN);
        out.extend(flags.to_le_bytes());
        out.extend(terms.life.map_or(0, whole_seconds).to_le_bytes());
        out.extend(terms.version.to_le_bytes());
        out.extend([terms.action.bits(), origin_number(Origin::Api)]);
        out.extend([0; 24]); // hits, created, last used
    });
}

/// Seconds, rounded up: what is to live for a moment must not live for ever.
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
