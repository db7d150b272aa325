//! Counters, ports, tunnels and routes ⇄ TLVs.

use std::borrow::Cow;

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};
use hashbrown::HashMap;

use super::{
    AltStatus, Counts, PortStatus, RouteStatus, Scope, SourceStatus, Stat, TunnelStatus, entry,
    message::{Fields, ProtocolError, kind, put, put_address},
};

/// What a STATS request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Counters = 1,
    Ports = 2,
    Alt = 3,
    Bgp = 4,
    Routes = 5,
    Registrations = 6,
    Sites = 7,
    Locators = 8,
    Subscriptions = 9,
    Bindings = 10,
}

impl Detail {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        put(out, kind::DETAIL, |out| out.push(self as u8));
    }

    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, ProtocolError> {
        let number = fields.u8()?;
        fields.end()?;
        match number {
            1 => Ok(Self::Counters),
            2 => Ok(Self::Ports),
            3 => Ok(Self::Alt),
            4 => Ok(Self::Bgp),
            5 => Ok(Self::Routes),
            6 => Ok(Self::Registrations),
            7 => Ok(Self::Sites),
            8 => Ok(Self::Locators),
            9 => Ok(Self::Subscriptions),
            10 => Ok(Self::Bindings),
            _ => Err(ProtocolError::Value("DETAIL is 1 to 10")),
        }
    }
}

// Flags of a PORT.
const SITE: u8 = 1;
const CORE: u8 = 2;
const NATIVE: u8 = 4;
const UP: u8 = 1;
const ZERO_COPY: u8 = 2;
const MAC: u8 = 4;

// Flags of a TUNNEL.
const KEY: u8 = 1;
const CHECKSUM: u8 = 2;
const PASSES: u8 = 4;

// Flags of a SOURCE.
const READY: u8 = 1;

/// Numbers names within one answer.
#[derive(Default)]
pub(super) struct Ids(HashMap<String, u16>);

impl Ids {
    fn id(&mut self, name: &str) -> u16 {
        let next = self.0.len() as u16;
        *self.0.entry_ref(name).or_insert(next)
    }
}

/// Appends STAT and NAME of each counter.
pub(super) fn put_stats(out: &mut Vec<u8>, stats: &[Stat], ids: &mut Ids) {
    for stat in stats {
        put(out, kind::STAT, |out| {
            out.extend(ids.id(&stat.name).to_le_bytes());
            out.extend(stat.value.to_le_bytes());
        });
        put_name(out, &stat.name);
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put(out, kind::NAME, |out| out.extend(name.as_bytes()));
}

/// Appends SCOPE and its counters.
pub(super) fn put_counts(out: &mut Vec<u8>, counts: &Counts, ids: &mut Ids) {
    let (who, number) = match counts.scope {
        Scope::Worker(number) => (1, number),
        Scope::Control => (2, 0),
    };
    put(out, kind::SCOPE, |out| {
        out.push(who);
        out.extend(number.to_le_bytes());
    });
    put_stats(out, &counts.stats, ids);
}

fn scope(mut fields: Fields<'_>) -> Result<Scope, ProtocolError> {
    let (who, number) = (fields.u8()?, fields.u16()?);
    fields.end()?;
    match who {
        1 => Ok(Scope::Worker(number)),
        2 => Ok(Scope::Control),
        _ => Err(ProtocolError::Value("a SCOPE is unknown")),
    }
}

/// Appends PORT and its counters.
pub(super) fn put_port(out: &mut Vec<u8>, port: &PortStatus, ids: &mut Ids) {
    put(out, kind::PORT, |out| {
        out.extend(port.index.to_le_bytes());
        let roles = [(port.site, SITE), (port.core, CORE), (port.native, NATIVE)];
        out.push(roles.iter().fold(0, |roles, (has, role)| if *has { roles | role } else { roles }));
        let flags = if port.up { UP } else { 0 } | if port.zero_copy { ZERO_COPY } else { 0 };
        out.push(flags | if port.mac.is_some() { MAC } else { 0 });
        out.extend(port.mtu.to_le_bytes());
        out.extend(port.instance.get().to_le_bytes());
        out.extend(port.mac.unwrap_or_default());
        out.extend(port.name.as_bytes());
    });
    put_stats(out, &port.stats, ids);
}

fn port(mut fields: Fields<'_>) -> Result<PortStatus, ProtocolError> {
    let (index, roles, flags, mtu) = (fields.u32()?, fields.u8()?, fields.u8()?, fields.u16()?);
    let instance = InstanceId::new(fields.u32()?).ok_or(ProtocolError::Value("an Instance-ID has 24 bits"))?;
    let mac = fields.array()?;
    Ok(PortStatus {
        name: fields.text()?.to_owned(),
        index,
        site: roles & SITE != 0,
        core: roles & CORE != 0,
        native: roles & NATIVE != 0,
        instance,
        up: flags & UP != 0,
        zero_copy: flags & ZERO_COPY != 0,
        mtu,
        mac: (flags & MAC != 0).then_some(mac),
        stats: Vec::new(),
    })
}

/// Appends TUNNEL, its addresses and counters.
pub(super) fn put_tunnel(out: &mut Vec<u8>, tunnel: &TunnelStatus, ids: &mut Ids) {
    put(out, kind::TUNNEL, |out| {
        let flags = if tunnel.key.is_some() { KEY } else { 0 } | if tunnel.checksum { CHECKSUM } else { 0 };
        out.push(flags | if tunnel.up { PASSES } else { 0 });
        out.extend(tunnel.key.unwrap_or(0).to_le_bytes());
        put_address(out, tunnel.local);
        put_address(out, tunnel.remote);
        out.extend(tunnel.name.as_bytes());
    });
    for &(address, length) in &tunnel.addresses {
        put(out, kind::ADDRESS, |out| {
            out.push(length);
            put_address(out, address);
        });
    }
    put_stats(out, &tunnel.stats, ids);
}

fn tunnel(mut fields: Fields<'_>) -> Result<TunnelStatus, ProtocolError> {
    let (flags, key) = (fields.u8()?, fields.u32()?);
    let (local, remote) = (fields.address()?, fields.address()?);
    Ok(TunnelStatus {
        name: fields.text()?.to_owned(),
        local,
        remote,
        key: (flags & KEY != 0).then_some(key),
        checksum: flags & CHECKSUM != 0,
        up: flags & PASSES != 0,
        addresses: Vec::new(),
        stats: Vec::new(),
    })
}

/// Appends IID and SOURCE.
pub(super) fn put_source(out: &mut Vec<u8>, source: &SourceStatus) {
    entry::put_instance(out, source.instance);
    put(out, kind::SOURCE, |out| {
        out.push(if source.ready { READY } else { 0 });
        out.extend(source.prefixes.to_le_bytes());
        out.extend(source.source.as_bytes());
    });
}

/// Appends IID, EID and ROUTE.
pub(super) fn put_route(out: &mut Vec<u8>, route: &RouteStatus) {
    entry::put_instance(out, route.eid.instance);
    entry::put_prefix(out, route.eid.prefix);
    put(out, kind::ROUTE, |out| {
        out.push(u8::from(route.via.is_some()));
        out.extend(route.via.as_deref().unwrap_or_default().as_bytes());
    });
}

/// Collects the TLVs of an answer to STATS as they come.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    pub(super) totals: Vec<Stat>,
    pub(super) counts: Vec<Counts>,
    pub(super) ports: Vec<PortStatus>,
    pub(super) alt: AltStatus,
    instance: InstanceId,
    prefix: Option<Prefix>,
    owner: Owner,
}

