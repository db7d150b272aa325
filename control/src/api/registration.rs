//! Registrations with Map-Servers ⇄ TLVs.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

use super::{
    entry,
    message::{Fields, ProtocolError, kind, put, put_address},
    sites::Group,
};

/// How things stand with a Map-Server, as the machine names it.
pub const STANDINGS: [&str; 5] = ["waiting", "registered", "silent", "wrong-key", "partial"];
/// What it says of a prefix.
pub const PREFIX_STANDINGS: [&str; 4] = ["waiting", "registered", "refused", "silent"];

/// One Map-Server that our EID-prefixes are registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// Which.
    pub server: IpAddr,
    /// One of [`STANDINGS`],
    pub standing: &'static str,
    /// and for how long, whole seconds.
    pub since: Duration,
    /// Map-Registers sent.
    pub sent: u64,
    /// Map-Notifies that answered one of them.
    pub confirmed: u64,
    /// How long ago the last of these came, whole seconds.
    pub last_notify: Option<Duration>,
    /// Why not everything is registered, and what to do about it.
    pub reason: Option<(String, String)>,
    /// Ascending.
    pub prefixes: Vec<PrefixStatus>,
}

/// One EID-prefix at one Map-Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixStatus {
    /// Which.
    pub eid: EidPrefix,
    /// One of [`PREFIX_STANDINGS`],
    pub standing: &'static str,
    /// and for how long, whole seconds.
    pub since: Duration,
}

// Flags of a REGISTRATION.
const NOTIFIED: u8 = 1;

fn place(names: &[&str], name: &str) -> u8 {
    names.iter().position(|other| *other == name).unwrap_or(0) as u8
}

fn name<const N: usize>(names: &[&'static str; N], place: u8) -> Result<&'static str, ProtocolError> {
    names.get(usize::from(place)).copied().ok_or(ProtocolError::Value("a standing is unknown"))
}

/// Appends REGISTRATION and its prefixes, each as a group.
pub(super) fn put_status(status: &RegistrationStatus, group: &mut Group<'_>) {
    group(&mut |out| put_registration(out, status));
    for prefix in &status.prefixes {
        group(&mut |out| put_prefix(out, prefix));
    }
}

/// Appends REGISTRATION and its reason; the prefixes come after it, each by [`put_prefix`].
fn put_registration(out: &mut Vec<u8>, status: &RegistrationStatus) {
    put(out, kind::REGISTRATION, |out| {
        out.push(place(&STANDINGS, status.standing));
        out.push(if status.last_notify.is_some() { NOTIFIED } else { 0 });
        out.extend(status.since.as_secs().to_le_bytes());
        out.extend(status.sent.to_le_bytes());
        out.extend(status.confirmed.to_le_bytes());
        out.extend(status.last_notify.unwrap_or_default().as_secs().to_le_bytes());
        put_address(out, status.server);
    });
    if let Some((what, remedy)) = &status.reason {
        put(out, kind::REASON, |out| out.extend(what.as_bytes()));
        put(out, kind::REMEDY, |out| out.extend(remedy.as_bytes()));
    }
}

fn registration(mut fields: Fields<'_>) -> Result<RegistrationStatus, ProtocolError> {
    let (standing, flags) = (fields.u8()?, fields.u8()?);
    let (since, sent, confirmed, notified) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let server = fields.address()?;
    fields.end()?;
    Ok(RegistrationStatus {
        server,
        standing: name(&STANDINGS, standing)?,
        since: Duration::from_secs(since),
        sent,
        confirmed,
        last_notify: (flags & NOTIFIED != 0).then(|| Duration::from_secs(notified)),
        reason: None,
        prefixes: Vec::new(),
    })
}

/// Appends IID, EID and REGISTERED.
fn put_prefix(out: &mut Vec<u8>, prefix: &PrefixStatus) {
    entry::put_instance(out, prefix.eid.instance);
    entry::put_prefix(out, prefix.eid.prefix);
    put(out, kind::REGISTERED, |out| {
        out.push(place(&PREFIX_STANDINGS, prefix.standing));
        out.extend(prefix.since.as_secs().to_le_bytes());
    });
}

/// Collects the TLVs of an answer about registrations as they come.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    pub(super) list: Vec<RegistrationStatus>,
    instance: InstanceId,
    prefix: Option<Prefix>,
}

impl Registrations {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        const ORPHAN: ProtocolError = ProtocolError::Value("a TLV comes before what it belongs to");
        match kind {
            kind::REGISTRATION => self.list.push(registration(fields)?),
            kind::REASON => {
                let last = self.list.last_mut().ok_or(ORPHAN)?;
                last.reason = Some((fields.text()?.to_owned(), String::new()));
            }
            kind::REMEDY => {
                let reason = self.list.last_mut().and_then(|last| last.reason.as_mut());
                fields.text()?.clone_into(&mut reason.ok_or(ORPHAN)?.1);
            }
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => self.prefix = Some(entry::prefix(fields)?),
            kind::REGISTERED => {
                let (standing, since) = (fields.u8()?, fields.u64()?);
                fields.end()?;
                let eid = EidPrefix { instance: self.instance, prefix: self.prefix.take().ok_or(ORPHAN)? };
                let standing = name(&PREFIX_STANDINGS, standing)?;
                let prefix = PrefixStatus { eid, standing, since: Duration::from_secs(since) };
                self.list.last_mut().ok_or(ORPHAN)?.prefixes.push(prefix);
            }
            other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
            _ => {}
        }
        Ok(())
    }
}