/// Whose the next STATs are.
#[derive(Debug, Clone, Copy, Default)]
enum Owner {
    #[default]
    All,
    Scope,
    Port,
    Tunnel,
}

impl Statuses {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        match kind {
            kind::STAT => {
                let (_id, value) = (fields.u16()?, fields.u64()?);
                self.stats().push(Stat { name: Cow::Borrowed(""), value });
            }
            kind::NAME => {
                let name = Cow::Owned(fields.text()?.to_owned());
                self.stats().last_mut().ok_or(ProtocolError::Value("a NAME comes before its STAT"))?.name = name;
            }
            kind::SCOPE => {
                self.counts.push(Counts { scope: scope(fields)?, stats: Vec::new() });
                self.owner = Owner::Scope;
            }
            kind::PORT => {
                self.ports.push(port(fields)?);
                self.owner = Owner::Port;
            }
            kind::TUNNEL => {
                self.alt.tunnels.push(tunnel(fields)?);
                self.owner = Owner::Tunnel;
            }
            kind::ADDRESS => {
                let length = fields.u8()?;
                let tunnel = self.alt.tunnels.last_mut();
                let tunnel = tunnel.ok_or(ProtocolError::Value("an ADDRESS comes before its TUNNEL"))?;
                tunnel.addresses.push((fields.address()?, length));
            }
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => self.prefix = Some(entry::prefix(fields)?),
            kind::SOURCE => {
                let (flags, prefixes) = (fields.u8()?, fields.u64()?);
                let source = fields.text()?.to_owned();
                let ready = flags & READY != 0;
                self.alt.sources.push(SourceStatus { instance: self.instance, source, ready, prefixes });
            }
            kind::ROUTE => self.route(fields)?,
            other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
            _ => {}
        }
        Ok(())
    }

    fn route(&mut self, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        let prefix = self.prefix.take().ok_or(ProtocolError::Value("a ROUTE comes before its EID"))?;
        let to_tunnel = fields.u8()? != 0;
        let via = fields.text()?.to_owned();
        let eid = EidPrefix { instance: self.instance, prefix };
        self.alt.routes.push(RouteStatus { eid, via: to_tunnel.then_some(via) });
        Ok(())
    }

    fn stats(&mut self) -> &mut Vec<Stat> {
        let owned = match self.owner {
            Owner::All => None,
            Owner::Scope => self.counts.last_mut().map(|counts| &mut counts.stats),
            Owner::Port => self.ports.last_mut().map(|port| &mut port.stats),
            Owner::Tunnel => self.alt.tunnels.last_mut().map(|tunnel| &mut tunnel.stats),
        };
        owned.unwrap_or(&mut self.totals)
    }
}
